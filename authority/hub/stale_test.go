package hub

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"machineid/shared/link"
)

// Those of this file, and TestAnEdgeThatKnowsMoreIsTurnedAway, were found by the search of shared/link/model, where each is a
// rule with its mutant.

// TestNoSessionBeforeTheDispatchHasCaughtUp: a session that joined before would have
// its leases, and hear of what has returned at an earlier leader only later.
func TestNoSessionBeforeTheDispatchHasCaughtUp(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		w.stop() // the dispatch stands still
		<-w.done
		hello := helloOf("e", 1)
		hello.Incarnation, hello.Held, hello.LastIndex = make([]byte, 16), make([]byte, link.HeldBytes), w.dispatched()
		b := link.BucketOf(hashesOf(orgA)[1])
		hello.Held[b/8] |= 1 << (b % 8)
		index := w.change(orgA) // committed, and it has returned, in an earlier term
		w.lead()
		p := w.greet(hello)
		time.Sleep(2 * expectTime)
		if !p.over() {
			t.Errorf("an edge was taken with the dispatch at %d, and %d is applied: %v", w.dispatched(), index, p.frames())
		}
		ctx, stop := context.WithCancel(t.Context())
		w.stop, w.done = stop, make(chan struct{})
		go func() {
			defer close(w.done)
			_ = w.hub.Run(ctx)
		}()
		synctest.Wait()
		if got := invalidated(w.greet(hello).frames()); !slices.Equal(got, []uint64{index}) {
			t.Errorf("told of %v with the Welcome, want %d", got, index)
		}
	})
}

// TestAnOvertakenHelloIsRefused: a Hello that comes after a later one of its process
// says less than what is held by now. In the later one's place, the leader would not
// tell the edge of the rest, and not wait for it.
func TestAnOvertakenHelloIsRefused(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		w.lead()
		later := helloOf("e", 1)
		later.Session, later.LastIndex = 2, w.dispatched()
		later.Incarnation, later.Held = make([]byte, 16), slices.Repeat([]byte{0xff}, link.HeldBytes)
		p := w.greet(later)
		earlier := helloOf("e", 1)
		earlier.Session = 1
		if !w.greet(earlier).over() {
			t.Error("the earlier Hello has a session")
		}
		if p.over() {
			t.Fatal("the later Hello has none any more")
		}
		index := w.change(orgA)
		wait := w.settle(index)
		w.waits(wait)
		p.ack(index)
		if s := w.now(wait); s.p.Confirmed != 1 {
			t.Errorf("settled as %+v", s)
		}
		next := helloOf("e", 1)
		next.Session = 3
		if w.greet(next).over() || !p.over() {
			t.Error("the next Hello does not take over")
		}
	})
}

// TestADeposedNodeVouchesForNothing that it has applied since, though its reign has not
// ended yet: its sessions are not those that must be waited for.
func TestADeposedNodeVouchesForNothing(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		w.lead()
		index := w.change(orgA)
		synctest.Wait()
		if err := w.hub.SettleOrg(t.Context(), index, orgA); err != nil {
			t.Fatal(err)
		}
		w.store.set(func(s *fakeStore) { s.leads = false })
		if err := w.hub.SettleOrg(t.Context(), index, orgA); !errors.Is(err, ErrNotLeading) {
			t.Errorf("not leading: %v", err)
		}
		w.store.set(func(s *fakeStore) { s.leads, s.term = true, s.term+1 })
		if err := w.hub.SettleOrg(t.Context(), index, orgA); !errors.Is(err, ErrNotLeading) {
			t.Errorf("leading another term than the reign's: %v", err)
		}
	})
}
