package raftstore

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"machineid/internal/testkit/bubble"
)

// A store that waits begins a cluster while it runs, once: it leads, others join it, and a restart finds the same cluster.
func TestBeginWhileRunning(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := &cluster{tb: t, net: newMemNet()}
		defer c.stop()
		for range 2 {
			c.start(c.add(), false)
		}
		first, second := c.members[0], c.members[1]
		time.Sleep(7 * time.Second) // not a multiple of 10 s, at which raft reads the log once more, also while it is closed
		if st := first.store.Status(); st.Cluster != "" || st.State != "Follower" || st.Term != 0 {
			t.Fatalf("it does not wait: %+v", st)
		}
		if err := first.store.Begin(within(t, time.Minute)); err != nil {
			t.Fatal(err)
		}
		name := first.store.Cluster()
		if name == "" || c.leader() != first {
			t.Fatalf("cluster %q, led by %v", name, c.leading())
		}
		propose(t, first.store, "a=1")
		if err := first.store.Begin(within(t, time.Minute)); !errors.Is(err, ErrInCluster) || !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), name) {
			t.Errorf("a cluster that works begins again: %v", err)
		}
		ctx := within(t, time.Minute)
		if err := errors.Join(first.store.AddNonvoter(ctx, second.name, string(second.addr)), first.store.Promote(ctx, second.name)); err != nil {
			t.Fatal(err)
		}
		c.settle()
		if err := second.store.Begin(ctx); !errors.Is(err, ErrInCluster) {
			t.Errorf("a member begins another cluster: %v", err)
		}
		for _, m := range c.members {
			c.down(m)
			c.start(m, false)
		}
		c.settle()
		for _, m := range c.members {
			if v, _ := valueOf(t, m.store, "a"); v != "1" || m.store.Cluster() != name {
				t.Errorf("%s has a=%q in cluster %q", m.name, v, m.store.Cluster())
			}
		}
	})
}

// A store that a cluster has taken in begins none, also if it has not been sent anything yet, nor with Config.Bootstrap.
func TestBeginRefusesWhatIsTakenIn(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.stop()
		m := c.add()
		c.start(m, false)
		if err := m.store.door.enter(c.leader().store.Cluster()); err != nil {
			t.Fatal(err)
		}
		if err := m.store.Begin(within(t, time.Minute)); !errors.Is(err, ErrInCluster) {
			t.Errorf("it begins a cluster: %v", err)
		}
		c.down(m)
		c.start(m, true)
		time.Sleep(7 * time.Second) // not a multiple of 10 s, at which raft reads the log once more, also while it is closed
		if st := m.store.Status(); st.Term != 0 || st.State != "Follower" || st.Cluster != c.leader().store.Cluster() {
			t.Errorf("bootstrapped as a second beginning of the cluster that took it in: %+v", st)
		}
	})
}

// Whatever moment the beginning is cut at, the store is either as it was or goes on to lead that cluster by itself.
func TestBeginCut(t *testing.T) {
	waiting, begun := 0, 0
	for cut := 0; ; cut++ {
		disk := vfs.NewCrashableMem()
		var image *vfs.MemFS
		var mu sync.Mutex
		left, on := cut, false
		watch := func(now bool) {
			mu.Lock()
			defer mu.Unlock()
			on = now
		}
		injected := errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
			mu.Lock()
			defer mu.Unlock()
			if on && op.Kind.ReadOrWrite() != errorfs.OpIsRead {
				if left--; left == -1 {
					image = disk.CrashClone(vfs.CrashCloneCfg{})
				}
			}
			return nil
		}))
		bubble.Test(t, func(t *testing.T) {
			s := must[*Store](t)(newNode(onFS(injected), notBootstrapped(), with(func(c *Config) { c.DiskSlowAfter = 0 })).open())
			watch(true)
			if err := s.Begin(within(t, time.Minute)); err != nil {
				t.Fatal(err)
			}
			watch(false)
			stop(t, s)
		})
		if image == nil {
			break
		}
		bubble.Test(t, func(t *testing.T) {
			s := must[*Store](t)(newNode(onFS(image), notBootstrapped()).open())
			defer stop(t, s)
			time.Sleep(7 * time.Second) // not a multiple of 10 s, at which raft reads the log once more, also while it is closed
			_, leads := s.Leading()
			switch {
			case s.Cluster() == "" && !leads:
				waiting++
				if err := s.Begin(within(t, time.Minute)); err != nil {
					t.Errorf("cut %d: it cannot begin any more: %v", cut, err)
				}
				waitLeading(t, s)
			case s.Cluster() != "" && leads:
				begun++
			default:
				t.Errorf("cut %d: cluster %q, leads %v: %+v", cut, s.Cluster(), leads, s.Status())
				return
			}
			propose(t, s, fmt.Sprintf("a=%d", cut))
		})
	}
	if waiting == 0 || begun < 3 {
		t.Errorf("%d cuts before the beginning, %d after it", waiting, begun)
	}
	t.Logf("%d cuts before the beginning, %d after it", waiting, begun)
}
