package raftstore

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"

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
	watch   *watch
	metrics *storeMetrics
	// durable is the index up to which the state is known to be on disk; the log is never truncated beyond it (R2).
	durable func() uint64

	writeMu sync.Mutex
	synced  bool          // what was written up to now was synced; guarded by writeMu
	writes  atomic.Uint64 // how many there were; keepSealed looks at it

	// open is held by who reads the database, and taken for good before it closes: raft's own metrics read the log from a goroutine that no
	// shutdown waits for (v1.8.0, emitLogStoreMetrics).
	open   sync.RWMutex
	closed bool

	// members is the newest index at which a membership was seen in the log: raft reads every entry behind the state at its start.
	members atomic.Uint64

	mu          sync.RWMutex
	present     bool // the log holds entries first..last
	first, last uint64
	boundary    Position // the entry before the log that a snapshot stands for; zero if none
	emptied     span     // the range whose deletion left the log empty; zero otherwise
	installed   uint64   // generation of the state it was last reconciled with
	ring        ring
	bytes       int64         // of all entries, about
	full        chan struct{} // capacity 1: an append took bytes past limit
	limit       int64
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
		full:    make(chan struct{}, 1), limit: math.MaxInt64,
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
	if s.present {
		lo, hi := logKey(s.first), logKey(s.last)
		size, err := db.EstimateDiskUsage(lo[:], append(hi[:], 0))
		if err != nil {
			return nil, fmt.Errorf("measure the log: %w", err)
		}
		s.bytes = int64(size)
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
		err := s.readEntry(index, l)
		s.sawMembers(err, l)
		return err
	case index > 0 && index == boundary.Index:
		*l = raft.Log{Index: index, Term: boundary.Term, Type: raft.LogNoop}
		return nil
	default:
		return raft.ErrLogNotFound
	}
}

// unwritten reports whether the log is that of a cluster which nobody has led yet: from its beginning on there is no command but that of a format,
// with which a cluster may begin.
func (s *logStore) unwritten() bool {
	first, _ := s.FirstIndex()
	last, _ := s.LastIndex()
	if first != 1 {
		return false // what was before is in the state
	}
	for i := first; i <= last; i++ {
		var l raft.Log
		if err := s.GetLog(i, &l); err != nil {
			return false
		}
		if l.Type == raft.LogCommand && (len(l.Data) == 0 || l.Data[0] != packFormat) {
			return false
		}
	}
	return true
}

func (s *logStore) sawMembers(err error, l *raft.Log) {
	if err != nil || l.Type != raft.LogConfiguration {
		return
	}
	for {
		was := s.members.Load()
		if l.Index <= was || s.members.CompareAndSwap(was, l.Index) {
			return
		}
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
	s.open.RLock()
	defer s.open.RUnlock()
	if s.closed {
		return nil, ErrClosed
	}
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

// close keeps readers from the database, which closes next.
func (s *logStore) close() {
	s.open.Lock()
	defer s.open.Unlock()
	s.closed = true
}

// size returns about how many bytes the log has, and in how many entries.
func (s *logStore) size() (bytes int64, entries uint64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !s.present {
		return 0, 0
	}
	return s.bytes, s.last - s.first + 1
}

// shrink accounts for the removal of lo..hi, as if all entries were of one size. It runs before the bounds change.
func (s *logStore) shrink(lo, hi uint64) {
	if s.present && lo <= hi {
		s.bytes -= int64(float64(s.bytes) * float64(hi-lo+1) / float64(s.last-s.first+1))
	}
}

func indexOfLogKey(key []byte) uint64 {
	var index uint64
	for _, c := range key[1:] {
		index = index<<8 | uint64(c)
	}
	return index
}
