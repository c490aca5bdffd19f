package api_test

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"machineid/authority/api"
	"machineid/authority/billing/stripetest"
	"machineid/raftstore"
	"machineid/shared/wire"
)

// changes are the methods that change something.
func changes(r *wire.Route) (methods []string) {
	for method, served := range map[string]bool{"POST": r.Post, "PUT": r.Put, "PATCH": r.Patch, "DELETE": r.Delete} {
		if served {
			methods = append(methods, method+" "+r.Path)
		}
	}
	return methods
}

// untold are the routes that change nothing which anybody could be asked for.
var untold = map[string]string{
	"POST devices/validate":       "a decision",
	"POST devices/validate_batch": "decisions",
	"POST org/recover":            "says the same for every address; what comes of it is told by the recovery (cmd/machineid/cli: TestRecovery)",
	"POST billing/portal":         "sends somebody to Stripe; what is done there comes by the webhook",
	"POST operator/cluster/init":  "the cluster's first command tells of it (authority: TestWhoBeganIsTold)",
}

// routeTold is what a route is asked, and the entries that this leaves.
type routeTold struct {
	body, want string
	path       string // "": the route's
	as         string // a header, "": the operator's for the org
	sets       bool   // it is a setting, so it is told how it was and how it is
	before     func()
}

// TestEveryRouteIsTold walks the table of routes: each that changes anything leaves an entry that names who asked, from where, of what, and for
// settings what they were and what they are.
func TestEveryRouteIsTold(t *testing.T) {
	s := stripetest.New(t)
	nodes := &fakeNodes{}
	n := start(t, withStripe(s), openSignup, func(c *api.Config) { c.Nodes = nodes })
	pays, _ := n.payer(s)
	o, gone, alsoGone := n.org(), n.org(), n.org()
	n.with(o.admin, "POST", "devices/register", device("a")).want(200)
	third := n.with(o.admin, "POST", "org/keys", `{"name":"x","scope":"agent"}`).want(200).field("keyId")
	member := raftstore.Member{Life: raftstore.Life{ID: "a3", Store: "s3"}, Address: "h3:7072"}
	voter := member
	voter.Voter = true
	moved := voter
	moved.Address = "h9:7072"
	demoted := moved
	demoted.Voter = false
	becomes := func(others ...raftstore.Member) func() {
		return func() { nodes.then = func() { nodes.have(others...) } }
	}
	revoked := func() { n.with(o.admin, "POST", "devices/revoke", device("a")).want(200) }
	restored := func() { n.with(o.admin, "POST", "devices/unrevoke", device("a")).want(200) }
	routes := map[string]routeTold{
		"POST devices/register":       {body: `{"deviceId":"b","name":"one"}`, want: "device.registered b", sets: true},
		"POST devices/revoke":         {body: device("a"), want: "device.revoked a"},
		"POST devices/unrevoke":       {body: device("a"), want: "device.restored a", before: revoked},
		"POST devices/remove":         {body: device("z"), want: "device.removed z", before: func() { n.with(o.admin, "POST", "devices/register", device("z")).want(200) }},
		"POST devices/revoke_batch":   {body: `{"deviceIds":["a","nobody"]}`, want: "devices.revoked a", before: restored},
		"POST devices/unrevoke_batch": {body: `{"scope":"all_revoked"}`, want: "devices.restored all_revoked", before: revoked},
		"POST org/create":             {body: `{"name":"new"}`, want: "org.created * key.created * key.created *", as: "X-Nobody: 1", sets: true},
		"POST org/execution":          {body: `{"enabled":false}`, want: "org.disabled ORG", sets: true},
		"POST org/settings":           {body: `{"version":1}`, want: "org.version_changed ORG", sets: true},
		"POST org/delete":             {body: `{"confirm":"` + gone.id.String() + `"}`, want: "org.deleted " + gone.id.String(), as: "x-org-key: " + gone.admin, sets: true},
		"POST org/keys":               {body: `{"name":"k","scope":"admin"}`, want: "key.created *", sets: true},
		"POST org/keys/rotate":        {body: `{"keyId":"` + idOf(o.agent) + `"}`, want: "key.rotated " + idOf(o.agent), sets: true},
		"POST org/keys/revoke":        {body: `{"keyId":"` + third + `"}`, want: "key.revoked " + third, sets: true},
		"POST org/recover/confirm":    {body: `{"token":"` + n.recover(pays, 1) + `"}`, want: "key.created *", as: "X-Nobody: 1", sets: true},
		"POST billing/checkout":       {body: `{"plan":"max"}`, want: "billing.changed cus_*", sets: true},
		"POST webhooks/stripe":        {want: "billing.changed sub_*", sets: true},
		"POST operator/billing/sync":  {body: `{"limit":100}`, want: "billing.changed sub_*", sets: true, as: operates},
		"POST operator/orgs":          {body: `{"name":"new","planTier":"max"}`, want: "org.created * key.created * key.created *", sets: true, as: operates},
		"PATCH operator/orgs/*":       {path: "operator/orgs/" + o.id.String(), body: `{"hold":true}`, want: "org.frozen ORG", sets: true, as: operates},
		"DELETE operator/orgs/*":      {path: "operator/orgs/" + alsoGone.id.String(), body: `{}`, want: "org.deleted " + alsoGone.id.String(), sets: true, as: operates},
		"PUT operator/plans":          {body: `{"plans":[{"planTier":"free","limit":5},{"planTier":"max","limit":1000}],"graceDays":2}`, want: "plans.changed plans", sets: true, as: operates},

		"POST operator/cluster/members":           {body: `{"id":"a3","address":"h3:7072"}`, want: "cluster.member_added a3", sets: true, as: operates, before: becomes(member)},
		"POST operator/cluster/members/*/promote": {path: "operator/cluster/members/a3/promote", want: "cluster.member_promoted a3", sets: true, as: operates, before: becomes(voter)},
		"POST operator/cluster/members/*/address": {path: "operator/cluster/members/a3/address", body: `{"address":"h9:7072"}`, want: "cluster.member_readdressed a3", sets: true, as: operates, before: becomes(moved)},
		"POST operator/cluster/members/*/demote":  {path: "operator/cluster/members/a3/demote", want: "cluster.member_demoted a3", sets: true, as: operates, before: becomes(demoted)},
		"DELETE operator/cluster/members/*":       {path: "operator/cluster/members/a3", want: "cluster.member_removed a3", sets: true, as: operates, before: becomes()},
		"POST operator/cluster/format":            {want: "cluster.format_raised c1", sets: true, as: operates, before: func() { nodes.then = nil }},
		"POST operator/cluster/transfer":          {body: `{"to":"a2"}`, want: "cluster.transfer_begun a1", sets: true, as: operates},
		"POST operator/cluster/snapshot":          {want: "cluster.snapshot_taken a1", as: operates},
	}
	n.operate("POST", "cluster/members/a1/promote", "").want(200) // from now on the audit knows the members
	order := []string{"POST operator/cluster/members", "POST operator/cluster/members/*/promote", "POST operator/cluster/members/*/address", "POST operator/cluster/members/*/demote", "DELETE operator/cluster/members/*"}
	for _, r := range wire.Routes() {
		for _, name := range changes(r) {
			if _, last := routes[name]; !slices.Contains(order, name) && (last || untold[name] == "") && name != "POST operator/token/rotate" {
				order = append(order, name)
			}
		}
	}
	routes["POST operator/token/rotate"] = routeTold{body: `{"token":"` + operatorToken + operatorToken + `"}`, want: "operator.token_rotated *", sets: true, as: operates}
	order = append(order, "POST operator/token/rotate") // which ends the token that this test reads by
	done := map[string]bool{}
	for _, name := range order {
		c, ok := routes[name]
		if !ok {
			t.Errorf("%s changes something: say here what it leaves in the audit, or in untold why it leaves nothing", name)
			continue
		}
		done[name] = true
		if c.before != nil {
			c.before()
		}
		if name == "POST billing/checkout" || name == "POST org/keys/rotate" {
			nodes.then = nil
		}
		n.tellsOfRoute(t, s, name, &c, o, pays)
	}
	for name := range maps.Keys(routes) {
		if !done[name] {
			t.Errorf("%s is no route that changes anything", name)
		}
	}
}

func (n *node) tellsOfRoute(t *testing.T, s *stripetest.Stripe, name string, c *routeTold, o, pays *org) {
	t.Helper()
	newest := func() string { return n.do("GET", "operator/audit?limit=1", "", operates).raw }
	place := func(raw string) string {
		_, rest, _ := strings.Cut(raw, `"entries":[{"id":"`)
		id, _, _ := strings.Cut(rest, `"`)
		return id
	}
	method, path, _ := strings.Cut(name, " ")
	if c.path != "" {
		path = c.path
	}
	headers := []string{"X-Request-Id: told"}
	switch c.as {
	case "":
		headers = append(headers, operates, "X-MachineID-Org: "+o.id.String())
	case "X-Nobody: 1":
	default:
		headers = append(headers, c.as)
	}
	body := c.body
	switch name {
	case "POST webhooks/stripe", "POST operator/billing/sync":
		sub, status := n.billingOf(pays).GetSubscription().GetId(), "past_due"
		if path == "operator/billing/sync" { // which finds out by itself
			status = "active"
		}
		s.Change(sub, func(x *stripetest.Subscription) { x.Status = status })
		if events := s.Events(); path == "webhooks/stripe" {
			body = string(events[len(events)-1])
			headers = append(headers, "Stripe-Signature: "+stripetest.Sign([]byte(body), n.clock(), stripetest.WebhookSecret))
		}
	}
	was := place(newest())
	if name == "POST operator/cluster/snapshot" { // its answer is no JSON
		a, _ := n.send("POST /api/v1/" + path + " HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nX-Request-Id: told\r\n" + operates + "\r\n\r\n")
		if a == nil || a.StatusCode != http.StatusOK {
			t.Fatalf("%s: %+v", name, a)
		}
	} else {
		n.do(method, path, body, headers...).want(200)
	}
	reads := operates
	if name == "POST operator/token/rotate" {
		reads = operates + operatorToken
	}
	var page struct {
		Entries []struct {
			ID, Action, Target, Address string
			RequestID                   string `json:"request_id"`
			Targets                     []string
			Actor                       struct{ Type, ID string }
			Before, After               map[string]any
		}
	}
	if err := json.Unmarshal([]byte(n.do("GET", "operator/audit?limit=20", "", reads).want(200).raw), &page); err != nil {
		t.Fatal(err)
	}
	var said []string
	for _, e := range page.Entries {
		if e.ID == was {
			break
		}
		said = append(said, e.Action, strings.ReplaceAll(e.Target, o.id.String(), "ORG"))
		if e.RequestID != "told" || e.Address == "" || e.Actor.Type == "" || (e.Actor.ID == "") != (e.Actor.Type == "signup") {
			t.Errorf("%s: who asked, and from where: %+v", name, e)
		}
		if e.Target == "" || len(e.Targets) == 0 {
			t.Errorf("%s: of what: %+v", name, e)
		}
		if c.sets && (len(e.Before) == 0 || len(e.Before) != len(e.After)) {
			t.Errorf("%s: how it was and is: %+v", name, e)
		}
	}
	want := strings.Fields(c.want)
	if len(said) != len(want) {
		t.Errorf("%s: told of %q, want %q", name, said, want)
		return
	}
	for i := range said { // newest first: pairs of action and target
		pair := len(want) - 2 - i + 2*(i%2)
		if star := strings.TrimSuffix(want[pair], "*"); said[i] != want[pair] && (star == want[pair] || !strings.HasPrefix(said[i], star)) {
			t.Errorf("%s: told of %q, want %q", name, said, want)
			return
		}
	}
}
