package state

import (
	"google.golang.org/protobuf/proto"

	"machineid/authority/state/statepb"
)

// Records that decisions depend on are written by changeOrg, dropOrg, changeKey,
// dropKey and changeOccupant only (S2); tidy clears away what nobody can reach any more. Each emits before it looks, so that a command that
// finds nothing to change, or refuses, makes its caller wait like the one before
// it that did change something (S1). structure_test.go holds the whole package to
// this.

// changeOrg lets change edit an org, which is nil if there is none, and return
// what is to stand there; nil leaves all as it was.
func (t *tx) changeOrg(id OrgID, change func(*statepb.Org) *statepb.Org) (org *statepb.Org, changed bool) {
	t.concern(Concern{Kind: ConcernHolder, Org: id})
	old := t.org(id)
	next := change(clone(old))
	if next == nil || proto.Equal(old, next) {
		return old, false
	}
	t.put(orgKey(id), next)
	if old == nil {
		t.m.recent.count++
	}
	t.m.recent.keepOrg(id, next)
	return next, true
}

// dropOrg takes an org's record away, and its counters are those of nobody.
func (t *tx) dropOrg(id OrgID) {
	t.concern(Concern{Kind: ConcernHolder, Org: id})
	t.del(orgKey(id))
	t.m.recent.count--
	t.m.recent.keepOrg(id, nil)
	t.m.recent.keepSeats(id, nil)
	t.m.recent.keepEnded(id, nil)
}

// changeKey is changeOrg for a key of an org. Its org and its id must not change.
func (t *tx) changeKey(org OrgID, hash [32]byte, change func(*statepb.Key) *statepb.Key) {
	t.concern(Concern{Kind: ConcernKey, Key: hash, Org: org})
	old := t.key(hash)
	next := change(clone(old))
	if next == nil || proto.Equal(old, next) {
		return
	}
	t.put(keyKey(hash), next)
	t.m.recent.keepKey(hash, next)
	if old == nil {
		t.set(orgKeyKey(idOf(next.GetOrgId()), next.GetKeyId()), hash[:])
		t.m.recent.followKey(idOf(next.GetOrgId()), ringKey{next.GetKeyId(), hash}, true)
	}
}

// dropKey takes a key of an org away as if it had never been.
func (t *tx) dropKey(org OrgID, k *statepb.Key) {
	t.concern(Concern{Kind: ConcernKey, Key: [32]byte(k.GetHash()), Org: org})
	t.del(keyKey([32]byte(k.GetHash())))
	t.m.recent.keepKey([32]byte(k.GetHash()), nil)
	t.del(orgKeyKey(org, k.GetKeyId()))
	t.m.recent.followKey(org, ringKey{id: k.GetKeyId()}, false)
	t.del(usedKey([32]byte(k.GetHash())))
	t.del(writtenKey(org, &statepb.Actor{Type: statepb.Actor_KEY, Id: k.GetKeyId()}))
}

// changeOccupant lets change edit an occupant and return what is to stand there:
// nil removes it, a refusal leaves all as it was. One that does not stand any more is
// nil to change, as one that never was. Counters and indexes follow, so no command can
// miscount (S8).
func (t *tx) changeOccupant(h *holder, id string, change func(*statepb.Occupant) (*statepb.Occupant, Refusal)) Outcome {
	t.concern(Concern{Kind: ConcernOccupant, Org: h.id, Occupant: id})
	if h.org == nil {
		return Outcome{Refusal: OrgNotFound}
	}
	out := Outcome{Org: h.org}
	stored := t.occupant(h.id, id)
	if Stands(stored, t.now) {
		out.Device = stored
	}
	next, refusal := change(clone(out.Device))
	switch {
	case refusal != Granted:
		out.Refusal = refusal
	case !proto.Equal(stored, next):
		if next == nil {
			t.del(occupantKey(h.id, id))
		} else {
			t.put(occupantKey(h.id, id), next)
		}
		t.follow(h, id, stored, next)
		t.forgetSeen(h.id, id, stored, next)
		out.Device, out.Changed = next, true
	}
	out.Plan = t.plan(h)
	return out
}

// follow keeps a holder's counters and indexes in step with an occupant that
// changes from old to next; nil is none. It is a part of changeOccupant.
func (t *tx) follow(h *holder, id string, old, next *statepb.Occupant) {
	seats := clone(h.seats)
	if old != nil {
		*standing(seats, old)--
		if t.takesSeat(old) {
			h.used--
		}
		if end := endOfSeat(old); end != 0 {
			seats.Ending--
			if endOfSeat(next) != end {
				t.del(timedKey(prefixByEnd, h.id, end, id))
				t.noteEnd(h.id, end, nil, false)
			}
		}
		if next.GetCreatedAtMs() != old.GetCreatedAtMs() {
			t.del(timedKey(prefixByAge, h.id, old.GetCreatedAtMs(), id))
		}
		if old.GetRevokedAtMs() != 0 && next.GetRevokedAtMs() != old.GetRevokedAtMs() {
			t.del(revokedKey(h.id, old))
		}
	}
	if next != nil {
		*standing(seats, next)++
		if t.takesSeat(next) {
			h.used++
		}
		if end := endOfSeat(next); end != 0 {
			seats.Ending++
			t.set(timedKey(prefixByEnd, h.id, end, id), nil)
			if endOfSeat(old) != end {
				t.noteEnd(h.id, end, timedKey(prefixByEnd, h.id, end, id), true)
			}
		}
		if next.GetCreatedAtMs() != old.GetCreatedAtMs() {
			t.set(timedKey(prefixByAge, h.id, next.GetCreatedAtMs(), id), nil)
		}
		if next.GetRevokedAtMs() != 0 && next.GetRevokedAtMs() != old.GetRevokedAtMs() {
			t.set(revokedKey(h.id, next), nil)
		}
	}
	if !proto.Equal(h.seats, seats) {
		t.put(seatsKey(h.id), seats)
		t.m.recent.keepSeats(h.id, seats)
		h.seats = seats
	}
}

// takesSeat reports whether an occupant counts against the cap.
func (t *tx) takesSeat(o *statepb.Occupant) bool {
	d := OccupantOf(o)
	return d.Present(t.now) && !d.Revoked
}

// endOfSeat is when an occupant gives its seat back by itself, 0 for never or if
// it has none.
func endOfSeat(o *statepb.Occupant) int64 {
	if o.GetRevokedAtMs() != 0 {
		return 0
	}
	return o.GetExpiresAtMs()
}

// standing is the counter that an occupant stands in.
func standing(s *statepb.Seats, o *statepb.Occupant) *uint32 {
	if o.GetRevokedAtMs() != 0 {
		return &s.Revoked
	}
	return &s.Active
}

// clone returns a copy of a record, nil of nil.
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
