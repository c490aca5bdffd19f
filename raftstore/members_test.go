package raftstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"machineid/internal/testkit/bubble"
)

// within is a context of virtual time.
func within(tb testing.TB, d time.Duration) context.Context {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), d)
	tb.Cleanup(cancel)
	return ctx
}

func voters(tb testing.TB, s *Store) string {
	tb.Helper()
	var out []string
	for _, m := range must[[]Member](tb)(s.Members(tb.Context())) {
		name := m.ID
		if !m.Voter {
			name = "(" + m.ID + ")"
		}
		out = append(out, name)
	}
	return strings.Join(out, " ")
}

// An empty node waits to be added, catches up, is promoted, leads, and leaves again; each step may be repeated.
func TestMembership(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.stop()
		l := c.leader()
		s := l.store
		for range 20 {
			propose(t, s, "a=b")
		}
		for range 2 {
			m := c.add()
			c.start(m, false)
			time.Sleep(10 * time.Second)
			if st := m.store.Status(); st.LastIndex > 0 || st.State != "Follower" || st.Cluster != "" || m.store.Health() == nil {
				t.Errorf("an empty node does not wait: %+v", st)
			}
			for range 2 {
				if err := s.AddNonvoter(within(t, time.Second), m.name, string(m.addr)); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 {
				if err := s.Promote(within(t, 10*time.Second), m.name); err != nil {
					t.Fatal(err)
				}
			}
			// raft may have missed what the new voter acknowledged, if nothing follows: about once in 2,000 promotions.
			synctest.Wait() // the promotion may be answered before raft has taken the entry that follows
			if conf, last := s.fsm.configuration().index, s.raft.LastIndex(); last <= conf {
				t.Errorf("no entry follows the promotion at %d", conf)
			}
			c.settle()
			if m.store.Cluster() != s.Cluster() || s.Cluster() == "" {
				t.Errorf("the new node is of cluster %q, the first of %q", m.store.Cluster(), s.Cluster())
			}
		}
		if got := voters(t, s); got != "n1 n2 n3" {
			t.Errorf("members: %s", got)
		}
		if err := s.TransferLeadership(within(t, time.Second), "n3"); err != nil {
			t.Fatal(err)
		}
		c.until("n3 leads", func() bool { l := c.leading(); return l != nil && l.name == "n3" })
		s = c.leader().store
		for _, step := range []struct {
			what string
			do   func(context.Context, string) error
			want string
		}{
			{"demote", s.Demote, "(n1) n2 n3"},
			{"demote again", s.Demote, "(n1) n2 n3"},
			{"promote", s.Promote, "n1 n2 n3"},
			{"remove", s.Remove, "n2 n3"},
		} {
			if err := step.do(within(t, 5*time.Second), "n1"); err != nil {
				t.Errorf("%s: %v", step.what, err)
			}
			propose(t, s, "c=d")
			if got := voters(t, s); got != step.want {
				t.Errorf("%s: members %s, want %s", step.what, got, step.want)
			}
		}
		// Removed, n1 stays alone: it cannot be elected, nor disturb the others.
		term, _ := s.Leading()
		time.Sleep(time.Minute)
		if now, ok := s.Leading(); !ok || now != term || l.store.Health() == nil {
			t.Errorf("term %d, was %d; the removed node's health: %v", now, term, l.store.Health())
		}
		if id, _ := l.store.Leader(); id != "" {
			t.Errorf("the removed node follows %q", id)
		}
		// At its address another node takes its place.
		c.down(l)
		next := c.add()
		next.addr = l.addr
		c.start(next, false)
		if err := s.AddNonvoter(within(t, time.Second), next.name, string(next.addr)); err != nil {
			t.Fatal(err)
		}
		if err := s.Promote(within(t, 10*time.Second), next.name); err != nil {
			t.Fatal(err)
		}
		c.settle()
	})
}

// What would do harm is refused, and changes nothing (R13).
func TestMembershipRefuses(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.stop()
		l, others := c.leader(), c.followers()
		s := l.store
		before := s.fsm.configuration().index
		empty := c.add()
		c.start(empty, false)
		stranger := newCluster(t, 1, named("n4")) // by a name that we want
		defer stranger.stop()
		foreign := stranger.members[0]
		c.net.mu.Lock()
		c.net.ends["at-foreign"] = foreign.end
		c.net.mu.Unlock()
		refused := func(what string, err error) {
			t.Helper()
			if !errors.Is(err, ErrRefused) || Unknown(err) {
				t.Errorf("%s: %v", what, err)
			}
			if now := s.fsm.configuration().index; now != before {
				t.Errorf("%s: the configuration changed", what)
				before = now
			}
		}
		ctx := within(t, time.Hour)
		refused("add a node that is not running", s.AddNonvoter(ctx, "n9", "nowhere"))
		refused("add a node under another's name", s.AddNonvoter(ctx, "n9", string(empty.addr)))
		refused("add at a member's address", s.AddNonvoter(ctx, "n4", string(others[0].addr)))
		refused("change an address", s.AddNonvoter(ctx, others[0].name, string(empty.addr)))
		refused("add a node of another cluster", s.AddNonvoter(ctx, "n4", "at-foreign"))
		for what, err := range map[string]error{
			"promote": s.Promote(ctx, "n9"), "demote": s.Demote(ctx, "n9"), "remove": s.Remove(ctx, "n9"), "remove what waits to be added": s.Remove(ctx, empty.name),
		} {
			refused(what+" a stranger", err)
			if !errors.Is(err, ErrNotMember) || !strings.Contains(err.Error(), "it is not a member; the members are n1, n2, n3") {
				t.Errorf("%s a stranger: %v", what, err)
			}
		}
		refused("demote the leader", s.Demote(ctx, l.name))
		refused("remove the leader", s.Remove(ctx, l.name))
		refused("hand over to a stranger", s.TransferLeadership(ctx, "n9"))
		if err := others[0].store.Remove(ctx, others[1].name); !errors.Is(err, ErrNotLeader) || Unknown(err) {
			t.Errorf("a follower removes: %v", err)
		}
		gone, cancel := context.WithCancel(ctx)
		cancel()
		refused("with a context that is done", s.Remove(gone, others[0].name))

		// With one voter dead, the other one must stay, and no vote may be given that takes the quorum beyond reach.
		c.down(others[1])
		refused("remove a voter that is needed", s.Remove(ctx, others[0].name))
		refused("demote a voter that is needed", s.Demote(ctx, others[0].name))
		refused("hand over to a dead voter", s.TransferLeadership(ctx, others[1].name))
		if err := s.AddNonvoter(ctx, empty.name, string(empty.addr)); err != nil {
			t.Fatal(err)
		}
		before = s.fsm.configuration().index
		c.net.set(l.addr, empty.addr, true)
		refused("promote a node that cannot catch up", s.Promote(within(t, 5*time.Second), empty.name))
		c.net.mend()
		if err := s.Promote(within(t, 20*time.Second), empty.name); err != nil { // 3 of 4 work
			t.Errorf("promote with one of four dead: %v", err)
		}
		if err := s.Remove(ctx, others[1].name); err != nil {
			t.Errorf("remove the dead voter: %v", err)
		}
		before = s.fsm.configuration().index
		if err := s.Demote(ctx, others[0].name); err != nil {
			t.Error(err)
		}
		if err := s.Remove(ctx, empty.name); err != nil {
			t.Error(err)
		}
		before = s.fsm.configuration().index
		refused("hand over with nobody there", s.TransferLeadership(ctx, ""))
		refused("remove the last voter", s.Remove(ctx, l.name))
		if err := s.Health(); err != nil {
			t.Errorf("health: %v", err)
		}
		propose(t, s, "a=b")
	})
}

// A vote is not given if the voters that answer would be no quorum (R13): nothing could be committed any more, this change neither.
func TestPromoteNeedsAQuorumThatWorks(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.stop()
		l, others := c.leader(), c.followers()
		m := c.add()
		c.start(m, false)
		if err := l.store.AddNonvoter(within(t, 5*time.Second), m.name, string(m.addr)); err != nil {
			t.Fatal(err)
		}
		c.settle()
		for _, f := range others { // as after a fault; raft's own messages still pass
			f.end.Serve(&lyingDoor{Door: &f.store.door, status: func() (NodeStatus, error) { return NodeStatus{}, ErrClosed }})
		}
		before := l.store.fsm.configuration().index
		err := l.store.Promote(within(t, 10*time.Second), m.name)
		if !errors.Is(err, ErrRefused) || Unknown(err) || !strings.Contains(err.Error(), "of the 4 voters there would be, 2 work, and 3 must") {
			t.Errorf("promote: %v", err)
		}
		if now := l.store.fsm.configuration().index; now != before {
			t.Errorf("the configuration changed: %s", voters(t, l.store))
		}
		others[0].end.Serve(&others[0].store.door)
		if err := l.store.Promote(within(t, 10*time.Second), m.name); err != nil {
			t.Errorf("with three of four: %v", err)
		}
	})
}

// A change whose leader loses its quorum in the middle is unknown, and either took effect or did not.
func TestMembershipUnknown(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.stop()
		l := c.leader()
		m := c.add()
		c.start(m, false)
		for _, f := range c.followers() {
			c.net.mu.Lock()
			c.net.wedged[route{l.addr, f.addr}] = true // the entry goes out to nobody, though all answer
			c.net.mu.Unlock()
		}
		err := l.store.AddNonvoter(within(t, 3*time.Second), m.name, string(m.addr))
		if !Unknown(err) || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("without a quorum: %v", err)
		}
		if err := l.store.AddNonvoter(within(t, 3*time.Second), "n9", "nowhere"); !errors.Is(err, ErrRefused) {
			t.Errorf("a second change: %v", err)
		}
		c.net.mend()
		c.until("it is settled", func() bool {
			l := c.leading()
			return l != nil && l.store.AddNonvoter(within(t, 3*time.Second), m.name, string(m.addr)) == nil
		})
	})
}

// Two callers that saw the same configuration cannot both change it.
func TestMembershipRace(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 5)
		defer c.stop()
		l, others := c.leader(), c.followers()
		for _, m := range others { // all plan before one of them has got through
			c.net.slow(m.addr, l.addr, 20*time.Millisecond)
		}
		results := make(chan error)
		for _, m := range others[:3] { // each by itself would be safe, and all three are not
			go func() { results <- l.store.Remove(within(t, 10*time.Second), m.name) }()
		}
		done := 0
		for range 3 {
			switch err := <-results; {
			case err == nil:
				done++
			case !errors.Is(err, ErrRefused):
				t.Errorf("it is not refused: %v", err)
			}
		}
		if done != 1 {
			t.Errorf("%d of three came through", done)
		}
		if n := len(l.store.raft.GetConfiguration().Configuration().Servers); n != 5-done {
			t.Errorf("%d members after %d removals", n, done)
		}
		propose(t, l.store, "a=b")
	})
}

// A follower that answers and gets no entries is reported, and the leadership goes to another, but not for ever.
func TestStalledFollower(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.stop()
		l := c.leader()
		victim := c.followers()[1]
		for _, m := range c.members { // whoever leads
			c.net.mu.Lock()
			c.net.wedged[route{m.addr, victim.addr}] = true
			c.net.mu.Unlock()
		}
		began := time.Now()
		stop := make(chan struct{})
		finished := make(chan struct{})
		go func() {
			defer close(finished)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(500 * time.Millisecond):
					if now := c.leading(); now != nil {
						_, _ = now.store.Propose(within(t, time.Second), fmt.Appendf(nil, "k%d=v", i)) // refused during a hand-over
					}
				}
			}
		}()
		c.until("it hands over", func() bool { now := c.leading(); return now != nil && now != l })
		if took := time.Since(began); took < 9*time.Second || took > 20*time.Second {
			t.Errorf("it handed over after %s", took)
		}
		terms := c.leader().store.raft.CurrentTerm()
		time.Sleep(5 * time.Minute)
		if now := c.leader().store.raft.CurrentTerm(); now > terms+1 {
			t.Errorf("%d more hand-overs within five minutes", now-terms)
		}
		close(stop)
		<-finished
		c.net.mend()
		c.settle()
	})
}

// A leader that hands over under load: every command has one true answer, and leadership moves within virtual milliseconds.
func TestTransferUnderLoad(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.stop()
		acked := make(chan string, 10000)
		stop := make(chan struct{})
		callers := make(chan struct{})
		for i := range 8 {
			go func() {
				defer func() { callers <- struct{}{} }()
				for n := 0; ; n++ {
					select {
					case <-stop:
						return
					case <-time.After(time.Millisecond):
					}
					l := c.leading()
					if l == nil {
						continue
					}
					key := fmt.Sprintf("%d.%d", i, n)
					if _, err := l.store.Propose(within(t, 5*time.Second), []byte(key+"=v")); err == nil {
						acked <- key
					}
				}
			}()
		}
		for range 5 {
			l := c.leader()
			time.Sleep(100 * time.Millisecond)
			began := time.Now()
			if err := l.store.TransferLeadership(within(t, 5*time.Second), ""); err != nil {
				t.Errorf("hand over: %v", err)
			}
			c.until("another leads", func() bool { now := c.leading(); return now != nil && now != l })
			if took := time.Since(began); took > 200*time.Millisecond {
				t.Errorf("it took %s", took)
			}
		}
		close(stop)
		for range 8 {
			<-callers
		}
		close(acked)
		c.settle()
		n := 0
		for key := range acked {
			n++
			for _, m := range c.members {
				if _, ok := valueOf(t, m.store, key); !ok {
					t.Fatalf("%s does not have %s", m.name, key)
				}
			}
		}
		t.Logf("%d commands", n)
	})
}

func TestClassifyChange(t *testing.T) {
	for _, c := range []struct {
		err     error
		want    error
		unknown bool
	}{
		{nil, nil, false},
		{raft.ErrNotLeader, ErrNotLeader, false},
		{raft.ErrEnqueueTimeout, ErrRefused, false},
		{raft.ErrLeadershipTransferInProgress, ErrRefused, false},
		{errors.New("configuration changed since 4 (latest is 7)"), ErrRefused, false},
		{raft.ErrLeadershipLost, ErrOutcomeUnknown, true},
		{raft.ErrRaftShutdown, ErrOutcomeUnknown, true},
		{errors.New("leadership transfer timeout"), ErrOutcomeUnknown, true},
	} {
		if got := classifyChange(c.err); !errors.Is(got, c.want) || Unknown(got) != c.unknown {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}
