package search

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"time"
)

// Main is a program that searches a model, as its arguments say. It returns the status to end with: 1 if anything is wrong with a state, if
// a mutant is not caught (or a harmless one is), if something that must happen for a search to mean anything never does, or if a
// search was cut short.
func Main(m *Model) int {
	var o Options
	flag.BoolVar(&o.Full, "full", false, "search the large instances too (minutes)")
	flag.StringVar(&o.Only, "only", "", "the `NAME` of the one instance to search, large or not")
	flag.BoolVar(&o.NoMutants, "no-mutants", false, "leave the mutants out")
	flag.IntVar(&o.Workers, "workers", runtime.NumCPU(), "goroutines of a search")
	flag.IntVar(&o.Limit, "limit", 80_000_000, "end a search at `N` states: 80 million take 2 to 4 GiB")
	list := flag.Bool("list", false, "print the instances and which of them covers which rule, and search nothing")
	flag.Parse()
	if *list {
		fmt.Fprint(os.Stdout, m.Overview(), "\n", m.Coverage())
		return 0
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if !m.Search(ctx, os.Stdout, o) {
		return 1
	}
	return 0
}

// Options say which instances are searched, and how.
type Options struct {
	Full, NoMutants bool
	Only            string // the name of the one instance; "": all
	Workers, Limit  int    // as in Run
}

// Search prints what it finds, and reports whether all is as it should be.
func (m *Model) Search(ctx context.Context, w io.Writer, o Options) bool {
	list := m.Instances(o.Full)
	if o.Only != "" {
		list = nil
		if in := m.find(o.Only); in != nil {
			list = []*Instance{in}
		}
	}
	p := &printer{m: m, w: w, run: Run{Ctx: ctx, Workers: o.Workers, Limit: o.Limit}, good: len(list) > 0}
	began := time.Now()
	fmt.Fprintf(w, "%-14s %11s %5s %8s\n", "instance", "states", "depth", "time")
	for _, in := range list {
		p.whole(in)
		if o.NoMutants {
			continue
		}
		for _, r := range in.Mutants {
			p.mutant(in, r)
		}
		for _, r := range in.Harmless {
			p.harmless(in, r)
		}
	}
	fmt.Fprintf(w, "%d instances, %d states with the mutants' in %.0f s; violations: %d; mutants caught: %d of %d", len(list), p.states, time.Since(began).Seconds(),
		p.violations, p.caught, p.mutants)
	if p.harmlessOnes > 0 {
		fmt.Fprintf(w, "; harmless, as they should be: %d", p.harmlessOnes)
	}
	fmt.Fprintln(w)
	return p.good
}

// printer counts and prints.
type printer struct {
	m                                                 *Model
	w                                                 io.Writer
	run                                               Run
	good                                              bool
	caught, mutants, harmlessOnes, violations, states int
}

func (p *printer) whole(in *Instance) {
	space := in.Space(p.m.whole())
	r := space.Explore(p.run)
	p.states += r.States
	fmt.Fprintf(p.w, "%-14s %11d %5d %7.1fs  %s\n", in.Name, r.States, r.Depth, r.Took.Seconds(), in.About)
	for _, fault := range p.m.faults(in, &r) {
		p.good = false
		fmt.Fprintf(p.w, "  FAULT: %s\n", fault)
	}
	if r.Wrong != "" {
		p.violations++
		p.trace(space)
	}
}

func (p *printer) mutant(in *Instance, off Rule) {
	r := in.Space(off).Explore(p.run)
	p.mutants++
	if r.Wrong == "" {
		p.good = false
		p.verdict("NOT CAUGHT", off, &r)
		return
	}
	p.caught++
	p.verdict("caught", off, &r)
}

// harmless searches a mutant to its end: nothing may be wrong.
func (p *printer) harmless(in *Instance, off Rule) {
	space := in.Space(off)
	r := space.Explore(p.run)
	switch {
	case r.Wrong != "":
		p.good = false
		p.verdict("NOT HARMLESS", off, &r)
		p.trace(space)
	case r.Cut:
		p.good = false
		p.verdict("CUT", off, &r)
	default:
		p.harmlessOnes++
		p.verdict("harmless", off, &r)
	}
}

func (p *printer) verdict(verdict string, off Rule, r *Result) {
	p.states += r.States
	rule := p.m.Rules[off]
	fmt.Fprintf(p.w, "  %-12s %11d %5d %7.1fs  %s, %s\n", verdict, r.States, r.Depth, r.Took.Seconds(), rule.Of, rule.Mutant)
}

func (p *printer) trace(space Searchable) {
	for _, step := range space.Trace(p.run) {
		fmt.Fprintf(p.w, "    %s\n", step)
	}
}

// faults are the reasons for which a search shows nothing good.
func (m *Model) faults(in *Instance, r *Result) (list []string) {
	if r.Wrong != "" {
		list = append(list, r.Wrong)
	}
	if r.Cut {
		list = append(list, "not searched to the end")
	}
	for _, w := range in.Wants {
		if r.Seen>>w&1 == 0 {
			list = append(list, "never seen: "+m.Witnesses[w])
		}
	}
	return list
}
