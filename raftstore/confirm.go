package raftstore

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hashicorp/raft"
)

// errNoRound is what Confirm answers in a cluster until the round among several voters exists.
var errNoRound = errors.New("confirming leadership among several voters is not built yet")

// confirmer runs rounds of confirmation (DESIGN.md I1.1 of the project). A caller waits for a round that begins after its call,
// never for one under way: what that one learnt may be older than the call. Callers that wait together share a round.
type confirmer struct {
	round func() (uint64, error)

	mu      sync.Mutex
	next    *round
	running bool
	closed  bool
	rounds  sync.WaitGroup
}

// round is one confirmation: done is closed when term and err are set.
type round struct {
	done chan struct{}
	term uint64
	err  error
}

func (c *confirmer) confirm(ctx context.Context) (uint64, error) {
	r, err := c.join()
	if err != nil {
		return 0, err
	}
	select {
	case <-r.done:
		return r.term, r.err
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

func (c *confirmer) join() (*round, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	if c.next == nil {
		c.next = &round{done: make(chan struct{})}
	}
	if !c.running {
		c.running = true
		c.rounds.Go(c.run)
	}
	return c.next, nil
}

func (c *confirmer) run() {
	for {
		c.mu.Lock()
		r := c.next
		c.next = nil
		if r == nil {
			c.running = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		r.term, r.err = c.round()
		close(r.done)
	}
}

func (c *confirmer) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.rounds.Wait()
}

// Confirm proves that this node led the returned term, with a barrier of it applied, at some moment after the call began. The
// error is ErrNotLeader if it does not lead. Waiting callers share a round.
func (s *Store) Confirm(ctx context.Context) (term uint64, err error) {
	term, err = s.confirmer.confirm(ctx)
	if err != nil {
		return 0, fmt.Errorf("confirm leadership: %w", err)
	}
	return term, nil
}

// confirmRound asks the quorum, which is this node alone for now. Its own term and state are checked at the end again.
func (s *Store) confirmRound() (uint64, error) {
	if err := s.fault.err(); err != nil {
		return 0, fmt.Errorf("%w: %w", ErrClosed, err)
	}
	term, ok := s.Leading()
	if !ok {
		return 0, ErrNotLeader
	}
	conf := s.raft.GetConfiguration()
	if err := conf.Error(); err != nil {
		return 0, err
	}
	voters := 0
	self := false
	for _, server := range conf.Configuration().Servers {
		if server.Suffrage == raft.Voter {
			voters++
			self = self || server.ID == raft.ServerID(s.cfg.ID)
		}
	}
	switch {
	case !self:
		return 0, fmt.Errorf("%w: it has no vote", ErrNotLeader)
	case voters != 1:
		return 0, fmt.Errorf("%d voters: %w", voters, errNoRound)
	}
	if now, ok := s.Leading(); !ok || now != term {
		return 0, ErrNotLeader
	}
	return term, nil
}

// Read returns a linearizable view: it holds every change that was acknowledged before the call, by whichever node.
func (s *Store) Read(ctx context.Context) (*View, error) {
	if _, err := s.Confirm(ctx); err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	v, err := s.View()
	if err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	return v, nil
}
