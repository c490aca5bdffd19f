package hub

import (
	"sync/atomic"
	"testing"
	"testing/synctest"

	"machineid/internal/testkit/bubble"
)

// TestWorkersStay for the next job, up to a number; nothing waits for one, and the end waits for all.
func TestWorkersStay(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var w workers
		waiting := func() int {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.idle
		}
		var done atomic.Int32
		release := make(chan struct{})
		for range 3 * idleMax { // none of them is held up by those before
			w.do(func() {
				<-release
				done.Add(1)
			})
		}
		close(release)
		synctest.Wait()
		if n := waiting(); n != idleMax {
			t.Errorf("%d workers wait for more, want %d", n, idleMax)
		}
		w.do(func() { done.Add(1) })
		synctest.Wait()
		if n := waiting(); n != idleMax {
			t.Errorf("%d workers wait for more, want %d: one of those should have taken it", n, idleMax)
		}
		w.do(func() { done.Add(1) })
		w.end()
		if n := done.Load(); n != 3*idleMax+2 {
			t.Errorf("%d jobs were done, want %d", n, 3*idleMax+2)
		}
	})
	new(workers).end()
}
