package hub

import (
	"context"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sync/semaphore"

	"machineid/shared/link"
)

// work bounds what edges may have this node do (I14). What a session asks beyond its share is read later, and so is what it asks after that, so only its own renewals are behind it.
// A well-behaved edge comes nowhere near: 35,000 misses a second, each in a frame of its own, are less than what a session may on two cores.
type work struct {
	every time.Duration // for each fetch of a session
	burst int           // fetches
	// reading is for slices of fetches, of all sessions and, so many, of one.
	reading *semaphore.Weighted
	ofOne   int64
}

// share is what is done for one session.
type share struct {
	all     meter
	reading *semaphore.Weighted
}

func (w *work) share() *share {
	return &share{all: meter{every: w.every, burst: w.burst}, reading: semaphore.NewWeighted(w.ofOne)}
}

// What is done for an edge is counted in fetches.
const (
	fetchTime = 5 * time.Microsecond // of a processor, about: reading, interest, the answer
	keyWork   = 2                    // of a key: it is read twice
	frameWork = 2                    // what a frame takes besides: it is read, decoded, and answered
	// sessionWork is the part of the processor that a session may take, and workBurst for how long it may be owed for at once.
	sessionWork = 1. / 3
	workBurst   = 250 * time.Millisecond
	// readSlice is how many fetches are read in one go, less than a millisecond's work. For each core there are readsACore at once, since some wait for the disk, and of those
	// one session has a quarter.
	readSlice, readsACore, readsOfOne = 64, 4, 4
)

func newWork(cores int) work {
	every := time.Duration(float64(fetchTime) / (sessionWork * float64(cores)))
	reads := int64(readsACore * cores)
	return work{every: max(every, 1), burst: int(workBurst / max(every, 1)), reading: semaphore.NewWeighted(reads), ofOne: reads / readsOfOne}
}

// read answers a frame's fetches, a slice after the other. Sessions take turns, and so many slices are read at once: Go knows no priorities, and what is ready to run waits
// behind all that runs.
func (h *Hub) read(ctx context.Context, s *session, had *share, list []*link.Fetch) {
	for slice := range slices.Chunk(list, readSlice) {
		if had.reading.Acquire(ctx, 1) != nil {
			return
		}
		if h.work.reading.Acquire(ctx, 1) == nil {
			s.answer(h.fetch(ctx, s, slice))
			h.work.reading.Release(1)
		}
		had.reading.Release(1)
		runtime.Gosched() // a grant, an acknowledgement, a heartbeat
	}
}

// weigh is what a frame has this node do.
func weigh(f *link.ToAuthority) int {
	n := frameWork + len(f.GetReport().GetUsed())
	for _, fetch := range f.GetFetches() {
		n++
		if len(fetch.GetKeyHash()) > 0 {
			n += keyWork - 1
		}
	}
	for _, seen := range f.GetReport().GetSeen() {
		n += 1 + len(seen.GetDeviceIds())
	}
	return n
}

// paced waits until a frame may be done for a session. It reports false if ctx ended before.
func (h *Hub) paced(ctx context.Context, had *share, f *link.ToAuthority) bool {
	n := weigh(f)
	wait := had.all.owe("", n, h.cfg.Clock.Now())
	if wait > 0 {
		h.metrics.paced.Inc()
	}
	for wait > 0 {
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return false
		}
		wait = had.all.owe("", n, h.cfg.Clock.Now())
	}
	return true
}
