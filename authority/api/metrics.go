package api

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	changes  prometheus.Histogram
	load     *load
}

func newMetrics(reg prometheus.Registerer) metrics {
	f := promauto.With(reg)
	return metrics{
		requests: f.NewCounterVec(prometheus.CounterOpts{
			Name: "machineid_api_requests_total", Help: "Requests answered, by handler and class of status.",
		}, []string{"handler", "class"}),
		seconds: f.NewHistogramVec(prometheus.HistogramOpts{
			Name: "machineid_api_request_seconds", Help: "Time from a request's arrival to its answer, the wait for the edges included.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 17), // 0.1 ms to 6.6 s, and what is above
		}, []string{"handler"}),
		changes: f.NewHistogram(prometheus.HistogramOpts{
			Name: "machineid_api_change_seconds", Help: "Time from the arrival of a change at the leader until it was in force everywhere: commit, and the wait for the edges.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 17),
		}),
		load: newLoad(reg),
	}
}

// endpointMetrics are those of one handler, with the labels resolved.
type endpointMetrics struct {
	requests [5]prometheus.Counter // by the first digit of the status, less one
	seconds  prometheus.Observer
}

func (m metrics) of(handler string) (e endpointMetrics) {
	e.seconds = m.seconds.WithLabelValues(handler)
	for i := range e.requests {
		e.requests[i] = m.requests.WithLabelValues(handler, strconv.Itoa(i+1)+"xx")
	}
	return e
}

func (e *endpointMetrics) observe(status int, took time.Duration) {
	if class := status/100 - 1; class >= 0 && class < len(e.requests) {
		e.requests[class].Inc()
	}
	e.seconds.Observe(took.Seconds())
}
