package authority

import (
	"context"
	"log/slog"
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

// toldAndDied has a leader tell a time that no command carried, and returns it, and the disk as it was when that was reserved.
func toldAndDied(t *testing.T) (disk vfs.FS, told int64) {
	t.Helper()
	mem := vfs.NewCrashableMem()
	var ahead atomic.Int64
	n, stop := runNode(t, "data", "a1", func(c *Config) {
		c.FS, c.Wall = mem, func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	defer stop()
	until(t, "more is reserved than a command carried", func() bool {
		read(t, n)
		told = n.state.Reserved()
		disk = mem.CrashClone(vfs.CrashCloneCfg{}) // before a command can carry it
		return told > n.state.Time()
	})
	ahead.Store(int64(9 * time.Second))
	if got := n.Told(); got < told {
		t.Fatalf("%d ms less are told than are reserved", told-got)
	}
	return disk, told
}

// TestALaterLeaderBeginsWhereTimeWasReserved: what a leader told before it died is told again, though its successor's clock is behind and no command carried the time (I11).
func TestALaterLeaderBeginsWhereTimeWasReserved(t *testing.T) {
	disk, told := toldAndDied(t)
	next, stop := runNode(t, "data", "a1", func(c *Config) { c.FS = disk })
	defer stop()
	if again := next.Told(); again < told {
		t.Errorf("the next leader is %d ms behind what was told", told-again)
	}
}

// heldAt stops whoever logs a message until it is released.
type heldAt struct {
	slog.Handler
	message string
	release <-chan struct{}
}

func (h heldAt) Enabled(context.Context, slog.Level) bool { return true }

func (h heldAt) Handle(_ context.Context, r slog.Record) error {
	if r.Message == h.message {
		<-h.release
	}
	return nil
}

func (h heldAt) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h heldAt) WithGroup(string) slog.Handler      { return h }

// TestTheFirstCallOfATermIsNotBehind: a call may come as soon as the node leads, before it has done anything else, and is judged by no less than what was told in the term before (I11).
func TestTheFirstCallOfATermIsNotBehind(t *testing.T) {
	disk, told := toldAndDied(t)
	release := make(chan struct{})
	next, stop := beginNode(t, "data", "a1", func(c *Config) {
		c.FS = disk
		c.Logger = slog.New(heldAt{slog.DiscardHandler, "leading", release})
	})
	defer stop()
	defer close(release)
	<-next.ready
	until(t, "the node leads", func() bool { _, leads := next.store.Leading(); return leads })
	read(t, next)
	if again := next.Told(); again < told {
		t.Errorf("the next leader is %d ms behind what was told", told-again)
	}
	if now := next.Now(); now < told {
		t.Errorf("its commands are %d ms behind what was told", told-now)
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
