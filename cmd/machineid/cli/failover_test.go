//go:build unix

package cli

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// TestLeaderKilledUnderLoad kills the leader of three nodes, with the usual lease, and tells what the clients of edges notice: of what
// edges remember nothing, if all goes well, and of what they must ask for the time until another node leads. Only what an edge says is
// judged; how long it takes is for people to read.
func TestLeaderKilledUnderLoad(t *testing.T) {
	t.Parallel()
	rounds := 3
	if testing.Short() {
		rounds = 1
	}
	c := startCluster(t, 3, "--lease", "3s")
	o := newClient(t, c.nodes[0].http).createOrg(t)
	newClient(t, c.nodes[0].http).must(t, "devices/register", o.admin, naming("agent-01"))
	edges := make([]*edgeNode, 2)
	for i := range edges {
		edges[i] = startEdge(t, c.links())
		edges[i].ready()
		eventually(t, patient, "the edge remembers", func() bool {
			return newClient(t, edges[i].http).validate(t, o.agent, "agent-01") == "ALLOW"
		})
	}
	for round := range rounds {
		var work sync.WaitGroup
		over := make(chan struct{})
		end := sync.OnceFunc(func() {
			close(over)
			work.Wait()
		})
		defer end() // also where a call below gives up: clients are closed after
		hits, denied := make([]int, len(edges)), make([]int, len(edges))
		for i, e := range edges {
			work.Go(func() {
				agent := newClient(t, e.http)
				for ; ; hits[i]++ {
					select {
					case <-over:
						return
					case <-time.After(time.Millisecond):
					}
					switch code := agent.validate(t, o.agent, "agent-01"); code {
					case "ALLOW":
					case "SYSTEM_UNAVAILABLE":
						denied[i]++
					default:
						t.Errorf("round %d: edge %d says %s", round, i, code)
					}
				}
			})
		}
		leader := c.leader()
		leader.kill()
		killed := time.Now()
		back := make([]time.Duration, len(edges))
		for i, e := range edges {
			work.Go(func() {
				agent := newClient(t, e.http)
				for n := 0; back[i] == 0; n++ {
					switch code := agent.validate(t, o.agent, fmt.Sprint("unknown-", round, "-", n)); code {
					case "DEVICE_NOT_FOUND":
						back[i] = time.Since(killed)
					case "SYSTEM_UNAVAILABLE":
						if time.Since(killed) > patient {
							t.Errorf("round %d: edge %d is not back", round, i)
							return
						}
					default:
						t.Errorf("round %d: edge %d says %s of what there is not", round, i, code)
					}
				}
			})
		}
		began := time.Now()
		admin := newClient(t, c.leader().http)
		eventually(t, patient, "a change is in force", func() bool {
			a, err := admin.post("devices/register", o.admin, naming(fmt.Sprint("agent-1", round%2)))
			return err == nil && a.StatusCode == http.StatusOK
		})
		changed := time.Since(began)
		end()
		t.Logf("round %d: %v validates of what is remembered, %v denied; what is not: answered again %v after the kill; a change then took %v",
			round, hits, denied, slices.Max(back).Round(time.Millisecond), changed.Round(time.Millisecond))
		leader.begin()
		leader.ready()
	}
}
