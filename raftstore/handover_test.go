package raftstore

import (
	"errors"
	"slices"
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
	eventually(t, "another one, which has room, leads and decides", func() bool {
		for _, n := range nodes {
			if _, leads := n.store.Leading(); leads && n != first {
				_, err := n.store.Propose(t.Context(), []byte("b=2"))
				return err == nil
			}
		}
		return false
	})
	eventually(t, "the members are told which one is full", func() bool {
		for _, n := range nodes {
			if members, err := n.store.Members(t.Context()); err == nil {
				return !slices.ContainsFunc(members, func(m Member) bool { return m.Status.DiskFull != (m.ID == first.name) })
			}
		}
		return false
	})
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
	eventually(t, "an essential command is taken", func() bool {
		_, err := leaderOf(t, nodes).store.ProposeWith(t.Context(), []byte("d=4"), ProposeOptions{Essential: true})
		return err == nil
	})
}
