package hub

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"machineid/authority/state/statepb"
	"machineid/shared/clock"
)

// reign is the link state of one term of leadership. It is made after the term's
// barrier and dies with the term: nothing of it is carried over (I8).
type reign struct {
	term uint64
	ctx  context.Context //nolint:containedctx // the reign is a life, and this is its end
	// holdUntil: no change returns before, for an earlier leader's leases may be out.
	holdUntil clock.Time
	// proof is when the last successful confirmation round began, v0 of I1.1; 0 is none.
	proof atomic.Int64

	directory *directory

	// Guarded by Hub.mu.
	sessions map[*session]struct{}
	slots    []*session // by the session's number in the directory; nil: free, or not joined yet
	free     []int      // slots that were given back
	closing  bool       // granting has stopped for good
}

// takeSlot returns a slot for a session that is about to join. Hub.mu is held.
func (r *reign) takeSlot() int {
	if n := len(r.free); n > 0 {
		slot := r.free[n-1]
		r.free = r.free[:n-1]
		return slot
	}
	r.slots = append(r.slots, nil)
	r.directory.grow(len(r.slots) - 1)
	return len(r.slots) - 1
}

// drop takes a session out. What is noted for its slot is soon forgotten; until then
// the next one in it is told a little too much. Hub.mu is held.
func (r *reign) drop(s *session) {
	delete(r.sessions, s)
	r.slots[s.slot] = nil
	r.freeSlot(s.slot)
}

// freeSlot gives a slot back that no session has. Hub.mu is held.
func (r *reign) freeSlot(slot int) { r.free = append(r.free, slot) }

// holders returns the sessions that may hold something of hashes, each with what
// it may hold (I6). Hub.mu is held.
func (r *reign) holders(hashes []uint64) map[*session][]uint64 {
	var held map[*session][]uint64
	for _, hash := range hashes {
		r.directory.holders(hash, func(slot int) {
			s := r.slots[slot]
			if s == nil {
				return
			}
			if held == nil {
				held = make(map[*session][]uint64)
			}
			held[s] = append(held[s], hash)
		})
	}
	return held
}

// Lead runs the hub for one term, until ctx ends. It is raftstore's Config.Lead:
// called after the term's barrier.
func (h *Hub) Lead(ctx context.Context, term uint64) {
	began := h.cfg.Clock.Now()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &reign{
		term: term, ctx: ctx, holdUntil: began, sessions: map[*session]struct{}{},
		directory: newDirectory(clock.Stretch(h.cfg.Times.CacheTTL, h.cfg.Times.Bound), began),
	}
	own := h.linkRecord()
	open := own
	if last := h.cfg.State.Cluster().GetLink(); last.GetOpen() {
		r.holdUntil = began.Add(times(last).Stretched())
		open = longer(own, last)
	}
	h.log.LogAttrs(ctx, slog.LevelInfo, "leading", slog.Uint64("term", term),
		slog.Duration("changes_held", r.holdUntil.Sub(began)))
	if !h.open(ctx, term, open) || !h.dispatchedAll(ctx) {
		return
	}
	h.mu.Lock()
	h.reign = r
	h.broadcast()
	h.mu.Unlock()

	var recording sync.WaitGroup
	recording.Go(func() { h.recordSeen(r) })
	h.confirm(r, own, open)
	recording.Wait()

	h.mu.Lock()
	h.reign = nil
	h.broadcast()
	sessions := r.sessions
	h.mu.Unlock()
	for s := range sessions {
		s.end("this node does not lead any more")
	}
}

// open records that leases may be out, and tries until the term ends: without the
// record this leader could give none, for as long as it leads.
func (h *Hub) open(ctx context.Context, term uint64, rec *statepb.LinkRecord) bool {
	for {
		err := h.record(ctx, term, rec)
		if err == nil {
			return true
		}
		h.log.LogAttrs(ctx, slog.LevelWarn, "no leases yet: the record that they are open was not committed",
			slog.Uint64("term", term), slog.Any("error", err))
		select {
		case <-ctx.Done():
			return false
		case <-time.After(recordRetry):
		}
	}
}

// dispatchedAll waits until all that was applied so far is dispatched, so what earlier
// terms committed is. A session that joined before would be given leases, and not be
// told of a change that has returned elsewhere (I7). It returns false if ctx ends first.
func (h *Hub) dispatchedAll(ctx context.Context) bool {
	reached := make(chan struct{})
	h.feed.put(notice{reached: reached})
	select {
	case <-reached:
		return true
	case <-ctx.Done():
		return false
	}
}

// recordRetry is the pause between attempts to record.
const recordRetry = 250 * time.Millisecond

// confirm proves leadership over and over until the reign ends (I1.1).
func (h *Hub) confirm(r *reign, own, open *statepb.LinkRecord) {
	tick := time.NewTicker(max(h.cfg.Times.Lease/10, time.Millisecond))
	defer tick.Stop()
	for {
		began := h.cfg.Clock.Now()
		if term, err := h.store.Confirm(r.ctx); err == nil && term == r.term {
			r.proof.Store(int64(began))
		}
		h.forget(r)
		r.directory.turn(h.cfg.Clock.Now())
		if !proto.Equal(own, open) && h.cfg.Clock.Now() >= r.holdUntil && h.Leading() {
			// The longer leases of the term before are over.
			if h.record(r.ctx, r.term, own) == nil {
				open = own
			}
		}
		select {
		case <-r.ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// forget drops broken sessions whose lease is over.
func (h *Hub) forget(r *reign) {
	now := h.cfg.Clock.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range r.sessions {
		if s.over(now) {
			r.drop(s)
		}
	}
}

// Stop ends granting for good and, if no lease can be out any more, records so:
// the next leader need not wait (I8). It says whether it could. Sessions that
// have given their leases back do not hinder it; the others' leases run on, so
// that edges go on answering while this node is replaced.
func (h *Hub) Stop(ctx context.Context) bool {
	h.mu.Lock()
	r := h.reign
	if r == nil {
		h.mu.Unlock()
		return false
	}
	r.closing = true
	now := h.cfg.Clock.Now()
	free := now >= r.holdUntil // an earlier leader's leases are over too
	var open []*session
	for s := range r.sessions {
		free = !s.stop(now) && free
		open = append(open, s)
	}
	h.mu.Unlock()
	for _, s := range open {
		s.end("this node is stopping")
	}
	if !free {
		return false
	}
	closed := h.linkRecord()
	closed.Open = false
	if err := h.record(ctx, r.term, closed); err != nil {
		h.log.LogAttrs(ctx, slog.LevelWarn, "the record that no lease is out was not committed: the next leader will wait",
			slog.Any("error", err))
		return false
	}
	return true
}

func (h *Hub) record(ctx context.Context, term uint64, rec *statepb.LinkRecord) error {
	cmd := &statepb.Command{
		TimeMs: h.cfg.Now(), Actor: &statepb.Actor{Type: statepb.Actor_SYSTEM, Id: h.cfg.ID},
		Change: &statepb.Command_SetLink{SetLink: &statepb.SetLink{Record: rec, Term: term}},
	}
	if _, err := h.cfg.Propose(ctx, cmd); err != nil {
		return fmt.Errorf("record the link's state: %w", err)
	}
	if !proto.Equal(h.cfg.State.Cluster().GetLink(), rec) {
		return fmt.Errorf("record the link's state: term %d is over", term)
	}
	return nil
}

// linkRecord is this node's own settings as a record of open leases.
func (h *Hub) linkRecord() *statepb.LinkRecord {
	t := h.cfg.Times
	return &statepb.LinkRecord{
		Open: true, LeaseNs: int64(t.Lease), CacheTtlNs: int64(t.CacheTTL),
		// Rounded up: the next leader must not wait too short.
		ClockBoundPpm: uint32(math.Ceil(t.Bound * 1e6)),
	}
}

func times(r *statepb.LinkRecord) Times {
	return Times{
		Lease: time.Duration(r.GetLeaseNs()), CacheTTL: time.Duration(r.GetCacheTtlNs()),
		Bound: float64(r.GetClockBoundPpm()) / 1e6,
	}
}

// longer takes the longer of each time. A leader that recorded its own shorter
// lease while an earlier leader's longer ones were out, and then died, would
// have the next one wait too short.
func longer(a, b *statepb.LinkRecord) *statepb.LinkRecord {
	return &statepb.LinkRecord{
		Open: true, LeaseNs: max(a.LeaseNs, b.LeaseNs), CacheTtlNs: max(a.CacheTtlNs, b.CacheTtlNs),
		ClockBoundPpm: max(a.ClockBoundPpm, b.ClockBoundPpm),
	}
}
