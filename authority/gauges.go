package authority

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// exportState tells what applying costs beside the commands themselves.
func (n *Node) exportState(reg prometheus.Registerer) {
	f := promauto.With(reg)
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "machineid_state_debris_orgs", Help: "Deleted orgs of which something is left that is cleared away with the commands that follow.",
	}, func() float64 { return float64(n.state.Debris().Orgs) })
	f.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "machineid_state_debris_devices", Help: "Devices of deleted orgs that are not cleared away yet, at most.",
	}, func() float64 { return float64(n.state.Debris().Devices) })
	f.NewCounterFunc(prometheus.CounterOpts{
		Name: "machineid_state_debris_removed_total", Help: "Records of deleted orgs that were cleared away.",
	}, func() float64 { return float64(n.state.Debris().Removed) })
	f.NewCounterFunc(prometheus.CounterOpts{
		Name: "machineid_state_scan_steps_total", Help: "Keys that were looked at to apply commands, removed ones too.",
	}, func() float64 { return float64(n.state.Steps()) })
}
