package raftstore

import (
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
)

// Restore installs a snapshot. raft calls it on the goroutine that applies.
func (f *fsm) Restore(rc io.ReadCloser) error {
	f.fault.halt()
	defer f.watch.end(f.watch.begin(installingState))
	began := f.metrics.now()
	if err := f.install(rc); err != nil {
		return err
	}
	f.metrics.took(f.metrics.installSeconds, began)
	return nil
}

// install makes a staged snapshot the state. Up to the commit point, the replacement of STATE, a failure or a crash leaves
// everything as it was; after it, the new state counts and a failure ends the process, since the next start completes the rest.
func (s *snapshotStore) install(rc io.ReadCloser) error {
	for {
		w, ok := rc.(raft.ReadCloserWrapper)
		if !ok {
			break
		}
		rc = w.WrappedReadCloser()
	}
	switch r := rc.(type) {
	case *outgoingReader:
		return nil // our own live state, which we have
	case *stagedReader:
		return s.installStaged(r)
	default:
		return fmt.Errorf("install snapshot: source of type %T is not the store's own", rc)
	}
}

func (s *snapshotStore) installStaged(r *stagedReader) error {
	at, applied := r.meta.applied, *s.fsm.applied.Load()
	switch {
	case at == applied:
		return nil
	case at.Index <= applied.Index:
		return fmt.Errorf("install snapshot at %d of term %d: the state is already at %d of term %d",
			at.Index, at.Term, applied.Index, applied.Term)
	case at.Index <= 1:
		return fmt.Errorf("install snapshot at %d: it must be past 1", at.Index)
	}
	old, err := s.states.acquire()
	if err != nil {
		return fmt.Errorf("install snapshot at %d: %w", at.Index, err)
	}
	generation := old.generation + 1
	old.release()
	next, meta, err := s.prepare(r.id, generation, at)
	if err != nil {
		return fmt.Errorf("install snapshot at %d: %w", at.Index, err)
	}

	s.at("before the commit point")
	p := pointer{Format: formatFolder, Generation: generation, Index: at.Index, Term: at.Term}
	if err := s.layout.writeFile(nameState, p); err != nil {
		s.dbs.fault.fail(fmt.Errorf("install snapshot at %d: %w", at.Index, err))
	}
	s.at("after the commit point")
	if err := s.log.reconcile(generation, at); err != nil {
		s.dbs.fault.fail(fmt.Errorf("install snapshot at %d: %w", at.Index, err))
	}
	s.at("log reconciled")
	s.fsm.begin(meta, next)
	if err := s.fsm.restored(next.db, at); err != nil {
		s.dbs.fault.fail(fmt.Errorf("install snapshot at %d: %w", at.Index, err))
	}
	s.logger.Info("state installed from a snapshot",
		slog.Uint64("index", at.Index), slog.Uint64("term", at.Term), slog.Uint64("generation", generation))
	return nil
}

// prepare moves the staged files to where the state of the next generation lives, and opens it.
func (s *snapshotStore) prepare(id string, generation uint64, at Position) (_ *state, _ stateMeta, err error) {
	l, dir := s.layout, s.layout.stateDir(generation)
	if err := l.fs.RemoveAll(dir); err != nil { // of an attempt that failed here
		return nil, stateMeta{}, fmt.Errorf("clear %s: %w", dir, err)
	}
	s.at("before the rename")
	if err := l.fs.Rename(l.path(nameStaging, id), dir); err != nil {
		return nil, stateMeta{}, fmt.Errorf("move the snapshot: %w", err)
	}
	s.at("after the rename")
	if err := errors.Join(l.syncDir(l.root), l.syncDir(l.path(nameStaging))); err != nil {
		return nil, stateMeta{}, err
	}
	db, err := s.dbs.openState(dir, false)
	if err != nil {
		return nil, stateMeta{}, err
	}
	meta, err := readStateMeta(db)
	if err == nil {
		err = errors.Join(s.dbs.raise(db, meta.format), s.dbs.raise(s.log.db, meta.format))
	}
	if err == nil && meta.applied != at {
		err = fmt.Errorf("the state is at %d of term %d", meta.applied.Index, meta.applied.Term)
	}
	if err != nil {
		return nil, stateMeta{}, errors.Join(err, db.Close())
	}
	return s.newState(db, generation), meta, nil
}

// newState counts the users of a state. When the last one of a replaced generation lets go, its files are removed.
func (s *snapshotStore) newState(db *pebble.DB, generation uint64) *state {
	s.open.Add(1)
	return &state{db: db, generation: generation, closed: func(err error) {
		s.mu.Lock()
		s.closeErr = errors.Join(s.closeErr, err)
		s.mu.Unlock()
		s.states.mu.RLock()
		replaced := s.states.current != nil && s.states.current.generation != generation
		s.states.mu.RUnlock()
		if !replaced {
			s.open.Done()
			return
		}
		go func() { // the last user may be a reader in a hurry
			defer s.open.Done()
			if err := s.layout.fs.RemoveAll(s.layout.stateDir(generation)); err != nil {
				s.logger.Warn("removing a replaced state failed; the next start does it",
					slog.Uint64("generation", generation), slog.Any("cause", err))
			}
		}()
	}}
}

// closeError is what closing the states came to. It is complete once open was waited for.
func (s *snapshotStore) closeError() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closeErr
}

func (s *snapshotStore) at(step string) {
	if s.step != nil {
		s.step(step)
	}
}
