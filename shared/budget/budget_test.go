package budget

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

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
	if size := len(b.sets) * int(unsafe.Sizeof(b.sets[0])); size != 409_600 {
		t.Errorf("a table takes %d bytes", size)
	}
}

// TestWhoMakesRoom: in a full set one that has its whole burst again, else the one of those that hold nothing that has spent least.
func TestWhoMakesRoom(t *testing.T) {
	const second = time.Second
	full := func(spent [8]time.Duration, held ...uint64) (*Table, clock.Time) {
		b, now := New(100, 100*second, 1), clock.Time(time.Hour)
		for i, s := range spent {
			b.sets[0].cells[i] = cell{tag: uint64(i + 1), spent: now.Add(s)}
		}
		for _, tag := range held {
			b.sets[0].cells[tag-1].held = 1
		}
		return b, now
	}
	for what, c := range map[string]struct {
		spent [8]time.Duration
		held  []uint64
		want  uint64
	}{
		"one has earned all back":              {[8]time.Duration{5, 4, 3, -1, 7, 8, 9, 6}, nil, 4},
		"one has just earned all back":         {[8]time.Duration{5, 4, 3, 6, 7, 0, 9, 8}, nil, 6},
		"one that holds does not count":        {[8]time.Duration{5, -1, 4, 6, 7, 8, 9, 3}, []uint64{2}, 8},
		"the least":                            {[8]time.Duration{5, 4, 3, 6, 2, 8, 9, 7}, nil, 5},
		"the first is the least":               {[8]time.Duration{1, 4, 3, 6, 2, 8, 9, 7}, nil, 1},
		"the first holds":                      {[8]time.Duration{1, 9, 8, 6, 7, 8, 9, 7}, []uint64{1}, 4},
		"all hold":                             {[8]time.Duration{5, 4, 3, 6, 2, 8, 9, 7}, []uint64{1, 2, 3, 4, 5, 6, 7, 8}, 5},
		"only one holds nothing, and has much": {[8]time.Duration{5, 4, 3, 6, 2, 8, 9, 7}, []uint64{1, 2, 3, 4, 5, 6, 8}, 7},
	} {
		b, now := full(c.spent, c.held...)
		if wait, _ := b.Hold(99, now); wait != 0 {
			t.Errorf("%s: a new party waits %v", what, wait)
		}
		if got := b.sets[0].cells[c.want-1].tag; got != 99 {
			t.Errorf("%s: party %d is there still", what, got)
		}
	}
}

// TestClean: who has nothing spent may hold so many bursts more, who has just earned all back as well, and who has spent may not.
func TestClean(t *testing.T) {
	b, now := New(3, 3*time.Second, 1), clock.Time(time.Hour)
	b.Clean(2)
	holds := func(tag uint64) (n int64) {
		before := b.Held()
		for range 100 {
			b.Hold(tag, now)
		}
		return b.Held() - before
	}
	if n := holds(1); n != 9 {
		t.Errorf("a clean party holds %d", n)
	}
	b.Take(2, now)
	if n := holds(2); n != 2 {
		t.Errorf("who has spent one holds %d", n)
	}
	b.Take(3, now)
	now = now.Add(time.Second)
	if n := holds(3); n != 9 {
		t.Errorf("who has just earned all back holds %d", n)
	}
	var none *Table
	none.Clean(1)
	if wait, onlyHeld := none.Hold(1, now); wait != 0 || onlyHeld {
		t.Error("without a limit there is one")
	}
}
