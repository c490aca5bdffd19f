package raftstore

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"machineid/internal/testkit/bubble"
)

// Members that stay silent are removed, down to MinVoters and not below; one that answers in time stays, and so does every one of
// a leader that was cut off.
func TestDeadServersAreRemoved(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const after = 2 * time.Minute
		c := newCluster(t, 5, with(func(cfg *Config) { cfg.DeadServerAfter = after }))
		defer c.stop()
		l := c.leader()
		dead := c.followers()
		c.down(dead[0])
		c.isolate(dead[1], true, true)
		time.Sleep(after - 20*time.Second)
		if got := voters(t, l.store); got != "n1 n2 n3 n4 n5" {
			t.Fatalf("removed before its time: %s", got)
		}
		c.net.mend()
		time.Sleep(after / 2)
		if got := len(must[[]Member](t)(c.leader().store.Members(t.Context()))); got != 4 {
			t.Errorf("%d members, want 4: the one that is dead is gone, the one that answered again stays", got)
		}
		s := c.leader().store
		propose(t, s, "a=b")
		live := c.followers()
		c.down(live[0])
		time.Sleep(after + time.Minute)
		if got := len(must[[]Member](t)(s.Members(t.Context()))); got != 3 {
			t.Errorf("%d members, want 3", got)
		}
		// Three are the least.
		last := c.followers()[0]
		c.down(last)
		time.Sleep(3 * after)
		if got := len(must[[]Member](t)(s.Members(t.Context()))); got != 3 {
			t.Errorf("%d members, want 3: MinVoters", got)
		}
		propose(t, s, "c=d")
	})
}

// A leader that was paused has not seen the others be silent, however late its clock says it is.
func TestSilenceIsCountedInLooks(t *testing.T) {
	p := &pilot{store: &Store{cfg: Config{DeadServerAfter: MinDeadServerAfter}}, silent: map[raft.ServerID]time.Duration{}}
	looks := int(MinDeadServerAfter / watchEvery)
	for range looks - 1 {
		p.looked("n2", false)
	}
	if p.dead("n2") {
		t.Errorf("dead after %d looks of %s", looks-1, watchEvery)
	}
	p.looked("n2", false)
	if !p.dead("n2") {
		t.Errorf("not dead after %d looks", looks)
	}
	p.looked("n2", true)
	if p.dead("n2") {
		t.Error("dead though it answered")
	}
}

// A member that is being taken in and answers is not dead, however long its first entries, or its snapshot, are on their way.
func TestAJoinerThatAnswersIsNotDead(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, with(func(cfg *Config) { cfg.DeadServerAfter = MinDeadServerAfter }))
		defer c.stop()
		l, late := c.leader(), c.add()
		c.start(late, false)
		c.net.mu.Lock()
		c.net.wedged[route{l.addr, late.addr}] = true
		c.net.mu.Unlock()
		if err := l.store.AddNonvoter(within(t, 5*time.Second), late.name, string(late.addr)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * MinDeadServerAfter)
		if got := voters(t, l.store); got != "n1 n2 n3 (n4)" {
			t.Errorf("the members are %s", got)
		}
		c.down(late)
		time.Sleep(2 * MinDeadServerAfter)
		if got := voters(t, l.store); got != "n1 n2 n3" {
			t.Errorf("the members are %s, and n4 is dead", got)
		}
	})
}
