package bubble_test

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"machineid/internal/testkit/bubble"
)

// TestTimersOfABubble runs timers of one bubble from many goroutines, which ends the process at once where [bubble.Test] does not
// prevent it: there is no way to see this fault and go on.
func TestTimersOfABubble(t *testing.T) {
	for range 20 {
		bubble.Test(t, func(*testing.T) {
			var all sync.WaitGroup
			for range 8 {
				all.Go(func() {
					for range 100 {
						var timers [20]*time.Timer
						for i := range timers {
							timers[i] = time.NewTimer(0)
						}
						for _, timer := range timers {
							select {
							case <-timer.C:
							default:
							}
						}
						time.AfterFunc(0, func() {})
						time.Sleep(time.Microsecond)
					}
				})
			}
			all.Wait()
		})
	}
}

// TestProcessorsAfterBubbles holds that bubbles leave the processors as they were, whether they overlap or do not reach their end.
func TestProcessorsAfterBubbles(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	t.Run("together", func(t *testing.T) {
		for range 4 {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				bubble.Test(t, func(*testing.T) { time.Sleep(time.Hour) })
			})
		}
	})
	t.Run("skipped", func(t *testing.T) {
		t.Run("inside", func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) { t.SkipNow() })
		})
	})
	if got := runtime.GOMAXPROCS(0); got != before {
		t.Errorf("GOMAXPROCS = %d after the bubbles; want %d", got, before)
	}
}
