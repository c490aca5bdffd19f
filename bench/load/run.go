package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"machineid/bench/report"
)

// cleanUpTime bounds the cleaning up.
const cleanUpTime = 5 * time.Minute

// maxBooks bounds how many sets of histograms there are: connections beyond share them.
const maxBooks = 32

// Run prepares, loads, cleans up, and reports. When ctx ends it stops loading, and does the rest. The report is nil if nothing was measured; it
// is there beside an error of the cleaning up. An error that is an UnavailableError says that a target could not be reached or could not serve.
func Run(ctx context.Context, cfg *Config) (*report.Report, error) {
	began := time.Now()
	w, err := Prepare(ctx, cfg)
	var rep *report.Report
	if err == nil {
		rep, err = w.Measure(ctx, cfg)
	}
	left, cerr := w.tidy(ctx)
	if cerr != nil {
		cerr = fmt.Errorf("clean up: %w", cerr)
	}
	if rep == nil {
		if len(left) > 0 {
			err = errors.Join(err, fmt.Errorf("left behind: the orgs %v", left))
		}
		return nil, errors.Join(err, cerr)
	}
	rep.Started, rep.Left = began.UTC(), left
	return rep, errors.Join(err, cerr)
}

// tidy cleans up, also when ctx has ended.
func (w *World) tidy(ctx context.Context) ([]string, error) {
	if len(w.Orgs) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
	defer cancel()
	return w.cleanUp(ctx)
}

// Prepare makes the orgs and devices of a run, and makes targets hold what it asks about. The world is there beside an error too: it has
// what was made until then. Nothing is taken away again: Run does that.
func Prepare(ctx context.Context, cfg *Config) (*World, error) {
	w := &World{cfg: cfg, tag: tagOf(cfg.Seed)}
	err := w.prepare(ctx)
	if err != nil && ctx.Err() != nil {
		err = errors.New("interrupted while preparing: nothing was measured")
	}
	return w, err
}

// Warm asks every target about every device, until all are allowed, but begins nothing more after some time (0: there is no such time). It
// returns how many devices, from the first on, every target holds.
func (w *World) Warm(ctx context.Context, within time.Duration) (devices int, err error) {
	n := len(w.cfg.Targets)
	asked, err := w.eachWithin(ctx, "asking every target about every device", len(w.Devices)*n, nil, within, func(c *Conn, i int) error {
		c.redirect(w.cfg.Targets[i%n])
		return w.warm(ctx, c, &w.Devices[i/n])
	})
	return asked / n, err
}

// Measure runs a scenario over the world's orgs and devices, those that the configuration asks for or not. One run at a time. When ctx ends it
// stops loading, and reports what there is.
func (w *World) Measure(ctx context.Context, cfg *Config) (*report.Report, error) {
	w.cfg = cfg
	if len(w.Devices) == 0 && cfg.Scenario.Devices > 0 {
		return nil, fmt.Errorf("an org may have %d devices, too few for %s: %s", w.limit, cfg.Scenario.Name, w.remedy())
	}
	r := &run{cfg: cfg, world: w, ops: slices.Clone(cfg.Scenario.ops)}
	for i, name := range cfg.Scenario.Ops(len(cfg.Targets))[len(r.ops):] {
		r.ops = append(r.ops, op{name: name, about: "the target " + cfg.Targets[i].URL})
	}
	background, err := cfg.Scenario.build(r)
	if err != nil {
		return nil, err
	}
	for range min(cfg.Connections, maxBooks) {
		r.books = append(r.books, newBook(len(r.ops)))
	}
	took, err := r.load(ctx, background)
	if err != nil {
		return nil, err
	}
	return r.report(took, ctx.Err() != nil), nil
}

// report says what the run came to.
func (r *run) report(took time.Duration, interrupted bool) *report.Report {
	c := r.cfg
	rep := &report.Report{
		Version: c.Version, Scenario: c.Scenario.Name, Mode: c.Mode, Loop: "open", Offered: c.Rate.String(), From: cmp.Or(c.Scenario.from, "when a request was due"),
		Connections: r.connections(), NewConnections: c.NewConnections, Choice: "each device as likely as any other",
		Orgs: len(r.world.Orgs), Devices: len(r.world.Devices), Seed: c.Seed,
		Warmup: c.Warmup.Seconds(), Measured: took.Seconds(), Interrupted: interrupted,
		Violations: report.Violations{Count: r.promise.broken.Load(), Checked: r.promise.checked.Load(), Samples: r.promise.samples},
		Main:       r.ops[0].name, Series: r.series, Events: r.events, Notes: append(r.world.notes, r.notes...),
	}
	if c.Closed {
		rep.Loop, rep.Offered, rep.From = "closed", "", "when a request was sent"
	}
	if c.Zipf > 1 {
		rep.Choice = fmt.Sprintf("chosen by Zipf's law with s=%v", c.Zipf)
	}
	for _, t := range c.Targets {
		rep.Targets = append(rep.Targets, t.URL)
	}
	for i, t := range r.totals {
		if t == nil {
			if i > 0 {
				continue
			}
			t = newTally()
		}
		o := report.Op{
			Name: r.ops[i].name, About: r.ops[i].about, Count: t.count(), Errors: t.failed(), Codes: byName(&t.codes), Cached: t.cached,
			LatencyMs: report.NewLatency(t.hist), Curve: report.NewCurve(t.hist),
		}
		if took > 0 {
			o.Rate = float64(t.count()-t.codes[codeNotSent]) / took.Seconds()
		}
		rep.Ops = append(rep.Ops, o)
	}
	for _, l := range r.lanes {
		if l.gap == nil {
			continue
		}
		at := "every target in turn"
		if l.target != nil {
			at = l.target.URL
		}
		rep.Gaps = append(rep.Gaps, report.Gap{
			Target: at, Op: r.ops[l.op].name, Longest: float64(l.gap.longest) / float64(time.Millisecond), At: max((l.gap.at - c.Warmup).Seconds(), 0),
			OK: l.gap.ok, Failed: l.gap.failed,
		})
	}
	return rep
}

func (r *run) connections() (n int) {
	for _, l := range r.lanes {
		n += l.workers
		if l.target == nil {
			n += l.workers * len(r.cfg.Targets)
		}
	}
	return n
}
