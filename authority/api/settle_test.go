package api_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"machineid/authority/hub"
	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/raftstore"
)

var _ interface {
	Settle(context.Context, uint64) (hub.Propagation, error)
	SettleOrg(context.Context, uint64, state.OrgID) error
	Edge(string) string
} = (*hub.Hub)(nil)

// TestNothingIsToldTooEarly shuts the hub: no call that changes or reports a state may answer before the edges know it, a
// refusal and a change that changed nothing included.
func TestNothingIsToldTooEarly(t *testing.T) {
	n := start(t)
	o := n.sized(2)
	n.with(o.agent, "POST", "devices/register", device("on")).want(200)
	n.with(o.agent, "POST", "devices/register", device("off")).want(200)
	n.with(o.admin, "POST", "devices/revoke", device("off")).want(200)
	n.with(o.agent, "POST", "devices/register", device("third")).want(200)
	gone := n.key(o, statepb.Key_ADMIN, func(k *statepb.Key) { k.RevokedAtMs = startMs })
	for _, c := range []struct {
		name, method, path, body string
		waits                    string // what for
		status                   int
		part                     string
	}{
		{"a revoke", "POST", "devices/revoke", device("on"), "index", 200, `"changed":true`},
		{"a second revoke", "POST", "devices/revoke", device("on"), "index", 200, `"changed":false`},
		{"an unrevoke", "POST", "devices/unrevoke", device("on"), "index", 200, `"changed":true`},
		{"exists", "POST", "devices/register", device("on"), "index", 200, `"status":"exists"`},
		{"the cap", "POST", "devices/register", device("fourth"), "index", 403, "device_limit_reached"},
		{"a revoked device", "POST", "devices/register", device("off"), "index", 403, "device_revoked"},
		{"an unknown device", "POST", "devices/revoke", device("nobody"), "index", 404, "device_not_found"},
		{"a batch", "POST", "devices/revoke_batch", `{"deviceIds":["nobody"]}`, "index", 200, `"not_found"`},
		{"a batch of all", "POST", "devices/unrevoke_batch", `{"scope":"all_revoked"}`, "index", 200, `"at_cap"`},
		{"a remove", "POST", "devices/remove", device("third"), "index", 200, `"removed":true`},
		{"a second remove", "POST", "devices/remove", device("third"), "index", 404, "device_not_found"},
		{"a register", "POST", "devices/register", device("fifth"), "index", 200, `"status":"ok"`},
		{"the switch", "POST", "org/execution", `{"enabled":true}`, "index", 200, `"changed":false`},
		{"settings", "POST", "org/settings", `{"version":2}`, "index", 200, `"changed":false`},
		{"a new key", "POST", "org/keys", `{"scope":"validate"}`, "index", 200, `"scope":"validate"`},
		{"no such key", "POST", "org/keys/revoke", `{"keyId":"AAAAAAAA"}`, "index", 404, "key_not_found"},
		{"the keys", "GET", "org/keys", "", "org", 200, `"keys":[`},
		{"audit", "GET", "audit", "", "org", 200, `"entries":[`},
		{"get", "GET", "devices/get?deviceId=off", "", "org", 200, `"revoked"`},
		{"get nobody", "GET", "devices/get?deviceId=nobody", "", "org", 404, "device_not_found"},
		{"list", "GET", "devices/list", "", "org", 200, `"off"`},
		{"usage", "GET", "usage", "", "org", 200, `"devicesUsed":2`},
		{"org", "GET", "org", "", "org", 200, `"orgId"`},
		{"a revoked key", "GET", "org", "", "org", 404, "org_not_found"},
		{"a revoked key's change", "POST", "devices/revoke", device("on"), "org", 404, "org_not_found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			key := o.admin
			if c.part == "org_not_found" {
				key = gone
			}
			waiting, open := n.hub.shut()
			answered := make(chan *answer, 1)
			go func() { answered <- n.with(key, c.method, c.path, c.body) }()
			select {
			case a := <-answered:
				t.Fatalf("answered before the edges knew: HTTP %d %s", a.StatusCode, a.raw)
			case what := <-waiting:
				if what != c.waits {
					t.Errorf("it waits for %s, want %s", what, c.waits)
				}
			case <-time.After(patient):
				t.Fatal("it neither waits nor answers")
			}
			select {
			case a := <-answered:
				t.Fatalf("answered while the edges did not know: HTTP %d %s", a.StatusCode, a.raw)
			default:
			}
			open()
			select {
			case a := <-answered:
				a.t = t
				a.want(c.status, c.part)
			case <-time.After(patient):
				t.Fatal("no answer")
			}
		})
	}

	// Validate and what depends on no state do not wait.
	_, open := n.hub.shut()
	defer open()
	n.with(o.agent, "POST", "devices/validate", device("off")).want(200, "DEVICE_REVOKED")
	n.with(o.agent, "POST", "devices/revoke", device("off")).want(403, "insufficient_scope")
	n.with(unknownKey, "POST", "devices/revoke", device("off")).want(404, "org_not_found")
}

// TestOutcomes maps every way in which a call cannot be served to what its caller is told.
func TestOutcomes(t *testing.T) {
	n := start(t, openSignup)
	o := n.org()
	n.with(o.agent, "POST", "devices/register", device("d")).want(200)
	broken := errors.New("the disk is on fire")
	unknown := fmt.Errorf("propose: %w: leadership lost", raftstore.ErrOutcomeUnknown)
	for _, c := range []struct {
		name          string
		propose, read error
		settle        error
		refused       bool
		change        string // outcome of a change, "" if it is served
		reads         string
	}{
		{"not leading", raftstore.ErrNotLeader, raftstore.ErrNotLeader, nil, false, "not_done", "not_done"},
		{"not leading any more", raftstore.ErrNotLeader, nil, nil, false, "not_done", ""},
		{"overloaded", raftstore.ErrOverloaded, nil, nil, false, "not_done", ""},
		{"closed", raftstore.ErrClosed, raftstore.ErrClosed, nil, false, "not_done", "not_done"},
		{"out of time", context.DeadlineExceeded, context.DeadlineExceeded, nil, false, "not_done", "not_done"},
		{"unknown", unknown, nil, nil, false, "unknown", ""},
		{"pending", nil, nil, hub.ErrPending, false, "committed", "not_done"},
		{"deposed", nil, nil, hub.ErrNotLeading, false, "committed", "not_done"},
		{"refused and pending", nil, nil, hub.ErrPending, true, "not_done", "not_done"},
		{"broken", broken, broken, nil, false, "not_done", "not_done"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var propose func(context.Context) (state.Outcome, error)
			if c.propose != nil {
				propose = func(context.Context) (state.Outcome, error) { return state.Outcome{}, c.propose }
			}
			if c.refused {
				propose = func(context.Context) (state.Outcome, error) {
					return state.Outcome{Refusal: state.DeviceNotFound}, nil
				}
			}
			var read func(context.Context) error
			if c.read != nil {
				read = func(context.Context) error { return c.read }
			}
			n.store.fail(propose, read)
			n.hub.fail(c.settle)
			defer n.store.fail(nil, nil)
			defer n.hub.fail(nil)

			check := func(a *answer, outcome string) {
				t.Helper()
				a.t = t
				if outcome == "" {
					a.want(200)
					return
				}
				a.want(503, `"status":"error","error":"system_unavailable"`, `"outcome":"`+outcome+`"`)
				if a.Header.Get("Retry-After") != "1" {
					t.Errorf("Retry-After %q", a.Header.Get("Retry-After"))
				}
			}
			check(n.with(o.admin, "POST", "devices/revoke", device("d")), c.change)
			created := n.do("POST", "org/create", "{}")
			check(created, c.change)
			if lost := strings.Contains(created.raw, "keys cannot be shown"); lost != (c.change == "unknown" || c.change == "committed") {
				t.Errorf("org/create answers %s", created.raw)
			}
			for _, path := range []string{"devices/get?deviceId=d", "devices/list", "usage", "org"} {
				check(n.with(o.admin, "GET", path, ""), c.reads)
			}
			a := n.with(o.agent, "POST", "devices/validate", device("d"))
			if unavailable := a.field("code") == "SYSTEM_UNAVAILABLE"; a.StatusCode != http.StatusOK || unavailable != (c.read != nil) ||
				unavailable != (a.Header.Get("Retry-After") != "") || a.Header.Get("X-Cache") != "miss" {
				t.Errorf("validate: HTTP %d %v %s", a.StatusCode, a.Header, a.raw)
			}
		})
	}
	// Only what an operator can do something about is logged: the fire, once for each call that met it.
	if got := strings.Count(n.log.String(), "\n"); got != strings.Count(n.log.String(), broken.Error()) || got != 7 {
		t.Errorf("the log:\n%s", n.log)
	}

	// Every refusal that the state knows has an answer of its own. Not all of them come of a register, so the document knows not all.
	n.held = nil
	for refusal, want := range map[state.Refusal]string{
		state.OrgNotFound: "org_not_found", state.DeviceNotFound: "device_not_found", state.DeviceRevoked: "device_revoked",
		state.KeyNotFound: "key_not_found", state.KeyLimit: "key_limit_reached", state.LastAdminKey: "last_admin_key",
		state.LimitReached: "device_limit_reached", state.PlanFrozen: "plan_frozen", state.EntitlementExpired: "entitlement_expired",
		255: "system_unavailable",
	} {
		n.store.fail(func(context.Context) (state.Outcome, error) { return state.Outcome{Refusal: refusal}, nil }, nil)
		a := n.with(o.agent, "POST", "devices/register", device("d"))
		if a.field("error") != want {
			t.Errorf("refusal %d: %s, want %s", refusal, a.raw, want)
		}
	}
}

// TestTimes holds the calls to their time, in a bubble where it costs none.
func TestTimes(t *testing.T) {
	for _, c := range []struct {
		name    string
		headers []string
		path    string
		stalls  string // the part that does not come to an end
		takes   time.Duration
		outcome string
	}{
		{"propose", nil, "devices/revoke", "propose", 8 * time.Second, "not_done"},
		{"propose, a stranger's budget", []string{"MachineID-Timeout-Ms: 5"}, "devices/revoke", "propose", 8 * time.Second, "not_done"},
		{
			"propose, an edge's budget",
			[]string{"MachineID-Timeout-Ms: 1500", "MachineID-Edge: " + edgeToken},
			"devices/revoke", "propose", 1500 * time.Millisecond, "not_done",
		},
		{
			"propose, an edge's nonsense",
			[]string{"MachineID-Timeout-Ms: soon", "MachineID-Edge: " + edgeToken},
			"devices/revoke", "", 0, "not_done",
		},
		{"settle", nil, "devices/revoke", "settle", 9 * time.Second, "committed"},
		{"read", nil, "usage", "read", 8 * time.Second, "not_done"},
		{"settle a read", nil, "usage", "settle", 8 * time.Second, "not_done"},
		{"validate", nil, "devices/validate", "read", 900 * time.Millisecond, ""},
		{
			"validate, an edge's budget",
			[]string{"MachineID-Timeout-Ms: 100", "MachineID-Edge: " + edgeToken},
			"devices/validate", "read", 100 * time.Millisecond, "",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				t.Cleanup(func() { time.Sleep(time.Minute) }) // virtual: what fasthttp leaves behind ends
				n := start(t)
				o := n.org()
				n.with(o.agent, "POST", "devices/register", device("d")).want(200)
				switch c.stalls {
				case "propose":
					n.store.fail(func(ctx context.Context) (state.Outcome, error) {
						<-ctx.Done()
						return state.Outcome{}, ctx.Err()
					}, nil)
				case "read":
					n.store.fail(nil, func(ctx context.Context) error {
						<-ctx.Done()
						return ctx.Err()
					})
				case "settle":
					n.hub.shut()
				}
				method, body := "POST", device("d")
				if c.path == "usage" {
					method, body = "GET", ""
				}
				began := time.Now()
				a := n.with(o.admin, method, c.path, body, c.headers...)
				if took := time.Since(began); took != c.takes {
					t.Errorf("it took %v, want %v", took, c.takes)
				}
				if c.outcome == "" {
					a.want(200, "SYSTEM_UNAVAILABLE")
				} else {
					a.want(503, `"outcome":"`+c.outcome+`"`)
				}
			})
		})
	}
}
