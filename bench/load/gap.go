package load

import (
	"sync"
	"time"
)

// gap finds the longest time in which nothing succeeded. Each success counts from when its answer came; the beginning and the end of the
// measurement bound the first and the last gap.
type gap struct {
	mu          sync.Mutex
	last        time.Duration
	longest, at time.Duration
	ok, failed  int64
}

func (g *gap) add(now time.Duration, ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !ok {
		g.failed++
		return
	}
	g.ok++
	g.until(now)
	g.last = max(g.last, now)
}

func (g *gap) until(now time.Duration) {
	if now-g.last > g.longest {
		g.longest, g.at = now-g.last, g.last
	}
}
