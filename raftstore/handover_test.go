package raftstore

import (
	"errors"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// roomFS is a disk that says what the test wants of its room.
type roomFS struct {
	vfs.FS
	left *atomic.Uint64
}

func (f roomFS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	const total = 100 << 30
	return vfs.DiskUsage{TotalBytes: total, AvailBytes: f.left.Load(), UsedBytes: total - f.left.Load()}, nil
}

// TestAFullLeaderHandsOver to a node that has room, and stays if there is none: what is essential must be taken by somebody.
func TestAFullLeaderHandsOver(t *testing.T) {
	const plenty, little = 50 << 30, 1 << 20
	var disks []*atomic.Uint64
	nodes := tcpCluster(t, 3, with(func(c *Config) {
		left := new(atomic.Uint64)
		left.Store(plenty)
		disks = append(disks, left)
		c.FS, c.BallastBytes = roomFS{vfs.Default, left}, 1<<20
	}))
	first := leaderOf(t, nodes)
	propose(t, first.store, "a=1")
	fill := func(n *tcpNode) {
		for i := range nodes {
			if nodes[i] == n {
				disks[i].Store(little)
			}
		}
	}
	fill(first)
	eventually(t, "another one leads", func() bool {
		for _, n := range nodes {
			if _, leads := n.store.Leading(); leads && n != first {
				return true
			}
		}
		return false
	})
	second := leaderOf(t, nodes)
	propose(t, second.store, "b=2") // which has room
	for _, m := range must[[]Member](t)(second.store.Members(t.Context())) {
		if m.Status.DiskFull != (m.ID == first.name) {
			t.Errorf("%s: full %v", m.ID, m.Status.DiskFull)
		}
	}
	for _, n := range nodes {
		fill(n)
	}
	eventually(t, "a leader refuses what is not essential", func() bool {
		for _, n := range nodes {
			if _, leads := n.store.Leading(); leads {
				_, err := n.store.Propose(t.Context(), []byte("c=3"))
				return errors.Is(err, ErrNoSpace)
			}
		}
		return false
	})
	if _, err := leaderOf(t, nodes).store.ProposeWith(t.Context(), []byte("d=4"), ProposeOptions{Essential: true}); err != nil {
		t.Errorf("an essential command: %v", err)
	}
}
