package raftstore

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"machineid/internal/testkit/bubble"
)

// stallingFS holds the writes to some files until it is released.
type stallingFS struct {
	mu   sync.Mutex
	gate chan struct{} // nil: nothing is held
	part string        // of the paths that are held
}

func (g *stallingFS) over(fs vfs.FS) vfs.FS {
	return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		g.mu.Lock()
		gate := g.gate
		if !strings.Contains(op.Path, g.part) || op.Kind.ReadOrWrite() == errorfs.OpIsRead {
			gate = nil
		}
		g.mu.Unlock()
		if gate != nil {
			<-gate
		}
		return nil
	}))
}

func (g *stallingFS) hold(part string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.gate, g.part = make(chan struct{}), part
}

func (g *stallingFS) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.gate != nil {
		close(g.gate)
	}
	g.gate = nil
}

// A write that hangs is told after 2 s, by name, and forgotten when it goes on; so with each kind of write.
func TestStuckWriteIsTold(t *testing.T) {
	for part, c := range map[string]struct {
		write func(s *Store)
		name  string
	}{
		"data/log": {func(s *Store) { _, _ = s.Propose(context.Background(), []byte("b=1")) }, "write: appending to the log"},
		"log":      {func(s *Store) { _ = s.log.SetUint64([]byte("x"), 1) }, "write: keeping the term or the vote"},
		"state-":   {func(s *Store) { _ = s.fsm.persist(Position{}) }, "write: syncing the state"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				disk := &stallingFS{}
				s, _ := start(t, onFS(disk.over(vfs.NewMem())))
				time.Sleep(time.Second)
				disk.hold(part)
				go c.write(s)
				time.Sleep(1900 * time.Millisecond)
				if r := s.Reasons(); len(r) != 0 {
					t.Errorf("after 1.9 s: %q", r)
				}
				time.Sleep(300 * time.Millisecond)
				if r := s.Reasons(); len(r) == 0 || !strings.HasPrefix(r[0], c.name) {
					t.Errorf("after 2.2 s: %q", r)
				}
				disk.release()
				time.Sleep(2 * time.Second)
				if r := s.Reasons(); len(r) != 0 {
					t.Errorf("after it went on: %q", r)
				}
			})
		})
	}
}

// An Apply that does not come back is told too: the machine may wait for the disk, or Pebble for a flush.
func TestStuckApplyIsTold(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		s, m := start(t)
		m.onApply = func(Position) { <-gate }
		go func() { _, _ = s.Propose(context.Background(), []byte("b=1")) }()
		time.Sleep(2200 * time.Millisecond)
		if r := s.Reasons(); len(r) != 1 || !strings.HasPrefix(r[0], "write: applying entries") {
			t.Errorf("reasons %q", r)
		}
		close(gate)
		time.Sleep(time.Second)
		if r := s.Reasons(); len(r) != 0 {
			t.Errorf("after it came back: %q", r)
		}
	})
}

// A write that hangs ends a leader at 5 s and a follower at 20 s, through the fatal hook (R11).
func TestStuckWriteEndsTheProcess(t *testing.T) {
	for role, limit := range map[string]time.Duration{"leader": 5 * time.Second, "follower": 20 * time.Second} {
		t.Run(role, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				disk := &stallingFS{}
				n := newNode(onFS(disk.over(vfs.NewMem())), with(func(c *Config) { c.Bootstrap = role == "leader" }))
				s := must[*Store](t)(n.open())
				if role == "leader" {
					waitLeading(t, s)
				}
				time.Sleep(time.Second)
				disk.hold("data/log")
				began := time.Now()
				go func() { _ = s.log.SetUint64([]byte("x"), 1) }()
				err := <-n.fatal
				if took := time.Since(began); took < limit || took > limit+2*s.cfg.StuckWarn/watchTicks {
					t.Errorf("ended after %s: %v", took, err)
				}
				if !strings.Contains(err.Error(), role) || !strings.Contains(err.Error(), "keeping the term or the vote") {
					t.Errorf("it says %v", err)
				}
				if _, err := s.Propose(t.Context(), []byte("c=1")); err == nil || Unknown(err) && role == "follower" {
					t.Errorf("a later caller was told %v", err)
				}
				// The process would be gone. Here every goroutine must end, or the bubble does not.
				disk.release()
				stop(t, s)
				<-s.gone
				s.starts.Wait()
				s.states.swap(nil)
				if err := s.release(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// A leader whose append hangs answers those that wait, before the disk does (R9, R11).
func TestStuckLeaderAnswers(t *testing.T) {
	disk := &stallingFS{}
	n := newNode(onFS(disk.over(vfs.NewMem())), with(func(c *Config) {
		c.StuckWarn, c.StuckLeader = 100*time.Millisecond, 250*time.Millisecond
	}))
	s := must[*Store](t)(n.open())
	waitLeading(t, s)
	disk.hold("data/log")
	defer disk.release()
	_, err := s.Propose(t.Context(), []byte("a=1"))
	if !Unknown(err) || !strings.Contains(err.Error(), "appending to the log has been under way") {
		t.Errorf("told %v", err)
	}
	if err := <-n.fatal; !strings.Contains(err.Error(), "leader") {
		t.Errorf("fault: %v", err)
	}
	if _, ok := s.Leading(); ok {
		t.Error("it still says that it leads")
	}
	stop(t, s)
}

// ages is a watchdog of which the test plays the clock.
func ages(leads bool, k knobs) (w *watch, look func(since time.Duration) error) {
	cfg := Config{knobs: k}.withDefaults()
	w = newWatch(&cfg, &aside{}, newFault(nil, cfg.Logger))
	w.leads = func() bool { return leads }
	return w, func(since time.Duration) error { return w.look(cfg.StuckWarn/watchTicks, since) }
}

// A pause of the process, however long, ends nothing by itself, whatever was under way before it; a write that then still hangs
// gets the time from warning to limit again. A watchdog that takes the clock's time kills the healthy node at once (R11).
func TestPauseDoesNotEndTheProcess(t *testing.T) {
	const interval = 100 * time.Millisecond
	for _, mutant := range []bool{false, true} {
		w, look := ages(true, knobs{countsPauses: mutant})
		slot := w.begin("test")
		for range 48 { // 4.7 s are seen
			if err := look(interval); err != nil {
				t.Fatal(err)
			}
		}
		if err := look(10 * time.Minute); (err != nil) != mutant {
			t.Fatalf("mutant %v, first look after a pause: %v", mutant, err)
		}
		if mutant {
			continue
		}
		looks := 1
		for look(interval) == nil {
			looks++
		}
		if looks != 30 {
			t.Errorf("after the pause it took %d looks, want 30 (3 s)", looks)
		}
		w.end(slot)
		if err := errors.Join(look(interval), w.reason()); err != nil {
			t.Error(err)
		}
	}
}

// Delayed looks count for one interval each, a long write that makes progress is not stuck, and many short ones are no long one.
func TestWatchCountsWhatItSaw(t *testing.T) {
	w, look := ages(true, knobs{})
	slow := w.begin("slow")
	for range 40 {
		if err := look(900 * time.Millisecond); err != nil { // 36 s by the clock, 4 s seen
			t.Fatal(err)
		}
	}
	if w.reason() == nil {
		t.Error("nothing is said")
	}
	w.progress(slow)
	for range 200 {
		short := w.begin("short")
		if short == slow {
			t.Fatal("one slot for two")
		}
		err := look(100 * time.Millisecond)
		w.end(short)
		w.progress(slow)
		if err != nil || w.reason() != nil {
			t.Fatal(err, w.reason())
		}
	}
	if len(w.ops) != 2 {
		t.Errorf("%d slots", len(w.ops))
	}
}

// A sync of the state holds up nobody: a leader gives it as long as a follower, also while a write of the log goes on beside it.
func TestSyncOfTheStateMayTakeLonger(t *testing.T) {
	w, look := ages(true, knobs{})
	w.begin(syncingState)
	looks := 0
	for look(100*time.Millisecond) == nil {
		looks++
		if looks == 100 { // 9.9 s
			w.begin("appending to the log")
			for range 50 {
				if err := look(100 * time.Millisecond); err != nil {
					t.Fatal(err)
				}
			}
			if err := look(100 * time.Millisecond); err == nil || !strings.Contains(err.Error(), "appending") {
				t.Errorf("beside it: %v", err)
			}
			w.end(1)
			looks += 51
		}
	}
	if looks != 200 {
		t.Errorf("it ended after %d looks, want 200 (20 s)", looks)
	}
}
