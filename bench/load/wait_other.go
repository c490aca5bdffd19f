//go:build !linux

package load

import (
	"sync"
	"time"
)

// waiter sleeps as precisely as the runtime does. It belongs to one goroutine, but for wake.
type waiter struct {
	once  sync.Once
	ended chan struct{}
}

func newWaiter() (*waiter, error) { return &waiter{ended: make(chan struct{})}, nil }

// sleep returns true after d, or false as soon as the waiter is woken.
func (w *waiter) sleep(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-w.ended:
		return false
	}
}

// wake ends the sleep that is under way and every later one.
func (w *waiter) wake() { w.once.Do(func() { close(w.ended) }) }

func (w *waiter) close() { w.wake() }
