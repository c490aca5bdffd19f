package state

import (
	"bytes"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"google.golang.org/protobuf/proto"

	"machineid/authority/state/statepb"
	"machineid/raftstore"
)

// tx is the application of one command. A failed read or write of the batch is
// a fault of the disk, not of the command: it panics and ends the process.
//
// Records that decisions depend on are written by changeOrg, changeKey and
// changeOccupant only. Each emits before it looks, so that a command that finds
// nothing to change makes its caller wait like the one that did (I2).
type tx struct {
	m    *Machine
	w    *pebble.Batch
	r    Reader
	at   raftstore.Position
	cmd  *statepb.Command
	now  int64
	emit *emission
}

func (t *tx) set(key, value []byte) { t.must(t.w.Set(key, value, nil)) }
func (t *tx) del(key []byte)        { t.must(t.w.Delete(key, nil)) }

func (t *tx) put(key []byte, m proto.Message) {
	// Deterministic: the same command makes the same bytes on every node.
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	t.must(err)
	t.set(key, b)
}

func (t *tx) must(err error) {
	if err != nil {
		panic(fmt.Errorf("apply index %d: %w", t.at.Index, err))
	}
}

// read takes a value that Apply cannot do without.
func read[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func (t *tx) concern(c Concern) { t.emit.concerns = append(t.emit.concerns, c) }

// org reads an org. It does not concern its holders: what it counts is in Seats.
func (t *tx) org(id OrgID) *statepb.Org { return read(t.r.Org(id)) }

// changeOrg lets change edit the org, which is nil if there is none, and return
// what is to stand there.
func (t *tx) changeOrg(id OrgID, change func(*statepb.Org) *statepb.Org) (*statepb.Org, bool) {
	t.concern(Concern{Kind: ConcernHolder, Org: id})
	old := t.org(id)
	next := change(clone(old))
	if next == nil || proto.Equal(old, next) {
		return old, false
	}
	t.put(orgKey(id), next)
	return next, true
}

// changeKey is changeOrg for a key.
func (t *tx) changeKey(hash [32]byte, change func(*statepb.Key) *statepb.Key) (*statepb.Key, bool) {
	t.concern(Concern{Kind: ConcernKey, Key: hash})
	old := read(t.r.Key(hash))
	next := change(clone(old))
	if next == nil || proto.Equal(old, next) {
		return old, false
	}
	t.put(keyKey(hash[:]), next)
	t.set(orgKeyKey(OrgID(next.OrgId), next.KeyId), hash[:])
	return next, true
}

// changeOccupant is changeOrg for an occupant; a nil result removes it. It also
// keeps the indexes and the seats, so that no command can miscount.
func (t *tx) changeOccupant(holder OrgID, id string, change func(*statepb.Occupant) *statepb.Occupant) (*statepb.Occupant, bool) {
	t.concern(Concern{Kind: ConcernOccupant, Org: holder, Occupant: id})
	old := read(t.r.Occupant(holder, id))
	next := change(clone(old))
	if (old == nil && next == nil) || (old != nil && next != nil && proto.Equal(old, next)) {
		return old, false
	}
	seats := read(t.r.Seats(holder))
	before := proto.CloneOf(seats)
	if old != nil {
		*count(seats, old)--
		if old.ExpiresAtMs != 0 {
			seats.Ending--
			t.del(timedKey(prefixByEnd, holder, old.ExpiresAtMs, id))
		}
		if next == nil || next.CreatedAtMs != old.CreatedAtMs {
			t.del(timedKey(prefixByAge, holder, old.CreatedAtMs, id))
		}
	}
	if next != nil {
		*count(seats, next)++
		t.put(occupantKey(holder, id), next)
		if old == nil || next.CreatedAtMs != old.CreatedAtMs {
			t.set(timedKey(prefixByAge, holder, next.CreatedAtMs, id), nil)
		}
		if next.ExpiresAtMs != 0 {
			seats.Ending++
			active := []byte{1}
			if next.RevokedAtMs != 0 {
				active[0] = 0
			}
			t.set(timedKey(prefixByEnd, holder, next.ExpiresAtMs, id), active)
		}
	} else {
		t.del(occupantKey(holder, id))
	}
	if !proto.Equal(before, seats) {
		t.put(seatsKey(holder), seats)
	}
	return next, true
}

// count is the counter that an occupant stands in.
func count(s *statepb.Seats, o *statepb.Occupant) *uint32 {
	if o.RevokedAtMs != 0 {
		return &s.Revoked
	}
	return &s.Active
}

func clone[T interface {
	comparable
	proto.Message
}](m T) T {
	var none T
	if m == none {
		return none
	}
	return proto.CloneOf(m)
}

// plan tells how the org's plan stands, expired devices not counted.
func (t *tx) plan(org *statepb.Org) Plan {
	used := read(t.r.Used(OrgID(org.Id), t.now))
	return planOf(org, t.m.plans, used, t.now)
}

// sweepMax bounds what one command clears away.
const sweepMax = 500

// sweep removes devices that have ended, at most sweepMax. Counts do not need
// it (Used leaves them out); it keeps them from piling up.
func (t *tx) sweep(holder OrgID) {
	if read(t.r.Seats(holder)).Ending == 0 {
		return
	}
	ended := read(t.r.ended(holder, t.now, sweepMax))
	for _, id := range ended {
		t.changeOccupant(holder, id, func(*statepb.Occupant) *statepb.Occupant { return nil })
	}
}

// setMeta replaces what a caller gave and leaves the rest.
func setMeta(d *statepb.Occupant, r *statepb.Register, now int64) {
	if r.Name != nil {
		d.Name = *r.Name
	}
	if r.Metadata != nil && !bytes.Equal(d.Metadata, r.Metadata) {
		d.Metadata = bytes.Clone(r.Metadata)
	}
	if r.TtlSeconds != nil {
		d.ExpiresAtMs = now + *r.TtlSeconds*1000
	}
}
