package raftstore

import (
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
)

// Snapshot returns at once: the live state is the snapshot.
func (f *fsm) Snapshot() (raft.FSMSnapshot, error) { return liveSnapshot{f}, nil }

// liveSnapshot is the state itself, as a snapshot.
type liveSnapshot struct{ fsm *fsm }

// Persist writes no data: it makes the state durable up to sink's position, after which raft truncates the log up to there (R2).
func (l liveSnapshot) Persist(sink raft.SnapshotSink) error {
	s, ok := sink.(*snapshotSink)
	if !ok {
		return fmt.Errorf("persist the state: sink of type %T is not the store's own", sink)
	}
	s.local = true
	s.all()
	return l.fsm.persist(s.meta.applied)
}

// Release has nothing to give back.
func (liveSnapshot) Release() {}

// persist makes the state durable at `at` or later.
func (f *fsm) persist(at Position) error {
	f.fault.halt()
	defer f.watch.end(f.watch.begin(syncingState))
	began := f.metrics.now()
	st, meta, err := f.advance(at)
	if err != nil {
		return fmt.Errorf("persist the state up to %d: %w", at.Index, err)
	}
	defer st.release()
	if !f.knobs.truncateUnsynced {
		if err := st.db.LogData(nil, pebble.Sync); err != nil {
			f.fault.fail(fmt.Errorf("sync the state up to %d: %w", meta.applied.Index, err))
		}
	}
	f.fault.halt()
	if f.durable.Load().applied.Index < meta.applied.Index {
		f.durable.Store(&meta)
	}
	f.metrics.took(f.metrics.snapshotSeconds, began)
	return nil
}

// advance moves the applied position over entries that change nothing (barriers): raft's snapshot position counts them, and it
// will truncate the log up to there; the next start would then look for an entry that is gone. It returns the current state,
// with a reference for the caller, and what it holds: both under one lock, because an install may replace the state.
func (f *fsm) advance(at Position) (*state, stateMeta, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	st, err := f.states.acquire()
	if err != nil {
		return nil, stateMeta{}, err
	}
	applied := *f.applied.Load()
	if at.Index > applied.Index { // never back (raft issue 248)
		if err := st.db.Set(keyApplied, encodePosition(at), pebble.NoSync); err != nil {
			f.fault.fail(fmt.Errorf("advance the applied position to %d: %w", at.Index, err))
		}
		f.fault.halt()
		f.publish(at)
		applied = at
	}
	return st, stateMeta{applied: applied, conf: f.configuration()}, nil
}
