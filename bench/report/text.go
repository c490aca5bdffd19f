package report

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// Text writes the report for people.
func (r *Report) Text(w io.Writer) error {
	var b bytes.Buffer
	r.textViolations(&b)
	fmt.Fprintf(&b, "%s: %s\n", r.title(), strings.Join(r.Targets, ", "))
	fmt.Fprintln(&b, r.LoopLine())
	fmt.Fprintf(&b, "%.1f s measured after %.1f s of warm-up; %d connections%s; %d orgs, %d devices, %s; seed %d\n",
		r.Measured, r.Warmup, r.Connections, map[bool]string{true: ", a new one for each request"}[r.NewConnections], r.Orgs, r.Devices, r.Choice, r.Seed)
	if r.Interrupted {
		fmt.Fprintln(&b, "INTERRUPTED: what follows is what was measured until then")
	}
	if line := r.GapLine(); line != "" {
		fmt.Fprintln(&b, line)
	}
	fmt.Fprintln(&b)
	r.textOps(&b)
	r.textGaps(&b)
	for _, o := range r.Thresholds {
		fmt.Fprintf(&b, "%-6s %s (%s)\n", map[bool]string{true: "met", false: "MISSED"}[o.Met], o.Text, o.Actual)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	if len(r.Left) > 0 {
		fmt.Fprintf(&b, "left behind: %d orgs: %s\n", len(r.Left), strings.Join(r.Left, " "))
	}
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

func (r *Report) title() string {
	if r.Mode != "" {
		return r.Scenario + " (" + r.Mode + ")"
	}
	return r.Scenario
}

// LoopLine says in which loop it was measured, and what that means.
func (r *Report) LoopLine() string {
	if r.Loop == "closed" {
		return "CLOSED LOOP: each connection waits for its answer before it sends again, so a stall hides what would have come due meanwhile"
	}
	return "open loop: " + r.Offered + " due; latency counts from " + r.From
}

// GapLine names the longest gap of each operation, changes too, the longest first; "" if none was looked for.
func (r *Report) GapLine() string {
	worst := map[string]Gap{}
	for _, g := range r.Gaps {
		if w, ok := worst[g.Op]; !ok || g.Longest > w.Longest {
			worst[g.Op] = g
		}
	}
	parts := make([]string, 0, len(worst))
	for _, g := range slices.SortedFunc(maps.Values(worst), func(a, b Gap) int { return cmp.Or(cmp.Compare(b.Longest, a.Longest), cmp.Compare(a.Op, b.Op)) }) {
		parts = append(parts, fmt.Sprintf("%s %s (from %.1f s)", g.Op, Duration(g.Longest), g.At))
	}
	if len(parts) == 0 {
		return ""
	}
	return "longest time without a success: " + strings.Join(parts, ", ")
}

func (r *Report) textViolations(b *bytes.Buffer) {
	v := r.Violations
	switch {
	case v.Count > 0:
		fmt.Fprintf(b, "VIOLATIONS OF THE PROMISE: %d of %d validates that were sent after the right had been taken away were allowed\n", v.Count, v.Checked)
		for _, s := range v.Samples {
			fmt.Fprintf(b, "  %s\n", s)
		}
		fmt.Fprintln(b)
	case v.Checked > 0:
		fmt.Fprintf(b, "violations of the promise: 0 (%d validates sent after the right had been taken away, none allowed)\n", v.Checked)
	}
}

func (r *Report) textOps(b *bytes.Buffer) {
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "operation\tcount\trate/s\terrors\tp50\tp90\tp99\tp99.9\tp99.99\tmax\t")
	for _, op := range r.Ops {
		l := op.LatencyMs
		fmt.Fprintf(t, "%s\t%d\t%.1f\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", op.Name, op.Count, op.Rate, op.errors(),
			Duration(l.P50), Duration(l.P90), Duration(l.P99), Duration(l.P999), Duration(l.P9999), Duration(l.Max))
	}
	_ = t.Flush() // into memory
	fmt.Fprintln(b)
	for _, op := range r.Ops {
		fmt.Fprintf(b, "%s: %s%s\n", op.Name, op.codes(), op.cached())
		if op.About != "" {
			fmt.Fprintf(b, "  (%s)\n", op.About)
		}
	}
	fmt.Fprintln(b)
}

func (op *Op) errors() string {
	if op.Errors == 0 || op.Count == 0 {
		return "0"
	}
	return fmt.Sprintf("%d (%.3f%%)", op.Errors, float64(op.Errors)/float64(op.Count)*100)
}

func (op *Op) cached() string {
	if op.Cached == 0 || op.Count == 0 {
		return ""
	}
	return fmt.Sprintf("; %.2f%% from the edge's memory", float64(op.Cached)/float64(op.Count)*100)
}

// codes lists the codes, the most frequent first.
func (op *Op) codes() string {
	if len(op.Codes) == 0 {
		return "nothing"
	}
	var parts []string
	for _, name := range byCount(op.Codes) {
		parts = append(parts, name+" "+strconv.FormatInt(op.Codes[name], 10))
	}
	return strings.Join(parts, ", ")
}

func byCount(codes map[string]int64) []string {
	return slices.SortedFunc(maps.Keys(codes), func(a, b string) int {
		return cmp.Or(cmp.Compare(codes[b], codes[a]), cmp.Compare(a, b))
	})
}

func (r *Report) textGaps(b *bytes.Buffer) {
	if len(r.Gaps) == 0 {
		return
	}
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "target\toperation\tavailable\tlongest gap\tfrom")
	for _, g := range r.Gaps {
		fmt.Fprintf(t, "%s\t%s\t%.3f%%\t%s\t%.1f s\n", g.Target, g.Op, g.Availability()*100, Duration(g.Longest), g.At)
	}
	_ = t.Flush() // into memory
	fmt.Fprintln(b)
}
