package raftstore

import (
	"bytes"
	"fmt"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// View is the state at one position: it does not change, whatever is applied or installed meanwhile. It is safe for concurrent
// use, except Close, which comes last. An open View keeps old data on disk, so it should be short-lived.
type View struct {
	*shot
	state *state
	close sync.Once
	err   error
}

// shot is one Pebble snapshot, for all Views that were taken while nothing was applied: to open one and to close it takes the
// database's lock twice, and its end looks for a compaction, which together cost more than reading a record.
type shot struct {
	snap *pebble.Snapshot
	at   Position
	refs int // Views, and one of the state that keeps it for the next; guarded by state.shotMu

	once   sync.Once
	common any // what its Views have in common (Shared)
}

// shotKept is how long a shot waits for the next View: it keeps old data on disk like any.
const shotKept = 20 * time.Millisecond

// View returns the state as this node has it now, everything up to Applied: it may be behind the leader's. The caller
// must Close it. The error is ErrClosed, or a fault of the disk.
func (s *Store) View() (*View, error) {
	if err := s.fault.err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrClosed, err)
	}
	st, err := s.states.acquire()
	if err != nil {
		return nil, err
	}
	view, err := st.view(s.fsm.applied.Load().Index)
	if err != nil {
		st.release()
	}
	return view, err
}

// view takes over the caller's reference, unless it fails. applied was visible before the call: what is told of an entry is told
// after it is (fsm.publish, then tell), so a shot that holds it lacks nothing that anybody can know of.
func (s *state) view(applied uint64) (*View, error) {
	s.shotMu.Lock()
	if sh := s.shot; sh != nil && sh.at.Index >= applied {
		sh.refs++
		s.shotMu.Unlock()
		return &View{shot: sh, state: s}, nil
	}
	s.shotMu.Unlock()
	sh := &shot{snap: s.db.NewSnapshot(), refs: 1}
	var err error
	if sh.at, err = readApplied(sh.snap); err != nil {
		_ = sh.snap.Close() // the read error says more
		return nil, err
	}
	s.keep(sh)
	return &View{shot: sh, state: s}, nil
}

// keep has the next Views share a new shot, if none is newer.
func (s *state) keep(sh *shot) {
	s.shotMu.Lock()
	defer s.shotMu.Unlock()
	if s.shot != nil && s.shot.at.Index > sh.at.Index {
		return
	}
	_ = s.let(s.shot) // nothing was written that could be lost
	s.shot = sh
	sh.refs++
	if !s.shotTimed {
		s.shotTimed = true
		time.AfterFunc(shotKept, s.forget)
	}
}

// forget ends the state's own use of its shot.
func (s *state) forget() {
	s.shotMu.Lock()
	defer s.shotMu.Unlock()
	_ = s.let(s.shot) // nothing was written that could be lost
	s.shot, s.shotTimed = nil, false
}

// let gives up one use of a shot. shotMu is held.
func (s *state) let(sh *shot) error {
	if sh == nil {
		return nil
	}
	if sh.refs--; sh.refs > 0 {
		return nil
	}
	if err := sh.snap.Close(); err != nil {
		return fmt.Errorf("close view: %w", err)
	}
	return nil
}

// Position is the last entry whose effects the view holds.
func (v *View) Position() Position { return v.at }

// Shared returns what first returned for the first View of this snapshot that asked: a place to remember what was read of it. It
// must be safe for concurrent use, and small, since it lives as long as the snapshot.
func (v *View) Shared(first func() any) any {
	v.once.Do(func() { v.common = first() })
	return v.common
}

// Get returns the value of key. value is a copy and the caller's own; it is not nil if found.
func (v *View) Get(key []byte) (value []byte, found bool, err error) {
	value, err = getCopy(v.snap, key)
	if err != nil {
		return nil, false, fmt.Errorf("read %q: %w", key, err)
	}
	return value, value != nil, nil
}

// Scan calls each for every key in [lower, upper) in order, until each returns false or an error; a nil upper means the end.
// key and value are valid only during the call.
func (v *View) Scan(lower, upper []byte, each func(key, value []byte) (more bool, err error)) (err error) {
	it, err := v.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	defer func() {
		if cerr := it.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("scan: %w", cerr)
		}
	}()
	for ok := it.First(); ok; ok = it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return fmt.Errorf("scan: read %q: %w", it.Key(), err)
		}
		if more, err := each(it.Key(), value); err != nil || !more {
			return err
		}
	}
	return nil // an error of the iteration comes out of Close
}

// NewIter returns an iterator over the Machine's keys within o's bounds; o may be nil. It must be closed before the View.
func (v *View) NewIter(o *pebble.IterOptions) (*pebble.Iterator, error) {
	var opts pebble.IterOptions
	if o != nil {
		opts = *o
	}
	if bytes.Compare(opts.LowerBound, firstMachineKey) < 0 {
		opts.LowerBound = firstMachineKey
	}
	it, err := v.snap.NewIter(&opts)
	if err != nil {
		return nil, fmt.Errorf("iterate: %w", err)
	}
	return it, nil
}

// Reader returns the view in Pebble's own terms, for code that reads a Batch or a View alike. It is valid until Close; the
// caller must not close it.
func (v *View) Reader() pebble.Reader { return v.snap }

// Close ends the view. Only the first call does anything; all return the same error.
func (v *View) Close() error {
	v.close.Do(func() {
		v.state.shotMu.Lock()
		v.err = v.state.let(v.shot)
		v.state.shotMu.Unlock()
		v.state.release()
	})
	return v.err
}
