package raftstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/raft"
)

// Keys of the state database that are raftstore's own. A Machine uses every key whose first byte is at least 1.
var (
	keyApplied = []byte{0, 'a'} // position of the last applied entry
	keyConf    = []byte{0, 'c'} // index of the last applied configuration, 8B, and the configuration as raft encodes it
	keyCluster = []byte{0, 'i'} // name of the cluster
	keyFormat  = []byte{0, 'v'} // format of the cluster, uvarint; missing: the first
	keyReign   = []byte{0, 'h'} // and the first index of a reign, 8B: its term, 8B, and its id, 16B

	firstMachineKey = []byte{1}
)

// state is one generation of the state database. It is counted: the database closes when the last user let go, because Pebble
// must not be closed under an open snapshot or iterator, and an install replaces the state under its readers.
type state struct {
	db         *pebble.DB
	generation uint64
	refs       atomic.Int64
	closed     func(error) // called once, with the outcome of closing

	shotMu    sync.Mutex
	shot      *shot // for the next View; nil: none
	shotTimed bool  // forget is to come
}

func (s *state) release() {
	if s.refs.Add(-1) == 0 {
		s.forget()
		err := s.db.Close()
		if err != nil {
			err = fmt.Errorf("close the state database: %w", err)
		}
		s.closed(err)
	}
}

// stateHolder is the current state. Its own reference keeps it open.
type stateHolder struct {
	mu      sync.RWMutex
	current *state // nil once closed
}

// acquire returns the current state with a reference for the caller, who must release it.
func (h *stateHolder) acquire() (*state, error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.current == nil {
		return nil, ErrClosed
	}
	h.current.refs.Add(1)
	return h.current, nil
}

// swap makes next the current state (nil: none), and lets go of the one before.
func (h *stateHolder) swap(next *state) {
	if next != nil {
		next.refs.Add(1)
	}
	h.mu.Lock()
	old := h.current
	h.current = next
	h.mu.Unlock()
	if old != nil {
		old.release()
	}
}

// configuration is a membership with the index of the entry that set it.
type configuration struct {
	index   uint64
	encoded []byte // raft.EncodeConfiguration
}

func (c configuration) decode() (conf raft.Configuration, err error) {
	if c.index == 0 {
		return raft.Configuration{}, nil
	}
	// A snapshot from elsewhere is not ours to trust. raft.DecodeConfiguration panics on what it cannot decode, and since it reads from
	// a stream it believes a length of gigabytes; the same decoder takes no more from a slice than there is.
	if err := codec.NewDecoderBytes(c.encoded, &codec.MsgpackHandle{}).Decode(&conf); err != nil {
		return raft.Configuration{}, fmt.Errorf("decode the configuration of index %d: %w", c.index, err)
	}
	return conf, nil
}

func (c configuration) encode() []byte {
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(c.encoded)), c.index), c.encoded...)
}

// stateMeta is what raftstore itself keeps in a state database.
type stateMeta struct {
	applied Position
	conf    configuration
	cluster string
	format  int
	reigns  []Reign // oldest first
}

func readStateMeta(r pebble.Reader) (stateMeta, error) {
	var m stateMeta
	v, err := getCopy(r, keyApplied)
	if err == nil && v != nil {
		m.applied, err = decodePosition(v)
	}
	if err != nil {
		return stateMeta{}, fmt.Errorf("read the applied position: %w", err)
	}
	v, err = getCopy(r, keyConf)
	if err == nil && v != nil && len(v) < 8 {
		err = fmt.Errorf("it has %d bytes", len(v))
	}
	if err != nil {
		return stateMeta{}, fmt.Errorf("read the configuration: %w", err)
	}
	if v != nil {
		m.conf = configuration{index: binary.BigEndian.Uint64(v), encoded: v[8:]}
	}
	if v, err = getCopy(r, keyCluster); err != nil {
		return stateMeta{}, fmt.Errorf("read the cluster's name: %w", err)
	}
	m.cluster = string(v)
	if v, err = getCopy(r, keyFormat); err != nil {
		return stateMeta{}, fmt.Errorf("read the format: %w", err)
	}
	m.format = formatFirst
	if v != nil {
		format, n := binary.Uvarint(v)
		if n <= 0 || format > 1<<20 {
			return stateMeta{}, fmt.Errorf("read the format: it is %x", v)
		}
		m.format = int(format)
	}
	if m.reigns, err = readReigns(r); err != nil {
		return stateMeta{}, fmt.Errorf("read the reigns: %w", err)
	}
	return m, nil
}

func readApplied(r pebble.Reader) (Position, error) {
	v, closer, err := r.Get(keyApplied)
	if errors.Is(err, pebble.ErrNotFound) {
		return Position{}, nil
	}
	if err != nil {
		return Position{}, fmt.Errorf("read the applied position: %w", err)
	}
	p, err := decodePosition(v)
	if err := errors.Join(err, closer.Close()); err != nil {
		return Position{}, fmt.Errorf("read the applied position: %w", err)
	}
	return p, nil
}

// getCopy returns a copy of a value, nil if there is none.
func getCopy(r pebble.Reader, key []byte) ([]byte, error) {
	v, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	out := append(make([]byte, 0, len(v)), v...) // v dies with closer
	return out, closer.Close()
}
