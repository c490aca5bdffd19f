package state

import (
	"encoding/binary"
	"fmt"

	"machineid/authority/state/statepb"
	"machineid/shared/decision"
)

// setSeen records when occupants asked last (I10). It is apart from their records: no
// decision reads it, so nobody is told of it, and it never goes back. Those that are
// not there leave nothing behind, whatever an edge says.
func (t *tx) setSeen(c *statepb.SetSeen) Outcome {
	changed := false
	for _, of := range c.GetOrgs() {
		org, times := idOf(of.GetOrgId()), of.GetAtMs()
		for i, id := range of.GetDeviceIds() {
			if i == len(times) {
				break
			}
			o := t.occupant(org, id)
			at := min(times[i], t.now)
			if !Stands(o, t.now) || at < o.GetCreatedAtMs() {
				continue
			}
			last, err := t.r.LastSeen(org, id)
			t.must(err)
			if at > last {
				t.set(seenKey(org, id), binary.BigEndian.AppendUint64(nil, uint64(at)))
				changed = true
			}
		}
	}
	for _, used := range c.GetKeys() {
		changed = t.setUsed(used) || changed
	}
	return Outcome{Changed: changed}
}

// setUsed records when a key was used last. It was in force then, or nothing is left behind.
func (t *tx) setUsed(used *statepb.Used) (changed bool) {
	if len(used.GetKeyHash()) != 32 {
		return false
	}
	hash := [32]byte(used.GetKeyHash())
	k, at := t.key(hash), min(used.GetAtMs(), t.now)
	ended := func(end int64) bool { return end != 0 && at >= end }
	if k == nil || at < k.GetCreatedAtMs() || ended(k.GetRevokedAtMs()) || ended(k.GetExpiresAtMs()) {
		return false
	}
	last, err := t.r.LastUsed(hash)
	t.must(err)
	if at <= last {
		return false
	}
	t.set(usedKey(hash), binary.BigEndian.AppendUint64(nil, uint64(at)))
	return true
}

// forgetSeen drops what is known of an occupant that makes way for next: nobody, or
// another of the same id. It is a part of changeOccupant.
func (t *tx) forgetSeen(holder OrgID, id string, old, next *statepb.Occupant) {
	if old != nil && old.GetCreatedAtMs() != next.GetCreatedAtMs() {
		t.del(seenKey(holder, id))
	}
}

// LastSeen is when an occupant asked last, as far as edges have reported, 0 if never.
func (r Reader) LastSeen(holder OrgID, id string) (at decision.Millis, err error) {
	return r.timeAt(seenKey(holder, id))
}

// LastUsed is when a key was used last, as far as edges have reported, 0 if never.
func (r Reader) LastUsed(hash [32]byte) (at decision.Millis, err error) {
	return r.timeAt(usedKey(hash))
}

func (r Reader) timeAt(key []byte) (at decision.Millis, err error) {
	_, err = r.read(key, func(v []byte) error {
		if len(v) != 8 {
			return fmt.Errorf("it has %d bytes", len(v))
		}
		at = int64(binary.BigEndian.Uint64(v))
		return nil
	})
	return at, err
}
