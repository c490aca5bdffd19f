//go:build unix

package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
)

// writer changes its own orgs, one call after the other, and compares them with its model after each restart.
type writer struct {
	*load

	rng      *rand.Rand
	through  []*client // directly and through the edge
	orgs     []*ownOrg
	version  int
	compared atomic.Int64 // the newest epoch
	outcomes map[string]int
}

// The outcomes of a change.
const (
	granted = "granted"
	refused = "refused"
	notDone = "not_done"
	unsure  = "unknown"
)

func (w *writer) run() {
	w.outcomes = map[string]int{}
	for !w.over() {
		epoch := w.epoch.Load()
		if w.compared.Load() < epoch {
			if w.compareAll() {
				w.compared.Store(epoch)
			} else {
				w.lull()
			}
			continue
		}
		outcome := w.change()
		w.outcomes[outcome]++
		if outcome == notDone || outcome == unsure {
			w.lull()
		}
	}
}

// outcomeOf classifies how a change ended.
func outcomeOf(a *reply, err error) string {
	switch {
	case errors.Is(err, errNotSent):
		return notDone
	case err != nil:
		return unsure
	case a.StatusCode == http.StatusServiceUnavailable && a.text("outcome") == "committed":
		return granted
	case a.StatusCode == http.StatusServiceUnavailable:
		return a.text("outcome")
	case a.StatusCode == http.StatusOK:
		return granted
	}
	return refused
}

// change makes one random change and puts its outcome into the model.
func (w *writer) change() string {
	c := w.through[w.rng.IntN(len(w.through))]
	if len(w.orgs) < 4 && w.rng.IntN(50) == 0 {
		a, err := c.post("org/create", "", "{}")
		outcome := outcomeOf(a, err)
		if outcome == granted && a.StatusCode == http.StatusOK {
			w.adopt(org{a.text("orgApiKey"), a.text("agentKey")})
		}
		return outcome
	}
	o := w.orgs[w.rng.IntN(len(w.orgs))]
	if off := slices.Contains(o.execution, false); w.rng.IntN(40) == 0 || off && w.rng.IntN(2) == 0 { // off is short
		return w.execute(c, o, off)
	}
	id := deviceIDs[w.rng.IntN(len(deviceIDs))]
	act := []action{register, register, register, revoke, revoke, unrevoke, unrevoke, remove}[w.rng.IntN(8)]
	body := deviceBody[id]
	if act == register {
		w.version++
		body = fmt.Sprintf(`{"deviceId":%q,"name":"v%d","metadata":{"v":%d}}`, id, w.version, w.version)
	}
	called := w.now()
	a, err := c.post(string(act), o.admin, body)
	outcome := outcomeOf(a, err)
	switch outcome {
	case notDone:
		return outcome
	case unsure:
		o.may[id] = o.may[id].unknown(act, w.version)
	case granted:
		o.may[id], err = o.may[id].granted(act, w.version, before(act, a))
		if act == register && a.text("status") == "ok" && w.count(o, id, true) >= 3 {
			w.faultf(o, "%s got a place when there was none: %v", id, o.may)
		}
	default:
		is := map[string]condition{"device_not_found": absent, "device_revoked": revoked}[a.text("error")]
		if a.text("error") == "device_limit_reached" {
			is = map[action]condition{register: absent, unrevoke: revoked}[act]
			if w.count(o, id, false) < 3 {
				w.faultf(o, "%s got no place when there was one: %v", id, o.may)
			}
		}
		o.may[id], err = o.may[id].refused(act, is)
	}
	if err != nil && outcome != unsure {
		w.faultf(o, "%s: %v: %s", id, err, a.raw)
	}
	w.note(o, id, called, o.may[id].codes())
	return outcome
}

// before is what a granted change's answer says of the device before it.
func before(act action, a *reply) condition {
	changed, said := a.body["changed"].(bool)
	switch {
	case act == register && a.text("status") == "ok":
		return absent
	case act == register && a.text("status") == "exists":
		return active
	case act == revoke && said && changed, act == unrevoke && said && !changed:
		return active
	case act == revoke && said, act == unrevoke && said:
		return revoked
	}
	return ""
}

// count returns how many devices other than id are active: those that surely are, or those that may be.
func (w *writer) count(o *ownOrg, id string, surely bool) (n int) {
	for other, may := range o.may {
		if other != id && may.has(active) && (!surely || len(may.only(active)) == len(may)) {
			n++
		}
	}
	return n
}

func (w *writer) execute(c *client, o *ownOrg, on bool) string {
	called := w.now()
	a, err := c.post(string(execute), o.admin, fmt.Sprintf(`{"enabled":%v}`, on))
	outcome := outcomeOf(a, err)
	switch outcome {
	case notDone:
	case unsure:
		w.switched(o, called, []bool{true, false})
	case granted:
		w.switched(o, called, []bool{on})
	default:
		w.faultf(o, "execution: %s", a.raw)
	}
	return outcome
}

// compareAll compares every org of the writer with what it may be. It is false if the authority did not answer.
func (w *writer) compareAll() bool {
	for _, o := range w.orgs {
		called := w.now()
		got, ok := w.look(o)
		if !ok {
			return false
		}
		now, faults := compare(o.may, o.execution, got)
		for _, err := range faults {
			w.faultf(o, "%v", err)
		}
		w.known(o, called, now, got.executionEnabled)
		w.comparisons.Add(1)
	}
	return true
}

// look reads an org in the three ways there are. It is false if the authority did not answer one of them.
func (w *writer) look(o *ownOrg) (got seen, ok bool) {
	c := w.through[w.rng.IntN(len(w.through))]
	list, ok := w.read(c, o, "devices/list")
	if !ok {
		return got, false
	}
	var in struct{ Devices []json.RawMessage }
	if err := json.Unmarshal([]byte(list.raw), &in); err != nil {
		w.faultf(o, "list: %v", err)
	}
	for _, raw := range in.Devices {
		var d seenDevice
		if err := json.Unmarshal(raw, &d); err != nil {
			w.faultf(o, "list: %v", err)
		}
		got.devices = append(got.devices, d)
	}
	usage, ok := w.read(c, o, "usage")
	if !ok {
		return got, false
	}
	got.used, got.limit, got.usageUsed = list.number("devicesUsed"), list.number("limit"), usage.number("devicesUsed")
	got.executionEnabled, _ = usage.body["executionEnabled"].(bool)

	id := deviceIDs[w.rng.IntN(len(deviceIDs))]
	one, ok := w.read(c, o, "devices/get?deviceId="+id)
	if !ok {
		return got, false
	}
	i := slices.IndexFunc(got.devices, func(d seenDevice) bool { return d.DeviceID == id })
	switch {
	case i < 0 && one.text("error") == "device_not_found":
	case i >= 0 && strings.HasPrefix(one.raw, strings.TrimSuffix(string(in.Devices[i]), "}")+","):
	default:
		w.faultf(o, "get %s answers %s, list %s", id, one.raw, list.raw)
	}
	return got, true
}

// read makes a call that changes nothing. Refusals but that of a device's absence are faults: the org was acknowledged.
func (w *writer) read(c *client, o *ownOrg, path string) (*reply, bool) {
	a, err := c.get(path, o.admin)
	if err != nil || a.StatusCode == http.StatusServiceUnavailable {
		return nil, false
	}
	if a.StatusCode != http.StatusOK && a.text("error") != "device_not_found" {
		w.faultf(o, "%s: HTTP %d: %s", path, a.StatusCode, a.raw)
		return nil, false
	}
	return a, true
}
