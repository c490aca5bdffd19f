package raftstore

import (
	"errors"
	"fmt"
	"math"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
)

// logStore is raft's log and stable store on one Pebble database.
//
// Writers (StoreLogs, DeleteRange, reconcile) exclude each other with writeMu and hold it across the sync. What they publish
// (first, last, boundary, ring) is guarded by mu and changes only after the commit returned, so a reader never sees an entry
// that a crash could take back. Readers never wait for a sync. It deliberately implements neither raft.MonotonicLogStore (an
// installed snapshot would empty it under a stale index in raft's memory, issue 697) nor raft.CommitTrackingLogStore (its
// user, RestoreCommittedLogs, is broken in v1.8.0).
type logStore struct {
	db      *pebble.DB
	fault   *fault
	knobs   knobs
	metrics *storeMetrics
	// durable is the index up to which the state is known to be on disk; the log is never truncated beyond it (R2).
	durable func() uint64

	writeMu sync.Mutex

	mu          sync.RWMutex
	present     bool // the log holds entries first..last
	first, last uint64
	boundary    Position // the entry before the log that a snapshot stands for; zero if none
	emptied     span     // the range whose deletion left the log empty; zero otherwise
	installed   uint64   // generation of the state it was last reconciled with
	ring        ring
}

// span is a range of indexes, both ends included. Zero means none.
type span struct{ lo, hi uint64 }

var (
	_ raft.LogStore    = (*logStore)(nil)
	_ raft.StableStore = (*logStore)(nil)
)

// openLogStore reads the bounds of the log once; they are kept in memory from then on.
func openLogStore(db *pebble.DB, f *fault, cacheBytes int, m *storeMetrics, k knobs) (*logStore, error) {
	s := &logStore{
		db: db, fault: f, knobs: k, metrics: m,
		durable: func() uint64 { return math.MaxUint64 },
		ring:    ring{limit: cacheBytes},
	}
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{prefixLog}, UpperBound: []byte{prefixLog + 1}})
	if err != nil {
		return nil, fmt.Errorf("read the bounds of the log: %w", err)
	}
	if it.First() {
		s.present = true
		s.first = indexOfLogKey(it.Key())
		it.Last()
		s.last = indexOfLogKey(it.Key())
	}
	if err := errors.Join(it.Error(), it.Close()); err != nil {
		return nil, fmt.Errorf("read the bounds of the log: %w", err)
	}
	if v, err := s.read([]byte(keyBoundary)); err != nil {
		return nil, fmt.Errorf("read the boundary of the log: %w", err)
	} else if v != nil {
		if s.boundary, err = decodePosition(v); err != nil {
			return nil, fmt.Errorf("read the boundary of the log: %w", err)
		}
	}
	if v, err := s.read([]byte(keyEmptied)); err != nil {
		return nil, fmt.Errorf("read what emptied the log: %w", err)
	} else if v != nil {
		p, err := decodePosition(v)
		if err != nil {
			return nil, fmt.Errorf("read what emptied the log: %w", err)
		}
		s.emptied = span{lo: p.Index, hi: p.Term}
	}
	if s.installed, err = s.readUint64([]byte(keyInstalled)); err != nil {
		return nil, fmt.Errorf("read the generation the log belongs to: %w", err)
	}
	return s, nil
}

// FirstIndex returns the index of the oldest entry, 0 if there is none. The boundary is not an entry: raft must never
// truncate it.
func (s *logStore) FirstIndex() (uint64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.first, nil
}

// LastIndex returns the index of the newest entry, 0 if there is none.
func (s *logStore) LastIndex() (uint64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.last, nil
}

// GetLog reads one entry. The error for a missing one is raft.ErrLogNotFound itself: raft compares it with ==, and any other
// error would keep a leader from ever sending a snapshot. At the boundary it answers a no-op of the snapshot's term, which is
// what lets the first append after an install match (R7).
func (s *logStore) GetLog(index uint64, l *raft.Log) error {
	s.mu.RLock()
	present := s.present && index >= s.first && index <= s.last
	boundary := s.boundary
	hit, ok := s.ring.get(index)
	if present && ok {
		*l = *hit
	}
	s.mu.RUnlock()

	switch {
	case present && ok:
		return nil
	case present:
		return s.readEntry(index, l)
	case index > 0 && index == boundary.Index:
		*l = raft.Log{Index: index, Term: boundary.Term, Type: raft.LogNoop}
		return nil
	default:
		return raft.ErrLogNotFound
	}
}

func (s *logStore) readEntry(index uint64, l *raft.Log) error {
	key := logKey(index)
	v, err := s.read(key[:])
	switch {
	case err != nil:
		return fmt.Errorf("read log entry %d: %w", index, err)
	case v == nil: // truncated since the look at the bounds
		return raft.ErrLogNotFound
	}
	if err := decodeEntry(index, v, l); err != nil {
		return fmt.Errorf("decode log entry %d: %w", index, err)
	}
	return nil
}

// read returns a copy of a value, nil if there is none.
func (s *logStore) read(key []byte) ([]byte, error) {
	v, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := append(make([]byte, 0, len(v)), v...) // v dies with closer
	return out, closer.Close()
}

// StoreLog appends one entry.
func (s *logStore) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs appends entries and returns when they are on disk. Entries at and after the first index given are replaced in the
// same batch. It does not return at all when the write failed (R5): raft would go on with a log it believes unchanged.
func (s *logStore) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	s.fault.halt()
	if err := s.checkAppend(logs); err != nil {
		return err
	}
	began := s.metrics.now()
	b := s.db.NewBatchWithSize(batchSize(logs))
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
	for _, l := range logs {
		s.ring.push(l)
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
	b := s.db.NewBatch()
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
		err = b.Set([]byte(keyEmptied), appendPosition(nil, Position{Index: lo, Term: hi}), nil)
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

// commit returns only if the batch was accepted, and synced where asked. Everything else ends the process.
func (s *logStore) commit(b *pebble.Batch, what string, durability *pebble.WriteOptions) {
	if err := b.Commit(durability); err != nil {
		s.fault.fail(fmt.Errorf("%s: %w", what, err))
	}
	s.fault.halt()
}

func closeBatch(b *pebble.Batch) { _ = b.Close() } // gives its memory back; only a second Close fails

func indexOfLogKey(key []byte) uint64 {
	var index uint64
	for _, c := range key[1:] {
		index = index<<8 | uint64(c)
	}
	return index
}

func batchSize(logs []*raft.Log) int {
	n := 64
	for _, l := range logs {
		n += 16 + logKeyLen + entrySize(l)
	}
	return n
}
