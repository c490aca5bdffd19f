package raftstore

import (
	"bytes"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// View is the state at one position: it does not change, whatever is applied or installed meanwhile. It is safe for concurrent
// use, except Close, which comes last. An open View keeps old data on disk, so it should be short-lived.
type View struct {
	snap  *pebble.Snapshot
	state *state
	at    Position
	close sync.Once
	err   error
}

// View returns the state as this node has it now: it may be behind the leader's. It costs a few hundred nanoseconds. The caller
// must Close it. The error is ErrClosed, or a fault of the disk.
func (s *Store) View() (*View, error) {
	if err := s.fault.err(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrClosed, err)
	}
	st, err := s.states.acquire()
	if err != nil {
		return nil, err
	}
	return newView(st)
}

// newView takes over the caller's reference.
func newView(st *state) (*View, error) {
	v := &View{snap: st.db.NewSnapshot(), state: st}
	at, err := readApplied(v.snap)
	if err != nil {
		_ = v.Close() // the read error says more
		return nil, err
	}
	v.at = at
	return v, nil
}

// Position is the last entry whose effects the view holds.
func (v *View) Position() Position { return v.at }

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
		if err := v.snap.Close(); err != nil {
			v.err = fmt.Errorf("close view: %w", err)
		}
		v.state.release()
	})
	return v.err
}
