package raftstore

import (
	"log/slog"
	"time"
)

const (
	trimRetry   = time.Second
	leastLogs   = 16
	trimDivisor = 2 // the share of MaxLogBytes that is left after trimming
)

// trim keeps the log below MaxLogBytes, about. raft counts entries, and a packed one may have half a megabyte: the threshold
// and the trailing entries of raft's own snapshots could stand for gigabytes.
func (s *Store) trim() {
	retry := time.NewTimer(trimRetry)
	defer retry.Stop()
	for {
		select {
		case <-s.gone:
			return
		case <-s.fault.tripped():
			return
		case <-s.log.full:
		}
		if s.trimNow() {
			continue
		}
		retry.Reset(trimRetry) // a configuration may be uncommitted, or the state behind
		select {
		case <-s.gone:
			return
		case <-s.fault.tripped():
			return
		case <-retry.C:
		}
	}
}

// trimNow takes a snapshot that leaves fewer entries than usual. It returns whether the log is small enough now.
func (s *Store) trimNow() bool {
	bytes, entries := s.log.size()
	if bytes <= s.cfg.MaxLogBytes {
		return true
	}
	usual := s.raft.ReloadableConfig()
	few := usual
	keep := float64(entries) * float64(s.cfg.MaxLogBytes/trimDivisor) / float64(bytes)
	few.TrailingLogs = min(usual.TrailingLogs, max(uint64(keep), leastLogs))
	if err := s.raft.ReloadConfig(few); err != nil {
		s.cfg.Logger.Error("trimming the log failed", slog.Any("cause", err))
		return false
	}
	taken := make(chan error, 1)
	future := s.raft.Snapshot()
	go func() { taken <- future.Error() }() // a fault on raft's own goroutine leaves nobody to answer
	var err error
	select {
	case err = <-taken:
	case <-s.fault.tripped():
		return false
	}
	if rerr := s.raft.ReloadConfig(usual); rerr != nil {
		s.cfg.Logger.Error("going back to the usual length of the log failed", slog.Any("cause", rerr))
	}
	after, _ := s.log.size()
	s.cfg.Logger.Info("log trimmed because of its size",
		slog.Int64("bytes_before", bytes), slog.Int64("bytes_after", after), slog.Any("cause", err))
	return err == nil && after <= s.cfg.MaxLogBytes
}
