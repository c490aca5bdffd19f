// Package deploy checks the files of this folder: that Prometheus reads them, that what they name exists, and that each alert can
// fire and is explained.
package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"machineid/internal/testkit/program"
)

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func promtool(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), program.Find(t, "promtool", "prometheus"), args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %v: %v\n%s", args, err, out)
	}
}

func TestPromtool(t *testing.T) {
	promtool(t, "check", "config", "prometheus/prometheus.yml") // and the rules that it names
	promtool(t, "test", "rules", "prometheus/rules_test.yml")
}

func TestPromtoolOverDays(t *testing.T) {
	if testing.Short() {
		t.Skip("days of samples take a minute")
	}
	promtool(t, "test", "rules", "prometheus/rules_days_test.yml")
}

// others are what a scrape adds.
var others = map[string]bool{"up": true}

var (
	name  = regexp.MustCompile(`\b(?:(?:machineid|raftstore|process|go)_[a-z0-9_]+|machineid:[a-z0-9_:]+|up\{)`)
	parts = regexp.MustCompile(`_(?:bucket|sum|count)$`)
)

// unknown lists what text names and neither tier tells nor a rule records.
func unknown(text, metrics, rules string) (missing []string) {
	for _, n := range name.FindAllString(text, -1) {
		n = strings.TrimSuffix(n, "{")
		switch whole := parts.ReplaceAllString(n, ""); {
		case others[n], strings.Contains(rules, "- record: "+n+"\n"), strings.Contains(metrics, " "+n+"{"):
		case whole != n && regexp.MustCompile(` `+whole+`\{[a-z,]*\} histogram: `).MatchString(metrics):
		default:
			missing = append(missing, n)
		}
	}
	return missing
}

// TestWhatIsNamedExists: a rule about a metric that nobody tells would never fire, and never say so.
func TestWhatIsNamedExists(t *testing.T) {
	metrics, rules := read(t, "prometheus", "metrics.txt"), read(t, "prometheus", "rules.yml")
	files := []string{filepath.Join("prometheus", "rules.yml"), filepath.Join("prometheus", "rules_test.yml"), filepath.Join("prometheus", "rules_days_test.yml")}
	for _, file := range files {
		for _, n := range unknown(read(t, file), metrics, rules) {
			t.Errorf("%s names %s, which is neither in prometheus/metrics.txt nor recorded", file, n)
		}
	}
	if got := unknown("rate(machineid_edge_lease_seconds_bucket[5m]) + raftstore_no_such - up{}", metrics, rules); len(got) != 2 {
		t.Errorf("of two names that do not exist %q are found", got)
	}
}

// later are metrics that are told once somebody has asked for something, and no scrape of a first minute has.
var later = []string{"machineid_api_top_busy", "machineid_api_top_requests", "machineid_edge_top_org_validates"}

// TestPagesTellOfMetrics: what the pages name is told, and what is told of our own stands in docs/operations.md, or docs/billing.md. Of a family that ends in `...` its beginning does.
func TestPagesTellOfMetrics(t *testing.T) {
	metrics, rules := read(t, "prometheus", "metrics.txt"), read(t, "prometheus", "rules.yml")
	operations := read(t, "..", "docs", "operations.md") + read(t, "..", "docs", "billing.md")
	for _, page := range []string{operations, read(t, "..", "docs", "alerts.md")} {
		for _, n := range unknown(page, metrics, rules) {
			if !slices.Contains(later, n) && !strings.HasSuffix(n, "_") {
				t.Errorf("a page names %s, which is neither in prometheus/metrics.txt nor recorded", n)
			}
		}
	}
	told, named := 0, regexp.MustCompile("`((?:machineid|raftstore)_[a-z0-9_]+)(?:\\{[a-z,]+\\})?(\\.\\.\\.)?`").FindAllStringSubmatch(operations, -1)
	for _, m := range regexp.MustCompile(`(?m)^\w+ ((?:machineid|raftstore)_\w+)\{`).FindAllStringSubmatch(metrics, -1) {
		told++
		if !slices.ContainsFunc(named, func(p []string) bool { return p[1] == m[1] || p[2] != "" && strings.HasPrefix(m[1], p[1]) }) {
			t.Errorf("docs/operations.md does not tell of %s", m[1])
		}
	}
	if told < 100 {
		t.Errorf("%d metrics are told", told)
	}
}

// TestAlerts: each alert has its severity, its time, what to say, a runbook, and a test in which it fires.
func TestAlerts(t *testing.T) {
	rules, runbook := read(t, "prometheus", "rules.yml"), read(t, "..", "docs", "alerts.md")
	tests := read(t, "prometheus", "rules_test.yml") + read(t, "prometheus", "rules_days_test.yml")
	blocks := strings.Split(rules, "- alert: ")[1:]
	if len(blocks) == 0 {
		t.Fatal("no alerts found")
	}
	for _, block := range blocks {
		a, _, _ := strings.Cut(block, "\n")
		for what, want := range map[string]string{
			"a time": "\n        for: ", "a severity": "\n        labels: {severity: ", "a summary": "\n          summary: ",
			"its runbook_url": "\n          runbook_url: docs/alerts.md#" + strings.ToLower(a) + "\n",
		} {
			if !strings.Contains(block, want) {
				t.Errorf("alert %s lacks %s", a, what)
			}
		}
		if !strings.Contains(runbook, "\n### "+a+"\n\n") {
			t.Errorf("docs/alerts.md has no paragraph about %s", a)
		}
		if !strings.Contains(tests, `- {labels: 'ALERTS{alertname="`+a+`",`) {
			t.Errorf("alert %s fires in none of the tests", a)
		}
	}
	for _, heading := range regexp.MustCompile(`(?m)^### (\w+)$`).FindAllStringSubmatch(runbook, -1) {
		if !strings.Contains(rules, "- alert: "+heading[1]+"\n") {
			t.Errorf("docs/alerts.md explains %s, which is no alert", heading[1])
		}
	}
}
