package hub

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// refusal is why a session was refused or ended: because of what its edge did.
type refusal int

const (
	refusedFrame refusal = iota
	refusedLimit
	refusedConnection
	refusedLate
	refusedDeaf
	refusedMute
	refusals
)

// labels of refusals.
var labels = [refusals]string{"frame", "limit", "connection", "late", "deaf", "mute"}

// reasons are those that an edge is told.
var reasons = [refusals]string{refusedMute: "the edge renews its lease and does not acknowledge changes"}

type metrics struct {
	refused          [refusals]prometheus.Counter
	grants, fetches  prometheus.Counter
	changes, expired prometheus.Counter
	waited           prometheus.Counter
	resumed, resets  prometheus.Counter
	settle, holders  prometheus.Histogram
	acks             prometheus.Histogram
	unseen, paced    prometheus.Counter
}

func newMetrics(reg prometheus.Registerer, h *Hub) metrics {
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "machineid_link_sessions", Help: "Edges with a session, or with a lease left from one.",
	}, func() float64 {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.reign == nil {
			return 0
		}
		return float64(len(h.reign.sessions))
	})
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "machineid_link_queued_bytes", Help: "Bytes that wait to be sent to edges, about.",
	}, func() float64 { return float64(h.outgoing.Load()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "machineid_link_held_seconds", Help: "How much longer changes wait at most for leases of the leader before.",
	}, func() float64 {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.reign == nil {
			return 0
		}
		return max(0, h.reign.held(h.cfg.Clock.Now())).Seconds()
	})
	ended := f.NewCounterVec(prometheus.CounterOpts{
		Name: "machineid_link_refused_total", Help: "Sessions and connections that were refused or ended because of what an edge did, by reason.",
	}, []string{"reason"})
	var refused [refusals]prometheus.Counter
	for i := range refused {
		refused[i] = ended.WithLabelValues(labels[i])
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "machineid_link_behind_seconds", Help: "How long ago the oldest change was sent that an edge has not acknowledged; 0 if all have.",
	}, func() float64 {
		var most time.Duration
		for _, s := range h.Sessions() {
			most = max(most, s.BehindFor)
		}
		return most.Seconds()
	})
	return metrics{
		refused: refused,
		grants: f.NewCounter(prometheus.CounterOpts{
			Name: "machineid_link_grants_total", Help: "Leases granted to edges.",
		}),
		fetches: f.NewCounter(prometheus.CounterOpts{
			Name: "machineid_link_fetches_total", Help: "Records asked for by edges.",
		}),
		changes: f.NewCounter(prometheus.CounterOpts{
			Name: "machineid_link_changes_total", Help: "Changes that edges had to be told of.",
		}),
		expired: f.NewCounter(prometheus.CounterOpts{
			Name: "machineid_link_expiries_total", Help: "Edges whose lease had to run out because they did not acknowledge a change.",
		}),
		waited: f.NewCounter(prometheus.CounterOpts{
			Name: "machineid_link_changes_expired_total", Help: "Changes that waited until the lease of an edge had run out.",
		}),
		unseen: f.NewCounter(prometheus.CounterOpts{
			Name: "machineid_link_sightings_dropped_total", Help: "Times at which a device asked that were not recorded: unknown to the org, or too many at once.",
		}),
		paced: f.NewCounter(prometheus.CounterOpts{
			Name: "machineid_link_paced_total", Help: "Frames of edges that waited because their session asked for more than its share of the processor.",
		}),
		resumed: f.NewCounter(prometheus.CounterOpts{
			Name: "machineid_link_resumes_total", Help: "Sessions that went on with what the edge remembered.",
		}),
		resets: f.NewCounter(prometheus.CounterOpts{
			Name: "machineid_link_resets_total", Help: "Sessions that began with an empty memory.",
		}),
		holders: f.NewHistogram(prometheus.HistogramOpts{
			Name: "machineid_link_change_holders", Help: "Sessions that had to be told of a change, of those changes that any had to be told of.",
			Buckets: prometheus.ExponentialBuckets(1, 2, 12),
		}),
		acks: f.NewHistogram(prometheus.HistogramOpts{
			Name: "machineid_link_ack_seconds", Help: "Time from the dispatch of a change until an edge acknowledged it.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 17),
		}),
		settle: f.NewHistogram(prometheus.HistogramOpts{
			Name: "machineid_link_settle_seconds", Help: "Time from the dispatch of a change until no edge could answer from before it.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 17),
		}),
	}
}

func (m *metrics) settled(p Propagation) {
	m.changes.Inc()
	m.expired.Add(float64(p.Expired))
	if p.Expired > 0 {
		m.waited.Inc()
	}
	m.settle.Observe(p.ElapsedMs / 1000)
	m.holders.Observe(float64(p.Edges))
}
