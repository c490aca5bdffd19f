package raftstore

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// cluster is several nodes in one bubble: virtual time, disks and network in memory.
type cluster struct {
	tb      testing.TB
	net     *memNet
	options []option
	members []*member
	home    string // the cluster's name

	mu sync.Mutex // held where a member's store is set, and where another goroutine reads it
}

// member is one node through its runs.
type member struct {
	name  string
	addr  raft.ServerAddress
	fs    *vfs.MemFS
	end   *memEnd
	store *Store // nil while it is down
}

// testSeeds are the seeds to run: MACHINEID_TEST_SEED alone if it is set, else n beginning at first.
func testSeeds(tb testing.TB, first uint64, n int) []uint64 {
	tb.Helper()
	if set := os.Getenv("MACHINEID_TEST_SEED"); set != "" {
		return []uint64{must[uint64](tb)(strconv.ParseUint(set, 10, 64))}
	}
	seeds := make([]uint64, n)
	for i := range seeds {
		seeds[i] = first + uint64(i)
	}
	return seeds
}

// newCluster starts n voters: the first one bootstraps and adds the others. They stop when the test ends.
func newCluster(tb testing.TB, n int, options ...option) *cluster {
	tb.Helper()
	c := &cluster{tb: tb, net: newMemNet(), options: options}
	for i := range n {
		m := c.add()
		c.start(m, i == 0)
		if i == 0 {
			c.home = m.store.Cluster()
			if _, err := c.leader().store.Confirm(tb.Context()); err != nil { // by the quorum of one
				tb.Fatal(err)
			}
			continue
		}
		if err := c.leader().store.raft.AddVoter(m.store.life().server(), m.addr, 0, 0).Error(); err != nil {
			tb.Fatal(err)
		}
	}
	c.settle()
	return c
}

// add prepares one more node with an empty disk.
func (c *cluster) add() *member {
	name := fmt.Sprintf("n%d", len(c.members)+1)
	m := &member{name: name, addr: raft.ServerAddress("at-" + name + ":1"), fs: vfs.NewCrashableMem()}
	c.members = append(c.members, m)
	return m
}

func (c *cluster) start(m *member, bootstrap bool) {
	c.tb.Helper()
	m.end = c.net.plug(m.addr)
	n := newNode(append([]option{named(m.name), onFS(m.fs), with(func(cfg *Config) {
		cfg.Transport, cfg.Peers, cfg.Bootstrap = m.end, m.end, bootstrap
	})}, c.options...)...)
	s, err := n.open()
	if err != nil {
		c.tb.Fatalf("start %s: %v", m.name, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	m.store = s
}

// running returns a member's store, nil while it is down. Clients use it; the goroutine that starts and stops nodes need not.
func (c *cluster) running(m *member) *Store {
	c.mu.Lock()
	defer c.mu.Unlock()
	return m.store
}

// crash ends a node as a loss of power does: nothing more leaves it, and its disk keeps some of what was not synced.
func (c *cluster) crash(m *member, rng *rand.Rand) {
	c.tb.Helper()
	c.net.unplug(m.end)
	disk := m.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 30, 100}[rng.IntN(3)], RNG: rng})
	c.down(m)
	m.fs = disk
}

// down closes a node without a word to the others.
func (c *cluster) down(m *member) {
	c.tb.Helper()
	c.net.unplug(m.end)
	c.mu.Lock()
	s := m.store
	m.store = nil
	c.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	_ = s.Close(ctx) // what it says about commands under way is of no interest
}

// stop ends every node, and lets time pass until nothing is left of them.
func (c *cluster) stop() {
	for _, m := range c.members {
		if m.store != nil {
			c.down(m)
		}
	}
	time.Sleep(time.Minute) // what was abandoned ends
}

// until waits in virtual time.
func (c *cluster) until(what string, cond func() bool) {
	c.tb.Helper()
	for range 6000 {
		if cond() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	for _, m := range c.members {
		if m.store != nil {
			c.tb.Logf("%s: %+v, voters %v", m.name, m.store.Status(), m.store.raft.GetConfiguration().Configuration().Servers)
		}
	}
	c.tb.Fatalf("a minute passed before %s", what)
}

// leading returns the node that leads the newest term and is ready, nil if there is none.
func (c *cluster) leading() *member {
	var found *member
	var newest uint64
	for _, m := range c.members {
		if m.store == nil || (c.home != "" && m.store.Cluster() != c.home) { // a cluster of its own is not this one
			continue
		}
		if term, ok := m.store.Leading(); ok && term > newest {
			found, newest = m, term
		}
	}
	return found
}

func (c *cluster) leader() *member {
	c.tb.Helper()
	c.until("a node leads", func() bool { return c.leading() != nil })
	return c.leading()
}

// settle waits until every running node has applied what the leader has.
func (c *cluster) settle() {
	c.tb.Helper()
	c.until("all nodes are level", func() bool {
		l := c.leading()
		if l == nil {
			return false
		}
		for _, m := range c.members {
			if m.store != nil && m.store.Applied() != l.store.Applied() {
				return false
			}
		}
		return true
	})
}

// followers are the running nodes that do not lead.
func (c *cluster) followers() []*member {
	l := c.leader()
	var out []*member
	for _, m := range c.members {
		if m != l && m.store != nil {
			out = append(out, m)
		}
	}
	return out
}

// isolate cuts every link to m, or from m, or both.
func (c *cluster) isolate(m *member, to, from bool) {
	for _, other := range c.members {
		if other != m {
			c.net.set(other.addr, m.addr, to)
			c.net.set(m.addr, other.addr, from)
		}
	}
}
