package recovery

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"

	"machineid/shared/budget"
)

// ask is one request that waits.
type ask struct {
	address string
	site    netip.Addr // of the client
	by      Asker
}

// queue holds what waits to be done, queueMax at most. A full one makes room for each that comes: from the site of which the most wait, if that has more than the one
// that comes, else by chance, so that nobody who fills it shuts others out. It is safe for concurrent use.
type queue struct {
	mu      sync.Mutex
	waiting []ask
	more    chan struct{} // holds one if something waits
}

func newQueue() *queue { return &queue{more: make(chan struct{}, 1)} }

// put adds one, and returns the one that was dropped for it, which may be itself.
func (q *queue) put(a ask) (dropped ask, full bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if full = len(q.waiting) >= queueMax; full {
		i := q.victim(a)
		if i == len(q.waiting) {
			return a, true
		}
		dropped = q.waiting[i]
		q.waiting = slices.Delete(q.waiting, i, i+1)
	}
	q.waiting = append(q.waiting, a)
	select {
	case q.more <- struct{}{}:
	default:
	}
	return dropped, full
}

// victim is the place of the one that makes room for a, behind the last for a itself. q.mu is held.
func (q *queue) victim(a ask) int {
	count, last := map[netip.Addr]int{a.site: 1}, map[netip.Addr]int{a.site: len(q.waiting)}
	for i, w := range q.waiting {
		count[w.site]++
		if w.site != a.site {
			last[w.site] = i
		}
	}
	most := a.site
	for site, n := range count {
		if n > count[most] {
			most = site
		}
	}
	if count[most] == 1 {
		return rand.IntN(len(q.waiting))
	}
	return last[most]
}

// take returns the one that waits longest; ok is false if none does.
func (q *queue) take() (a ask, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		return ask{}, false
	}
	a = q.waiting[0]
	q.waiting = slices.Delete(q.waiting, 0, 1)
	return a, true
}

// siteOf is what of a client's address is counted in the queue.
func siteOf(client string) netip.Addr {
	ip, _ := netip.ParseAddr(client)
	return budget.Network(ip.Unmap().WithZone(""), budget.SiteBits)
}
