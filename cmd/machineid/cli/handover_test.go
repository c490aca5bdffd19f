//go:build unix

package cli

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestHandoverStallsNothing hands the leadership over five times, by cluster transfer and by SIGTERM, while changes and validates go
// on: no change waits for a lease, what an edge remembers is answered all the time, and no answer is from before a change that had
// returned. Without the list of who holds a lease, the first change after each hand-over takes the longest lease there is, 5 s.
func TestHandoverStallsNothing(t *testing.T) {
	t.Parallel()
	const lease, stall = "5s", 4 * time.Second
	c := startCluster(t, 3, "--lease", lease)
	o := newClient(t, c.nodes[0].http).createOrg(t)
	for _, id := range []string{"steady", "switched"} {
		newClient(t, c.nodes[0].http).must(t, "devices/register", o.admin, naming(id))
	}
	edges := make([]*edgeNode, 2)
	for i := range edges {
		edges[i] = startEdge(t, c.links())
		edges[i].ready()
		if code := newClient(t, edges[i].http).validate(t, o.agent, "steady"); code != "ALLOW" {
			t.Fatalf("edge %d says %s", i, code)
		}
	}

	var over atomic.Bool
	var work sync.WaitGroup
	var validates, changes, again atomic.Int64
	for i, e := range edges {
		work.Go(func() {
			conn := &client{addr: e.http}
			defer conn.close()
			for !over.Load() {
				a, err := conn.post("devices/validate", o.agent, naming("steady"))
				if err != nil || a.code() != "ALLOW" {
					t.Errorf("edge %d, of a device that it remembers: %v, %v", i, a, err)
					return
				}
				validates.Add(1)
				time.Sleep(time.Millisecond)
			}
		})
	}
	var longest atomic.Int64 // of the changes of a hand-over, in nanoseconds
	work.Go(func() {
		for i := 0; !over.Load(); i++ {
			path, want := "devices/revoke", "DEVICE_REVOKED"
			if i%2 == 1 {
				path, want = "devices/unrevoke", "ALLOW"
			}
			key, began := fmt.Sprintf("Idempotency-Key: %d", i), time.Now()
			for try := i; ; try++ {
				conn := &client{addr: c.nodes[try%len(c.nodes)].http}
				a, err := conn.do(http.MethodPost, path, o.admin, naming("switched"), key)
				conn.close()
				if err == nil && a.StatusCode == http.StatusOK {
					break
				}
				again.Add(1)
				time.Sleep(5 * time.Millisecond)
			}
			longest.Store(max(longest.Load(), int64(time.Since(began))))
			changes.Add(1)
			for j, e := range edges {
				conn := &client{addr: e.http}
				a, err := conn.post("devices/validate", o.agent, naming("switched"))
				conn.close()
				if err != nil || (a.code() != want && a.code() != "SYSTEM_UNAVAILABLE") {
					t.Errorf("after %s had returned, edge %d says %v, %v", path, j, a, err)
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	took := make([]time.Duration, 5)
	for round := range took {
		before := changes.Load()
		longest.Store(0)
		if old := c.leader(); round%2 == 0 {
			to := c.nodes[0]
			if to == old {
				to = c.nodes[1]
			}
			c.transfer(to.id)
		} else {
			old.interrupt()
			old.begin()
			old.ready()
		}
		eventually(t, patient, "changes go on", func() bool { return changes.Load() > before+10 })
		took[round] = time.Duration(longest.Load()).Round(time.Millisecond)
		eventually(t, patient, "all are there", func() bool { return len(c.view().voters()) == 3 })
	}
	over.Store(true)
	work.Wait()
	t.Logf("hand-overs: %d changes, the longest of each took %v, %d tries were answered otherwise; %d validates of what is remembered",
		changes.Load(), took, again.Load(), validates.Load())
	// A starved machine may hold up one of them, or elect another leader; what waits for leases holds up each.
	if slices.Min(took) >= stall {
		t.Errorf("every hand-over held changes up: %v", took)
	}
}
