package raftstore

import (
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// watchFS puts what watches the disk over Config.FS: from below, the check for slow operations, the time of syncs, and the release
// of the ballast on a full disk. All of raftstore's own files are watched too. Pebble would check for slow operations by itself
// only if it chose the file system.
func (s *Store) watchFS() {
	fs := s.cfg.FS
	if s.cfg.DiskSlowAfter > 0 {
		fs, s.slowCheck = vfs.WithDiskHealthChecks(fs, s.cfg.DiskSlowAfter, nil, s.diskSlow)
	}
	fs = timedFS{FS: fs, observe: func(d time.Duration) { s.metrics.fsyncSeconds.Observe(d.Seconds()) }}
	s.fs = vfs.OnDiskFull(fs, s.space.fullDisk)
}

// diskSlow is called on the goroutine that watches, which must never wait for a disk.
func (s *Store) diskSlow(info vfs.DiskSlowInfo) {
	s.metrics.diskSlow.Inc()
	s.aside.do(func() {
		s.cfg.Logger.Warn("the disk is slow", slog.String("operation", info.OpType.String()), slog.String("file", info.Path),
			slog.Duration("for", info.Duration))
	})
}

// events turns one database's reports into faults, metrics and log lines. Most are sent with Pebble's mutex held, so nothing here
// may wait.
type events struct {
	log      pebbleLogger
	metrics  *storeMetrics
	aside    *aside
	lowSpace func() // looks at the disk at once

	stalled atomic.Pointer[time.Time] // nil: writes do not stall
}

func (e *events) listener() *pebble.EventListener {
	return &pebble.EventListener{
		BackgroundError: e.backgroundError,
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			e.trip(fmt.Errorf("%s database: file %s is corrupt: %w", e.log.name, info.Path, info.Details))
		},
		WriteStallBegin: e.stallBegin,
		WriteStallEnd:   e.stallEnd,
		LowDiskSpace: func(info pebble.LowDiskSpaceInfo) {
			e.lowSpace()
			e.aside.do(func() {
				e.log.logger.Warn("disk space runs low", slog.String("db", e.log.name), slog.Uint64("disk_left", info.AvailBytes),
					slog.Uint64("disk_total", info.TotalBytes), slog.Int("percent_threshold", info.PercentThreshold))
			})
		},
	}
}

// backgroundError ends the process. Pebble retries a failing flush for ever, without a pause, while writers wait for it; on a full
// disk that is a hang, and a compaction that fails there fills the disk again each time.
func (e *events) backgroundError(err error) {
	e.metrics.backgroundErrors.With(e.log.name).Inc()
	e.trip(fmt.Errorf("%s database: background work failed: %w", e.log.name, err))
}

func (e *events) trip(err error) {
	if e.log.fault.err() != nil {
		return
	}
	e.log.fault.record(err)
	go e.log.fault.fail(err) // the hook must not run under Pebble's mutex
}

func (e *events) stallBegin(info pebble.WriteStallBeginInfo) {
	began := time.Now()
	e.stalled.Store(&began)
	e.metrics.stalls.With(e.log.name).Inc()
	e.aside.do(func() {
		e.log.logger.Warn("writes stall", slog.String("db", e.log.name), slog.String("reason", info.Reason))
	})
}

func (e *events) stallEnd() {
	began := e.stalled.Swap(nil)
	if began == nil {
		return
	}
	took := time.Since(*began)
	e.metrics.stallSeconds.With(e.log.name).Add(took.Seconds())
	e.aside.do(func() {
		e.log.logger.Info("writes go on", slog.String("db", e.log.name), slog.Duration("after", took))
	})
}
