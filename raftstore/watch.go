package raftstore

import (
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// syncingState is the one write that nobody waits for: it may take a leader as long as a follower, since what it has to bring
	// to the disk is more.
	syncingState = "syncing the state"
	// receivingState waits for another node and installingState for more than a disk: they are told of, and end no process. raft's main loop, and with it
	// this node's vote, waits for both.
	receivingState  = "receiving the state"
	installingState = "installing a received state"

	watchTicks = 20 // looks of the watchdog in Config.StuckWarn
	lateTicks  = 10 // a look that comes later than so many of them says that the process did not run
)

// watch is the watchdog over writes (R11). raft appends to the log on the goroutine that also leads, while its heartbeats go out
// from others: a write that hangs leaves a leader that does nothing and that its followers do not replace. Nothing but the end
// of the process helps, because the write may still land later.
//
// Age is counted in looks that the watchdog itself took, each worth one interval however late it came, and never read from a
// clock. After SIGSTOP, a paused guest or a starved machine the clock says that a write which was under way took minutes, while
// the disk was given no time at all. A look that comes very late shows such a pause, and does more than count for one: every age
// goes back to the warning, so that the disk has a new chance before a healthy node is ended. A machine that never gives the
// watchdog its turn is not ended by it, and need not be: its heartbeats do not go out either.
//
// It neither logs nor asks anything that could wait for the disk.
type watch struct {
	cfg   *Config
	aside *aside
	fault *fault
	leads func() bool

	stuck atomic.Pointer[stuckWrite] // nil: none

	mu  sync.Mutex
	ops []operation // by slot; a slot whose name is empty is free
}

// operation is a write under way.
type operation struct {
	name   string
	seen   bool // at a look before
	warned bool
	age    time.Duration
}

// stuckWrite is what Health tells of a write that takes too long.
type stuckWrite struct {
	name string
	age  time.Duration
}

func newWatch(cfg *Config, a *aside, f *fault) *watch { return &watch{cfg: cfg, aside: a, fault: f} }

// begin says that a write starts; end must follow. A nil watch does nothing.
func (w *watch) begin(name string) (slot int) {
	if w == nil {
		return 0
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for slot = range w.ops {
		if w.ops[slot].name == "" {
			w.ops[slot] = operation{name: name}
			return slot
		}
	}
	w.ops = append(w.ops, operation{name: name})
	return len(w.ops) - 1
}

// progress says that a part of a long write is done: its age begins anew.
func (w *watch) progress(slot int) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.finish(w.ops[slot])
	w.ops[slot] = operation{name: w.ops[slot].name}
}

func (w *watch) end(slot int) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.finish(w.ops[slot])
	w.ops[slot] = operation{}
}

// finish is called under mu.
func (w *watch) finish(op operation) {
	if !op.warned {
		return
	}
	w.stuck.Store(nil) // another one that is stuck says so at the next look
	w.aside.do(func() {
		w.cfg.Logger.Info("the write that hung went on", slog.String("write", op.name), slog.Duration("after", op.age))
	})
}

// run looks at the writes under way until done.
func (w *watch) run(done <-chan struct{}) {
	interval := w.cfg.StuckWarn / watchTicks
	tick := time.NewTicker(interval)
	defer tick.Stop()
	last := time.Now()
	for {
		select {
		case <-done:
			return
		case <-w.fault.tripped():
			return
		case <-tick.C:
		}
		now := time.Now()
		if err := w.look(interval, now.Sub(last)); err != nil {
			w.fault.fail(err)
		}
		last = now
	}
}

// look counts one interval for every write under way; since is the time since the look before. It returns why the process must
// end, nil if it need not.
func (w *watch) look(interval, since time.Duration) error {
	leads := w.leads()
	late := since >= lateTicks*interval
	w.mu.Lock()
	defer w.mu.Unlock()
	var oldest *operation
	for i := range w.ops {
		op := &w.ops[i]
		if op.name == "" {
			continue
		}
		switch {
		case w.cfg.knobs.countsPauses:
			op.age += since
		case late:
			op.age = min(op.age, w.cfg.StuckWarn)
		case op.seen:
			op.age += interval
		}
		op.seen = true
		if oldest == nil || op.age > oldest.age {
			oldest = op
		}
	}
	if oldest == nil || oldest.age < w.cfg.StuckWarn {
		return nil
	}
	limit, role := w.limit(oldest.name, leads)
	now := stuckWrite{name: oldest.name, age: oldest.age}
	w.stuck.Store(&now)
	if !oldest.warned {
		oldest.warned = true
		attrs := []any{slog.String("write", now.name), slog.Duration("for", now.age), slog.String("role", role)}
		if limit > 0 {
			attrs = append(attrs, slog.Duration("ends_the_process_at", limit))
		}
		w.aside.do(func() { w.cfg.Logger.Warn("a write hangs", attrs...) })
	}
	for i := range w.ops {
		if l, r := w.limit(w.ops[i].name, leads); l > 0 && w.ops[i].name != "" && w.ops[i].age >= l {
			return endOf(w.ops[i], r)
		}
	}
	return nil
}

// limit returns how old a write may become, 0 for any age, and as whose.
func (w *watch) limit(name string, leads bool) (limit time.Duration, role string) {
	if name == receivingState || name == installingState {
		return 0, "follower"
	}
	if leads && name != syncingState {
		return w.cfg.StuckLeader, "leader"
	}
	return w.cfg.StuckFollower, "follower"
}

func endOf(op operation, role string) error {
	return fmt.Errorf("%s has been under way for %s, the limit for a %s: the disk hangs; look at it, then start this node again",
		op.name, op.age, role)
}

// reason says which write hangs.
func (w *watch) reason() error {
	if s := w.stuck.Load(); s != nil {
		if s.name == receivingState {
			return fmt.Errorf("raft: this node is being sent the state, and nothing of it has come for %s", s.age)
		}
		return fmt.Errorf("write: %s has been under way for %s", s.name, s.age)
	}
	return nil
}
