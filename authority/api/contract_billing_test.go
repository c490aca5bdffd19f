package api_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"slices"
	"testing"

	"machineid/authority/api"
	"machineid/authority/billing"
	"machineid/authority/billing/stripetest"
	"machineid/authority/state/statepb"
	"machineid/raftstore"
)

// TestBillingAnswers holds each kind of answer of billing's calls, of recovery's and of the operator's to the document, and shows that what
// is wrong with one is found.
func TestBillingAnswers(t *testing.T) {
	s := stripetest.New(t)
	n := selling(t, s)
	n.held.all = true
	o, sub := n.payer(s)
	n.with(o.admin, "GET", "billing/summary", "").want(200, `"ok":true`)
	n.with(o.admin, "POST", "billing/portal", "").want(200, `"ok":true`)
	free := n.org()
	n.with(free.admin, "POST", "billing/portal", "").want(200, "no_subscription")
	n.with(free.admin, "POST", "billing/checkout", `{"plan":"gold"}`).want(200, "unknown_plan")
	n.with(free.admin, "POST", "billing/checkout", `{}`).want(400, `"ok":false`)
	n.with(free.agent, "POST", "billing/checkout", `{"plan":"max"}`).want(403, `"ok":false`)
	n.with(unknownKey, "GET", "billing/summary", "").want(404, `"ok":false`)
	n.with("org_no", "GET", "billing/summary", "").want(401, `"ok":false`)

	s.Change(sub, func(x *stripetest.Subscription) { x.Status = "past_due" })
	for _, event := range s.Events() {
		n.hook(event).want(200, `"propagation"`)
	}
	n.hook([]byte(`{"id":"evt_1","object":"event","type":"charge.succeeded","data":{"object":{}}}`)).want(200, `"ignored":true`)
	n.do("POST", "webhooks/stripe", `{}`, "Stripe-Signature: none").want(400, "invalid_signature")

	s.Change(sub, func(x *stripetest.Subscription) { x.Status = "unpaid" })
	s.Events() // lost
	n.operate("POST", "billing/sync", `{"limit":1}`).want(200, `"had"`)
	n.operate("POST", "billing/sync", `{"limit":101}`).want(400, `"param":"limit"`)

	event := []byte(`{"id":"evt_2","object":"event","type":"customer.subscription.updated","data":{"object":{"id":"` + sub + `","object":"subscription"}}}`)
	s.Fail(500)
	n.with(o.admin, "POST", "billing/portal", "").want(503, "stripe_unavailable")
	n.hook(event).want(503, "stripe_unavailable")
	n.operate("POST", "billing/sync", "").want(503, "stripe_unavailable")
	s.Fail(0)
	n.store.fail(nil, func(context.Context) error { return raftstore.ErrNoLeader })
	n.with(o.admin, "GET", "billing/summary", "").want(503, "system_unavailable", `"ok":false`)
	n.hook(event).want(503, "system_unavailable", `"ok":false`)
	n.store.fail(nil, nil)

	n.do("POST", "org/recover", `{"email":"a@example.com"}`).want(202)
	n.do("POST", "org/recover", `{}`).want(400, `"param":"email"`)
	n.do("POST", "org/recover/confirm", `{"token":"x"}`).want(401, "invalid_token")
	n.do("POST", "org/recover/confirm", `{}`).want(400, `"param":"token"`)
	n.do("POST", "org/recover/confirm", `{"token":"`+n.recover(o, 1)+`"}`).want(200, `"name":"recovered"`, `"scope":"admin"`)
	n.do("POST", "org/recover/confirm", `{"token":"`+n.recover(o, 2)+`"}`, "Prefer: respond-async").want(202, `"pending":true`)
	n.held.mutate(t)

	bare := start(t, func(a *api.Config) { a.Billing = billing.New(billing.Config{}) })
	bare.held.all = true
	bare.do("POST", "webhooks/stripe", `{}`).want(503, "not_configured")
	bare.operate("POST", "billing/sync", "").want(409, "refused")
	bare.with(bare.org().admin, "POST", "billing/checkout", `{"plan":"max"}`).want(200, "not_configured")
	bare.held.mutate(t)
}

// recover has a token for the org made, as if it had been mailed.
func (n *node) recover(o *org, secret byte) (token string) {
	n.t.Helper()
	raw := slices.Concat(o.id[:], bytes.Repeat([]byte{secret}, 32))
	hash := sha256.Sum256(raw)
	n.propose(&statepb.Command{TimeMs: n.now.Load(), Change: &statepb.Command_BeginRecovery{
		BeginRecovery: &statepb.BeginRecovery{OrgId: o.id[:], TokenHash: hash[:], TtlSeconds: 900},
	}})
	return base64.RawURLEncoding.EncodeToString(raw)
}
