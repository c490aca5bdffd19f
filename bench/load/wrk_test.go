package load

import (
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"time"

	"machineid/bench/report"
)

var wrkRate = regexp.MustCompile(`Requests/sec:\s*([0-9.]+)`)

// TestWrkAgrees compares the rate in a closed loop with that of wrk, which shares no code with us, at a target that takes 5 ms for each answer.
// On a quiet machine they agree within a few percent (the log says). What is held is wide enough for a busy one.
func TestWrkAgrees(t *testing.T) {
	target := echoTarget(t, 5*time.Millisecond)
	const connections = 32
	ours := func() float64 {
		rep := generate(t, &Config{Targets: []*Target{target}, Closed: true, Duration: time.Second, Timeout: time.Second, Connections: connections})
		op, _ := rep.Op(rep.Main)
		if op.Errors > 0 {
			t.Fatalf("%v", op.Codes)
		}
		return op.Rate
	}
	out, err := exec.CommandContext(t.Context(), "wrk", "-t", "1", "-c", strconv.Itoa(connections), "-d", "1s", target.URL).CombinedOutput()
	if err != nil {
		t.Fatalf("wrk (Debian has it): %v\n%s", err, out)
	}
	m := wrkRate.FindSubmatch(out)
	if m == nil {
		t.Fatalf("wrk says no rate:\n%s", out)
	}
	theirs, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	rate := ours()
	t.Logf("wrk %.0f/s, ours %.0f/s: %.3f of it", theirs, rate, rate/theirs)
	if rate < theirs/3 || rate > theirs*3 {
		t.Errorf("%.0f/s, wrk says %.0f/s", rate, theirs)
	}
}

// generate runs validates of one device that nobody has prepared: for targets that answer anything.
func generate(tb testing.TB, cfg *Config) *report.Report {
	tb.Helper()
	s, err := Find("validate")
	if err != nil {
		tb.Fatal(err)
	}
	cfg.Scenario, cfg.Mode = s, "hit"
	w := &World{cfg: cfg, Orgs: []*Org{{agent: "org_00000000000000000000000000000000000000000000"}}, Devices: make([]Device, 1)}
	w.Devices[0] = Device{id: w.name(0), org: w.Orgs[0]}
	r := &run{cfg: cfg, world: w, ops: s.ops, books: []*book{newBook(1), newBook(1), newBook(1), newBook(1)}}
	if _, err := s.build(r); err != nil {
		tb.Fatal(err)
	}
	took, err := r.load(tb.Context(), nil)
	if err != nil {
		tb.Fatal(err)
	}
	return r.report(took, false)
}
