package hub

import (
	"sync"
	"time"

	"machineid/shared/clock"
)

// horizon knows the least authority time at any edge that may answer: what has ended by then has ended at all of them (I11).
//
// An edge counts on from the authority's time in the newest grant that it has processed, and one that answers has processed one of
// the last S: older leases are over. Its clock runs at rate of ours or faster. So at t it is at least at A + rate·(t − r) there, for the least of the grants that
// were given in the last S, asked for at r or before, at A. An edge with a lease of another leader is at least where its Welcome put it.
type horizon struct {
	rate float64       // the slowest edge's clock, by ours: (1−ρ)/(1+ρ)
	span time.Duration // S
	// time is the authority's time, and whether edges may be told it. It never goes back.
	time func() (ms int64, ok bool)

	mu     sync.Mutex
	origin clock.Time
	base   int64  // ms: the lines' distances are counted from (origin, base)
	lines  window // distances of grants, in nanoseconds
	points window // times of Welcomes, in milliseconds
}

// granted reads the time for a grant that was asked for at asked or before, and counts it in one step: what is told before is no later
// than the grant, and what is told after takes it in. It must be called before the grant can reach the edge.
func (z *horizon) granted(asked clock.Time) (ms int64, ok bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	if ms, ok = z.time(); !ok {
		return 0, false
	}
	if z.base == 0 {
		z.base, z.origin = ms, asked
	}
	z.lines.add((ms-z.base)*int64(time.Millisecond)-z.counted(asked), asked.Add(z.span))
	return ms, true
}

// welcomed does likewise for a Welcome to a process that may hold the lease of another leader, until its end. The frame that carries it says a later time.
func (z *horizon) welcomed(end clock.Time) (ok bool) {
	z.mu.Lock()
	defer z.mu.Unlock()
	ms, ok := z.time()
	if ok {
		z.points.add(ms, end)
	}
	return ok
}

// least is the authority's time at the edge where it is earliest, at now by this node's clock; the authority's own if no edge may answer.
func (z *horizon) least(now clock.Time) int64 {
	z.mu.Lock()
	defer z.mu.Unlock()
	ms, _ := z.time()
	if distance, some := z.lines.least(now); some {
		ms = min(ms, z.base+floorDiv(distance+z.counted(now), int64(time.Millisecond)))
	}
	if point, some := z.points.least(now); some {
		ms = min(ms, point)
	}
	return ms
}

// counted is what the slowest edge has counted since the origin. It is cut: an edge's estimate is a millisecond ahead, which is more than is lost in rounding.
func (z *horizon) counted(at clock.Time) int64 { return int64(z.rate * float64(at.Sub(z.origin))) }

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// window finds the least of the values that still count.
type window struct{ list []counting } // both rise

type counting struct {
	value int64
	until clock.Time
}

func (w *window) add(value int64, until clock.Time) {
	n := len(w.list)
	if n > 0 {
		until = max(until, w.list[n-1].until)
	}
	for n > 0 && w.list[n-1].value >= value {
		n-- // the new one is less, and counts for longer
	}
	w.list = append(w.list[:n], counting{value, until})
}

func (w *window) least(now clock.Time) (value int64, found bool) {
	for len(w.list) > 0 && w.list[0].until < now {
		w.list = w.list[1:]
	}
	if len(w.list) == 0 {
		return 0, false
	}
	return w.list[0].value, true
}
