package raftstore

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
)

// fault is the one-way switch of fail-stop (R5): once a write failed or its outcome is uncertain, nothing is acknowledged any
// more and the process ends. A write that failed once may be on disk or not, and a later sync that succeeds proves nothing
// about it, so there is no way back but a restart that reads the disk.
type fault struct {
	hook   func(error)
	logger *slog.Logger
	once   sync.Once
	cause  atomic.Pointer[error]
	tripC  chan struct{} // closed at the first failure
}

func newFault(hook func(error), logger *slog.Logger) *fault {
	return &fault{hook: hook, logger: logger, tripC: make(chan struct{})}
}

// record trips the switch without ending the process yet: for callers that hold locks of Pebble's.
func (f *fault) record(err error) {
	if f.cause.CompareAndSwap(nil, &err) {
		close(f.tripC)
	}
}

// fail trips the switch and never returns. The first caller runs the hook, which ends the process; any other caller's
// goroutine ends here, because whatever it was about to acknowledge must not be.
func (f *fault) fail(err error) {
	f.record(err)
	f.once.Do(func() {
		f.hook(f.err())
		panic(fmt.Sprintf("raftstore: Config.Fatal returned, and must not (cause: %v)", err))
	})
	runtime.Goexit()
}

// halt does not return once the switch is tripped. Every write passes it before it is acknowledged.
func (f *fault) halt() {
	if f.cause.Load() != nil {
		f.fail(f.err())
	}
}

func (f *fault) err() error {
	if p := f.cause.Load(); p != nil {
		return *p
	}
	return nil
}

func (f *fault) tripped() <-chan struct{} { return f.tripC }

// pebbleLogger is what Pebble logs to. Pebble reports a failed commit by calling Fatalf and then returns success to the
// caller (db.go, Apply): a Fatalf that returns loses acknowledged writes. Ours never does.
type pebbleLogger struct {
	fault  *fault
	logger *slog.Logger
	name   string
	knobs  knobs
}

func (l pebbleLogger) Infof(format string, args ...any) {
	if l.logger.Enabled(context.Background(), slog.LevelDebug) {
		l.logger.Debug("pebble", slog.String("db", l.name), slog.String("event", fmt.Sprintf(format, args...)))
	}
}

func (l pebbleLogger) Errorf(format string, args ...any) {
	l.logger.Error("pebble", slog.String("db", l.name), slog.String("event", fmt.Sprintf(format, args...)))
}

func (l pebbleLogger) Fatalf(format string, args ...any) {
	if l.knobs.fatalReturns {
		return
	}
	l.fault.fail(fmt.Errorf("%s database: %s", l.name, fmt.Sprintf(format, args...)))
}
