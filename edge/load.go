package edge

import (
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"machineid/shared/orgkey"
	"machineid/shared/toplist"
)

// load tells how long validates take and whose they are. Every miss is measured, and one hit of sampleEvery: that costs the others
// a random number, and a look at the clock for each would be a hundredth of what a hit costs in all.
type load struct {
	hit, miss  prometheus.Observer
	hits, asks toplist.List[orgID] // misses are what asks the authority
}

const (
	sampleEvery = 64
	// topMax is of how many orgs the rate is told.
	topMax = 10
)

func newLoad(reg prometheus.Registerer) *load {
	seconds := promauto.With(reg).NewHistogramVec(prometheus.HistogramOpts{
		Name:    "machineid_edge_validate_seconds",
		Help:    "Time from a whole validate to its answer, by whether memory answered. Of hits it is that of one in 64.",
		Buckets: prometheus.ExponentialBuckets(2e-6, 2, 20), // 2 µs to 1 s
	}, []string{"cache"})
	l := &load{hit: seconds.WithLabelValues("hit"), miss: seconds.WithLabelValues("miss")}
	if reg != nil {
		reg.MustRegister(topOrgs{l})
	}
	return l
}

// answered counts a validate that was there whole at began: for every miss, and for one hit of sampleEvery.
func (l *load) answered(m *memory, sum *orgkey.Hash, hit bool, began time.Time) {
	now := time.Now()
	took := now.Sub(began).Seconds()
	org, known := m.orgOf(sum)
	if hit {
		l.hit.Observe(took)
		if known {
			l.hits.Add(org, sampleEvery, now)
		}
		return
	}
	l.miss.Observe(took)
	if known {
		l.asks.Add(org, 1, now)
	}
}

// orgOf returns whose a key is, if that is remembered, whether or not it still counts.
func (m *memory) orgOf(sum *orgkey.Hash) (org orgID, known bool) {
	if m == nil {
		return org, false
	}
	k := m.frontOf(sum).Load()
	if k == nil || k.sum != *sum {
		var ok bool
		if k, ok = m.keys.Get(m.hasher.Key((*[32]byte)(sum))); !ok || k.sum != *sum {
			return org, false
		}
	}
	return k.org, k.rec.Known
}

// topOrgs collects the rates of the orgs that have most validates answered. There are never more than topMax for each kind.
type topOrgs struct{ load *load }

var topDesc = prometheus.NewDesc("machineid_edge_top_org_validates",
	"Validates a second of the orgs that ask most, over the last minute, by whether memory answered. Hits are estimated by one in 64.",
	[]string{"org", "cache"}, nil)

func (topOrgs) Describe(to chan<- *prometheus.Desc) { to <- topDesc }

func (t topOrgs) Collect(to chan<- prometheus.Metric) {
	now := time.Now()
	for cache, list := range map[string]*toplist.List[orgID]{"hit": &t.load.hits, "miss": &t.load.asks} {
		for _, r := range list.Top(topMax, now) {
			to <- prometheus.MustNewConstMetric(topDesc, prometheus.GaugeValue, r.PerSecond, uuid.UUID(r.Of).String(), cache)
		}
	}
}
