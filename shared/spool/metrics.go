package spool

import "github.com/prometheus/client_golang/prometheus"

// Register exports what becomes of the lines of some Writers. They may be in several registries.
func Register(reg prometheus.Registerer, writers ...*Writer) {
	for _, w := range writers {
		labels := prometheus.Labels{"stream": w.name}
		reg.MustRegister(
			prometheus.NewCounterFunc(prometheus.CounterOpts{
				Name: "machineid_log_lines_dropped_total", ConstLabels: labels,
				Help: "Lines that standard output or error did not take, by stream.",
			}, func() float64 { return float64(w.Dropped()) }),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "machineid_log_stuck_seconds", ConstLabels: labels,
				Help: "How long a write to standard output or error has been under way, by stream; 0: there is none.",
			}, func() float64 { return w.Stuck().Seconds() }),
		)
	}
}
