package raftstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"machineid/internal/testkit/bubble"
)

// A door between two nodes: each rule, and what is let in.
func TestDoor(t *testing.T) {
	own, a2, a3, a4 := Life{"a1", "s1"}, Life{"a2", "s2"}, Life{"a3", "s3"}, Life{"a4", "s4"}
	members := func(index uint64, lives ...Life) configuration {
		var conf raft.Configuration
		for _, l := range lives {
			conf.Servers = append(conf.Servers, raft.Server{ID: l.server(), Address: raft.ServerAddress(l.ID)})
		}
		return configuration{index: index, encoded: raft.EncodeConfiguration(conf)}
	}
	three := members(10, own, a2, a3)
	for name, c := range map[string]struct {
		cluster string
		conf    configuration
		g       Greeting
		reason  Reason // "": it is let in, with raft's messages too
	}{
		"a member":                      {"c", three, Greeting{Cluster: "c", From: a2, To: own, Members: 10}, ""},
		"a member that lags":            {"c", three, Greeting{Cluster: "c", From: a2, To: own, Members: 3}, ""},
		"itself":                        {"c", three, Greeting{Cluster: "c", From: own, To: own}, ""},
		"taken in since":                {"c", three, Greeting{Cluster: "c", From: a4, To: own, Members: 12}, ""},
		"first contact":                 {"", configuration{}, Greeting{Cluster: "c", From: a2, To: own, Members: 10}, ""},
		"by the log only so far":        {"c", configuration{}, Greeting{Cluster: "c", From: a2, To: own, Members: 10}, ""},
		"another node is meant":         {"c", three, Greeting{Cluster: "c", From: a2, To: a3, Members: 10}, OtherLife},
		"the life before is meant":      {"c", three, Greeting{Cluster: "c", From: a2, To: Life{"a1", "s0"}, Members: 10}, OtherLife},
		"the one before, at a new disk": {"", configuration{}, Greeting{Cluster: "c", From: a2, To: Life{"a1", "s0"}, Members: 10}, OtherLife},
		"another cluster":               {"c", three, Greeting{Cluster: "d", From: a2, To: own, Members: 10}, OtherCluster},
		"another, as first contact":     {"d", configuration{}, Greeting{Cluster: "c", From: a2, To: own, Members: 10}, OtherCluster},
		"removed":                       {"c", three, Greeting{Cluster: "c", From: a4, To: own, Members: 9}, NoMember},
		"removed, and knows":            {"c", three, Greeting{Cluster: "c", From: a4, To: own, Members: 10}, NoMember},
		"an earlier life of a member":   {"c", three, Greeting{Cluster: "c", From: Life{"a2", "s0"}, To: own, Members: 10}, NoMember},
		"nobody":                        {"c", three, Greeting{Cluster: "c", To: own, Members: 10}, NoMember},
		"any life is meant":             {"c", three, Greeting{Cluster: "c", From: a2, To: Life{ID: "a1"}, Members: 10}, OtherLife},
		"whoever is there is meant":     {"c", three, Greeting{Cluster: "c", From: a2, Members: 10}, OtherLife},
		"a caller without a cluster":    {"c", three, Greeting{From: a2, To: own, Members: 10}, OtherLife},
	} {
		d := testDoor(own, nil)
		cluster := c.cluster
		d.cluster, d.pin = func() string { return cluster }, func(name string, _ bool) error { cluster = name; return nil }
		d.applied = func() configuration { return c.conf }
		w, v := d.Admit(c.g, true)
		if w.Refused == "" {
			w = v.Arrived(Reach{})
		}
		if w, _ := d.Admit(c.g, false); c.reason == OtherCluster && w.Reason != OtherCluster {
			t.Errorf("%s, with a question: %+v", name, w)
		}
		if w.Reason != c.reason || (w.Refused == "") != (c.reason == "") {
			t.Errorf("%s: %+v, want %q", name, w, c.reason)
		}
		if w.Refused == "" && (cluster != "c" || w.Cluster != "c") {
			t.Errorf("%s: let in, and the cluster is %q, told as %q", name, cluster, w.Cluster)
		}
		if w.Refused != "" && cluster != c.cluster {
			t.Errorf("%s: refused, and the cluster is %q", name, cluster)
		}
	}
	d := testDoor(own, nil)
	for name, c := range map[string]struct {
		to Life
		w  Welcome
		ok bool
	}{
		"who was meant":      {a2, Welcome{Cluster: "c", Life: a2}, true},
		"any life of a name": {Life{ID: "a2"}, Welcome{Life: a2}, true},
		"whoever is there":   {Life{}, Welcome{Life: a3}, true},
		"another life":       {a2, Welcome{Cluster: "c", Life: Life{"a2", "s9"}}, false},
		"another node":       {Life{ID: "a2"}, Welcome{Cluster: "c", Life: a3}, false},
		"another cluster":    {a2, Welcome{Cluster: "d", Life: a2}, false},
		"a refusal":          {a2, Welcome{Cluster: "c", Life: a2, Refused: "no", Reason: NoMember}, false},
	} {
		_, v := d.Greet(c.to)
		_, err := v.Welcomed(c.w)
		if err == nil {
			err = v.Admitted(c.w)
		}
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// How far a node has come is judged by what was known before it was asked: an answer that was long under way is no step back.
func TestReachIsJudgedInOrder(t *testing.T) {
	l := Life{"a2", "s2"}
	d := testDoor(Life{"a1", "s1"}, nil)
	_, late := d.Greet(l) // its answer takes its time
	_, soon := d.Greet(l)
	if _, err := soon.Welcomed(Welcome{Life: l, Reach: Reach{Applied: 9, Last: 10}}); err != nil {
		t.Fatal(err)
	}
	if _, err := late.Welcomed(Welcome{Life: l, Reach: Reach{Applied: 5, Last: 6}}); err != nil {
		t.Errorf("a late answer is taken for an older copy: %v", err)
	}
	_, after := d.Greet(l)
	if _, err := after.Welcomed(Welcome{Life: l, Reach: Reach{Applied: 5, Last: 8}}); err == nil {
		t.Error("an older copy is taken for the node")
	}
	_, caller := d.Admit(Greeting{Cluster: "c", From: l, To: d.life}, true)
	if w := caller.Arrived(Reach{Applied: 5, Last: 8}); w.Reason != WentBack {
		t.Errorf("an older copy is let in: %+v", w)
	}
	if w := caller.Arrived(Reach{Applied: 5, Last: 9}); w.Refused != "" { // what it had not applied may be gone
		t.Errorf("refused: %+v", w)
	}
}

// fakePeers answer as told.
type fakePeers struct {
	Peers
	status func() NodeStatus
}

func (p fakePeers) Status(context.Context, Life, string) (NodeStatus, error) { return p.status(), nil }

// The same holds of the answers to questions.
func TestReachOfAnswers(t *testing.T) {
	l := Life{"a2", "s2"}
	met := new(reaches)
	var says NodeStatus
	meanwhile := func() {}
	a := &askers{met: met, timeout: time.Minute, peers: fakePeers{status: func() NodeStatus {
		status := says // and then it is long under way
		meanwhile()
		return status
	}}}
	ask := func(applied, last uint64) error {
		says = NodeStatus{ID: l.ID, Store: l.Store, Applied: applied, LastIndex: last}
		_, err := a.ask(t.Context(), target{life: l, addr: "at-a2"})
		return err
	}
	if err := ask(5, 6); err != nil {
		t.Error(err)
	}
	meanwhile = func() { _ = met.meet(l, Reach{Applied: 9, Last: 9}, 0) }
	if err := ask(7, 8); err != nil {
		t.Errorf("a late answer is taken for an older copy: %v", err)
	}
	meanwhile = func() {}
	if err := ask(7, 8); err == nil {
		t.Error("an older copy is taken for the node")
	}
	if err := ask(9, 9); err != nil {
		t.Error(err)
	}
	a.close()
}

// A caller whose log went back is refused after it was welcomed: neither side takes the connection for one.
func TestWhoWentBackIsNotConnected(t *testing.T) {
	l := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	own, caller := testDoor(Life{"a1", "s1"}, nil), testDoor(Life{"a2", "s2"}, nil)
	if err := own.met.meet(caller.life, Reach{Applied: 9, Last: 9}, 0); err != nil {
		t.Fatal(err)
	}
	logger := newNode().cfg.withDefaults().Logger
	m := newMux(l, own, "", nil, nil, logger)
	out := newMux(must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0")), caller, "", nil, nil, logger)
	defer func() {
		if err := errors.Join(out.Close(), m.Close()); err != nil {
			t.Error(err)
		}
	}()
	c, err := out.dial(within(t, time.Minute), own.life, l.Addr().String(), muxRaft)
	var r *refusal
	if !errors.As(err, &r) || r.reason != WentBack {
		t.Errorf("dialled: %v, %v", c, err)
	}
	accepted := make(chan net.Conn, 1)
	go func() {
		if c, err := m.Accept(); err == nil {
			accepted <- c
		}
	}()
	select {
	case <-accepted:
		t.Error("it was let in")
	case <-time.After(50 * time.Millisecond):
	}
}

// wipe gives a node that is down an empty disk: the next start is another life.
func (m *member) wipe() { m.fs = vfs.NewCrashableMem() }

// loseADisk has a voter's disk lost behind a change that is acknowledged, while the leader is down too, and the third, whose log ends before the change, comes
// back: the empty store starts under the old name and address.
func loseADisk(t *testing.T, k knobs) (c *cluster, l, lost *member) {
	t.Helper()
	c = newCluster(t, 3, withKnobs(k))
	propose(t, c.leader().store, "a=1")
	c.settle()
	behind := c.followers()[0]
	c.down(behind)
	l = c.leader()
	propose(t, l.store, "revoked=yes")
	l = c.leader()
	for _, m := range c.members {
		if m != l && m != behind {
			lost = m
		}
	}
	c.down(lost)
	c.down(l)
	lost.wipe()
	c.start(lost, false)
	c.start(behind, false)
	time.Sleep(30 * time.Second)
	return c, l, lost
}

// Without the Greeting the empty store helps to elect the node that lacks the change.
func TestALostDiskMutant(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, _, _ := loseADisk(t, knobs{anyLife: true})
		defer c.stop()
		m := c.leading()
		if m == nil {
			t.Fatal("nobody was elected: the mutant is not caught")
		}
		if v, ok := valueOf(t, m.store, "revoked"); ok {
			t.Errorf("it has revoked=%q: the mutant is not caught", v)
		}
	})
}

// A change that was acknowledged is not lost when a voter's disk is: the empty store that starts under its name and address helps to elect nobody
// (finding: a node whose log ends before the change came to lead). It is exchanged once a majority of the others leads.
func TestALostDiskIsAnotherMember(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, l, lost := loseADisk(t, knobs{})
		defer c.stop()
		if m := c.leading(); m != nil {
			v, ok := valueOf(t, m.store, "revoked")
			t.Fatalf("%s was elected by an empty store, and has revoked=%q, %v", m.name, v, ok)
		}
		if at := lost.store.Applied(); at.Index != 0 || lost.store.raft.LastIndex() != 0 {
			t.Fatalf("the empty store was sent something: %+v", lost.store.Status())
		}

		c.start(l, false)
		l = c.leader()
		if v, _ := valueOf(t, l.store, "revoked"); v != "yes" {
			t.Fatalf("revoked=%q at the leader", v)
		}
		ctx := within(t, time.Minute)
		if err := l.store.AddNonvoter(ctx, lost.name, string(lost.addr)); !errors.Is(err, ErrOtherStore) || !errors.Is(err, ErrRefused) {
			t.Errorf("added under its old name: %v", err)
		}
		if err := l.store.Replace(ctx, lost.name, string(lost.addr)); err != nil {
			t.Fatal(err)
		}
		if err := l.store.Replace(ctx, lost.name, string(lost.addr)); err != nil {
			t.Errorf("again: %v", err)
		}
		if err := l.store.Promote(ctx, lost.name); err != nil {
			t.Fatal(err)
		}
		c.settle()
		if v, _ := valueOf(t, lost.store, "revoked"); v != "yes" {
			t.Errorf("revoked=%q at the one that was exchanged", v)
		}
		if got := voters(t, l.store); got != "n1 n2 n3" {
			t.Errorf("voters %s", got)
		}
	})
}

// Only what is lost is exchanged, and only if the rest can do without it.
func TestReplaceRefuses(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.stop()
		l, f := c.leader(), c.followers()
		impostor := &member{name: f[0].name, addr: "elsewhere", fs: vfs.NewCrashableMem()}
		c.start(impostor, false)
		defer c.down(impostor)
		if err := l.store.Replace(within(t, 10*time.Second), f[0].name, "elsewhere"); !errors.Is(err, ErrRefused) {
			t.Errorf("a member that answers is exchanged: %v", err)
		}
		c.down(f[0])
		c.isolate(f[1], true, true)
		f[0].wipe()
		c.start(f[0], false)
		if err := l.store.Replace(within(t, 10*time.Second), f[0].name, string(f[0].addr)); err == nil {
			t.Error("exchanged without a majority")
		}
		if got := voters(t, l.store); got != "n1 n2 n3" {
			t.Errorf("voters %s", got)
		}
	})
}

// A node that is out of the cluster gets nothing more: neither answers, nor an obedience (raft's TimeoutNow is obeyed unseen).
func TestARemovedNodeGetsNothing(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 4)
		defer c.stop()
		l, f := c.leader(), c.followers()
		out, other := f[0], f[1]
		if err := l.store.Remove(within(t, 10*time.Second), out.name); err != nil {
			t.Fatal(err)
		}
		for _, m := range []*member{l, other} {
			c.until("the removal is applied", func() bool { return m.store.fsm.configuration().index == l.store.fsm.configuration().index })
		}
		term := l.store.raft.CurrentTerm()
		req := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}}
		if err := out.end.TimeoutNow(other.store.life().server(), other.addr, req, new(raft.TimeoutNowResponse)); err == nil {
			t.Error("its TimeoutNow is obeyed")
		}
		if _, err := out.end.Status(within(t, time.Second), other.store.life(), string(other.addr)); err == nil {
			t.Error("it is told how a member is")
		}
		time.Sleep(10 * time.Second)
		if now := l.store.raft.CurrentTerm(); now != term {
			t.Errorf("the term is %d, was %d", now, term)
		}
		if said := out.store.Health(); said == nil || !strings.Contains(said.Error(), "no member") {
			t.Errorf("it does not know: %v", said)
		}
	})
}

// One store, two clusters that want it: it goes to one of them, and stays there after a restart.
func TestAStoreIsTakenInOnce(t *testing.T) {
	first, second := tcpCluster(t, 1), tcpCluster(t, 1)
	waiting := &tcpNode{name: "n9", dir: t.TempDir(), addr: "127.0.0.1:0"}
	waiting.open(t, false)
	defer waiting.kill(t)
	ctx := within(t, time.Minute)
	if err := first[0].store.AddNonvoter(ctx, "n9", waiting.addr); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is taken in", func() bool { return waiting.store.Cluster() == first[0].store.Cluster() })
	waiting.kill(t)
	waiting.open(t, false)
	if err := second[0].store.AddNonvoter(ctx, "n9", waiting.addr); !errors.Is(err, ErrRefused) {
		t.Errorf("taken in twice: %v", err)
	}
	put(t, first, "a=1")
	eventually(t, "it goes on with the first", func() bool { return waiting.store.Applied() == first[0].store.Applied() })
}

// Connections that were let in are ended when their callers are no members any more.
func TestConnectionsOfRemovedNodesEnd(t *testing.T) {
	nodes := tcpCluster(t, 3)
	l := leaderOf(t, nodes)
	var out *tcpNode
	for _, n := range nodes {
		if n != l {
			out = n
		}
	}
	c, err := out.store.mux.dial(t.Context(), l.store.life(), l.addr, muxRaft)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.store.Remove(within(t, time.Minute), out.name); err != nil {
		t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil || isTimeout(err) {
		t.Errorf("the connection of a removed node goes on: %v", err)
	}
	if _, err := out.store.mux.dial(t.Context(), l.store.life(), l.addr, muxRaft); err == nil {
		t.Error("a removed node is let in again")
	}
}

func isTimeout(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// Names that would be taken for something else in raft's names are refused at open.
func TestIDs(t *testing.T) {
	for _, id := range []string{"", ".", "..", "a/b", "a@b", "a b", "ä", fmt.Sprintf("%065d", 1)} {
		if CheckID(id) == nil {
			t.Errorf("%q is a node's name", id)
		}
	}
	for _, l := range []Life{{"a1", "s"}, {"a.b-c_D", "0123456789abcdef"}} {
		if got := lifeOf(l.server()); got != l {
			t.Errorf("%v came back as %v", l, got)
		}
		to, addr, err := meant(dialled(l.server(), "[::1]:7072"))
		if to != l || addr != "[::1]:7072" || err != nil {
			t.Errorf("%v came back as %v at %s, %v", l, to, addr, err)
		}
	}
}

// An older copy of a member's folder, put back, has forgotten what the member promised. Whoever has heard of more refuses it; it is exchanged like a lost one.
func TestAnOlderCopyIsRefused(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.stop()
		propose(t, c.leader().store, "a=1")
		c.settle()
		f := c.followers()[0]
		copied := f.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: newRand(t)})
		for i := range 20 {
			propose(t, c.leader().store, fmt.Sprintf("k%d=v", i))
		}
		c.settle()
		time.Sleep(5 * time.Second) // the leader has looked at its followers meanwhile
		c.down(f)
		now := f.fs
		f.fs = copied
		c.start(f, false)
		time.Sleep(20 * time.Second)
		if at := f.store.Applied().Index; at >= c.leader().store.Applied().Index {
			t.Fatalf("the older copy is at %d, as if nothing had been", at)
		}
		if said := f.store.Health(); said == nil || !strings.Contains(said.Error(), "older copy") {
			t.Errorf("it does not know why: %v", said)
		}
		// The folder itself is welcome, as after any restart.
		c.down(f)
		f.fs = now
		c.start(f, false)
		c.settle()
		// And what the copy was wiped for is taken in as another life.
		c.down(f)
		f.wipe()
		c.start(f, false)
		ctx := within(t, time.Minute)
		if err := c.leader().store.Replace(ctx, f.name, string(f.addr)); err != nil {
			t.Fatal(err)
		}
		if err := c.leader().store.Promote(ctx, f.name); err != nil {
			t.Fatal(err)
		}
		c.settle()
	})
}

// A restart never looks like an older copy, whatever a loss of power took of the state.
func TestReachNeverGoesBack(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, with(func(cfg *Config) { cfg.SnapshotThreshold, cfg.TrailingLogs, cfg.SnapshotInterval = 20, 5, time.Second }))
		defer c.stop()
		rng := newRand(t)
		for range count(6, 60) {
			for i := range 1 + rng.IntN(40) {
				propose(t, c.leader().store, fmt.Sprintf("k%d=v", i))
			}
			m := c.members[rng.IntN(len(c.members))]
			before := m.store.reach()
			c.crash(m, rng)
			c.start(m, false)
			if after := m.store.reach(); after.Last < before.Applied || after.Last < after.Applied {
				t.Fatalf("it was at %+v, and is at %+v after a loss of power", before, after)
			}
			c.settle()
		}
	})
}

// The first node of a cluster, put back to a copy of when it was alone, is a quorum of its own membership. It leads nobody and answers nothing once one who
// knows how far it had come has called it, and one who has forgotten sends it the log.
func TestAnOlderCopyOfTheFirstNode(t *testing.T) {
	for _, forget := range []bool{false, true} {
		bubble.Test(t, func(t *testing.T) {
			c := &cluster{tb: t, net: newMemNet()}
			defer c.stop()
			first := c.add()
			c.start(first, true)
			c.home = first.store.Cluster()
			propose(t, c.leader().store, "old=1")
			copied := first.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: newRand(t)})
			for range 2 {
				m := c.add()
				c.start(m, false)
				if err := c.leader().store.AddNonvoter(within(t, 10*time.Second), m.name, string(m.addr)); err != nil {
					t.Fatal(err)
				}
				if err := c.leader().store.Promote(within(t, 20*time.Second), m.name); err != nil {
					t.Fatal(err)
				}
			}
			propose(t, c.leader().store, "revoke=1")
			c.settle()
			time.Sleep(10 * time.Second)
			c.down(first)
			c.until("another leads", func() bool { l := c.leading(); return l != nil && l != first })
			if forget {
				for _, m := range c.members[1:] {
					c.down(m)
					c.start(m, false)
				}
				c.leader()
			}
			first.fs = copied
			c.start(first, false)
			time.Sleep(10 * time.Second)
			if _, leads := first.store.Leading(); leads {
				t.Errorf("forgotten %v: the copy leads: %v", forget, first.store.Health())
			}
			if _, err := first.store.Confirm(t.Context()); err == nil {
				t.Errorf("forgotten %v: the copy proves that it leads", forget)
			}
			if _, err := first.store.Propose(t.Context(), []byte("ack=lost")); err == nil {
				t.Errorf("forgotten %v: the copy takes a change", forget)
			}
			if said := first.store.Health(); !forget && (said == nil || !strings.Contains(said.Error(), "older copy")) {
				t.Errorf("the copy does not know what it is: %v", said)
			}
			propose(t, c.leader().store, "more=1")
		})
	}
}

// A node that is told that its cluster was replaced says so as long as it is told.
func TestAReplacedClusterSaysSo(t *testing.T) {
	d := testDoor(Life{"a1", "s1"}, nil)
	l := Life{"a2", "s9"}
	_, v := d.Greet(Life{"a2", "s2"})
	if _, err := v.Welcomed(Welcome{Cluster: "d", Replaces: "x", Life: l, Refused: "no", Reason: OtherCluster}); err == nil || d.successor() != "" {
		t.Errorf("%v, %q", err, d.successor())
	}
	if _, err := v.Welcomed(Welcome{Cluster: "d", Replaces: "c", Life: l, Refused: "no", Reason: OtherCluster}); err == nil || !strings.Contains(d.successor(), "cluster d at node a2") {
		t.Errorf("%v, %q", err, d.successor())
	}
	if _, err := v.Welcomed(Welcome{Cluster: "c", Life: Life{"a2", "s2"}}); err != nil || d.successor() != "" {
		t.Errorf("%v, %q", err, d.successor())
	}
}

// A node that crashed before its state was on disk knows its membership from its log: it must not be taken for one that was left behind.
func TestAGreetingNamesTheNewestMembership(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.stop()
		m := c.followers()[0]
		c.settle()
		want := m.store.fsm.configuration().index
		c.net.unplug(m.end)
		disk := m.fs.CrashClone(vfs.CrashCloneCfg{}) // nothing that was not synced: the state's newest writes are not
		c.down(m)
		m.fs = disk
		c.isolate(m, true, true)
		c.start(m, false)
		if applied := m.store.fsm.configuration().index; applied >= want {
			t.Fatalf("its state is at the membership of %d, and the test shows nothing", applied)
		}
		if g, _ := m.store.door.Greet(Life{}); g.Members != want {
			t.Errorf("it names the membership of %d, want %d", g.Members, want)
		}
		c.net.mend()
	})
}
