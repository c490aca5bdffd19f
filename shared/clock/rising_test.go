package clock_test

import (
	"sync"
	"testing"

	"machineid/shared/clock"
)

func TestRising(t *testing.T) {
	var r clock.Rising
	if got := r.Latest(); got != 0 {
		t.Errorf("before anything: %d", got)
	}
	for _, step := range []struct{ raise, want int64 }{{5, 5}, {3, 5}, {5, 5}, {9, 9}, {-1, 9}} {
		if got := r.Raise(step.raise); got != step.want || r.Latest() != step.want {
			t.Errorf("raised to %d: %d, %d, want %d", step.raise, got, r.Latest(), step.want)
		}
	}
}

// Whoever raises it sees no time that is earlier than one which was seen before.
func TestRisingAtOnce(t *testing.T) {
	var r clock.Rising
	var at sync.WaitGroup
	for from := range int64(4) {
		at.Go(func() {
			var last int64
			for i := range int64(2000) {
				got := r.Raise(from + 4*(i^7))
				if got < last || got < from+4*(i^7) {
					t.Errorf("%d after %d", got, last)
				}
				last = got
			}
		})
	}
	at.Wait()
}
