package raftstore

import (
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// tidings is what a node logs of who leads and who answers: each state once, when it begins and when it ends, however often raft tries meanwhile. It is safe for concurrent use.
type tidings struct {
	store *Store

	mu     sync.Mutex
	leader string              // the one that was told of, "" if none is known
	wait   *time.Timer         // until it is told that none is known; nil: nobody waits
	silent map[string]struct{} // addresses of members that do not answer this leader
	over   bool                // the store is being closed
}

// leaderlessAfter is for how many times what a member waits for a leader no word is lost about its absence: an election takes about so long.
const leaderlessAfter = 4

func newTidings(s *Store) *tidings {
	return &tidings{store: s, silent: map[string]struct{}{}}
}

// end is called when raft is gone.
func (t *tidings) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	if t.wait != nil {
		t.wait.Stop()
	}
}

// leads tells that this node leads. Operators hear of it from Config.Lead, which knows what comes of it.
func (t *tidings) leads(term uint64) {
	s := t.store
	s.cfg.Logger.Debug("leading", slog.Uint64("term", term), slog.Uint64("applied", s.Applied().Index))
}

func (t *tidings) leadsNoMore(term uint64) {
	t.store.cfg.Logger.Info("no longer leading", slog.Uint64("term", term))
}

// look compares the leader that is known now with what was told. A leader that is missed is told of only if nobody takes its place soon.
func (t *tidings) look() {
	s := t.store
	leader, _ := s.Leader()
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.over:
		return
	case leader == "":
		if t.wait == nil {
			t.wait = time.AfterFunc(leaderlessAfter*s.cfg.HeartbeatTimeout, t.missed)
		}
		return
	case t.wait != nil:
		t.wait.Stop()
		t.wait = nil
	case leader == t.leader:
		return
	}
	clear(t.silent) // they are the leader's to tell of
	if t.leader = leader; leader != s.cfg.ID {
		s.cfg.Logger.Info("this node follows a leader", slog.String("leader", leader), slog.Uint64("term", s.raft.CurrentTerm()))
	}
}

// missed tells that no leader is known for long. A node that is in no cluster says what it waits for.
func (t *tidings) missed() {
	s := t.store
	leader, _ := s.Leader()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over || leader != "" {
		return
	}
	t.leader = ""
	if err := s.raftReason(); err != nil && s.clusterName() != "" {
		s.cfg.Logger.Warn("no leader is known: changes and leases wait until a majority of the voters can reach each other", slog.Any("cause", err))
	}
}

// failed tells that a member does not answer this leader.
func (t *tidings) failed(address string, cause error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, known := t.silent[address]; known || t.over {
		return
	}
	t.silent[address] = struct{}{}
	t.store.cfg.Logger.Warn("a member does not answer; it is tried again", slog.String("address", address), slog.Any("cause", cause))
}

// resumed tells that it answers again.
func (t *tidings) resumed(id raft.ServerID) {
	conf := t.store.raft.GetConfiguration()
	if conf.Error() != nil {
		return
	}
	for _, m := range conf.Configuration().Servers {
		if m.ID != id {
			continue
		}
		t.mu.Lock()
		_, known := t.silent[string(m.Address)]
		delete(t.silent, string(m.Address))
		t.mu.Unlock()
		if known {
			t.store.cfg.Logger.Info("the member answers again", slog.String("member", lifeOf(m.ID).ID), slog.String("address", string(m.Address)))
		}
	}
}

// observe follows whom raft knows to lead, for the metrics, for the log and for whoever is told, until raft is gone.
func (s *Store) observe() {
	seen := make(chan raft.Observation, 64)
	o := raft.NewObserver(seen, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.LeaderObservation, raft.ResumedHeartbeatObservation:
			return true
		}
		return false
	})
	s.raft.RegisterObserver(o)
	s.tidings.look()
	s.starts.Go(func() {
		defer s.raft.DeregisterObserver(o)
		for {
			select {
			case <-s.gone:
				return
			case <-s.fault.tripped():
				return
			case o := <-seen:
				s.observed(o.Data)
			}
		}
	})
}

func (s *Store) observed(what any) {
	switch what := what.(type) {
	case raft.ResumedHeartbeatObservation:
		s.tidings.resumed(what.PeerID)
	case raft.LeaderObservation:
		s.tidings.look()
		if what.LeaderID == "" {
			return
		}
		s.metrics.leaderChanges.Inc()
		if told := s.cfg.LeaderSeen; told != nil {
			id, _ := s.Leader()
			told(id, s.raft.CurrentTerm())
		}
	}
}
