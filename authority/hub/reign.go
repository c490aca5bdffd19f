package hub

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"machineid/authority/state/statepb"
	"machineid/raftstore"
	"machineid/shared/clock"
)

// reign is the link state of one term of leadership. It is made after the term's
// barrier and dies with the term: nothing of it is carried over (I8).
type reign struct {
	term uint64
	ctx  context.Context
	// holdUntil: no change returns before, for an earlier leader's leases may be out.
	holdUntil clock.Time
	// begun is the last index of the terms before, or a later one: whoever has joined this
	// reign and acknowledged it knows of all that those have done.
	begun uint64
	// id is of raftstore's reign of the term. All that is told in this one is of it: the first
	// index is that of its own record or a later one (I13).
	id raftstore.ReignID
	// proof is when the last successful confirmation round began, v0 of I1.1; 0 is none.
	proof atomic.Int64

	directory *directory

	// Guarded by Hub.mu.
	sessions map[*session]struct{}
	of       map[[16]byte]*session // by process, which has one at the most
	slots    []place               // by the session's number in the directory
	free     []int                 // slots that were given back, the lowest last
	hosts    tally                 // slots that are taken, by the address that they are for
	closing  bool                  // granting has stopped
	final    bool                  // and for good: the node is stopping
	listing  int                   // lists that are on their way into the record
	// overtake ends the newest Resume; nil: there was none.
	overtake context.CancelFunc
	// successor is the link address that edges are sent to when the reign ends.
	successor string
	// inherited are the processes that may hold a lease of the leader before, and until
	// when; inheritedEnd is the last of those ends, and stays when they have moved: their
	// leases run on. No change returns before, while one of them has not moved here (I8).
	inherited    map[[16]byte]clock.Time
	inheritedEnd clock.Time
}

// held is how long changes must still wait for the leases of earlier leaders. Hub.mu is
// held.
func (r *reign) held(now clock.Time) time.Duration {
	if len(r.inherited) > 0 {
		return max(r.holdUntil, r.inheritedEnd).Sub(now)
	}
	return r.holdUntil.Sub(now)
}

// place is what a slot is for.
type place struct {
	session *session // nil: free, or not joined yet
	host    string
}

// taken is how many slots are.
func (r *reign) taken() int { return len(r.slots) - len(r.free) }

// takeSlot returns a slot for a session that is about to join from host, the lowest that is free. Hub.mu is held.
func (r *reign) takeSlot(host string) int {
	if r.hosts == nil {
		r.hosts = tally{}
	}
	r.hosts.add(host, 1)
	if n := len(r.free); n > 0 {
		slot := r.free[n-1]
		r.free = r.free[:n-1]
		r.slots[slot] = place{host: host}
		return slot
	}
	r.slots = append(r.slots, place{host: host})
	r.directory.grow(len(r.slots) - 1)
	return len(r.slots) - 1
}

// drop takes a session out. What is noted for its slot is soon forgotten; until then
// the next one in it is told a little too much. Hub.mu is held.
func (r *reign) drop(s *session) {
	delete(r.sessions, s)
	if r.of[s.process] == s {
		delete(r.of, s.process)
	}
	r.freeSlot(s.slot)
}

// freeSlot gives a slot back. Hub.mu is held.
func (r *reign) freeSlot(slot int) {
	r.hosts.add(r.slots[slot].host, -1)
	r.slots[slot] = place{}
	at, _ := slices.BinarySearchFunc(r.free, slot, func(a, b int) int { return b - a })
	r.free = slices.Insert(r.free, at, slot)
}

// trim forgets the slots that are free above all that are taken. Hub.mu is held.
func (r *reign) trim() {
	n := len(r.slots)
	for len(r.free) > 0 && r.free[0] == n-1 {
		r.free = r.free[1:]
		n--
	}
	if n < len(r.slots) {
		clear(r.slots[n:])
		r.slots = r.slots[:n]
		r.directory.shrink(n)
	}
}

// holders returns the sessions that may hold something of hashes, each with what
// it may hold (I6). Hub.mu is held.
func (r *reign) holders(hashes []uint64) map[*session][]uint64 {
	var held map[*session][]uint64
	for _, hash := range hashes {
		r.directory.holders(hash, func(slot int) {
			if slot >= len(r.slots) || r.slots[slot].session == nil {
				return // what is noted is of an earlier one
			}
			s := r.slots[slot].session
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
		term: term, ctx: ctx, holdUntil: began, sessions: map[*session]struct{}{}, of: map[[16]byte]*session{},
		directory: newDirectory(clock.Stretch(h.cfg.Times.CacheTTL, h.cfg.Times.Bound), began),
	}
	own := h.linkRecord()
	open := own
	last := h.cfg.State.Cluster().GetLink()
	wait, more := h.outwait(last)
	switch {
	case last.GetOpen():
		if r.inherited = heirs(last, wait, more, began); r.inherited == nil {
			r.holdUntil = began.Add(wait.Stretched())
		}
		for _, end := range r.inherited {
			r.inheritedEnd = max(r.inheritedEnd, end)
		}
		open = longer(own, last)
	case more > 0: // over by the count of who closed it, and not by ours
		r.holdUntil = began.Add(more)
	}
	h.leads.Say(ctx, h.log, slog.LevelInfo, "leading", slog.Uint64("term", term),
		slog.Duration("changes_held", r.held(began)), slog.Int("edges_expected", len(r.inherited)))
	if !h.open(ctx, term, open) || !h.begin(r) {
		return
	}

	var recording sync.WaitGroup
	recording.Go(func() { h.recordSeen(r) })
	h.confirm(r, own, open)

	h.mu.Lock()
	h.reign = nil
	h.broadcast()
	sessions, successor := r.sessions, r.successor
	h.mu.Unlock()
	for s := range sessions {
		s.end("this node does not lead any more", successor)
	}
	recording.Wait()
}

// open records that leases may be out, and tries until the term ends: without the
// record this leader could give none, for as long as it leads.
func (h *Hub) open(ctx context.Context, term uint64, rec *statepb.LinkRecord) bool {
	for {
		err := h.record(ctx, term, rec)
		if err == nil {
			return true
		}
		h.unrecorded.Say(ctx, h.log, slog.LevelWarn, "no leases yet: the record that they are open was not committed",
			slog.Uint64("term", term), slog.Any("error", err))
		select {
		case <-ctx.Done():
			return false
		case <-time.After(recordRetry):
		}
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
		if !proto.Equal(own, open) && h.free(r) {
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

// free reports whether no lease of an earlier leader can be out.
func (h *Hub) free(r *reign) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.cfg.Clock.Now()
	return r.held(now) <= 0 && now >= r.inheritedEnd && !r.closing
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
	r.trim()
}

func (h *Hub) record(ctx context.Context, term uint64, rec *statepb.LinkRecord) error {
	cmd := &statepb.Command{
		TimeMs: h.cfg.Now(), Actor: &statepb.Actor{Type: statepb.Actor_SYSTEM, Id: h.cfg.ID},
		Change: &statepb.Command_SetLink{SetLink: &statepb.SetLink{Record: rec, Term: term}},
	}
	if _, err := h.cfg.Propose(ctx, cmd); err != nil {
		return fmt.Errorf("record the link's state: %w", err)
	}
	// The record may be another leader's that says the same: so the term must still be this one.
	if now, leads := h.store.Leading(); !leads || now != term || !proto.Equal(h.cfg.State.Cluster().GetLink(), rec) {
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

// outwait returns the times by which this node waits for the leases of a record, and how much longer that is than whoever wrote the record
// waited. Those leases end by the larger ρ: what this node is told of clocks holds for the ones that counted before, too.
func (h *Hub) outwait(last *statepb.LinkRecord) (wait Times, more time.Duration) {
	recorded := times(last)
	wait = recorded
	wait.Bound = max(wait.Bound, h.cfg.Times.Bound)
	return wait, wait.Stretched() - recorded.Stretched()
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
