package raftstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"machineid/internal/testkit/bubble"
)

// hosted is one of several stores in one bubble, each on a host of its own, over raft's own transport.
type hosted struct {
	name, addr string
	fs         vfs.FS
	net        *hosts
	store      *Store
	machine    *machine
}

// hostedCluster starts three voters whose logs are short, so that who was away is sent the state, which has two megabytes.
type hostedCluster struct {
	tb    testing.TB
	net   *hosts
	nodes []*hosted
}

const sentState = 8 * 256 << 10

func newHostedCluster(tb testing.TB) *hostedCluster {
	tb.Helper()
	c := &hostedCluster{tb: tb, net: newHosts()}
	for i := range 3 {
		name := fmt.Sprintf("n%d", i+1)
		n := &hosted{name: name, addr: name + ":1", fs: vfs.NewMem(), net: c.net}
		c.nodes = append(c.nodes, n)
		n.open(tb, i == 0)
		if i == 0 {
			continue
		}
		c.until(time.Minute, name+" has a vote", func() bool {
			l := c.leading()
			if l == nil {
				return false
			}
			ctx, cancel := context.WithTimeout(tb.Context(), 20*time.Second)
			defer cancel()
			return errors.Join(l.store.AddNonvoter(ctx, name, n.addr), l.store.Promote(ctx, name)) == nil
		})
	}
	c.until(time.Minute, "all know who has a vote", func() bool { // raft gives none to whom it does not know to have one
		l := c.leading()
		return l != nil && c.nodes[1].store.Applied() == l.store.Applied() && c.nodes[2].store.Applied() == l.store.Applied()
	})
	return c
}

func (n *hosted) open(tb testing.TB, bootstrap bool) {
	tb.Helper()
	made := newNode(named(n.name), onFS(n.fs), with(func(c *Config) {
		c.Transport, c.Listener, c.Bootstrap = nil, n.net.listen(n.addr), bootstrap
		c.Dial = func(ctx context.Context, addr string) (net.Conn, error) { return n.net.dial(ctx, n.addr, addr) }
		c.TrailingLogs, c.SnapshotThreshold = 1, 1
	}))
	n.machine = made.machine
	var err error
	if n.store, err = made.open(); err != nil {
		tb.Fatalf("open %s: %v", n.name, err)
	}
}

func (n *hosted) close(tb testing.TB) {
	tb.Helper()
	stop(tb, n.store)
	n.store = nil
}

// end stops what runs, and lets time pass until nothing is left of it.
func (c *hostedCluster) end() {
	for _, n := range c.nodes {
		if n.store != nil {
			n.close(c.tb)
		}
	}
	c.net.end()
	time.Sleep(2 * time.Minute)
}

func (c *hostedCluster) until(within time.Duration, what string, cond func() bool) time.Duration {
	c.tb.Helper()
	began := time.Now()
	for !cond() {
		if time.Since(began) > within {
			for _, n := range c.nodes {
				if n.store != nil {
					c.tb.Logf("%s: %+v, %v", n.name, n.store.Status(), n.store.Reasons())
				}
			}
			c.tb.Fatalf("%s passed before %s", within, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return time.Since(began)
}

// leading is who leads the newest term among those that have not vanished, nil if nobody does.
func (c *hostedCluster) leading() (found *hosted) {
	newest := uint64(0)
	for _, n := range c.nodes {
		c.net.mu.Lock()
		gone := c.net.gone[n.addr]
		c.net.mu.Unlock()
		if n.store == nil || gone {
			continue
		}
		if term, ok := n.store.Leading(); ok && term > newest {
			found, newest = n, term
		}
	}
	return found
}

// behind ends a follower, and goes on until the log no longer reaches back to where it is.
func (c *hostedCluster) behind() (leader, late, other *hosted) {
	c.tb.Helper()
	leader = c.leading()
	for _, n := range c.nodes {
		switch {
		case n == leader:
		case late == nil:
			late = n
		default:
			other = n
		}
	}
	late.close(c.tb)
	rng := rand.New(rand.NewPCG(1, 2))
	value := make([]byte, sentState/8)
	for i := range 8 {
		for j := range value {
			value[j] = byte(rng.Uint32()) // cannot be compressed
		}
		propose(c.tb, leader.store, fmt.Sprintf("k%d=%s", i, value))
	}
	if err := snapshot(leader.store); err != nil {
		c.tb.Fatal(err)
	}
	propose(c.tb, leader.store, "last=v")
	return leader, late, other
}

// after calls do once when so many bytes have come from one host to another.
func (c *hostedCluster) after(from, to *hosted, bytes int64, do func() (lost bool)) (done *atomic.Bool) {
	var seen atomic.Int64
	done = new(atomic.Bool)
	c.net.lose(func(f, t string, n int) bool {
		return f == from.addr && t == to.addr && seen.Add(int64(n)) > bytes && done.CompareAndSwap(false, true) && do()
	})
	return done
}

// A voter that is being sent the state by a host that vanishes gives up when an election is due, and votes (I14). raft's main loop reads the snapshot, so
// a read that has no end takes the vote away for good.
func TestAVoterInASnapshotVotes(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newHostedCluster(t)
		defer c.end()
		leader, late, _ := c.behind()
		vanished := c.after(leader, late, sentState/4, func() bool { c.net.vanish(leader.addr); return true })
		late.open(t, false)
		c.until(time.Minute, "the snapshot is under way", vanished.Load)
		took := c.until(6*time.Second, "another node leads", func() bool { return c.leading() != nil })
		t.Logf("another node leads %s after the host vanished", took)
		propose(t, c.leading().store, "after=v")
		c.net.comeBack(leader.addr)
		c.until(time.Minute, "all are level", func() bool {
			return leader.store.Applied() == late.store.Applied() && late.store.Applied() == c.leading().store.Applied()
		})
		if _, ok := valueOf(t, leader.store, "after"); !ok {
			t.Error("what was acknowledged meanwhile is not at the node that came back")
		}
	})
}

// A snapshot that stops coming while its sender's heartbeats go on is told of, given up, and sent again.
func TestASnapshotThatStopsIsToldOf(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newHostedCluster(t)
		defer c.end()
		leader, late, _ := c.behind()
		stopped := c.after(leader, late, sentState/4, func() bool { return true })
		late.open(t, false)
		c.until(time.Minute, "the snapshot stops", stopped.Load)
		told := c.until(10*time.Second, "it is told of", func() bool {
			return strings.Contains(strings.Join(late.store.Reasons(), "\n"), "nothing of it has come")
		})
		sent := c.until(30*time.Second, "it is sent again", func() bool { return late.store.Applied() == leader.store.Applied() })
		t.Logf("told after %s, sent %s later", told, sent)
		if why := late.store.Reasons(); len(why) > 0 {
			t.Errorf("afterwards it is not ready: %v", why)
		}
		if c.leading() != leader {
			t.Error("that cost an election")
		}
	})
}

// A leader does not send on for long to a host that has vanished: whoever comes back in its place is served.
func TestAVoterThatVanishedInASnapshotIsSentAnother(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newHostedCluster(t)
		defer c.end()
		leader, late, _ := c.behind()
		vanished := c.after(leader, late, sentState/4, func() bool { c.net.vanish(late.addr); return true })
		late.open(t, false)
		c.until(time.Minute, "the snapshot is under way", vanished.Load)
		late.close(t)
		c.net.comeBack(late.addr)
		late.open(t, false)
		took := c.until(20*time.Second, "it has the state", func() bool { return late.store.Applied() == leader.store.Applied() })
		t.Logf("it has the state %s after it came back", took)
	})
}

// A store that is sending a snapshot to a host that takes nothing closes at once.
func TestCloseEndsASnapshotUnderWay(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newHostedCluster(t)
		defer c.end()
		leader, late, _ := c.behind()
		vanished := c.after(leader, late, sentState/4, func() bool { c.net.vanish(late.addr); return true })
		late.open(t, false)
		c.until(time.Minute, "the snapshot is under way", vanished.Load)
		began := time.Now()
		leader.close(t)
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %s to close", took)
		}
	})
}

// A member that does not take in that it is to lead holds up the leader, which takes no command meanwhile, no longer than an election would.
func TestAHandOverToWhoHangsEnds(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newHostedCluster(t)
		defer c.end()
		leader := c.leading()
		to := c.nodes[0]
		if to == leader {
			to = c.nodes[1]
		}
		c.after(leader, to, 0, func() bool { c.net.vanish(to.addr); return true })
		c.until(time.Minute, "the host has vanished", func() bool { c.net.mu.Lock(); defer c.net.mu.Unlock(); return c.net.gone[to.addr] })
		began := time.Now()
		err := leader.store.trans.TimeoutNow(to.store.life().server(), raft.ServerAddress(to.addr), &raft.TimeoutNowRequest{}, &raft.TimeoutNowResponse{})
		if took := time.Since(began); err == nil || took > leader.store.cfg.HeartbeatTimeout {
			t.Errorf("it took %s: %v", took, err)
		}
	})
}
