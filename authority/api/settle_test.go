package api_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"machineid/authority/billing/stripetest"
	"machineid/authority/hub"
	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/internal/testkit/bubble"
	"machineid/raftstore"
	"machineid/shared/wire"
)

var _ interface {
	Settle(context.Context, uint64) (hub.Propagation, error)
	SettleOrg(context.Context, uint64, state.OrgID) error
	Edge(string) string
} = (*hub.Hub)(nil)

// toldNothing are the routes whose answers tell no state that an edge may still contradict, each with the reason.
var toldNothing = map[string]string{
	"GET devices/validate":                    "promises a regular read: the newest state or one that is just being replaced",
	"POST devices/validate":                   "as GET",
	"POST devices/validate_batch":             "as devices/validate",
	"GET propagation":                         "tells who waits for a change and for whom, so it cannot wait itself: TestPropagationCall",
	"POST org/recover":                        "the same answer for every address",
	"GET operator/edges":                      "sessions of edges",
	"GET operator/cluster":                    "nodes",
	"POST operator/cluster/init":              "nodes",
	"POST operator/cluster/members":           "nodes",
	"DELETE operator/cluster/members/*":       "nodes",
	"POST operator/cluster/members/*/promote": "nodes",
	"POST operator/cluster/members/*/address": "nodes",
	"POST operator/cluster/members/*/demote":  "nodes",
	"POST operator/cluster/format":            "nodes",
	"POST operator/cluster/transfer":          "nodes",
	"POST operator/cluster/snapshot":          "an archive: it speaks only as another cluster, which begins when all leases of this one are over",
}

// toldCase is a call that changes or reports a state.
type toldCase struct {
	name               string
	as                 func(body string) []string // what its caller shows
	method, path, body string
	waits              string // what for, in this order
	status             int
	part               string // of the answer
}

// TestNothingIsToldTooEarly shuts the hub: no call that changes or reports a state may answer before the edges know it, a
// refusal and a change that changed nothing included. Every route of the table is tried, or is among those that tell nothing.
func TestNothingIsToldTooEarly(t *testing.T) {
	s := stripetest.New(t)
	n := selling(t, s)
	o := n.sized(2)
	n.with(o.agent, "POST", "devices/register", device("on")).want(200)
	n.with(o.agent, "POST", "devices/register", device("off")).want(200)
	n.with(o.admin, "POST", "devices/revoke", device("off")).want(200)
	n.with(o.agent, "POST", "devices/register", device("third")).want(200)
	gone := n.key(o, statepb.Key_ADMIN, func(k *statepb.Key) { k.RevokedAtMs = startMs })
	leaves, dropped := n.org(), n.org()
	// Of two orgs that pay Stripe has something to say. Of one it says it, of the other that is lost.
	pays, sub := n.payer(s)
	token := `{"token":"` + n.recover(pays, 1) + `"}`
	_, otherSub := n.payer(s)
	s.Change(sub, func(x *stripetest.Subscription) { x.Status = "past_due" })
	event := string(s.Events()[0])
	s.Change(otherSub, func(x *stripetest.Subscription) { x.Status = "unpaid" })
	s.Subscribe("cus_of_nobody", "price_max", "")
	nobodys := string(s.Events()[1])

	key := func(key string) func(string) []string {
		return func(string) []string { return []string{"x-org-key: " + key} }
	}
	admin, payer := key(o.admin), key(pays.admin)
	operator := func(string) []string { return []string{"Authorization: Bearer " + operatorToken} }
	stripe := func(body string) []string {
		return []string{"Stripe-Signature: " + stripetest.Sign([]byte(body), n.clock(), stripetest.WebhookSecret)}
	}
	named := func(name string) func(string) []string { // what it comes to is remembered, so it is decided where it is applied
		return func(string) []string { return append(admin(""), "Idempotency-Key: "+name) }
	}
	anyone := func(string) []string { return nil }
	operatorFor := func(string) []string { return append(operator(""), "X-MachineID-Org: "+uuid.NewString()) }

	tried := map[string]bool{}
	for _, c := range []toldCase{
		{"a revoke", admin, "POST", "devices/revoke", device("on"), "index", 200, `"changed":true`},
		{"a second revoke", admin, "POST", "devices/revoke", device("on"), "index", 200, `"changed":false`},
		{"an unrevoke", admin, "POST", "devices/unrevoke", device("on"), "index, org", 200, `"changed":true`},
		{"exists", admin, "POST", "devices/register", device("on"), "index, org", 200, `"status":"exists"`},
		{"the cap", admin, "POST", "devices/register", device("fourth"), "org", 403, "device_limit_reached"},
		{"an unrevoke at the cap", admin, "POST", "devices/unrevoke", device("off"), "org", 403, "device_limit_reached"},
		{"a revoked device", admin, "POST", "devices/register", device("off"), "org", 403, "device_revoked"},
		{"an unknown device", admin, "POST", "devices/revoke", device("nobody"), "org", 404, "device_not_found"},
		{"the cap, by name", named("a"), "POST", "devices/register", device("fourth"), "index, org", 403, "device_limit_reached"},
		{"the cap, by name again", named("a"), "POST", "devices/register", device("fourth"), "index, org", 403, "device_limit_reached"},
		{"another by that name", named("a"), "POST", "devices/register", device("sixth"), "org", 409, "idempotency_mismatch"},
		{"an unrevoke at the cap, by name", named("b"), "POST", "devices/unrevoke", device("off"), "index, org", 403, "device_limit_reached"},
		{"an unknown device, by name", named("c"), "POST", "devices/revoke", device("nobody"), "index", 404, "device_not_found"},
		{"no such key to rotate, by name", named("d"), "POST", "org/keys/rotate", `{"keyId":"AAAAAAAA"}`, "index, org", 404, "key_not_found"},
		{"a batch", admin, "POST", "devices/revoke_batch", `{"deviceIds":["nobody"]}`, "index", 200, `"not_found"`},
		{"a batch of some", admin, "POST", "devices/unrevoke_batch", `{"deviceIds":["nobody"]}`, "index, org", 200, `"not_found"`},
		{"a batch of all", admin, "POST", "devices/unrevoke_batch", `{"scope":"all_revoked"}`, "index, org", 200, `"at_cap"`},
		{"a remove", admin, "POST", "devices/remove", device("third"), "index", 200, `"removed":true`},
		{"a second remove", admin, "POST", "devices/remove", device("third"), "org", 404, "device_not_found"},
		{"a register", admin, "POST", "devices/register", device("fifth"), "index, org", 200, `"status":"ok"`},
		{"the switch", admin, "POST", "org/execution", `{"enabled":true}`, "index", 200, `"changed":false`},
		{"settings", admin, "POST", "org/settings", `{"version":2}`, "index", 200, `"changed":false`},
		{"a new key", admin, "POST", "org/keys", `{"scope":"validate"}`, "index, org", 200, `"scope":"validate"`},
		{"another key", admin, "POST", "org/keys/rotate", `{"keyId":"` + idOf(o.agent) + `"}`, "index, org", 200, `"replaced"`},
		{"no such key to rotate", admin, "POST", "org/keys/rotate", `{"keyId":"AAAAAAAA"}`, "org", 404, "key_not_found"},
		{"a revoked key", admin, "POST", "org/keys/revoke", `{"keyId":"` + idOf(o.agent) + `"}`, "index, org", 200, `"changed":true`},
		{"no such key", admin, "POST", "org/keys/revoke", `{"keyId":"AAAAAAAA"}`, "org", 404, "key_not_found"},
		{"the keys", admin, "GET", "org/keys", "", "org", 200, `"keys":[`},
		{"audit", admin, "GET", "audit", "", "org", 200, `"entries":[`},
		{"get", admin, "GET", "devices/get?deviceId=off", "", "org", 200, `"revoked"`},
		{"get nobody", admin, "GET", "devices/get?deviceId=nobody", "", "org", 404, "device_not_found"},
		{"list", admin, "GET", "devices/list", "", "org", 200, `"off"`},
		{"usage", admin, "GET", "usage", "", "org", 200, `"devicesUsed":2`},
		{"org", admin, "GET", "org", "", "org", 200, `"orgId"`},
		{"export", admin, "GET", "org/export", "", "org", 200, `"devices":[`},
		{"with a revoked key", key(gone), "GET", "org", "", "org", 404, "org_not_found"},
		{"a change with a revoked key", key(gone), "POST", "devices/revoke", device("on"), "org", 404, "org_not_found"},
		{"a revoked key's checkout", key(gone), "POST", "billing/checkout", `{"plan":"max"}`, "org", 404, "org_not_found"},
		{"the operator for an org that is not there", operatorFor, "GET", "usage", "", "org", 404, "org_not_found"},

		{"how an org pays", payer, "GET", "billing/summary", "", "org", 200, `"planState":"active"`},
		{"an event", stripe, "POST", "webhooks/stripe", event, "index, all orgs", 200, `"changed":true`},
		{"an event again", stripe, "POST", "webhooks/stripe", event, "index, all orgs", 200, `"changed":false`},
		{"an event about nobody", stripe, "POST", "webhooks/stripe", nobodys, "all orgs", 200, `"ignored":true`},
		{"a first checkout", admin, "POST", "billing/checkout", `{"plan":"max"}`, "index, org", 200, `"url"`},
		{"another checkout", admin, "POST", "billing/checkout", `{"plan":"max"}`, "org", 200, `"url"`},
		{"a checkout of what is not sold", admin, "POST", "billing/checkout", `{"plan":"gold"}`, "org", 200, "unknown_plan"},
		{"the portal", payer, "POST", "billing/portal", "", "org", 200, `"url"`},
		{"the portal of who pays nothing", key(leaves.admin), "POST", "billing/portal", "", "org", 200, "no_subscription"},
		{"a difference", operator, "POST", "operator/billing/sync", "", "index, all orgs", 200, `"differences":[{`},
		{"no difference", operator, "POST", "operator/billing/sync", "", "all orgs", 200, `"differences":[]`},
		{"a recovery", anyone, "POST", "org/recover/confirm", token, "index, org", 200, `"orgApiKey"`},
		{"the same again", anyone, "POST", "org/recover/confirm", token, "org", 401, "invalid_token"},

		{"an org", operator, "POST", "org/create", "{}", "index", 200, `"orgApiKey"`},
		{"an operator's org", operator, "POST", "operator/orgs", `{"planTier":"max"}`, "index", 200, `"orgApiKey"`},
		{"an org of no plan", operator, "POST", "operator/orgs", `{"planTier":"gold"}`, "all orgs", 400, "planTier"},
		{"all orgs", operator, "GET", "operator/orgs", "", "all orgs", 200, `"orgs":[`},
		{"one of them", operator, "GET", "operator/orgs/" + o.id.String(), "", "org", 200, `"hold":false`},
		{"none of them", operator, "GET", "operator/orgs/" + uuid.NewString(), "", "org", 404, "org_not_found"},
		{"a hold", operator, "PATCH", "operator/orgs/" + o.id.String(), `{"hold":true}`, "index, org", 200, `"hold":true`},
		{"a hold of none", operator, "PATCH", "operator/orgs/" + uuid.NewString(), `{"hold":true}`, "org", 404, "org_not_found"},
		{"the plans", operator, "GET", "operator/plans", "", "all orgs", 200, `"plans":[`},
		{"other plans", operator, "PUT", "operator/plans", `{"plans":[{"planTier":"free","limit":4},{"planTier":"max","limit":1000}],"graceDays":7}`, "index", 200, `"limit":4`},
		{"too few plans", operator, "PUT", "operator/plans", `{"plans":[{"planTier":"free","limit":4}],"graceDays":7}`, "all orgs", 409, "refused"},
		{"everyone's audit", operator, "GET", "operator/audit", "", "all orgs", 200, `"entries":[`},
		{"an end that is refused", payer, "POST", "org/delete", `{"confirm":"` + pays.id.String() + `"}`, "org", 409, "refused"},
		{"an operator's end that is refused", operator, "DELETE", "operator/orgs/" + pays.id.String(), "", "org", 409, "refused"},
		{"the end", key(leaves.admin), "POST", "org/delete", `{"confirm":"` + leaves.id.String() + `"}`, "index, org", 200, `"deleted":true`},
		{"with a key of what is gone", key(leaves.admin), "GET", "org", "", "org", 404, "org_not_found"},
		{"an operator's end", operator, "DELETE", "operator/orgs/" + dropped.id.String(), "", "index, org", 200, `"deleted":true`},
		{"the end of none", operator, "DELETE", "operator/orgs/" + dropped.id.String(), "", "org, org", 404, "org_not_found"},
		{"another token", operator, "POST", "operator/token/rotate", `{"token":"` + strings.Repeat("next", 10) + `"}`, "index", 200, `"changed":true`},
	} {
		path, _, _ := strings.Cut(c.path, "?")
		route := wire.Match([]byte(wire.Base + path))
		if route == nil || !route.Allows([]byte(c.method)) {
			t.Fatalf("%s: no route serves %s %s", c.name, c.method, c.path)
		}
		tried[c.method+" "+route.Path] = true
		t.Run(c.name, func(t *testing.T) { n.tellsInTime(t, &c) })
	}
	reasons := maps.Clone(toldNothing)
	for _, route := range wire.Routes() {
		for _, method := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
			name := method + " " + route.Path
			if route.Allows([]byte(method)) && tried[name] == (reasons[name] != "") {
				t.Errorf("%s: a route that tells a state needs a case above, and one that tells none a reason in toldNothing", name)
			}
			delete(reasons, name)
		}
	}
	for name := range reasons {
		t.Errorf("toldNothing has %s, which is no route", name)
	}

	// Validate and what depends on no state do not wait.
	_, open := n.hub.shut()
	defer open()
	n.with(o.agent, "POST", "devices/validate", device("off")).want(200)
	n.with(unknownKey, "POST", "devices/revoke", device("off")).want(404, "org_not_found")
}

// tellsInTime makes a call, whose answer must wait for each of what it says, and for nothing else.
func (n *node) tellsInTime(t *testing.T, c *toldCase) {
	t.Helper()
	waiting, open := n.hub.shut()
	defer open()
	answered := make(chan *answer, 1)
	go func() { answered <- n.do(c.method, c.path, c.body, c.as(c.body)...) }()
	var waits []string
	for {
		select {
		case what := <-waiting:
			waits = append(waits, what)
			n.hub.pass()
			continue
		case a := <-answered:
			a.t = t
			a.want(c.status, c.part)
		case <-time.After(patient):
			t.Fatal("it neither waits nor answers")
		}
		break
	}
	if got := strings.Join(waits, ", "); got != c.waits {
		t.Errorf("before it answered it waited for %q, want %q", got, c.waits)
	}
}

// TestWhatWasSeenIsNotKnownEverywhere: a call that tells of what it saw says whether a change came of it, if that cannot be waited for.
func TestWhatWasSeenIsNotKnownEverywhere(t *testing.T) {
	s := stripetest.New(t)
	n := selling(t, s)
	_, sub := n.payer(s)
	s.Change(sub, func(x *stripetest.Subscription) { x.Status = "unpaid" })
	waiting, open := n.hub.shut()
	answered := make(chan *answer, 1)
	go func() { answered <- n.operate("POST", "billing/sync", "") }()
	<-waiting // the change that sets the org right
	n.hub.fail(hub.ErrPending)
	open()
	a := <-answered
	a.t = t
	a.want(503, `"outcome":"committed"`)
	n.operate("POST", "billing/sync", "").want(503, `"outcome":"not_done"`)
	n.hub.fail(nil)
	n.operate("POST", "billing/sync", "").want(200, `"differences":[]`)

	// Who does not wait for what is changed does not wait for what was seen.
	o := n.org()
	n.hub.fail(hub.ErrPending)
	n.with(o.admin, "POST", "org/delete", `{"confirm":"`+o.id.String()+`"}`, "Prefer: respond-async").want(202, `"pending":true`)
	n.hub.fail(nil)
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
		a := n.with(o.agent, "POST", "devices/register", device("new"))
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
			bubble.Test(t, func(t *testing.T) {
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
