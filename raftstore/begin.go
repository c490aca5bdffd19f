package raftstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/hashicorp/raft"
)

// ErrInCluster is what Begin is refused with at a store that a cluster has taken in, or that has begun one already. The text names it.
var ErrInCluster = errors.New("there is a cluster already")

// Begin begins a cluster of this one node while it runs, as Config.Bootstrap does at the start of an empty one. It comes into force with the
// cluster's name in the folder: what is cut off after that, the next Open does by itself, and Begin may be repeated until the node has led.
// It is refused (ErrRefused with ErrInCluster) where a cluster has taken the store in, also if that has sent nothing yet. Nobody is asked
// whether there is a cluster elsewhere: that is the caller's part. For the outcomes see AddNonvoter. The node leads in a moment.
func (s *Store) Begin(ctx context.Context) error {
	s.admitting.Lock()
	defer s.admitting.Unlock()
	if err := s.begin(ctx); err != nil {
		return fmt.Errorf("begin a cluster: %w", err)
	}
	return nil
}

func (s *Store) begin(ctx context.Context) error {
	if !s.pinned.Load().Began || s.Applied().Index > 0 {
		if err := s.door.begin(randomID()); err != nil {
			return err
		}
		s.cfg.Logger.Info("a cluster begins with this node", slog.String("cluster", s.clusterName()))
	}
	// raft writes term and entry apart. If a crash comes between, beginAtOpen writes both.
	if last, _ := s.log.LastIndex(); last == 0 {
		if err := s.await(ctx, func() raft.Future { return s.raft.BootstrapCluster(s.alone()) }); err != nil {
			return err
		}
	}
	s.leadAlone()
	return nil
}

// alone is the membership that a cluster begins with.
func (s *Store) alone() raft.Configuration {
	return raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: s.life().server(), Address: s.advertised()}}}
}

// beginAtOpen begins a cluster of this node if it has no state at all and is in no cluster, or completes what was begun. The steps may repeat
// after a crash: the last one decides.
func (s *Store) beginAtOpen(meta stateMeta) error {
	term, err := s.log.GetUint64([]byte(keyCurrentTerm))
	if err != nil {
		return err
	}
	last, _ := s.log.LastIndex() // never fails: kept in memory
	switch {
	case last > 0 || meta.applied.Index > 0:
		return nil
	case s.ident.Began:
		if term > 1 {
			return nil // it has voted since: there was an entry, and the log does not have it any more
		}
	case s.ident.Cluster != "" || term > 0:
		return nil // taken in by a cluster that has sent nothing yet
	default:
		if err := s.nameCluster(randomID(), true); err != nil {
			return err
		}
	}
	if err := s.writeLogIdent(); err != nil {
		return err
	}
	return s.log.bootstrap(s.alone())
}
