package raftstore

import (
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// storeMetrics are the measures of one store. The children of each label are resolved once. Without a registerer they count
// for nobody, which is cheaper than asking each time.
type storeMetrics struct {
	registerer prometheus.Registerer
	collectors []prometheus.Collector

	done, notDone, unknown prometheus.Counter
	overloaded, noSpace    prometheus.Counter
	packCommands           prometheus.Histogram
	appendSeconds          prometheus.Histogram
	appendEntries          prometheus.Counter
	appendBytes            prometheus.Counter
	applySeconds           prometheus.Histogram
	applyCommands          prometheus.Counter
	stalled                prometheus.Gauge
	commitSeconds          prometheus.Histogram
	fsyncSeconds           prometheus.Histogram
	snapshotSeconds        prometheus.Histogram
	checkpointSeconds      prometheus.Histogram
	installSeconds         prometheus.Histogram
	leaderChanges          prometheus.Counter
	diskSlow               prometheus.Counter
	backgroundErrors       perDB
	stalls, stallSeconds   perDB

	pebble *pebbleStats // nil until registered
}

// perDB are the two children of a metric with the label db.
type perDB struct{ log, state prometheus.Counter }

// With returns the child of a database.
func (p perDB) With(db string) prometheus.Counter {
	if db == nameLog {
		return p.log
	}
	return p.state
}

func newStoreMetrics(r prometheus.Registerer) *storeMetrics {
	const ns = "raftstore"
	proposals := prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: ns, Name: "proposals_total",
		Help: "Commands that were handed to Raft, by what is known of their outcome.",
	}, []string{"outcome"})
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Name: name, Help: help})
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: ns, Name: name, Help: help, Buckets: buckets})
	}
	var vecs []prometheus.Collector
	byDB := func(name, help string) perDB {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Name: name, Help: help}, []string{"db"})
		vecs = append(vecs, v)
		return perDB{log: v.WithLabelValues("log"), state: v.WithLabelValues("state")}
	}
	seconds := prometheus.ExponentialBuckets(50e-6, 2, 18) // 50 µs to 6.5 s
	m := &storeMetrics{
		registerer:    r,
		done:          proposals.WithLabelValues("applied"),
		notDone:       proposals.WithLabelValues("not_done"),
		unknown:       proposals.WithLabelValues("unknown"),
		overloaded:    counter("overloaded_total", "Commands refused because too much was under way."),
		noSpace:       counter("no_space_total", "Commands refused because the disk was nearly full."),
		packCommands:  histogram("pack_commands", "Commands in one Raft entry.", prometheus.ExponentialBuckets(1, 2, 10)),
		appendSeconds: histogram("log_append_seconds", "Time to append entries to the log and sync it.", seconds),
		appendEntries: counter("log_append_entries_total", "Entries appended to the log."),
		appendBytes:   counter("log_append_bytes_total", "Bytes appended to the log."),
		applySeconds:  histogram("apply_seconds", "Time to apply a batch of committed entries.", seconds),
		applyCommands: counter("apply_commands_total", "Commands applied."),
		commitSeconds: histogram("commit_seconds", "Time from handing an entry of commands to Raft until it was applied here.", seconds),
		fsyncSeconds:  histogram("log_fsync_seconds", "Time of one sync of the log's WAL.", seconds),
		snapshotSeconds: histogram("snapshot_seconds",
			"Time to make the state durable, after which the log may be truncated.", seconds),
		checkpointSeconds: histogram("checkpoint_seconds", "Time to make a checkpoint for followers.", seconds),
		installSeconds:    histogram("install_seconds", "Time to install a received snapshot.", seconds),
		leaderChanges:     counter("leader_changes_total", "Elections whose winner this node learnt of."),
		diskSlow:          counter("disk_slow_total", "Operations on files that took longer than DiskSlowAfter."),
		backgroundErrors:  byDB("background_errors_total", "Flushes and compactions that failed; the first ends the process."),
		stalls:            byDB("write_stalls_total", "How often Pebble made writes wait for flushes or compactions."),
		stallSeconds:      byDB("write_stall_seconds_total", "How long Pebble made writes wait."),
		stalled: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: ns, Name: "followers_stalled", Help: "Followers that answer this leader and do not get further.",
		}),
	}
	m.collectors = vecs
	m.collectors = append(m.collectors,
		proposals, m.overloaded, m.noSpace, m.packCommands, m.appendSeconds, m.appendEntries, m.appendBytes, m.applySeconds,
		m.applyCommands, m.commitSeconds, m.fsyncSeconds, m.snapshotSeconds, m.checkpointSeconds, m.installSeconds,
		m.leaderChanges, m.diskSlow, m.stalled)
	return m
}

// register adds the gauges of a running store and makes everything visible. It registers all or nothing.
func (m *storeMetrics) register(s *Store) error {
	if m.registerer == nil {
		return nil
	}
	m.addGauges(s)
	m.pebble = newPebbleStats(s.caches, s.logDB.Metrics, s.stateMetrics, layout{fs: s.cfg.FS, root: s.cfg.Dir}.usage)
	m.collectors = append(m.collectors, m.pebble)
	for i, c := range m.collectors {
		if err := m.registerer.Register(c); err != nil {
			m.collectors = m.collectors[:i]
			m.unregister()
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}

func (m *storeMetrics) unregister() {
	if m.registerer == nil {
		return
	}
	for _, c := range m.collectors {
		m.registerer.Unregister(c)
	}
}

func (m *storeMetrics) now() time.Time { return time.Now() }

func (m *storeMetrics) appended(entries, bytes int, began time.Time) {
	m.appendSeconds.Observe(time.Since(began).Seconds())
	m.appendEntries.Add(float64(entries))
	m.appendBytes.Add(float64(bytes))
}

func (m *storeMetrics) applied(commands int, began time.Time) {
	m.applySeconds.Observe(time.Since(began).Seconds())
	m.applyCommands.Add(float64(commands))
}

func (m *storeMetrics) packed(n int) { m.packCommands.Observe(float64(n)) }
func (m *storeMetrics) refused()     { m.overloaded.Inc() }

func (m *storeMetrics) took(h prometheus.Histogram, began time.Time) {
	h.Observe(time.Since(began).Seconds())
}

func (m *storeMetrics) answered(n int, began time.Time, err error) {
	switch {
	case err == nil:
		m.took(m.commitSeconds, began)
		m.done.Add(float64(n))
	case errors.Is(err, ErrOutcomeUnknown):
		m.unknown.Add(float64(n))
	default:
		m.notDone.Add(float64(n))
	}
}
