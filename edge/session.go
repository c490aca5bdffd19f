package edge

import (
	"context"
	"fmt"
	"sync"
	"time"

	"machineid/shared/clock"
	"machineid/shared/decision"
	"machineid/shared/link"
	"machineid/shared/orgkey"
)

const decisionVersion = decision.Version

// session is one stream with the leader, and the memory that goes with it.
type session struct {
	e       *Edge
	stream  link.Link_SessionClient
	memory  *memory
	flights *flights
	lease   time.Duration
	sole    bool // there is no other authority node to try
	wake    chan struct{}

	mu       sync.Mutex
	over     bool
	returned bool          // the lease was given back: grants are ignored
	gone     chan struct{} // closed when the session has ended; made by giveBack
	renewDue bool
	asked    clock.Time // the oldest renewal that was not answered, 0 for none
	acked    uint64
	ackDue   bool
	fetches  []*flight
	report   *link.Report // goes when nothing else is due
}

// run sends and receives until the session ends, and returns where the leader is if
// the node said so.
func (s *session) run(ctx context.Context, cancel func(), patience *time.Timer, first *link.ToEdge) (leader string, err error) {
	var work sync.WaitGroup
	defer work.Wait()
	defer s.end()
	defer cancel()
	work.Go(func() {
		defer cancel()
		s.send(ctx)
	})
	work.Go(func() { s.renew(ctx, cancel) })
	work.Go(func() { s.reports(ctx) })
	s.nudge()
	patience.Stop() // from here on renew watches
	for f := first; ; {
		s.receive(f)
		if w := f.GetWelcome(); w != nil {
			s.current(w.GetIndex())
		}
		if g := f.GetGoodbye(); g != nil {
			return g.GetLeaderAddress(), fmt.Errorf("the authority said goodbye: %s", g.GetReason())
		}
		if f, err = s.stream.Recv(); err != nil {
			return "", fmt.Errorf("session: %w", err)
		}
	}
}

// end lets those go that wait for this session. Its lease and memory stay in
// force: to the lease's end, or until the next session.
func (s *session) end() {
	s.mu.Lock()
	s.over = true
	if s.gone != nil {
		close(s.gone)
	}
	s.mu.Unlock()
	s.flights.end()
	s.e.proxy.lost()
	s.e.down()
}

// renew asks for a lease every quarter of one, and ends a session in which no
// grant comes: this node may not lead any more and not know it.
func (s *session) renew(ctx context.Context, cancel func()) {
	tick := time.NewTicker(max(s.lease/4, time.Millisecond))
	defer tick.Stop()
	patience := max(s.lease/4, minPatience)
	if s.sole {
		patience = max(s.lease, minPatience)
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		s.mu.Lock()
		s.renewDue = true
		late := s.asked != 0 && s.e.clock.Now().Sub(s.asked) > patience
		s.mu.Unlock()
		if late {
			cancel()
			return
		}
		s.nudge()
	}
}

func (s *session) nudge() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// send writes what is due; all that has gathered goes as one frame, in which a
// Renew is ahead of everything else (I1.2).
func (s *session) send(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		f := s.take()
		if f == nil {
			continue
		}
		if err := s.e.tell(s.stream, f); err != nil {
			return
		}
		if f.GetAck().GetGaveBack() {
			// To cancel the stream now could overtake what was just sent. The authority
			// ends the session when it has read so far.
			_ = s.stream.CloseSend()
			<-ctx.Done()
			return
		}
		if f.Fetches != nil {
			s.nudge() // there may be more
		}
	}
}

// fetchesMax bounds the fetches of one frame. 20,000 validates may ask at once, with
// ids of 256 bytes: in one frame that would be more than the authority takes, and
// the session would end.
const fetchesMax = link.MaxFetches

// take collects the next frame, nil if nothing is due. The times in it are read
// here, before it is sent: earlier than the authority can have seen it.
func (s *session) take() *link.ToAuthority {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.renewDue && !s.ackDue && len(s.fetches) == 0 && s.report == nil {
		return nil
	}
	f, now := &link.ToAuthority{}, s.e.clock.Now()
	if s.renewDue && !s.returned {
		f.Renew = &link.Renew{AskedAtNs: int64(now)}
		if s.asked == 0 {
			s.asked = now
		}
	}
	if s.ackDue {
		f.Ack = &link.Ack{Index: s.acked, GaveBack: s.returned}
	}
	if n := min(len(s.fetches), fetchesMax); n > 0 {
		f.Fetches = make([]*link.Fetch, n)
		for i, fl := range s.fetches[:n] {
			fl.sent.CompareAndSwap(0, int64(now))
			f.Fetches[i] = &fl.fetch
		}
		s.fetches = s.fetches[n:]
		if len(s.fetches) == 0 {
			s.fetches = nil // what is behind it may go
		}
	}
	if len(s.fetches) == 0 {
		f.Report, s.report = s.report, nil // behind everything else (I10)
	}
	s.renewDue, s.ackDue = false, false
	return f
}

// fetch queues a flight; false if the session is over. It is called under the
// lock of the flights.
func (s *session) fetch(f *flight) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over || s.returned {
		return false
	}
	s.fetches = append(s.fetches, f)
	s.nudge()
	return true
}

// receive puts one frame in force, in the order of its fields. Its time comes first: what is acknowledged or answered then is judged by it, or a later one (I11).
func (s *session) receive(f *link.ToEdge) {
	s.e.time.hear(f.GetNowMs())
	if list := f.GetInvalidates(); len(list) > 0 {
		for _, inv := range list {
			for _, hash := range inv.GetHashes() {
				s.memory.raise(hash, inv.GetIndex())
			}
		}
		s.current(list[len(list)-1].GetIndex())
		s.e.metrics.invalidations.Add(float64(len(list)))
	}
	if g := f.GetGrant(); g != nil {
		s.grant(g)
	}
	for _, a := range f.GetAnswers() {
		s.answer(a)
	}
}

// current says that every invalidation of this memory up to index is in force, and
// only then is it said: an Ack tells that the floors are up (I3), also those that an
// earlier session of this process owed (I2).
func (s *session) current(index uint64) {
	s.memory.current = max(s.memory.current, index)
	s.mu.Lock()
	s.acked = max(s.acked, index)
	s.ackDue = true
	s.mu.Unlock()
	s.nudge()
}

// grantMax is far above any lease that a leader may say that it gives (5 s).
const grantMax = time.Minute

// grant extends the lease, counted from when it was asked for (I1.3). What no leader says, a grant of more than its leases or one that was
// asked for in the future, is none: a sum that wraps would be a lease for ever.
func (s *session) grant(g *link.Grant) {
	if asked, granted := g.GetAskedAtNs(), g.GetGrantedNs(); asked <= 0 || asked > int64(s.e.clock.Now()) || granted <= 0 || granted > int64(min(s.lease, grantMax)) {
		return
	}
	s.mu.Lock()
	if s.returned {
		s.mu.Unlock()
		return
	}
	s.asked = 0
	s.e.asked.Store(g.GetAskedAtNs())
	s.memory.current = max(s.memory.current, g.GetIndex())
	until := g.GetAskedAtNs() + g.GetGrantedNs()
	s.e.time.count(g.GetNowMs(), g.GetAskedAtNs(), s.e.clock.Now()) // before the lease, under which it is judged
	if s.e.lease.Load() < until {
		s.e.lease.Store(until) // under the lock: giveBack drops it under the same
	}
	s.mu.Unlock()
	if _, lostAt := s.e.awake(); lostAt != 0 {
		s.e.up()
	}
}

// answer lands a flight.
func (s *session) answer(a *link.Answer) {
	fl := s.flights.take(a.GetId())
	if fl == nil {
		return
	}
	if !a.GetUnavailable() {
		s.memory.read = max(s.memory.read, a.GetIndex())
		if fl.got = s.records(a, fl); fl.got != nil {
			s.memory.keep(fl.got, s.e.clock.Now())
		}
	}
	s.flights.limits.landed(fl, fl.got)
	close(fl.done)
}

// records makes entries of an answer, nil of one that does not fit what was asked.
// Their expiry counts from when the fetch was sent (I5).
func (s *session) records(a *link.Answer, fl *flight) *found {
	sent := clock.Time(fl.sent.Load())
	k, byKey := a.GetKey(), fl.key.kind == needKey
	if sent == 0 || byKey != (k != nil) {
		return nil
	}
	at := stamp{index: a.GetIndex(), expires: sent.Add(s.memory.ttl), epoch: s.memory.epoch}
	got := &found{}
	id := fl.fetch.GetOrgId()
	if byKey {
		id = k.GetOrgId()
	}
	org := orgID{}
	switch {
	case len(id) == len(org):
		org = orgID(id)
	case !byKey || k.GetKnown():
		return nil // a key opens an org
	}
	of := s.memory.ownerOf(org)
	if byKey {
		got.key = newKey(at, orgkey.Hash(fl.fetch.GetKeyHash()), of, s.memory.hasher,
			decision.Key{MinVersion: k.GetMinVersion(), Known: k.GetKnown(), ExpiresAt: k.GetExpiresAtMs()})
	}
	if o := a.GetOrg(); o != nil {
		got.org = newOrg(at, of, decision.Holder{
			MinVersion: o.GetMinVersion(), Known: o.GetKnown(), Disabled: o.GetDisabled(), Frozen: o.GetFrozen(),
			GraceUntil: o.GetGraceUntilMs(), AccessUntil: o.GetAccessUntilMs(),
		})
	}
	if d := a.GetDevice(); d != nil {
		got.device = newDevice(at, of, fl.fetch.GetDeviceId(), decision.Occupant{
			MinVersion: d.GetMinVersion(), Known: d.GetKnown(), Revoked: d.GetRevoked(), ExpiresAt: d.GetExpiresAtMs(),
		})
	}
	return got
}

// giveBack drops the lease for good, tells the leader so, and waits until it has
// ended the session: then it knows.
func (s *session) giveBack(ctx context.Context) {
	s.mu.Lock()
	if s.over || s.returned {
		s.mu.Unlock()
		return
	}
	s.e.lease.Store(0)
	s.returned, s.ackDue = true, true
	gone := make(chan struct{})
	s.gone = gone
	s.mu.Unlock()
	s.nudge()
	select {
	case <-gone:
	case <-ctx.Done():
	}
}
