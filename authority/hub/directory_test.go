package hub

import (
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"machineid/shared/clock"
	"machineid/shared/link"
)

func slotsOf(d *directory, hash uint64) (slots []int) {
	d.holders(hash, func(slot int) { slots = append(slots, slot) })
	return slots
}

// TestInterestLastsAPeriod at the least, and two at the most (I6).
func TestInterestLastsAPeriod(t *testing.T) {
	const period = clock.Time(time.Minute)
	start := clock.Time(time.Hour)
	d := newDirectory(time.Duration(period), start)
	d.grow(70) // two words
	d.note(0, 1)
	d.note(69, 1, 2)
	if got := slotsOf(d, 1); !slices.Equal(got, []int{0, 69}) {
		t.Errorf("holders of 1: %v", got)
	}
	if got := slotsOf(d, 3); got != nil {
		t.Errorf("holders of 3: %v", got)
	}
	if got := slotsOf(d, 1+link.Buckets); !slices.Equal(got, []int{0, 69}) {
		t.Errorf("holders of another hash of the same bucket: %v", got)
	}
	d.turn(start + period - 1) // too soon
	d.turn(start + period)
	d.note(5, 1)
	d.turn(start + 2*period - 1) // too soon: what was noted just now would be forgotten early
	if got := slotsOf(d, 1); !slices.Equal(got, []int{0, 5, 69}) {
		t.Errorf("holders of 1 after a period: %v", got)
	}
	d.turn(start + 5*period) // late
	if got := slotsOf(d, 1); !slices.Equal(got, []int{5}) {
		t.Errorf("holders of 1 after two periods: %v", got)
	}
	d.turn(start + 6*period - 1) // counted from when it was turned, not from when it was due
	if got := slotsOf(d, 1); !slices.Equal(got, []int{5}) {
		t.Errorf("holders of 1: %v", got)
	}
	d.turn(start + 6*period)
	if got := slotsOf(d, 1); got != nil {
		t.Errorf("holders of 1 at last: %v", got)
	}
}

func TestHoldTakesWhatAnEdgeSays(t *testing.T) {
	d := newDirectory(time.Minute, 0)
	d.grow(0)
	held := make([]byte, link.HeldBytes)
	buckets := []uint64{0, 7, 8, 63, 64, 12345, link.Buckets - 1}
	for _, b := range buckets {
		held[b/8] |= 1 << (b % 8)
	}
	d.hold(0, held)
	var got []uint64
	for b := range uint64(link.Buckets) {
		if slotsOf(d, b) != nil {
			got = append(got, b)
		}
		if want := slices.Contains(buckets, b); link.Held(held, uint32(b)) != want {
			t.Fatalf("bucket %d: held %v", b, !want)
		}
	}
	if !slices.Equal(got, buckets) {
		t.Errorf("held %v, want %v", got, buckets)
	}
}

// TestNothingNotedIsLostInATurn: what is noted while generations turn and slots are
// added is there right after.
func TestNothingNotedIsLostInATurn(t *testing.T) {
	d := newDirectory(1, 0)
	d.grow(0)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for now := clock.Time(0); ; now++ {
			select {
			case <-stop:
				return
			default:
			}
			d.mu.RLock()
			//lint:ignore SA2001 it lets the others in
			d.mu.RUnlock()
			if now%8 == 0 {
				d.turn(now)
			}
			if now%100 == 0 && len(d.present) < 3 {
				d.grow(len(d.present) * slotsPerWord)
			}
		}
	})
	var noting sync.WaitGroup
	for slot := range 4 {
		noting.Go(func() {
			for i := range 40 {
				d.mu.RLock()
				before := d.turned
				d.mu.RUnlock()
				d.note(slot, uint64(i))
				found := slices.Contains(slotsOf(d, uint64(i)), slot)
				d.mu.RLock()
				after := d.turned
				d.mu.RUnlock()
				// Two turns may have come between on a machine that starves; one must not lose it.
				if !found && after == before {
					t.Errorf("slot %d: %d was noted and is not there", slot, i)
				}
			}
		})
	}
	noting.Wait()
	close(stop)
	wg.Wait()
}

// TestRingAgainstAModel: what it replays is all there was, or nothing.
func TestRingAgainstAModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	held := make([]byte, link.HeldBytes)
	for i := range held {
		held[i] = byte(rng.Uint32())
	}
	var r ring
	var all []invalidation
	index := uint64(0)
	for len(all) < ringMax+ringMax/4 {
		index += 1 + rng.Uint64N(3)
		hashes := make([]uint64, rng.IntN(1200))
		for i := range hashes {
			hashes[i] = rng.Uint64()
			all = append(all, invalidation{index, hashes[i]})
		}
		r.add(index, hashes)
	}
	oldest := all[len(all)-ringMax-1].index // the newest that was overwritten
	if _, ok := r.past().replay(oldest-1, held); ok {
		t.Error("it replays from before what it has")
	}
	if _, ok := r.past().replay(oldest, held); ok {
		t.Error("it replays half a million invalidations")
	}
	for range 8 {
		from := index - rng.Uint64N(min(index-oldest, 300))
		var want, got []invalidation
		for _, inv := range all {
			if inv.index > from && link.Held(held, link.BucketOf(inv.hash)) {
				want = append(want, inv)
			}
		}
		list, ok := r.past().replay(from, held)
		if ok != (len(want) <= replayMax) {
			t.Fatalf("replay of %d: %v", len(want), ok)
		}
		last := uint64(0)
		for _, msg := range list {
			if msg.GetIndex() <= last {
				t.Fatalf("index %d after %d", msg.GetIndex(), last)
			}
			last = msg.GetIndex()
			for _, h := range msg.GetHashes() {
				got = append(got, invalidation{last, h})
			}
		}
		if ok && !slices.Equal(got, want) {
			t.Fatalf("from %d: %d replayed, want %d", from, len(got), len(want))
		}
	}
	r.reset(index + 5)
	if _, ok := r.past().replay(index+4, held); ok {
		t.Error("it replays from before it was emptied")
	}
	if list, ok := r.past().replay(index+5, held); !ok || len(list) != 0 {
		t.Errorf("after it was emptied: %v, %v", list, ok)
	}
}
