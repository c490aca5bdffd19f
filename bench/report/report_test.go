package report

import (
	"bytes"
	"encoding/json"
	"flag"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files anew")

// sample is a report with something of everything, always the same.
func sample() *Report {
	h := hdrhistogram.New(1000, int64(10*time.Minute), 3)
	rng := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		_ = h.RecordValue(int64(100_000 + rng.ExpFloat64()*200_000))
	}
	r := &Report{
		Version: "v1", Scenario: "failover", Started: time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC), Targets: []string{"http://e1:8080", "http://e2:8080"},
		Loop: "open", Offered: "500/s", From: "when a request was due", Connections: 64, Choice: "each device as likely as any other", Orgs: 10, Devices: 200, Seed: 7,
		Warmup: 2, Measured: 20, Main: "validate",
		Violations: Violations{Checked: 90},
		Ops: []Op{
			{
				Name: "validate", Count: 10_000, Errors: 12, Rate: 500, Cached: 9_900, Codes: map[string]int64{"ALLOW": 9988, "timeout": 2, "connection_refused": 10},
				LatencyMs: NewLatency(h), Curve: NewCurve(h),
			},
			{Name: "change", About: "revokes and restores", Count: 0, Codes: map[string]int64{}, LatencyMs: NewLatency(hdrhistogram.New(1000, 2000, 3))},
		},
		Gaps:   []Gap{{Target: "http://e1:8080", Op: "validate", Longest: 3, At: 1, OK: 5000}, {Target: "http://e2:8080", Op: "validate", Longest: 1400, At: 9, OK: 4988, Failed: 12}},
		Events: []Event{{At: 3, Text: "10 orgs <off>"}},
		Notes:  []string{"a note"}, Left: []string{"org-1", "org-2"},
	}
	for i := range 20 {
		r.Series = append(r.Series, Point{At: float64(i + 1), Length: 1, Count: 500, Errors: int64(i % 3), P50: 0.2, P99: 1, P999: 2})
	}
	return r
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-update writes it anew): %s", path, diff)
	}
}

func TestGolden(t *testing.T) {
	r := sample()
	if r.Judge(thresholds(t, "p99<2ms,err<0.1%,gap<2s,availability>=99%,change.p99<1s")) {
		t.Error("all thresholds are met, though two are not")
	}
	for name, form := range map[string]Form{"failover.txt": (*Report).Text, "failover.json": (*Report).JSON, "failover.html": (*Report).HTML} {
		var b bytes.Buffer
		if err := form(r, &b); err != nil {
			t.Fatal(err)
		}
		golden(t, name, b.Bytes())
	}
}

func thresholds(t *testing.T, text string) []Threshold {
	t.Helper()
	list, err := ParseThresholds(text, []string{"validate", "change", "deny_1"})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

func TestThresholds(t *testing.T) {
	for text, met := range map[string]bool{
		"p99<2ms": true, "p99<100us": false, "p50>=100us": true, "p99.9 < 10ms": true, "max<1s": true, "mean>1s": false,
		"err<0.1%": false, "err<0.2%": true, "err<0.0012": false, "err<=0.0012": true, "validate.err=0": false, "count=10000": true, "rate>499": true, "not_sent=0": true,
		"violations=0": true, "violations>0": false, "gap<1s": false, "gap<1500ms": true, "availability>99%": true, "availability>99.9%": false,
		"change.p99<1s": false, "change.err<1%": false, "change.gap<1s": false, "deny_1.p99<1s": false, // not measured
		"": true,
	} {
		if got := sample().Judge(thresholds(t, text)); got != met {
			t.Errorf("%s: met %v, want %v", text, got, met)
		}
	}
	broken := sample()
	broken.Violations.Count = 1
	if broken.Judge(nil) || broken.Judge(thresholds(t, "p99<1m")) {
		t.Error("a violation is no fault unless somebody asks")
	}
	if !broken.Judge(thresholds(t, "violations<2")) || len(broken.Thresholds) != 1 {
		t.Error("a condition about violations does not replace the one that is always there")
	}
}

func TestThresholdsRefuse(t *testing.T) {
	for text, want := range map[string]string{
		"p99": `"p99" is no condition`, "p99<2": `"2" is no duration`, "p101<2ms": "there is no p101", "latency<2ms": "there is no latency", "err<5": `"5" is no share`,
		"rate>x": `"x" is no number`, "nothing.p99<1ms": "no operation nothing, only validate, change", "p99<-2ms": "is no duration", "violations==0": "",
		"p99<1ms,err<x,gap<y": "\n",
	} {
		_, err := ParseThresholds(text, []string{"validate", "change"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestPageNeedsNothing proves that the page is one file: no script, nothing from elsewhere, and what others wrote is escaped.
func TestPageNeedsNothing(t *testing.T) {
	r := sample()
	r.Violations = Violations{Count: 2, Checked: 90, Samples: []string{`<script>alert("x")</script>`}}
	r.Notes, r.Targets = []string{`"><img src=x>`}, []string{"http://<b>"}
	r.Judge(nil)
	var b bytes.Buffer
	if err := r.HTML(&b); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	if found := regexp.MustCompile(`(?i)<script|<link|<img|<iframe|<b>|@import|url\(|\bsrc=["h]|href=|NaN|Inf\b`).FindString(text); found != "" {
		t.Errorf("the page has %q", found)
	}
	violation, table := strings.Index(text, "2 violations of the promise"), strings.Index(text, "<table")
	if violation < 0 || violation > table || strings.Count(text, "<svg") != 3 {
		t.Errorf("violations at %d, the first table at %d, %d plots", violation, table, strings.Count(text, "<svg"))
	}
}

func TestPageOfNothing(t *testing.T) {
	r := &Report{Main: "validate", Ops: []Op{{Name: "validate", LatencyMs: NewLatency(hdrhistogram.New(1000, 2000, 3))}}}
	r.Judge(nil)
	var b bytes.Buffer
	if err := r.HTML(&b); err != nil || strings.Contains(b.String(), "NaN") || strings.Contains(b.String(), "Inf") {
		t.Errorf("%v\n%s", err, b.String())
	}
}

func TestSave(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"r.txt", "r.JSON", "r.html"} {
		if err := sample().Save(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "r.JSON"))
	var back Report
	if err != nil || json.Unmarshal(text, &back) != nil || back.Ops[0].Count != 10_000 || back.Series[0].Codes != nil {
		t.Errorf("%v %+v", err, back)
	}
	for path, want := range map[string]string{filepath.Join(dir, "r.pdf"): "ends with none of .txt, .json and .html", filepath.Join(dir, "no", "r.txt"): "save the report"} {
		if err := sample().Save(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestHistogramAgainstSorted holds the percentiles to those of the sorted list, within the histogram's three digits.
func TestHistogramAgainstSorted(t *testing.T) {
	h := hdrhistogram.New(int64(time.Microsecond), int64(10*time.Minute), 3)
	rng := rand.New(rand.NewPCG(3, 4))
	var all []int64
	for range 100_000 {
		v := int64(20_000 + rng.ExpFloat64()*rng.ExpFloat64()*3e6)
		all = append(all, v)
		if err := h.RecordValue(v); err != nil {
			t.Fatal(err)
		}
	}
	slices.Sort(all)
	l := NewLatency(h)
	for share, got := range map[float64]float64{0.5: l.P50, 0.9: l.P90, 0.99: l.P99, 0.999: l.P999, 0.9999: l.P9999, 1: l.Max} {
		want := float64(all[int(share*float64(len(all)))-1]) / ms
		if got < want*0.995 || got > want*1.005 {
			t.Errorf("%v: %v ms, the sorted list says %v", share, got, want)
		}
	}
}

// TestAppend: a moment at either end of a run is part of the second beside it, and loses nothing.
func TestAppend(t *testing.T) {
	var series []Point
	for _, p := range []Point{
		{At: 0.01, Length: 0.01, Count: 9, P50: 5},
		{At: 1.01, Length: 1, Count: 100, Errors: 1, Codes: map[string]int64{"timeout": 1}, P50: 1},
		{At: 2.01, Length: 1, Count: 100},
		{At: 2.02, Length: 0.01, Count: 7, Errors: 5, Codes: map[string]int64{"not_sent": 5}, P99: 3},
	} {
		series = Append(series, p)
	}
	want := []Point{
		{At: 1.01, Length: 1.01, Count: 109, Errors: 1, Codes: map[string]int64{"timeout": 1}, P50: 5},
		{At: 2.02, Length: 1.01, Count: 107, Errors: 5, Codes: map[string]int64{"not_sent": 5}, P99: 3},
	}
	if diff := cmp.Diff(want, series); diff != "" {
		t.Error(diff)
	}
	if r := series[1].Rate(); r < 100 || r > 102 {
		t.Errorf("what was not sent is in the rate: %v", r)
	}
}
