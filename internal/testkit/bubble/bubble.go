// Package bubble enters the virtual time of testing/synctest for the tests of this module.
//
// Under the race detector it holds the process to one processor for as long as any bubble lasts. All processors that run timers
// of a bubble share one context of the race detector, which is not made for that: two at once corrupt it, and the process ends by
// SIGSEGV or "ThreadSanitizer: CHECK failed" (golang/go#78156, seen with go1.26.8). It goes when that is mended.
package bubble

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
)

// Test is [synctest.Test]. Tests that run at the same time as f have one processor as well; processes that they start have all.
func Test(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	if raced {
		narrow()
		defer widen()
	}
	synctest.Test(t, f)
}

var (
	mu      sync.Mutex
	bubbles int // that are under way
	before  int // GOMAXPROCS outside of them
)

func narrow() {
	mu.Lock()
	defer mu.Unlock()
	if bubbles++; bubbles == 1 {
		before = runtime.GOMAXPROCS(1)
	}
}

func widen() {
	mu.Lock()
	defer mu.Unlock()
	if bubbles--; bubbles == 0 {
		runtime.GOMAXPROCS(before)
	}
}
