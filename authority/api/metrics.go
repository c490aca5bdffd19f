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

// refusedFor is why a long read was refused.
type refusedFor string

const (
	refusedOwn  refusedFor = "own"  // the org has as many under way as it may
	refusedAll  refusedFor = "all"  // all orgs together have
	refusedLate refusedFor = "late" // it waited too long for its turn
)

// turnMetrics are those of long reads.
type turnMetrics struct {
	begun                 prometheus.Counter
	open, waiting, unsent prometheus.Gauge
	refused               map[refusedFor]prometheus.Counter
}

func newTurnMetrics(reg prometheus.Registerer) turnMetrics {
	f := promauto.With(reg)
	refused := f.NewCounterVec(prometheus.CounterOpts{
		Name: "machineid_api_long_reads_refused_total", Help: "Long reads answered 429, by cause.",
	}, []string{"cause"})
	m := turnMetrics{
		begun:   f.NewCounter(prometheus.CounterOpts{Name: "machineid_api_long_reads_total", Help: "Long reads begun."}),
		open:    f.NewGauge(prometheus.GaugeOpts{Name: "machineid_api_long_reads_open", Help: "Long reads under way."}),
		waiting: f.NewGauge(prometheus.GaugeOpts{Name: "machineid_api_long_reads_waiting", Help: "Long reads that wait to begin, or whose answer has not left yet."}),
		unsent:  f.NewGauge(prometheus.GaugeOpts{Name: "machineid_api_long_reads_unsent_bytes", Help: "Answers of long reads that have not left yet."}),
		refused: map[refusedFor]prometheus.Counter{},
	}
	for _, cause := range []refusedFor{refusedOwn, refusedAll, refusedLate} {
		m.refused[cause] = refused.WithLabelValues(string(cause))
	}
	return m
}
