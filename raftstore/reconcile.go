package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
)

// reconcile makes the log agree with an installed state (R7): everything up to the state's position goes, and a boundary takes
// its place. One synced batch, so it happens or it does not; doing it again changes nothing, and Open does it again whenever
// the log has not seen the generation of the state that STATE names.
//
// Entries after the position stay, even if they conflict with the leader's log: raft's memory may still name them as its
// newest, and its ordinary conflict handling cuts them, since the first append after an install starts right after the
// position. A node's own claim in elections (newest index and term) does not change.
func (s *logStore) reconcile(generation uint64, at Position) error {
	if at.Index <= 1 {
		// At 1 a peer would ask for "the entry before" as index 0, which always matches, and the boundary's no-op would be
		// replicated as if it were data.
		return fmt.Errorf("install a state at index %d: it must be past 1", at.Index)
	}
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	s.fault.halt()
	if s.installed >= generation {
		return nil
	}
	b := s.newBatch(64)
	defer closeBatch(b)
	if s.present && s.first <= at.Index {
		s.deleteLogs(b, s.first, min(at.Index, s.last))
	}
	err := errors.Join(
		b.Set([]byte(keyBoundary), encodePosition(at), nil),
		b.Delete([]byte(keyEmptied), nil),
		b.Set([]byte(keyInstalled), binary.BigEndian.AppendUint64(nil, generation), nil),
	)
	if err != nil {
		return fmt.Errorf("reconcile the log with the state at %d: %w", at.Index, err)
	}
	s.commit(b, fmt.Sprintf("reconcile the log with the state at %d", at.Index), pebble.Sync)

	s.mu.Lock()
	defer s.mu.Unlock()
	s.installed, s.boundary, s.emptied = generation, at, span{}
	s.ring.dropTo(at.Index)
	if s.present && s.first <= at.Index {
		s.shrink(s.first, min(at.Index, s.last))
	}
	switch {
	case !s.present || s.last <= at.Index:
		s.present, s.first, s.last = false, 0, 0
	case s.first <= at.Index:
		s.first = at.Index + 1
	}
	return nil
}

// checkState refuses a log and a state that do not belong together: one of them was replaced, or lost what it had synced.
// It runs after reconcile, before raft.
func (s *logStore) checkState(at Position) error {
	s.mu.RLock()
	first, last, boundary, emptied := s.first, s.last, s.boundary, s.emptied
	s.mu.RUnlock()
	if first > at.Index+1 || boundary.Index > at.Index {
		return fmt.Errorf("the state is at %d but the log begins after %d: the state lost what the log was truncated for",
			at.Index, max(first, boundary.Index+1)-1)
	}
	if at.Index == 0 {
		return nil
	}
	started, err := s.started()
	if err != nil {
		return fmt.Errorf("compare the log with the state: %w", err)
	}
	if !started {
		return fmt.Errorf("the state is at %d but the log holds no term: its folder was lost or replaced, and with it this "+
			"node's votes; wipe the data folder and join again", at.Index)
	}
	if last == 0 && emptied.lo > 0 && (at.Index == emptied.lo-1 || at.Index >= emptied.hi) {
		// Emptied on purpose: by a conflict in everything after the state, or by a truncation of all that the state holds.
		return nil
	}
	if at.Index > max(last, boundary.Index) {
		return fmt.Errorf("the state is at %d but the log ends at %d: the log lost entries it had synced", at.Index, last)
	}
	var l raft.Log
	switch err := s.GetLog(at.Index, &l); {
	case errors.Is(err, raft.ErrLogNotFound) && first == at.Index+1:
		return nil // truncated right up to the state
	case err != nil:
		return fmt.Errorf("compare the log with the state at %d: %w", at.Index, err)
	case l.Term != at.Term:
		return fmt.Errorf("entry %d has term %d in the log and %d in the state: they are not of one node",
			at.Index, l.Term, at.Term)
	}
	return nil
}

// bootstrap writes the first entry and its term in one batch: raft's own BootstrapCluster writes them apart, and a crash
// between leaves a node that has a term, no configuration, and counts as bootstrapped for ever.
func (s *logStore) bootstrap(conf raft.Configuration) error {
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	s.fault.halt()
	entry := &raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(conf)}
	key := logKey(entry.Index)
	b := s.newBatch(64)
	defer closeBatch(b)
	err := errors.Join(
		b.Set(key[:], appendEntry(nil, entry), nil),
		b.Set(stableKey([]byte(keyCurrentTerm)), binary.BigEndian.AppendUint64(nil, entry.Term), nil),
	)
	if err != nil {
		return fmt.Errorf("write the first log entry: %w", err)
	}
	s.commit(b, "write the first log entry", pebble.Sync)

	s.mu.Lock()
	defer s.mu.Unlock()
	s.present, s.first, s.last = true, 1, 1
	s.ring.push(entry)
	return nil
}
