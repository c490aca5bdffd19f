package raftstore

import (
	"encoding/binary"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// keyCurrentTerm is the name under which raft keeps its term. A node that has ever started has it.
const keyCurrentTerm = "CurrentTerm"

// Set keeps one of raft's few values (term, vote) and returns when it is on disk: a vote that a crash forgets can be given
// twice in one term (R4). raft calls it from more than one goroutine.
func (s *logStore) Set(key, value []byte) error {
	defer s.watch.end(s.watch.begin("keeping the term or the vote"))
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	s.fault.halt()
	durability := pebble.Sync
	if s.knobs.unsyncedStable {
		durability = pebble.NoSync
	}
	b := s.newBatch(len(key) + len(value))
	defer closeBatch(b)
	if err := b.Set(stableKey(key), value, nil); err != nil {
		return fmt.Errorf("keep %s: %w", key, err)
	}
	s.commit(b, fmt.Sprintf("keep %s", key), durability)
	return nil
}

// Get returns the value of key, nil if there is none. A missing key is not an error: raft knows only one text for it.
func (s *logStore) Get(key []byte) ([]byte, error) {
	v, err := s.read(stableKey(key))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	return v, nil
}

// SetUint64 is Set for a number.
func (s *logStore) SetUint64(key []byte, value uint64) error {
	return s.Set(key, binary.BigEndian.AppendUint64(nil, value))
}

// GetUint64 is Get for a number, 0 if there is none.
func (s *logStore) GetUint64(key []byte) (uint64, error) {
	v, err := s.readUint64(stableKey(key))
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", key, err)
	}
	return v, nil
}

func (s *logStore) readUint64(key []byte) (uint64, error) {
	v, err := s.read(key)
	if err != nil || v == nil {
		return 0, err
	}
	if len(v) != 8 {
		return 0, fmt.Errorf("number has %d bytes, want 8", len(v))
	}
	return binary.BigEndian.Uint64(v), nil
}

// started says whether raft ever ran on this log: it writes its term at every start.
func (s *logStore) started() (bool, error) {
	v, err := s.read(stableKey([]byte(keyCurrentTerm)))
	return v != nil, err
}
