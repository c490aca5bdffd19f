package raftstore

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"machineid/internal/testkit/bubble"
)

// move starts a member at another address than before.
func (c *cluster) move(m *member, to raft.ServerAddress) {
	c.tb.Helper()
	c.down(m)
	m.addr = to
	c.start(m, false)
}

// lead makes a member stand for election now, and waits until it leads: raft obeys this message unseen.
func (c *cluster) lead(m *member) {
	c.tb.Helper()
	c.until(m.name+" leads", func() bool {
		req := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}}
		if c.leading() != m {
			_ = m.end.TimeoutNow(m.store.life().server(), m.addr, req, new(raft.TimeoutNowResponse)) // or at the next look
		}
		time.Sleep(time.Second)
		return c.leading() == m
	})
}

func addressOf(tb testing.TB, s *Store, id string) string {
	tb.Helper()
	m, ok := s.memberNow(id)
	if !ok {
		tb.Fatalf("%s is no member", id)
	}
	return string(m.Address)
}

// tells reports whether a node says that its address is not the one that it has as a member.
func tells(m *member) bool {
	for _, why := range m.store.Reasons() {
		if strings.HasPrefix(why, "address:") && strings.Contains(why, string(m.addr)) && strings.Contains(why, "cluster readdress "+m.name) {
			return true
		}
	}
	return false
}

// A member that was started at another address says so, is looked for there once it is readdressed, and can be handed the leadership again.
func TestReaddress(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 4)
		defer c.stop()
		l, f := c.leader(), c.followers()
		voter, only := f[0], f[1]
		ctx := within(t, 5*time.Minute)
		if err := l.store.Demote(ctx, only.name); err != nil {
			t.Fatal(err)
		}
		for _, m := range []*member{voter, only} {
			if tells(m) {
				t.Fatalf("%s: %v", m.name, m.store.Reasons())
			}
			had := voters(t, l.store)
			c.move(m, m.addr+"-b")
			c.until(m.name+" tells it", func() bool { return tells(m) })
			if got := m.store.Status().Raft; got != string(m.addr) {
				t.Errorf("its status names %s", got)
			}
			for range 2 {
				if err := l.store.Readdress(ctx, m.name, string(m.addr)); err != nil {
					t.Fatal(err)
				}
			}
			c.settle()
			if got := voters(t, l.store); len(got) != len(had) || addressOf(t, l.store, m.name) != string(m.addr) || tells(m) {
				t.Errorf("members %s, before %s; %s at %s: %v", got, had, m.name, addressOf(t, l.store, m.name), m.store.Reasons())
			}
		}
		for _, to := range []*member{voter, l} {
			if err := c.leader().store.TransferLeadership(ctx, to.name); err != nil {
				t.Fatal(err)
			}
			c.until(to.name+" leads", func() bool { return c.leading() == to })
		}
		propose(t, l.store, "a=1")
		c.settle()
	})
}

// A leader that was started at another address readdresses itself, so that the others find it when it leads no more.
func TestReaddressOfTheLeader(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.stop()
		ctx := within(t, 5*time.Minute)
		m := c.leader()
		other := c.followers()[0]
		c.move(m, "moved")
		c.lead(m)
		if !tells(m) {
			t.Fatalf("it leads and says nothing: %v", m.store.Reasons())
		}
		if err := m.store.Readdress(ctx, m.name, "elsewhere"); !errors.Is(err, ErrRefused) {
			t.Errorf("to where it is not: %v", err)
		}
		if err := other.store.Readdress(ctx, m.name, "moved"); !errors.Is(err, ErrNotLeader) {
			t.Errorf("by a follower: %v", err)
		}
		for range 2 {
			if err := m.store.Readdress(ctx, m.name, "moved"); err != nil {
				t.Fatal(err)
			}
		}
		if tells(m) || addressOf(t, m.store, m.name) != "moved" {
			t.Errorf("%v", m.store.Reasons())
		}
		for _, to := range []*member{other, m} {
			if err := c.leader().store.TransferLeadership(ctx, to.name); err != nil {
				t.Fatal(err)
			}
			c.until(to.name+" leads", func() bool { return c.leading() == to })
		}
	})
}

// A node alone takes its new address over by itself: nobody has to find it yet. Who joins later is told the new one.
func TestReaddressOfTheOnlyMember(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.stop()
		m := c.leader()
		c.move(m, "moved")
		c.until("it has its new address", func() bool {
			return c.leading() == m && addressOf(t, m.store, m.name) == "moved" && m.store.Health() == nil
		})
		next := c.add()
		c.start(next, false)
		ctx := within(t, time.Minute)
		if err := errors.Join(m.store.AddNonvoter(ctx, next.name, string(next.addr)), m.store.Promote(ctx, next.name),
			m.store.TransferLeadership(ctx, next.name)); err != nil {
			t.Fatal(err)
		}
		c.until("the other leads", func() bool { return c.leading() == next })
		c.settle()
	})
}

// Only the member itself, in its life, is an address's new owner.
func TestReaddressRefuses(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.stop()
		l, f := c.leader(), c.followers()
		had := voters(t, l.store)
		stranger := &member{name: "n9", addr: "nine", fs: vfs.NewCrashableMem()}
		c.start(stranger, false)
		defer c.down(stranger)
		c.down(f[0])
		f[0].wipe()
		f[0].addr = "moved"
		c.start(f[0], false)
		for addr, why := range map[string]string{
			"nine": "n9", "moved": "the member is", "nobody": "must be running", string(l.addr): "is the address of", string(f[1].addr): "is the address of",
		} {
			err := l.store.Readdress(within(t, 20*time.Second), f[0].name, addr)
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), why) {
				t.Errorf("to %s: %v", addr, err)
			}
		}
		if err := l.store.Readdress(within(t, 20*time.Second), "n7", "moved"); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "cluster add n7 moved") {
			t.Errorf("of nobody: %v", err)
		}
		if got := voters(t, l.store); got != had {
			t.Errorf("voters %s, had %s", got, had)
		}
	})
}

// Cut after each of its steps, it says what is left to do, and that is what completes it.
func TestReaddressCut(t *testing.T) {
	for name, reached := range map[string]func(raft.Server, bool) bool{
		"removed":     func(_ raft.Server, found bool) bool { return !found },
		"taken in":    func(m raft.Server, found bool) bool { return found && m.Address == "moved" },
		"at the vote": func(m raft.Server, found bool) bool { return found && m.Address == "moved" && m.Suffrage == raft.Voter },
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				c := newCluster(t, 3)
				defer c.stop()
				l, m := c.leader(), c.followers()[0]
				c.move(m, "moved")
				ctx, cancel := context.WithCancel(within(t, 5*time.Minute))
				defer cancel()
				seen := make(chan struct{})
				l.store.fsm.mu.Lock()
				tell := l.store.fsm.members
				l.store.fsm.members = func() {
					tell()
					if server, found := l.store.memberNow(m.name); reached(server, found) {
						cancel()
						select {
						case <-seen:
						default:
							close(seen)
						}
					}
				}
				l.store.fsm.mu.Unlock()
				err := l.store.Readdress(ctx, m.name, "moved")
				<-seen
				t.Logf("cut: %v", err)
				if err == nil && name != "at the vote" {
					t.Error("it was not cut")
				}
				again := within(t, time.Minute)
				err = l.store.Readdress(again, m.name, "moved")
				if name != "removed" && err != nil {
					t.Errorf("again: %v", err)
				}
				if name == "removed" && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "cluster add "+m.name+" moved")) {
					t.Errorf("again, it does not say what is left to do: %v", err)
				}
				if err := errors.Join(l.store.AddNonvoter(again, m.name, "moved"), l.store.Promote(again, m.name)); err != nil {
					t.Fatal(err)
				}
				propose(t, l.store, "a=1")
				c.settle()
				if got := voters(t, l.store); !strings.Contains(got, m.name) || strings.Contains(got, "(") || tells(m) {
					t.Errorf("voters %s; %v", got, m.store.Reasons())
				}
			})
		})
	}
}

// A name that a living member has is not to be had, and the one that wants it is told where that one is.
func TestANameIsTaken(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.stop()
		l, f := c.leader(), c.followers()
		twin := &member{name: f[0].name, addr: "twin", fs: vfs.NewCrashableMem()}
		c.start(twin, false)
		defer c.down(twin)
		err := l.store.AddNonvoter(within(t, time.Minute), twin.name, "twin")
		if !errors.Is(err, ErrOtherStore) || !strings.Contains(err.Error(), string(f[0].addr)) || strings.Contains(err.Error(), "--replace-lost") {
			t.Errorf("taken by one that lives: %v", err)
		}
		c.down(f[0])
		err = l.store.AddNonvoter(within(t, time.Minute), twin.name, "twin")
		if !errors.Is(err, ErrOtherStore) || !strings.Contains(err.Error(), "--replace-lost") || !strings.Contains(err.Error(), "cluster remove "+twin.name) {
			t.Errorf("taken by one that is gone: %v", err)
		}
	})
}

func TestCheckAddress(t *testing.T) {
	for _, good := range []string{"127.0.0.1:7072", "[::1]:1", "a1.example.com:65535", "a1:7072", "[fe80::1%eth0]:7072", "my_node.internal.:7072", "xn--bcher-kva.example:7072", "1a:7072", "10.0.0.1:7072", "[::ffff:10.0.0.1]:7072", strings.Repeat("a", 63) + ":1"} {
		if err := CheckAddress(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "a1", ":7072", "a1:", "a1:0", "a1:65536", "a1:-1", "a1:+1", "a1:http", "0.0.0.0:7072", "[::]:7072", "::1:7072", "a1:7072:1", "[a1]:7072", "[127.0.0.1]:7072", "[::1%]:7072", "a1:07072", "a 1:7072", " a1:7072", "a1:7072 ", "a1\n:7072", "a1:7072\x00",
		"user@a1:7072", "http://a1:7072", "a1/b:7072", "bücher.example:7072", ".a1:7072", "a1..b:7072", "010.0.0.1:7072", "127.1:7072", "256.0.0.1:7072", "1:7072", "0x7f.0x1:7072", "[::ffff:0.0.0.0]:7072",
		"a1:\u0661", strings.Repeat("a", 64) + ":1", strings.Repeat("a", 254) + ":1",
	} {
		if err := CheckAddress(bad); err == nil {
			t.Errorf("%.20q was taken", bad)
		}
	}
}
