package state

import (
	"slices"

	"machineid/authority/state/statepb"
)

// bill is what Stripe's word does to an org.
func (m *model) bill(c *statepb.SetBilling) result {
	id := OrgID(c.GetOrgId())
	o, s := m.orgs[id], c.GetSubscription()
	if o == nil {
		return result{refusal: OrgNotFound}
	}
	gone := s.GetStatus() == statepb.Subscription_CANCELED || s.GetStatus() == statepb.Subscription_INCOMPLETE_EXPIRED
	_, sold := m.plans[s.GetTier()]
	taken := o.customer != "" && o.customer != c.GetCustomerId()
	for other, rec := range m.orgs {
		taken = taken || other != id && rec.customer == c.GetCustomerId()
	}
	switch {
	case slices.Contains(o.events, c.GetEventId()):
		return result{existed: true}
	case c.GetRevision() != o.revision:
		return result{refusal: BillingMoved}
	case c.GetCustomerId() != "" && taken:
		return result{refusal: CustomerTaken}
	case s != nil && !gone && !sold:
		return result{refusal: TierUnknown}
	}
	was := *o
	if c.GetCustomerId() != "" {
		o.customer = c.GetCustomerId()
	}
	if s != nil && (!gone || o.sub == "" || o.subID == s.GetId() || o.subEnded) {
		o.sub, o.subID, o.subEnded = string(encode(s)), s.GetId(), gone
		m.pay(o, s, gone)
	}
	changed := was.customer != o.customer || was.sub != o.sub || was.unpaid != o.unpaid || was.grace != o.grace || was.paid != o.paid || was.paidEnd != o.paidEnd
	if changed || c.GetEventId() != "" {
		o.revision++
	}
	if c.GetEventId() != "" {
		o.events = append(o.events, c.GetEventId())
	}
	return result{changed: changed}
}

func (m *model) pay(o *modelOrg, s *statepb.Subscription, gone bool) {
	if gone {
		o.unpaid, o.grace, o.paid, o.paidEnd = false, 0, "", 0
		return
	}
	o.paid, o.paidEnd = s.GetTier(), s.GetCancelAtMs()
	if o.paidEnd == 0 && s.GetCancelAtPeriodEnd() {
		o.paidEnd = s.GetPeriodEndMs()
	}
	switch s.GetStatus() {
	case statepb.Subscription_PAST_DUE:
		o.unpaid = false
		if o.grace == 0 {
			o.grace = m.now + int64(m.graceDays)*day
		}
	case statepb.Subscription_UNPAID, statepb.Subscription_PAUSED:
		o.unpaid = true
	default:
		o.unpaid, o.grace = false, 0
	}
}
