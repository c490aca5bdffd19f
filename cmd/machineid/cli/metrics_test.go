//go:build linux

package cli

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

var updateMetrics = flag.Bool("update", false, "write the list of metrics anew; dashboards and alert rules have to follow")

// TestMetricsOfBothTiers holds the names, types, labels and help of all metrics that an authority and an edge tell from their first
// scrape on: the rules and dashboards in deploy use what is listed there. Those of the Go runtime are Go's own.
func TestMetricsOfBothTiers(t *testing.T) {
	t.Parallel()
	s := startTiers(t)
	parser := expfmt.NewTextParser(model.UTF8Validation)
	var list strings.Builder
	for _, tier := range []struct{ name, ops string }{{"authority", s.authority.ops}, {"edge", s.edge.ops}} {
		text := scrape(t, tier.ops)
		families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
		if err != nil {
			t.Fatalf("%s: %v", tier.name, err)
		}
		var ours []*dto.MetricFamily
		for _, name := range slices.Sorted(maps.Keys(families)) {
			if strings.HasPrefix(name, "go_") || strings.HasPrefix(name, "promhttp_") {
				continue
			}
			ours = append(ours, families[name])
			fmt.Fprintf(&list, "%s %s\n", tier.name, listed(families[name]))
		}
		problems, err := promlint.NewWithMetricFamilies(ours).Lint()
		if err != nil {
			t.Fatalf("%s: %v", tier.name, err)
		}
		for _, p := range problems {
			t.Errorf("%s: %s: %s", tier.name, p.Metric, p.Text)
		}
	}
	file := filepath.Join("..", "..", "..", "deploy", "prometheus", "metrics.txt")
	if *updateMetrics {
		if err := os.WriteFile(file, []byte(list.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), list.String()); diff != "" {
		t.Errorf("the metrics differ from %s (-want +got); if they are meant to, run this test with -update and look at deploy and docs/operations.md:\n%s",
			file, diff)
	}
}

// listed is a line of the list: name, labels, type, help.
func listed(f *dto.MetricFamily) string {
	labels := map[string]bool{}
	for _, m := range f.GetMetric() {
		for _, l := range m.GetLabel() {
			labels[l.GetName()] = true
		}
	}
	return fmt.Sprintf("%s{%s} %s: %s", f.GetName(), strings.Join(slices.Sorted(maps.Keys(labels)), ","),
		strings.ToLower(f.GetType().String()), f.GetHelp())
}

// scrape reads /metrics as Prometheus does.
func scrape(t *testing.T, ops string) []byte {
	t.Helper()
	resp, err := opsClient.Get("http://" + ops + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("scrape %s: %s, %v", ops, resp.Status, err)
	}
	return text
}
