package billing

import (
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// Heard is what became of a webhook, for the metric.
type Heard string

// What may become of one. Stripe sends again what is refused or failed.
const (
	HeardChanged   Heard = "changed"   // an org's billing is another
	HeardUnchanged Heard = "unchanged" // it came before, or told nothing new
	HeardIgnored   Heard = "ignored"   // about nobody here
	HeardRefused   Heard = "refused"   // its signature or form is wrong
	HeardFailed    Heard = "failed"    // not answered with 200: Stripe or the state did not answer
)

// What may become of one call of Stripe's API.
const (
	callOK          = "ok"
	callRefused     = "refused"     // 4xx: asking the same again does not help
	callBusy        = "busy"        // 409, 429
	callFailed      = "failed"      // 5xx
	callUnreachable = "unreachable" // no answer in time
)

// metrics are resolved once; their labels are few and fixed.
type metrics struct {
	webhooks map[Heard]prometheus.Counter
	calls    map[string]callMetrics
	compared map[string]prometheus.Counter
	lastSync prometheus.Gauge
	twice    prometheus.Gauge
}

type callMetrics struct {
	results map[string]prometheus.Counter
	seconds prometheus.Observer
}

// otherCall is the label of a request that no name stands for; there is none.
const otherCall = "other"

// callNames are the calls that we make, by method and path. A star is an id.
var callNames = map[string]string{
	"GET /v1/customers":                "list_customers",
	"POST /v1/customers":               "create_customer",
	"GET /v1/checkout/sessions":        "list_checkouts",
	"POST /v1/checkout/sessions":       "create_checkout",
	"POST /v1/checkout/sessions/*":     "expire_checkout",
	"POST /v1/billing_portal/sessions": "create_portal",
	"GET /v1/subscriptions":            "list_subscriptions",
	"GET /v1/subscriptions/*":          "get_subscription",
	"DELETE /v1/subscriptions/*":       "cancel_subscription",
	"GET /v1/prices/*":                 "get_price",
}

// The labels of what a comparison found.
const (
	comparedSame      = "same"
	comparedDifferent = "different"
	comparedFailed    = "failed"
)

func newMetrics(reg prometheus.Registerer) *metrics {
	f := promauto.With(reg)
	webhooks := f.NewCounterVec(prometheus.CounterOpts{
		Name: "machineid_billing_webhooks_total", Help: "Webhooks of Stripe, by what became of them.",
	}, []string{"result"})
	calls := f.NewCounterVec(prometheus.CounterOpts{
		Name: "machineid_billing_stripe_calls_total", Help: "Calls of Stripe's API, by call and result.",
	}, []string{"call", "result"})
	seconds := f.NewHistogramVec(prometheus.HistogramOpts{
		Name: "machineid_billing_stripe_seconds", Help: "Time until Stripe answered a call, or did not.",
		Buckets: []float64{0.05, 0.1, 0.2, 0.5, 1, 2, 4, 8},
	}, []string{"call"})
	compared := f.NewCounterVec(prometheus.CounterOpts{
		Name: "machineid_billing_compared_total", Help: "Orgs that were compared with Stripe, by what was found.",
	}, []string{"result"})
	m := &metrics{
		webhooks: map[Heard]prometheus.Counter{}, calls: map[string]callMetrics{}, compared: map[string]prometheus.Counter{},
		lastSync: f.NewGauge(prometheus.GaugeOpts{
			Name: "machineid_billing_last_compared_timestamp_seconds", Help: "When this node last ended a comparison of all orgs with Stripe; 0 before the first.",
		}),
		twice: f.NewGauge(prometheus.GaugeOpts{
			Name: "machineid_billing_orgs_paying_twice", Help: "Orgs that pay for more than one subscription at once, as far as this leader has seen.",
		}),
	}
	for _, h := range []Heard{HeardChanged, HeardUnchanged, HeardIgnored, HeardRefused, HeardFailed} {
		m.webhooks[h] = webhooks.WithLabelValues(string(h))
	}
	for _, found := range []string{comparedSame, comparedDifferent, comparedFailed} {
		m.compared[found] = compared.WithLabelValues(found)
	}
	for _, name := range callNames {
		m.calls[name] = resolve(calls, seconds, name)
	}
	m.calls[otherCall] = resolve(calls, seconds, otherCall)
	return m
}

func resolve(calls *prometheus.CounterVec, seconds *prometheus.HistogramVec, name string) callMetrics {
	c := callMetrics{results: map[string]prometheus.Counter{}, seconds: seconds.WithLabelValues(name)}
	for _, result := range []string{callOK, callRefused, callBusy, callFailed, callUnreachable} {
		c.results[result] = calls.WithLabelValues(name, result)
	}
	return c
}

// Heard counts a webhook.
func (s *Service) Heard(h Heard) { s.metrics.webhooks[h].Inc() }

// Compared notes that a comparison of all orgs has come to its end.
func (s *Service) Compared(at time.Time) { s.metrics.lastSync.Set(float64(at.Unix())) }

// measured is a transport that counts.
type measured struct {
	next http.RoundTripper
	m    *metrics
}

// RoundTrip implements http.RoundTripper.
func (t measured) RoundTrip(r *http.Request) (*http.Response, error) {
	began := time.Now()
	resp, err := t.next.RoundTrip(r)
	c := t.m.calls[callOf(r.Method, r.URL.Path)]
	c.seconds.Observe(time.Since(began).Seconds())
	result := callOK
	switch {
	case err != nil:
		result = callUnreachable
	case resp.StatusCode >= 500:
		result = callFailed
	case resp.StatusCode == http.StatusConflict, resp.StatusCode == http.StatusTooManyRequests:
		result = callBusy
	case resp.StatusCode >= 400:
		result = callRefused
	}
	c.results[result].Inc()
	return resp, err
}

// callOf names a request.
func callOf(method, path string) string {
	if name, ok := callNames[method+" "+path]; ok {
		return name
	}
	for pattern, name := range callNames {
		if prefix, star := strings.CutSuffix(pattern, "*"); star && strings.HasPrefix(method+" "+path, prefix) {
			return name
		}
	}
	return otherCall
}
