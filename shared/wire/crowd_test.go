package wire

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"machineid/internal/testkit/bubble"
)

// TestNoPartyTakesAllPlaces: beyond its half a party waits for its own, for so long at most; others do not wait.
func TestNoPartyTakesAllPlaces(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const wait = time.Second
		c := NewCrowd(6, wait)
		loud, quiet := Party{1}, Party{2}
		for range 3 {
			if !c.Enter(loud) {
				t.Fatal("no room for its half")
			}
		}
		began := time.Now()
		if !c.Enter(quiet) || time.Since(began) > 0 {
			t.Errorf("another party waits for %v", time.Since(began))
		}
		c.Leave(quiet)
		if c.Enter(loud) || time.Since(began) != wait {
			t.Errorf("one beyond its half, after %v", time.Since(began))
		}
		time.AfterFunc(wait/2, func() { c.Leave(loud) })
		if !c.Enter(loud) {
			t.Fatal("what is given back is not given on")
		}
		for range 3 {
			c.Leave(loud)
		}
		if len(c.by) != 0 {
			t.Errorf("%d parties are kept", len(c.by))
		}
	})
}

// TestACrowdWithoutAWait says no at once, and counts right whoever comes and goes.
func TestACrowdWithoutAWait(t *testing.T) {
	const places = 8
	c := NewCrowd(places, 0)
	var in, most atomic.Int64
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			for range 1000 {
				if !c.Enter(Party{1}) {
					continue
				}
				if n := in.Add(1); n > most.Load() {
					most.Store(n)
				}
				in.Add(-1)
				c.Leave(Party{1})
			}
		})
	}
	all.Wait()
	if most.Load() > places/2 || len(c.by) != 0 {
		t.Errorf("%d at once, %d parties are kept", most.Load(), len(c.by))
	}
	if one := NewCrowd(1, 0); !one.Enter(Party{1}) || one.Enter(Party{1}) {
		t.Error("of one place a party has not just that")
	}
}
