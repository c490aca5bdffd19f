package state

import (
	"encoding/binary"
	"math"

	"machineid/authority/state/statepb"
)

const (
	// keepDeadKeys is how long the keys of a deleted org are kept, revoked: who shows one
	// is then known to ask about that org, and waits for its deletion. Milliseconds.
	keepDeadKeys = int64(24 * 3600 * 1000)
	// tidyMax bounds what a command clears away of deleted orgs, and tidyFirst what the
	// deletion itself does.
	tidyMax   = 32
	tidyFirst = 500
)

// orgDebris are the ranges of what belongs to one org and to no decision once it is gone.
// Occupants go first: what is reported of one that is not there leaves nothing behind.
var orgDebris = []byte{prefixOccupant, prefixSeen, prefixByAge, prefixByEnd, prefixRevoked, prefixSeats, prefixOnce, prefixOnceAge, prefixOnceOf}

// deleteOrg takes an org away: its record and its keys at once, which ends every decision for it, and the rest
// bit by bit with the commands that follow.
func (t *tx) deleteOrg(c *statepb.DeleteOrg) Outcome {
	ring := t.keyring(c.GetOrgId())
	if ring.org == nil {
		return Outcome{Refusal: OrgNotFound}
	}
	for _, k := range ring.keys {
		t.changeKey(ring.id, [32]byte(k.GetHash()), func(k *statepb.Key) *statepb.Key {
			if k.GetRevokedAtMs() == 0 {
				k.RevokedAtMs = t.now
			}
			return k
		})
	}
	t.dropOrg(ring.id)
	t.dropBilling(ring.id)
	last := auditID{t.at.Index, t.emit.audits}
	t.audit(ring.id, "org.deleted", ring.id.String())
	t.set(goneKey(ring.id), last.append(nil)) // what the trail holds before is cleared away
	t.set(goneKeysKey(t.now, ring.id), nil)
	t.m.tidyAt = 0
	t.tidy(tidyFirst)
	return Outcome{Changed: true, Org: ring.org}
}

// tidy clears away what deleted orgs have left, at most so many records. Nothing depends on when.
func (t *tx) tidy(most int) {
	if t.m.tidyAt > t.now {
		return
	}
	for most > 0 {
		org, last, found, err := t.r.gone()
		t.must(err)
		if !found {
			break
		}
		if most = t.clear(org, last, most); most > 0 {
			t.del(goneKey(org))
		}
	}
	if most > 0 {
		t.m.tidyAt = t.dropDeadKeys()
	}
}

// clear removes the debris of one org and returns how many records more may be removed: none, if it is not done.
func (t *tx) clear(org OrgID, last auditID, most int) int {
	for _, prefix := range orgDebris {
		for _, debris := range t.some(holderKey(prefix, org, ""), after(holderKey(prefix, org, "")), most) {
			t.del(debris)
			most--
		}
	}
	for _, k := range t.some(orgAuditKey(org, auditID{}), orgAuditKey(org, last), most) {
		id := k[len(k)-auditIDSize:]
		a := auditID{binary.BigEndian.Uint64(id), binary.BigEndian.Uint16(id[8:])}
		t.del(auditKey(a))
		t.del(orgAuditKey(org, a))
		most--
	}
	return most
}

// some lists keys of a range, at most so many.
func (t *tx) some(from, to []byte, most int) (keys [][]byte) {
	if most <= 0 {
		return nil
	}
	t.must(t.r.scan(from, to, func(k, _ []byte) (bool, error) {
		keys = append(keys, append([]byte(nil), k...))
		return len(keys) < most, nil
	}))
	return keys
}

// dropDeadKeys drops the keys of orgs that were deleted long enough ago, at most of a few, and returns when there is more to do.
func (t *tx) dropDeadKeys() (next int64) {
	for range forgetMax {
		at, org, found, err := t.r.goneKeys()
		t.must(err)
		switch {
		case !found:
			return math.MaxInt64
		case at > t.now-keepDeadKeys:
			return at + keepDeadKeys
		}
		t.del(goneKeysKey(at, org))
		if t.org(org) != nil {
			continue // there is such an org again
		}
		keys, err := t.r.Keys(org)
		t.must(err)
		for _, k := range keys {
			t.dropKey(org, k)
		}
	}
	return 0
}

// gone returns a deleted org that has left something, and its last entry in the audit.
func (r Reader) gone() (org OrgID, last auditID, found bool, err error) {
	err = r.scan([]byte{prefixGone}, after([]byte{prefixGone}), func(k, v []byte) (bool, error) {
		if found = len(k) == 1+len(org) && len(v) == auditIDSize; found {
			org = OrgID(k[1:])
			last = auditID{binary.BigEndian.Uint64(v), binary.BigEndian.Uint16(v[8:])}
		}
		return false, nil
	})
	return org, last, found, err
}

// goneKeys returns the org that was deleted first of those whose keys are kept, and when.
func (r Reader) goneKeys() (at int64, org OrgID, found bool, err error) {
	err = r.scan([]byte{prefixGoneKeys}, after([]byte{prefixGoneKeys}), func(k, _ []byte) (bool, error) {
		if found = len(k) == 1+8+len(org); found {
			at, org = int64(binary.BigEndian.Uint64(k[1:])), OrgID(k[9:]) //nolint:gosec // written by goneKeysKey
		}
		return false, nil
	})
	return at, org, found, err
}
