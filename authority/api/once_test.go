package api_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/raftstore"
)

func once(key string) string { return "Idempotency-Key: " + key }

func replayed(a *answer) bool { return a.Header.Get("Idempotency-Replayed") == "true" }

// same is what two answers must have in common: all but their request id and what each waited for.
func same(a *answer) string {
	kept := map[string]any{}
	for name, v := range a.body {
		if name != "request_id" && name != "propagation" {
			kept[name] = v
		}
	}
	return fmt.Sprint(a.StatusCode, kept)
}

// TestIdempotencyKey: what was decided once is answered again, whatever happened since, and only to the one who asked.
func TestIdempotencyKey(t *testing.T) {
	n := start(t)
	o, other := n.sized(2), n.sized(2)
	second := n.key(o, statepb.Key_ADMIN, nil)
	for _, id := range []string{"a", "b"} {
		n.with(o.agent, "POST", "devices/register", device(id)).want(200)
	}
	for _, c := range []struct {
		name, path, body string
		undo             func()
	}{
		{"revoke", "devices/revoke", device("a"), func() { n.with(o.admin, "POST", "devices/unrevoke", device("a")).want(200) }},
		{"full", "devices/register", device("c"), func() { n.with(o.admin, "POST", "devices/revoke", device("b")).want(200) }},
		{"register", "devices/register", `{"deviceId":"c","name":"first","metadata":{"a":1}}`, func() {
			n.with(o.admin, "POST", "devices/register", `{"deviceId":"c","name":"later","ttlSeconds":5}`).want(200)
		}},
		{"exists", "devices/register", device("a"), func() { n.with(o.admin, "POST", "devices/revoke", device("a")).want(200) }},
		{"revoked", "devices/register", device("a"), func() { n.with(o.admin, "POST", "devices/remove", device("c")).want(200) }},
		{"nobody", "devices/revoke", device("c"), func() { n.with(o.admin, "POST", "devices/register", device("c")).want(200) }},
		{"unrevoke", "devices/unrevoke", device("a"), func() { n.with(o.admin, "POST", "devices/revoke", device("a")).want(200) }},
		{"remove", "devices/remove", device("a"), func() {}},
		{"switch", "org/execution", `{"enabled":false}`, func() { n.with(o.admin, "POST", "org/execution", `{"enabled":true}`).want(200) }},
	} {
		first := n.with(o.admin, "POST", c.path, c.body, once("key of "+c.name))
		if replayed(first) {
			t.Errorf("%s: the first is marked as a replay", c.name)
		}
		c.undo()
		before := len(n.changes())
		for range 2 {
			if again := n.with(o.admin, "POST", c.path, c.body, once("key of "+c.name)); same(again) != same(first) || !replayed(again) {
				t.Errorf("%s: again %s %v, the first was %s", c.name, again.raw, again.Header, first.raw)
			}
		}
		if got := n.changes(); len(got) != before {
			t.Errorf("%s: a replay is told as a change: %v", c.name, got[before:])
		}
	}

	a := n.with(o.admin, "POST", "devices/revoke", device("b"), once("key of revoke"))
	a.want(http.StatusConflict, "idempotency_mismatch", "Idempotency-Key")
	// Of another key, another org, another call.
	for _, other := range []*answer{
		n.with(second, "POST", "devices/revoke", device("a"), once("key of revoke")),
		n.with(other.admin, "POST", "devices/revoke", device("a"), once("key of revoke")),
		n.with(o.admin, "POST", "devices/unrevoke", device("a"), once("key of revoke")),
	} {
		if replayed(other) || other.StatusCode == http.StatusConflict {
			t.Errorf("it is the same request to another: %d %s", other.StatusCode, other.raw)
		}
	}
	n.now.Add(24 * 3600 * 1000)
	if a := n.with(o.admin, "POST", "devices/revoke", device("a"), once("key of revoke")); replayed(a) {
		t.Error("a replay after a day")
	}
}

// TestIdempotencyKeyOfTheOperator: what the operator does for an org is done once too, and apart from what the org's keys do.
func TestIdempotencyKeyOfTheOperator(t *testing.T) {
	n := start(t)
	o := n.sized(2)
	n.with(o.agent, "POST", "devices/register", device("a")).want(200)
	forOrg := func(path, body, key string) *answer {
		return n.do("POST", path, body, "Authorization: Bearer "+operatorToken, "X-MachineID-Org: "+o.id.String(), once(key))
	}
	n.with(o.admin, "POST", "devices/revoke", device("a"), once("k")).want(200)
	first := forOrg("devices/unrevoke", device("a"), "k")
	first.want(200, `"changed":true`)
	n.with(o.admin, "POST", "devices/revoke", device("a")).want(200)
	if late := forOrg("devices/unrevoke", device("a"), "k"); same(late) != same(first) || !replayed(late) {
		t.Errorf("what came late was answered %s", late.raw)
	}
	n.with(o.admin, "GET", "devices/get?deviceId=a", "").want(200, `"revoked":true`)
	forOrg("devices/unrevoke", device("b"), "k").want(http.StatusConflict, "idempotency_mismatch")
	made := forOrg("org/keys", `{"scope":"agent"}`, "a key")
	made.want(200)
	forOrg("org/keys", `{"scope":"agent"}`, "a key").want(http.StatusConflict, "secret_already_shown", made.field("keyId"))
}

// TestIdempotencyKeyForms: what is no key is refused before anything is done; where a key means nothing it is left alone.
func TestIdempotencyKeyForms(t *testing.T) {
	n := start(t)
	o := n.org()
	for key, status := range map[string]int{
		"a": 200, strings.Repeat("~", 255): 200, "with space !": 200,
		strings.Repeat("a", 256): 400, "ä": 400, "a\tb": 400,
	} {
		a := n.with(o.agent, "POST", "devices/register", device("a"), once(key))
		if a.StatusCode != status || (status == 400 && a.field("param") != "Idempotency-Key") {
			t.Errorf("%q: HTTP %d %s", key, a.StatusCode, a.raw)
		}
	}
	n.held = nil // for whom an empty header is none
	// Taken for none, an empty one would have its caller do things twice.
	for _, key := range []string{"", " ", "\t"} {
		n.with(o.agent, "POST", "devices/register", device("a"), once(key)).want(400, `"param":"Idempotency-Key"`)
	}
	n.with(o.agent, "POST", "devices/register", device("a"), once("a"), once("a")).want(400, "repeated")
	n.with(o.agent, "POST", "devices/validate", device("a"), once("ä")).want(200)
	n.with(o.admin, "GET", "devices/list", "", once("ä")).want(200)
	ids := []string{}
	for range 2 {
		a := n.do("POST", "org/create", "{}", "Authorization: Bearer "+operatorToken, once("org"))
		ids = append(ids, a.want(200).field("orgId"))
	}
	if ids[0] == ids[1] {
		t.Error("org/create is remembered")
	}
}

// TestUnknownThenAgain loses the answer of each change after it was committed: asking again under the same key gives the first
// result, as the contract's "unknown" promises.
func TestUnknownThenAgain(t *testing.T) {
	n := start(t)
	o := n.sized(5)
	lose := func(ctx context.Context) (state.Outcome, error) {
		raw, err := proto.Marshal(n.store.lastCommand())
		if err != nil {
			return state.Outcome{}, err
		}
		if _, err := n.store.Store.Propose(ctx, raw); err != nil {
			return state.Outcome{}, err
		}
		return state.Outcome{}, fmt.Errorf("%w: the answer is lost", raftstore.ErrOutcomeUnknown)
	}
	n.with(o.agent, "POST", "devices/register", device("a")).want(200)
	for _, c := range []struct{ path, body, part string }{
		{"devices/revoke", device("a"), `"changed":true`},
		{"devices/unrevoke", device("a"), `"changed":true`},
		{"devices/register", device("b"), `"status":"ok"`},
		{"devices/remove", device("a"), `"removed":true`},
		{"org/execution", `{"enabled":false}`, `"changed":true`},
		{"org/settings", `{"version":1}`, `"version":1,"changed":true`},
	} {
		n.store.fail(lose, nil)
		n.with(o.admin, "POST", c.path, c.body, once(c.path)).want(503, `"outcome":"unknown"`)
		n.store.fail(nil, nil)
		if a := n.with(o.admin, "POST", c.path, c.body, once(c.path)).want(200, c.part); !replayed(a) {
			t.Errorf("%s: it was done twice", c.path)
		}
	}
}

// TestKeyRevokedMeanwhile: a change that was admitted just before its own key was revoked does nothing once it is applied after.
func TestKeyRevokedMeanwhile(t *testing.T) {
	n := start(t)
	o := n.org()
	n.with(o.agent, "POST", "devices/register", device("a")).want(200)
	admin := n.key(o, statepb.Key_ADMIN, nil)
	n.store.fail(func(ctx context.Context) (state.Outcome, error) {
		cmd := n.store.lastCommand()
		rec := &statepb.Key{
			Hash: cmd.GetCaller().GetKeyHash(), KeyId: cmd.GetActor().GetId(), OrgId: o.id[:], Scope: statepb.Key_ADMIN, CreatedAtMs: startMs, RevokedAtMs: startMs,
		}
		n.edit(append([]byte{'k'}, rec.GetHash()...), rec)
		raw, err := proto.Marshal(cmd)
		if err != nil {
			return state.Outcome{}, err
		}
		res, err := n.store.Store.Propose(ctx, raw)
		if err != nil {
			return state.Outcome{}, err
		}
		out, _ := res.Outcome.(state.Outcome)
		return out, nil
	}, nil)
	n.with(admin, "POST", "devices/revoke", device("a"), once("k")).want(404, "org_not_found")
	n.store.fail(nil, nil)
	n.with(o.admin, "GET", "devices/get?deviceId=a", "").want(200, `"status":"active"`)
}

func (n *node) changes() []string {
	n.changedMu.Lock()
	defer n.changedMu.Unlock()
	return slices.Clone(n.changed)
}
