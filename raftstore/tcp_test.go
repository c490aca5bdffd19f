package raftstore

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// tcpNode is one of several stores in this process, over real sockets on loopback.
type tcpNode struct {
	name, dir, addr string
	store           *Store
	machine         *machine
}

// tcpCluster starts n voters on real disks.
func tcpCluster(tb testing.TB, n int, options ...option) []*tcpNode {
	tb.Helper()
	nodes := make([]*tcpNode, n)
	for i := range nodes {
		nodes[i] = &tcpNode{name: fmt.Sprintf("n%d", i+1), dir: tb.TempDir(), addr: "127.0.0.1:0"}
		nodes[i].open(tb, i == 0, options...)
		tb.Cleanup(func() { nodes[i].kill(tb) })
		if i == 0 {
			waitLeading(tb, nodes[0].store)
			continue
		}
		// On a starved machine two voters may change who leads meanwhile.
		eventually(tb, nodes[i].name+" has a vote", func() bool {
			ctx, cancel := context.WithTimeout(tb.Context(), 20*time.Second)
			defer cancel()
			s := leaderOf(tb, nodes[:i]).store
			err := s.AddNonvoter(ctx, nodes[i].name, nodes[i].addr)
			if err == nil {
				err = s.Promote(ctx, nodes[i].name)
			}
			if err != nil {
				tb.Logf("not yet: %v", err)
			}
			return err == nil
		})
	}
	return nodes
}

func (n *tcpNode) open(tb testing.TB, bootstrap bool, options ...option) {
	tb.Helper()
	l, err := net.Listen("tcp", n.addr)
	if err != nil {
		tb.Fatal(err)
	}
	n.addr = l.Addr().String()
	made := newNode(append([]option{named(n.name), inDir(n.dir), with(func(c *Config) {
		c.FS, c.Transport, c.Listener, c.Bootstrap = nil, nil, l, bootstrap
	})}, options...)...)
	n.machine = made.machine
	if n.store, err = made.open(); err != nil {
		tb.Fatalf("open %s: %v", n.name, err)
	}
}

// kill ends a node without a hand-over.
func (n *tcpNode) kill(tb testing.TB) {
	tb.Helper()
	if n.store == nil {
		return
	}
	stop(tb, n.store)
	n.store = nil
}

// leaderOf waits until one of the nodes leads a newer term than any other does.
func leaderOf(tb testing.TB, nodes []*tcpNode) *tcpNode {
	tb.Helper()
	var found *tcpNode
	eventually(tb, "one of the nodes leads", func() bool {
		newest := uint64(0)
		found = nil
		for _, n := range nodes {
			if n.store == nil {
				continue
			}
			if term, ok := n.store.Leading(); ok && term > newest {
				found, newest = n, term
			}
		}
		return found != nil
	})
	return found
}

// put writes at whoever leads until it is acknowledged.
func put(tb testing.TB, nodes []*tcpNode, cmd string) Result {
	tb.Helper()
	var res Result
	eventually(tb, "a write is acknowledged", func() bool {
		var err error
		res, err = leaderOf(tb, nodes).store.Propose(tb.Context(), []byte(cmd))
		return err == nil
	})
	return res
}

// writer writes in the background, one command after the other, until its end is called, which returns what was acknowledged.
func writer(tb testing.TB, nodes func() *tcpNode) (end func() []string) {
	tb.Helper()
	stop, done := make(chan struct{}), make(chan struct{})
	var acked []string
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			key := fmt.Sprintf("w%d", i)
			if _, err := nodes().store.Propose(context.Background(), []byte(key+"=v")); err == nil {
				acked = append(acked, key)
			}
		}
	}()
	return func() []string {
		close(stop)
		<-done
		return acked
	}
}

func level(tb testing.TB, nodes []*tcpNode, at uint64) {
	tb.Helper()
	var sums map[uint32]string
	eventually(tb, "all states are of one index", func() bool {
		sums = make(map[uint32]string)
		positions := make(map[Position]bool)
		for _, n := range nodes {
			sum, is := hashOf(tb, n.store)
			sums[sum] += " " + n.name
			positions[is] = is.Index >= at
		}
		return len(positions) == 1 && !slices.Contains(slices.Collect(maps.Values(positions)), false)
	})
	if len(sums) != 1 {
		tb.Errorf("the states differ at %d: %v", at, sums)
	}
}

// A leader that goes without a word is replaced, what it acknowledged is there, and it comes back as a follower.
func TestLeaderKilled(t *testing.T) {
	noLeaks(t)
	t.Run("run", func(t *testing.T) {
		nodes := tcpCluster(t, 3)
		for i := range 50 {
			put(t, nodes, fmt.Sprintf("a%d=v", i))
		}
		for round := range count(1, 5) {
			old := leaderOf(t, nodes)
			old.kill(t)
			began := time.Now()
			res := put(t, nodes, fmt.Sprintf("b%d=v", round))
			t.Logf("writes again after %s", time.Since(began).Round(time.Millisecond))
			s := leaderOf(t, nodes).store
			for i := range 50 {
				if _, ok := valueOf(t, s, fmt.Sprintf("a%d", i)); !ok {
					t.Fatalf("a%d is lost", i)
				}
			}
			if _, err := confirmIn(t, s, 5*time.Second); err != nil {
				t.Errorf("confirm with two of three: %v", err)
			}
			old.open(t, false)
			level(t, nodes, res.Index)
		}
	})
}

// A follower that was away longer than the log reaches back catches up by a snapshot while writes go on, and leads later.
func TestLaggingFollower(t *testing.T) {
	noLeaks(t)
	t.Run("run", func(t *testing.T) {
		short := with(func(c *Config) { c.TrailingLogs = 20 })
		nodes := tcpCluster(t, 3, short)
		late := nodes[2]
		late.kill(t)
		for i := range 200 {
			put(t, nodes[:2], fmt.Sprintf("a%d=v", i))
		}
		leader := leaderOf(t, nodes[:2])
		if err := snapshot(leader.store); err != nil {
			t.Fatal(err)
		}
		end := writer(t, func() *tcpNode { return leader })
		late.open(t, false, short)
		eventually(t, "it was sent the state", func() bool { return len(late.machine.restoredAt()) > 1 })
		eventually(t, "it follows", func() bool { return leader.store.Applied().Index-late.store.Applied().Index < 50 })
		acked := end()
		if err := leader.store.TransferLeadership(t.Context(), late.name); err != nil {
			t.Fatal(err)
		}
		waitLeading(t, late.store)
		res := put(t, nodes, "last=v")
		for _, key := range acked {
			if _, ok := valueOf(t, late.store, key); !ok {
				t.Fatalf("%s was acknowledged and is not there", key)
			}
		}
		level(t, nodes, res.Index)
		t.Logf("%d writes went on meanwhile", len(acked))
	})
}

// A deposed leader whose log has entries that nobody else has, and whose successors' log no longer reaches back to where they
// part, gets their state by a snapshot while writes go on (raft's issue 697), and leads later.
func TestDivergentFollower(t *testing.T) {
	noLeaks(t)
	// The leader may notice that it is alone before it appends anything: then it is tried again.
	for parted, try := false, 0; !parted; try++ {
		if try == 10 {
			t.Fatal("the logs never parted")
		}
		t.Run(fmt.Sprintf("try %d", try), func(t *testing.T) { parted = divergentFollower(t) })
	}
}

func divergentFollower(t *testing.T) (parted bool) {
	t.Helper()
	short := with(func(c *Config) { c.TrailingLogs = 5 })
	nodes := tcpCluster(t, 3, short)
	for i := range 20 {
		put(t, nodes, fmt.Sprintf("a%d=v", i))
	}
	odd := leaderOf(t, nodes)
	others := make([]*tcpNode, 0, 2)
	for _, n := range nodes {
		if n != odd {
			others = append(others, n)
			n.kill(t)
		}
	}
	common := odd.store.raft.LastIndex()
	// Alone, it appends what cannot be committed, until it notices.
	var callers sync.WaitGroup
	for i := range 30 {
		callers.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if _, err := odd.store.Propose(ctx, fmt.Appendf(nil, "odd%d=v", i)); err == nil {
				t.Error("acknowledged by one of three")
			}
		})
	}
	callers.Wait()
	tail := odd.store.raft.LastIndex()
	if tail <= common {
		return false
	}
	odd.kill(t)
	for _, n := range others {
		n.open(t, false, short)
	}
	for i := range 100 {
		put(t, others, fmt.Sprintf("b%d=v", i))
	}
	leader := leaderOf(t, others)
	if err := snapshot(leader.store); err != nil {
		t.Fatal(err)
	}
	if first, _ := leader.store.log.FirstIndex(); first <= tail {
		t.Fatalf("the log begins at %d, and the divergent one ends at %d", first, tail)
	}
	end := writer(t, func() *tcpNode { return leader })
	odd.open(t, false, short)
	eventually(t, "it was sent the state", func() bool { return len(odd.machine.restoredAt()) > 1 })
	eventually(t, "it follows", func() bool { return leader.store.Applied().Index-odd.store.Applied().Index < 50 })
	acked := end()
	if err := leader.store.TransferLeadership(t.Context(), odd.name); err != nil {
		t.Fatal(err)
	}
	waitLeading(t, odd.store)
	res := put(t, nodes, "last=v")
	for _, key := range append(acked, "a19", "b99") {
		if _, ok := valueOf(t, odd.store, key); !ok {
			t.Fatalf("%s was acknowledged and is not there", key)
		}
	}
	level(t, nodes, res.Index)
	return true
}

// silent is a connection to a host that has vanished, once it is hushed: what is written is lost, and nothing comes.
type silent struct {
	net.Conn
	hushed *atomic.Bool
	once   sync.Once
	closed chan struct{}
}

func (s *silent) Write(p []byte) (int, error) {
	if s.hushed.Load() {
		return len(p), nil
	}
	return s.Conn.Write(p)
}

func (s *silent) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if !s.hushed.Load() {
		return n, err
	}
	<-s.closed
	return 0, net.ErrClosed
}

func (s *silent) Close() error {
	s.once.Do(func() { close(s.closed) })
	return s.Conn.Close()
}

// SetDeadline and its like are of no use to who waits for the end of a test.
func (s *silent) SetDeadline(time.Time) error      { return nil }
func (s *silent) SetReadDeadline(time.Time) error  { return nil }
func (s *silent) SetWriteDeadline(time.Time) error { return nil }

// TestCloseWaitsForNoPeer: a message to a host that has vanished, and a way to it, may take as long as RPCTimeout says. A Close does not wait for it.
func TestCloseWaitsForNoPeer(t *testing.T) {
	for _, how := range []string{"nothing is answered", "nobody is reached"} {
		t.Run(how, func(t *testing.T) {
			var hushed, lost atomic.Bool
			var mu sync.Mutex
			var conns []net.Conn
			nodes := tcpCluster(t, 3, with(func(c *Config) {
				c.RPCTimeout = time.Hour
				c.Dial = func(ctx context.Context, addr string) (net.Conn, error) {
					if lost.Load() {
						<-ctx.Done()
						return nil, ctx.Err()
					}
					conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
					if err != nil {
						return nil, err
					}
					mu.Lock()
					defer mu.Unlock()
					conns = append(conns, &silent{Conn: conn, hushed: &hushed, closed: make(chan struct{})})
					return conns[len(conns)-1], nil
				}
			}))
			if hushed.Store(true); how == "nobody is reached" {
				lost.Store(true)
				hushed.Store(false)
				mu.Lock()
				for _, c := range conns {
					_ = c.Close()
				}
				mu.Unlock()
			}
			time.Sleep(200 * time.Millisecond) // a few heartbeats are under way
			for _, n := range nodes {
				if err := n.store.Close(within(t, 30*time.Second)); err != nil {
					t.Errorf("close %s: %v", n.name, err)
				}
				n.store = nil
			}
		})
	}
}
