package edge

import (
	"sync"
	"sync/atomic"
	"time"

	"machineid/shared/clock"
	"machineid/shared/link"
)

// flights are the fetches of one memory, one for each record that is missing,
// however many wait for it (I5). They belong to the memory in which they began:
// what lands late counts for nobody else (a flight begun before
// an invalidation must not answer those that came after it: the floors see to
// that, and every waiter checks them again, I3).
type flights struct {
	send   func(*flight) bool // hands it to the link; false if the link is gone
	limits *limits            // nil: none

	mu     sync.Mutex
	dead   bool
	last   uint64
	swept  clock.Time
	byNeed map[flightKey]*flight
	byID   map[uint64]*flight
}

// An answer may be lost or late, and the session live on. A flight is asked again,
// under its id, when somebody wants it and it has been under way for askAgain: the
// first answer lands it, so that neither a lost answer keeps a record from everyone
// for as long as the session lasts, nor a slow authority is asked for ever. One that
// nobody has wanted for flightLife is forgotten.
const (
	askAgain   = time.Second
	flightLife = 5 * time.Second
)

type flightKey struct {
	kind byte
	hash uint64
}

type flight struct {
	key   flightKey
	held  held // room in the limits, until it lands; guarded by flights.mu
	fetch link.Fetch
	asked clock.Time   // when it was last handed to the link; guarded by flights.mu
	sent  atomic.Int64 // a clock.Time: when it was first sent, 0 before; set before it is
	done  chan struct{}
	got   *found // nil after done: nothing was learnt
}

func newFlights(send func(*flight) bool) *flights {
	return &flights{send: send, byNeed: map[flightKey]*flight{}, byID: map[uint64]*flight{}}
}

// join returns the flight for what is missing, and begins it if there is none.
// It returns nil if the session is over, or a limit was met: then q.over says so.
func (f *flights) join(n need, q *question, now clock.Time) *flight {
	key := flightKey{n.kind, n.hash}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return nil
	}
	if fl := f.byNeed[key]; fl != nil {
		if now.Sub(fl.asked) >= askAgain {
			fl.asked = now
			f.send(fl)
		}
		return fl
	}
	f.sweep(now)
	room, met := f.limits.flight(n, q, now)
	if met.wait != 0 {
		q.over = met
		return nil
	}
	f.last++
	fl := &flight{key: key, held: room, asked: now, done: make(chan struct{})}
	fl.fetch.Id = f.last
	fl.fetch.DeviceId = string(q.device)
	if n.kind == needKey {
		fl.fetch.KeyHash = append([]byte(nil), q.sum[:]...)
	} else {
		fl.fetch.OrgId = append([]byte(nil), n.org[:]...)
		fl.fetch.DeviceOnly = n.kind == needDevice
	}
	f.byNeed[key] = fl
	f.byID[fl.fetch.Id] = fl
	if !f.send(fl) {
		f.drop(fl)
		fl.held.settle(now, false)
		return nil
	}
	return fl
}

// take removes the flight that an answer belongs to, nil if there is none.
func (f *flights) take(id uint64) *flight {
	f.mu.Lock()
	defer f.mu.Unlock()
	fl := f.byID[id]
	if fl != nil {
		f.drop(fl)
	}
	return fl
}

// sweep forgets what nobody wants any more, now and then. f.mu is held.
func (f *flights) sweep(now clock.Time) {
	if now.Sub(f.swept) < askAgain {
		return
	}
	f.swept = now
	for _, fl := range f.byID {
		if now.Sub(fl.asked) >= flightLife {
			f.drop(fl)
			f.limits.landed(fl, nil)
			close(fl.done)
		}
	}
}

func (f *flights) drop(fl *flight) {
	delete(f.byID, fl.fetch.Id)
	delete(f.byNeed, fl.key)
}

// end lets all waiters go: the session is over.
func (f *flights) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead = true
	for _, fl := range f.byID {
		f.limits.landed(fl, nil)
		close(fl.done)
	}
	clear(f.byID)
	clear(f.byNeed)
}
