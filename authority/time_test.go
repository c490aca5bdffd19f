package authority

import (
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// read opens a view and closes it.
func read(tb testing.TB, n *Node) {
	tb.Helper()
	v, err := n.Read(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	if err := v.Close(); err != nil {
		tb.Error(err)
	}
}

// TestALaterLeaderBeginsWhereTimeWasReserved: what a leader told before it died is told again, though its successor's clock is behind and no command carried the time (I11).
func TestALaterLeaderBeginsWhereTimeWasReserved(t *testing.T) {
	disk := vfs.NewCrashableMem()
	var ahead atomic.Int64
	first, stop := runNode(t, "data", "a1", func(c *Config) {
		c.FS, c.Wall = disk, func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	defer stop()
	read(t, first)
	ahead.Store(int64(9 * time.Second))
	told := first.Told()
	if carried := first.state.Time(); told <= carried {
		t.Fatalf("%d is told, which a command carried: %d", told, carried)
	}
	next, stopNext := runNode(t, "data", "a1", func(c *Config) { c.FS = disk.CrashClone(vfs.CrashCloneCfg{}) })
	defer stopNext()
	if again := next.Told(); again < told {
		t.Errorf("the next leader is %d ms behind what was told", told-again)
	}
}

// TestWhatIsToldIsReserved, also after a rest in which nothing was: a read waits for it. A command carries its own time.
func TestWhatIsToldIsReserved(t *testing.T) {
	var ahead atomic.Int64
	n, stop := runNode(t, filepath.Join(t.TempDir(), "a1"), "a1", func(c *Config) {
		c.Wall = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	defer stop()
	for range 2 {
		began := n.Now()
		ahead.Add(int64(4 * time.Second))
		if told, limit := n.Told(), max(n.state.Reserved(), n.state.Time()); told > limit {
			t.Errorf("%d is told, and %d is reserved", told, limit)
		}
		if _, ok := n.edgeTime(); ok && n.time() > n.state.Reserved() {
			t.Error("edges are told what is not reserved")
		}
		read(t, n)
		if told := n.Told(); told < began+4000 {
			t.Errorf("a read is judged %d ms late", began+4000-told)
		}
		if now := n.Now(); now < began+4000 {
			t.Errorf("a command is judged %d ms late", began+4000-now)
		}
	}
}

// TestWhatAnEdgeHasHeardCounts if a clock that fits could have told it: a cluster that was restored is not behind the edges that come to it.
func TestWhatAnEdgeHasHeardCounts(t *testing.T) {
	n, stop := runNode(t, filepath.Join(t.TempDir(), "a1"), "a1", nil)
	defer stop()
	soon := n.time() + 15_000
	n.heard(soon)
	if got := n.time(); got < soon {
		t.Errorf("an edge has heard of a time that is %d ms later", soon-got)
	}
	n.heard(soon + time.Hour.Milliseconds())
	if got := n.time(); got > soon+60_000 {
		t.Errorf("an edge put it %d ms ahead", got-soon)
	}
}
