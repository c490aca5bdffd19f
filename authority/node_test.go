package authority

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"machineid/authority/hub"
	"machineid/authority/state/statepb"
	"machineid/raftstore"
)

// runNode runs a node on the disk and over sockets, and returns once it is ready. It ends by stop.
func runNode(tb testing.TB, dir, id string, change func(*Config)) (n *Node, stop func()) {
	tb.Helper()
	n, stop = beginNode(tb, dir, id, change)
	until(tb, "the node is ready", func() bool { return len(n.Ready()) == 0 })
	return n, stop
}

// until waits for what comes by itself.
func until(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(time.Minute); !cond(); {
		if time.Now().After(deadline) {
			tb.Fatalf("waited in vain until %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// beginNode is runNode for a node that is not ready soon.
func beginNode(tb testing.TB, dir, id string, change func(*Config)) (n *Node, stop func()) {
	tb.Helper()
	var ls [3]net.Listener
	for i := range ls {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		ls[i] = l
	}
	cfg := Config{
		ID: id, Dir: dir, HTTP: ls[0], Link: ls[1], Raft: ls[2], Bootstrap: true, OperatorToken: "a-token-of-more-than-thirty-two-characters",
		Times: hub.Times{Lease: time.Second, CacheTTL: time.Minute}, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	}
	if change != nil {
		change(&cfg)
	}
	n = New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	return n, func() {
		cancel()
		if err := <-ended; err != nil {
			tb.Error(err)
		}
	}
}

// TestTheClusterHasOneName: edges are told the one that the store has (I12).
func TestTheClusterHasOneName(t *testing.T) {
	t.Parallel()
	n, stop := runNode(t, filepath.Join(t.TempDir(), "a1"), "a1", nil)
	defer stop()
	if told, own := n.state.Cluster().GetClusterId(), n.store.Cluster(); told != own || own == "" {
		t.Errorf("edges are told %q, the store is of %q", told, own)
	}
}

// TestAWrongClockHandsOver: the clock of the leader of three jumps ahead by an hour. It stamps nothing any more, another leads, and
// the authority's time has not jumped.
func TestAWrongClockHandsOver(t *testing.T) {
	t.Parallel()
	var ahead atomic.Int64
	nodes := make([]*Node, 3)
	for i, id := range []string{"a1", "a2", "a3"} {
		n, stop := runNode(t, filepath.Join(t.TempDir(), id), id, func(c *Config) {
			if i == 0 {
				c.Wall = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
				return
			}
			c.Bootstrap, c.Join = false, []string{nodes[0].cfg.HTTP.Addr().String()}
		})
		defer stop()
		nodes[i] = n
	}
	propose := func(n *Node) error {
		_, _, err := n.Propose(t.Context(), &statepb.Command{TimeMs: n.Now(), Change: &statepb.Command_SetExecution{SetExecution: &statepb.SetExecution{}}})
		return err
	}
	leading := func() *Node {
		for _, n := range nodes {
			if _, leads := n.store.Leading(); leads && n.hub.Leading() {
				return n
			}
		}
		return nil
	}
	until(t, "three have a vote and a1 leads", func() bool {
		members, err := nodes[0].store.Members(t.Context())
		votes := 0
		for _, m := range members {
			if m.Voter {
				votes++
			}
		}
		if n := leading(); n != nil && n != nodes[0] {
			_ = n.store.TransferLeadership(t.Context(), "a1")
		}
		return err == nil && votes == 3 && leading() == nodes[0]
	})
	until(t, "a change is made", func() bool { return propose(nodes[0]) == nil })
	ahead.Store(int64(time.Hour))
	// Each step is tried again: on a slow machine the other two may elect once more at any time.
	another := func(what string, cond func(*Node) bool) {
		t.Helper()
		until(t, what, func() bool { n := leading(); return n != nil && n != nodes[0] && cond(n) })
	}
	decides := func() {
		t.Helper()
		another("another decides", func(n *Node) bool { return propose(n) == nil })
		// A jump is seen at once, and whoever is elected has compared its clock before.
		for _, n := range nodes[1:] {
			if off := n.Now() - time.Now().UnixMilli(); off > time.Minute.Milliseconds() {
				t.Errorf("the authority's time is %d ms ahead", off)
			}
		}
	}
	decides()
	until(t, "a1 is not ready because of its clock alone", func() bool {
		why := nodes[0].Ready()
		return len(why) == 1 && strings.Contains(why[0], "clock: this node decides nothing: its clock is 1h0m")
	})
	another("a1 is not handed the lead", func(n *Node) bool {
		err := n.store.TransferLeadership(t.Context(), "a1")
		return errors.Is(err, raftstore.ErrRefused) && strings.Contains(err.Error(), "a1 should not lead: its clock is 1h0m")
	})
	// Made the leader again, as an election can, it gives it away again.
	for range 2 {
		another("a1 is made the leader", func(n *Node) bool {
			return n.store.HandTo(t.Context(), raftstore.Member{Life: nodes[0].store.Status().Life(), Address: nodes[0].cfg.Raft.Addr().String()}) == nil
		})
		decides()
	}
}
