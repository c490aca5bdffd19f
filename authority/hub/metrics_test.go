package hub

import (
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TestMetricsAreDocumented, by their names.
func TestMetricsAreDocumented(t *testing.T) {
	docs, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	New(Config{Registerer: reg})
	described := make(chan *prometheus.Desc, 100)
	reg.Describe(described)
	close(described)
	n := 0
	for d := range described {
		n++
		_, name, _ := strings.Cut(d.String(), `fqName: "`)
		if name, _, _ = strings.Cut(name, `"`); !strings.Contains(string(docs), "`"+name) {
			t.Errorf("%s is not in docs/operations.md", name)
		}
	}
	if n < 10 {
		t.Errorf("%d metrics", n)
	}
}

// TestWhatAChangeMeasures: one that waits for a lease and one that is acknowledged at once are told apart, and the time that each took is in seconds.
func TestWhatAChangeMeasures(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		w.lead()
		slow, good := w.join("slow", 1), w.join("good", 2)
		measured := func() (count uint64, sum float64, holders float64, rest [3]float64) {
			reg, m := prometheus.NewRegistry(), w.hub.metrics
			reg.MustRegister(m.settle, m.holders, m.changes, m.expired, m.waited)
			families, err := reg.Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range families {
				one := f.GetMetric()[0]
				switch f.GetName() {
				case "machineid_link_settle_seconds":
					count, sum = one.GetHistogram().GetSampleCount(), one.GetHistogram().GetSampleSum()
				case "machineid_link_change_holders":
					holders = one.GetHistogram().GetSampleSum()
				case "machineid_link_changes_total":
					rest[0] = one.GetCounter().GetValue()
				case "machineid_link_expiries_total":
					rest[1] = one.GetCounter().GetValue()
				case "machineid_link_changes_expired_total":
					rest[2] = one.GetCounter().GetValue()
				}
			}
			return count, sum, holders, rest
		}
		index := w.change(orgA)
		c := w.settle(index)
		slow.ack(index)
		good.ack(index)
		<-c
		if count, sum, holders, rest := measured(); count != 1 || sum != 0 || holders != 2 || rest != [3]float64{1, 0, 0} {
			t.Errorf("acknowledged at once: %d took %v s, %v holders, %v", count, sum, holders, rest)
		}
		began := w.since()
		index = w.change(orgA)
		time.Sleep(100 * time.Millisecond)
		c = w.settle(index)
		good.ack(index)
		s := <-c
		took := s.at - began
		if took <= time.Second {
			t.Fatal("nobody waited")
		}
		// A caller is told how long it has waited itself.
		if want := float64((took - 100*time.Millisecond).Microseconds()) / 1000; math.Abs(s.p.ElapsedMs-want) > 2e-3 {
			t.Errorf("the caller is told of %v ms, want %v", s.p.ElapsedMs, want)
		}
		count, sum, holders, rest := measured()
		if count != 2 || math.Abs(sum-took.Seconds()) > 2e-6 || holders != 4 || rest != [3]float64{2, 1, 1} {
			t.Errorf("after a wait of %v: %d took %v s, %v holders, %v", took, count, sum, holders, rest)
		}
	})
}
