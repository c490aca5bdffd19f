package state

import (
	"bytes"
	"slices"

	"machineid/authority/state/statepb"
)

// recoveriesMax is how many tokens of an org are good at once; the oldest go first.
const recoveriesMax = 3

// beginRecovery notes a token that is to be mailed. Only an org that pays has an
// address that Stripe knows.
func (t *tx) beginRecovery(c *statepb.BeginRecovery) Outcome {
	h := t.holder(c.GetOrgId())
	if h.org == nil {
		return Outcome{Refusal: OrgNotFound}
	}
	out := Outcome{Org: h.org, Plan: t.plan(h)}
	old := t.billing(h.id)
	switch {
	case old.GetCustomerId() == "":
		out.Refusal = NoCustomer
		return out
	case len(c.GetTokenHash()) != len([32]byte{}):
		out.Refusal = TokenUnknown
		return out
	}
	next := clone(old)
	next.Recoveries = t.recoveries(next)
	next.Recoveries = append(next.Recoveries, &statepb.Recovery{TokenHash: c.GetTokenHash(), EndsMs: endOf(t.now, c.GetTtlSeconds())})
	next.Recoveries = next.Recoveries[max(0, len(next.Recoveries)-recoveriesMax):]
	t.putBilling(h.id, old, next)
	t.audit(h.id, "org.recovery_begun", h.id.String(), Setting("expiresAt", nil, moment(endOf(t.now, c.GetTtlSeconds()))))
	out.Changed = true
	return out
}

// recoveries are those that have not ended.
func (t *tx) recoveries(b *statepb.Billing) []*statepb.Recovery {
	return slices.DeleteFunc(b.GetRecoveries(), func(r *statepb.Recovery) bool { return r.GetEndsMs() <= t.now })
}

// recovery finds the one of a token that has not ended, or is -1.
func (t *tx) recovery(b *statepb.Billing, tokenHash []byte) int {
	return slices.IndexFunc(b.GetRecoveries(), func(r *statepb.Recovery) bool {
		return r.GetEndsMs() > t.now && bytes.Equal(r.GetTokenHash(), tokenHash)
	})
}

// recover gives an org a new admin key for a token, which is gone then. The other
// keys stay.
func (t *tx) recover(c *statepb.Recover) Outcome {
	ring := t.keyring(c.GetOrgId())
	old := t.billing(ring.id)
	next := clone(old)
	if next != nil {
		next.Recoveries = t.recoveries(next)
	}
	i := t.recovery(next, c.GetTokenHash())
	if ring.org == nil || i < 0 {
		return Outcome{Refusal: TokenUnknown, Org: ring.org}
	}
	key := c.GetKey()
	if key != nil {
		key.Scope = statepb.Key_ADMIN
	}
	out := t.giveKey(ring, key, nil, 0)
	if out.Refusal == Granted {
		next.Recoveries = slices.Delete(next.GetRecoveries(), i, i+1)
		t.putBilling(ring.id, old, next)
	}
	return out
}
