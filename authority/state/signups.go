package state

import (
	"encoding/binary"

	"machineid/authority/state/statepb"
)

// expireMax is how many sign-ups one command looks at.
const expireMax = 16

// countOrgs is how many orgs there are. Only a limit asks: it is counted once, and followed from then on.
func (t *tx) countOrgs() uint64 {
	if !t.m.recent.counted {
		n := uint64(0)
		t.must(t.r.scan([]byte{prefixOrg}, after([]byte{prefixOrg}), func(_, _ []byte) (bool, error) {
			n++
			return true, nil
		}))
		t.m.recent.counted, t.m.recent.count = true, n
	}
	return t.m.recent.count
}

// signedUp notes when an org was made by whoever wanted one.
func (t *tx) signedUp(id OrgID) { t.set(signupKey(t.now, id), nil) }

// expireSignups deletes orgs that were signed up before a time and have never had a device, and forgets of the others that they were
// signed up: at most a few of the oldest. What an operator or a payment has touched stays.
func (t *tx) expireSignups(c *statepb.ExpireSignups) Outcome {
	before := min(c.GetBeforeMs(), t.now)
	due := t.some(t.m.heads.of(prefixSignup), signupKey(max(before, 0), OrgID{}), expireMax)
	for _, k := range due {
		t.del(signupKey(signupOf(k)))
		t.m.heads.passed(k)
		if made, id := signupOf(k); t.idle(id, made) {
			t.deleteOrg(&statepb.DeleteOrg{OrgId: id[:]})
		}
	}
	return Outcome{Changed: len(due) > 0}
}

// idle tells whether nobody would miss the org that was made then: it never had a device, and is as it was made. The counters of one that had some stay.
func (t *tx) idle(id OrgID, made int64) bool {
	org := t.org(id)
	if org == nil || org.GetCreatedAtMs() != made || org.GetPlanTier() != FreeTier || org.GetPaidTier() != "" || org.GetHeld() || org.Limit != nil || org.GetAccessUntilMs() != 0 {
		return false
	}
	had, err := t.r.has(seatsKey(id))
	t.must(err)
	b, err := t.r.Billing(id)
	t.must(err)
	return !had && b.GetCustomerId() == ""
}

// SignupsBefore tells whether there are sign-ups that ExpireSignups has not looked at.
func (r Reader) SignupsBefore(ms int64) (found bool, err error) {
	err = r.scan([]byte{prefixSignup}, signupKey(max(ms, 0), OrgID{}), func(_, _ []byte) (bool, error) {
		found = true
		return false, nil
	})
	return found, err
}

func (r Reader) has(key []byte) (found bool, err error) {
	return r.read(key, func([]byte) error { return nil })
}

func signupKey(at int64, org OrgID) []byte {
	return append(binary.BigEndian.AppendUint64([]byte{prefixSignup}, uint64(at)), org[:]...)
}

// signupOf takes a signupKey apart.
func signupOf(k []byte) (at int64, org OrgID) {
	return int64(binary.BigEndian.Uint64(k[1:])), OrgID(k[9:])
}
