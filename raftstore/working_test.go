package raftstore

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"

	"machineid/internal/testkit/bubble"
)

// Whose voice, vote and leadership a change counts with (R13). Raft's own messages pass all the while: what the nodes say of
// themselves is what is judged.

// says makes a member answer questions with what lie makes of its status.
func (m *member) says(lie func(*NodeStatus)) {
	m.end.Serve(&lyingDoor{Door: &m.store.door, status: func() (NodeStatus, error) {
		status := m.store.Status()
		lie(&status)
		return status, nil
	}})
}

// A voter works if it answers, is in this term, and needs no snapshot; a change that leaves too few that do is refused, and the
// leadership goes to none that does not.
func TestWhoWorks(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, with(func(cfg *Config) { cfg.TrailingLogs = 1 }))
		defer c.stop()
		l, others := c.leader(), c.followers()
		for range 20 {
			propose(t, l.store, "a=b")
		}
		if err := snapshot(l.store); err != nil {
			t.Fatal(err)
		}
		if first, _ := l.store.log.FirstIndex(); first < 10 {
			t.Fatalf("the log begins at %d: it was not truncated, and the test shows nothing", first)
		}
		for what, lie := range map[string]func(*NodeStatus){
			"of an older term": func(s *NodeStatus) { s.Term-- }, "of a newer term": func(s *NodeStatus) { s.Term++ },
			"that needs a snapshot": func(s *NodeStatus) { s.LastIndex = 1 },
		} {
			others[0].says(lie)
			if err := l.store.Demote(within(t, time.Second), others[1].name); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "of the 2 voters there would be, 1 work") {
				t.Errorf("a voter %s is counted with: %v", what, err)
			}
		}
		for _, m := range others {
			m.says(func(s *NodeStatus) { s.Term-- })
		}
		if to, err := l.store.Successor(within(t, time.Second), ""); !errors.Is(err, ErrRefused) {
			t.Errorf("the leadership would go to %s of another term: %v", to.ID, err)
		}
		for _, m := range others {
			m.says(func(s *NodeStatus) { s.DiskFull = true })
		}
		l.store.space.closed.Store(true)
		l.store.handOverFull(within(t, time.Second))
		if _, ok := l.store.Leading(); !ok {
			t.Error("the leadership went to a node whose disk is full too")
		}
		others[1].says(func(*NodeStatus) {})
		l.store.handOverFull(within(t, time.Second))
		c.until("the one with room leads", func() bool { _, ok := others[1].store.Leading(); return ok })
	})
}

// Nobody hands over to a node that says why it should not lead, nor to one whose disk is nearly full, unless the leader is no better.
func TestWhoIsFitToLead(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var own atomic.Pointer[string]
		none, wrong := "", "its clock is off"
		own.Store(&none)
		c := newCluster(t, 4, with(func(cfg *Config) {
			if cfg.Bootstrap { // n1, which leads
				cfg.Unfit = func() string { return *own.Load() }
			}
			cfg.ClockOff = func() (time.Duration, bool) { return -time.Second, true }
		}))
		defer c.stop()
		l, others := c.leader(), c.followers()
		if l.name != "n1" {
			t.Fatalf("%s leads", l.name)
		}
		fit := func(*NodeStatus) {}
		full := func(s *NodeStatus) { s.DiskFull, s.LastIndex = true, s.LastIndex+100 }
		unfit := func(s *NodeStatus) { s.Unfit, s.LastIndex = wrong, s.LastIndex+100 }
		for _, test := range []struct {
			what              string
			says              [3]func(*NodeStatus)
			ownFull, ownUnfit bool
			id, to, refused   string
		}{
			{what: "the one that is well", says: [3]func(*NodeStatus){unfit, full, fit}, to: "n4"},
			{what: "for a full leader too", says: [3]func(*NodeStatus){unfit, full, fit}, ownFull: true, to: "n4"},
			{what: "for an unfit leader too", says: [3]func(*NodeStatus){full, unfit, fit}, ownUnfit: true, to: "n4"},
			{what: "a full one for an unfit leader", says: [3]func(*NodeStatus){unfit, full, unfit}, ownUnfit: true, to: "n3"},
			{what: "a full one for a full leader", says: [3]func(*NodeStatus){unfit, full, unfit}, ownFull: true, to: "n3"},
			{what: "none worse than the leader", says: [3]func(*NodeStatus){unfit, full, unfit}, refused: "n3 should not lead: its disk is nearly full"},
			{what: "none that is unfit", says: [3]func(*NodeStatus){unfit, unfit, unfit}, ownUnfit: true, ownFull: true, refused: "n2 should not lead: its clock is off"},
			{what: "not if it is asked for", says: [3]func(*NodeStatus){unfit, full, fit}, id: "n2", refused: "n2 should not lead: its clock is off"},
			{what: "nor a full one", says: [3]func(*NodeStatus){unfit, full, fit}, id: "n3", refused: "n3 should not lead: its disk is nearly full"},
			{what: "a full one that a full leader is asked for", says: [3]func(*NodeStatus){unfit, full, fit}, ownFull: true, id: "n3", to: "n3"},
			{what: "itself, whatever it is", says: [3]func(*NodeStatus){fit, fit, fit}, ownUnfit: true, id: "n1", to: "n1"},
		} {
			for i, m := range others {
				m.says(test.says[i])
			}
			l.store.space.closed.Store(test.ownFull)
			own.Store(&none)
			if test.ownUnfit {
				own.Store(&wrong)
			}
			to, err := l.store.Successor(within(t, time.Second), test.id)
			if to.ID != test.to || (test.refused == "") != (err == nil) || err != nil && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), test.refused)) {
				t.Errorf("%s: to %q, %v", test.what, to.ID, err)
			}
		}
		// A full leader stays for lack of one with room, and never goes to an unfit one.
		l.store.space.closed.Store(true)
		others[0].says(unfit)
		others[1].says(full)
		others[2].says(unfit)
		own.Store(&none)
		l.store.handOverFull(within(t, time.Second))
		if _, ok := l.store.Leading(); !ok {
			t.Error("the leadership went to one that is no better")
		}
		l.store.space.closed.Store(false)
		status := must[NodeStatus](t)(others[0].store.statusOf(t.Context(), raft.Server{ID: l.store.life().server(), Address: l.addr}))
		if off := status.ClockOffMs; status.Unfit != "" || off == nil || *off != -1000 {
			t.Errorf("the leader says of itself: %+v", status)
		}
	})
}

// A hand-over to a node that answers and gets no entries is refused, however often it is tried, and this node goes on: raft (v1.8.0) would wait for that
// node's replication, and at the second try for ever; then it refuses every command, in later terms too.
func TestAHandOverNeedsWhoKeepsUp(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.stop()
		l, to := c.leader(), c.followers()[0]
		c.net.mu.Lock()
		c.net.wedged[route{l.addr, to.addr}] = true
		c.net.mu.Unlock()
		propose(t, l.store, "a=b")
		for range 3 {
			if err := l.store.TransferLeadership(within(t, 5*time.Second), to.name); !errors.Is(err, ErrRefused) {
				t.Errorf("handed over: %v", err)
			}
			if _, err := l.store.Propose(within(t, time.Second), []byte("c=d")); err != nil {
				t.Errorf("behind it: %v", err)
			}
		}
		c.net.mend()
		c.settle()
		if err := l.store.TransferLeadership(within(t, 5*time.Second), to.name); err != nil {
			t.Error(err)
		}
	})
}

// A vote is given to who keeps up with what is committed, and goes on doing so: its log alone is not enough, nor is one moment.
func TestWhoHasCaughtUp(t *testing.T) {
	for what, lie := range map[string]func(s *NodeStatus, c *cluster, asked int64){
		"has the log alone":  func(s *NodeStatus, _ *cluster, _ int64) { s.Applied = 1 },
		"is of another term": func(s *NodeStatus, _ *cluster, _ int64) { s.Term-- },
		"was level for a look": func(s *NodeStatus, _ *cluster, asked int64) {
			if asked > 3 {
				s.Applied = 1
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				c := newCluster(t, 3)
				defer c.stop()
				l, m := c.leader(), c.add()
				c.start(m, false)
				if err := l.store.AddNonvoter(within(t, time.Minute), m.name, string(m.addr)); err != nil {
					t.Fatal(err)
				}
				c.settle()
				var asked atomic.Int64
				m.says(func(s *NodeStatus) { lie(s, c, asked.Add(1)) })
				if err := l.store.Promote(within(t, 10*time.Second), m.name); !errors.Is(err, ErrRefused) {
					t.Errorf("it has a vote: %v", err)
				}
				m.says(func(*NodeStatus) {})
				if err := l.store.Promote(within(t, 10*time.Second), m.name); err != nil {
					t.Errorf("without the lie: %v", err)
				}
			})
		})
	}
}

// Who needs longer than a heartbeat time-out for what is committed meanwhile never catches up.
func TestWhoIsSlowHasNotCaughtUp(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.stop()
		l, m := c.leader(), c.add()
		c.start(m, false)
		if err := l.store.AddNonvoter(within(t, time.Minute), m.name, string(m.addr)); err != nil {
			t.Fatal(err)
		}
		c.settle()
		ctx, cancel := context.WithCancel(t.Context())
		written := make(chan struct{})
		go func() {
			defer close(written)
			for ctx.Err() == nil {
				_, _ = l.store.Propose(ctx, []byte("a=b"))
				time.Sleep(10 * time.Millisecond)
			}
		}()
		lag := l.store.cfg.HeartbeatTimeout * 3 / 2
		then, now, at := uint64(0), uint64(0), time.Now()
		m.says(func(s *NodeStatus) { // it tells what it had when the last lag began
			if time.Since(at) >= lag {
				then, now, at = now, s.Applied, time.Now()
			}
			s.Applied = then
		})
		if err := l.store.Promote(within(t, 20*time.Second), m.name); !errors.Is(err, ErrRefused) {
			t.Errorf("it has a vote: %v", err)
		}
		cancel()
		<-written
	})
}

// A vote goes to the life that was asked how far it is: one that came in its place meanwhile is to be asked first (R13).
func TestAVoteIsForWhoWasAsked(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.stop()
		l, m := c.leader(), c.add()
		c.start(m, false)
		if err := l.store.AddNonvoter(within(t, time.Minute), m.name, string(m.addr)); err != nil {
			t.Fatal(err)
		}
		c.settle()
		next := &member{name: m.name, addr: "elsewhere", fs: vfs.NewCrashableMem()}
		c.start(next, false)
		defer c.down(next)
		began, exchanged := time.Now(), false
		m.says(func(*NodeStatus) { // it is level, and when that was for long enough, it is exchanged
			if exchanged || time.Since(began) < l.store.cfg.HeartbeatTimeout {
				return
			}
			exchanged = true
			ctx := within(t, time.Minute)
			if err := errors.Join(l.store.Remove(ctx, m.name), l.store.AddNonvoter(ctx, next.name, string(next.addr))); err != nil {
				t.Error(err)
			}
		})
		err := l.store.Promote(within(t, 10*time.Second), m.name)
		if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "another change came first") || !exchanged {
			t.Errorf("exchanged %v, promoted: %v", exchanged, err)
		}
		if got := voters(t, l.store); got != "n1 n2 n3 (n4)" {
			t.Errorf("the members are %s", got)
		}
	})
}

// A node that says that it is of another cluster is not taken in, though its greeting, a moment before, knew of none (R14).
func TestWhoIsOfAnotherClusterIsNotTakenIn(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.stop()
		l, m := c.leader(), c.add()
		c.start(m, false)
		m.says(func(s *NodeStatus) { s.Cluster = "another" })
		if err := l.store.AddNonvoter(within(t, time.Minute), m.name, string(m.addr)); !errors.Is(err, ErrRefused) || Unknown(err) {
			t.Errorf("it is taken in: %v", err)
		}
		if got := voters(t, l.store); got != "n1" {
			t.Errorf("the members are %s", got)
		}
	})
}

// An address is one member's, though that one is down and another node answers there.
func TestAnAddressIsOneMembers(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.stop()
		l, dead, next := c.leader(), c.followers()[0], c.add()
		c.down(dead)
		next.addr = dead.addr
		c.start(next, false)
		if err := l.store.AddNonvoter(within(t, time.Minute), next.name, string(next.addr)); !errors.Is(err, ErrRefused) {
			t.Errorf("two members at %s: %v", next.addr, err)
		}
	})
}

// Autopilot takes who is dead, and nobody who answers; it gives no vote.
func TestAutopilotTakesTheDeadOnly(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 4, with(func(cfg *Config) { cfg.DeadServerAfter = MinDeadServerAfter }))
		defer c.stop()
		l, m := c.leader(), c.add()
		c.start(m, false)
		if err := l.store.AddNonvoter(within(t, time.Minute), m.name, string(m.addr)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * MinDeadServerAfter)
		if got := voters(t, l.store); got != "n1 n2 n3 n4 (n5)" {
			t.Errorf("the members are %s", got)
		}
		newPilot(t.Context(), l.store).RemoveFailedServer(&autopilot.Server{ID: c.followers()[0].store.life().server()}) // it has answered since
		if got := voters(t, l.store); got != "n1 n2 n3 n4 (n5)" {
			t.Errorf("the members are %s", got)
		}
	})
}

// Autopilot gives no vote to a node that has long been well either, by whatever it measures that (R13).
func TestAutopilotGivesNoVote(t *testing.T) {
	well := autopilot.ServerHealth{Healthy: true, StableSince: time.Now().Add(-time.Hour)}
	state := &autopilot.State{Servers: map[raft.ServerID]*autopilot.ServerState{"n4/s4": {State: autopilot.RaftNonVoter, Health: well}}}
	usual := autopilot.DefaultPromoter()
	if got := usual.CalculatePromotionsAndDemotions(new(autopilot.Config), state); len(got.Promotions) != 1 {
		t.Fatalf("its own rule is %+v: this shows nothing", got)
	}
	if got := (keepVotes{usual}).CalculatePromotionsAndDemotions(new(autopilot.Config), state); len(got.Promotions)+len(got.Demotions) > 0 || got.Leader != "" {
		t.Errorf("it wants %+v", got)
	}
}

// A follower that is sent a snapshot is not stalled, however long that takes: its log says nothing of how it gets on.
func TestWhoIsSentASnapshotIsNotStalled(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		cfg := newNode().cfg.withDefaults()
		s := &Store{cfg: cfg, log: &logStore{first: 50}}
		server, seen := raft.Server{ID: "n2/s2"}, map[raft.ServerID]progress{}
		for range 10 {
			if s.stalls(server, NodeStatus{LastIndex: 10}, 100, seen) {
				t.Fatal("stalled")
			}
			time.Sleep(cfg.StallTimeout)
		}
		for range 3 { // it has it, and stands still, for no time yet
			if s.stalls(server, NodeStatus{LastIndex: 60}, 100, seen) {
				t.Fatal("stalled at once")
			}
		}
		for range 10 {
			if s.stalls(server, NodeStatus{LastIndex: 60}, 100, seen) {
				return
			}
			time.Sleep(cfg.StallTimeout)
		}
		t.Error("never stalled: this shows nothing")
	})
}

// What the membership and the format are decided with is one lock's: nobody comes in, and nothing is raised, while the other is decided.
func TestAdmittingIsOneAtATime(t *testing.T) {
	s, _ := start(t, with(beginsFirst))
	for _, order := range []struct {
		what string
		do   func(ctx context.Context) error
	}{
		{"add", func(ctx context.Context) error { return s.AddNonvoter(ctx, "n9", "nowhere") }},
		{"replace", func(ctx context.Context) error { return s.Replace(ctx, "n9", "nowhere") }},
		{"raise", func(ctx context.Context) error { _, err := s.RaiseFormat(ctx, 0); return err }},
	} {
		what, do := order.what, order.do
		s.admitting.Lock()
		done := make(chan error, 1)
		go func() { done <- do(within(t, time.Minute)) }()
		select {
		case err := <-done:
			t.Errorf("%s did not wait: %v", what, err)
			done <- err
		case <-time.After(50 * time.Millisecond):
		}
		if s.Format() != formatFirst {
			t.Errorf("%s: it was raised meanwhile", what)
		}
		s.admitting.Unlock()
		if err := <-done; err != nil {
			t.Logf("%s, in its turn: %v", what, err)
		}
	}
	if s.Format() != formatNewest {
		t.Errorf("format %d", s.Format())
	}
}

// forgotten is a future that raft never answers.
type forgotten struct{ raft.Future }

func (forgotten) Error() error { select {} }

// A change that raft forgot when it was shut down is unknown.
func TestAForgottenChangeIsUnknown(t *testing.T) {
	s, _ := start(t)
	done := make(chan error, 1)
	go func() { done <- s.await(t.Context(), func() raft.Future { return forgotten{} }) }()
	stop(t, s)
	if err := <-done; !Unknown(err) || !errors.Is(err, ErrClosed) {
		t.Errorf("its outcome is %v", err)
	}
}

// A node that stopped after a fault says nothing: its word counts for no quorum (R5).
func TestAFaultSilences(t *testing.T) {
	s, _ := start(t)
	if _, err := s.answer(); err != nil {
		t.Error(err)
	}
	s.fault.record(errInjected)
	if status, err := s.answer(); !errors.Is(err, ErrClosed) {
		t.Errorf("it answers %+v, %v", status, err)
	}
}
