package cli

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"machineid/internal/testkit/bubble"
	"machineid/shared/link"
)

// The promise (docs/guarantee.md, The promise): validate is a regular register per device. It answers
// from the state at some point between the last change that had returned when it
// was sent and the last change that was called before it was answered.

// changed is one change of a device, from its first call to its success.
type changed struct {
	active       bool // what it makes the device
	called, done time.Duration
}

// validated is one answer of an edge.
type validated struct {
	edge, code         string
	device             int
	sent, answeredTime time.Duration
}

type history struct {
	changes   [][]changed // by device, in order; the first makes it active
	validates []validated
}

// violations lists the answers that no state in their interval gives.
func (h *history) violations() (bad []string) {
	for _, v := range h.validates {
		if v.code == "SYSTEM_UNAVAILABLE" {
			continue // no answer
		}
		last, list := 0, h.changes[v.device]
		for i, c := range list {
			if c.done <= v.sent {
				last = i
			}
		}
		allowed := false
		for i := last; i < len(list) && (i == last || list[i].called <= v.answeredTime); i++ {
			allowed = allowed || (v.code == "ALLOW") == list[i].active
		}
		if v.code != "ALLOW" && v.code != "DEVICE_REVOKED" || !allowed {
			bad = append(bad, fmt.Sprintf("%s says %s of device %d in [%v, %v]; changes %v", v.edge, v.code, v.device, v.sent, v.answeredTime, list))
		}
	}
	return bad
}

// mutant is one rule of the link broken, by a relay that forges frames.
type mutant func(*relay)

// longer has an edge believe in leases that are longer than the authority's, by what the Welcome and each Grant say: it takes none above its Welcome's.
func longer(d time.Duration) func(*link.ToEdge) (*link.ToEdge, *link.ToAuthority) {
	return func(f *link.ToEdge) (*link.ToEdge, *link.ToAuthority) {
		if w := f.GetWelcome(); w != nil {
			w.LeaseNs += int64(d)
		}
		if g := f.GetGrant(); g != nil {
			g.GrantedNs += int64(d)
		}
		return f, nil
	}
}

var mutants = map[string]mutant{
	// I3: an acknowledgement without the floor behind it.
	"acknowledged but not in force": func(r *relay) {
		r.down = func(f *link.ToEdge) (*link.ToEdge, *link.ToAuthority) {
			var ack *link.ToAuthority
			if n := len(f.GetInvalidates()); n > 0 {
				ack = &link.ToAuthority{Ack: &link.Ack{Index: f.GetInvalidates()[n-1].GetIndex()}}
				f.Invalidates = nil
			}
			return f, ack
		}
	},
	// I1: a lease that is longer than what was booked.
	"granted more than was booked": func(r *relay) {
		r.down = longer(20 * time.Second)
	},
	// I1.3: a lease that ends as if it counted from when it was received, not from when it was asked for.
	"counted from the answer": func(r *relay) {
		r.down = longer(1400 * time.Millisecond)
	},
	// I5: an answer that was read before a change, under an index of after it.
	"old records under a new index": func(r *relay) {
		r.down = func(f *link.ToEdge) (*link.ToEdge, *link.ToAuthority) {
			for _, a := range f.GetAnswers() {
				a.Index += 1000
			}
			return f, nil
		}
	},
	// I2: the lease is given back, and used all the same.
	"gave back a lease in use": func(r *relay) {
		n := 0
		r.up = func(f *link.ToAuthority) *link.ToAuthority {
			if f.GetAck() != nil {
				if n++; n == 3 {
					f.Ack.GaveBack = true
				}
			}
			return f
		}
	},
	// I7: what was missed while there was no session.
	"went on without the replay": func(r *relay) {
		r.down = func(f *link.ToEdge) (*link.ToEdge, *link.ToAuthority) {
			if f.GetWelcome() != nil {
				f.Invalidates = nil
			}
			return f, nil
		}
	},
	// I7: a memory of which nobody knows what it has missed.
	"went on where it had to begin anew": func(r *relay) {
		r.down = func(f *link.ToEdge) (*link.ToEdge, *link.ToAuthority) {
			if w := f.GetWelcome(); w != nil {
				w.Reset_ = false
			}
			return f, nil
		}
	},
	// I6, I7: the leader knows nothing of what the edge has kept from earlier sessions.
	"did not say what it holds": func(r *relay) {
		r.up = func(f *link.ToAuthority) *link.ToAuthority {
			if h := f.GetHello(); h != nil {
				clear(h.Held)
			}
			return f
		}
	},
	// I6: entries that outlive the leader's idea of who holds what.
	"remembered longer than it is known to": func(r *relay) {
		r.down = func(f *link.ToEdge) (*link.ToEdge, *link.ToAuthority) {
			if w := f.GetWelcome(); w != nil {
				w.CacheTtlNs = int64(time.Hour)
			}
			return f, nil
		}
	},
}

// live runs a world for some virtual time: an authority that restarts, edges that
// are cut off, break, restart and keep bad time, and clients that never rest.
func live(t *testing.T, seed uint64, length time.Duration, bad mutant) *history {
	t.Helper()
	h := &history{changes: make([][]changed, 2)}
	bubble.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(seed, 1))
		w := newWorld(t)
		w.times.CacheTTL = []time.Duration{time.Second, 5 * time.Second, time.Minute}[rng.IntN(3)]
		// The bound is what rates may be off by.
		w.startAuthority(1 + 0.01*float64(rng.IntN(3)-1))
		w.key = w.change("org/create", `{}`).Key
		at := func() time.Duration { return time.Since(w.start) }
		for d := range h.changes {
			c := changed{active: true, called: at()}
			w.change("devices/register", device(strconv.Itoa(d)))
			c.done = at()
			h.changes[d] = append(h.changes[d], c)
		}
		rates := []float64{0.99, 1.01}
		relays := make([]*relay, len(rates))
		for i := range relays {
			relays[i] = newRelay(w, seed+uint64(i))
			if bad != nil {
				bad(relays[i])
			}
			w.edges = append(w.edges, w.startEdge(i, rates[i], relays[i]))
		}
		stop := make(chan struct{})
		var clients, nemesis sync.WaitGroup
		var mu sync.Mutex
		over := func() bool {
			select {
			case <-stop:
				return true
			default:
				return false
			}
		}
		for i := range relays {
			for c := range 2 {
				r := rand.New(rand.NewPCG(seed, uint64(10+10*i+c)))
				clients.Go(func() {
					for !over() {
						time.Sleep(time.Duration(1+r.IntN(60)) * time.Millisecond)
						mu.Lock()
						m := w.edges[i]
						mu.Unlock()
						v := validated{edge: m.name, device: r.IntN(len(h.changes)), sent: at()}
						var (
							a      answer
							status int
						)
						if r.IntN(8) > 0 {
							a, status = w.call(m, "devices/validate", device(strconv.Itoa(v.device)))
						} else { // the question is put when its body comes
							pause := time.Duration(r.IntN(4000)) * time.Millisecond
							a, status = w.hesitate(m, "devices/validate", func() string {
								time.Sleep(pause)
								v.sent = at()
								return device(strconv.Itoa(v.device))
							})
						}
						if v.code, v.answeredTime = a.Code, at(); status == 0 {
							continue // the edge was stopped
						}
						mu.Lock()
						h.validates = append(h.validates, v)
						mu.Unlock()
					}
				})
			}
		}
		for d := range h.changes {
			r := rand.New(rand.NewPCG(seed, uint64(50+d)))
			clients.Go(func() {
				for active := false; !over(); active = !active {
					time.Sleep(time.Duration(r.IntN(1500)) * time.Millisecond)
					path := map[bool]string{true: "devices/unrevoke", false: "devices/revoke"}[active]
					// Until it has returned, it may return at any time.
					mu.Lock()
					h.changes[d] = append(h.changes[d], changed{active: active, called: at(), done: math.MaxInt64})
					c := &h.changes[d][len(h.changes[d])-1]
					mu.Unlock()
					w.change(path, device(strconv.Itoa(d)))
					c.done = at()
				}
			})
		}
		nemesis.Go(func() {
			r := rand.New(rand.NewPCG(seed, 99))
			for !over() {
				time.Sleep(time.Duration(r.IntN(4000)) * time.Millisecond)
				i := r.IntN(len(relays))
				switch r.IntN(6) {
				case 0, 1:
					relays[i].cut.Store(true)
					time.Sleep(time.Duration(r.IntN(6000)) * time.Millisecond)
					relays[i].cut.Store(false)
				case 2:
					relays[i].breakAll()
				case 3:
					mu.Lock()
					old := w.edges[i]
					mu.Unlock()
					w.end(old)
					fresh := w.startEdge(i, rates[i], relays[i])
					mu.Lock()
					w.edges[i] = fresh
					mu.Unlock()
				case 5: // what the edge missed, the next authority cannot tell
					relays[i].cut.Store(true)
					time.Sleep(time.Duration(3000+r.IntN(3000)) * time.Millisecond)
					w.stopAuthority()
					w.startAuthority(1)
					relays[i].cut.Store(false)
				case 4:
					w.stopAuthority()
					time.Sleep(time.Duration(r.IntN(1000)) * time.Millisecond)
					w.startAuthority(1 + 0.01*float64(r.IntN(3)-1))
				}
			}
		})
		time.Sleep(length)
		close(stop)
		nemesis.Wait()
		clients.Wait()
		for i, e := range w.edges {
			w.end(e)
			relays[i].server.Stop()
		}
		w.stopAuthority()
		time.Sleep(2 * time.Minute) // for what fasthttp cleans up
	})
	return h
}

// seeds is how many histories each test makes, from MACHINEID_TEST_SEED on.
func seeds(t *testing.T, n uint64) (list []uint64) {
	t.Helper()
	first := uint64(1)
	if s := os.Getenv("MACHINEID_TEST_SEED"); s != "" {
		v, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("MACHINEID_TEST_SEED: %v", err)
		}
		first, n = v, 1
	}
	for i := range n {
		list = append(list, first+i)
	}
	return list
}

func TestThePromiseInVirtualTime(t *testing.T) {
	t.Parallel()
	n := uint64(4)
	switch {
	case os.Getenv("MACHINEID_TEST_TORTURE") != "":
		n = 200
	case testing.Short():
		n = 2
	}
	validates, answered, changes := 0, 0, 0
	for _, seed := range seeds(t, n) {
		h := live(t, seed, time.Minute, nil)
		for _, v := range h.violations() {
			t.Errorf("seed %d: %s", seed, v)
		}
		validates += len(h.validates)
		for _, v := range h.validates {
			if v.code != "SYSTEM_UNAVAILABLE" {
				answered++
			}
		}
		for _, c := range h.changes {
			changes += len(c)
		}
	}
	t.Logf("%d validates, %d of them decided, %d changes", validates, answered, changes)
	if answered < validates/4 || changes < 10*int(n) {
		t.Error("too little was decided for the check to mean anything")
	}
}

// TestThePromiseCatchesMutants: a check that finds nothing in a broken link
// proves nothing.
func TestThePromiseCatchesMutants(t *testing.T) {
	for name, bad := range mutants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, seed := range seeds(t, 10) {
				if v := live(t, seed, time.Minute, bad).violations(); len(v) > 0 {
					t.Logf("seed %d: %d violations, the first: %.200s", seed, len(v), v[0])
					return
				}
			}
			t.Error("not caught")
		})
	}
}
