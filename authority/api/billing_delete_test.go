package api_test

import (
	"slices"
	"testing"

	"machineid/authority/billing/stripetest"
)

// TestDeleteAnOrgThatPays: it is not deleted while it would be charged again, unless who deletes it says what becomes of that.
func TestDeleteAnOrgThatPays(t *testing.T) {
	s := stripetest.New(t)
	n := selling(t, s)
	live := func(sub string) bool {
		return slices.ContainsFunc(s.Subscriptions(), func(x stripetest.Subscription) bool { return x.ID == sub })
	}
	drop := func(o *org, more string) *answer {
		return n.with(o.admin, "POST", "org/delete", `{"confirm":"`+o.id.String()+`"`+more+`}`)
	}
	o, sub := n.payer(s)
	n.with(o.admin, "POST", "org/delete", `{"confirm":"no","subscription":"cancel"}`).want(400, `"param":"confirm"`)
	drop(o, "").want(409, `"error":"refused"`, sub, "billing/portal")
	drop(o, `,"subscription":"leave"`).want(400, `"param":"subscription"`)
	drop(o, `,"subscription":"keep"`).want(400, `"param":"subscription"`)
	n.with(o.agent, "POST", "org/delete", `{"confirm":"`+o.id.String()+`","subscription":"cancel"}`).want(403)
	n.operate("DELETE", "orgs/"+o.id.String(), "").want(409, "refused", sub, "leave")
	s.Fail(500)
	drop(o, "").want(503, "stripe_unavailable")
	drop(o, `,"subscription":"cancel"`).want(503, "stripe_unavailable", `"outcome":"not_done"`)
	s.Fail(0)
	if !live(sub) {
		t.Fatal("what was refused has ended the subscription")
	}
	n.with(o.admin, "GET", "usage", "").want(200, `"planTier":"max"`)
	drop(o, `,"subscription":"cancel"`).want(200, `"deleted":true`)
	if live(sub) {
		t.Error("a deleted org goes on to pay")
	}
	for _, e := range s.Events() { // of its end, and of all that came before
		n.hook(e).want(200, `"ignored":true`)
	}
	// To the end of its period it has paid, and is not charged again.
	o, sub = n.payer(s)
	s.Change(sub, func(x *stripetest.Subscription) { x.CancelAtPeriodEnd = true })
	drop(o, "").want(200)
	// The operator's ways.
	o, sub = n.payer(s)
	n.operate("DELETE", "orgs/"+o.id.String(), `{"subscription":"keep"}`).want(400, `"param":"subscription"`)
	n.operate("DELETE", "orgs/"+o.id.String(), `{"subscription":"leave"}`).want(200)
	if !live(sub) {
		t.Error("what was to be left is gone")
	}
	o, sub = n.payer(s)
	n.operate("DELETE", "orgs/"+o.id.String(), `{"subscription":"cancel"}`).want(200)
	if live(sub) {
		t.Error("a deleted org goes on to pay")
	}
	// One that began to pay and did not: its checkout ends with it.
	o = n.org()
	url := n.with(o.admin, "POST", "billing/checkout", `{"plan":"max"}`).want(200).field("url")
	drop(o, "").want(200)
	if _, err := s.Pay(url); err == nil {
		t.Error("people can pay for an org that is gone")
	}
}
