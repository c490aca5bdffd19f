package raftstore

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"machineid/internal/testkit/bubble"
)

// confirmIn asks with a deadline of virtual time.
func confirmIn(tb testing.TB, s *Store, d time.Duration) (uint64, error) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), d)
	defer cancel()
	return s.Confirm(ctx)
}

// R12: leadership is confirmed by a quorum of voters, whichever it is, and by nothing less.
func TestConfirmQuorum(t *testing.T) {
	for _, n := range []int{3, 5} {
		bubble.Test(t, func(t *testing.T) {
			c := newCluster(t, n)
			defer c.stop()
			l := c.leader()
			leads, _ := l.store.Leading()
			if term, err := confirmIn(t, l.store, time.Second); err != nil || term != leads {
				t.Errorf("%d voters: term %d, %v", n, term, err)
			}
			others := c.followers()
			if _, err := confirmIn(t, others[0].store, time.Second); !errors.Is(err, ErrNotLeader) {
				t.Errorf("a follower confirms: %v", err)
			}
			// As many as may be missing, in turn by each direction; the answer comes from the others at once.
			for i := range n / 2 {
				c.isolate(others[i], i%2 == 0, i%2 == 1)
			}
			began := time.Now()
			if _, err := confirmIn(t, l.store, time.Second); err != nil {
				t.Errorf("%d of %d voters out of reach: %v", n/2, n, err)
			}
			if took := time.Since(began); took > 10*time.Millisecond {
				t.Errorf("voters that do not answer held it up for %s", took)
			}
			// One more, and nobody may be sure.
			c.isolate(others[n/2], true, false)
			began = time.Now()
			if _, err := confirmIn(t, l.store, 10*time.Second); !errors.Is(err, ErrNoQuorum) && !errors.Is(err, ErrNotLeader) {
				t.Errorf("%d of %d voters out of reach: %v", n/2+1, n, err)
			}
			if took := time.Since(began); took > 2*l.store.cfg.HeartbeatTimeout {
				t.Errorf("it took %s to say so", took)
			}
		})
	}
}

// A leader whose followers do not miss it yet goes on leading: messages that take most of a heartbeat time-out cost no election.
func TestASlowNetworkKeepsItsLeader(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.stop()
		l := c.leader()
		c.settle()
		term, _ := l.store.Leading()
		for _, m := range c.followers() { // there and back, and up to a fifth of the time-out until the next heartbeat
			c.net.slow(l.addr, m.addr, l.store.cfg.HeartbeatTimeout*3/10)
			c.net.slow(m.addr, l.addr, l.store.cfg.HeartbeatTimeout*3/10)
		}
		for range 100 {
			time.Sleep(3 * time.Second)
			propose(t, l.store, "a=b")
			if now, ok := l.store.Leading(); !ok || now != term {
				t.Fatalf("it leads term %d (%t), and led %d", now, ok, term)
			}
		}
	})
}

// A node that does not lead the term any more when the answers arrive has confirmed nothing, whatever they say. Here both
// voters' "yes" is on its way when the leader itself is told of the next term.
func TestConfirmOwnTermAtTheEnd(t *testing.T) {
	for _, mutant := range []bool{false, true} {
		bubble.Test(t, func(t *testing.T) { confirmOwnTerm(t, mutant) })
	}
}

func confirmOwnTerm(t *testing.T, mutant bool) {
	t.Helper()
	c := newCluster(t, 3, withKnobs(knobs{confirmUnchecked: mutant}))
	defer c.stop()
	l := c.leader()
	for _, m := range c.followers() {
		c.net.slow(m.addr, l.addr, 100*time.Millisecond)
	}
	result := make(chan error)
	go func() {
		_, err := confirmIn(t, l.store, time.Second)
		result <- err
	}()
	time.Sleep(50 * time.Millisecond) // the answers are under way
	term := l.store.raft.CurrentTerm()
	q := &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("n9"), Addr: []byte("at-n9")}, Term: term + 1,
	}
	if err := c.followers()[0].end.InmemTransport.AppendEntries("x", l.addr, q, new(raft.AppendEntriesResponse)); err != nil {
		t.Fatal(err)
	}
	switch err := <-result; {
	case mutant && err != nil:
		t.Errorf("the mutant is not caught: %v", err)
	case !mutant && !errors.Is(err, ErrNotLeader):
		t.Errorf("confirmed term %d at term %d: %v", term, l.store.raft.CurrentTerm(), err)
	}
}

// lyingDoor answers what the node behind it would not.
type lyingDoor struct {
	Door
	status func() (NodeStatus, error)
}

func (d *lyingDoor) Status() (NodeStatus, error) { return d.status() }

// An answer of the right term counts only if it is the voter's own: its address may have come to belong to another.
func TestConfirmWrongNode(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.stop()
		l := c.leader()
		for _, wrong := range []func(*NodeStatus){
			func(s *NodeStatus) { s.ID = "n9" }, func(s *NodeStatus) { s.Store = "another" }, func(s *NodeStatus) { s.ID = l.name }, func(s *NodeStatus) { s.Cluster = "another" },
			func(s *NodeStatus) { s.Cluster = "" }, func(s *NodeStatus) { s.Term-- }, func(s *NodeStatus) { s.Term++ }, func(s *NodeStatus) { *s = NodeStatus{} },
		} {
			for _, m := range c.followers() {
				m.end.Serve(&lyingDoor{Door: &m.store.door, status: func() (NodeStatus, error) {
					status := m.store.Status()
					wrong(&status)
					return status, nil
				}})
			}
			if _, err := confirmIn(t, l.store, time.Second); !errors.Is(err, ErrNoQuorum) && !errors.Is(err, ErrNotLeader) {
				t.Errorf("confirmed by the wrong nodes: %v", err)
			}
		}
	})
}

// Who has no vote has no voice, however many answer (R12).
func TestConfirmAsksVoters(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.stop()
		l, voters := c.leader(), c.followers()
		for range 2 {
			m := c.add()
			c.start(m, false)
			if err := l.store.AddNonvoter(within(t, time.Minute), m.name, string(m.addr)); err != nil {
				t.Fatal(err)
			}
		}
		c.settle()
		for _, m := range voters {
			c.isolate(m, true, true)
		}
		if _, err := confirmIn(t, l.store, time.Second); !errors.Is(err, ErrNoQuorum) && !errors.Is(err, ErrNotLeader) {
			t.Errorf("confirmed by those without a vote: %v", err)
		}
		c.net.mend()
	})
}

// A node that was elected leads when its barrier is applied, and not before: it may lack what the leader before it acknowledged.
func TestElectedIsNotReady(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.stop()
		l, next := c.leader(), c.followers()[0]
		c.net.mu.Lock()
		for _, m := range c.members {
			c.net.wedged[route{next.addr, m.addr}] = true // votes and heartbeats pass, entries do not
		}
		c.net.mu.Unlock()
		_ = l.store.TransferLeadership(within(t, time.Second), next.name)
		c.until("it is elected", func() bool { return next.store.raft.State() == raft.Leader })
		synctest.Wait() // it knows
		if term, ok := next.store.Leading(); ok {
			t.Errorf("it leads term %d without a barrier", term)
		}
		if _, err := confirmIn(t, next.store, time.Second); !errors.Is(err, ErrNotLeader) {
			t.Errorf("it confirms: %v", err)
		}
		if _, err := next.store.Propose(within(t, time.Second), []byte("a=b")); !errors.Is(err, ErrNotLeader) {
			t.Errorf("it takes commands: %v", err)
		}
		if next.store.raft.State() != raft.Leader {
			t.Error("it was deposed meanwhile: this shows nothing")
		}
		c.net.mend()
		c.until("it is ready", func() bool { _, ok := next.store.Leading(); return ok })
	})
}

// Callers share rounds, and a slow voter has one question under way whatever their number.
func TestConfirmShares(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.stop()
		l, others := c.leader(), c.followers()
		fast, slow := others[0], others[1]
		c.net.slow(l.addr, fast.addr, time.Millisecond)
		c.net.slow(l.addr, slow.addr, 50*time.Millisecond)
		synctest.Wait()
		c.net.mu.Lock()
		clear(c.net.asked)
		c.net.mu.Unlock()
		done := make(chan error)
		for range 100 {
			go func() {
				var err error
				for range 10 {
					if _, cerr := confirmIn(t, l.store, time.Second); cerr != nil {
						err = cerr
					}
				}
				done <- err
			}()
		}
		for range 100 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		c.net.mu.Lock()
		defer c.net.mu.Unlock()
		if n := c.net.asked[route{l.addr, fast.addr}]; n < 10 || n > 25 {
			t.Errorf("1,000 calls by 100 callers took %d rounds", n)
		}
		if n := c.net.asked[route{l.addr, slow.addr}]; n > 2 {
			t.Errorf("the slow voter was asked %d times within 25 ms", n)
		}
	})
}

// usurp makes another node lead while the leader does not notice: what reaches the leader takes so long.
func usurp(tb testing.TB, c *cluster, old *member) (next *member) {
	tb.Helper()
	for _, m := range c.members {
		if m != old {
			c.net.slow(m.addr, old.addr, 100*time.Millisecond)
		}
	}
	next = c.followers()[0]
	q := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}}
	if err := c.followers()[1].end.InmemTransport.TimeoutNow("", next.addr, q, new(raft.TimeoutNowResponse)); err != nil {
		tb.Fatal(err)
	}
	for range 50 {
		if _, ok := next.store.Leading(); ok {
			return next
		}
		time.Sleep(time.Millisecond)
	}
	tb.Fatal("no usurper")
	return nil
}

// A leader that was deposed and does not know it confirms nothing: not by a round that began before the call, nor by fewer than
// a quorum, nor by those who voted once (R12). Each planted fault makes it read what another leader has overwritten.
func TestConfirmDeposed(t *testing.T) {
	readOld := func(t *testing.T, k knobs) bool {
		t.Helper()
		c := newCluster(t, 3, withKnobs(k))
		defer c.stop()
		old := c.leader()
		propose(t, old.store, "a=old")
		for _, m := range c.followers() {
			c.net.slow(m.addr, old.addr, 100*time.Millisecond)
		}
		first := make(chan error)
		go func() {
			_, err := confirmIn(t, old.store, time.Second)
			first <- err
		}()
		time.Sleep(10 * time.Millisecond) // both voters have said "yes", and the answers are on their way
		next := usurp(t, c, old)
		propose(t, next.store, "a=new")
		if _, ok := old.store.Leading(); !ok {
			t.Fatal("the old leader has noticed")
		}
		v, err := old.store.Read(t.Context())
		if err := <-first; err != nil && !errors.Is(err, ErrNotLeader) { // begun before, it may well count for its own caller
			t.Errorf("the round before: %v", err)
		}
		if err != nil {
			if !errors.Is(err, ErrNotLeader) {
				t.Errorf("read: %v", err)
			}
			return false
		}
		defer func() { _ = v.Close() }()
		value, _, err := v.Get([]byte("\x02a"))
		return err == nil && string(value) == "old"
	}
	for _, mutant := range []struct {
		name string
		knobs
	}{
		{"sound", knobs{}},
		{"read without confirm", knobs{readUnconfirmed: true}},
		{"a round begun before the call", knobs{joinOldTurn: true}},
		{"a minority", knobs{confirmMinority: true}},
		{"an old configuration", knobs{confirmOldConf: true}},
	} {
		t.Run(mutant.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				if stale := readOld(t, mutant.knobs); stale != (mutant.knobs != knobs{}) {
					t.Errorf("stale read: %v", stale)
				}
			})
		})
	}
}
