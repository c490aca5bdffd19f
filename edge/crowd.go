package edge

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"machineid/shared/wire"
)

// crowd lets no party have more than half of the calls that are passed on at once: each takes a connection for as long as the authority needs, and one org's
// batches would else take all of them (I14). It is safe for concurrent use.
type crowd struct {
	most int64 // of one party

	mu sync.Mutex
	by map[wire.Party]*party
}

type party struct {
	room *semaphore.Weighted
	refs int // who is in it or waits; guarded by crowd.mu
}

// crowdWait is how long a call waits for its party's others.
const crowdWait = time.Second

func newCrowd(conns int) *crowd {
	return &crowd{most: int64(max(conns/2, 1)), by: map[wire.Party]*party{}}
}

// enter waits until the party has room, crowdWait at most. leave must be called if it has.
func (c *crowd) enter(who wire.Party) (leave func(), ok bool) {
	c.mu.Lock()
	p := c.by[who]
	if p == nil {
		p = &party{room: semaphore.NewWeighted(c.most)}
		c.by[who] = p
	}
	p.refs++
	c.mu.Unlock()
	gone := func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if p.refs--; p.refs == 0 {
			delete(c.by, who)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), crowdWait)
	defer cancel()
	if p.room.Acquire(ctx, 1) != nil {
		gone()
		return nil, false
	}
	return func() {
		p.room.Release(1)
		gone()
	}, true
}
