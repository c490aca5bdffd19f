package state

import (
	"cmp"
	"slices"

	"google.golang.org/protobuf/proto"

	"machineid/authority/state/statepb"
	"machineid/shared/decision"
)

// eventsMax is how many event ids of an org are kept. An event that comes again after
// so many others does no harm: what is applied is what Stripe says now, not what the event
// says.
const eventsMax = 64

const graceDay = int64(24 * 3600) // seconds

// setBilling takes what Stripe says of an org. Who fetched it had read the state
// before, and the revision says which: so of two that were fetched at once the older can
// never be applied after the newer (S14).
func (t *tx) setBilling(c *statepb.SetBilling) Outcome {
	id := idOf(c.GetOrgId())
	old := t.billing(id)
	existed := c.GetEventId() != "" && slices.Contains(old.GetEventIds(), c.GetEventId())
	next, refusal := t.billed(id, c, old)
	was := t.org(id)
	org, paid := t.changeOrg(id, func(org *statepb.Org) *statepb.Org {
		switch {
		case org == nil:
			refusal = OrgNotFound
			return nil
		case existed || refusal != Granted:
			return nil
		}
		if s := c.GetSubscription(); s != nil && s == next.GetSubscription() { // else it was not the org's
			t.pay(org, next.GetSubscription())
		}
		return org
	})
	switch {
	case org == nil:
		return Outcome{Refusal: OrgNotFound}
	case existed:
		return Outcome{Existed: true, Org: org, Plan: t.plan(t.seated(id, org))}
	case refusal != Granted:
		return Outcome{Refusal: refusal, Org: org, Plan: t.plan(t.seated(id, org))}
	}
	changed := paid || next.GetCustomerId() != old.GetCustomerId() || !proto.Equal(old.GetSubscription(), next.GetSubscription())
	if changed || c.GetEventId() != "" {
		t.putBilling(id, old, next)
	}
	if changed {
		t.audit(id, "billing.changed", cmp.Or(next.GetSubscription().GetId(), t.named(next.GetCustomerId())), billingSettings(was, org, old, next)...)
	}
	return Outcome{Changed: changed, Org: org, Plan: t.plan(t.seated(id, org))}
}

// billed is the record as the command leaves it.
func (t *tx) billed(id OrgID, c *statepb.SetBilling, old *statepb.Billing) (*statepb.Billing, Refusal) {
	next := clone(old)
	if next == nil {
		next = &statepb.Billing{}
	}
	if c.GetRevision() != old.GetRevision() {
		return next, BillingMoved
	}
	if customer := c.GetCustomerId(); customer != "" {
		owner, err := t.r.OrgOfCustomer(customer)
		t.must(err)
		if old.GetCustomerId() != "" && old.GetCustomerId() != customer || owner != (OrgID{}) && owner != id {
			return next, CustomerTaken
		}
		next.CustomerId = customer
	}
	if s := c.GetSubscription(); s != nil {
		if !ended(s) && !hasTier(t.m.plans, s.GetTier()) {
			return next, TierUnknown
		}
		// The end of one that is not the org's takes nothing from it.
		if was := old.GetSubscription(); !ended(s) || was == nil || was.GetId() == s.GetId() || ended(was) {
			next.Subscription = s
		}
	}
	next.Revision = old.GetRevision() + 1
	if e := c.GetEventId(); e != "" {
		next.EventIds = append(next.EventIds, e)
		next.EventIds = next.EventIds[max(0, len(next.EventIds)-eventsMax):]
	}
	return next, Granted
}

// ended reports whether a subscription pays for nothing any more.
func ended(s *statepb.Subscription) bool {
	return s.GetStatus() == statepb.Subscription_CANCELED || s.GetStatus() == statepb.Subscription_INCOMPLETE_EXPIRED
}

// pay makes an org's plan what its subscription pays for.
func (t *tx) pay(org *statepb.Org, s *statepb.Subscription) {
	switch s.GetStatus() {
	case statepb.Subscription_ACTIVE, statepb.Subscription_TRIALING:
		org.Unpaid, org.GraceUntilMs = false, 0
	case statepb.Subscription_PAST_DUE:
		org.Unpaid = false
		if org.GraceUntilMs == 0 { // else it is running, or over
			org.GraceUntilMs = endOf(t.now, int64(t.m.plans.GetGraceDays())*graceDay)
		}
	case statepb.Subscription_UNPAID, statepb.Subscription_PAUSED:
		org.Unpaid = true
	case statepb.Subscription_CANCELED, statepb.Subscription_INCOMPLETE_EXPIRED:
		org.Unpaid, org.GraceUntilMs, org.PaidTier, org.PaidUntilMs = false, 0, "", 0
		return
	case statepb.Subscription_NONE:
		return
	}
	org.PaidTier, org.PaidUntilMs = s.GetTier(), EndOfPaid(s)
}

// EndOfPaid is when a subscription ends because it was cancelled, 0 if it was not.
func EndOfPaid(s *statepb.Subscription) decision.Millis {
	switch {
	case s.GetCancelAtMs() > 0:
		return s.GetCancelAtMs()
	case s.GetCancelAtPeriodEnd():
		return max(s.GetPeriodEndMs(), 0)
	}
	return 0
}

// tierOf is the tier that an org is in at now: the one that is paid for, else the one
// that it was given.
func tierOf(o *statepb.Org, now decision.Millis) string {
	if o.GetPaidTier() != "" && (o.GetPaidUntilMs() == 0 || now < o.GetPaidUntilMs()) {
		return o.GetPaidTier()
	}
	return o.GetPlanTier()
}

func (t *tx) billing(id OrgID) *statepb.Billing {
	b, err := t.r.Billing(id)
	t.must(err)
	return b
}

// putBilling writes an org's record and whose customer it is. No edge holds either.
func (t *tx) putBilling(id OrgID, old, next *statepb.Billing) {
	t.put(billingKey(id), next)
	if customer := next.GetCustomerId(); customer != old.GetCustomerId() {
		t.set(customerKey(customer), id[:])
	}
}

// dropBilling forgets what is known of a deleted org's payments. Stripe is not told: it knows no commands.
func (t *tx) dropBilling(id OrgID) {
	old := t.billing(id)
	if old == nil {
		return
	}
	t.del(billingKey(id))
	if old.GetCustomerId() != "" {
		t.del(customerKey(old.GetCustomerId()))
	}
}

// Billing returns what is known of an org's payments, nil if nothing is.
func (r Reader) Billing(id OrgID) (*statepb.Billing, error) {
	return get[statepb.Billing](r, billingKey(id))
}

// OrgOfCustomer returns the org that Stripe bills a customer for, zero if there is none.
func (r Reader) OrgOfCustomer(customer string) (id OrgID, err error) {
	_, err = r.read(customerKey(customer), func(v []byte) error {
		id = idOf(v)
		return nil
	})
	return id, err
}

// Customers lists orgs that have a customer at Stripe, in the order of their ids, from
// after the given one, at most limit, and whether more follow.
func (r Reader) Customers(from OrgID, limit int) (list []OrgID, more bool, err error) {
	start := append(billingKey(from), 0)
	if from == (OrgID{}) {
		start = []byte{prefixBilling}
	}
	err = r.scan(start, after([]byte{prefixBilling}), func(k, v []byte) (bool, error) {
		var b statepb.Billing
		if err := proto.Unmarshal(v, &b); err != nil {
			return false, err
		}
		if b.GetCustomerId() == "" {
			return true, nil
		}
		if more = len(list) == limit; more {
			return false, nil
		}
		list = append(list, idOf(k[1:]))
		return true, nil
	})
	return list, more, err
}
