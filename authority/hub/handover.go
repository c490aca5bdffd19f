package hub

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"google.golang.org/protobuf/proto"

	"machineid/authority/state/statepb"
	"machineid/shared/clock"
	"machineid/shared/link"
)

// ErrHandingOver says that a hand-over is under way already, or that the node stops.
var ErrHandingOver = errors.New("a hand-over is under way")

// holdersMax bounds the list of holders in the record. With more edges the next leader
// waits as if it had died.
const holdersMax = 16 << 10

// Stop ends granting for good and records who may still hold a lease (I8): nobody, and
// then it says so and the next leader need not wait; or those, and then it waits for them
// to move to it, or for their leases' ends. If that is not known it records nothing, and the
// next leader waits for S. Leases run on, so that edges go on answering while this node is
// replaced.
func (h *Hub) Stop(ctx context.Context) (closed bool) {
	h.mu.Lock()
	r := h.reign
	if r == nil {
		h.mu.Unlock()
		return false
	}
	r.final = true
	rec := h.lastRecord(r)
	sessions, successor := make([]*session, 0, len(r.sessions)), r.successor
	for s := range r.sessions {
		sessions = append(sessions, s)
	}
	h.mu.Unlock()
	for _, s := range sessions {
		s.end("this node is stopping", successor)
	}
	err := h.bequeath(ctx, r, rec)
	if err != nil {
		h.log.LogAttrs(ctx, slog.LevelWarn, "who holds a lease is not recorded: the next leader will hold changes for a lease",
			slog.Any("cause", err))
	}
	return err == nil && !rec.GetOpen()
}

// Yield ends granting and records who may hold a lease, so that the leader after this one
// need not wait for longer than they take to move to it. Sessions go on and acknowledge
// until the term ends; then edges are sent to successor, a link address. An error other than
// ErrHandingOver says that the next leader will have to wait; granting has ended all the
// same. Resume takes it back.
func (h *Hub) Yield(ctx context.Context, successor string) error {
	h.mu.Lock()
	r := h.reign
	if r == nil || r.closing {
		h.mu.Unlock()
		return ErrHandingOver
	}
	rec := h.lastRecord(r)
	r.successor = successor
	h.mu.Unlock()
	return h.bequeath(ctx, r, rec)
}

// lastRecord ends granting, and returns the record of who may hold a lease from then on:
// nil if that is not known. h.mu is held.
//
// The list is whole. Every lease of this reign is booked with a session that stays in it
// until the lease's end; what is booked with one that was replaced, the newer one's Hello
// covers. Those of the leader before are in its list, or over with the hold-down.
func (h *Hub) lastRecord(r *reign) *statepb.LinkRecord {
	r.closing = true
	r.listing++
	if r.overtake != nil {
		r.overtake()
	}
	now := h.cfg.Clock.Now()
	left := map[[16]byte]time.Duration{}
	for s := range r.sessions {
		if d := s.stop(now); d > 0 {
			left[s.process] = max(left[s.process], d)
		}
	}
	if now < r.holdUntil || len(left)+len(r.inherited) > holdersMax {
		return nil
	}
	for process, end := range r.inherited {
		if d := end.Sub(now); d > 0 {
			left[process] = max(left[process], d)
		}
	}
	if len(left) == 0 {
		closed := h.linkRecord()
		closed.Open = false
		return closed
	}
	// The times stay those by which the leases were given.
	rec := proto.CloneOf(h.cfg.State.Cluster().GetLink())
	rec.Open, rec.Listed, rec.Holders = true, true, nil
	for process, d := range left {
		rec.Holders = append(rec.Holders, &statepb.LeaseHolder{ProcessId: process[:], LeftNs: int64(d)})
	}
	return rec
}

var errNotKnown = errors.New("leases of the leader before may still be out, or there are too many")

// bequeath records what lastRecord returned.
func (h *Hub) bequeath(ctx context.Context, r *reign, rec *statepb.LinkRecord) error {
	defer func() {
		h.mu.Lock()
		r.listing--
		h.mu.Unlock()
	}()
	if rec == nil {
		return errNotKnown
	}
	return h.record(ctx, r.term, rec)
}

// Resume takes a Yield back, if this node still leads: it records that leases are given
// again, and gives them. It tries until the term ends, or it is overtaken: by a list that is
// made later, whose leases would else be more than it says, or by another Resume. It does
// nothing while a list is on its way, which could come behind its own record.
func (h *Hub) Resume() {
	h.mu.Lock()
	r := h.reign
	if r == nil || r.final || r.listing > 0 {
		h.mu.Unlock()
		return
	}
	if r.overtake != nil {
		r.overtake()
	}
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	r.overtake = cancel
	h.mu.Unlock()
	// What was recorded may be one's own or the longer times of a leader before: both hold.
	open := longer(h.linkRecord(), h.cfg.State.Cluster().GetLink())
	if !h.open(ctx, r.term, open) {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.reign != r || ctx.Err() != nil {
		return
	}
	r.closing, r.successor = false, ""
	for s := range r.sessions {
		s.resume()
	}
}

// Quiet waits until every change is in force at the edges, or ctx ends.
func (h *Hub) Quiet(ctx context.Context) {
	h.mu.Lock()
	list := make([]*change, 0, len(h.unsettled))
	for c := range h.unsettled {
		list = append(list, c)
	}
	h.mu.Unlock()
	_ = wait(ctx, list)
}

// heirs returns who may hold a lease by a record, and until when on this node's clock, by
// the times of outwait; nil if that is not known: the record does not say, or who wrote it
// waited by a smaller ρ, and left out whose leases were over by that. What the leader before
// counted as left may be longer in true time, and shorter on this clock; and no lease is
// longer than S from its proof, which was before this term began.
func heirs(last *statepb.LinkRecord, wait Times, more time.Duration, began clock.Time) map[[16]byte]clock.Time {
	if !last.GetListed() || more > 0 {
		return nil
	}
	ends := make(map[[16]byte]clock.Time, len(last.GetHolders()))
	for _, holder := range last.GetHolders() {
		if len(holder.GetProcessId()) != 16 {
			return nil
		}
		left := min(clock.Stretch(time.Duration(holder.GetLeftNs()), wait.Bound), wait.Stretched())
		ends[[16]byte(holder.GetProcessId())] = began.Add(left)
	}
	return ends
}

// begin opens a reign to sessions once all that was applied before it is dispatched: then
// whoever joins is told of it, or has it in its Welcome. A session that joined before would
// be given leases, and not be told of a change that has returned elsewhere (I7).
func (h *Hub) begin(r *reign) bool {
	r.begun = h.feed.last()
	by, _ := h.store.ReignAt(r.begun)
	if by.Term != r.term {
		return false // of a later leader: the term is over
	}
	r.id = by.ID
	for {
		h.mu.Lock()
		if h.dispatched >= r.begun {
			h.reign = r
			h.broadcast()
			h.mu.Unlock()
			return true
		}
		changed := h.changed
		h.mu.Unlock()
		select {
		case <-changed:
		case <-r.ctx.Done():
			return false
		}
	}
}

// moved notes that a process which may hold a lease of the leader before has come here,
// and that all which that one has changed is in force there: its lease covers nothing old
// any more. Or it has dropped its lease.
func (h *Hub) moved(s *session, ack *link.Ack) {
	r := s.reign
	if ack.GetIndex() < r.begun && !ack.GetGaveBack() {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(r.inherited) == 0 {
		return
	}
	if delete(r.inherited, s.process); len(r.inherited) == 0 {
		h.broadcast()
	}
}

// expectTime is how long an edge's Hello waits for this node to begin to lead.
const expectTime = 500 * time.Millisecond

// expects waits a moment for this node to take sessions, if it is about to: an edge that
// was sent here may be faster than the election.
func (h *Hub) expects(ctx context.Context) bool {
	timer := time.NewTimer(expectTime)
	defer timer.Stop()
	for {
		h.mu.Lock()
		r, changed := h.reign, h.changed
		h.mu.Unlock()
		if r != nil {
			return !r.closing
		}
		if _, leads := h.store.Leading(); !leads && h.elsewhere() != "" {
			return false
		}
		select {
		case <-changed:
		case <-timer.C:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// elsewhere is where edges find the leader, "" if that is not known.
func (h *Hub) elsewhere() string {
	h.mu.Lock()
	successor := ""
	if h.reign != nil {
		successor = h.reign.successor
	}
	h.mu.Unlock()
	if successor != "" || h.cfg.LeaderLink == nil {
		return successor
	}
	return h.cfg.LeaderLink()
}
