package raftstore

import (
	"math"
	"strconv"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
)

// addGauges adds what is read from a running store when it is asked for. Nothing here may wait for a disk. Raft's figures are a
// chosen few, read from it: its own go to a sink that is one for the whole process.
func (m *storeMetrics) addGauges(s *Store) {
	gauge := func(name, help string, read func() float64) {
		m.collectors = append(m.collectors, prometheus.NewGaugeFunc(
			prometheus.GaugeOpts{Namespace: "raftstore", Name: name, Help: help}, read))
	}
	flag := func(b bool) float64 {
		if b {
			return 1
		}
		return 0
	}
	gauge("leading", "1 while this node leads and has applied a barrier of its term.", func() float64 {
		_, ok := s.Leading()
		return flag(ok)
	})
	gauge("ready", "1 while Health has nothing to say.", func() float64 { return flag(s.Health() == nil) })
	gauge("applied_index", "Index of the last applied entry.", func() float64 { return float64(s.Applied().Index) })
	gauge("applied_lag_entries", "Committed entries that are not applied yet.", func() float64 { return float64(s.lag()) })
	gauge("durable_index", "Index up to which the state is known to be on disk.", func() float64 {
		return float64(s.fsm.durable.Load().applied.Index)
	})
	gauge("log_last_index", "Index of the newest log entry.", func() float64 { return float64(s.raft.LastIndex()) })
	gauge("log_bytes", "Bytes of the log's entries, about.", func() float64 {
		bytes, _ := s.log.size()
		return float64(bytes)
	})
	gauge("pending_bytes", "Bytes of the commands that wait for their outcome.", func() float64 { return float64(s.packer.pending()) })
	gauge("backup_timestamp_seconds", "When a backup of this node that lacked nothing was last kept, in Unix time; 0: never.", func() float64 {
		if b := s.lastBackup.Load(); b != nil {
			return float64(b.At.UnixMilli()) / 1000
		}
		return 0
	})
	gauge("stuck_write_seconds", "Age of a write that hangs, 0 if none does.", func() float64 {
		if w := s.watch.stuck.Load(); w != nil {
			return w.age.Seconds()
		}
		return 0
	})
	if !s.space.mute {
		disk := func(of func(u *vfs.DiskUsage) uint64) func() float64 {
			return func() float64 {
				if u := s.space.usage.Load(); u != nil {
					return float64(of(u))
				}
				return math.NaN() // it has not said yet
			}
		}
		gauge("disk_left_bytes", "Bytes that are left on the disk of the data folder.", disk(func(u *vfs.DiskUsage) uint64 { return u.AvailBytes }))
		gauge("disk_size_bytes", "Bytes of the disk of the data folder.", disk(func(u *vfs.DiskUsage) uint64 { return u.TotalBytes }))
		gauge("disk_reserve_bytes", "Bytes below which only essential commands are taken.", disk(func(u *vfs.DiskUsage) uint64 {
			reserve, _ := s.space.limits(u.TotalBytes)
			return reserve
		}))
		gauge("disk_full", "1 while only essential commands are taken.", func() float64 { return flag(s.space.closed.Load()) })
		gauge("ballast_bytes", "Bytes held back for a full disk.", func() float64 { return float64(s.space.ballast.size.Load()) })
	}
	addRaftGauges(s.raft, gauge)
}

func addRaftGauges(r *raft.Raft, gauge func(name, help string, read func() float64)) {
	gauge("term", "Raft term of this node.", func() float64 { return float64(r.CurrentTerm()) })
	gauge("raft_commit_index", "Index up to which this node knows entries to be committed.", func() float64 {
		return float64(r.CommitIndex())
	})
	gauge("raft_last_contact_seconds", "Time since this node heard from its leader; 0 while it leads, -1 if it never did.",
		func() float64 {
			switch last := r.LastContact(); {
			case r.State() == raft.Leader:
				return 0
			case last.IsZero():
				return -1
			default:
				return time.Since(last).Seconds()
			}
		})
	gauge("raft_apply_queue_batches", "Batches of entries that wait to be applied.", func() float64 {
		n, _ := strconv.ParseFloat(r.Stats()["fsm_pending"], 64)
		return n
	})
	gauge("raft_voters", "Voters in the newest configuration this node knows.", func() float64 {
		conf := r.GetConfiguration()
		if conf.Error() != nil {
			return 0
		}
		voters := 0
		for _, s := range conf.Configuration().Servers {
			if s.Suffrage == raft.Voter {
				voters++
			}
		}
		return float64(voters)
	})
}

// stateMetrics returns Pebble's figures of the state, nil if there is none any more.
func (s *Store) stateMetrics() *pebble.Metrics {
	st, err := s.states.acquire()
	if err != nil {
		return nil
	}
	defer st.release()
	return st.db.Metrics()
}
