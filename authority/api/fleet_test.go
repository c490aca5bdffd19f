package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// fleetKey is a key of the model's org.
type fleetKey struct {
	id, secret, scope string
	ends              int64 // 0: never
	revoked           bool
}

// fleet is an org with its devices, keys and plan, in plain maps and lists.
type fleet struct {
	*model

	n     *node
	id    string
	keys  []*fleetKey
	own   *int // its own limit
	tier  string
	hold  bool
	until int64 // 0: for ever
}

func newFleet(n *node) *fleet {
	o := n.org()
	return &fleet{
		model: &model{created: map[string]int64{}, revoked: map[string]int64{}, ends: map[string]int64{}, now: n.now.Load()},
		n:     n, id: o.id.String(), tier: "free",
		keys: []*fleetKey{{id: o.admin[4:12], secret: o.admin, scope: "admin"}, {id: o.agent[4:12], secret: o.agent, scope: "agent"}},
	}
}

func (f *fleet) alive(k *fleetKey) bool { return !k.revoked && (k.ends == 0 || f.now < k.ends) }

// admin is an admin key in force; there always is one, see revokeKey.
func (f *fleet) admin() *fleetKey {
	return f.keys[slices.IndexFunc(f.keys, func(k *fleetKey) bool { return k.scope == "admin" && f.alive(k) })]
}

func (f *fleet) limit() int {
	if f.own != nil {
		return *f.own
	}
	return map[string]int{"free": 3, "max": 1000}[f.tier] // as start seeds them
}

// closed says why no seat is to be had, "" if one is.
func (f *fleet) closed() string {
	switch {
	case f.hold:
		return "plan_frozen"
	case f.until != 0 && f.now >= f.until:
		return "entitlement_expired"
	case f.used() >= f.limit():
		return "device_limit_reached"
	}
	return ""
}

// refuses says why a key may not make a call for these scopes, "" if it may.
func (f *fleet) refuses(k *fleetKey, scopes ...string) string {
	switch {
	case !f.alive(k):
		return "org_not_found"
	case !slices.Contains(scopes, k.scope):
		return "insufficient_scope"
	}
	return ""
}

// statusOf are the statuses of what is not 200.
var statusOf = map[string]int{
	"org_not_found": 404, "insufficient_scope": 403, "device_not_found": 404, "key_not_found": 404, "device_revoked": 403, "device_limit_reached": 403,
	"plan_frozen": 403, "entitlement_expired": 403, "last_admin_key": 409,
}

// call makes a call and holds its answer to a word: its error, or else its status.
func (f *fleet) call(rt *rapid.T, k *fleetKey, method, path string, body any, want string) *answer {
	rt.Helper()
	raw := []byte{}
	if body != nil {
		raw, _ = json.Marshal(body)
	}
	a := f.n.with(k.secret, method, path, string(raw))
	word, status := a.field("error"), statusOf[want]
	if word == "" {
		word = a.field("status")
	}
	if status == 0 {
		status = http.StatusOK
	}
	if a.StatusCode != status || word != want {
		rt.Fatalf("%s %s as %s: HTTP %d %s, want %d %s", path, raw, k.scope, a.StatusCode, a.raw, status, want)
	}
	return a
}

func (f *fleet) operate(rt *rapid.T, body map[string]any) {
	rt.Helper()
	raw, _ := json.Marshal(body)
	if a := f.n.do("PATCH", "operator/orgs/"+f.id, string(raw), "Authorization: Bearer "+operatorToken); a.StatusCode != http.StatusOK {
		rt.Fatalf("PATCH %s: %s", raw, a.raw)
	}
}

// instantText is a time as bodies have it.
func instantText(ms int64) string {
	return time.UnixMilli(ms).UTC().Format("2006-01-02T15:04:05.000Z07:00")
}

var fleetIDs = rapid.SampledFrom([]string{"a", "b", "c", "d", "e", "f"})

func (f *fleet) anyKey(rt *rapid.T) *fleetKey { return rapid.SampledFrom(f.keys).Draw(rt, "key") }

func (f *fleet) register(rt *rapid.T) {
	k, id, ttl := f.anyKey(rt), fleetIDs.Draw(rt, "id"), rapid.Int64Range(0, 3).Draw(rt, "ttl")
	body := map[string]any{"deviceId": id}
	if ttl > 0 {
		body["ttlSeconds"] = ttl
	}
	want := f.refuses(k, "admin", "agent")
	switch {
	case want != "":
	case f.present(id) && f.revoked[id] != 0:
		want = "device_revoked"
	case f.present(id):
		want = "exists"
	default:
		if want = f.closed(); want == "" {
			f.forget(id)
			f.created[id] = f.now
			want = "ok"
		}
	}
	f.call(rt, k, "POST", "devices/register", body, want)
	if ttl > 0 && (want == "ok" || want == "exists") {
		f.ends[id] = f.now + ttl*1000
	}
}

// turn is revoke, unrevoke and remove.
func (f *fleet) turn(rt *rapid.T) {
	k, id := f.anyKey(rt), fleetIDs.Draw(rt, "id")
	path := rapid.SampledFrom([]string{"revoke", "revoke", "unrevoke", "unrevoke", "remove"}).Draw(rt, "path")
	want := f.refuses(k, "admin")
	switch {
	case want != "":
	case !f.present(id), path == "unrevoke" && f.ended(id):
		want = "device_not_found"
	case path == "unrevoke" && f.revoked[id] != 0:
		want = f.closed()
	}
	if want != "" {
		f.call(rt, k, "POST", "devices/"+path, map[string]any{"deviceId": id}, want)
		return
	}
	a := f.call(rt, k, "POST", "devices/"+path, map[string]any{"deviceId": id}, "ok")
	if changed, told := a.body["changed"]; told && changed != ((f.revoked[id] != 0) == (path == "unrevoke")) {
		rt.Fatalf("%s %s: %s", path, id, a.raw)
	}
	switch path {
	case "revoke":
		if f.revoked[id] == 0 {
			f.revoked[id] = f.now
		}
	case "unrevoke":
		delete(f.revoked, id)
	default:
		f.forget(id)
	}
}

func (f *fleet) batch(rt *rapid.T) {
	k, on := f.anyKey(rt), rapid.Bool().Draw(rt, "on")
	list, body := f.some(rt, fleetIDs, on)
	path, name := "devices/revoke_batch", "revokedCount"
	if on {
		path, name = "devices/unrevoke_batch", "unrevokedCount"
	}
	if why := f.refuses(k, "admin"); why != "" {
		f.call(rt, k, "POST", path, body, why)
		return
	}
	restorable := func(id string) bool { return f.present(id) && !f.ended(id) && f.revoked[id] != 0 }
	if why := f.closed(); on && (why == "plan_frozen" || why == "entitlement_expired") && slices.ContainsFunc(list, restorable) {
		f.call(rt, k, "POST", path, body, why)
		return
	}
	want, count := []string{}, 0
	for _, id := range list {
		switch {
		case !f.present(id), on && f.ended(id):
			want = append(want, id+" not_found false")
		case on == (f.revoked[id] == 0):
			want = append(want, id+" ok false")
		case on && f.closed() != "":
			want = append(want, id+" blocked false")
		default:
			want, count = append(want, id+" ok true"), count+1
			if delete(f.revoked, id); !on {
				f.revoked[id] = f.now
			}
		}
	}
	holdBatch(rt, f.call(rt, k, "POST", path, body, "ok"), body, want, name, count)
}

const fleetKeysMax = 12 // below the bounds of keys in force and of dead ones

func (f *fleet) makeKey(rt *rapid.T) {
	if len(f.keys) >= fleetKeysMax {
		return
	}
	k, made := f.anyKey(rt), &fleetKey{scope: rapid.SampledFrom([]string{"admin", "agent", "validate"}).Draw(rt, "scope")}
	body := map[string]any{"scope": made.scope}
	if rapid.Bool().Draw(rt, "expires") && made.scope != "admin" {
		made.ends = f.now + rapid.Int64Range(1, 3000).Draw(rt, "ms")
		body["expiresAt"] = instantText(made.ends)
	}
	if why := f.refuses(k, "admin"); why != "" {
		f.call(rt, k, "POST", "org/keys", body, why)
		return
	}
	f.take(f.call(rt, k, "POST", "org/keys", body, "ok"), made)
}

// take notes a key that was made.
func (f *fleet) take(a *answer, made *fleetKey) {
	made.id, made.secret = a.field("keyId"), a.field("orgApiKey")
	f.keys = append(f.keys, made)
}

func (f *fleet) rotate(rt *rapid.T) {
	if len(f.keys) >= fleetKeysMax {
		return
	}
	k, old, grace := f.anyKey(rt), f.anyKey(rt), rapid.Int64Range(0, 3).Draw(rt, "grace")
	body := map[string]any{"keyId": old.id, "graceSeconds": grace}
	want := f.refuses(k, "admin")
	if want == "" && !f.alive(old) {
		want = "key_not_found"
	}
	if want != "" {
		f.call(rt, k, "POST", "org/keys/rotate", body, want)
		return
	}
	a := f.call(rt, k, "POST", "org/keys/rotate", body, "ok")
	if end := f.now + grace*1000; old.ends == 0 || end < old.ends {
		old.ends = end
	}
	if replaced, _ := a.body["replaced"].(map[string]any); a.field("scope") != old.scope || replaced["expiresAt"] != instantText(old.ends) {
		rt.Fatalf("rotate %s: %s, its end is %s", old.scope, a.raw, instantText(old.ends))
	}
	f.take(a, &fleetKey{scope: old.scope})
}

func (f *fleet) revokeKey(rt *rapid.T) {
	k, old := f.anyKey(rt), f.anyKey(rt)
	lasting := func(k *fleetKey) bool { return k.scope == "admin" && f.alive(k) && k.ends == 0 }
	if lasting(old) && !slices.ContainsFunc(f.keys, func(o *fleetKey) bool { return o != old && lasting(o) }) {
		if slices.ContainsFunc(f.keys, func(o *fleetKey) bool { return o.scope == "admin" && f.alive(o) && o != old }) {
			return // allowed while another is in its grace: and then nobody governs the org
		}
	}
	others := slices.ContainsFunc(f.keys, func(o *fleetKey) bool { return o != old && o.scope == "admin" && f.alive(o) })
	want := f.refuses(k, "admin")
	if want == "" && old.scope == "admin" && f.alive(old) && !others {
		want = "last_admin_key"
	}
	body := map[string]any{"keyId": old.id}
	if want != "" {
		f.call(rt, k, "POST", "org/keys/revoke", body, want)
		return
	}
	if a := f.call(rt, k, "POST", "org/keys/revoke", body, "ok"); a.body["changed"] != !old.revoked {
		rt.Fatalf("revoke the key %s: %s", old.id, a.raw)
	}
	old.revoked = true
}

// plan is what an operator changes.
func (f *fleet) plan(rt *rapid.T) {
	switch rapid.IntRange(0, 4).Draw(rt, "what") {
	case 0:
		f.hold = rapid.IntRange(0, 2).Draw(rt, "hold") == 0
		f.operate(rt, map[string]any{"hold": f.hold})
	case 1:
		f.until = rapid.SampledFrom([]int64{0, 0, f.now, f.now + 700}).Draw(rt, "until")
		var at any
		if f.until != 0 {
			at = instantText(f.until)
		}
		f.operate(rt, map[string]any{"accessUntil": at})
	case 2:
		f.tier = rapid.SampledFrom([]string{"free", "max"}).Draw(rt, "tier")
		f.operate(rt, map[string]any{"planTier": f.tier})
	default:
		own := rapid.IntRange(-1, 5).Draw(rt, "limit")
		if f.own = &own; own < 0 {
			f.own = nil
			f.operate(rt, map[string]any{"limit": nil})
			return
		}
		f.operate(rt, map[string]any{"limit": own})
	}
}

func (f *fleet) validate(rt *rapid.T) {
	k, id, want := f.anyKey(rt), fleetIDs.Draw(rt, "id"), "ALLOW"
	switch {
	case !f.alive(k):
		want = "ORG_NOT_FOUND"
	case f.hold:
		want = "PLAN_FROZEN"
	case f.until != 0 && f.now >= f.until:
		want = "ENTITLEMENT_EXPIRED"
	case !f.present(id), f.ended(id):
		want = "DEVICE_NOT_FOUND"
	case f.revoked[id] != 0:
		want = "DEVICE_REVOKED"
	}
	if a := f.n.with(k.secret, "POST", "devices/validate", device(id)); a.field("code") != want {
		rt.Fatalf("validate %s: %s, want %s", id, a.raw, want)
	}
}

// burst makes many changes at once. In which order they take effect nobody knows, but never are there more than the cap, or than there were.
func (f *fleet) burst(rt *rapid.T) {
	admin, most := f.admin(), max(f.used(), f.limit())
	var raws []string
	for range rapid.IntRange(2, 12).Draw(rt, "calls") {
		path := rapid.SampledFrom([]string{"register", "register", "register", "unrevoke", "unrevoke", "revoke", "remove", "revoke_batch", "unrevoke_batch"}).Draw(rt, "path")
		body := device(fleetIDs.Draw(rt, "id"))
		switch path {
		case "revoke_batch":
			body = `{"scope":"all_active"}`
		case "unrevoke_batch":
			body = `{"scope":"all_revoked"}`
		}
		raws = append(raws, fmt.Sprintf("POST /api/v1/devices/%s HTTP/1.1\r\nHost: a\r\nx-org-key: %s\r\nContent-Length: %d\r\n\r\n%s", path, admin.secret, len(body), body))
	}
	var work sync.WaitGroup
	answers, errs := make([]*answer, len(raws)), make([]error, len(raws))
	for i, raw := range raws {
		work.Go(func() { answers[i], errs[i] = f.n.send(raw) })
	}
	work.Wait()
	for i, a := range answers {
		if errs[i] != nil || a.StatusCode != http.StatusOK && a.StatusCode != http.StatusForbidden && a.StatusCode != http.StatusNotFound {
			rt.Fatalf("%q: %v, %+v", raws[i], errs[i], a)
		}
		if used, told := a.body["devicesUsed"].(float64); told && int(used) > most {
			rt.Fatalf("%d devices, at most %d there may be: %s", int(used), most, a.raw)
		}
	}
	f.read(rt, admin)
	if f.used() > most {
		rt.Fatalf("%d devices after a burst, at most %d there may be", f.used(), most)
	}
}

// read takes the devices as they are for the model's.
func (f *fleet) read(rt *rapid.T, k *fleetKey) {
	a := f.call(rt, k, "GET", "devices/list", nil, "ok")
	f.created, f.revoked, f.ends = map[string]int64{}, map[string]int64{}, map[string]int64{}
	list, _ := a.body["devices"].([]any)
	for _, one := range list {
		d, _ := one.(map[string]any)
		id := fmt.Sprint(d["deviceId"])
		for name, to := range map[string]map[string]int64{"createdAt": f.created, "revokedAt": f.revoked, "expiresAt": f.ends} {
			if text, told := d[name].(string); told {
				at, err := time.Parse(time.RFC3339, text)
				if err != nil {
					rt.Fatal(err)
				}
				to[id] = at.UnixMilli()
			}
		}
	}
}

// check holds what the org says of itself to the model: the counts, the list, and the keys.
func (f *fleet) check(rt *rapid.T) {
	k, used := f.admin(), f.used()
	counts := fmt.Sprintf(`"limit":%d,"devicesUsed":%d,"remaining":%d,"overLimit":%t`, f.limit(), used, max(f.limit()-used, 0), used > f.limit())
	if a := f.call(rt, k, "GET", "usage", nil, "ok"); !strings.Contains(a.raw, counts) || a.body["isFrozen"] != f.hold {
		rt.Fatalf("usage: %s, want %s", a.raw, counts)
	}
	a := f.call(rt, k, "GET", "devices/list", nil, "ok")
	active, got := 0, []string{}
	list, _ := a.body["devices"].([]any)
	for _, one := range list {
		d, _ := one.(map[string]any)
		if d["status"] == "active" {
			active++
		}
		got = append(got, fmt.Sprint(d["deviceId"], " ", d["revoked"]))
	}
	want := []string{}
	for _, id := range f.list() {
		want = append(want, id+" "+strconv.FormatBool(f.revoked[id] != 0))
	}
	if diff := cmp.Diff(want, got); diff != "" || active != used || !strings.Contains(a.raw, counts) {
		rt.Fatalf("list: %d active, want %s (-want +got):\n%s", active, counts, diff)
	}
	keys := f.call(rt, k, "GET", "org/keys", nil, "ok")
	shown, _ := keys.body["keys"].([]any)
	if len(shown) != len(f.keys) {
		rt.Fatalf("%d keys, want %d: %s", len(shown), len(f.keys), keys.raw)
	}
}

// TestFleetModel makes random calls with random keys, in force or not, under random plans, one at a time and many at once, and holds every
// answer and all that the org says of itself to the model's.
func TestFleetModel(t *testing.T) {
	n := start(t)
	rapid.Check(t, func(rt *rapid.T) {
		f := newFleet(n)
		rt.Repeat(map[string]func(*rapid.T){
			"time": func(rt *rapid.T) {
				n.now.Add(rapid.Int64Range(0, 1500).Draw(rt, "ms"))
				f.now = n.now.Load()
			},
			"register": f.register, "turn": f.turn, "batch": f.batch, "make key": f.makeKey, "rotate": f.rotate, "revoke key": f.revokeKey,
			"plan": f.plan, "validate": f.validate, "burst": f.burst, "": f.check,
		})
	})
}
