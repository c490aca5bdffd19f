package authority

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"machineid/authority/api"
	"machineid/authority/hub"
	"machineid/raftstore"
)

const testToken = "a-token-of-more-than-thirty-two-characters"

// waitingNodes runs nodes that all name each other and themselves, and returns when each says what it waits for. They end with the test.
func waitingNodes(tb testing.TB, count int, change func(i int, c *Config)) []*Node {
	tb.Helper()
	listeners, join := make([][3]net.Listener, count), make([]string, count)
	for i := range listeners {
		for j := range listeners[i] {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				tb.Fatal(err)
			}
			listeners[i][j] = l
		}
		join[i] = listeners[i][0].Addr().String()
	}
	nodes := make([]*Node, count)
	for i := range nodes {
		id := fmt.Sprint("a", i+1)
		cfg := Config{
			ID: id, Dir: filepath.Join(tb.TempDir(), id), FS: vfs.NewMem(), HTTP: listeners[i][0], Link: listeners[i][1], Raft: listeners[i][2],
			Join: join, OperatorToken: testToken, Times: hub.Times{Lease: time.Second, CacheTTL: time.Minute},
			Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
		}
		if change != nil {
			change(i, &cfg)
		}
		n := New(cfg)
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- n.Run(ctx) }()
		tb.Cleanup(func() {
			cancel()
			if err := <-ended; err != nil {
				tb.Error(err)
			}
		})
		nodes[i] = n
	}
	for _, n := range nodes {
		soon(tb, n.cfg.ID+" waits", func() bool {
			why := strings.Join(n.Ready(), "; ")
			return strings.HasPrefix(why, "join: this node is in no cluster") && strings.Contains(why, "cluster init --at "+n.cfg.AdvertiseHTTP)
		})
	}
	return nodes
}

func soon(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(time.Minute); !cond(); {
		if time.Now().After(deadline) {
			tb.Fatalf("waited in vain until %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// Two nodes are told to begin a cluster at the same moment: at most one does, and both are in that one then.
func TestTwoBeginAtOnce(t *testing.T) {
	t.Parallel()
	rounds := 10
	if testing.Short() {
		rounds = 4
	}
	won, none := 0, 0
	for round := range rounds {
		t.Run(fmt.Sprint("round ", round), func(t *testing.T) {
			// Some rounds hold the questions back until both nodes ask: the worst that can happen.
			var both sync.WaitGroup
			var holds bool
			var mu sync.Mutex
			asked := map[string]bool{}
			nodes := waitingNodes(t, 2, func(_ int, c *Config) {
				tcp := &net.Dialer{}
				c.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
					mu.Lock()
					wait := holds && !asked[c.ID]
					if wait {
						asked[c.ID] = true
						both.Done()
					}
					mu.Unlock()
					if wait {
						both.Wait()
					}
					return tcp.DialContext(ctx, "tcp", addr)
				}
			})
			if round%2 == 0 {
				mu.Lock()
				holds = true
				both.Add(len(nodes))
				mu.Unlock()
			}
			results := make([]error, len(nodes))
			var calls sync.WaitGroup
			for i, n := range nodes {
				calls.Go(func() { _, results[i] = n.initCluster(t.Context(), api.Asker{}, false) })
			}
			calls.Wait()
			var begun *Node
			for i, err := range results {
				switch {
				case err == nil && begun != nil:
					t.Fatal("both have begun a cluster")
				case err == nil:
					begun = nodes[i]
				case !errors.Is(err, raftstore.ErrRefused):
					t.Fatalf("%s: %v", nodes[i].cfg.ID, err)
				}
			}
			if begun == nil {
				none++
				begun = nodes[round/2%2] // whoever is asked alone can
				if _, err := begun.initCluster(t.Context(), api.Asker{}, false); err != nil {
					t.Fatal(err)
				}
			} else {
				won++
			}
			soon(t, "both are in it", func() bool {
				return nodes[0].store.Cluster() == nodes[1].store.Cluster() && len(nodes[0].Ready()) == 0 && len(nodes[1].Ready()) == 0
			})
			for _, n := range nodes {
				if _, err := n.initCluster(t.Context(), api.Asker{}, true); !errors.Is(err, raftstore.ErrInCluster) || !strings.Contains(err.Error(), n.state.Cluster().GetClusterId()) {
					t.Errorf("%s begins again: %v", n.cfg.ID, err)
				}
			}
		})
	}
	t.Logf("one had begun in %d rounds, none in %d", won, none)
}

// What stands against a new cluster, named by its address.
func TestWhatStandsAgainstACluster(t *testing.T) {
	t.Parallel()
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := dead.Close(); err != nil {
		t.Fatal(err)
	}
	member, stop := runNode(t, t.TempDir(), "m1", nil)
	defer stop()
	other, stopOther := runNode(t, t.TempDir(), "m2", func(c *Config) { c.OperatorToken = testToken + "x" })
	defer stopOther()
	for name, c := range map[string]struct {
		peer    string
		id      string
		says    string
		ignored bool // with ignoreUnreachable it begins
	}{
		"knows one":         {member.cfg.HTTP.Addr().String(), "n1", "is in cluster " + member.state.Cluster().GetClusterId(), false},
		"has another token": {other.cfg.HTTP.Addr().String(), "n1", "another operator's token", false},
		"does not answer":   {dead.Addr().String(), "n1", "--ignore-unreachable", true},
	} {
		t.Run(name, func(t *testing.T) {
			// It does not join: a node that knows a cluster would take it in.
			n := waitingNodes(t, 1, func(_ int, c *Config) { c.ID = c.ID + "-" + c.ID })[0]
			n.cfg.Join = append(n.cfg.Join, c.peer)
			for _, ignore := range []bool{false, true} {
				_, err := n.initCluster(t.Context(), api.Asker{}, ignore)
				if ignore && c.ignored {
					if err != nil {
						t.Fatalf("ignored: %v", err)
					}
					soon(t, "it is ready, with nobody to give it a vote", func() bool { return len(n.Ready()) == 0 })
					continue
				}
				if !errors.Is(err, raftstore.ErrRefused) || !strings.Contains(err.Error(), c.peer) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("ignore %v: %v", ignore, err)
				}
				if n.store.Cluster() != "" || n.phase() != api.Waiting {
					t.Fatalf("it is in cluster %q, phase %s", n.store.Cluster(), n.phase())
				}
			}
		})
	}
	// Another that has this node's name, and this node itself under another address.
	nodes := waitingNodes(t, 2, func(_ int, c *Config) { c.ID = "same" })
	if _, err := nodes[0].initCluster(t.Context(), api.Asker{}, true); !errors.Is(err, raftstore.ErrRefused) || !strings.Contains(err.Error(), "has the name same") {
		t.Errorf("two of one name: %v", err)
	}
	_, port, err := net.SplitHostPort(nodes[1].cfg.HTTP.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	nodes[1].cfg.Join = []string{"localhost:" + port}
	if _, err := nodes[1].initCluster(t.Context(), api.Asker{}, false); err != nil {
		t.Errorf("it takes itself for another: %v", err)
	}
}

// A request to a node that waits is answered at once, and says so; one that joins learns that the other waits too.
func TestAWaitingNodeServesNothing(t *testing.T) {
	t.Parallel()
	n := waitingNodes(t, 1, nil)[0]
	client := n.peerClient(time.Minute)
	defer client.CloseIdleConnections()
	for _, path := range []string{"operator/cluster/members", "devices/register", "org/create"} {
		if err := n.ask(t.Context(), client, "POST", n.cfg.HTTP.Addr().String(), path, map[string]any{}, nil); !errors.Is(err, errNoCluster) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
