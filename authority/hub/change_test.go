package hub

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"machineid/authority/state"
	"machineid/shared/link"
)

// TestAChangeIsSettledOnlyWhenAllWereTold: an Ack may come while dispatch still
// tells others. done was closed then, and the change returned (2c62650).
func TestAChangeIsSettledOnlyWhenAllWereTold(t *testing.T) {
	run := func(sealedEarly bool) (early bool) {
		c, a, b := newChange(1, 0), &session{}, &session{}
		c.sealed = sealedEarly
		c.expect(a, 10)
		c.acknowledged(a)
		select {
		case <-c.done:
			early = true // b has not even been told
		default:
			c.expect(b, 10)
			if !c.seal() {
				t.Error("nobody is waited for, and b has not acknowledged")
			}
			c.acknowledged(b)
			<-c.done
		}
		return early
	}
	if run(false) {
		t.Error("done is closed before b was told")
	}
	if !run(true) {
		t.Error("the mutant, which has no seal, is not caught")
	}
}

// TestWhatACallReports of its changes: a session that had to be told of several is one edge, under its next session too, and one that acknowledges after its lease
// has run out has not confirmed.
func TestWhatACallReports(t *testing.T) {
	a, b, next := &session{slot: 3, edgeID: "a"}, &session{slot: 70, edgeID: "b"}, &session{slot: 5, edgeID: "b"}
	first, second := newChange(7, 0), newChange(8, 0)
	for _, c := range []*change{first, second} {
		c.expect(a, 10)
		c.expect(b, 20)
	}
	if !first.handOver(b, next) || first.handOver(b, next) || !second.handOver(b, next) {
		t.Error("b is not replaced by its next session, or twice")
	}
	for range 20 { // in whichever order they are looked at
		if over, at, more := first.expire(9); over != nil || at != 10 || !more {
			t.Errorf("at 9: %d expired, the next at %d, more %t", len(over), at, more)
		}
	}
	for _, c := range []*change{first, second} {
		if !c.seal() || !c.acknowledged(a) || c.acknowledged(a) || c.acknowledged(b) {
			t.Errorf("%d: a does not count once, or b does still", c.index)
		}
	}
	if over, at, more := first.expire(19); over != nil || at != 20 || !more {
		t.Errorf("at 19: %d expired, the next at %d, more %t", len(over), at, more)
	}
	if over, _, more := first.expire(20); len(over) != 1 || over[0] != next || more {
		t.Errorf("at 20: %d expired, more %t", len(over), more)
	}
	if first.acknowledged(next) || !second.acknowledged(next) {
		t.Error("who is late counts, or who is not does not")
	}
	for _, c := range []*change{first, second} {
		<-c.done
	}
	p := first.propagation()
	if len(p.told) != 2 || len(p.late) != 1 {
		t.Errorf("places up to 70 take %d words, up to 5 %d", len(p.told), len(p.late))
	}
	if p.Edges != 2 || p.Confirmed != 1 || p.Expired != 1 {
		t.Errorf("of the first: %+v", p)
	}
	p.Add(second.propagation())
	if p.Index != 8 || p.Edges != 2 || p.Confirmed != 1 || p.Expired != 1 {
		t.Errorf("of both: %+v", p)
	}
	p = second.propagation()
	if p.Edges != 2 || p.Confirmed != 2 || p.Expired != 0 {
		t.Errorf("of the second: %+v", p)
	}
	if p.Add(first.propagation()); p.Edges != 2 || p.Confirmed != 1 || p.Expired != 1 {
		t.Errorf("of both, the other way round: %+v", p)
	}
}

// TestAcksRaceWithDispatch: edges that acknowledge at once, while many are told.
func TestAcksRaceWithDispatch(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		w.lead()
		const edges = 16
		for i := range edges {
			p := w.join("e", byte(i))
			p.react = func(f *link.ToEdge) *link.ToAuthority {
				if n := len(f.GetInvalidates()); n > 0 {
					return &link.ToAuthority{Ack: &link.Ack{Index: f.GetInvalidates()[n-1].GetIndex()}}
				}
				return nil
			}
		}
		var callers sync.WaitGroup
		for range 8 {
			callers.Go(func() {
				for range 25 {
					p, err := w.hub.Settle(t.Context(), w.change(orgA))
					if err != nil || p.Edges != edges || p.Confirmed != edges || p.Expired != 0 {
						t.Errorf("%+v, %v", p, err)
					}
				}
			})
		}
		callers.Wait()
		if w.since() != 0 {
			t.Errorf("it took %v: somebody waited for a lease", w.since())
		}
	})
}

// TestAChangeWaitsForTheLeaseAsItWasBooked: a grant that is queued behind an
// Invalidate cannot be used before it was processed, so it does not prolong the
// wait (I2). The mutant that takes the session's newest lease would wait until
// `later`.
func TestAChangeWaitsForTheLeaseAsItWasBooked(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		w.lead()
		slow, good := w.join("slow", 1), w.join("good", 2)
		time.Sleep(time.Second)
		slow.renew()
		good.renew()
		booked := w.since() + w.left("slow")
		time.Sleep(100 * time.Millisecond)
		index := w.change(orgA)
		c := w.settle(index)
		if got := invalidated(slow.frames()); len(got) != 1 || got[0] != index {
			t.Errorf("told of %v", got)
		}
		good.ack(index)
		for range 4 {
			time.Sleep(400 * time.Millisecond)
			if slow.renew() == nil {
				t.Fatal("it holds no lease any more, so this proves nothing")
			}
			w.waits(c)
		}
		later := w.since() + w.left("slow")
		s := <-c
		if s.at != booked || later <= booked {
			t.Errorf("settled at %v, booked was until %v, later until %v", s.at, booked, later)
		}
		if s.err != nil || s.p.Edges != 2 || s.p.Confirmed != 1 || s.p.Expired != 1 || s.p.Index != index {
			t.Errorf("%+v, %v", s.p, s.err)
		}
	})
}

// TestAnAckOfALaterIndexSettlesEarlierOnes, in index order and nothing else.
func TestAnAckOfALaterIndexSettlesEarlierOnes(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		w.lead()
		p := w.join("e", 1)
		var waits []<-chan settled
		first := w.change(orgA)
		w.change(orgA)
		w.change(orgB)
		for i := range uint64(3) {
			waits = append(waits, w.settle(first+i))
		}
		p.ack(first - 1)
		w.waits(waits[0])
		p.ack(first + 1)
		w.now(waits[0])
		w.now(waits[1])
		w.waits(waits[2])
		p.ack(first + 2)
		if s := w.now(waits[2]); s.p.Confirmed != 1 {
			t.Errorf("%+v", s.p)
		}
	})
}

func TestNobodyIsWaitedForWhereNobodyIs(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		w.lead()
		if s := w.now(w.settle(w.change(orgA))); s.err != nil || s.p.Edges != 0 {
			t.Errorf("%+v", s)
		}
		// What concerns nothing is dispatched too: callers wait for its index.
		p := w.join("e", 1)
		w.hub.Notify(w.index+1, nil)
		if s := w.now(w.settle(w.index + 1)); s.err != nil || invalidated(p.frames()) != nil {
			t.Errorf("%+v", s)
		}
	})
}

// TestEachHashIsToldOnce, and hashes tell keys, orgs and devices apart.
func TestEachHashIsToldOnce(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		w.lead()
		p := w.joinHoldingAll("e", 1)
		key := [32]byte{7}
		concerns := []state.Concern{
			{Kind: state.ConcernOccupant, Org: orgA, Occupant: "d"},
			{Kind: state.ConcernKey, Key: key},
			{Kind: state.ConcernHolder, Org: orgA},
			{Kind: state.ConcernOccupant, Org: orgA, Occupant: "d"},
			{Kind: state.ConcernKey, Key: key},
		}
		w.hub.Notify(w.index+1, concerns)
		synctest.Wait()
		hasher, err := link.NewHasher(w.m.Cluster().GetHashKey())
		if err != nil {
			t.Fatal(err)
		}
		want := []uint64{hasher.Device((*[16]byte)(&orgA), []byte("d")), hasher.Key(&key), hasher.Org((*[16]byte)(&orgA))}
		var got []uint64
		for _, f := range p.frames() {
			for _, inv := range f.GetInvalidates() {
				got = append(got, inv.GetHashes()...)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("told %x, want %x", got, want)
		}
	})
}

func TestSettleOrgWaitsForThatOrgOnly(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		w.lead()
		p := w.join("e", 1)
		settleOrg := func(index uint64, org state.OrgID) <-chan settled {
			out := make(chan settled, 1)
			go func() {
				err := w.hub.SettleOrg(t.Context(), index, org)
				out <- settled{at: w.since(), err: err}
			}()
			return out
		}
		before := w.index
		first, second, third := w.change(orgA), w.change(orgB), w.change(orgA)
		w.now(settleOrg(before, orgA))
		w.now(settleOrg(first, orgB))
		a, b, all := settleOrg(first, orgA), settleOrg(third, orgB), settleOrg(third, orgA)
		w.waits(a)
		w.waits(b)
		p.ack(first)
		w.now(a)
		w.waits(b)
		p.ack(second)
		w.now(b)
		w.waits(all)
		p.ack(third)
		w.now(all)
		if n := len(w.hub.unsettled); n != 0 {
			t.Errorf("%d changes are kept as unsettled", n)
		}
	})
}

// TestSettleOfAnIndexThatMadeWay: the ring holds another change in its place.
func TestSettleOfAnIndexThatMadeWay(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		w.lead()
		p := w.join("e", 1)
		old := w.change(orgA)
		w.mu.Lock()
		w.index += recentMax - 1
		w.mu.Unlock()
		young := w.change(orgB)
		if young%recentMax != old%recentMax {
			t.Fatal("they do not share a place")
		}
		c, d := w.settle(old), w.settle(young)
		w.waits(c)
		p.ack(old)
		if s := w.now(c); s.err != nil || s.p.Index != old {
			t.Errorf("%+v", s)
		}
		w.waits(d)
	})
}

func TestSettleThatCannotTell(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		short := func() context.Context {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			t.Cleanup(cancel)
			return ctx
		}
		is := func(what string, err, want error) {
			t.Helper()
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
		}
		w.store.set(func(s *fakeStore) { s.leads = false })
		_, err := w.hub.Settle(short(), 1)
		is("not the leader", err, ErrNotLeading)
		is("not the leader", w.hub.SettleOrg(short(), 1, orgA), ErrNotLeading)
		w.store.set(func(s *fakeStore) { s.leads = true })
		_, err = w.hub.Settle(short(), 1)
		is("elected, no reign yet", err, ErrPending)

		w.lead()
		_, err = w.hub.Settle(short(), w.index+1)
		is("not dispatched", err, ErrPending)
		is("not dispatched", w.hub.SettleOrg(short(), w.index+1, orgA), ErrPending)
		p := w.join("e", 1)
		index := w.change(orgA)
		_, err = w.hub.Settle(short(), index)
		is("not acknowledged", err, ErrPending)
		is("not acknowledged", w.hub.SettleOrg(short(), index, orgA), ErrPending)
		p.ack(index)
		if _, err = w.hub.Settle(short(), index); err != nil {
			t.Errorf("acknowledged late: %v", err)
		}

		w.store.set(func(s *fakeStore) { s.leads = false })
		_, err = w.hub.Settle(short(), w.index+1)
		is("deposed, not dispatched, and the reign has not ended", err, ErrNotLeading)
		is("deposed, not dispatched, and the reign has not ended", w.hub.SettleOrg(short(), w.index+1, orgA), ErrNotLeading)
		w.store.set(func(s *fakeStore) { s.leads = true })

		index = w.change(orgA)
		c := w.settle(index)
		w.depose()
		w.waits(c) // its leases may be out
		time.Sleep(stretched)
		is("deposed", w.now(c).err, ErrNotLeading)
	})
}

// TestSettleInAHoldDown: while leases of an earlier leader may be out nothing is settled, not even what no edge of this one has to be told (I8).
func TestSettleInAHoldDown(t *testing.T) {
	inWorld(t, usual, openRecord(lease), func(w *world) {
		t := w.t
		w.lead()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		index := w.change(orgA)
		if _, err := w.hub.Settle(ctx, index); !errors.Is(err, ErrPending) {
			t.Errorf("a change: %v", err)
		}
		if err := w.hub.SettleOrg(ctx, index, orgA); !errors.Is(err, ErrPending) {
			t.Errorf("a read: %v", err)
		}
		time.Sleep(stretched)
		if _, err := w.hub.Settle(t.Context(), index); err != nil {
			t.Errorf("a change, afterwards: %v", err)
		}
		if err := w.hub.SettleOrg(t.Context(), index, orgA); err != nil {
			t.Errorf("a read, afterwards: %v", err)
		}
	})
}

// TestManyChangesWhileAnEdgeIsDead: all settle at the end of its one lease.
func TestManyChangesWhileAnEdgeIsDead(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		w.lead()
		w.join("dead", 1).hangUp()
		end := w.since() + w.left("dead")
		var callers sync.WaitGroup
		for i := range 2000 {
			callers.Go(func() {
				time.Sleep(time.Duration(rand.IntN(int(lease))))
				p, err := w.hub.Settle(t.Context(), w.change(orgA))
				if err != nil || w.since() > end || w.since() < end && p.Edges != 0 && p.Confirmed == 0 && p.Expired == 0 {
					t.Errorf("%d at %v: %+v, %v", i, w.since(), p, err)
				}
			})
		}
		callers.Wait()
		synctest.Wait()
		if n := len(w.hub.unsettled); n != 0 {
			t.Errorf("%d changes are kept as unsettled", n)
		}
	})
}

// TestAStormOfChanges: a session is told all of them, in order, each once, in few frames, and one acknowledgement settles them all. None
// waits for a lease to run out.
func TestAStormOfChanges(t *testing.T) {
	const changes = 20_000
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		w.lead()
		p := w.join("e", 1)
		before := len(p.frames())
		began := w.since()
		first := w.change(orgA)
		last := first
		for range changes - 1 {
			last = w.change(orgA)
		}
		synctest.Wait()
		frames := len(p.frames()) - before
		if want := int(last - first + 1); len(p.told) != want || !slices.IsSorted(p.told) || p.told[0] != first || p.told[want-1] != last {
			t.Fatalf("told %d of %d changes, sorted %v", len(p.told), want, slices.IsSorted(p.told))
		}
		if frames > changes/10 {
			t.Errorf("%d frames for %d changes", frames, changes)
		}
		waits := w.settle(last)
		w.waits(waits)
		p.ack(last)
		if s := w.now(waits); s.err != nil || s.p.Confirmed != 1 || s.p.Expired != 0 || w.since() != began {
			t.Errorf("%+v at %v", s, w.since()-began)
		}
		synctest.Wait()
		w.hub.mu.Lock()
		defer w.hub.mu.Unlock()
		if n := len(w.hub.unsettled); n != 0 {
			t.Errorf("%d changes are kept as unsettled", n)
		}
	})
}
