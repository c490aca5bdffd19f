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
	overloaded             prometheus.Counter
	packCommands           prometheus.Histogram
	appendSeconds          prometheus.Histogram
	appendEntries          prometheus.Counter
	appendBytes            prometheus.Counter
	applySeconds           prometheus.Histogram
	applyCommands          prometheus.Counter
	stalled                prometheus.Gauge
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
	seconds := prometheus.ExponentialBuckets(50e-6, 2, 18) // 50 µs to 6.5 s
	m := &storeMetrics{
		registerer:    r,
		done:          proposals.WithLabelValues("applied"),
		notDone:       proposals.WithLabelValues("not_done"),
		unknown:       proposals.WithLabelValues("unknown"),
		overloaded:    counter("overloaded_total", "Commands refused because too much was under way."),
		packCommands:  histogram("pack_commands", "Commands in one Raft entry.", prometheus.ExponentialBuckets(1, 2, 10)),
		appendSeconds: histogram("log_append_seconds", "Time to append entries to the log and sync it.", seconds),
		appendEntries: counter("log_append_entries_total", "Entries appended to the log."),
		appendBytes:   counter("log_append_bytes_total", "Bytes appended to the log."),
		applySeconds:  histogram("apply_seconds", "Time to apply a batch of committed entries.", seconds),
		applyCommands: counter("apply_commands_total", "Commands applied."),
		stalled: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: ns, Name: "followers_stalled", Help: "Followers that answer this leader and do not get further.",
		}),
	}
	m.collectors = []prometheus.Collector{
		m.stalled, proposals, m.overloaded, m.packCommands, m.appendSeconds, m.appendEntries, m.appendBytes, m.applySeconds, m.applyCommands,
	}
	return m
}

// register adds the gauges of a running store and makes everything visible. It registers all or nothing.
func (m *storeMetrics) register(s *Store) error {
	if m.registerer == nil {
		return nil
	}
	gauge := func(name, help string, read func() float64) {
		m.collectors = append(m.collectors, prometheus.NewGaugeFunc(
			prometheus.GaugeOpts{Namespace: "raftstore", Name: name, Help: help}, read))
	}
	gauge("leading", "1 while this node leads and has applied a barrier of its term.", func() float64 {
		if _, ok := s.Leading(); ok {
			return 1
		}
		return 0
	})
	gauge("term", "Raft term of this node.", func() float64 { return float64(s.raft.CurrentTerm()) })
	gauge("applied_index", "Index of the last applied entry.", func() float64 { return float64(s.Applied().Index) })
	gauge("durable_index", "Index up to which the state is known to be on disk.", func() float64 {
		return float64(s.fsm.durable.Load().applied.Index)
	})
	gauge("log_last_index", "Index of the newest log entry.", func() float64 { return float64(s.raft.LastIndex()) })
	gauge("pending_bytes", "Bytes of the commands that wait for their outcome.", func() float64 {
		s.packer.mu.Lock()
		defer s.packer.mu.Unlock()
		return float64(s.packer.bytes)
	})
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

func (m *storeMetrics) answered(n int, err error) {
	switch {
	case err == nil:
		m.done.Add(float64(n))
	case errors.Is(err, ErrOutcomeUnknown):
		m.unknown.Add(float64(n))
	default:
		m.notDone.Add(float64(n))
	}
}
