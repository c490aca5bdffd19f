package edge

import (
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"machineid/shared/clock"
)

// TestMetricsAreDocumented, by their names.
func TestMetricsAreDocumented(t *testing.T) {
	docs, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	reg := prometheus.NewRegistry()
	newMetrics(reg, &Edge{clock: clock.System(), caches: &caches{overtaken: &atomic.Uint64{}, evicted: &atomic.Uint64{}}})
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
