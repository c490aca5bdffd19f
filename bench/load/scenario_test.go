package load

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"machineid/bench/report"
)

// TestScenarios runs each scenario against honest targets: nothing is an error, nothing is a violation, and everything is cleaned up.
func TestScenarios(t *testing.T) {
	t.Parallel()
	for _, s := range Scenarios {
		modes := s.Modes
		if len(modes) == 0 {
			modes = []string{""}
		}
		for _, mode := range modes {
			for _, able := range []bool{false, true} {
				name := s.Name + " " + mode
				if able {
					name += " with an operator"
				}
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					f := newFake(t)
					f.operators, f.batches = able, able
					targets := f.serve(3)
					cfg := config(t, s.Name, targets)
					cfg.Mode = mode
					cfg.Warmup = 200 * time.Millisecond
					cfg.Mix = Mix{10, 2, 5, 5}
					if able {
						cfg.Operators, cfg.Token, cfg.Devices, cfg.Zipf = targets[:1], "token", 20, 1.2
					}
					if s.Name == "revoke" {
						cfg.Rate = Rate{20, 20}
					}
					if s.Name == "storm" {
						cfg.Duration = 6 * time.Second // once through all of it
					}
					rep, _ := measured(t, cfg)
					check(t, rep, cfg)
					cleaned(t, f, rep, able)
				})
			}
		}
	}
}

func check(t *testing.T, rep *report.Report, cfg *Config) {
	t.Helper()
	lifted := cfg.Token != ""
	for _, op := range rep.Ops {
		if op.Errors > op.Codes["not_sent"] || op.Count == 0 { // what is not sent says that this machine is busy
			t.Errorf("%s: %d requests, %d errors: %v", op.Name, op.Count, op.Errors, op.Codes)
		}
	}
	if rep.Violations.Count > 0 {
		t.Errorf("violations of honest targets: %v", rep.Violations.Samples)
	}
	if changes := cfg.Scenario.Name != "validate" && cfg.Scenario.Name != "register"; changes != (rep.Violations.Checked > 0) {
		t.Errorf("%d answers were judged", rep.Violations.Checked)
	}
	var want []string
	switch cfg.Scenario.Name {
	case "mixed":
		want = []string{"validate", "register", "revoke", "restore"}
	case "revoke":
		want = []string{"deny", "deny_last", "revoke", "restore", "deny_1", "deny_2", "deny_3"}
	case "storm":
		want = []string{"validate", "org_off", "org_on", "revoke_all", "restore_all"}
		if !lifted {
			want = []string{"validate", "org_off", "org_on", "revoke", "restore"}
		}
	case "failover":
		want = []string{"validate", "change", "after"}
		if len(rep.Gaps) != 4 {
			t.Errorf("gaps of %d lanes: %+v", len(rep.Gaps), rep.Gaps)
		}
	}
	for _, name := range want {
		if _, found := rep.Op(name); !found {
			t.Errorf("no %s was measured", name)
		}
	}
	if lifted != (rep.Devices == cfg.Devices) && cfg.Devices > 6 {
		t.Errorf("%d devices of %d", rep.Devices, cfg.Devices)
	}
}

// cleaned looks at what is left: nothing with an operator, else orgs without a device, which are listed.
func cleaned(t *testing.T, f *fake, rep *report.Report, able bool) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if able {
		if len(f.deleted) != f.made || len(rep.Left) != 0 {
			t.Errorf("%d of %d orgs deleted, %v said to be left", len(f.deleted), f.made, rep.Left)
		}
		return
	}
	if len(rep.Left) != f.made || len(f.devices) != 0 {
		t.Errorf("%d orgs made, %v said to be left, %d devices left", f.made, rep.Left, len(f.devices))
	}
}

// TestViolationsAreFound is the proof that no violations means something: one target of three goes on allowing for 30 ms after each revoke
// has returned.
func TestViolationsAreFound(t *testing.T) {
	t.Parallel()
	for _, scenario := range []string{"revoke", "mixed", "storm", "failover"} {
		t.Run(scenario, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			f.lie = func(i int, d *fakeDevice) bool {
				return i == 1 && !d.revoked.IsZero() && time.Since(d.revoked) < 30*time.Millisecond
			}
			if scenario == "storm" {
				f.lie = func(i int, d *fakeDevice) bool { return i == 1 && d.org.off }
			}
			cfg := config(t, scenario, f.serve(3))
			cfg.Mix = Mix{90, 0, 5, 5}
			cfg.Rate = Rate{300, 300}
			if scenario == "storm" {
				cfg.Duration = 2 * time.Second
			}
			if scenario == "revoke" {
				cfg.Rate = Rate{10, 10}
			}
			rep, _ := measured(t, cfg)
			v := rep.Violations
			if v.Count == 0 || len(v.Samples) == 0 || v.Checked <= v.Count {
				t.Fatalf("%+v", v)
			}
			for _, s := range v.Samples {
				if !strings.HasPrefix(s, cfg.Targets[1].URL+" allowed bench-") {
					t.Errorf("blames %s", s)
				}
			}
			if rep.Judge(nil) {
				t.Error("the run is called good")
			}
			var b strings.Builder
			if err := rep.Text(&b); err != nil || !strings.HasPrefix(b.String(), "VIOLATIONS OF THE PROMISE") {
				t.Errorf("violations do not come first (%v):\n%s", err, b.String())
			}
		})
	}
}

// TestRight is what may be judged: an answer to what was sent while the right was surely gone, if nobody began to give it back before the
// answer came.
func TestRight(t *testing.T) {
	t.Parallel()
	yes := answer{status: 200, code: allow, allowed: true}
	at := &Target{URL: "http://edge"}
	for name, c := range map[string]struct {
		sent, answered func(*Device) // what happened before it was sent, and before it was answered
		violated       bool
	}{
		"never revoked":              {func(*Device) {}, func(*Device) {}, false},
		"revoked":                    {func(d *Device) { d.right.gone(1) }, func(*Device) {}, true},
		"revoked after it was sent":  {func(*Device) {}, func(d *Device) { d.right.gone(1) }, false},
		"restored meanwhile":         {func(d *Device) { d.right.gone(1) }, func(d *Device) { d.right.unsure() }, false},
		"restored and revoked since": {func(d *Device) { d.right.gone(1) }, func(d *Device) { d.right.unsure(); d.right.gone(2) }, false},
		"org off":                    {func(d *Device) { d.org.right.gone(1) }, func(*Device) {}, true},
		"org on meanwhile":           {func(d *Device) { d.org.right.gone(1) }, func(d *Device) { d.org.right.unsure() }, false},
		"revoked, org on meanwhile":  {func(d *Device) { d.right.gone(1); d.org.right.gone(1) }, func(d *Device) { d.org.right.unsure() }, true},
		"a lost restore may be late": {func(d *Device) { d.right.unsure(); d.right.doubtful(1); d.right.gone(2) }, func(*Device) {}, false},
		"a lost restore is over":     {func(d *Device) { d.right.unsure(); d.right.doubtful(1); d.right.gone(2 + lateCalls) }, func(*Device) {}, true},
	} {
		var p promise
		d := &Device{org: &Org{}}
		c.sent(d)
		b := d.before()
		c.answered(d)
		if got := p.check(d, b, yes, at, 3); got != c.violated || (p.broken.Load() == 1) != c.violated {
			t.Errorf("%s: violated %v, want %v", name, got, c.violated)
		}
		if p.check(d, b, answer{status: 200, code: deviceRevoked}, at, 3) {
			t.Errorf("%s: a denial is no violation", name)
		}
	}
}

// TestInterruptedRunReportsAndCleansUp is Ctrl-C in the middle.
func TestInterruptedRunReportsAndCleansUp(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	cfg := config(t, "validate", f.serve(2))
	cfg.Duration = time.Hour
	ctx, cancel := context.WithCancel(t.Context())
	cfg.Watch = func(s Second) {
		if s.Count > 0 {
			cancel()
		}
	}
	rep, err := Run(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	op, _ := rep.Op("validate")
	if !rep.Interrupted || op.Count < 100 || op.Codes["not_sent"] > 0 || rep.Measured > 60 {
		t.Errorf("interrupted %v after %v s, %v", rep.Interrupted, rep.Measured, op.Codes)
	}
	cleaned(t, f, rep, false)
}

// TestDeadTarget proves that a target that refuses connections takes its own share of the requests and no other's, and that the gap shows.
func TestDeadTarget(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	targets := f.serve(2)
	cfg := config(t, "failover", targets)
	cfg.Rate, cfg.Duration = Rate{400, 400}, 2*time.Second
	cfg.Progress = func(what string, done, total int) {
		if strings.HasPrefix(what, "asking") && done == total {
			targets[1].addr = "127.0.0.1:1" // from now on nobody is there
		}
	}
	w, err := Prepare(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	rep, err := w.Measure(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	op, _ := rep.Op("validate")
	if refused, allowed := op.Codes["connection_refused"], op.Codes["ALLOW"]; op.Count != 800 || refused > 400 || refused < 300 || allowed > 400 || allowed < 300 {
		t.Errorf("%d requests, %v", op.Count, op.Codes)
	}
	for _, g := range rep.Gaps {
		dead := g.Target == targets[1].URL
		if g.Op == "validate" && (dead != (g.Availability() == 0) || dead != (g.Longest > 1900)) {
			t.Errorf("%+v", g)
		}
	}
	left, err := w.cleanUp(t.Context()) // through the one that is there
	if rep.Left = left; err != nil {
		t.Fatal(err)
	}
	cleaned(t, f, rep, false)
}

// TestOrgsAreMadeAtAnyAddress: one that is dead, another cluster's or waiting to be taken in, first of --operator-url, does not stand before the others.
func TestOrgsAreMadeAtAnyAddress(t *testing.T) {
	t.Parallel()
	ended, err := ParseTarget("http://127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	foreign := newFake(t)
	foreign.refuse = "invalid_operator_token"
	stranger := foreign.serve(1)[0]
	f := newFake(t)
	f.operators, f.batches = true, true
	cfg := config(t, "validate", f.serve(1))
	cfg.Token, cfg.Orgs, cfg.Operators = "token", 1, []*Target{ended, stranger, cfg.Targets[0]}
	rep, err := Run(t.Context(), cfg)
	if err != nil || rep == nil {
		t.Fatal(err)
	}
}

func TestExplains(t *testing.T) {
	t.Parallel()
	ended, err := ParseTarget("http://127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change      func(*fake, *Config)
		want        string
		unavailable bool
	}{
		"unreachable": {func(_ *fake, c *Config) { c.Targets = append(c.Targets, ended) }, "nobody listens at http://127.0.0.1:1: start it, or correct the address", true},
		"closed":      {func(f *fake, _ *Config) { f.refuse = "signup_closed" }, "give --operator-url and --operator-token-file", false},
		"token":       {func(f *fake, c *Config) { f.refuse, c.Token, c.Operators = "invalid_operator_token", "x", c.Targets }, "give the one of this cluster", false},
		"few seats":   {func(f *fake, _ *Config) { f.limit = 0 }, "an org may have 0 devices, too few for validate: only an operator can lift that", false},
	} {
		f := newFake(t)
		cfg := config(t, "validate", f.serve(1))
		c.change(f, cfg)
		rep, err := Run(t.Context(), cfg)
		if rep != nil || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var u UnavailableError
		if errors.As(err, &u) != c.unavailable {
			t.Errorf("%s: %#v", name, err)
		}
	}
}
