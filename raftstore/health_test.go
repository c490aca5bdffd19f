package raftstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"machineid/internal/testkit/bubble"
)

// Each part that is not ready is a reason of its own, in one error of Health, and each goes away with its cause.
func TestReasons(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		q := newQuotaFS(vfs.NewMem(), disk)
		s, m := start(t, onFS(q), with(smallBallast), with(func(c *Config) { c.MaxAppliedLag, c.StuckLeader = 2, time.Minute }))
		if r := s.Reasons(); len(r) != 0 || s.Health() != nil {
			t.Errorf("healthy: %q, %v", r, s.Health())
		}
		m.onApply = func(Position) { <-gate }
		for i := range 4 {
			go func() { _ = essential(context.Background(), s, fmt.Sprintf("k%d=1", i)) }()
			synctest.Wait() // an entry each
		}
		q.leave(1000)
		time.Sleep(3 * time.Second)
		var parts []string
		for _, r := range s.Reasons() {
			part, _, _ := strings.Cut(r, ":")
			parts = append(parts, part)
			if !strings.Contains(s.Health().Error(), r) {
				t.Errorf("health %v lacks %q", s.Health(), r)
			}
		}
		if got := strings.Join(parts, " "); got != "disk write state" {
			t.Errorf("parts %q: %v", got, s.Health())
		}
		if !errors.Is(s.Health(), ErrNoSpace) {
			t.Errorf("health %v", s.Health())
		}
		close(gate)
		q.leave(disk / 2)
		time.Sleep(2 * time.Second)
		if r := s.Reasons(); len(r) != 0 {
			t.Errorf("again healthy: %q", r)
		}
	})
}

// A node without a leader says so, and a closed one that it is closed.
func TestReasonsOfRaftAndStorage(t *testing.T) {
	n := newNode(notBootstrapped())
	s := must[*Store](t)(n.open())
	if r := s.Reasons(); len(r) != 1 || !strings.HasPrefix(r[0], "raft: no leader is known") {
		t.Errorf("reasons %q", r)
	}
	stop(t, s)
	if r := s.Reasons(); len(r) != 1 || !strings.HasPrefix(r[0], "storage: ") || !errors.Is(s.Health(), ErrClosed) {
		t.Errorf("reasons %q", r)
	}
}
