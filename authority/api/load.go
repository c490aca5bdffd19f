package api

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"machineid/authority/state"
	"machineid/shared/toplist"
)

// load tells whose calls this node serves, for the few who make most of it: how many, and how many of them are under way at once.
type load struct {
	requests, seconds toplist.List[client]
}

// client is who calls: a key, or an operator for an org or for none.
type client struct{ org, actor string }

// topMax is for how many clients the load is told.
const topMax = 10

var (
	topRequests = prometheus.NewDesc("machineid_api_top_requests",
		"Calls a second of the clients that make most of them, over the last minute. Validates are not among them.", []string{"org", "key"}, nil)
	topBusy = prometheus.NewDesc("machineid_api_top_busy",
		"Calls under way at once, on average over the last minute, of the clients that keep this node busiest.", []string{"org", "key"}, nil)
)

func newLoad(reg prometheus.Registerer) *load {
	l := &load{}
	if reg != nil {
		reg.MustRegister(l)
	}
	return l
}

// Describe and Collect make load a collector.
func (l *load) Describe(to chan<- *prometheus.Desc) {
	to <- topRequests
	to <- topBusy
}

func (l *load) Collect(to chan<- prometheus.Metric) {
	now := time.Now()
	for desc, list := range map[*prometheus.Desc]*toplist.List[client]{topRequests: &l.requests, topBusy: &l.seconds} {
		for _, r := range list.Top(topMax, now) {
			to <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, r.PerSecond, r.Of.org, r.Of.actor)
		}
	}
}

// served counts a call that this node served to its end: for its client, and among the changes if it is one that is in force.
func (m *metrics) served(r *request, err error, took time.Duration) {
	if err == nil && r.committed && r.status != fasthttp.StatusAccepted {
		m.changes.Observe(took.Seconds())
	}
	if r.actor.GetId() == "" {
		return // nothing is proved of who it is
	}
	who, now := client{actor: r.actor.GetId()}, time.Now()
	if r.org != (state.OrgID{}) {
		who.org = r.org.String()
	}
	m.load.requests.Add(who, 1, now)
	m.load.seconds.Add(who, took.Seconds(), now)
}
