package hub

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"machineid/authority/state/statepb"
	"machineid/shared/clock"
	"machineid/shared/link"
)

func openRecord(d time.Duration) *statepb.LinkRecord {
	return &statepb.LinkRecord{Open: true, LeaseNs: int64(d), CacheTtlNs: int64(time.Minute), ClockBoundPpm: 10_000}
}

// TestChangesAreHeldAfterAnOpenRecord for S of the *recorded* times, and not after
// a closed one or a first start (I8).
func TestChangesAreHeldAfterAnOpenRecord(t *testing.T) {
	closed := openRecord(lease)
	closed.Open = false
	for _, c := range []struct {
		name string
		rec  *statepb.LinkRecord
		hold time.Duration
	}{
		{"first start", nil, 0},
		{"closed", closed, 0},
		{"open", openRecord(lease), stretched},
		{"open, longer than our own", openRecord(5 * time.Second), Times{Lease: 5 * time.Second, Bound: 0.01}.Stretched()},
		{"open, shorter than our own", openRecord(time.Second), Times{Lease: time.Second, Bound: 0.01}.Stretched()},
	} {
		t.Run(c.name, func(t *testing.T) {
			inWorld(t, usual, c.rec, func(w *world) {
				t := w.t
				time.Sleep(time.Second)
				began := w.since()
				w.lead()
				p := w.join("e", 1)
				if p.renew() == nil {
					t.Error("no lease is granted in the hold-down")
				}
				index := w.change(orgA)
				wait := w.settle(index)
				p.ack(index)
				if s := <-wait; s.at != began+c.hold || s.err != nil {
					t.Errorf("settled at %v, %v; want %v", s.at, s.err, began+c.hold)
				}
				if s := w.now(w.settle(index)); s.err != nil {
					t.Error(s.err)
				}
			})
		})
	}
}

// TestTheLargerBoundCounts: a node that is told of worse clocks than the leader before waits
// by what it is told, and one that is told of better ones by what was recorded (I8).
func TestTheLargerBoundCounts(t *testing.T) {
	bad := usual
	bad.Bound = 0.1
	record := func(of Times, open, listed bool) *statepb.LinkRecord {
		rec := openRecord(of.Lease)
		rec.Open, rec.ClockBoundPpm, rec.Listed = open, uint32(of.Bound*1e6), listed
		if listed {
			process := [16]byte{9}
			rec.Holders = []*statepb.LeaseHolder{{ProcessId: process[:], LeftNs: int64(time.Second)}}
		}
		return rec
	}
	for name, c := range map[string]struct {
		before       Times
		own          Times
		open, listed bool
		hold         time.Duration
	}{
		"open, larger own":        {usual, bad, true, false, bad.Stretched()},
		"open, smaller own":       {bad, usual, true, false, bad.Stretched()},
		"closed, larger own":      {usual, bad, false, false, bad.Stretched() - usual.Stretched()},
		"closed, smaller own":     {bad, usual, false, false, 0},
		"closed, the same":        {bad, bad, false, false, 0},
		"listed, larger own":      {usual, bad, true, true, bad.Stretched()}, // whose lease was over by the smaller is not listed
		"listed, smaller own":     {bad, usual, true, true, clock.Stretch(time.Second, bad.Bound)},
		"listed, the same":        {usual, usual, true, true, clock.Stretch(time.Second, usual.Bound)},
		"listed, both are larger": {bad, bad, true, true, clock.Stretch(time.Second, bad.Bound)},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, c.own, record(c.before, c.open, c.listed), func(w *world) {
				began := w.since()
				w.lead()
				if s := <-w.settle(w.change(orgA)); s.at != began+c.hold || s.err != nil {
					t.Errorf("settled at %v, %v; want %v", s.at, s.err, began+c.hold)
				}
			})
		})
	}
}

// TestTheLongerTimesAreRecorded while earlier leases may be out: the next leader
// waits by the record. The mutant that records its own at once is what the next
// leader's hold shows.
func TestTheLongerTimesAreRecorded(t *testing.T) {
	long := 5 * time.Second
	inWorld(t, usual, openRecord(long), func(w *world) {
		t := w.t
		w.lead()
		if got := time.Duration(w.record().GetLeaseNs()); got != long {
			t.Errorf("recorded %v while leases of %v may be out", got, long)
		}
		time.Sleep(2 * time.Second) // it dies within its hold-down
		w.depose()
		began := w.since()
		w.lead()
		hold := Times{Lease: long, Bound: 0.01}.Stretched()
		if s := <-w.settle(w.change(orgA)); s.at != began+hold {
			t.Errorf("settled at %v, want %v", s.at, began+hold)
		}
		time.Sleep(lease)
		if got := w.record(); got.GetLeaseNs() != int64(lease) || !got.GetOpen() {
			t.Errorf("after the hold-down the record is %v", got)
		}
		n := len(w.proposals)
		time.Sleep(time.Minute)
		if len(w.proposals) != n {
			t.Errorf("%d proposals more", len(w.proposals)-n)
		}
	})
}

// TestALongerBoundIsNotKeptForEver: any time that was longer than our own is
// recorded anew, not only a longer lease.
func TestALongerBoundIsNotKeptForEver(t *testing.T) {
	rec := openRecord(lease)
	rec.ClockBoundPpm = 50_000
	inWorld(t, usual, rec, func(w *world) {
		t := w.t
		w.lead()
		if got := w.record().GetClockBoundPpm(); got != 50_000 {
			t.Errorf("recorded %d ppm in the hold-down", got)
		}
		time.Sleep(4 * time.Second)
		if got := w.record().GetClockBoundPpm(); got != 10_000 {
			t.Errorf("recorded %d ppm after it", got)
		}
	})
}

// TestTheBoundIsRoundedUp: 0.29 is a little less in binary, and the next leader
// would wait too short.
func TestTheBoundIsRoundedUp(t *testing.T) {
	for _, bound := range []float64{0.01, 0.29, 0.57, 1e-7, 0} {
		h := &Hub{cfg: Config{Times: Times{Lease: lease, Bound: bound}}}
		if got := times(h.linkRecord()); got.Bound < bound || got.Bound > bound+2e-6 || got.Stretched() < h.cfg.Times.Stretched() {
			t.Errorf("%v is recorded as %v", bound, got.Bound)
		}
	}
}

// TestARecordThatFailsIsTriedAgain: one lost proposal must not cost the whole term
// its leases. It did.
func TestARecordThatFailsIsTriedAgain(t *testing.T) {
	inWorld(t, usual, openRecord(lease), func(w *world) {
		t := w.t
		w.refuse = 3
		w.lead()
		p := w.join("e", 1)
		time.Sleep(expectTime)
		synctest.Wait()
		if f := p.frames(); w.hub.Leading() || len(f) != 1 || f[0].GetGoodbye() == nil || !p.over() {
			t.Error("sessions are taken before the record is there")
		}
		early := w.join("early", 2) // it waits a moment
		time.Sleep(4 * recordRetry)
		if f := early.frames(); len(f) != 1 || f[0].GetWelcome() == nil {
			t.Errorf("an edge that came a moment too early hears %v", f)
		}
		if !w.hub.Leading() || !w.record().GetOpen() {
			t.Fatal("this term gives no leases")
		}
		if w.join("e", 1).renew() == nil {
			t.Error("no grant")
		}
	})
	inWorld(t, usual, nil, func(w *world) {
		w.refuse = 1 << 30
		w.lead()
		time.Sleep(time.Minute)
		w.depose() // it returns
	})
}

// TestAnEqualRecordOfALaterTermIsNotOnesOwn: what the state says may be another leader's.
func TestAnEqualRecordOfALaterTermIsNotOnesOwn(t *testing.T) {
	inWorld(t, usual, openRecord(lease), func(w *world) {
		w.lead()
		term, rec := w.term, w.record()
		if err := w.hub.record(w.t.Context(), term, rec); err != nil {
			w.t.Error(err)
		}
		w.store.set(func(s *fakeStore) { s.term++ })
		if w.hub.record(w.t.Context(), term, rec) == nil {
			w.t.Error("a record of the term before is taken for recorded")
		}
		w.store.set(func(s *fakeStore) { s.term-- })
	})
}

// TestStopRecordsClosedOnlyIfNoLeaseIsOut (I8).
func TestStopRecordsClosedOnlyIfNoLeaseIsOut(t *testing.T) {
	gaveBack := &link.ToAuthority{Ack: &link.Ack{GaveBack: true}}
	for name, c := range map[string]struct {
		rec   *statepb.LinkRecord
		setUp func(w *world)
		free  bool
	}{
		"no edge": {nil, func(*world) {}, true},
		"an edge without a lease any more": {nil, func(w *world) {
			w.join("e", 1)
			time.Sleep(stretched)
		}, true},
		"an edge with a lease": {nil, func(w *world) { w.join("e", 1).renew() }, false},
		"an edge that said Hello": {nil, func(w *world) {
			w.join("e", 1)
			time.Sleep(stretched - 1)
		}, false},
		"an edge that gave back": {nil, func(w *world) { w.join("e", 1).tell(gaveBack) }, true},
		"one gave back, one not": {nil, func(w *world) {
			w.join("e", 1).tell(gaveBack)
			w.join("f", 2)
		}, false},
		"a broken session's lease": {nil, func(w *world) { w.join("e", 1).hangUp() }, false},
		"a broken session's lease is over": {nil, func(w *world) {
			w.join("e", 1).hangUp()
			time.Sleep(stretched)
		}, true},
		"a replaced session gave back": {nil, func(w *world) {
			w.join("e", 1)
			w.join("e", 1).tell(gaveBack)
		}, true},
		"an earlier leader's lease": {openRecord(lease), func(*world) { time.Sleep(stretched - 1) }, false},
		"the hold-down is over":     {openRecord(lease), func(*world) { time.Sleep(stretched) }, true},
		"the record fails":          {nil, func(w *world) { w.refuse = 1 }, false},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, usual, c.rec, func(w *world) {
				t := w.t
				w.lead()
				c.setUp(w)
				synctest.Wait()
				if got := w.hub.Stop(t.Context()); got != c.free {
					t.Errorf("Stop says %v", got)
				}
				if w.record().GetOpen() == c.free {
					t.Errorf("the record is %v", w.record())
				}
				for _, p := range w.peers {
					if !p.over() {
						t.Error("a session goes on")
					}
				}
				if p := w.join("new", 9); !p.over() || w.hub.Leading() {
					t.Error("a new session is taken")
				}
				if w.hub.Stop(t.Context()) && !c.free && name != "the record fails" {
					t.Error("a second Stop could")
				}
			})
		})
	}
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		if w.hub.Stop(t.Context()) || len(w.proposals) != 0 {
			t.Error("a node that does not lead records something")
		}
	})
}

// TestANodeThatDoesNotLeadSaysGoodbye, and where the leader is.
func TestANodeThatDoesNotLeadSaysGoodbye(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		w.store.set(func(s *fakeStore) { s.leads = false })
		p := w.join("e", 1)
		f := p.frames()
		if len(f) != 1 || f[0].GetGoodbye().GetLeaderAddress() != "a2:7071" || f[0].GetWelcome() != nil || !p.over() {
			t.Errorf("it says %v", f)
		}
		if err := <-p.ended; err != nil {
			t.Error(err)
		}
	})
}

// TestTheEndOfATerm ends its sessions, also those of edges that do not read, and
// its proof counts no more.
func TestTheEndOfATerm(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		w.lead()
		good, deaf := w.join("good", 1), w.join("deaf", 2)
		good.frames()
		deaf.deaf = true
		w.change(orgA) // its sender hangs in this
		synctest.Wait()
		w.depose()
		last := good.frames()
		if n := len(last); n == 0 || last[n-1].GetGoodbye() == nil || !good.over() {
			t.Errorf("the edge hears %v", last)
		}
		if deaf.over() {
			t.Error("it had no time to read its Goodbye")
		}
		deaf.tell(&link.ToAuthority{Renew: &link.Renew{}})
		time.Sleep(goodbyeTime)
		if !deaf.over() {
			t.Error("the session of an edge that does not read outlives the term")
		}
		if list := w.hub.Sessions(); list != nil {
			t.Errorf("sessions of a term that is over: %v", list)
		}
	})
}

// TestAnAckOfATermBefore settles what that term's session owes.
func TestAnAckOfATermBefore(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		w.lead()
		w.join("e", 1)
		index := w.change(orgA)
		synctest.Wait()
		w.depose()
		again := w.since()
		w.lead()
		w.join("e", 1).ack(w.index)
		s := <-w.settle(index)
		if s.err != nil || s.at < again+stretched {
			t.Errorf("at %v: %+v; leases of the term before may be out until %v", s.at, s, again+stretched)
		}
	})
}

// TestAReignThatEndsInItsHoldDown cannot tell.
func TestAReignThatEndsInItsHoldDown(t *testing.T) {
	inWorld(t, usual, openRecord(lease), func(w *world) {
		t := w.t
		w.lead()
		c := w.settle(w.change(orgA))
		w.waits(c)
		w.depose()
		if s := w.now(c); !errors.Is(s.err, ErrNotLeading) {
			t.Errorf("%+v", s)
		}
		w.lead()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := w.hub.Settle(ctx, w.index); !errors.Is(err, ErrPending) {
			t.Error(err)
		}
	})
}
