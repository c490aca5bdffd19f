// Model searches small instances of the link's protocol: every order of every step
// that edges, leaders, the network and time can take, with time going on for ever. See
// DESIGN.md for what is searched, what is not, and how far a search can be trusted.
//
// It ends with status 1 if an answer of validate is wrong, if a mutant (the protocol
// with one rule broken) is not caught, if something that must happen for a search to
// mean anything never does, or if a search was cut short.
package main

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

func main() {
	var o options
	flag.BoolVar(&o.full, "full", false, "search the large instances too (minutes)")
	flag.StringVar(&o.only, "only", "", "the `NAME` of the one instance to search, large or not")
	flag.BoolVar(&o.noMutants, "no-mutants", false, "leave the mutants out")
	flag.IntVar(&o.workers, "workers", runtime.NumCPU(), "goroutines of a search")
	flag.IntVar(&o.limit, "limit", 80_000_000, "end a search at `N` states: 80 million take 2 to 4 GiB")
	list := flag.Bool("list", false, "print the instances and which of them covers which rule, and search nothing")
	flag.Parse()
	if *list {
		fmt.Fprint(os.Stdout, overview(), "\n", coverage())
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	good := run(ctx, os.Stdout, o)
	stop()
	if !good {
		os.Exit(1)
	}
}

type options struct {
	full, noMutants bool
	only            string
	workers, limit  int
}

// run searches the instances that o asks for.
func run(ctx context.Context, w io.Writer, o options) bool {
	var list []*instance
	for _, in := range instances(o.full || o.only != "") {
		if o.only == "" || o.only == in.name {
			list = append(list, in)
		}
	}
	return search(ctx, w, o, list)
}

// search prints what it finds, and reports whether all is as it should be.
func search(ctx context.Context, w io.Writer, o options, list []*instance) bool {
	began, good := time.Now(), true
	caught, mutants, violations, searched, states := 0, 0, 0, 0, 0
	fmt.Fprintf(w, "%-14s %11s %5s %8s\n", "instance", "states", "depth", "time")
	for _, in := range list {
		r := explore(ctx, in, rules, o.workers, o.limit)
		searched++
		states += r.states
		fmt.Fprintf(w, "%-14s %11d %5d %7.1fs  %s\n", in.name, r.states, r.depth, r.took.Seconds(), in.about)
		for _, fault := range r.faults(in) {
			good = false
			fmt.Fprintf(w, "  FAULT: %s\n", fault)
		}
		if r.wrong != "" {
			violations++
			for _, step := range trace(ctx, in, rules) {
				fmt.Fprintf(w, "    %s\n", step)
			}
		}
		if o.noMutants {
			continue
		}
		for _, m := range in.mutants {
			r := explore(ctx, in, m, o.workers, o.limit)
			mutants++
			states += r.states
			verdict := "NOT CAUGHT"
			if r.wrong != "" {
				caught++
				verdict = "caught"
			}
			fmt.Fprintf(w, "  %-12s %11d %5d %7.1fs  %s, %s\n", verdict, r.states, r.depth, r.took.Seconds(), ruleText[m].of, ruleText[m].mutant)
		}
	}
	fmt.Fprintf(w, "%d instances, %d states with the mutants' in %.0f s; violations: %d; mutants caught: %d of %d\n",
		searched, states, time.Since(began).Seconds(), violations, caught, mutants)
	return good && caught == mutants && mutants+searched > 0
}

// faults are the reasons for which a search shows nothing good.
func (r *result) faults(in *instance) (list []string) {
	if r.wrong != "" {
		list = append(list, r.wrong)
	}
	if r.cut {
		list = append(list, "not searched to the end")
	}
	for _, w := range in.wants {
		if r.seen>>w&1 == 0 {
			list = append(list, "never seen: "+witnessText[w])
		}
	}
	return list
}
