//go:build unix

package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"machineid/bench/report"
)

// benchFleet is an authority and three edges as processes, and the arguments that put load on them.
type benchFleet struct {
	authority *authorityNode
	edges     []*edgeNode
	targets   []string // arguments
	operator  []string // likewise
}

func startBenchFleet(t *testing.T, args ...string) *benchFleet {
	t.Helper()
	f := &benchFleet{authority: newAuthority(t, args...)}
	f.authority.start()
	var urls []string
	for range 3 {
		e := startEdge(t, f.authority.link, "--cache-entries", "10000", "--max-wait", "900ms")
		f.edges = append(f.edges, e)
		urls = append(urls, "http://"+e.http)
	}
	for _, e := range f.edges {
		e.ready()
	}
	f.targets = []string{"--target", strings.Join(urls, ",")}
	f.operator = []string{"--operator-url", "http://" + f.authority.http, "--operator-token-file", filepath.Join(f.authority.dir, "operator-token")}
	return f
}

// bench runs a load test in this process, with -o json, and returns its report and exit code.
func (f *benchFleet) bench(t *testing.T, args ...string) (rep report.Report, code int, said string) {
	t.Helper()
	var out, progress bytes.Buffer
	args = slices.Concat([]string{"bench", args[0], "-o", "json", "--rate", "100", "--connections", "12"}, f.targets, args[1:])
	code = run(args, bareEnviron(), &out, &progress)
	if code == exitDone || code == exitMissed {
		if err := json.Unmarshal(out.Bytes(), &rep); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out.Bytes())
		}
	}
	return rep, code, progress.String()
}

// busy is how many requests of an operation say no more than that this machine is busy: nobody was free to send them, or the answer was not
// there in time.
func busy(op report.Op) int64 {
	return op.Codes["not_sent"] + op.Codes["SYSTEM_UNAVAILABLE"] + op.Codes["system_unavailable"]
}

// TestBench puts every scenario on both tiers: nothing fails and the promise holds. There are no limits on time: this machine may be busy.
func TestBench(t *testing.T) {
	t.Parallel()
	f := startBenchFleet(t)
	for name, c := range map[string]struct {
		args    []string
		changes bool
	}{
		"hit":      {[]string{"validate", "--slo", "err<50%,rate>1,p50<10s"}, false},
		"zipf":     {[]string{"validate", "--zipf", "1.1", "--new-connections"}, false},
		"closed":   {[]string{"validate", "--closed-loop"}, false},
		"cold":     {[]string{"validate", "--mode", "cold", "--orgs", "30"}, false},
		"unknown":  {[]string{"validate", "--mode", "unknown"}, false},
		"mixed":    {[]string{"mixed", "--mix", "validate=80,register=5,revoke=8,restore=7"}, true},
		"revoke":   {[]string{"revoke"}, true},
		"storm":    {[]string{"storm", "--duration", "5s"}, true},
		"failover": {[]string{"failover", "--change-rate", "20"}, true},
		"register": {[]string{"register"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			saved := filepath.Join(t.TempDir(), "r.html")
			args := append([]string{c.args[0], "--duration", "2s", "--warmup", "300ms", "--orgs", "4", "--out", saved}, c.args[1:]...)
			if name != "cold" { // few, so that those revoked are asked about
				args = append(args, "--devices", "12")
			}
			if name == "revoke" {
				args = append(args, "--rate", "10")
			}
			rep, code, said := f.bench(t, append(args, f.operator...)...)
			if code != exitDone {
				t.Fatalf("exit code %d: %s", code, said)
			}
			for _, op := range rep.Ops {
				if op.Errors > busy(op) {
					t.Errorf("%s: %d errors of %d: %v", op.Name, op.Errors, op.Count, op.Codes)
				}
			}
			op, _ := rep.Op(rep.Main)
			if op.Count <= 2*busy(*op) || rep.Violations.Count != 0 || c.changes != (rep.Violations.Checked > 0) {
				t.Errorf("%d %s, %+v", op.Count, rep.Main, rep.Violations)
			}
			// Memory may forget one now and then; cold and unknown ask about nothing twice.
			hits, misses := name == "hit" || name == "zipf" || name == "closed" || name == "failover", name == "cold" || name == "unknown"
			if (hits && op.Cached < (op.Count-busy(*op))*9/10) || (misses && op.Cached > 0) {
				t.Errorf("%d of %d from the edges' memory", op.Cached, op.Count)
			}
			if page, err := os.ReadFile(saved); err != nil || !bytes.Contains(page, []byte("<svg")) {
				t.Errorf("the page: %v", err)
			}
		})
	}
}

// TestBenchExitCodes: a threshold that is missed is 3, a door that is closed 1.
func TestBenchExitCodes(t *testing.T) {
	t.Parallel()
	f := startBenchFleet(t, "--open-signup=false")
	if _, code, said := f.bench(t, "validate", "--duration", "1s"); code != exitFailed || !strings.Contains(said, "give --operator-url and --operator-token-file") {
		t.Errorf("no token: exit code %d: %s", code, said)
	}
	args := append([]string{"validate", "--duration", "1s", "--orgs", "1", "--devices", "3"}, f.operator...)
	if rep, code, said := f.bench(t, append(args, "--slo", "rate>100000,err=0")...); code != exitMissed || !strings.Contains(said, "missed rate>100000") || len(rep.Thresholds) != 3 {
		t.Errorf("a rate that cannot be: exit code %d: %s", code, said)
	}
}

// TestBenchInterrupted proves that Ctrl-C ends the load, deletes the run's orgs, and still reports.
func TestBenchInterrupted(t *testing.T) {
	t.Parallel()
	f := startBenchFleet(t)
	args := append([]string{"bench", "validate", "--duration", "1h", "--warmup", "0s", "--rate", "100", "--orgs", "2"}, f.targets...)
	p := launch(t, args...)
	eventually(t, patient, "it measures", func() bool { return strings.Contains(p.out.String(), "p99.9") })
	p.interrupt()
	if text := p.out.String(); !strings.Contains(text, "INTERRUPTED") || !strings.Contains(text, "validate: ALLOW") || !strings.Contains(text, "deleting orgs: 2 of 2") {
		t.Errorf("%s", text)
	}
}

// TestBenchFailover kills an edge and the authority in the middle: the gap is found, the promise holds, and what is left of the fleet is
// enough to clean up.
func TestBenchFailover(t *testing.T) {
	t.Parallel()
	f := startBenchFleet(t, "--lease", "1s")
	p := launch(t, append([]string{"bench", "failover", "--duration", "8s", "--warmup", "0s", "--rate", "150", "--orgs", "2", "--timeout", "3s", "--slo", "gap<1ms"}, f.targets...)...)
	p.mu.Lock()
	p.killed = true // it ends by itself
	p.mu.Unlock()
	eventually(t, patient, "it measures", func() bool { return strings.Contains(p.out.String(), "p99.9") })
	f.edges[2].kill()
	f.authority.kill()
	f.authority.start()
	p.await()
	text := p.out.String()
	if code := p.cmd.ProcessState.ExitCode(); code != exitMissed {
		t.Errorf("exit code %d, want %d", code, exitMissed)
	}
	for _, want := range []string{"connection_refused", "http://" + f.edges[2].http + "  validate", "violations of the promise: 0", "MISSED gap<1ms", "deleting orgs: 2 of 2"} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q", want)
		}
	}
	if strings.Contains(text, "VIOLATIONS OF THE PROMISE") || t.Failed() {
		t.Errorf("%s", text)
	}
}
