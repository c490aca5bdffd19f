package wire

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// Crowd lets no party have more than half of a number of places, so that one party's calls do not keep the others out (I14). How many places there are in all
// is for others to see to. It is safe for concurrent use.
type Crowd struct {
	most int64 // of one party
	wait time.Duration

	mu sync.Mutex
	by map[Party]*group
}

// group is one party's part of a crowd.
type group struct {
	room *semaphore.Weighted
	refs int // who is in it or waits; guarded by Crowd.mu
}

// NewCrowd returns one for so many places. Who finds its party's part taken waits for so long.
func NewCrowd(places int, wait time.Duration) *Crowd {
	return &Crowd{most: int64(max(places/2, 1)), wait: wait, by: map[Party]*group{}}
}

// Enter takes a place, once the party has one. Leave gives it back. It reports false where none came free in time.
func (c *Crowd) Enter(who Party) bool { return c.EnterWithin(who, c.wait) }

// EnterWithin is Enter of a call that has only so much time left, and waits no longer.
func (c *Crowd) EnterWithin(who Party, left time.Duration) bool {
	c.mu.Lock()
	g := c.by[who]
	if g == nil {
		g = &group{room: semaphore.NewWeighted(c.most)}
		c.by[who] = g
	}
	g.refs++
	c.mu.Unlock()
	if g.room.TryAcquire(1) || c.waits(g, min(c.wait, left)) {
		return true
	}
	c.gone(who, g)
	return false
}

func (c *Crowd) waits(g *group, most time.Duration) bool {
	if most <= 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	return g.room.Acquire(ctx, 1) == nil
}

// Leave gives back a place that Enter has taken.
func (c *Crowd) Leave(who Party) {
	c.mu.Lock()
	g := c.by[who]
	c.mu.Unlock()
	g.room.Release(1)
	c.gone(who, g)
}

func (c *Crowd) gone(who Party, g *group) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if g.refs--; g.refs == 0 {
		delete(c.by, who)
	}
}
