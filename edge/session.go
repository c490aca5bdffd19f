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
	e          *Edge
	stream     link.Link_SessionClient
	memory     *memory
	lease, ttl time.Duration
	sole       bool // there is no other authority node to try
	wake       chan struct{}

	mu       sync.Mutex
	over     bool
	returned bool          // the lease was given back: grants are ignored
	gone     chan struct{} // closed when the give-back was sent
	renewDue bool
	asked    clock.Time // the oldest renewal that was not answered, 0 for none
	acked    uint64
	ackDue   bool
	fetches  []*flight
}

// run sends and receives until the session ends.
func (s *session) run(ctx context.Context, cancel func(), patience *time.Timer, first *link.ToEdge) error {
	var work sync.WaitGroup
	defer work.Wait()
	defer s.end()
	defer cancel()
	work.Go(func() {
		defer cancel()
		s.send(ctx)
	})
	work.Go(func() { s.renew(ctx, cancel) })
	s.nudge()
	patience.Stop() // from here on renew watches
	for f := first; ; {
		s.receive(f)
		if g := f.GetGoodbye(); g != nil {
			return fmt.Errorf("the authority said goodbye: %s", g.GetReason())
		}
		var err error
		if f, err = s.stream.Recv(); err != nil {
			return fmt.Errorf("session: %w", err)
		}
	}
}

// end lets those go that wait for this session. Its lease and memory stay in
// force: to the lease's end, or until the next session.
func (s *session) end() {
	s.mu.Lock()
	s.over = true
	s.mu.Unlock()
	s.memory.flights.end()
	s.e.down()
}

// renew asks for a lease every quarter of one, and ends a session in which no
// grant comes: this node may not lead any more and not know it.
func (s *session) renew(ctx context.Context, cancel func()) {
	tick := time.NewTicker(s.lease / 4)
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
		if err := s.stream.Send(f); err != nil {
			return
		}
		if f.GetAck().GetGaveBack() {
			close(s.gone)
			return
		}
	}
}

// take collects the next frame, nil if nothing is due. The times in it are read
// here, before it is sent: earlier than the authority can have seen it.
func (s *session) take() *link.ToAuthority {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.renewDue && !s.ackDue && len(s.fetches) == 0 {
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
	if n := len(s.fetches); n > 0 {
		f.Fetches = make([]*link.Fetch, n)
		for i, fl := range s.fetches {
			fl.sent = now
			f.Fetches[i] = &fl.fetch
		}
	}
	s.renewDue, s.ackDue, s.fetches = false, false, nil
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

// receive puts one frame in force, in the order of its fields.
func (s *session) receive(f *link.ToEdge) {
	if list := f.GetInvalidates(); len(list) > 0 {
		for _, inv := range list {
			for _, hash := range inv.GetHashes() {
				s.memory.raise(hash, inv.GetIndex())
			}
		}
		// Only now: an Ack says that every floor is up (I3).
		s.mu.Lock()
		s.acked = max(s.acked, list[len(list)-1].GetIndex())
		s.ackDue = true
		s.mu.Unlock()
		s.nudge()
		s.e.metrics.invalidations.Add(float64(len(list)))
	}
	if g := f.GetGrant(); g != nil {
		s.grant(g)
	}
	for _, a := range f.GetAnswers() {
		s.answer(a)
	}
}

// grant extends the lease, counted from when it was asked for (I1.3).
func (s *session) grant(g *link.Grant) {
	s.mu.Lock()
	if s.returned {
		s.mu.Unlock()
		return
	}
	s.asked = 0
	until := g.GetAskedAtNs() + g.GetGrantedNs()
	// The authority read its time after we asked, so this is never behind.
	s.e.ahead.Store(g.GetNowMs()*int64(time.Millisecond) - g.GetAskedAtNs())
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
	fl := s.memory.flights.take(a.GetId())
	if fl == nil {
		return
	}
	if !a.GetUnavailable() {
		fl.got = s.records(a, fl)
		s.memory.keep(fl.got)
	}
	close(fl.done)
}

// records makes entries of an answer. Their expiry counts from when the fetch
// was sent (I5).
func (s *session) records(a *link.Answer, fl *flight) *found {
	at := stamp{index: a.GetIndex(), expires: fl.sent.Add(s.ttl), epoch: s.memory.epoch}
	got := &found{}
	org := orgID{}
	if len(fl.fetch.GetOrgId()) == len(org) {
		org = orgID(fl.fetch.GetOrgId())
	}
	if k := a.GetKey(); k != nil {
		if len(k.GetOrgId()) == len(org) {
			org = orgID(k.GetOrgId())
		}
		got.key = &keyEntry{
			stamp: at, sum: orgkey.Hash(fl.fetch.GetKeyHash()), org: org, orgHash: s.memory.hasher.Org(&org),
			rec: decision.Key{MinVersion: k.GetMinVersion(), Known: k.GetKnown(), ExpiresAt: k.GetExpiresAtMs()},
		}
		got.key.hash = s.memory.hasher.Key((*[32]byte)(&got.key.sum))
	}
	if o := a.GetOrg(); o != nil {
		got.org = &orgEntry{stamp: at, id: org, rec: decision.Holder{
			MinVersion: o.GetMinVersion(), Known: o.GetKnown(), Disabled: o.GetDisabled(), Frozen: o.GetFrozen(),
			GraceUntil: o.GetGraceUntilMs(), AccessUntil: o.GetAccessUntilMs(),
		}}
	}
	if d := a.GetDevice(); d != nil {
		got.device = &deviceEntry{stamp: at, org: org, id: fl.fetch.GetDeviceId(), rec: decision.Occupant{
			MinVersion: d.GetMinVersion(), Known: d.GetKnown(), Revoked: d.GetRevoked(), ExpiresAt: d.GetExpiresAtMs(),
		}}
	}
	return got
}

// giveBack drops the lease for good and tells the leader so.
func (s *session) giveBack(ctx context.Context) {
	s.mu.Lock()
	if s.over || s.returned {
		s.mu.Unlock()
		return
	}
	s.e.lease.Store(0)
	s.returned, s.ackDue = true, true
	s.gone = make(chan struct{})
	s.mu.Unlock()
	s.nudge()
	select {
	case <-s.gone:
	case <-ctx.Done():
	}
}
