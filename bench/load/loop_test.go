package load

import (
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"machineid/bench/report"
)

// staller stops all answers once, for a second.
type staller struct {
	mu    sync.Mutex
	began time.Time
	once  sync.Once
}

const (
	stall      = time.Second
	stallAfter = 300 * time.Millisecond
)

func (s *staller) before(int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.began.IsZero() {
		s.began = time.Now()
	}
	if time.Since(s.began) > stallAfter {
		s.once.Do(func() { time.Sleep(stall) }) // with the lock: everybody waits
	}
}

func measured(t *testing.T, cfg *Config) (*report.Report, *report.Op) {
	t.Helper()
	rep, err := Run(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	op, found := rep.Op(rep.Main)
	if !found {
		t.Fatalf("nothing was measured: %+v", rep)
	}
	return rep, op
}

// share is the part of the requests that took longer than a time.
func share(op *report.Op, longer time.Duration) float64 {
	below := 0.0
	for _, c := range op.Curve {
		if c.Ms <= float64(longer.Milliseconds()) {
			below = c.Share
		}
	}
	return 1 - below
}

// TestStallShowsInFull proves what the open loop is for: while the server stalls for a second of two, half of all requests come due, and
// each is charged what it waited. The same stall in a closed loop concerns as many requests as there are connections.
func TestStallShowsInFull(t *testing.T) {
	t.Parallel()
	for name, closed := range map[string]bool{"open": false, "closed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			cfg := config(t, "validate", f.serve(1))
			cfg.Mode = "unknown" // asks nothing beforehand
			cfg.Rate, cfg.Duration, cfg.Closed, cfg.Connections = Rate{500, 500}, 2*time.Second, closed, 4
			f.before = (&staller{}).before
			rep, op := measured(t, cfg)
			slow := share(op, stall/2)
			t.Logf("%s: %d requests, %.1f%% took more than half the stall, the longest %.0f ms", rep.Loop, op.Count, slow*100, op.LatencyMs.Max)
			if op.LatencyMs.Max < 990 {
				t.Errorf("the longest took %v ms, the stall was %v", op.LatencyMs.Max, stall)
			}
			if rep.Loop != name || strings.Contains(rep.LoopLine(), "CLOSED") != closed {
				t.Errorf("the report calls it %s: %s", rep.Loop, rep.LoopLine())
			}
			// Due in the first half of the stall: a quarter of all. A machine that is busy makes it more, never less.
			if !closed && (op.Count != 1000 || slow < 0.2) {
				t.Errorf("%d requests of 1000, %.1f%% of them slow, want a quarter", op.Count, slow*100)
			}
			if n := slow * float64(op.Count); closed && n > 5*4 { // the percentile's step is wider than one request, and the machine may be busy
				t.Errorf("%.0f slow requests in a closed loop of 4 connections", n)
			}
		})
	}
}

// TestKnownDelays compares the histogram with delays that are known: every tenth request takes 60 ms, the others 10. Nothing may be faster
// than that, ever. That it is not much slower is what a quiet machine shows in one of some tries; TestHistogramAgainstTheServersClock holds it on any.
func TestKnownDelays(t *testing.T) {
	const tries = 5
	for try := 1; ; try++ {
		f := newFake(t)
		var n atomic.Int64
		f.before = func(int) {
			d := 10 * time.Millisecond
			if n.Add(1)%10 == 0 {
				d = 60 * time.Millisecond
			}
			time.Sleep(d)
		}
		cfg := config(t, "validate", f.serve(2))
		cfg.Mode, cfg.Connections, cfg.Rate = "unknown", 64, Rate{300, 300}
		rep, op := measured(t, cfg)
		l := op.LatencyMs
		t.Logf("%d requests, %+v", op.Count, l)
		if op.Count != 300 || op.Errors != 0 || l.P50 < 9.99 || share(op, 59*time.Millisecond) < 0.09 || l.Max < 59.9 || op.Rate > 301 {
			t.Fatalf("%d requests, %d errors, %.1f/s", op.Count, op.Errors, op.Rate)
		}
		total := int64(0)
		for _, p := range rep.Series {
			total += p.Count
		}
		if total != op.Count {
			t.Fatalf("the seconds have %d requests, the whole %d", total, op.Count)
		}
		if l.P50 < 15 && share(op, 50*time.Millisecond) < 0.15 && l.Max < 300 && op.Rate > 270 {
			return
		}
		if try == tries {
			t.Logf("in none of %d tries was it near the delays: the machine is busy", tries)
			return
		}
	}
}

// TestUnsentIsCounted proves that an overloaded target is not flattered by what was never sent to it.
func TestUnsentIsCounted(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	f.before = func(int) { time.Sleep(100 * time.Millisecond) }
	cfg := config(t, "validate", f.serve(1))
	cfg.Mode, cfg.Connections = "unknown", 1
	rep, op := measured(t, cfg)
	if op.Count != 200 || op.Codes["not_sent"] < 150 || op.Errors != op.Codes["not_sent"] || len(rep.Notes) == 0 {
		t.Errorf("%d requests, %v, notes %q", op.Count, op.Codes, rep.Notes)
	}
	if op.Rate > 20 || op.LatencyMs.P99 < 900 {
		t.Errorf("rate %v, p99 %v ms, of a target that answers 10 a second", op.Rate, op.LatencyMs.P99)
	}
}

func TestPlan(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		plan  plan
		total int64
		half  time.Duration // when half of them are due
	}{
		"even":         {plan{rate: Rate{100, 100}, length: 10 * time.Second}, 1000, 5 * time.Second},
		"with warm-up": {plan{rate: Rate{100, 100}, warmup: 5 * time.Second, length: 5 * time.Second}, 1000, 5 * time.Second},
		// A ramp from nothing has half of its requests after 1/√2 of its time.
		"up":        {plan{rate: Rate{1e-9, 1000}, length: 10 * time.Second}, 5000, 7071 * time.Millisecond},
		"down":      {plan{rate: Rate{1000, 1e-9}, length: 10 * time.Second}, 5000, 2929 * time.Millisecond},
		"warm ramp": {plan{rate: Rate{100, 300}, warmup: 2 * time.Second, length: 10 * time.Second}, 2200, 7724 * time.Millisecond},
	} {
		if n := c.plan.total(); n < c.total || n > c.total+1 {
			t.Errorf("%s: %d requests, want %d", name, n, c.total)
		}
		if at := c.plan.due(c.total / 2); (at - c.half).Abs() > 20*time.Millisecond {
			t.Errorf("%s: half of them are due after %v, want %v", name, at, c.half)
		}
		for i := int64(1); i < c.total; i++ {
			if c.plan.due(i) < c.plan.due(i-1) {
				t.Fatalf("%s: request %d is due before the one before it", name, i)
			}
		}
	}
}

func TestWaiterIsPreciseAndWakes(t *testing.T) {
	t.Parallel()
	w, err := newWaiter()
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	best := time.Hour
	for range 50 {
		began := time.Now()
		if !w.sleep(300 * time.Microsecond) {
			t.Fatal("it did not sleep")
		}
		took := time.Since(began)
		if took < 300*time.Microsecond {
			t.Fatalf("slept %v", took)
		}
		best = min(best, took)
	}
	t.Logf("the best of 50 sleeps of 300 µs took %v", best)
	time.AfterFunc(time.Millisecond, w.wake)
	if w.sleep(time.Minute) {
		t.Error("a woken sleep says that its time has passed")
	}
}
