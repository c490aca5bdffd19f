package edge

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"machineid/shared/clock"
	"machineid/shared/decision"
)

// metrics are resolved once: on the hot path one is an atomic addition.
type metrics struct {
	hits, misses  []prometheus.Counter // by code
	invalidations prometheus.Counter
	sessions      prometheus.Counter
	resets        prometheus.Counter
	foreign       prometheus.Counter
	proxyErrors   prometheus.Counter
	unreported    prometheus.Counter

	noLink, tooSlow, crowded, unreadable, rateLimited prometheus.Counter

	limited map[string]prometheus.Counter // by limit
	load    *load
}

func newMetrics(reg prometheus.Registerer, e *Edge) metrics {
	f := promauto.With(reg)
	count := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	validates := f.NewCounterVec(prometheus.CounterOpts{
		Name: "machineid_edge_validates_total", Help: "Validates answered, by code and by whether memory answered.",
	}, []string{"code", "cache"})
	unavailable := f.NewCounterVec(prometheus.CounterOpts{
		Name: "machineid_edge_unavailable_total", Help: "Validates denied because the edge could not prove an answer, by cause.",
	}, []string{"cause"})
	m := metrics{
		invalidations: count("machineid_edge_invalidations_total", "Invalidations put in force."),
		sessions:      count("machineid_edge_sessions_total", "Sessions begun with the authority."),
		resets:        count("machineid_edge_session_resets_total", "Sessions that began with an empty memory."),
		foreign:       count("machineid_edge_foreign_total", "Sessions that were refused because the node is of another cluster."),
		proxyErrors:   count("machineid_edge_proxy_errors_total", "Calls passed on that got no answer."),
		unreported:    count("machineid_edge_sightings_dropped_total", "Times at which a device asked that found no room in a report."),
		noLink:        unavailable.WithLabelValues("no_link"),
		tooSlow:       unavailable.WithLabelValues("slow_fetch"),
		crowded:       unavailable.WithLabelValues("too_many_waiting"),
		unreadable:    unavailable.WithLabelValues("newer_record"),
		rateLimited:   unavailable.WithLabelValues("rate_limited"),
		limited: limitCounters(f.NewCounterVec(prometheus.CounterOpts{
			Name: "machineid_edge_limited_total", Help: "Requests refused because of a rate limit, by limit.",
		}, []string{"limit"})),
		load: newLoad(reg),
	}
	n := len(decision.Codes()) + 1
	m.hits, m.misses = make([]prometheus.Counter, n), make([]prometheus.Counter, n)
	for _, c := range decision.Codes() {
		m.hits[c] = validates.WithLabelValues(c.String(), "hit")
		m.misses[c] = validates.WithLabelValues(c.String(), "miss")
	}
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "machineid_edge_lease_seconds", Help: "How long the lease still runs; 0 without one.",
	}, func() float64 { return max(0, clock.Time(e.lease.Load()).Sub(e.clock.Now()).Seconds()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "machineid_edge_lease_age_seconds", Help: "How long ago the newest lease was asked for; 0 before the first.",
	}, func() float64 {
		asked := e.asked.Load()
		if asked == 0 {
			return 0
		}
		return e.clock.Now().Sub(clock.Time(asked)).Seconds()
	})
	f.NewCounterFunc(prometheus.CounterOpts{
		Name: "machineid_edge_floor_misses_total", Help: "Entries found in memory that did not count because an invalidation was newer.",
	}, func() float64 { return float64(e.caches.overtaken.Load()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "machineid_edge_entries", Help: "Keys, orgs and devices in memory, those that do not count any more among them.",
	}, func() float64 { return float64(e.caches.entries()) })
	f.NewCounterFunc(prometheus.CounterOpts{
		Name: "machineid_edge_evictions_total", Help: "Known keys, orgs and devices that were dropped from memory to make room.",
	}, func() float64 { return float64(e.caches.evicted.Load()) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "machineid_edge_waiting", Help: "Validates that wait for the authority now.",
	}, func() float64 { return float64(e.waiting.Load()) })
	return m
}

// limit counts a validate that was denied because a fetch of this kind was over its
// limit.
func (m *metrics) limit(kind byte) {
	m.rateLimited.Inc()
	m.limited[pick(kind == needKey, "unknown_keys", "unknown_devices")].Inc()
}

func (m *metrics) answered(c decision.Code, hit bool) {
	if hit {
		m.hits[c].Inc()
	} else {
		m.misses[c].Inc()
	}
}
