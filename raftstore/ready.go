package raftstore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

const catchUpPoll = 20 * time.Millisecond

// caughtUp waits until a member applies about as fast as this leader commits: until it needed less than a heartbeat time-out to
// reach what was committed when it was asked, and again a heartbeat time-out later. Log and state: a voter with a log alone could
// win an election and lead late. Twice, because raft's heartbeats to a node that was away are spaced out for up to half a
// heartbeat time-out: it would be a voter at once, and if it is needed for the quorum, the leader would step down.
func (s *Store) caughtUp(ctx context.Context, server raft.Server) error {
	poll := time.NewTicker(catchUpPoll)
	defer poll.Stop()
	var since time.Time // it has been level, zero: it is not
	target, began := s.raft.CommitIndex(), time.Now()
	for {
		term, ok := s.Leading()
		if !ok {
			return ErrNotLeader
		}
		status, err := s.statusOf(ctx, server)
		now := time.Now()
		level := err == nil && status.Term == term && status.Applied >= target
		switch {
		case now.Sub(began) >= s.cfg.HeartbeatTimeout:
			since = time.Time{} // too slow, whether it is level now or not
		case level && since.IsZero():
			since = now
		}
		if level {
			if !since.IsZero() && now.Sub(since) >= s.cfg.HeartbeatTimeout {
				return nil
			}
			target, began = s.raft.CommitIndex(), now
		}
		select {
		case <-poll.C:
		case <-s.gone:
			return ErrClosed
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("%w: it has not caught up (applied %d of %d): %w", ErrRefused, status.Applied, target, context.Cause(ctx)), err)
		}
	}
}

// working refuses voters of which no quorum works: answers, is in this term, and has a log that reaches up to ours (R13).
func (s *Store) working(ctx context.Context, voters []raft.Server, term uint64) error {
	first, err := s.log.FirstIndex()
	if err != nil {
		return err
	}
	answers := make(chan error, len(voters))
	for _, v := range voters {
		go func() {
			status, err := s.statusOf(ctx, v)
			switch {
			case err != nil:
			case status.Term != term:
				err = fmt.Errorf("%s is at term %d, this node at %d", lifeOf(v.ID).ID, status.Term, term)
			case status.LastIndex+1 < first:
				err = fmt.Errorf("%s is at %d and needs a snapshot to catch up", lifeOf(v.ID).ID, status.LastIndex)
			}
			answers <- err
		}()
	}
	var causes []error
	for range voters {
		if err := <-answers; err != nil {
			causes = append(causes, err)
		}
	}
	if works, need := len(voters)-len(causes), len(voters)/2+1; works < need {
		return fmt.Errorf("%w: of the %d voters there would be, %d work, and %d must: %w", ErrRefused, len(voters), works, need, errors.Join(causes...))
	}
	return nil
}
