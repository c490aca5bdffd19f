package edge

import (
	"log/slog"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/protobuf/proto"

	"machineid/shared/decision"
)

// told returns the metrics of one name, by the values of their labels.
func told(t *testing.T, reg prometheus.Gatherer, name string) map[string]*dto.Metric {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*dto.Metric{}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			out[strings.Join(labels, " ")] = proto.CloneOf(m)
		}
	}
	return out
}

// TestHowLongAndForWhom: every miss is measured, a share of the hits, and each is its org's.
func TestHowLongAndForWhom(t *testing.T) {
	const misses, hits = 40, 4000
	inWorld(t, func(w *world) {
		w.start()
		reg, _ := w.e.cfg.Registerer.(*prometheus.Registry)
		for i := range misses {
			w.validateWith(w.key, "unknown-"+strconv.Itoa(i))
		}
		w.want("d", "ALLOW", false)
		w.hold()
		w.want("slow", "SYSTEM_UNAVAILABLE", false)
		w.letGo()
		for range hits {
			if got := w.validateWith(w.key, "d"); !got.hit {
				t.Fatalf("%+v", got)
			}
		}
		seconds := told(t, reg, "machineid_edge_validate_seconds")
		if h := seconds["miss"].GetHistogram(); h.GetSampleCount() != misses+2 || h.GetSampleSum() < DefaultMaxWait.Seconds() {
			t.Errorf("%d misses took %v s in all", h.GetSampleCount(), h.GetSampleSum())
		}
		if n := seconds["hit"].GetHistogram().GetSampleCount(); n < hits/sampleEvery/4 || n > hits/sampleEvery*4 {
			t.Errorf("%d of %d hits are measured", n, hits)
		}
		top := told(t, reg, "machineid_edge_top_org_validates")
		org := uuid.UUID(testOrg).String()
		hit, miss := top["hit "+org].GetGauge().GetValue(), top["miss "+org].GetGauge().GetValue()
		if len(top) != 2 || miss <= 0 || hit < 4*miss {
			t.Errorf("the top list: %v", top)
		}
	})
}

// TestEvictionsAreCounted, and what a reset drops is none.
func TestEvictionsAreCounted(t *testing.T) {
	e, err := New(Config{ID: "e1", CacheEntries: MinCacheEntries, NoDate: true, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	defer e.caches.close()
	fill := func(n uint64) {
		for i := range n {
			e.caches.devices.Set(i, newDevice(stamp{}, testOwner, "d", decision.Occupant{Known: true}), 1)
			e.caches.devices.Wait()
		}
	}
	fill(MinCacheEntries / 2)
	e.caches.clear()
	if n := e.caches.evicted.Load(); n != 0 {
		t.Errorf("%d evictions by a reset", n)
	}
	fill(4 * MinCacheEntries)
	if n := e.caches.evicted.Load(); n == 0 {
		t.Error("no eviction is counted")
	}
}
