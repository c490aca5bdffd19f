package raftstore

import (
	"context"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"
)

const (
	watchEvery = time.Second
	// watchHandover is how often at most a node gives up its leadership for a follower's sake: if the fault is the follower's, as
	// with a disk that hangs, it will not help.
	watchHandover = 10 * time.Minute
)

// progress is how far a follower was when it last got further.
type progress struct {
	index uint64
	since time.Time
}

// watchFollowers looks at the followers while this node leads. A follower that answers, and does not get further though there is more in
// the log, is stalled: heartbeats flow and entries do not, as in the wedge that pipeline.go ends, and only another leader
// would help. So after Config.StallTimeout it is reported, and if it has a vote, the leadership is handed over.
func (s *Store) watchFollowers(ctx context.Context, p *pilot) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	defer s.metrics.stalled.Set(0)
	seen := make(map[raft.ServerID]progress)
	before := s.raft.LastIndex()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.fault.tripped():
			return
		case <-ticker.C:
		}
		conf := s.raft.GetConfiguration()
		if conf.Error() != nil {
			return
		}
		target := before
		before = s.raft.LastIndex()
		stalled, voter := 0, false
		for _, server := range conf.Configuration().Servers {
			if server.ID == s.life().server() {
				continue
			}
			status, err := s.statusOf(ctx, server)
			p.looked(server.ID, err == nil)
			if err != nil {
				delete(seen, server.ID) // down is not stalled
				continue
			}
			if !s.stalls(server, status, target, seen) {
				continue
			}
			stalled++
			voter = voter || server.Suffrage == raft.Voter
		}
		s.metrics.stalled.Set(float64(stalled))
		if s.space.closed.Load() && ctx.Err() == nil {
			s.handOverFull(ctx)
		}
		if voter && ctx.Err() == nil {
			s.handOverStalled(ctx)
		}
	}
}

// stalls says whether a follower that answered has not moved for too long. target was in our log one look earlier.
func (s *Store) stalls(server raft.Server, status NodeStatus, target uint64, seen map[raft.ServerID]progress) bool {
	last, known := seen[server.ID]
	first, _ := s.log.FirstIndex() // never fails: kept in memory
	if !known || status.LastIndex != last.index || status.LastIndex >= target || status.LastIndex+1 < first {
		seen[server.ID] = progress{index: status.LastIndex, since: time.Now()} // the last case: it is being sent a snapshot
		return false
	}
	stuck := time.Since(last.since)
	if stuck < s.cfg.StallTimeout {
		return false
	}
	s.cfg.Logger.Warn("a follower answers and does not get further", slog.String("follower", lifeOf(server.ID).ID),
		slog.Uint64("its_index", status.LastIndex), slog.Uint64("log_index", target), slog.Duration("for", stuck))
	return true
}

// handOverFull gives the leadership to a voter whose disk has room: on this node's, only essential commands are taken. If there is none that
// is fit to lead, it stays where it is, so that those are.
func (s *Store) handOverFull(ctx context.Context) {
	to, err := s.Successor(ctx, "")
	if err != nil || to.Status.DiskFull {
		return
	}
	err = s.HandTo(ctx, to)
	s.cfg.Logger.Warn("this disk is nearly full: handing the leadership to a node that has room", slog.String("to", to.ID), slog.Any("cause", err))
}

func (s *Store) handOverStalled(ctx context.Context) {
	if now := time.Now(); s.handedOver.IsZero() || now.Sub(s.handedOver) >= watchHandover {
		s.handedOver = now
		err := s.TransferLeadership(ctx, "")
		s.cfg.Logger.Warn("handed over the leadership because of a stalled follower", slog.Any("error", err))
	}
}
