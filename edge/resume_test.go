package edge

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"machineid/shared/clock"
	"machineid/shared/format"
	"machineid/shared/link"
)

// goesOn has the scripted authority let sessions go on, with the invalidations of a
// replay.
func (a *authority) goesOn(replay ...*link.Invalidate) {
	a.set(func() {
		a.welcome = func(w *link.Welcome) *link.ToEdge {
			w.Reset_ = false
			return &link.ToEdge{Welcome: w, Invalidates: replay}
		}
	})
}

// TestASessionGoesOnWithTheMemory of the one before (I7), and with its lease: cached
// validates do not notice. What was missed is in force before it is acknowledged.
func TestASessionGoesOnWithTheMemory(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.a.devices["r"] = active()
		w.start()
		w.want("d", "ALLOW", false)
		w.want("r", "ALLOW", false)
		memory := w.e.memory.Load()
		fetches, acks := w.a.fetches(), len(w.a.heard().acks)

		// While it is away, "r" is revoked.
		w.a.set(func() { w.a.index++; w.a.devices["r"] = revoked() })
		index := w.a.index
		w.a.goesOn(&link.Invalidate{Index: index, Hashes: []uint64{w.a.device("r")}})
		w.a.breakOff()
		w.want("d", "ALLOW", true) // under the old lease, with no session
		hellos := len(w.a.heard().hellos)
		for len(w.a.heard().hellos) == hellos {
			time.Sleep(time.Millisecond)
		}
		synctest.Wait()
		if w.e.memory.Load() != memory {
			t.Error("the memory was dropped")
		}
		if memory.floor(w.a.device("r")).Load() != index {
			t.Error("the replay is not in force")
		}
		if got := w.a.heard().acks[acks:]; len(got) == 0 || got[0].GetIndex() != index {
			t.Errorf("acknowledged: %v, want %d at once", got, index)
		}
		w.want("d", "ALLOW", true)
		if n := w.a.fetches(); n != fetches {
			t.Errorf("%d fetches to find out what it knew", n-fetches)
		}
		w.want("r", "DEVICE_REVOKED", false)
		w.want("d", "ALLOW", true)
	})
}

// TestHelloSaysWhatIsHeld: the incarnation, how far the memory is current, and every
// bucket of which something may be remembered, until all of it has expired.
func TestHelloSaysWhatIsHeld(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.start()
		if h := w.a.heard().hello; h.GetHeld() != nil || h.GetIncarnation() != nil || h.GetLastIndex() != 0 || h.GetSession() != 1 {
			t.Errorf("it remembers something before the first session: %v", h)
		} else if h.GetFormat() != format.Newest {
			t.Errorf("it says that it understands format %d, want %d", h.GetFormat(), format.Newest)
		}
		w.want("d", "ALLOW", false)
		w.want("nobody", "DEVICE_NOT_FOUND", false)
		index := w.a.change(t, func() {}, 1)
		w.a.goesOn()
		again := func() *link.Hello {
			n := len(w.a.heard().hellos)
			w.a.breakOff()
			for len(w.a.heard().hellos) == n {
				time.Sleep(time.Millisecond)
			}
			return w.a.heard().hello
		}
		h := again()
		if !bytes.Equal(h.GetIncarnation(), make([]byte, 16)) || h.GetLastIndex() != index || len(h.GetHeld()) != link.HeldBytes {
			t.Fatalf("incarnation %x, index %d of %d, %d bytes", h.GetIncarnation(), h.GetLastIndex(), index, len(h.GetHeld()))
		}
		if h.GetSession() != 2 {
			t.Errorf("it is session %d of the process", h.GetSession())
		}
		sum := w.key.Hash()
		want := []uint64{w.a.hashing.Key((*[32]byte)(&sum)), w.a.hashing.Org(&testOrg), w.a.device("d"), w.a.device("nobody")}
		count := 0
		for b := range uint32(link.Buckets) {
			if link.Held(h.GetHeld(), b) {
				count++
			}
		}
		for _, hash := range want {
			if !link.Held(h.GetHeld(), link.BucketOf(hash)) {
				t.Errorf("%x is not held", hash)
			}
		}
		if count > len(want) {
			t.Errorf("%d buckets are held, for %d records", count, len(want))
		}
		time.Sleep(testTTL - time.Second)
		if h = again(); !link.Held(h.GetHeld(), link.BucketOf(want[0])) {
			t.Error("forgotten before it has expired")
		}
		time.Sleep(2 * testTTL)
		if h = again(); !bytes.Equal(h.GetHeld(), make([]byte, link.HeldBytes)) {
			t.Error("held on after everything has expired")
		}
		// A grant says how far it is current as well.
		w.a.set(func() { w.a.index += 10 })
		time.Sleep(testLease)
		if h = again(); h.GetLastIndex() != w.a.index {
			t.Errorf("current to %d, granted up to %d", h.GetLastIndex(), w.a.index)
		}
	})
}

// TestAMemoryThatDoesNotFitIsDropped, whatever the authority says.
func TestAMemoryThatDoesNotFitIsDropped(t *testing.T) {
	for name, change := range map[string]func(*link.Welcome){
		"another incarnation": func(w *link.Welcome) { w.Incarnation = bytes.Repeat([]byte{1}, 16) },
		"another hash key":    func(w *link.Welcome) { w.HashKey = bytes.Repeat([]byte{1}, 16) },
		"another TTL":         func(w *link.Welcome) { w.CacheTtlNs /= 2 },
		"a reset":             func(w *link.Welcome) { w.Reset_ = true },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				t := w.t
				w.start()
				w.want("d", "ALLOW", false)
				memory := w.e.memory.Load()
				w.a.set(func() {
					w.a.devices["d"] = revoked()
					w.a.welcome = func(w *link.Welcome) *link.ToEdge {
						w.Reset_ = false
						change(w)
						return &link.ToEdge{Welcome: w}
					}
				})
				w.a.breakOff()
				time.Sleep(time.Second)
				if w.e.memory.Load() == memory {
					t.Error("the memory was kept")
				}
				w.want("d", "DEVICE_REVOKED", false)
			})
		})
	}
}

// TestHoldingKeepsForATTL at the least.
func TestHoldingKeepsForATTL(t *testing.T) {
	const ttl = 10 * time.Second
	var h holding
	at := func(s int) clock.Time { return clock.Time(time.Hour) + clock.Time(s)*clock.Time(time.Second) }
	h.add(1, at(0), ttl)
	h.add(2, at(9), ttl)
	h.add(3, at(10), ttl)
	h.add(4, at(19), ttl)
	for s, want := range map[int][]uint64{19: {1, 2, 3, 4}, 20: {3, 4}, 29: {3, 4}, 30: nil} {
		c := h
		held := c.all(at(s), ttl)
		for _, hash := range []uint64{2, 3, 4} {
			got := link.Held(held, link.BucketOf(hash))
			should := false
			for _, w := range want {
				should = should || w == hash
			}
			if got != should {
				t.Errorf("after %d s: %d held %v", s, hash, got)
			}
		}
	}
}

// TestIncarnationsAreInOrder: under a newer one any term counts, an older one is
// refused whatever its term, and nothing that was remembered is carried over (I7). An
// older term of the same counts only if it is proven and nothing is kept (I13).
func TestIncarnationsAreInOrder(t *testing.T) {
	for name, tt := range map[string]struct {
		incarnation   byte
		term          uint64
		proven, keeps bool
		want          string
	}{
		"a restored state, with an older term": {incarnation: 8, term: 1, want: "DEVICE_REVOKED"},
		"the past, with a newer term":          {incarnation: 6, term: 99, want: "SYSTEM_UNAVAILABLE"},
		"the same, with an older term":         {incarnation: 7, term: 4, want: "SYSTEM_UNAVAILABLE"},
		"with an older term that is proven":    {incarnation: 7, term: 4, proven: true, want: "DEVICE_REVOKED"},
		"proven, and what is remembered stays": {incarnation: 7, term: 4, proven: true, keeps: true, want: "SYSTEM_UNAVAILABLE"},
		"the past, and proven":                 {incarnation: 6, term: 99, proven: true, want: "SYSTEM_UNAVAILABLE"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				say := func(incarnation byte, term uint64) {
					w.a.set(func() {
						w.a.welcome = func(w *link.Welcome) *link.ToEdge {
							w.Incarnation, w.Term = bytes.Repeat([]byte{incarnation}, 16), term
							w.Proven, w.Reset_ = tt.proven, !tt.keeps
							return &link.ToEdge{Welcome: w}
						}
					})
				}
				say(7, 5)
				w.start()
				w.want("d", "ALLOW", false)
				w.a.set(func() { w.a.devices["d"] = revoked() })
				say(tt.incarnation, tt.term)
				w.a.breakOff()
				time.Sleep(2 * testLease)
				if got := w.validate("d").Code; got != tt.want {
					w.t.Errorf("%s, want %s", got, tt.want)
				}
			})
		})
	}
}

// TestAnotherHistoryBeginsWithNothing (I13): neither the memory nor the lease of the history before outlives a Welcome that proves another.
func TestAnotherHistoryBeginsWithNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.a.term = 7
		w.start()
		w.want("d", "ALLOW", false)
		w.want("d", "ALLOW", true)
		reign := bytes.Repeat([]byte{9}, 16)
		w.a.set(func() {
			w.a.term, w.a.index, w.a.devices["d"] = 3, 5, revoked()
			w.a.grant = func(*link.Renew) *link.Grant { return nil }
			w.a.welcome = func(w *link.Welcome) *link.ToEdge {
				w.Proven, w.Reign = true, reign
				return &link.ToEdge{Welcome: w}
			}
		})
		w.a.breakOff()
		time.Sleep(testLease / 2) // the lease of before would still run
		w.want("d", "SYSTEM_UNAVAILABLE", false)
		w.a.set(func() { w.a.grant = nil })
		time.Sleep(testLease / 2)
		w.want("d", "DEVICE_REVOKED", false)
		// From here on it says whose it is: an older index, term and reign.
		index := w.a.change(t, func() {}, 1)
		w.a.breakOff()
		time.Sleep(testLease)
		if h := w.a.heard().hello; h.GetTerm() != 3 || h.GetLastIndex() != index || !bytes.Equal(h.GetReign(), reign) {
			t.Errorf("it says that it knows %d of term %d and reign %x", h.GetLastIndex(), h.GetTerm(), h.GetReign())
		}
	})
}
