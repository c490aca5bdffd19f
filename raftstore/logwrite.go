package raftstore

import (
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
)

// StoreLog appends one entry.
func (s *logStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs appends entries and returns when they are on disk. Entries at and after the first index given are replaced in the
// same batch. It does not return at all when the write failed (R5): raft would go on with a log it believes unchanged.
func (s *logStore) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	defer s.watch.end(s.watch.begin("appending to the log"))
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	s.fault.halt()
	if err := s.checkAppend(logs); err != nil {
		return err
	}
	began := s.metrics.now()
	b := s.newBatch(batchSize(logs))
	defer closeBatch(b)
	lo, hi := logs[0].Index, logs[len(logs)-1].Index
	if s.present && s.last > hi && !s.knobs.sparseLog {
		s.deleteLogs(b, hi+1, s.last)
	}
	for _, l := range logs {
		key := logKey(l.Index)
		// Deferred: the codec writes into the batch, one copy less on the hottest path of the leader.
		op := b.SetDeferred(logKeyLen, entrySize(l))
		copy(op.Key, key[:])
		appendEntry(op.Value[:0], l)
		if err := op.Finish(); err != nil {
			return fmt.Errorf("encode log entry %d: %w", l.Index, err)
		}
	}
	dropBoundary := !s.present && s.boundary.Index > 0 && lo > s.boundary.Index+1
	if s.emptied != (span{}) {
		err := b.Delete([]byte(keyEmptied), nil)
		if dropBoundary {
			err = errors.Join(err, b.Delete([]byte(keyBoundary), nil))
		}
		if err != nil {
			return fmt.Errorf("forget what emptied the log: %w", err)
		}
	}
	s.commit(b, fmt.Sprintf("append log entries %d-%d", lo, hi), pebble.Sync)

	s.mu.Lock()
	defer s.mu.Unlock()
	s.ring.dropFrom(lo)
	if s.present && lo <= s.last {
		s.shrink(max(lo, s.first), s.last)
	}
	if s.bytes += int64(b.Len()); s.bytes > s.limit {
		select {
		case s.full <- struct{}{}:
		default:
		}
	}
	for _, l := range logs {
		s.ring.push(l)
		s.sawMembers(nil, l)
	}
	if !s.present || lo < s.first {
		s.first = lo
	}
	s.present, s.last, s.emptied = true, hi, span{}
	if dropBoundary {
		s.boundary = Position{}
	}
	s.metrics.appended(len(logs), b.Len(), began)
	return nil
}

// checkAppend refuses entries that would leave a gap. Nothing was written then, so it is an error and not a fault.
func (s *logStore) checkAppend(logs []*raft.Log) error {
	if s.knobs.sparseLog {
		return nil
	}
	lo := logs[0].Index
	for i, l := range logs {
		if l.Index != lo+uint64(i) {
			return fmt.Errorf("append log entries: index %d follows %d", l.Index, logs[max(i, 1)-1].Index)
		}
	}
	switch {
	case lo == 0:
		return errors.New("append log entries: index 0 does not exist")
	case lo <= s.boundary.Index:
		return fmt.Errorf("append log entries from %d: the installed snapshot at %d already covers it", lo, s.boundary.Index)
	case s.present && lo > s.last+1:
		return fmt.Errorf("append log entries from %d: the log ends at %d", lo, s.last)
	case s.emptied != (span{}) && lo != s.emptied.lo && lo != s.emptied.hi+1:
		return fmt.Errorf("append log entries from %d: the log was emptied of %d-%d", lo, s.emptied.lo, s.emptied.hi)
	case !s.present && s.emptied == (span{}) && s.boundary.Index > 0 && lo != s.boundary.Index+1:
		return fmt.Errorf("append log entries from %d: the log begins after %d", lo, s.boundary.Index)
	}
	return nil
}

// DeleteRange removes the entries from lo to hi, both included: raft truncates the head after a snapshot and the tail on a
// conflict, never the middle.
func (s *logStore) DeleteRange(lo, hi uint64) error {
	defer s.watch.end(s.watch.begin("truncating the log"))
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	s.fault.halt()
	if !s.present || lo > hi || hi < s.first || lo > s.last {
		return nil
	}
	lo, hi = max(lo, s.first), min(hi, s.last)
	head, tail := lo == s.first, hi == s.last
	if !head && !tail && !s.knobs.sparseLog {
		return fmt.Errorf("delete log entries %d-%d: they are inside %d-%d", lo, hi, s.first, s.last)
	}
	if durable := s.durable(); head && !tail && hi > durable {
		// R2: raft asks for this only after Persist, so this is a bug and the log is worth more than the space.
		return fmt.Errorf("delete log entries %d-%d: the state is durable only up to %d", lo, hi, durable)
	}
	b := s.newBatch(64)
	defer closeBatch(b)
	s.deleteLogs(b, lo, hi)
	all := head && tail
	// A boundary stays while nothing else says where the log begins: a conflict right after an install empties the log too.
	dropBoundary := head && !all && s.boundary.Index > 0
	var err error
	if dropBoundary {
		err = b.Delete([]byte(keyBoundary), nil)
	} else if all {
		// So that an empty log can be told from a lost one.
		err = b.Set([]byte(keyEmptied), encodePosition(Position{Index: lo, Term: hi}), nil)
	}
	if err != nil {
		return fmt.Errorf("delete log entries %d-%d: %w", lo, hi, err)
	}
	// A head that a crash brings back does no harm. A tail that comes back would be a conflict that was answered as resolved.
	durability := pebble.Sync
	if head && !tail {
		durability = pebble.NoSync
	}
	s.commit(b, fmt.Sprintf("delete log entries %d-%d", lo, hi), durability)

	s.mu.Lock()
	defer s.mu.Unlock()
	s.ring.dropBetween(lo, hi)
	s.shrink(lo, hi)
	switch {
	case all:
		s.present, s.first, s.last, s.emptied = false, 0, 0, span{lo, hi}
	case head:
		s.first = hi + 1
	case tail:
		s.last = lo - 1
	}
	if dropBoundary {
		s.boundary = Position{}
	}
	return nil
}

// deleteLogs puts one range tombstone over the entries lo..hi.
func (s *logStore) deleteLogs(b *pebble.Batch, lo, hi uint64) {
	from, to := logKey(lo), logKey(hi)
	end := append(to[:], 0) // the first key after to; hi+1 could overflow
	if err := b.DeleteRange(from[:], end, nil); err != nil {
		s.fault.fail(fmt.Errorf("delete log entries %d-%d: %w", lo, hi, err))
	}
}

// newBatch begins a batch that says so where everything before it was synced (wal.go). writeMu is held from here to the commit.
func (s *logStore) newBatch(size int) *pebble.Batch {
	b := s.db.NewBatchWithSize(size + 64)
	if s.synced {
		if err := b.LogData(walPromise, nil); err != nil {
			s.fault.fail(fmt.Errorf("begin a batch: %w", err))
		}
	}
	return b
}

// setIdent keeps whose log it is. It may run beside raft.
func (s *logStore) setIdent(raw []byte) error {
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	b := s.newBatch(len(raw))
	defer closeBatch(b)
	if err := b.Set([]byte(keyLogIdent), raw, nil); err != nil {
		return fmt.Errorf("write the identity of the log: %w", err)
	}
	s.commit(b, "write the identity of the log", pebble.Sync)
	return nil
}

// commit returns only if the batch was accepted, and synced where asked. Everything else ends the process.
func (s *logStore) commit(b *pebble.Batch, what string, durability *pebble.WriteOptions) {
	if err := b.Commit(durability); err != nil {
		s.fault.fail(fmt.Errorf("%s: %w", what, err))
	}
	s.fault.halt()
	s.synced = durability.Sync
	s.writes.Add(1)
}

func batchSize(logs []*raft.Log) int {
	n := 64
	for _, l := range logs {
		n += 16 + logKeyLen + entrySize(l)
	}
	return n
}

func closeBatch(b *pebble.Batch) { _ = b.Close() } // gives its memory back; only a second Close fails
