package authority

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"machineid/shared/link"
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

// TestLeadersDoNotRunAhead: one that begins ahead of its clock lets that catch up, so changes of leader in a row do not add up.
func TestLeadersDoNotRunAhead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a1")
	for range 4 {
		n, stop := runNode(t, dir, "a1", nil)
		if err := n.reserve(t.Context(), reserveEarly); err != nil {
			t.Error(err)
		}
		if ahead := n.state.Reserved() - time.Now().UnixMilli(); ahead > reserveWindow.Milliseconds() {
			t.Errorf("%d ms ahead of the clock are reserved", ahead)
		}
		stop()
	}
}

// TestATermBeginsWhereTimeWasReserved, also at a node that has given leases in an earlier one, by which edges could be further behind.
func TestATermBeginsWhereTimeWasReserved(t *testing.T) {
	n, stop := runNode(t, filepath.Join(t.TempDir(), "a1"), "a1", nil)
	defer stop()
	conn, err := grpc.NewClient("passthrough:///"+n.cfg.Link.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	stream, err := link.NewLinkClient(conn).Session(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []*link.ToAuthority{
		{Hello: &link.Hello{EdgeId: "e1", ProcessId: make([]byte, 16), DecisionVersion: 1}}, {Renew: &link.Renew{AskedAtNs: 1}},
	} {
		if err := stream.Send(f); err != nil {
			t.Fatal(err)
		}
	}
	for f := (&link.ToEdge{}); f.GetGrant() == nil; {
		if f, err = stream.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.reserve(t.Context(), reserveEarly); err != nil {
		t.Fatal(err)
	}
	reserved := n.state.Reserved()
	n.timed.Store(0) // as in a later term
	if got := n.Told(); got < reserved {
		t.Errorf("the leader before may have told %d ms more than this one", reserved-got)
	}
}

// TestNobodyIsToldWhileATermsTimeIsBegun: whoever came late to that would take what this leader has reserved for what another has told.
func TestNobodyIsToldWhileATermsTimeIsBegun(t *testing.T) {
	n, stop := runNode(t, filepath.Join(t.TempDir(), "a1"), "a1", nil)
	defer stop()
	n.timing.Lock()
	n.timed.Store(0) // as in a later term
	told := make(chan int64, 1)
	go func() { told <- n.Told() }()
	select {
	case ms := <-told:
		t.Errorf("%d is told", ms)
	case <-time.After(50 * time.Millisecond): // a slow machine finds less, and nothing that is not
		defer func() { <-told }()
	}
	n.timing.Unlock()
}

// TestAClockIsReadOnce: it may be set between what is judged and what is used.
func TestAClockIsReadOnce(t *testing.T) {
	const year = 365 * 24 * time.Hour
	var ahead atomic.Int64
	var set atomic.Bool
	n, stop := runNode(t, filepath.Join(t.TempDir(), "a1"), "a1", func(c *Config) {
		c.Wall = func() time.Time {
			now := time.Now().Add(time.Duration(ahead.Load()))
			if set.Swap(false) {
				ahead.Store(int64(year)) // just behind this reading
			}
			return now
		}
	})
	defer stop()
	for range 5 {
		set.Store(true)
		n.time()
		ahead.Store(0)
	}
	if got := time.Duration(n.time()-time.Now().UnixMilli()) * time.Millisecond; got > time.Minute {
		t.Errorf("time is %v ahead", got)
	}
}
