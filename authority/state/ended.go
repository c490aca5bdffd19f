package state

import (
	"bytes"

	"machineid/authority/state/statepb"
)

// pastEnds are what is known of those occupants of a holder that have ended and are not swept yet: each command on a device asks how many there are, and
// to count a hundred thousand of them each time would hold up everybody.
type pastEnds struct {
	until int64 // those with an end up to then are counted
	count uint32
	from  []byte // nothing of the holder's end index stands before it
}

// endedOf counts those that have ended by now. Only what ended since it was asked last is looked at.
func (t *tx) endedOf(id OrgID) *pastEnds {
	e := t.m.recent.ended[id]
	if e == nil {
		e = &pastEnds{from: timedKey(prefixByEnd, id, 0, "")}
		t.m.recent.keepEnded(id, e)
	}
	if e.until < t.now {
		n, err := t.r.countEnded(id, e.until+1, t.now)
		t.must(err)
		e.until, e.count = t.now, e.count+n
	}
	return e
}

// anyEnded tells whether the seat of any occupant has ended by now that is not swept yet.
func (r Reader) anyEnded(holder OrgID, now int64) (found bool, err error) {
	s, err := r.Seats(holder)
	if err != nil || s.GetEnding() == 0 {
		return false, err
	}
	err = r.scan(timedKey(prefixByEnd, holder, 0, ""), timedKey(prefixByEnd, holder, now+1, ""), func(_, _ []byte) (bool, error) {
		found = true
		return false, nil
	})
	return found, err
}

// noteEnd keeps what is counted in step with a key that comes into the end index, or goes.
func (t *tx) noteEnd(id OrgID, end int64, key []byte, comes bool) {
	e := t.m.recent.ended[id]
	if e == nil {
		return
	}
	if comes && bytes.Compare(key, e.from) < 0 {
		e.from = key
	}
	switch {
	case end > e.until: // it is counted when it has ended
	case comes:
		e.count++
	default:
		e.count--
	}
}

// sweepMax bounds what one command clears away.
const sweepMax = 500

// sweep removes occupants that have ended, at most sweepMax. Nothing depends on
// it (expiry is judged by time, S7): it keeps them from piling up.
func (t *tx) sweep(h *holder) {
	if h.org == nil || h.seats.GetEnding() == 0 || t.dry {
		return
	}
	e := t.endedOf(h.id)
	for _, k := range t.some(e.from, timedKey(prefixByEnd, h.id, t.now+1, ""), sweepMax) {
		t.changeOccupant(h, timedID(k), func(*statepb.Occupant) (*statepb.Occupant, Refusal) { return nil, Granted })
		e.from = k
	}
}
