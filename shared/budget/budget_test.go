package budget

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"machineid/shared/clock"
)

// TestABudgetIsExact: the whole burst at once, then one use each time it is earned,
// not a nanosecond earlier, and never more than the burst after a pause.
func TestABudgetIsExact(t *testing.T) {
	const every = 50 * time.Millisecond
	b := New(20, time.Second, Sets)
	now := clock.Time(time.Hour)
	use := func(what string, want int, wait time.Duration) {
		t.Helper()
		n := 0
		for b.Take(7, now) == 0 {
			n++
		}
		if got := b.Take(7, now); n != want || got != wait {
			t.Errorf("%s: %d uses, then wait %v; want %d and %v", what, n, got, want, wait)
		}
	}
	use("the burst", 20, every)
	now = now.Add(every - 1)
	use("just before", 0, 1)
	now++
	use("one is earned", 1, every)
	now = now.Add(5*every + every/2)
	use("five and a half", 5, every/2)
	now = now.Add(time.Hour)
	use("a long pause", 20, every)
	if b.Take(8, now) != 0 {
		t.Error("another party has no room")
	}
	var none *Table
	if none.Take(1, now) != 0 || New(0, time.Second, 1) != nil {
		t.Error("0 is a limit")
	}
}

// TestHeldAndSpentShareTheBurst: what is held takes room until it is settled, and
// gives it back if it was free.
func TestHeldAndSpentShareTheBurst(t *testing.T) {
	b, now := New(3, 3*time.Second, 1), clock.Time(time.Hour)
	hold := func(wantWait time.Duration, wantHeld bool) {
		t.Helper()
		if wait, held := b.Hold(1, now); wait != wantWait || held != wantHeld {
			t.Errorf("wait %v, only held %v; want %v, %v", wait, held, wantWait, wantHeld)
		}
	}
	hold(0, false)
	hold(0, false)
	hold(0, false)
	hold(time.Second, true)
	b.Settle(1, now, false)
	hold(0, false)
	for range 3 {
		b.Settle(1, now, true)
	}
	hold(time.Second, false)
	b.Settle(1, now, false) // nothing is held: it gives nothing back
	hold(time.Second, false)
	now = now.Add(time.Second)
	hold(0, false)
	hold(time.Second, true)
}

// TestABudgetUnderConcurrency gives exactly its burst.
func TestABudgetUnderConcurrency(t *testing.T) {
	b, now := New(100, time.Second, Sets), clock.Time(time.Hour)
	var (
		work sync.WaitGroup
		n    atomic.Int64
	)
	for range 8 {
		work.Go(func() {
			for range 1000 {
				if wait, _ := b.Hold(5, now); wait == 0 {
					b.Settle(5, now, true)
					n.Add(1)
				}
			}
		})
	}
	work.Wait()
	if n.Load() != 100 {
		t.Errorf("%d uses of 100", n.Load())
	}
}

// TestAFloodOfPartiesTakesNothingFromOthers: however many use up their budget, the
// room is the same, a new party has its burst, and one that holds room keeps it.
func TestAFloodOfPartiesTakesNothingFromOthers(t *testing.T) {
	b, now := New(5, time.Second, Sets), clock.Time(time.Hour)
	const holder = 1<<63 + 1
	b.Hold(holder, now)
	for tag := range uint64(10 * Sets * ways) {
		for wait := time.Duration(0); wait == 0; {
			wait = b.Take(tag+2, now)
		}
	}
	b.Settle(holder, now, true)
	for _, c := range []struct {
		tag  uint64
		want int
	}{{holder, 4}, {1<<62 + 1, 5}} {
		n := 0
		for b.Take(c.tag, now) == 0 {
			n++
		}
		if n != c.want {
			t.Errorf("party %x: %d uses, want %d", c.tag, n, c.want)
		}
	}
	if len(b.sets) != Sets {
		t.Errorf("%d sets", len(b.sets))
	}
}
