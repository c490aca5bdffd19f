package raftstore

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/hashicorp/raft"

	"machineid/internal/testkit/bubble"
	"machineid/internal/testkit/injected"
)

// access is one call of a client: a write of value, or a read if value is empty.
type access struct{ key, value string }

func accessOf(input any) access {
	a, ok := input.(access)
	if !ok {
		panic(fmt.Sprintf("%T is no access", input))
	}
	return a
}

// registers is what a store must look like to its clients: each key is an atomic register.
var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := make(map[string][]porcupine.Operation)
		for _, op := range history {
			key := accessOf(op.Input).key
			byKey[key] = append(byKey[key], op)
		}
		parts := make([][]porcupine.Operation, 0, len(byKey))
		for _, part := range byKey {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		if in := accessOf(input); in.value != "" {
			return true, in.value
		}
		return output == state, state
	},
	DescribeOperation: func(input, output any) string {
		in := accessOf(input)
		if in.value != "" {
			return in.key + "=" + in.value
		}
		return fmt.Sprintf("%s is %q", in.key, output)
	},
}

// historian gathers what clients saw.
type historian struct {
	began time.Time
	mu    sync.Mutex
	ops   []porcupine.Operation
	reads int
	open  int // writes whose outcome is unknown
	// faults are what was done to the cluster.
	faults *injected.Faults
}

// What a nemesis does; what links do is counted where messages meet it.
const (
	nodeCrashed   = "a node crashed"
	leaderMoved   = "the leader moved"
	electionBegun = "an election begun beside a leader"
	memberChanged = "a member changed"
	diskLost      = "a disk lost"
)

func (h *historian) now() int64 { return int64(time.Since(h.began)) }

func (h *historian) add(op porcupine.Operation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, op)
	if accessOf(op.Input).value == "" {
		h.reads++
	}
	if op.Return == math.MaxInt64 {
		h.open++
	}
}

// client reads and writes at whichever node takes it, until stop. What was refused is left out: it must never show (R9).
func (h *historian) client(tb testing.TB, c *cluster, id int, rng *rand.Rand, stop chan struct{}) {
	tb.Helper()
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(1+rng.IntN(30)) * time.Millisecond):
		}
		c.mu.Lock()
		m := c.members[rng.IntN(len(c.members))]
		c.mu.Unlock()
		s := c.running(m)
		if s == nil || s.Cluster() != c.home {
			continue
		}
		in := access{key: fmt.Sprintf("k%d", rng.IntN(3))}
		if rng.IntN(2) == 0 {
			in.value = fmt.Sprintf("%d.%d", id, n)
		}
		op := porcupine.Operation{ClientId: id, Input: in, Call: h.now()}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		if in.value != "" {
			_, err := s.Propose(ctx, []byte(in.key+"="+in.value))
			op.Return = h.now()
			if Unknown(err) {
				op.Return = math.MaxInt64 // at any later time, or never
			} else if err != nil {
				cancel()
				continue
			}
			h.add(op)
		} else if v, err := s.Read(ctx); err == nil {
			value, _, err := v.Get([]byte("\x02" + in.key))
			_ = v.Close()
			op.Output, op.Return = string(value), h.now()
			if err != nil {
				tb.Errorf("read: %v", err)
			}
			h.add(op)
		}
		cancel()
	}
}

// nemesis does one thing to the cluster.
func nemesis(c *cluster, rng *rand.Rand, churn bool, faults *injected.Faults) {
	m := c.members[rng.IntN(len(c.members))]
	l := c.leading()
	kinds := 8
	if !churn {
		kinds = 7
	}
	switch rng.IntN(kinds) {
	case 0:
		c.isolate(m, rng.IntN(2) == 0, rng.IntN(2) == 0)
	case 1, 2: // power loss, and back at once or with the next repair
		if l != nil && rng.IntN(2) == 0 {
			m = l
		}
		if m.store != nil {
			c.crash(m, rng)
			faults.Did(nodeCrashed)
		}
	case 3:
		for _, other := range c.members {
			c.net.slow(other.addr, m.addr, time.Duration(rng.IntN(120))*time.Millisecond)
		}
	case 4, 5: // an election that the leader hears of late
		if l == nil || m == l || m.store == nil {
			return
		}
		for _, other := range c.members {
			if other != l {
				c.net.slow(other.addr, l.addr, 110*time.Millisecond)
			}
		}
		time.Sleep(time.Duration(rng.IntN(40)) * time.Millisecond) // questions of before are under way, then
		q := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}}
		if c.members[0].end.InmemTransport.TimeoutNow("", m.addr, q, new(raft.TimeoutNowResponse)) == nil {
			faults.Did(electionBegun)
		}
	case 6:
		if l != nil {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			if l.store.TransferLeadership(ctx, "") == nil {
				faults.Did(leaderMoved)
			}
			cancel()
		}
	case 7: // the membership: out and in again, with its data
		if l == nil || m == l {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		if rng.IntN(2) == 0 {
			if l.store.Demote(ctx, m.name) == nil { // refused if it would do harm
				faults.Did(memberChanged)
			}
			return
		}
		if l.store.Remove(ctx, m.name) == nil {
			faults.Did(memberChanged)
		}
		_ = l.store.AddNonvoter(ctx, m.name, string(m.addr))
	}
}

// lose takes the disk of a member other than the leader, which starts again by its command line: waiting, or as a cluster of its own. Or it is recovered as a cluster of its
// own, and its folder of before may come back. All is well before, so that what was acknowledged is with a majority of the lives that are left, or with a leader without
// whom there is no majority. It returns who must be exchanged, nil if nobody.
func lose(c *cluster, rng *rand.Rand) *member {
	l, m := c.leading(), c.members[rng.IntN(len(c.members))]
	if l == nil || m == l {
		return nil
	}
	c.down(m)
	if rng.IntN(3) > 0 {
		m.wipe()
		c.start(m, rng.IntN(2) == 0)
		return m
	}
	begun, err := Recover("data", &machine{}, Restoring{ID: m.name, Address: string(m.addr), FS: m.fs})
	if err != nil {
		c.tb.Errorf("recover %s: %v", m.name, err)
	}
	c.start(m, false)
	if rng.IntN(2) == 0 {
		return m
	}
	time.Sleep(time.Duration(rng.IntN(1000)) * time.Millisecond)
	if m.store.Cluster() == c.home {
		c.tb.Errorf("%s was recovered, and is of the cluster of before", m.name)
	}
	c.down(m)
	if err := errors.Join(m.fs.RemoveAll("data"), m.fs.Rename(begun.Kept, "data")); err != nil {
		c.tb.Error(err)
	}
	c.start(m, false)
	return nil
}

// exchange takes in what is left of a lost life as another.
func exchange(c *cluster, m *member) {
	if m == nil {
		return
	}
	if m.store != nil {
		c.down(m)
	}
	m.wipe()
	c.start(m, false)
	c.until(m.name+" is exchanged", func() bool {
		l := c.leading()
		if l == nil {
			return false
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return l.store.Replace(ctx, m.name, string(m.addr)) == nil && l.store.Promote(ctx, m.name) == nil
	})
}

// repair brings back whoever is down, mends the links, and gives every member its vote again.
func repair(c *cluster, churn bool) {
	c.net.mend()
	for _, m := range c.members {
		if m.store == nil {
			c.start(m, false)
		}
	}
	if !churn {
		return
	}
	for _, m := range c.members {
		c.until(m.name+" is a voter again", func() bool {
			l := c.leading()
			if l == nil {
				return false
			}
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			_ = l.store.AddNonvoter(ctx, m.name, string(m.addr))
			return l.store.Promote(ctx, m.name) == nil
		})
	}
}

// history runs clients against a cluster that is hurt all the time, and returns what they saw.
func history(t *testing.T, seed uint64, nodes int, churn bool, k knobs) (h *historian) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		h = &historian{began: time.Now(), faults: &injected.Faults{}}
		rng := rand.New(rand.NewPCG(seed, uint64(nodes)))
		c := newCluster(t, nodes, withKnobs(k), with(func(cfg *Config) { cfg.SnapshotThreshold, cfg.TrailingLogs, cfg.SnapshotInterval = 30, 10, time.Second }))
		defer c.stop()
		stop := make(chan struct{})
		var clients sync.WaitGroup
		for id := range 6 {
			own := rand.New(rand.NewPCG(seed, uint64(100+id)))
			clients.Go(func() { h.client(t, c, id, own, stop) })
		}
		for range 3 {
			var lost *member
			if rng.IntN(2) == 0 {
				if lost = lose(c, rng); lost != nil {
					h.faults.Did(diskLost)
				}
			}
			for range 2 + rng.IntN(4) {
				nemesis(c, rng, churn, h.faults)
				time.Sleep(time.Duration(50+rng.IntN(700)) * time.Millisecond)
			}
			c.net.mend()
			for _, m := range c.members {
				if m.store == nil && m != lost {
					c.start(m, false)
				}
			}
			exchange(c, lost)
			repair(c, churn)
			c.leader()
			time.Sleep(time.Duration(rng.IntN(500)) * time.Millisecond)
		}
		close(stop)
		clients.Wait()
		for _, what := range []string{messageLost, messageLate} {
			h.faults.Add(what, c.net.met.Count(what))
		}
		var hashes map[uint32]string
		c.until("all states are of one index", func() bool { // a call that nobody waits for any more may still take effect
			c.settle()
			hashes = make(map[uint32]string)
			at := make(map[Position]bool)
			for _, m := range c.members {
				sum, is := hashOf(t, m.store)
				hashes[sum] += fmt.Sprint(" ", m.name, " at ", is.Index)
				at[is] = true
			}
			return len(at) == 1
		})
		if len(hashes) != 1 {
			t.Errorf("seed %d: the states differ: %v", seed, hashes)
		}
	})
	return h
}

// hashOf is a sum of a node's state, and what it is the state after.
func hashOf(tb testing.TB, s *Store) (sum uint32, at Position) {
	tb.Helper()
	v := must[*View](tb)(s.View())
	defer func() { _ = v.Close() }()
	all := crc32.New(castagnoli)
	if err := v.Scan(nil, nil, func(key, value []byte) (bool, error) {
		_, _ = fmt.Fprintf(all, "%x=%x;", key, value)
		return true, nil
	}); err != nil {
		tb.Fatal(err)
	}
	return all.Sum32(), v.Position()
}

// Propose and Read are linearizable, whatever happens to nodes, links and members; the states are equal at the end.
func TestLinearizable(t *testing.T) {
	var faults injected.Faults // of all seeds
	kinds := []string{messageLost, messageLate, nodeCrashed, leaderMoved, electionBegun, memberChanged, diskLost}
	played := 0
	for _, run := range []struct {
		name  string
		nodes int
		churn bool
		seeds int
	}{
		{"3 nodes", 3, false, count(4, 40)},
		{"3 nodes and churn", 3, true, count(3, 40)},
		{"5 nodes and churn", 5, true, count(2, 20)},
	} {
		t.Run(run.name, func(t *testing.T) {
			calls, reads, open := 0, 0, 0
			for _, seed := range testSeeds(t, 1, run.seeds) {
				h := history(t, seed, run.nodes, run.churn, knobs{})
				calls, reads, open = calls+len(h.ops), reads+h.reads, open+h.open
				for _, kind := range kinds {
					faults.Add(kind, h.faults.Count(kind))
				}
				played++
				if got := porcupine.CheckOperationsTimeout(registers, h.ops, 20*time.Second); got != porcupine.Ok {
					t.Errorf("seed %d: %v (run again with MACHINEID_TEST_SEED=%d)", seed, got, seed)
				}
			}
			t.Logf("%d calls, %d of them reads, %d of unknown outcome", calls, reads, open)
		})
	}
	t.Log(&faults)
	for _, kind := range kinds {
		enough := 9 // histories, of which some had each kind
		if kind == memberChanged {
			enough = 40 // it is refused as a rule
		}
		if played >= enough && faults.Count(kind) == 0 {
			t.Errorf("never in %d histories: %s", played, kind)
		}
	}
}

// Each planted fault shows in some history: the proof that the test above can fail.
func TestLinearizableMutants(t *testing.T) {
	for _, mutant := range []struct {
		name string
		knobs
	}{
		{"read without confirm", knobs{readUnconfirmed: true}},
		{"a round begun before the call", knobs{joinOldTurn: true}},
		{"a minority", knobs{confirmMinority: true}},
		{"an old configuration", knobs{confirmOldConf: true}},
	} {
		t.Run(mutant.name, func(t *testing.T) {
			for seed := range uint64(400) { // far more than it ever took: the schedule is not the seed's alone
				h := history(t, seed, 3, false, mutant.knobs)
				if porcupine.CheckOperationsTimeout(registers, h.ops, 20*time.Second) == porcupine.Illegal {
					t.Logf("caught at seed %d", seed)
					return
				}
			}
			t.Error("it was never caught")
		})
	}
}
