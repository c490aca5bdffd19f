package raftstore

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// Health says why this node cannot serve as it should, nil if it can: all of [Store.Reasons] in one error.
func (s *Store) Health() error {
	var all error
	for _, err := range s.unready() {
		if all == nil {
			all = err
		} else {
			all = fmt.Errorf("%w; %w", all, err)
		}
	}
	return all
}

// Reasons are why this node cannot serve as it should, none if it can. Each begins with the part that is concerned:
//
//   - "storage": a fault after which nothing is answered any more, or the store is closed;
//   - "disk": it is nearly full, and only essential commands are taken;
//   - "write": one has been under way for longer than it should;
//   - "address": it is reached elsewhere than the members look for it;
//   - "raft": no leader is known, or this node was elected and is not ready;
//   - "state": it is behind what is committed.
func (s *Store) Reasons() []string {
	faults := s.unready()
	out := make([]string, len(faults))
	for i, err := range faults {
		out[i] = err.Error()
	}
	return out
}

func (s *Store) unready() []error {
	if err := s.fault.err(); err != nil {
		return []error{fmt.Errorf("storage: stopped after a fault: %w", err)} // all else follows from it
	}
	if s.packer.closing() {
		return []error{fmt.Errorf("storage: %w", ErrClosed)}
	}
	var out []error
	for _, check := range []func() error{s.diskReason, s.watch.reason, s.addressReason, s.raftReason, s.stateReason} {
		if err := check(); err != nil {
			out = append(out, err)
		}
	}
	return out
}

func (s *Store) diskReason() error {
	if err := s.space.refuse(); err != nil {
		return fmt.Errorf("disk: %w", err)
	}
	return nil
}

func (s *Store) raftReason() error {
	if said := s.door.back.Load(); said != nil {
		return fmt.Errorf("raft: %s", *said)
	}
	if said := s.door.successor(); said != "" {
		return fmt.Errorf("raft: %s", said)
	}
	switch state := s.raft.State(); state {
	case raft.Leader:
		if _, ok := s.Leading(); !ok {
			return errors.New("raft: elected, but a barrier of the new term is not applied yet")
		}
	case raft.Shutdown:
		return errors.New("raft: this node was removed from the cluster")
	default:
		if id, _ := s.Leader(); id == "" {
			if said := s.door.isOut(); said != "" {
				return fmt.Errorf("raft: no leader is known: %s", said)
			}
			return fmt.Errorf("raft: no leader is known (this node is %s)", state)
		}
	}
	return nil
}

// stateReason compares with what this node knows to be committed; raft's own entries, which never reach the state, count too.
func (s *Store) stateReason() error {
	if lag := s.lag(); lag > s.cfg.MaxAppliedLag {
		return fmt.Errorf("state: %d entries behind what is committed (at most %d)", lag, s.cfg.MaxAppliedLag)
	}
	return nil
}

// lag is how many committed entries are not applied yet.
func (s *Store) lag() uint64 {
	applied := s.Applied().Index // first: it never passes what is committed
	return max(s.raft.CommitIndex(), applied) - applied
}
