package hub

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"machineid/shared/clock"
	"machineid/shared/link"
)

// session is one edge's stream in one reign. A session whose stream broke stays
// until its lease's end: the edge may still answer (I2).
type session struct {
	edgeID, version string
	address, host   string // of its other end, and that without the port
	process         [16]byte
	number          uint64 // of the process's sessions; 0 of an edge that does not count them
	token           string
	reign           *reign
	slot            int // in the reign's directory
	format          int // the newest that the edge understands
	since           clock.Time
	cancel          func()        // ends the stream
	wake            chan struct{} // there is something to send
	outgoing        *atomic.Int64 // bytes that wait to be sent to all edges; nil: nobody counts

	mu       sync.Mutex
	leaseEnd clock.Time // as booked; the edge may answer until then
	acked    uint64
	ackedAt  clock.Time    // when that rose last
	ackTook  time.Duration // from a change to its acknowledgement, the last time
	waits    []*change     // that wait for this session, in index order
	lapsed   lapsed
	broken   bool // the stream has ended
	replaced bool // the same process has a newer session
	returned bool // the edge gave its lease back
	stopped  bool // nothing is granted

	welcome *link.Welcome
	invals  []*link.Invalidate
	grant   *link.Grant
	answers []*link.Answer
	goodbye *link.Goodbye
	bytes   int

	hits, misses uint64 // of the process, as it last reported
	entries      int64
	reported     bool

	deaf     atomic.Bool // too much waits for it
	sending  atomic.Bool // a Send is under way
	refused  atomic.Bool // it ends by what its edge did
	farewell *time.Timer // ends the stream of an edge that does not read its Goodbye
}

// lapsed are the changes that the edge has not acknowledged and that wait for it no more: its lease, as it was booked, had ended. Of them there is only what tells people.
type lapsed struct {
	n      int
	since  clock.Time // when the first was sent
	newest uint64
}

const (
	// queueMax bounds what waits to be sent to one edge. An edge that does not read
	// loses its session, not the leader its memory.
	queueMax = 8 << 20
	// queuesMax is what may wait for all edges together, about. Beyond it a session is ended for which more than queueFair waits (I14).
	queuesMax, queueFair = 64 << 20, 256 << 10
	// answerBytes is what an Answer takes, about.
	answerBytes = 384
)

func invalidateBytes(msg *link.Invalidate) int { return 16 + 8*len(msg.Hashes) }

// invalidate queues an Invalidate and notes, under the same lock, until when the
// edge may still answer from before it: a grant queued behind it cannot be used
// before it was processed, so it does not prolong the wait (I2).
func (s *session) invalidate(msg *link.Invalidate, ch *change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.replaced || s.returned {
		return
	}
	ch.expect(s, s.leaseEnd)
	s.waits = append(s.waits, ch)
	if !s.broken {
		s.invals = append(s.invals, msg)
		s.queued(invalidateBytes(msg))
	}
}

// renew books a lease and queues its Grant (I1.2). It does nothing if the last
// proof of leadership is too old, and that is not an error: the edge will run
// out of its lease. Nor if edges may not be told the time.
func (s *session) renew(askedAt int64, received clock.Time, t Times, z *horizon, dispatched uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	proof := clock.Time(s.reign.proof.Load())
	left := min(t.Lease, t.Lease-received.Sub(proof)) // the proof may be from after received, if it took long to come here
	if proof == 0 || left <= 0 || s.broken || s.replaced || s.returned || s.stopped {
		return false
	}
	nowMs, ok := z.granted(received)
	if !ok {
		return false
	}
	s.leaseEnd = max(s.leaseEnd, proof.Add(t.Stretched()))
	s.grant = &link.Grant{AskedAtNs: askedAt, GrantedNs: int64(left), NowMs: nowMs, Index: dispatched}
	s.queued(0)
	return true
}

// ack settles the changes up to index for this session. giveBack says that the
// edge answers nothing more in this session. It returns how long each took.
func (s *session) ack(index uint64, giveBack bool, now clock.Time) (took []time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.replaced {
		return nil
	}
	if giveBack {
		s.returned = true
		s.leaseEnd = now
		index = ^uint64(0)
	}
	if index > s.acked {
		s.acked, s.ackedAt = index, now
	}
	if index >= s.lapsed.newest {
		s.lapsed = lapsed{}
	}
	n := 0
	for n < len(s.waits) && s.waits[n].index <= index {
		if s.waits[n].acknowledged(s) {
			took = append(took, now.Sub(s.waits[n].began))
		}
		n++
	}
	if len(took) > 0 {
		s.ackTook = took[len(took)-1]
	}
	s.waits = append([]*change(nil), s.waits[n:]...)
	return took
}

// takeOver puts s in the place of an older session of the same process. What
// the older one owed, an acknowledgement of the newer one settles.
func (s *session) takeOver(old *session) {
	old.mu.Lock()
	old.replaced = true
	waits := old.waits
	old.waits = nil
	old.mu.Unlock()
	s.mu.Lock()
	s.waits = slices.DeleteFunc(waits, func(ch *change) bool { return !ch.handOver(old, s) })
	s.mu.Unlock()
	old.cancel()
}

// lapse takes a change off what waits for this session: its lease, as it was booked, has ended. It reports whether the edge goes on without
// ever acknowledging: it has renewed its lease since, and acknowledged nothing in all that time. Then each change would take a lease, for ever.
func (s *session) lapse(ch *change, now clock.Time) (mute bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, found := slices.BinarySearchFunc(s.waits, ch, func(a, b *change) int { return cmp.Compare(a.index, b.index) })
	if !found {
		return false
	}
	if at == 0 {
		s.waits[0], s.waits = nil, s.waits[1:]
	} else {
		s.waits = slices.Delete(s.waits, at, at+1)
	}
	if s.lapsed.n == 0 {
		s.lapsed.since = ch.began
	}
	s.lapsed.n++
	s.lapsed.newest = max(s.lapsed.newest, ch.index)
	return !s.broken && !s.replaced && s.goodbye == nil && s.leaseEnd > now && s.ackedAt <= ch.began
}

// answer queues an Answer.
func (s *session) answer(list []*link.Answer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken {
		return
	}
	s.answers = append(s.answers, list...)
	s.queued(answerBytes * len(list))
}

// goodbyeTime is how long an edge may take to read that its session has ended.
const goodbyeTime = time.Second

// end says goodbye, and where to go on if that is known, and closes the stream when that
// is sent, or could not be.
func (s *session) end(reason, leader string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken {
		return
	}
	s.goodbye = &link.Goodbye{Reason: reason, LeaderAddress: leader}
	s.queued(0)
	s.farewell = time.AfterFunc(goodbyeTime, s.cancel)
}

// queued counts what was queued and wakes the sender. s.mu is held.
func (s *session) queued(bytes int) {
	s.bytes += bytes
	if all := s.count(bytes); s.bytes > queueMax || all > queuesMax && s.bytes > queueFair {
		s.deaf.Store(true)
		s.cancel()
		return
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// count adds to what waits for all edges, and returns that.
func (s *session) count(bytes int) int64 {
	if s.outgoing == nil {
		return 0
	}
	return s.outgoing.Add(int64(bytes))
}

// take returns all that waits as one frame, or what a frame may carry of it and wakes the sender again; nil if nothing waits. Its bytes are
// counted until they are sent.
func (s *session) take() (f *link.ToEdge, bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.welcome == nil && s.invals == nil && s.grant == nil && s.answers == nil && s.goodbye == nil {
		return nil, 0
	}
	f = &link.ToEdge{Welcome: s.welcome}
	s.welcome = nil
	n, full := 0, false
	for ; n < len(s.invals) && !full; n++ {
		bytes += invalidateBytes(s.invals[n])
		full = n+1 == link.MaxInvalidates || bytes >= link.MaxToEdge/2
	}
	if f.Invalidates, s.invals = s.invals[:n:n], s.invals[n:]; len(s.invals) == 0 {
		// Nothing overtakes an Invalidate (I2).
		s.invals = nil
		n = min(len(s.answers), link.MaxAnswers)
		f.Grant, s.grant = s.grant, nil
		f.Answers, s.answers = s.answers[:n:n], s.answers[n:]
		bytes += answerBytes * n
		if len(s.answers) == 0 {
			s.answers = nil
			f.Goodbye = s.goodbye
		}
	}
	if s.invals != nil || s.answers != nil {
		s.queued(0)
	}
	s.bytes -= bytes
	return f, bytes
}

// breakOff marks the stream as ended. The lease runs on.
func (s *session) breakOff() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = true
	if s.farewell != nil {
		s.farewell.Stop()
	}
	s.count(-s.bytes)
	s.welcome, s.invals, s.grant, s.answers, s.goodbye, s.bytes = nil, nil, nil, nil, nil, 0
}

// stop ends granting and returns how long the edge may still hold a lease, 0 if it has
// none. Under one lock, or a grant could slip in behind the look.
func (s *session) stop(now clock.Time) (left time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	if s.replaced {
		return 0
	}
	return max(0, s.leaseEnd.Sub(now))
}

// resume allows grants again.
func (s *session) resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = false
}

// over reports whether the session is of no more consequence.
func (s *session) over(now clock.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.replaced || (s.broken && s.leaseEnd <= now)
}
