package state

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"machineid/authority/state/statepb"
)

const (
	// keepDeadKeys is how long the keys of a deleted org are kept, revoked: who shows one
	// is then known to ask about that org, and waits for its deletion. Milliseconds.
	keepDeadKeys = int64(24 * 3600 * 1000)
	// tidyMax bounds what an entry of the log clears away of deleted orgs, and tidyFirst what the
	// deletion itself does.
	tidyMax   = 32
	tidyFirst = 500
)

// orgDebris are the ranges of what belongs to one org and to no decision once it is gone.
// Occupants go first: what is reported of one that is not there leaves nothing behind.
var orgDebris = []byte{prefixOccupant, prefixSeen, prefixByAge, prefixByEnd, prefixRevoked, prefixSeats, prefixOnce, prefixOnceAge, prefixOnceOf, prefixShareAge, prefixShareOf, prefixWritten}

// remnant is a deleted org that has left something.
type remnant struct {
	id   OrgID
	last auditID // its last entry in the audit, which stays
	// Cleared away are the ranges of orgDebris before this one, and this one before from; its trail comes behind them all.
	ranges int
	from   []byte // nil: the range's beginning
	// devices are those that may be left.
	devices uint32
}

// begin returns where the range that begins at key holds anything.
func (r *remnant) begin(key []byte) []byte {
	if r.from != nil {
		return r.from
	}
	return key
}

// Debris is what is left of deleted orgs.
type Debris struct {
	// Orgs are deleted orgs that have left anything. Devices are those of theirs that are left, at most: after a restart all that an org had count.
	Orgs, Devices uint64
	// Removed counts the records that were cleared away since the start.
	Removed uint64
}

// Debris tells what is left of deleted orgs. Safe for concurrent use.
func (m *Machine) Debris() Debris {
	if d := m.debris.Load(); d != nil {
		return *d
	}
	return Debris{}
}

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
	t.audit(ring.id, "org.deleted", ring.id.String(), orgSettings(ring.org, nil)...)
	t.set(goneKey(ring.id), last.append(nil)) // what the trail holds before is cleared away
	t.set(goneKeysKey(t.now, ring.id), nil)
	devices, err := t.r.devices(ring.id)
	t.must(err)
	t.m.gone = insertGone(t.m.gone, &remnant{id: ring.id, last: last, devices: devices})
	t.m.tidyAt = 0
	t.tidy(tidyFirst)
	return Outcome{Changed: true, Org: ring.org}
}

// insertGone keeps the list in the order of ids.
func insertGone(list []*remnant, g *remnant) []*remnant {
	i, _ := slices.BinarySearchFunc(list, g, func(a, b *remnant) int { return bytes.Compare(a.id[:], b.id[:]) })
	return slices.Insert(list, i, g)
}

// tidy clears away what deleted orgs have left, at most so many records. Nothing depends on when.
func (t *tx) tidy(most int) {
	if t.m.tidyAt > t.now {
		return
	}
	left := most
	for left > 0 && len(t.m.gone) > 0 {
		org := t.m.gone[0]
		if left = t.clear(org, left); left > 0 {
			t.del(goneKey(org.id))
			t.m.gone = slices.Delete(t.m.gone, 0, 1)
		}
	}
	t.m.tellDebris(most - left)
	if left > 0 {
		t.m.tidyAt = t.dropDeadKeys()
	}
}

// clear removes the debris of one org and returns how many records more may be removed: none, if it is not done.
func (t *tx) clear(org *remnant, most int) int {
	for ; org.ranges < len(orgDebris); org.ranges, org.from = org.ranges+1, nil {
		for _, debris := range t.debris(org, most) {
			t.del(debris)
			most, org.from = most-1, debris
			if org.ranges == 0 && org.devices > 0 {
				org.devices--
			}
		}
		if most == 0 {
			return 0
		}
	}
	for _, k := range t.some(org.begin(orgAuditKey(org.id, auditID{})), orgAuditKey(org.id, org.last), most) {
		id := k[len(k)-auditIDSize:]
		a := auditID{binary.BigEndian.Uint64(id), binary.BigEndian.Uint16(id[8:])}
		t.del(auditKey(a))
		t.del(orgAuditKey(org.id, a))
		most, org.from = most-1, k
	}
	return most
}

// debris lists what is left in the range that is being cleared, at most so many.
func (t *tx) debris(org *remnant, most int) [][]byte {
	kind := orgDebris[org.ranges]
	begin := holderKey(kind, org.id, "")
	if kind == prefixSeats || kind == prefixOnceOf { // one key: a scan would pass all that it ever was
		found, err := t.r.has(begin)
		t.must(err)
		if !found || most == 0 {
			return nil
		}
		return [][]byte{begin}
	}
	return t.some(org.begin(begin), after(begin), most)
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

// dropDeadKeys drops the keys of orgs that were deleted long enough ago, at most of a few and tidyMax, and returns when there is more to do.
func (t *tx) dropDeadKeys() (next int64) {
	left := tidyMax
	for range forgetMax {
		at, org, found, err := t.r.goneKeys(t.m.heads.of(prefixGoneKeys))
		t.must(err)
		switch {
		case !found:
			return math.MaxInt64
		case at > t.now-keepDeadKeys:
			return at + keepDeadKeys
		}
		if t.org(org) == nil { // else there is such an org again
			ring := slices.Clone(t.ring(org))
			for _, k := range ring[:min(len(ring), left)] {
				t.dropKey(org, &statepb.Key{Hash: k.hash[:], KeyId: k.id})
			}
			if left -= len(ring); left < 0 {
				return 0
			}
			t.m.recent.keepRing(org, nil)
		}
		t.del(goneKeysKey(at, org))
		t.m.heads.passed(goneKeysKey(at, org))
	}
	return 0
}

// gone lists the deleted orgs that have left something, in the order of their ids.
func (r Reader) gone() (list []*remnant, err error) {
	err = r.scan([]byte{prefixGone}, after([]byte{prefixGone}), func(k, v []byte) (bool, error) {
		if len(k) != 1+len(OrgID{}) || len(v) != auditIDSize {
			return false, fmt.Errorf("a deleted org has %d bytes, and %d of its trail", len(k), len(v))
		}
		g := &remnant{id: OrgID(k[1:]), last: auditID{binary.BigEndian.Uint64(v), binary.BigEndian.Uint16(v[8:])}}
		list = append(list, g)
		return true, nil
	})
	for _, g := range list {
		if err == nil {
			g.devices, err = r.devices(g.id)
		}
	}
	return list, err
}

// devices counts what an org has, or had before its debris was begun with.
func (r Reader) devices(org OrgID) (uint32, error) {
	seats, err := r.Seats(org)
	return seats.GetActive() + seats.GetRevoked(), err
}

// goneKeys returns the org that was deleted first of those whose keys are kept, and when. There is none before from.
func (r Reader) goneKeys(from []byte) (at int64, org OrgID, found bool, err error) {
	err = r.scan(from, after([]byte{prefixGoneKeys}), func(k, _ []byte) (bool, error) {
		if found = len(k) == 1+8+len(org); found {
			at, org = int64(binary.BigEndian.Uint64(k[1:])), OrgID(k[9:])
		}
		return false, nil
	})
	return at, org, found, err
}
