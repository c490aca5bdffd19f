package hub

import (
	"context"
	"slices"
	"sync"
	"time"

	"machineid/authority/state"
	"machineid/shared/clock"
)

// change is one index on its way to the edges.
type change struct {
	index uint64
	began clock.Time
	orgs  map[state.OrgID]struct{}
	reign *reign        // in which it was dispatched; nil: another node led
	done  chan struct{} // closed when no session can answer from before it

	mu      sync.Mutex
	sealed  bool                    // all sessions have been told: nothing is settled before
	waiting map[*session]clock.Time // lease ends, as booked when the Invalidate was queued
	edges   int                     // sessions that had to be told
	told    places                  // of those, in the reign's directory
	late    places                  // of those whose lease ran out instead
	expired []string                // edges whose lease ran out instead
	acked   int
	took    time.Duration
}

func newChange(index uint64, now clock.Time) *change {
	return &change{index: index, began: now, done: make(chan struct{}), waiting: map[*session]clock.Time{}}
}

// expect puts a session on the list, with its lease's end as it is booked now.
func (c *change) expect(s *session, leaseEnd clock.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting[s] = leaseEnd
	c.edges++
	c.told.set(s.slot)
}

// seal says that the list is complete, and reports whether anybody is on it. The
// first sessions may have acknowledged before the last were told.
func (c *change) seal() (waits bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sealed = true
	return !c.settle()
}

// settle closes done if nobody is waited for any more. c.mu is held.
func (c *change) settle() bool {
	settled := c.sealed && len(c.waiting) == 0
	if settled {
		close(c.done)
	}
	return settled
}

// acknowledged takes a session off the list, and reports whether it was on it: its lease
// may have run out before.
func (c *change) acknowledged(s *session) (was bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, waits := c.waiting[s]; !waits {
		return false
	}
	delete(c.waiting, s)
	c.acked++
	c.settle()
	return true
}

// handOver puts the next session of the same process in the place of one that
// broke: its acknowledgement counts (I2). The lease's end stays as it was booked. It reports whether the one that broke was waited for.
func (c *change) handOver(from, to *session) (was bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	end, waits := c.waiting[from]
	if waits {
		delete(c.waiting, from)
		c.waiting[to] = end
		c.told.clear(from.slot)
		c.told.set(to.slot)
	}
	return waits
}

// expire drops sessions whose lease has run out, and returns them and when the next will,
// or false if none is left.
func (c *change) expire(now clock.Time) (over []*session, next clock.Time, more bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.waiting) == 0 {
		return nil, 0, false // acknowledged has closed done
	}
	for s, end := range c.waiting {
		if end <= now {
			delete(c.waiting, s)
			c.expired = append(c.expired, s.edgeID)
			c.late.set(s.slot)
			over = append(over, s)
		} else if !more || end < next {
			next, more = end, true
		}
	}
	c.settle()
	return over, next, more
}

// await sees a change through: until every session has acknowledged, or the
// leases of the others have run out.
func (h *Hub) await(ch *change) {
	for {
		now := h.cfg.Clock.Now()
		over, next, more := ch.expire(now)
		for _, s := range over {
			if s.lapse(ch, now) {
				h.refuse(s, refusedMute)
			}
		}
		if !more {
			break
		}
		timer := time.NewTimer(next.Sub(now))
		select {
		case <-ch.done:
		case <-timer.C:
		}
		timer.Stop()
	}
	h.mu.Lock()
	delete(h.unsettled, ch)
	h.mu.Unlock()
	ch.mu.Lock()
	ch.took = h.cfg.Clock.Now().Sub(ch.began)
	ch.mu.Unlock()
	h.metrics.settled(ch.propagation())
}

func (c *change) propagation() Propagation {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Propagation{
		Index: c.index, Edges: c.edges, Confirmed: c.acked, Expired: len(c.expired),
		ElapsedMs: float64(c.took.Microseconds()) / 1000,
		told:      slices.Clone(c.told), late: slices.Clone(c.late),
	}
}

// Settle waits until the change at index is in force at every edge (I2), and
// until no lease of an earlier leader can be out (I8). It returns ErrPending if
// ctx ends first, and ErrNotLeading if this node stops leading.
func (h *Hub) Settle(ctx context.Context, index uint64) (Propagation, error) {
	start := h.cfg.Clock.Now()
	if err := h.reached(ctx, index); err != nil {
		return Propagation{Index: index}, err
	}
	h.mu.Lock()
	ch := h.recent[index%recentMax]
	older := []*change{ch}
	if ch == nil || ch.index != index {
		// It made way for younger ones: all that is left up to it must settle.
		older = upTo(h.unsettled, index, state.OrgID{})
	}
	h.mu.Unlock()
	if err := wait(ctx, older); err != nil {
		return Propagation{Index: index}, err
	}
	if _, err := h.heldDown(ctx); err != nil {
		return Propagation{Index: index}, err
	}
	p := Propagation{Index: index}
	if ch != nil && ch.index == index {
		p = ch.propagation()
	}
	p.ElapsedMs = float64(h.cfg.Clock.Now().Sub(start).Microseconds()) / 1000
	return p, nil
}

// SettleOrg waits until every change of an org up to index, a state.Mark, has
// settled: what a call reports of it is then true at every edge. It returns
// ErrNotLeading also if this node was deposed and its reign has not ended yet: entries
// that it has applied since wait for the sessions of another leader.
func (h *Hub) SettleOrg(ctx context.Context, index uint64, org state.OrgID) error {
	if err := h.reached(ctx, index); err != nil {
		return err
	}
	h.mu.Lock()
	list := upTo(h.unsettled, index, org)
	h.mu.Unlock()
	if err := wait(ctx, list); err != nil {
		return err
	}
	reign, err := h.heldDown(ctx)
	if err != nil {
		return err
	}
	if term, leads := h.store.Leading(); !leads || term != reign {
		return ErrNotLeading
	}
	return nil
}

// upTo lists the changes up to index, of one org only if it is not zero.
func upTo(set map[*change]struct{}, index uint64, org state.OrgID) (out []*change) {
	for c := range set {
		if c.index <= index && (c.about(org) || org == state.OrgID{}) {
			out = append(out, c)
		}
	}
	return out
}

func wait(ctx context.Context, list []*change) error {
	for _, c := range list {
		select {
		case <-c.done:
		case <-ctx.Done():
			return ErrPending
		}
	}
	return nil
}

// reached waits until this node leads and has dispatched index.
func (h *Hub) reached(ctx context.Context, index uint64) error {
	for {
		h.mu.Lock()
		ready, changed := h.reign != nil && h.dispatched >= index, h.changed
		h.mu.Unlock()
		if ready {
			return nil
		}
		if _, leads := h.store.Leading(); !leads {
			return ErrNotLeading
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ErrPending
		}
	}
}

// heldDown waits until no lease of an earlier leader can be out (I8). It returns the
// term of the reign that it waited for.
func (h *Hub) heldDown(ctx context.Context) (term uint64, err error) {
	h.mu.Lock()
	r := h.reign
	h.mu.Unlock()
	for {
		h.mu.Lock()
		if r == nil || h.reign != r {
			h.mu.Unlock()
			return 0, ErrNotLeading
		}
		left, changed := r.held(h.cfg.Clock.Now()), h.changed
		h.mu.Unlock()
		if left <= 0 {
			return r.term, nil
		}
		timer := time.NewTimer(left)
		select {
		case <-timer.C:
		case <-changed:
		case <-ctx.Done():
			timer.Stop()
			return 0, ErrPending
		case <-r.ctx.Done():
			timer.Stop()
			return 0, ErrNotLeading
		}
		timer.Stop()
	}
}
