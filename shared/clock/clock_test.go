package clock_test

import (
	"testing"
	"time"

	"machineid/shared/clock"
)

func TestSystemNeverGoesBack(t *testing.T) {
	c := clock.System()
	for last, end := c.Now(), c.Now().Add(20*time.Millisecond); last < end; {
		now := c.Now()
		if now < last {
			t.Fatalf("%d after %d", now, last)
		}
		last = now
	}
}

func TestStretchCoversTheWorstPairOfRates(t *testing.T) {
	const d, bound = 3 * time.Second, 0.01
	s := clock.Stretch(d, bound)
	// The leader's clock runs fast and the edge's slow: true time for each.
	leader := float64(s) / (1 + bound)
	edge := float64(d) / (1 - bound)
	if leader < edge {
		t.Errorf("the leader waits %v of true time, the edge answers for %v", time.Duration(leader), time.Duration(edge))
	}
	if got := clock.Stretch(d, 0); got < d || got > d+1 {
		t.Errorf("without a bound: %v", got)
	}
}

func BenchmarkSystem(b *testing.B) {
	c := clock.System()
	for b.Loop() {
		_ = c.Now()
	}
}
