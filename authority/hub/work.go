package hub

import (
	"context"
	"runtime"
	"slices"
	"time"

	"machineid/shared/link"
)

// work bounds what edges may have this node do (I14). What a session asks beyond its share is read later, and so is what it asks after that, so only its own renewals are behind it.
// A well-behaved edge comes nowhere near: 35,000 misses a second, each in a frame of its own, are less than what a session may on two cores.
type work struct {
	every time.Duration // for each fetch of a session
	burst int           // fetches
	hosts meter         // by address
}

// share is what was done for one session.
type share struct {
	all    meter
	modest meter // so much of it is not counted for its address
}

func (w *work) share() *share {
	return &share{all: meter{every: w.every, burst: w.burst}, modest: meter{every: time.Second / modestWork, burst: modestWork}}
}

// What is done for an edge is counted in fetches.
const (
	fetchTime = 5 * time.Microsecond // of a processor, about: reading, interest, the answer
	keyWork   = 2                    // of a key: it is read twice
	frameWork = 2                    // what a frame takes besides: it is read, decoded, and answered
	// A session may take a third of the processor, and the sessions of an address half of it together.
	sessionWork, hostWork = 1. / 3, 1. / 2
	// readSlice is how many fetches are read in one go, less than a millisecond's work, and readsACore how many slices at once for each core: some wait for the disk.
	readSlice, readsACore = 64, 4
	// workBurst is for how long it may be owed for at once.
	workBurst = 250 * time.Millisecond
	// modestWork is how many fetches of a session a second do not count for its address: renewals and acknowledgements, while others there ask without end.
	modestWork = 128
)

func newWork(cores int) work {
	every := func(share float64) time.Duration {
		return max(time.Duration(float64(fetchTime)/(share*float64(cores))), 1)
	}
	own, host := every(sessionWork), every(hostWork)
	return work{every: own, burst: int(workBurst / own), hosts: meter{every: host, burst: int(workBurst / host)}}
}

// read answers a frame's fetches, a slice after the other. Of all sessions so many slices are read at once, in the order in which they came up for it: Go knows no priorities, and what is
// ready to run waits behind all that runs.
func (h *Hub) read(ctx context.Context, s *session, list []*link.Fetch) {
	for slice := range slices.Chunk(list, readSlice) {
		if h.reading.Acquire(ctx, 1) != nil {
			return
		}
		s.answer(h.fetch(ctx, s, slice))
		h.reading.Release(1)
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
func (h *Hub) paced(ctx context.Context, s *session, had *share, f *link.ToAuthority) bool {
	n := weigh(f)
	if !h.waits(ctx, &had.all, "", n) {
		return false
	}
	return had.modest.owe("", n, h.cfg.Clock.Now()) == 0 || h.waits(ctx, &h.work.hosts, s.host, n)
}

func (h *Hub) waits(ctx context.Context, m *meter, name string, n int) bool {
	wait := m.owe(name, n, h.cfg.Clock.Now())
	for first := true; wait > 0; first = false {
		if first {
			h.metrics.paced.Inc()
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return false
		}
		wait = m.owe(name, n, h.cfg.Clock.Now())
	}
	return true
}
