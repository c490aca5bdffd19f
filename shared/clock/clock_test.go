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

func TestTimeCounts(t *testing.T) {
	if got := clock.Time(5).Add(7); got != 12 {
		t.Errorf("5 and 7: %d", got)
	}
	if got := clock.Time(12).Sub(5); got != 7 {
		t.Errorf("from 5 to 12: %d", got)
	}
}

// stopped reads the same at all times; given a moment, it says that.
type stopped struct{}

func (stopped) Now() clock.Time { return 3 }

type given struct{ stopped }

func (given) At(now time.Time) clock.Time { return clock.Time(now.UnixNano()) }

// TestAtTakesTheMoment: a clock that can read for a moment that was read already does so, and any other is read.
func TestAtTakesTheMoment(t *testing.T) {
	now := time.Unix(0, 42)
	if got := clock.At(given{}, now); got != 42 {
		t.Errorf("a clock that takes the moment: %d", got)
	}
	if got := clock.At(stopped{}, now); got != 3 {
		t.Errorf("one that does not: %d", got)
	}
}

func BenchmarkSystem(b *testing.B) {
	c := clock.System()
	for b.Loop() {
		_ = c.Now()
	}
}
