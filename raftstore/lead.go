package raftstore

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// barrierRetry is how long a new leader waits for its barrier before it sends another: raft refuses one during a hand-over
// that then fails, and says so only through a future that a shutdown may forget.
const barrierRetry = time.Second

// barrierLook is how often it looks for its barrier behind an entry of the same term that came ahead of it.
const barrierLook = 10 * time.Millisecond

// leadership follows the terms that this node leads. raft announces each gain and loss on notify and waits for the channel, so
// the loop that reads it must never block; what to believe is the term, asked anew at each announcement.
type leadership struct {
	store  *Store
	notify chan bool
	ready  atomic.Uint64 // term that a barrier was applied in, 0 if none
	stop   context.CancelFunc
	done   chan struct{} // closed when terms are followed no more
	terms  sync.WaitGroup
}

func newLeadership(s *Store) *leadership {
	return &leadership{store: s, notify: make(chan bool), done: make(chan struct{})}
}

func (l *leadership) start() {
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	go l.run(ctx)
}

func (l *leadership) run(ctx context.Context) {
	l.follow(ctx)
	close(l.done)
	for {
		select {
		case <-l.store.gone:
			return
		case <-l.notify: // until raft is gone, somebody must read
		}
	}
}

func (l *leadership) follow(ctx context.Context) {
	var current uint64
	end := func() {}
	previous := make(chan struct{}) // closed when the call of the term before returned
	close(previous)
	for {
		select {
		case <-ctx.Done():
			end()
			return
		case <-l.store.fault.tripped():
			end()
			return
		case <-l.notify:
		}
		term, leads := l.leads()
		if leads && term == current {
			continue
		}
		end()
		l.ready.Store(0)
		current, end = 0, func() {}
		if !leads {
			continue
		}
		termCtx, cancel := context.WithCancel(ctx)
		current, end = term, cancel
		wait, finished := previous, make(chan struct{})
		previous = finished
		l.terms.Go(func() {
			defer close(finished)
			defer cancel()
			<-wait
			l.lead(termCtx, term)
		})
	}
}

// leads returns the term that this node leads at some moment during the call. State and term are two loads: the term rises
// only while the node does not lead, so one term around "leader" is the term it leads.
func (l *leadership) leads() (uint64, bool) {
	r := l.store.raft
	term := r.CurrentTerm()
	return term, r.State() == raft.Leader && r.CurrentTerm() == term
}

// lead is one term: a barrier, then the caller's work. Until the barrier is applied, this node may lack entries that the leader
// before it acknowledged.
func (l *leadership) lead(ctx context.Context, term uint64) {
	if !l.barrier(ctx, term) {
		return
	}
	l.ready.Store(term)
	defer l.ready.CompareAndSwap(term, 0)
	if ctx.Err() != nil {
		return
	}
	s := l.store
	s.tidings.leads(term)
	defer s.tidings.leadsNoMore(term)
	var watching sync.WaitGroup
	defer watching.Wait()
	p := newPilot(ctx, s)
	watching.Go(func() { s.watchFollowers(ctx, p) })
	watching.Go(p.run)
	watching.Go(func() { s.keepAddress(ctx) })
	if s.cfg.Lead != nil {
		s.cfg.Lead(ctx, term)
	}
	<-ctx.Done()
}

// barrier returns true once an entry of term was applied: one without commands, so that the state's position covers it too (raft's own
// barriers never reach the state), and so that nobody has to wait for a future.
func (l *leadership) barrier(ctx context.Context, term uint64) bool {
	// Made here and kept nowhere: the same is sent again within the term, and no other run of this node knows it.
	bar := barrier{term: term, cluster: l.store.clusterName()}
	_, _ = rand.Read(bar.reign[:]) // never fails
	retry := time.NewTicker(barrierRetry)
	defer retry.Stop()
	look := time.NewTicker(barrierLook)
	defer look.Stop()
	for {
		if to := l.store.cfg.newestFormat(); l.store.beginsNow() && l.store.Format() < to {
			l.store.raft.Apply(encodeFormat(to), barrierRetry) // ahead of the barrier: all of the cluster is of this format. If it is lost, RaiseFormat does it
		}
		l.store.raft.Apply(bar.encode(), barrierRetry)
	wait:
		for {
			// Not any entry of the term: one that came ahead of the barrier is nobody's, and would make the term so.
			_, changed := l.store.fsm.termApplied(term)
			if l.store.fsm.began(term, bar.reign) {
				return ctx.Err() == nil
			}
			select {
			case <-ctx.Done():
				return false
			case <-l.store.fault.tripped():
				return false
			case <-retry.C:
				break wait
			case <-changed:
			case <-look.C: // an entry of the term was applied before
			}
		}
	}
}

// beginsNow reports whether a cluster begins with this node, and nothing was written by anybody yet. The log says so: after a restart the state
// may have nothing of it yet.
func (s *Store) beginsNow() bool {
	return s.pinned.Load().Began && len(s.fsm.history()) == 0 && !s.cfg.knobs.beginsFirst && s.log.unwritten()
}

// end stops following, and waits until the call of the last term returned.
func (l *leadership) end(ctx context.Context) error {
	l.stop()
	returned := make(chan struct{})
	go func() {
		<-l.done
		l.terms.Wait()
		close(returned)
	}()
	select {
	case <-returned:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for Config.Lead to return: %w", context.Cause(ctx))
	}
}

// Leading returns the term that this node leads, and whether it does and has applied a barrier of that term. It costs a few
// atomic loads. It is this node's belief: another may lead a newer term already, which Confirm rules out.
func (s *Store) Leading() (term uint64, ok bool) {
	term = s.lead.ready.Load()
	if term == 0 || s.fault.err() != nil || s.door.back.Load() != nil {
		return 0, false
	}
	now, leads := s.lead.leads()
	return term, leads && now == term
}

// Leader returns the node that this one believes leads, both empty if it knows of none.
func (s *Store) Leader() (id, addr string) {
	a, i := s.raft.LeaderWithID()
	return lifeOf(i).ID, string(a)
}

// lastContact is when this node heard last of the one that leads; it means something on a follower.
func (s *Store) lastContact() time.Time {
	if r := s.door.raft.Load(); r != nil {
		return r.LastContact()
	}
	return time.Time{}
}
