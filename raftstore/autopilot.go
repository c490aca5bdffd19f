package raftstore

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"
)

// pilot removes members that are dead for good, by raft-autopilot's rules: never a majority at once, never below
// Config.MinVoters. It gives no votes: that is for people.
type pilot struct {
	store *Store
	ctx   context.Context

	mu     sync.Mutex
	silent map[raft.ServerID]time.Duration // for how long a member has not answered, counted in looks
}

// newPilot returns nil if no member is ever to be removed: a nil pilot does nothing.
func newPilot(ctx context.Context, s *Store) *pilot {
	if s.cfg.DeadServerAfter <= 0 {
		return nil
	}
	return &pilot{store: s, ctx: ctx, silent: make(map[raft.ServerID]time.Duration)}
}

// run works until the term ends.
func (p *pilot) run() {
	if p == nil {
		return
	}
	a := autopilot.New(p.store.raft, p, autopilot.WithPromoter(keepVotes{autopilot.DefaultPromoter()}),
		autopilot.WithLogger(newRaftLogger(p.store.cfg.Logger)))
	a.Start(p.ctx)
	<-p.ctx.Done()
	<-a.Stop()
}

// looked counts what one look at a member found. Time passes in looks, not by the clock: a leader that was paused has not watched
// the others meanwhile.
func (p *pilot) looked(id raft.ServerID, answered bool) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if answered {
		delete(p.silent, id)
		return
	}
	p.silent[id] += watchEvery
}

func (p *pilot) dead(id raft.ServerID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.silent[id] >= p.store.cfg.DeadServerAfter
}

// AutopilotConfig and the rest make pilot an autopilot.ApplicationIntegration.
func (p *pilot) AutopilotConfig() *autopilot.Config {
	return &autopilot.Config{
		CleanupDeadServers: true, MinQuorum: uint(max(p.store.cfg.MinVoters, 1)),
		LastContactThreshold: p.store.cfg.DeadServerAfter, MaxTrailingLogs: p.store.cfg.TrailingLogs,
	}
}

// KnownServers names every member: one that is left out would be removed at once as stale.
func (p *pilot) KnownServers() map[raft.ServerID]*autopilot.Server {
	conf := p.store.raft.GetConfiguration()
	if conf.Error() != nil {
		return nil
	}
	known := make(map[raft.ServerID]*autopilot.Server)
	for _, server := range conf.Configuration().Servers {
		status := autopilot.NodeAlive
		if p.dead(server.ID) {
			status = autopilot.NodeFailed
		}
		known[server.ID] = &autopilot.Server{
			ID: server.ID, Name: string(server.ID), Address: server.Address, NodeStatus: status, NodeType: autopilot.NodeVoter,
			IsLeader: server.ID == p.store.life().server(),
		}
	}
	return known
}

// FetchServerStats returns nothing: autopilot takes them to find out who deserves a vote, and we let it give none.
func (p *pilot) FetchServerStats(context.Context, map[raft.ServerID]*autopilot.Server) map[raft.ServerID]*autopilot.ServerStats {
	return nil
}

// NotifyState does nothing: Members and the metrics tell how the cluster is.
func (p *pilot) NotifyState(*autopilot.State) {}

// RemoveFailedServer removes a member that is still silent, if those that are left are a working quorum.
func (p *pilot) RemoveFailedServer(dead *autopilot.Server) {
	if !p.dead(dead.ID) || p.ctx.Err() != nil {
		return // it answered since, or this node no longer leads
	}
	ctx, cancel := context.WithTimeout(p.ctx, p.store.cfg.RPCTimeout)
	defer cancel()
	life := lifeOf(dead.ID)
	logger := p.store.cfg.Logger.With(slog.String("member", life.String()), slog.Duration("silent_for", p.store.cfg.DeadServerAfter))
	if err := p.store.removeLife(ctx, dead.ID); err != nil {
		logger.Warn("a dead member is not removed", slog.Any("cause", err))
		return
	}
	p.looked(dead.ID, true)
	logger.Warn("a dead member is removed; if its machine comes back, wipe its data folder and let it join again")
}

// keepVotes is autopilot's promoter without promotions.
type keepVotes struct{ autopilot.Promoter }

func (keepVotes) CalculatePromotionsAndDemotions(*autopilot.Config, *autopilot.State) autopilot.RaftChanges {
	return autopilot.RaftChanges{}
}
