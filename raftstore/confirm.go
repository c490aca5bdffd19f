package raftstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
)

// ErrNoQuorum is what Confirm fails with when too few voters answered in time that their term is still this leader's.
var ErrNoQuorum = errors.New("no quorum of voters confirms the term")

// Confirm proves that this node led the returned term, with a barrier of it applied, at some moment after the call began: no
// newer leader had been elected when the call began. It asks the voters once (callers that wait together share a round) and
// takes at most two heartbeat time-outs. The error is ErrNotLeader if this node does not lead, and ErrNoQuorum if it cannot be
// known.
func (s *Store) Confirm(ctx context.Context) (term uint64, err error) {
	term, err = s.confirmer.wait(ctx)
	if err != nil {
		return 0, fmt.Errorf("confirm leadership: %w", err)
	}
	return term, nil
}

// confirmRound asks the voters of the latest configuration "is your term still T?" (I1.1, R12). Equal
// terms alone are the test: a newer leader was elected by a quorum, each of which raised its term before it voted, terms never
// fall, and that quorum shares a voter with every quorum of this configuration. So a quorum of answers "T", all to questions asked
// after the round began, means that nobody newer led when it began. What voters believe about who leads is no part of it, and
// raft's heartbeats are not used: VerifyLeader counts some that were sent before the call.
func (s *Store) confirmRound() (uint64, error) {
	if err := s.fault.err(); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrClosed, err)
	}
	term, ok := s.Leading()
	if !ok {
		return 0, ErrNotLeader
	}
	voters, err := s.confirmVoters()
	if err != nil {
		return 0, err
	}
	if err := s.askQuorum(voters, term); err != nil {
		return 0, err
	}
	if now, ok := s.Leading(); (!ok || now != term) && !s.cfg.knobs.confirmUnchecked {
		return 0, ErrNotLeader
	}
	return term, nil
}

// confirmVoters returns the voters of the latest configuration, committed or not: it is the one that counts for commits.
func (s *Store) confirmVoters() ([]raft.Server, error) {
	if s.cfg.knobs.confirmOldConf && s.oldVoters != nil {
		return s.oldVoters, nil
	}
	conf := s.raft.GetConfiguration()
	if err := conf.Error(); err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	voters := votersOf(conf.Configuration())
	s.oldVoters = voters
	return voters, nil
}

func votersOf(conf raft.Configuration) []raft.Server {
	var voters []raft.Server
	for _, server := range conf.Servers {
		if server.Suffrage == raft.Voter {
			voters = append(voters, server)
		}
	}
	return voters
}

// askQuorum returns nil as soon as a quorum of voters, this node included if it is one, answered that its term is still term. It
// does not wait for the others.
func (s *Store) askQuorum(voters []raft.Server, term uint64) error {
	need, open := len(voters)/2+1, 0
	if s.cfg.knobs.confirmMinority {
		need = 1
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.HeartbeatTimeout)
	defer cancel()
	answers := make(chan error, len(voters))
	for _, v := range voters {
		if v.ID == s.life().server() {
			need-- // its own term is checked after the round
			continue
		}
		open++
		// Joined here, so that the question is asked after the round began, and answered by whoever asks next: a voter that
		// is slow has one question under way, whatever the number of rounds.
		question, err := s.asking.join(targetOf(v))
		if err != nil {
			return err
		}
		go func() { answers <- s.vouches(ctx, question, v, term) }()
	}
	var causes []error
	for need > 0 && need <= open {
		err := <-answers
		open--
		if err != nil {
			causes = append(causes, err)
			continue
		}
		need--
	}
	if need <= 0 {
		return nil
	}
	err := errors.Join(causes...)
	if errors.Is(err, ErrNotLeader) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrNoQuorum, err)
}

// vouches returns nil if voter v answered that its term is term.
func (s *Store) vouches(ctx context.Context, question *turn[NodeStatus], v raft.Server, term uint64) error {
	status, err := question.wait(ctx)
	if err == nil {
		err = status.isOf(lifeOf(v.ID), s.clusterName())
	}
	if err == nil && status.Cluster == "" {
		err = errors.New("it is in no cluster yet, and has no voice")
	}
	switch {
	case err != nil:
		return fmt.Errorf("ask %s at %s: %w", lifeOf(v.ID), v.Address, err)
	case status.Term > term:
		return fmt.Errorf("%w: %s is at term %d, this node at %d", ErrNotLeader, lifeOf(v.ID).ID, status.Term, term)
	case status.Term < term:
		return fmt.Errorf("%s is at term %d, this node at %d", lifeOf(v.ID).ID, status.Term, term)
	}
	return nil
}

// Read returns a linearizable view: it holds every change that was acknowledged before the call, by whichever node.
func (s *Store) Read(ctx context.Context) (*View, error) {
	if !s.cfg.knobs.readUnconfirmed {
		if _, err := s.Confirm(ctx); err != nil {
			return nil, fmt.Errorf("read: %w", err)
		}
	}
	v, err := s.View()
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	return v, nil
}
