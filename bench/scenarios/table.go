//go:build linux

package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"machineid/bench/report"
)

// write prints what was measured as tables.
func write(w io.Writer, machine string, length time.Duration, all []*outcome) {
	fmt.Fprintf(w, "%s Three nodes, three edges, the generator and the bare handler, %v each.\n\n", machine, length)
	fmt.Fprint(w, "At a rate (open loop). The bare handler gets validates at the same rate over as many connections, right after.\n\n")
	fmt.Fprint(w, "| scenario | due/s | measured | p50 | p99 | p99.9 | bare p50 | bare p99 | p50, of bare | p99, of bare | errors | violations | besides |\n|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, o := range all {
		if o.rate == 0 {
			continue
		}
		a, b := mainOf(o.report), mainOf(o.bare)
		fmt.Fprintf(w, "| %s | %d | %s, %d | %s | %s | %s | %s | %s | %.1f | %.1f | %s | %d of %d | %s |\n", o.name, o.rate, a.Name, a.Count,
			report.Duration(a.LatencyMs.P50), report.Duration(a.LatencyMs.P99), report.Duration(a.LatencyMs.P999), report.Duration(b.LatencyMs.P50), report.Duration(b.LatencyMs.P99),
			ratio(a.LatencyMs.P50, b.LatencyMs.P50), ratio(a.LatencyMs.P99, b.LatencyMs.P99), failures(a), o.report.Violations.Count, o.report.Violations.Checked, besides(o.report))
	}
	fmt.Fprint(w, "\nAs fast as answers come (closed loop):\n\n| scenario | connections | answers/s | p50 | p99 | bare answers/s | rate, of bare | errors |\n|---|---|---|---|---|---|---|---|\n")
	for _, o := range all {
		if o.rate > 0 {
			continue
		}
		a, b := mainOf(o.report), mainOf(o.bare)
		fmt.Fprintf(w, "| %s | %d | %.0f | %s | %s | %.0f | %.2f | %s |\n", o.name, o.conns, a.Rate, report.Duration(a.LatencyMs.P50), report.Duration(a.LatencyMs.P99), b.Rate, ratio(a.Rate, b.Rate), failures(a))
	}
	fmt.Fprint(w, "\nWhat limits each: shares of the machine's processor time meanwhile, and what one edge and the leader spent theirs on, from CPU profiles.\n\n")
	fmt.Fprint(w, "| scenario | edges | nodes | generator | others | so it is limited by | an edge's profile | the leader's profile |\n|---|---|---|---|---|---|---|---|\n")
	for _, o := range all {
		u := o.use
		fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s | %s | %s |\n", o.name, percent(u.edges), percent(u.nodes), percent(u.generator), percent(u.others), o.limit(), o.edge.top(), o.leader.top())
	}
}

// mainOf is what a report measured first.
func mainOf(r *report.Report) *report.Op {
	op, has := r.Op(r.Main)
	if !has {
		return &report.Op{Name: r.Main}
	}
	return op
}

// limit says in words what the figures of an outcome are limited by. A machine whose cores are all taken is the limit whatever the rest is.
func (o *outcome) limit() string {
	u := o.use
	sum := u.edges + u.nodes + u.generator + u.others
	const full, much = 0.9, 0.25
	switch {
	case sum == 0:
		return "not observed"
	case o.terms > 0 && !o.killed:
		return fmt.Sprintf("%d changes of leader, unwanted: nodes that got no processor time for half a second; changes then wait for S", o.terms)
	case sum >= full && u.others >= much:
		return "processor, which other programs take a part of"
	case sum >= full:
		most, name := u.edges, "edges"
		if u.nodes > most {
			most, name = u.nodes, "nodes"
		}
		if u.generator > most {
			name = "generator"
		}
		return "processor, most of it by the " + name
	case o.killed:
		return "the election, then S"
	case o.rate > 0:
		return fmt.Sprintf("the rate that is due: %s of the processor is idle", percent(1-sum))
	}
	return fmt.Sprintf("waiting (round trips, syncs): %s of the processor is idle", percent(1-sum))
}

// besides are the other operations, and the gaps.
func besides(r *report.Report) string {
	var all []string
	for _, op := range r.Ops {
		if op.Name == r.Main || op.Count == 0 || op.Name == "remove" || strings.HasPrefix(op.Name, "deny_") && op.Name != "deny_last" {
			continue
		}
		all = append(all, fmt.Sprintf("%s p50 %s, p99 %s", op.Name, report.Duration(op.LatencyMs.P50), report.Duration(op.LatencyMs.P99)))
	}
	longest := map[string]report.Gap{}
	for _, g := range r.Gaps {
		if g.Longest > longest[g.Op].Longest {
			longest[g.Op] = g
		}
	}
	for _, op := range slices.Sorted(maps.Keys(longest)) {
		g := longest[op]
		all = append(all, fmt.Sprintf("longest gap of %s %s (%.2f %% available)", op, report.Duration(g.Longest), 100*g.Availability()))
	}
	return strings.Join(all, "; ")
}

// failures are errors by code.
func failures(op *report.Op) string {
	if op.Errors == 0 {
		return "0"
	}
	return fmt.Sprintf("%d (%.2f %%)", op.Errors, 100*float64(op.Errors)/float64(op.Count))
}

func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

func percent(share float64) string { return fmt.Sprintf("%.0f %%", 100*share) }
