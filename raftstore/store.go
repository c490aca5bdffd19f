package raftstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// Store is one node of a replicated state. Its methods are safe for concurrent use.
//
// Goroutines: raft's own (its main loop appends to the log, another applies, one takes snapshots), the packer's, the
// leadership's, and those that serve connections. Lock order: fsm.mu, then stateHolder.mu; packer.mu, then packer.copyMu;
// logStore.writeMu, then logStore.mu; none is held across another part's call except where its comment says so.
type Store struct {
	cfg     Config
	fault   *fault
	metrics *storeMetrics
	layout  layout
	ident   ident // as on disk; changed at open, and then by pin alone
	storeID string
	pinned  atomic.Pointer[ident] // a copy of ident, for others than pin
	door    door
	lock    io.Closer
	fs      vfs.FS // Config.FS, watched: everything but the ballast goes through it
	space   *space
	// slowCheck ends the check for slow operations; nil: there is none.
	slowCheck io.Closer
	watch     *watch
	aside     aside
	caches    caches
	logDB     *pebble.DB
	log       *logStore
	states    stateHolder
	fsm       *fsm
	snaps     *snapshotStore
	mux       *mux
	trans     raft.Transport
	raft      *raft.Raft

	packer    *packer
	lead      *leadership
	confirmer turns[uint64] // confirmRound
	oldVoters []raft.Server // what the last round asked; only the knob confirmOldConf reads it
	asking    askers

	backups    chan struct{}            // a place for each backup that is open
	backupMu   sync.Mutex               // held while BACKUP is written
	lastBackup atomic.Pointer[backedUp] // nil: none is known of
	admitting  turnstile                // held while a member, or a format, is let in
	handedOver time.Time                // when watch last did; one watch runs at a time
	starts     sync.WaitGroup           // what Open left running
	gone       chan struct{}            // closed when raft stopped

	addressSaid atomic.Pointer[string] // what tellAddress found last; nil: it has not looked yet
	tidings     *tidings

	closeOnce sync.Once
	closeErr  error
}

// Applied is the position up to which this node has applied the log: what a View taken now holds, at least.
func (s *Store) Applied() Position { return *s.fsm.applied.Load() }

// Cluster is the name of the cluster that this node belongs to, empty if it has not learnt it yet.
func (s *Store) Cluster() string { return s.clusterName() }

func (s *Store) clusterName() string {
	if name := s.fsm.cluster.Load(); name != nil && *name != "" {
		return *name
	}
	if now := s.pinned.Load(); now != nil {
		return now.Cluster
	}
	return ""
}

// life is this node's.
func (s *Store) life() Life { return Life{ID: s.cfg.ID, Store: s.storeID} }

// Close stops the node: it refuses new commands, waits for those under way, ends Config.Lead, stops Raft, and closes the
// databases once every View is closed. If ctx ends first, it returns an error, every waiting Propose has been answered all the
// same, and what could not be stopped is left to the end of the process. Further calls return the first one's error.
func (s *Store) Close(ctx context.Context) error {
	s.closeOnce.Do(func() { s.closeErr = s.shutDown(ctx) })
	return s.closeErr
}

func (s *Store) shutDown(ctx context.Context) error {
	s.packer.close()
	err := errors.Join(s.packer.drain(ctx), s.lead.end(ctx))
	s.packer.abandon()
	return errors.Join(err, s.within(ctx, "stop raft and close the databases", func() error {
		ended := s.raft.Shutdown()
		if c, ok := s.trans.(raft.WithClose); ok {
			_ = c.Close() // now: what raft still says to others would hold it up for as long as a message may take (RPCTimeout)
		}
		err := ended.Error()
		close(s.gone)
		s.tidings.end()
		s.starts.Wait()
		s.asking.close()
		s.confirmer.close()
		<-s.packer.done
		s.metrics.unregister()
		return errors.Join(err, s.closeStorage())
	}))
}

// within runs one step of closing. It does not wait beyond ctx, and the step goes on by itself then; nor for a disk that failed: what the databases
// would still write is not wanted then, and the process ends.
func (s *Store) within(ctx context.Context, what string, step func() error) error {
	done := make(chan error, 1)
	go func() { done <- step() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", what, context.Cause(ctx))
	case <-s.fault.tripped():
		return fmt.Errorf("%s: stopped after a fault: %w", what, s.fault.err())
	}
}

// closeStorage flushes both databases, so that the next start has nothing to repeat, waits until every View is closed, and closes
// everything in the reverse order of opening.
func (s *Store) closeStorage() error {
	if s.fault.err() != nil {
		return s.fault.err()
	}
	if s.metrics.pebble != nil {
		s.metrics.pebble.stop()
	}
	st, err := s.states.acquire()
	if err != nil {
		return err
	}
	if ferr := st.db.Flush(); ferr != nil {
		err = fmt.Errorf("flush the state: %w", ferr)
	}
	if ferr := s.logDB.Flush(); ferr != nil {
		err = errors.Join(err, fmt.Errorf("flush the log: %w", ferr))
	}
	st.release()
	s.states.swap(nil)
	s.snaps.open.Wait()
	return errors.Join(err, s.snaps.closeError(), s.release())
}

// release gives back what Open took besides the state, as far as it got.
func (s *Store) release() error {
	var err error
	if s.logDB != nil {
		if s.log != nil {
			s.log.close()
		}
		if cerr := s.logDB.Close(); cerr != nil {
			err = fmt.Errorf("close the log database: %w", cerr)
		}
	}
	s.caches.unref()
	if s.slowCheck != nil {
		if cerr := s.slowCheck.Close(); cerr != nil {
			err = errors.Join(err, fmt.Errorf("stop watching the disk: %w", cerr))
		}
	}
	if s.lock != nil {
		if cerr := s.lock.Close(); cerr != nil {
			err = errors.Join(err, fmt.Errorf("unlock the data folder: %w", cerr))
		}
	}
	return err
}

func (s *Store) logStart() {
	first, _ := s.log.FirstIndex() // never fails: kept in memory
	last, _ := s.log.LastIndex()
	s.cfg.Logger.Info("raftstore is open",
		slog.String("id", s.cfg.ID), slog.String("address", string(s.trans.LocalAddr())),
		slog.Uint64("applied", s.Applied().Index), slog.Uint64("log_first", first), slog.Uint64("log_last", last))
}
