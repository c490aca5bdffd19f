package hub

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/raftstore"
	"machineid/shared/clock"
	"machineid/shared/link"
)

// TestAChangeConcernsItsHoldersOnly: an edge that holds nothing of it is not told
// and not waited for (I6), however dead it is.
func TestAChangeConcernsItsHoldersOnly(t *testing.T) {
	inRealWorld(t, func(w *realWorld) {
		t := w.t
		holder, other := w.greet(helloOf("holder", 1)), w.greet(helloOf("other", 2))
		if a := holder.fetch(&link.Fetch{Id: 1, KeyHash: w.hash[:], DeviceId: "d"}); !a.GetDevice().GetKnown() {
			t.Fatal(a)
		}
		other.frames()
		other.hangUp() // it would cost a whole lease
		index := w.revoke()
		c := w.settle(index)
		w.waits(c)
		if got := invalidated(holder.frames()); !slices.Equal(got, []uint64{index}) {
			t.Errorf("the holder is told of %v, want %d", got, index)
		}
		holder.ack(index)
		if s := w.now(c); s.err != nil || s.p.Edges != 1 || s.p.Confirmed != 1 {
			t.Errorf("%+v", s)
		}
		if got := invalidated(other.frames()); got != nil {
			t.Errorf("the other is told of %v", got)
		}
	})
}

// TestInterestComesBeforeTheReading: a change right after the snapshot that answers
// a fetch was opened must be told to who fetched (I5). Recorded after, it is not:
// the edge would keep the old record for as long as it likes.
func TestInterestComesBeforeTheReading(t *testing.T) {
	for name, f := range map[string]*link.Fetch{
		"by key": {Id: 1, KeyHash: bytes.Repeat([]byte{9}, 1), DeviceId: "d"}, // filled in below
		"by org": {Id: 2, OrgId: orgA[:], DeviceId: "d"},
		"alone":  {Id: 3, OrgId: orgA[:], DeviceId: "d", DeviceOnly: true},
	} {
		t.Run(name, func(t *testing.T) {
			inRealWorld(t, func(w *realWorld) {
				t := w.t
				if f.GetKeyHash() != nil {
					f.KeyHash = w.hash[:]
				}
				p := w.greet(helloOf("e", 1))
				var index uint64
				looks := 0
				last := map[string]int{"by key": 2, "by org": 1, "alone": 1}[name]
				store := &fakeStore{leads: true, reignAt: w.real.ReignAt}
				store.term, _ = w.real.Leading()
				store.view = func() (*raftstore.View, error) {
					v, err := w.real.View()
					if looks++; looks == last {
						index = w.revoke()
						for w.dispatched() < index {
							time.Sleep(time.Millisecond)
						}
					}
					return v, err
				}
				w.hub.store = store
				a := p.fetch(f)
				for ; a == nil; a = p.answer() {
					time.Sleep(time.Millisecond)
					synctest.Wait()
				}
				w.hub.store = w.real
				if a.GetDevice() == nil || (a.GetOrg() == nil) != f.GetDeviceOnly() {
					t.Fatalf("answered %v", a)
				}
				if a.GetDevice().GetRevoked() || a.GetIndex() >= index {
					t.Fatalf("the snapshot is newer than the change at %d, so this shows nothing: %v", index, a)
				}
				if !slices.Contains(p.told, index) {
					t.Errorf("%v was read before the change at %d, and nothing was said of that", a, index)
				}
			})
		})
	}
}

// TestInterestOutlastsTheSlowestEdge: what an edge fetched it may hold for a TTL of its own clock, which may be slow where this node's is fast.
// Whenever it was fetched between two turns, it is told of a change until then (I6).
func TestInterestOutlastsTheSlowestEdge(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		w.lead()
		p := w.greet(helloOf("e", 1))
		org := func(second int) state.OrgID { return state.OrgID{9, byte(second)} }
		holds := clock.Stretch(usual.CacheTTL, usual.Bound)
		began, whole := w.since(), int(holds/time.Second)
		for second := range 4 * whole { // two turns and more
			time.Sleep(began + time.Duration(second)*time.Second - w.since())
			asked := org(second)
			p.tell(&link.ToAuthority{Fetches: []*link.Fetch{{Id: uint64(second + 1), OrgId: asked[:], DeviceId: "d"}}})
			before := second - whole
			if before < 0 {
				continue
			}
			time.Sleep(holds - time.Duration(whole)*time.Second - time.Millisecond) // a moment before it cannot hold what it asked for then
			p.frames()
			index := w.change(org(before))
			synctest.Wait()
			if got := invalidated(p.frames()); !slices.Equal(got, []uint64{index}) {
				t.Fatalf("of what it fetched at second %d it is told %v at %v, want %d", before, got, w.since()-began, index)
			}
			p.ack(index)
		}
	})
}

// TestAKeyNewerThanTheQuestion: a key that comes to be between the look for its org and the reading opens an org in which no interest was
// recorded. Nothing is told of it: the edge would remember it and hear of no change (I5).
func TestAKeyNewerThanTheQuestion(t *testing.T) {
	inRealWorld(t, func(w *realWorld) {
		t := w.t
		p := w.greet(helloOf("e", 1))
		hash := [32]byte{7}
		looks := 0
		store := &fakeStore{leads: true, reignAt: w.real.ReignAt}
		store.term, _ = w.real.Leading()
		store.view = func() (*raftstore.View, error) {
			if looks++; looks == 2 { // the first was for the org
				w.must(context.Background(), &statepb.Command{Change: &statepb.Command_CreateOrg{CreateOrg: &statepb.CreateOrg{
					OrgId: orgB[:], Keys: []*statepb.Key{{Hash: hash[:], KeyId: "new"}},
				}}})
			}
			return w.real.View()
		}
		w.hub.store = store
		ask := &link.Fetch{Id: 1, KeyHash: hash[:], DeviceId: "d"}
		a := p.fetch(ask)
		for ; a == nil; a = p.answer() {
			time.Sleep(time.Millisecond)
			synctest.Wait()
		}
		w.hub.store = w.real
		if looks != 2 {
			t.Fatalf("it looked %d times, so this shows nothing", looks)
		}
		if !a.GetUnavailable() || a.GetKey() != nil {
			t.Errorf("answered %v", a)
		}
		if a = p.fetch(ask); !a.GetKey().GetKnown() || !a.GetOrg().GetKnown() {
			t.Errorf("asked again: %v", a)
		}
		index := w.must(context.Background(), &statepb.Command{Change: &statepb.Command_SetExecution{SetExecution: &statepb.SetExecution{OrgId: orgB[:]}}})
		synctest.Wait()
		if got := invalidated(p.frames()); !slices.Equal(got, []uint64{index}) {
			t.Errorf("of a change of what it opens it is told %v, want %d", got, index)
		}
	})
}

// dispatched is how far the hub has told the sessions.
func (w *world) dispatched() uint64 {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	return w.hub.dispatched
}

// TestASessionGoesOn with what its edge remembers, if all that it missed is known
// (I7): that comes with the Welcome, before any grant.
func TestASessionGoesOn(t *testing.T) {
	hash := hashesOf(orgA)[1]
	held := make([]byte, link.HeldBytes)
	held[link.BucketOf(hash)/8] |= 1 << (hash % 8)
	for name, tt := range map[string]struct {
		change func(w *world, hello *link.Hello)
		reset  bool
		replay bool
	}{
		"as it was":              {replay: true},
		"it has missed nothing":  {change: func(_ *world, h *link.Hello) { h.LastIndex++ }},
		"it holds nothing of it": {change: func(_ *world, h *link.Hello) { h.Held = make([]byte, link.HeldBytes) }},
		"another incarnation":    {change: func(_ *world, h *link.Hello) { h.Incarnation = bytes.Repeat([]byte{1}, 16) }, reset: true},
		"no incarnation":         {change: func(_ *world, h *link.Hello) { h.Incarnation = nil }, reset: true},
		"half of what it holds":  {change: func(_ *world, h *link.Hello) { h.Held = h.Held[1:] }, reset: true},
		"a state that was installed meanwhile": {change: func(w *world, h *link.Hello) {
			w.hub.Restored(h.GetLastIndex() + 1)
			synctest.Wait()
		}, reset: true},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, usual, nil, func(w *world) {
				t := w.t
				w.lead()
				hello := helloOf("e", 1)
				hello.Incarnation, hello.Held, hello.LastIndex = make([]byte, 16), held, w.index
				index := w.change(orgA)
				w.change(orgB)
				synctest.Wait()
				if tt.change != nil {
					tt.change(w, hello)
				}
				p := w.greet(hello)
				first := p.frames()[0]
				if got := first.GetWelcome().GetReset_(); got != tt.reset {
					t.Errorf("reset: %v", got)
				}
				var want []uint64
				if tt.replay {
					want = []uint64{index}
				}
				if got := invalidated([]*link.ToEdge{first}); !slices.Equal(got, want) {
					t.Errorf("told of %v with the Welcome, want %v", got, want)
				}
				if first.GetWelcome().GetIndex() != w.dispatched() || first.GetGrant() != nil {
					t.Errorf("the first frame: %v", first)
				}
				// What it holds it is told of from here on as well.
				index = w.change(orgA)
				synctest.Wait()
				told := invalidated(p.frames())
				if holds := name != "it holds nothing of it"; !tt.reset && holds != slices.Contains(told, index) {
					t.Errorf("told of %v, holds %v", told, holds)
				}
			})
		})
	}
}

// TestAnotherNodeReplaysTheSame: every node derives the ring from the log, also one
// that does not lead.
func TestAnotherNodeReplaysTheSame(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		index := w.change(orgA) // nobody leads
		synctest.Wait()
		w.lead()
		hello := helloOf("e", 1)
		hello.Incarnation, hello.LastIndex = make([]byte, 16), index-1
		hello.Held = bytes.Repeat([]byte{0xff}, link.HeldBytes)
		p := w.greet(hello)
		if got := invalidated(p.frames()); !slices.Contains(got, index) {
			t.Errorf("told of %v, want %d too", got, index)
		}
	})
}

// TestSlotsAreTakenAgain: sessions that come and go do not make the directory grow.
func TestSlotsAreTakenAgain(t *testing.T) {
	inWorld(t, usual, &statepb.LinkRecord{}, func(w *world) {
		t := w.t
		w.lead()
		for i := range 200 {
			w.join("e", byte(i%3)) // takes over from the one three before
		}
		w.hub.mu.Lock()
		defer w.hub.mu.Unlock()
		if n := len(w.hub.reign.slots); n > 4 {
			t.Errorf("%d slots for three processes", n)
		}
	})
}
