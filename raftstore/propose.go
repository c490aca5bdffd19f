package raftstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// Errors of [Store.Propose]. All but ErrOutcomeUnknown mean that the command did not and will not take effect.
var (
	// ErrNotLeader: this node does not lead, or not yet (Leading), or is handing over. Ask the one that Leader names.
	ErrNotLeader = errors.New("this node does not lead")
	// ErrOverloaded: too much is under way already. Try again later.
	ErrOverloaded = errors.New("too many commands are under way")
	// ErrNoSpace: the disk of this node is nearly full, and the command is not essential. Free space, or enlarge the disk.
	ErrNoSpace = errors.New("the disk is nearly full")
	// ErrSpent: beside ErrNoSpace, of an essential command: what the disk has left for those, or for its party's, is used up.
	ErrSpent = errors.New("what takes rights away has used up the room that there is for it")
	// ErrTooLarge: the command is larger than MaxPackBytes. Split it.
	ErrTooLarge = errors.New("command is too large")
	// ErrClosed: the store is closed or closing, or stopped after a fault.
	ErrClosed = errors.New("store is closed")
	// ErrOutcomeUnknown: the command was handed to Raft and may be, or still become, committed. Its cause is wrapped with it.
	ErrOutcomeUnknown = errors.New("outcome is unknown")
)

// Result is what a command came to.
type Result struct {
	Position     // of the entry that held it
	Outcome  any // what Machine.Apply returned
}

// Unknown reports whether the command that a Propose failed with err may still be, or become, committed.
func Unknown(err error) bool { return errors.Is(err, ErrOutcomeUnknown) }

// ProposeOptions say how a command is to be treated.
type ProposeOptions struct {
	// Essential marks a command that frees or stops something (revoke, remove, disable). It is taken also when the disk is nearly
	// full, as long as there is anything left but what the node's own work needs: an off switch that needs space is none.
	Essential bool
	// Urgent marks one of the few commands on which leading itself depends. They have room of their own, on the disk too,
	// and are sent ahead of all that wait: who keeps the queue full does not hold them up.
	Urgent bool
	// Large marks a command that changes hundreds of records. One of those is under way at a time, in the order of the calls, and each entry may hold
	// one: the others' commands wait for the application of one at most.
	Large bool
	// For is who the command is for. Parties take turns, and none has more than half of what may be under way, nor of what a nearly full disk has left for
	// essential commands.
	For Party
}

// Propose replicates cmd and returns once it was applied on this node. Commands that wait at the same time share an entry; a
// lone one is sent at once. It is safe for concurrent use, and cmd may be reused when it returns. It fails early with
// ErrOverloaded rather than queue without bound. A command whose ctx is done before it was sent is never sent; after that, the
// error is ErrOutcomeUnknown. Repeating a command whose outcome is unknown is up to the caller: the store does not know that
// two commands mean the same.
func (s *Store) Propose(ctx context.Context, cmd []byte) (Result, error) {
	return s.ProposeWith(ctx, cmd, ProposeOptions{})
}

// ProposeWith is Propose with options.
func (s *Store) ProposeWith(ctx context.Context, cmd []byte, o ProposeOptions) (Result, error) {
	switch {
	case len(cmd) > MaxPackBytes:
		return Result{}, fmt.Errorf("propose: %w: %d bytes, at most %d", ErrTooLarge, len(cmd), MaxPackBytes)
	case s.fault.err() != nil:
		return Result{}, fmt.Errorf("propose: %w: %w", ErrClosed, s.fault.err())
	}
	if _, leads := s.Leading(); !leads { // behind the barrier of the term, or it would be nobody's (R15)
		if s.packer.closing() {
			return Result{}, fmt.Errorf("propose: %w", ErrClosed)
		}
		return Result{}, fmt.Errorf("propose: %w", ErrNotLeader)
	}
	taken, err := s.room(len(cmd), o)
	if err != nil {
		s.metrics.noSpace.Inc()
		return Result{}, fmt.Errorf("propose: %w", err)
	}
	lane := laneOrdinary
	switch {
	case o.Urgent:
		lane = laneUrgent
	case o.Large:
		lane = laneLarge
	}
	res, err := s.packer.propose(ctx, cmd, lane, o.For)
	if err != nil {
		if !Unknown(err) && taken.bytes > 0 { // it is in no log
			s.space.spare.giveBack(taken)
		}
		return Result{}, fmt.Errorf("propose: %w", err)
	}
	return res, nil
}

// room takes what a command needs of a disk that is nearly full, or says why there is none (R10).
func (s *Store) room(bytes int, o ProposeOptions) (spending, error) {
	switch {
	case o.Urgent:
		return spending{}, nil
	case o.Essential:
		return s.space.spend(o.For, bytes+proposalOverhead)
	}
	return spending{}, s.space.refuse()
}

// outcomeUnknown marks a cause that leaves open whether a command will be committed.
func outcomeUnknown(cause error) error { return fmt.Errorf("%w: %w", ErrOutcomeUnknown, cause) }

// classify gives raft's error its class. Only those that raft returns before an entry reached its log mean "not done";
// ErrRaftShutdown comes both before and after, so it does not.
func classify(err error) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress),
		errors.Is(err, raft.ErrEnqueueTimeout):
		return fmt.Errorf("%w: %w", ErrNotLeader, err)
	default:
		return outcomeUnknown(err)
	}
}
