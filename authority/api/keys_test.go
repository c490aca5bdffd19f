package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/raftstore"
	"machineid/shared/orgkey"
)

// validates is the code that a key gets for a device.
func (n *node) validates(key, id string) string {
	n.t.Helper()
	return n.with(key, "POST", "devices/validate", device(id)).want(200).field("code")
}

// listed is an org's keys by their ids.
func (n *node) listed(o *org) map[string]map[string]any {
	n.t.Helper()
	var answer struct {
		Keys []map[string]any `json:"keys"`
	}
	if err := json.Unmarshal([]byte(n.with(o.admin, "GET", "org/keys", "").want(200).raw), &answer); err != nil {
		n.t.Fatal(err)
	}
	keys := map[string]map[string]any{}
	for _, k := range answer.Keys {
		keys[fmt.Sprint(k["keyId"])] = k
	}
	return keys
}

func idOf(key string) string { return key[4:12] }

// TestKeys walks a key from its making to its end, for each way in which it may end.
func TestKeys(t *testing.T) {
	n := start(t)
	o := n.org()
	n.with(o.agent, "POST", "devices/register", device("d")).want(200)

	a := n.with(o.admin, "POST", "org/keys", `{"name":"the <first>","scope":"validate","expiresAt":"2026-09-21T15:13:20Z"}`).want(200,
		`"status":"ok"`, `"name":"the <first>","scope":"validate"`, `"expiresAt":"2026-09-21T15:13:20.000Z"`, `"propagation":{`)
	first := a.field("orgApiKey")
	if a.field("keyId") != idOf(first) || n.validates(first, "d") != "ALLOW" {
		t.Fatalf("%s", a.raw)
	}
	n.with(first, "POST", "devices/register", device("d")).want(403, "insufficient_scope")
	k := n.listed(o)[idOf(first)]
	if k["name"] != "the <first>" || k["scope"] != "validate" || k["revokedAt"] != nil || k["lastUsedAt"] != nil || len(n.listed(o)) != 3 {
		t.Fatalf("listed as %v", k)
	}
	n.now.Add(3600_000 - 1)
	if code := n.validates(first, "d"); code != "ALLOW" {
		t.Errorf("before its end: %s", code)
	}
	n.now.Add(1)
	if code := n.validates(first, "d"); code != "ORG_NOT_FOUND" {
		t.Errorf("at its end: %s", code)
	}
	n.with(o.admin, "POST", "org/keys/rotate", `{"keyId":"`+idOf(first)+`"}`).want(404, "key_not_found")

	// A rotation: both are in force during the grace.
	a = n.with(o.admin, "POST", "org/keys/rotate", `{"keyId":"`+idOf(o.agent)+`","graceSeconds":60}`).want(200, `"scope":"agent"`, `"replaced":{"keyId":"`+idOf(o.agent)+`"`)
	second := a.field("orgApiKey")
	for _, key := range []string{o.agent, second} {
		n.with(key, "POST", "devices/register", device("d")).want(200, `"exists"`)
	}
	n.now.Add(60_000)
	n.with(o.agent, "POST", "devices/register", device("d")).want(404, "org_not_found")
	n.with(second, "POST", "devices/register", device("d")).want(200)
	// Without a grace, at once; the caller's own by default, which the next call shows.
	a = n.with(o.admin, "POST", "org/keys/rotate", `{"graceSeconds":0}`).want(200, `"scope":"admin"`)
	n.with(o.admin, "GET", "org", "").want(404)
	o.admin = a.field("orgApiKey")
	n.with(o.admin, "GET", "org", "").want(200)

	// Revoked: at once, and once.
	revoke := func(key string) *answer {
		return n.with(o.admin, "POST", "org/keys/revoke", `{"keyId":"`+idOf(key)+`"}`)
	}
	revoke(second).want(200, `"keyId":"`+idOf(second)+`","revoked":true,"changed":true,"propagation":{`)
	revoke(second).want(200, `"changed":false`)
	if code := n.validates(second, "d"); code != "ORG_NOT_FOUND" {
		t.Errorf("revoked: %s", code)
	}
	before := n.hub.settled.Load()
	revoke(o.admin).want(409, `"status":"error","error":"last_admin_key"`)
	if waits := n.hub.settled.Load() - before; waits != 1 {
		t.Errorf("the refusal waited for %d, want the changes of the org that it was refused by", waits)
	}
	other := n.with(o.admin, "POST", "org/keys", `{"scope":"admin"}`).want(200).field("orgApiKey")
	revoke(o.admin).want(200) // its own, while there is another
	n.with(o.admin, "GET", "org", "").want(404)
	n.with(other, "GET", "org", "").want(200)

	// Another org's keys are out of reach.
	stranger := n.org()
	n.with(stranger.admin, "POST", "org/keys/revoke", `{"keyId":"`+idOf(other)+`"}`).want(404, "key_not_found")
	n.with(stranger.admin, "POST", "org/keys/rotate", `{"keyId":"`+idOf(other)+`"}`).want(404, "key_not_found")
	if strings.Contains(fmt.Sprint(n.changes()), "org_") {
		t.Errorf("a secret is told: %v", n.changes())
	}
}

// TestKeyLimit: fifty in force, however many are dead, of which a hundred stay listed.
func TestKeyLimit(t *testing.T) {
	n := start(t)
	o := n.org()
	for range state.KeysMax - 2 {
		n.with(o.admin, "POST", "org/keys", `{"scope":"agent"}`).want(200)
	}
	n.with(o.admin, "POST", "org/keys", `{"scope":"agent"}`).want(409, `"error":"key_limit_reached"`)
	n.with(o.admin, "POST", "org/keys/rotate", `{"graceSeconds":60}`).want(409, "key_limit_reached")
	for range 120 {
		a := n.with(o.admin, "POST", "org/keys/rotate", `{"graceSeconds":0}`).want(200)
		o.admin = a.field("orgApiKey")
		n.now.Add(1000)
	}
	dead := 0
	for _, k := range n.listed(o) {
		if k["expiresAt"] != nil {
			dead++
		}
	}
	if all := len(n.listed(o)); all-dead != state.KeysMax || dead < 100 || dead > 101 {
		t.Errorf("%d keys, %d of them dead", all, dead)
	}
}

// TestSecretsAreShownOnce: who asks again for a key is told its id, and gets no other.
func TestSecretsAreShownOnce(t *testing.T) {
	n := start(t)
	o := n.org()
	for path, body := range map[string]string{"org/keys": `{"scope":"agent"}`, "org/keys/rotate": `{"keyId":"` + idOf(o.agent) + `"}`} {
		first := n.with(o.admin, "POST", path, body, once(path)).want(200)
		before := len(n.listed(o))
		a := n.with(o.admin, "POST", path, body, once(path)).want(http.StatusConflict, `"error":"secret_already_shown"`, `"keyId":"`+first.field("keyId")+`"`)
		if !replayed(a) || len(n.listed(o)) != before {
			t.Errorf("%s: %v, and %d keys, before %d", path, a.Header, len(n.listed(o)), before)
		}
		if strings.Contains(a.raw, first.field("orgApiKey")) {
			t.Errorf("shown again: %s", a.raw)
		}
	}
	// The answer is lost after the key was made: its id is found again.
	n.store.fail(func(ctx context.Context) (state.Outcome, error) {
		raw, err := proto.Marshal(n.store.lastCommand())
		if err == nil {
			_, err = n.store.Store.Propose(ctx, raw)
		}
		if err != nil {
			return state.Outcome{}, err
		}
		return state.Outcome{}, raftstore.ErrOutcomeUnknown
	}, nil)
	n.with(o.admin, "POST", "org/keys", `{"scope":"validate"}`, once("lost")).want(503, `"outcome":"unknown"`, "cannot be shown any more")
	n.store.fail(nil, nil)
	a := n.with(o.admin, "POST", "org/keys", `{"scope":"validate"}`, once("lost")).want(409, "secret_already_shown")
	if k := n.listed(o)[a.field("keyId")]; k["scope"] != "validate" {
		t.Errorf("%s names %v", a.raw, k)
	}
	// A refusal holds no secret.
	last := `{"keyId":"` + idOf(o.admin) + `"}`
	for range 2 {
		n.with(o.admin, "POST", "org/keys/revoke", last, once("last")).want(409, "last_admin_key")
	}
}

// TestKeysWithoutWaiting: who prefers not to wait is told so, also by calls that would wait for more than their own change.
func TestKeysWithoutWaiting(t *testing.T) {
	n := start(t)
	o := n.org()
	_, open := n.hub.shut()
	defer open()
	for path, body := range map[string]string{
		"org/keys": `{"scope":"agent"}`, "devices/revoke_batch": `{"scope":"all_active"}`, "org/keys/revoke": `{"keyId":"` + idOf(o.agent) + `"}`,
	} {
		n.with(o.admin, "POST", path, body, "Prefer: respond-async").want(http.StatusAccepted, `"propagation":{"pending":true,"index":`)
	}
}

// TestLastUsed: every call with a key that is in force notes its use, validates too; lists show what was recorded.
func TestLastUsed(t *testing.T) {
	n := start(t)
	o := n.org()
	n.hub.lastUsed("")
	for _, c := range []struct {
		key, method, path, body string
		used                    bool
	}{
		{o.agent, "POST", "devices/register", device("d"), true},
		{o.agent, "POST", "devices/revoke", device("d"), true}, // its scope does not reach, and it is a use of it
		{o.agent, "POST", "devices/validate", device("d"), true},
		{o.agent, "POST", "devices/validate", device("nobody"), true},
		{o.agent, "POST", "devices/validate_batch", `{"deviceIds":["d"]}`, true},
		{o.admin, "GET", "org", "", true},
		{unknownKey, "GET", "org", "", false},
		{unknownKey, "POST", "devices/validate", device("d"), false},
		{unknownKey, "POST", "devices/validate_batch", `{"deviceIds":["d"]}`, false},
		{o.agent, "POST", "devices/validate", `{}`, false}, // not looked at
	} {
		n.now.Add(1000)
		n.with(c.key, c.method, c.path, c.body)
		if at := n.hub.lastUsed(c.key); (at == n.now.Load()) != c.used || at != 0 && !c.used {
			t.Errorf("%s %s with %.12s: used at %d", c.method, c.path, c.key, at)
		}
	}
	if used := n.listed(o)[idOf(o.agent)]["lastUsedAt"]; used != nil {
		t.Errorf("lastUsedAt is %v before it was recorded", used)
	}
	hash := orgkey.Sum([]byte(o.agent))
	n.propose(&statepb.Command{TimeMs: n.now.Load(), Change: &statepb.Command_SetSeen{SetSeen: &statepb.SetSeen{
		Keys: []*statepb.Used{{KeyHash: hash[:], AtMs: startMs + 5000}},
	}}})
	if used := n.listed(o)[idOf(o.agent)]["lastUsedAt"]; used != "2026-09-21T14:13:25.000Z" {
		t.Errorf("lastUsedAt is %v", used)
	}
	n.with(o.admin, "GET", "org/export", "").want(200, `"lastUsedAt":"2026-09-21T14:13:25.000Z"`)
}
