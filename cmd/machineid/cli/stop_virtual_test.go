//go:build unix

package cli

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"machineid/internal/testkit/bubble"
)

// TestALeaderThatStopsLeavesNobodyInDoubt: a leader is stopped under load. Callers at edges and at nodes, who keep their connections, are
// answered, or know that nothing was done: nobody is told that it is not known, and no connection ends with a request on its way.
func TestALeaderThatStopsLeavesNobodyInDoubt(t *testing.T) {
	t.Parallel()
	n := uint64(3)
	switch {
	case os.Getenv("MACHINEID_TEST_TORTURE") != "":
		n = seedsWanted(40)
	case testing.Short():
		n = 1
	}
	for _, seed := range seeds(t, n) {
		done, notDone := 0, 0
		bubble.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 9))
			s := newSite(t, rng, 3, 3)
			s.net.mu.Lock()
			s.net.steady = true // a request that takes longer than a stop is in doubt
			s.net.mu.Unlock()
			founder := s.caller("founder")
			var key string
			s.until("an org is there", func() bool {
				key = founder.call("a1", "POST", "org/create", "{}").Key
				return key != ""
			})
			founder.close()
			var places []string
			for i := range 3 {
				places = append(places, s.nodes[i].id, s.edges[i].id)
			}
			stop := make(chan struct{})
			var mu sync.Mutex
			var writers sync.WaitGroup
			for i := range 4 * len(places) {
				r := rand.New(rand.NewPCG(seed, uint64(100+i)))
				writers.Go(func() {
					c := s.caller(fmt.Sprint("w", i))
					defer c.close()
					for {
						select {
						case <-stop:
							return
						case <-time.After(time.Duration(r.IntN(40)) * time.Millisecond):
						}
						path := []string{"devices/register", "devices/revoke", "devices/unrevoke"}[r.IntN(3)]
						at := places[i%len(places)]
						sent := s.at()
						a := c.call(at, "POST", path, device(fmt.Sprint("d", i%3)), "X-Org-Key", key)
						mu.Lock()
						switch {
						case a.notSent, a.Outcome == "not_done":
							notDone++
						case a.code == 0, a.Outcome == "unknown":
							t.Errorf("seed %d: %s at %s, sent at %v: nobody knows what became of it: %+v", seed, path, at, sent, a)
						default:
							done++
						}
						mu.Unlock()
					}
				})
			}
			time.Sleep(time.Second)
			var leads *siteNode
			s.until("somebody leads", func() bool {
				leads = s.leader()
				return leads != nil && s.nodesReady() && s.edgesReady()
			})
			s.end(leads.id, leads.proc.Swap(nil))
			time.Sleep(time.Second)
			close(stop)
			writers.Wait()
			s.startNode(leads, false)
			s.until("all are ready", func() bool { return s.nodesReady() && s.edgesReady() })
			s.stop()
		})
		t.Logf("seed %d: %d calls were done, %d surely not", seed, done, notDone)
		if done < 1000 {
			t.Error("too little was done for the check to mean anything")
		}
	}
}

// TestAStopLetsHeldChangesEnd: after a crash the next leader holds changes until the leases of before are over, which takes longer than a stop otherwise gives
// to requests if leases are long. It is stopped meanwhile: the change is answered, and the stop is a clean one.
func TestAStopLetsHeldChangesEnd(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.times.Lease, w.times.Bound = 5*time.Second, 0.1
		w.startAuthority(1)
		w.key = w.change("org/create", `{}`).Key
		w.change("devices/register", device("z"))
		r := newRelay(w, 1)
		e := w.startEdge(0, 1, r)
		w.usable(e)
		w.stopAuthority() // the edge's lease is out
		r.cut.Store(true)
		w.startAuthority(1)
		began := time.Now()
		answered, at := make(chan int, 1), w.authority()
		go func() {
			_, status := w.call(at, "devices/revoke", device("z"))
			answered <- status
		}()
		time.Sleep(time.Millisecond) // virtual: it has come
		w.stopAuthority()
		if status := <-answered; status != http.StatusOK {
			t.Errorf("the change got HTTP %d", status)
		}
		if held := time.Since(began); held <= 5*time.Second {
			t.Errorf("it was held for %v only: this says nothing", held)
		}
		w.end(e)
		r.server.Stop()
		time.Sleep(2 * time.Minute)
	})
}
