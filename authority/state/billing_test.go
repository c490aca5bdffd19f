package state

import (
	"bytes"
	"fmt"
	"testing"

	"machineid/authority/state/statepb"
)

// TestBillingStates: what each of Stripe's statuses means for an org.
func TestBillingStates(t *testing.T) {
	n := seeded(t)
	n.do(setPlans(3, "free", "pro")) // 3 days of grace
	revision := uint64(0)
	say := func(ms int64, status statepb.Subscription_Status, change func(*statepb.Subscription)) Outcome {
		t.Helper()
		s := sub("sub_1", "pro", status)
		if change != nil {
			change(s)
		}
		out := n.do(at(ms, setBilling(0, revision, fmt.Sprint("evt_", revision), s)))
		revision++
		return out
	}
	want := func(p Plan, tier string, state PlanState) {
		t.Helper()
		if p.Tier != tier || p.State != state {
			t.Errorf("the plan is %s and %v, want %s and %v", p.Tier, p.State, tier, state)
		}
	}
	later := func(ms int64) Plan { return must(n.reader().Plan(must(n.reader().Org(orgs[0]))(t), ms))(t) }

	want(say(start, statepb.Subscription_TRIALING, nil).Plan, "pro", PlanActive)
	want(say(start, statepb.Subscription_ACTIVE, nil).Plan, "pro", PlanActive)
	want(say(start+1, statepb.Subscription_PAST_DUE, nil).Plan, "pro", PlanGrace)
	// The grace runs from the first time, whatever comes in between.
	want(say(start+day, statepb.Subscription_UNPAID, nil).Plan, "pro", PlanIsFrozen)
	want(say(start+2*day, statepb.Subscription_PAST_DUE, nil).Plan, "pro", PlanGrace)
	want(later(start+3*day), "pro", PlanGrace)
	want(later(start+3*day+1), "pro", PlanIsFrozen)
	want(say(start+4*day, statepb.Subscription_ACTIVE, nil).Plan, "pro", PlanActive)
	want(say(start+4*day, statepb.Subscription_PAUSED, nil).Plan, "pro", PlanIsFrozen)
	want(say(start+4*day, statepb.Subscription_ACTIVE, func(s *statepb.Subscription) { s.CancelAtPeriodEnd, s.PeriodEndMs = true, start+5*day }).Plan, "pro", PlanActive)
	want(later(start+5*day-1), "pro", PlanActive)
	want(later(start+5*day), "free", PlanActive)
	want(say(start+4*day, statepb.Subscription_ACTIVE, nil).Plan, "pro", PlanActive) // taken back
	if p := later(start + 50*day); p.Tier != "pro" || p.Limit != 25 {
		t.Errorf("without an end the plan is %+v", p)
	}
	want(say(start+6*day, statepb.Subscription_CANCELED, nil).Plan, "free", PlanActive)
	if err := check(n.reader()); err != nil {
		t.Error(err)
	}
}

// TestBillingKeepsApart: an operator's hold and tier, and billing's, are not each other's.
func TestBillingKeepsApart(t *testing.T) {
	n := seeded(t)
	n.do(setPlan(0, func(c *statepb.UpdateOrg) { c.Held = new(true) }))
	if p := n.do(setBilling(0, 0, "evt_1", sub("sub_1", "pro", statepb.Subscription_ACTIVE))).Plan; p.State != PlanIsFrozen || p.Tier != "pro" {
		t.Errorf("held and paid: %+v", p)
	}
	if p := n.do(setPlan(0, func(c *statepb.UpdateOrg) { c.Held = new(false) })).Plan; p.State != PlanActive {
		t.Errorf("paid: %+v", p)
	}
	n.do(setBilling(0, 1, "evt_2", sub("sub_1", "pro", statepb.Subscription_UNPAID)))
	if p := n.do(setPlan(0, func(c *statepb.UpdateOrg) { c.Held = new(false) })).Plan; p.State != PlanIsFrozen {
		t.Errorf("unpaid: %+v", p)
	}
}

// TestBillingRefuses: what must not be applied is not, and says why.
func TestBillingRefuses(t *testing.T) {
	n := seeded(t)
	active := sub("sub_1", "pro", statepb.Subscription_ACTIVE)
	n.do(setBilling(0, 0, "evt_1", active))
	before := n.dump()
	for _, c := range []struct {
		name string
		cmd  *statepb.Command
		want Refusal
	}{
		{"fetched before another", setBilling(0, 0, "evt_2", sub("sub_1", "pro", statepb.Subscription_UNPAID)), BillingMoved},
		{"fetched after none", setBilling(0, 2, "evt_2", active), BillingMoved},
		{"a tier that is none", setBilling(0, 1, "evt_2", sub("sub_1", "gold", statepb.Subscription_ACTIVE)), TierUnknown},
		{"no org", setBilling(neverMade, 0, "evt_2", active), OrgNotFound},
		{"another's customer", func() *statepb.Command {
			c := setBilling(1, 0, "evt_2", active)
			c.GetSetBilling().CustomerId = "cus_0"
			return c
		}(), CustomerTaken},
		{"another customer", func() *statepb.Command {
			c := setBilling(0, 1, "evt_2", active)
			c.GetSetBilling().CustomerId = "cus_9"
			return c
		}(), CustomerTaken},
	} {
		if out := n.do(c.cmd); out.Refusal != c.want || out.Changed {
			t.Errorf("%s: %+v, want %v", c.name, out, c.want)
		}
	}
	if out := n.do(setBilling(0, 1, "evt_1", sub("sub_1", "pro", statepb.Subscription_UNPAID))); !out.Existed || out.Changed {
		t.Errorf("an event that was applied: %+v", out)
	}
	if now := n.dump(); withoutMark(now) != withoutMark(before) {
		t.Errorf("something was changed:\n%s\n%s", before, now)
	}
	// The end of a subscription that is not the org's, beside one that is alive.
	if out := n.do(setBilling(0, 1, "evt_3", sub("sub_0", "pro", statepb.Subscription_CANCELED))); out.Changed || out.Plan.Tier != "pro" {
		t.Errorf("another's end: %+v", out)
	}
	if out := n.do(setBilling(0, 2, "evt_4", sub("sub_1", "pro", statepb.Subscription_CANCELED))); !out.Changed || out.Plan.Tier != "free" {
		t.Errorf("its end: %+v", out)
	}
	if out := n.do(setBilling(0, 3, "evt_5", sub("sub_2", "pro", statepb.Subscription_ACTIVE))); !out.Changed || out.Plan.Tier != "pro" {
		t.Errorf("another begins: %+v", out)
	}
}

// withoutMark is a dump but for the line that every command changes.
func withoutMark(dump string) string {
	var keep []byte
	for line := range bytes.Lines([]byte(dump)) {
		if !bytes.HasPrefix(line, fmt.Appendf(nil, "%x ", markKey)) {
			keep = append(keep, line...)
		}
	}
	return string(keep)
}

// TestBillingForgetsEvents: what is kept of events is bounded.
func TestBillingForgetsEvents(t *testing.T) {
	n := seeded(t)
	for i := range eventsMax + 10 {
		n.do(setBilling(0, uint64(i), fmt.Sprint("evt_", i), nil))
	}
	b := must(n.reader().Billing(orgs[0]))(t)
	if got := b.GetEventIds(); len(got) != eventsMax || got[0] != "evt_10" {
		t.Errorf("kept %v", got)
	}
	if list, more, err := n.reader().Customers(OrgID{}, 1); err != nil || more || len(list) != 1 || list[0] != orgs[0] {
		t.Errorf("customers: %v, %t, %v", list, more, err)
	}
}

// TestBillingGoesWithItsOrg: a deleted org leaves nothing, and its customer to nobody.
func TestBillingGoesWithItsOrg(t *testing.T) {
	n := seeded(t)
	n.do(setBilling(0, 0, "evt_1", sub("sub_1", "pro", statepb.Subscription_ACTIVE)))
	n.do(deleteOrg(0))
	if b, org := must(n.reader().Billing(orgs[0]))(t), must(n.reader().OrgOfCustomer("cus_0"))(t); b != nil || org != (OrgID{}) {
		t.Errorf("left: %v, %v", b, org)
	}
	if out := n.do(setBilling(0, 1, "evt_2", sub("sub_1", "pro", statepb.Subscription_ACTIVE))); out.Refusal != OrgNotFound {
		t.Errorf("an event of a deleted org: %+v", out)
	}
	if err := check(n.reader()); err != nil {
		t.Error(err)
	}
}

func beginRecovery(org int, token byte) *statepb.Command {
	return &statepb.Command{TimeMs: start, Change: &statepb.Command_BeginRecovery{
		BeginRecovery: &statepb.BeginRecovery{OrgId: orgs[org][:], TokenHash: bytes.Repeat([]byte{token}, 32), TtlSeconds: 900},
	}}
}

func recoverBy(org int, token byte, key int) *statepb.Command {
	return &statepb.Command{TimeMs: start, Change: &statepb.Command_Recover{
		Recover: &statepb.Recover{OrgId: orgs[org][:], TokenHash: bytes.Repeat([]byte{token}, 32), Key: keyOf(org, key, statepb.Key_NONE)},
	}}
}

// TestRecovery: a token is good once, for its time, for its org, and makes an admin key.
func TestRecovery(t *testing.T) {
	n := seeded(t)
	if out := n.do(beginRecovery(0, 1)); out.Refusal != NoCustomer {
		t.Errorf("an org that never paid: %+v", out)
	}
	n.do(setBilling(0, 0, "evt_1", nil))
	n.do(setBilling(1, 0, "evt_1", nil))
	if out := n.do(beginRecovery(0, 1)); !out.Changed {
		t.Fatalf("begun: %+v", out)
	}
	for name, cmd := range map[string]*statepb.Command{
		"another token": recoverBy(0, 2, 2), "another org": recoverBy(1, 1, 2), "no org": recoverBy(neverMade, 1, 2),
	} {
		if out := n.do(cmd); out.Refusal != TokenUnknown || out.Key != nil {
			t.Errorf("%s: %+v", name, out)
		}
	}
	out := n.do(at(start+899_999, recoverBy(0, 1, 2)))
	if out.Refusal != Granted || out.Key.GetScope() != statepb.Key_ADMIN || out.Key.GetKeyId() == "" {
		t.Fatalf("recovered: %+v", out)
	}
	if out := n.do(recoverBy(0, 1, 3)); out.Refusal != TokenUnknown {
		t.Errorf("twice: %+v", out)
	}
	n.do(beginRecovery(0, 4))
	if out := n.do(at(start+899_999+900_000, recoverBy(0, 4, 3))); out.Refusal != TokenUnknown {
		t.Errorf("too late: %+v", out)
	}
	for i := range byte(5) {
		n.do(beginRecovery(0, 10+i))
	}
	if out := n.do(recoverBy(0, 11, 3)); out.Refusal != TokenUnknown {
		t.Errorf("one of too many: %+v", out)
	}
	if out := n.do(recoverBy(0, 14, 3)); out.Refusal != Granted {
		t.Errorf("the newest: %+v", out)
	}
	if err := check(n.reader()); err != nil {
		t.Error(err)
	}
}
