package api_test

import (
	"crypto/rand"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/google/uuid"

	"machineid/authority/api"
	"machineid/authority/billing/stripetest"
	"machineid/authority/recovery"
	"machineid/authority/state/statepb"
	"machineid/shared/wire"
)

// plausible is a body that every call can read, as far as one can be.
func plausible(r *wire.Route, o *org) string {
	token := make([]byte, 48)
	copy(token, o.id[:])
	_, _ = rand.Read(token[16:])
	scope, ids := `"scope":"admin",`, ""
	if strings.HasSuffix(r.Path, "_batch") {
		scope, ids = "", `"deviceIds":["on","nobody"],`
	}
	return `{"deviceId":"on",` + ids + scope + `"enabled":false,"version":1,"confirm":"` + o.id.String() + `","email":"a@example.com","keyId":"AAAAAAAA","plan":"max",` +
		`"planTier":"max","hold":true,"plans":[{"planTier":"free","limit":9},{"planTier":"max","limit":9}],"graceDays":7,"id":"a3","address":"h3:7072","to":"a2",` +
		`"token":"` + base64.RawURLEncoding.EncodeToString(token) + `"}`
}

// TestNothingIsProposedBeforeAProof: no call without a valid credential makes the log grow, whatever it shows, and no answer to it says that a credential is good: the edge
// believes that (wire.Route.Judges).
func TestNothingIsProposedBeforeAProof(t *testing.T) {
	for name, signup := range map[string]option{
		"closed": func(*api.Config) {}, "full": func(c *api.Config) { c.OpenSignup, c.MaxOrgs = true, 1 },
	} {
		t.Run(name, func(t *testing.T) {
			var n *node
			n = start(t, withStripe(stripetest.New(t)), signup, func(c *api.Config) {
				c.Nodes, c.Recover = &fakeNodes{}, func(string, recovery.Asker) {}
				c.Orgs = func() uint64 { return n.machine.Orgs() }
			})
			n.held = nil // bodies of this test are nobody's
			o := n.org()
			n.with(o.admin, "POST", "devices/register", device("on")).want(200)
			n.do("POST", "org/create", "{}").want(403) // where orgs are counted they are counted now
			revoked := n.key(o, statepb.Key_ADMIN, func(k *statepb.Key) { k.RevokedAtMs = startMs })
			ended := n.key(o, statepb.Key_ADMIN, func(k *statepb.Key) { k.ExpiresAtMs = startMs })
			const wrong = "Authorization: Bearer another-token-of-more-than-32-characters"
			strangers := map[string][]string{
				"nothing": nil, "an unknown key": {"x-org-key: " + unknownKey}, "a malformed key": {"x-org-key: " + malformedKey},
				"a revoked key": {"x-org-key: " + revoked}, "an ended key": {"x-org-key: " + ended},
				"a wrong token": {wrong}, "a wrong token for an org": {wrong, "X-MachineID-Org: " + o.id.String()},
				"a wrong token for no org":            {wrong, "X-MachineID-Org: " + uuid.NewString()},
				"an unknown key beside a wrong token": {"x-org-key: " + unknownKey, wrong, "X-MachineID-Org: " + o.id.String()},
				"a name":                              {"x-org-key: " + unknownKey, "Idempotency-Key: i"}, "a forged signature": {"Stripe-Signature: t=1,v1=" + strings.Repeat("0", 64)},
			}
			for _, r := range wire.Routes() {
				for _, m := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
					if !r.Allows([]byte(m)) {
						continue
					}
					path, body := strings.Replace(r.Path, "*", o.id.String(), 1), plausible(r, o)
					if m == "GET" {
						path, body = path+"?deviceId=on&index=1", ""
					}
					for what, headers := range strangers {
						before := n.store.Status().LastIndex
						a := n.do(m, path, body, headers...)
						if after := n.store.Status().LastIndex; after != before {
							t.Errorf("%s %s with %s: the log grew from %d to %d: HTTP %d %s", m, r.Path, what, before, after, a.StatusCode, a.raw)
						}
						token := r.Operator || strings.HasPrefix(what, "a wrong token")
						if r.Judges(a.StatusCode, []byte(a.raw), token) == wire.Good {
							t.Errorf("%s %s with %s: counts as proof: HTTP %d %s", m, r.Path, what, a.StatusCode, a.raw)
						}
					}
				}
			}
		})
	}
}

// TestWhatIsRefusedDoesNotGrowTheLog: nor does a valid credential by what is plainly refused. A refusal that a caller named is remembered, so it is proposed, once.
func TestWhatIsRefusedDoesNotGrowTheLog(t *testing.T) {
	n := start(t)
	o, frozen := n.sized(2), n.org()
	for _, id := range []string{"on", "off"} {
		n.with(o.admin, "POST", "devices/register", device(id)).want(200)
		n.with(frozen.admin, "POST", "devices/register", device(id)).want(200)
	}
	n.with(o.admin, "POST", "devices/revoke", device("off")).want(200)
	n.with(o.admin, "POST", "devices/register", `{"deviceId":"short","ttlSeconds":1}`).want(200)
	n.with(frozen.admin, "POST", "devices/revoke", device("off")).want(200)
	n.editOrg(frozen, func(r *statepb.Org) { r.Held = true })
	operator := "Authorization: Bearer " + operatorToken
	full := n.org()
	for range 48 {
		n.with(full.admin, "POST", "org/keys", `{"scope":"validate"}`).want(200)
	}
	for _, c := range []struct {
		key, method, path, body string
		status                  int
		code                    string
	}{
		{o.agent, "POST", "devices/register", device("third"), 403, "device_limit_reached"},
		{o.agent, "POST", "devices/register", device("off"), 403, "device_revoked"},
		{o.agent, "POST", "devices/revoke", device("on"), 403, "insufficient_scope"},
		{o.admin, "POST", "devices/unrevoke", device("off"), 403, "device_limit_reached"},
		{o.admin, "POST", "devices/unrevoke", device("nobody"), 404, "device_not_found"},
		{o.admin, "POST", "devices/revoke", device("nobody"), 404, "device_not_found"},
		{o.admin, "POST", "devices/remove", device("nobody"), 404, "device_not_found"},
		{o.admin, "POST", "org/keys/revoke", `{"keyId":"AAAAAAAA"}`, 404, "key_not_found"},
		{o.admin, "POST", "org/keys/revoke", `{"keyId":"` + idOf(o.admin) + `"}`, 409, "last_admin_key"},
		{o.admin, "POST", "org/keys/rotate", `{"keyId":"AAAAAAAA"}`, 404, "key_not_found"},
		{full.admin, "POST", "org/keys", `{"scope":"agent"}`, 409, "key_limit_reached"},
		{frozen.agent, "POST", "devices/register", device("third"), 403, "plan_frozen"},
		{frozen.admin, "POST", "devices/unrevoke", device("off"), 403, "plan_frozen"},
		{frozen.admin, "POST", "devices/unrevoke_batch", `{"deviceIds":["off"]}`, 403, "plan_frozen"},
		{frozen.admin, "POST", "devices/unrevoke_batch", `{"scope":"all_revoked"}`, 403, "plan_frozen"},
		{frozen.admin, "POST", "org/delete", `{"confirm":"x"}`, 400, "missing_params"},
		{"", "POST", "operator/orgs", `{"planTier":"gold"}`, 400, "missing_params"},
		{"", "PATCH", "operator/orgs/" + o.id.String(), `{"planTier":"gold"}`, 400, "missing_params"},
		{"", "PATCH", "operator/orgs/" + uuid.NewString(), `{"hold":true}`, 404, "org_not_found"},
		{"", "DELETE", "operator/orgs/" + uuid.NewString(), ``, 404, "org_not_found"},
		{"", "PUT", "operator/plans", `{"plans":[{"planTier":"free","limit":4}],"graceDays":7}`, 409, "refused"},
	} {
		headers := []string{"x-org-key: " + c.key}
		if c.key == "" {
			headers = []string{operator}
		}
		before := n.store.Status().LastIndex
		a := n.do(c.method, c.path, c.body, headers...)
		if after := n.store.Status().LastIndex; after != before || a.StatusCode != c.status || a.field("error") != c.code {
			t.Errorf("%s %s %s: HTTP %d %s, want %d %s; the log grew from %d to %d", c.method, c.path, c.body, a.StatusCode, a.raw, c.status, c.code, before, after)
		}
	}
	// What is told beside a refusal is exact: a seat that was given back by its end is free.
	n.now.Add(1000)
	n.with(o.agent, "POST", "devices/register", device("third")).want(200, `"devicesUsed":2`)
	for _, grows := range []uint64{1, 1} { // remembered, and asked for again
		before := n.store.Status().LastIndex
		n.with(o.agent, "POST", "devices/register", device("fourth"), "Idempotency-Key: a").want(403, "device_limit_reached")
		if after := n.store.Status().LastIndex; after != before+grows {
			t.Errorf("a refusal with a name: the log grew from %d to %d", before, after)
		}
	}
	before := n.store.Status().LastIndex
	n.with(o.agent, "POST", "devices/register", device("fifth"), "Idempotency-Key: a").want(409, "idempotency_mismatch")
	if after := n.store.Status().LastIndex; after != before {
		t.Errorf("another request by the same name: the log grew from %d to %d", before, after)
	}
}

// TestWhatRacesIsDecidedWhereItIsApplied: an old view that refuses is not believed, and one that grants decides nothing.
func TestWhatRacesIsDecidedWhereItIsApplied(t *testing.T) {
	n := start(t)
	o := n.sized(1)
	catchUp := n.store.lag(t)
	n.with(o.agent, "POST", "devices/register", device("a")).want(200)
	n.with(o.agent, "POST", "devices/register", device("b")).want(403, "device_limit_reached") // the view has room
	n.with(o.admin, "POST", "devices/revoke", device("a")).want(200)                           // the view knows no such device
	catchUp()
	n.with(o.agent, "POST", "devices/register", device("b")).want(200)
}
