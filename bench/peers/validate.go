package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"machineid/bench/fleet"
	"machineid/bench/report"
)

// validate compares ways to ask whether a device may run.
func validate(ctx context.Context, args []string) (err error) {
	fs := flag.NewFlagSet("validate", flag.ExitOnError)
	var (
		connections = fs.Int("connections", 64, "connections of the second measurement; the first has one")
		length      = fs.Duration("for", time.Second, "how long each measurement takes")
		rounds      = fs.Int("rounds", 5, "measurements of each, in turn; the median counts")
		dir         = fs.String("dir", "", "folder for the data of all; default: a temporary one")
		tools       = fs.String("tools", "../../.bin", "folder where OpenFGA is built, once")
		build       = fs.Bool("build", true, "build OpenFGA if it is not there")
		docs        = fs.String("docs", "", "the document that the table is written into, at its markers")
	)
	_ = fs.Parse(args) // ends the program on an error
	if *dir == "" {
		if *dir, err = os.MkdirTemp("", "peers-"); err != nil {
			return fmt.Errorf("make a folder: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(*dir)) }()
	}
	if err := os.Chmod(*dir, 0o755); err != nil {
		return fmt.Errorf("open the folder to nginx: %w", err)
	}
	abs, err := filepath.Abs(*tools)
	if err != nil {
		return fmt.Errorf("find the folder of tools: %w", err)
	}
	t := table{machine: fleet.Machine(ctx), connections: []int{1, *connections}, length: *length, rounds: *rounds}
	var s stops
	defer s.all()
	if t.peers, err = startAll(ctx, *dir, abs, *build, &s); err != nil {
		return err
	}
	if err := t.measure(ctx); err != nil {
		return err
	}
	var text strings.Builder
	t.write(&text)
	fmt.Fprint(os.Stdout, text.String())
	if *docs == "" {
		return nil
	}
	return report.Insert(*docs, "bench-peers", text.String())
}

// startAll starts every peer that is installed. The floor is the first.
func startAll(ctx context.Context, dir, tools string, build bool, s *stops) (all []*peer, err error) {
	e, err := startEdges(ctx, dir, s)
	if err != nil {
		return nil, err
	}
	answer, err := e.answer()
	if err != nil {
		return nil, err
	}
	bare, err := startBare(ctx, dir, answer, e.requests, s)
	if err != nil {
		return nil, err
	}
	all = []*peer{bare}
	add := func(name string, more []*peer, err error) {
		if err != nil {
			more = []*peer{missing(name, err)}
		}
		all = append(all, more...)
	}
	nginx, err := startNginx(ctx, dir, answer, e.requests, s)
	add("nginx", []*peer{nginx}, err)
	all = append(all, e.peer())
	if r, err := startRedis(ctx, dir, s); err != nil {
		add("Redis GET", nil, err)
	} else {
		all = append(all, r.peers()...)
	}
	const clients = 4
	if etcd, err := startEtcd(ctx, dir, clients); err != nil {
		add("etcd range", nil, err)
	} else {
		s.add(etcd.close)
		add("etcd range", etcd.peers(), each(ctx, func(i int) error { return etcd.set(ctx, i, true) }))
	}
	binary, err := findOpenFGA(ctx, tools, build)
	if err != nil {
		add("OpenFGA Check, cached", nil, err)
	} else if o, err := startOpenFGA(ctx, binary, dir, s); err != nil {
		add("OpenFGA Check, cached", nil, err)
	} else {
		all = append(all, o.peers()...)
	}
	return all, ctx.Err()
}

// table is the comparison.
type table struct {
	machine     string
	peers       []*peer
	connections []int
	length      time.Duration
	rounds      int

	rates   map[*peer][]rates // one for each number of connections
	denials map[*peer]denials
}

func (t *table) measure(ctx context.Context) error {
	t.rates, t.denials = map[*peer][]rates{}, map[*peer]denials{}
	samples := make([]map[*peer][]sample, len(t.connections))
	for i := range samples {
		samples[i] = map[*peer][]sample{}
	}
	for round := range t.rounds {
		for i, n := range t.connections {
			for _, p := range t.peers {
				if !p.timed {
					continue
				}
				fmt.Fprintf(os.Stderr, "peers: round %d of %d, %d connections: %s\n", round+1, t.rounds, n, p.name)
				s, err := measure(ctx, p, n, t.length)
				if err != nil {
					return err
				}
				samples[i][p] = append(samples[i][p], s)
			}
		}
	}
	for _, p := range t.peers {
		if p.timed {
			for i := range t.connections {
				t.rates[p] = append(t.rates[p], summarise(samples[i][p], samples[i][t.peers[0]]))
			}
		}
		if p.set == nil {
			continue
		}
		fmt.Fprintf(os.Stderr, "peers: revokes: %s\n", p.name)
		d, err := revokes(ctx, p)
		if err != nil {
			return err
		}
		t.denials[p] = d
	}
	return nil
}

func (t *table) write(w io.Writer) {
	fmt.Fprintf(w, "%s %d rounds of %v each, in turn; medians.\n\n", t.machine, t.rounds, t.length)
	many := t.connections[1]
	fmt.Fprintf(w, "| | answers/s, %d connections | of bare | p50 | p99 | answers/s, 1 connection | of bare | p50 | p99 | server's CPU an answer |\n|---|---|---|---|---|---|---|---|---|---|\n", many)
	for _, p := range t.peers {
		if p.absent != "" {
			fmt.Fprintf(w, "| %s | %s | | | | | | | | |\n", p.name, p.absent)
		}
		r := t.rates[p]
		if len(r) == 0 {
			continue
		}
		name := p.name
		if n := r[0].denied + r[1].denied; n > 0 {
			name += fmt.Sprintf(" (%d denied)", n)
		}
		fmt.Fprintf(w, "| %s | %.0f | %.2f | %s | %s | %.0f | %.2f | %s | %s | %s |\n", name, r[1].perSecond, r[1].ratio, ms(r[1].p50), ms(r[1].p99),
			r[0].perSecond, r[0].ratio, ms(r[0].p50), ms(r[0].p99), micro(r[1].cpu))
	}
	fmt.Fprint(w, "\nA revoke, while every place that answers is asked all the time:\n\n")
	fmt.Fprint(w, "| | revokes | the call, p50 | p99 | last place denies, p50 | p99 | ALLOW to what was asked after the call had returned | for at most |\n|---|---|---|---|---|---|---|---|\n")
	for _, p := range t.peers {
		d, has := t.denials[p]
		if !has {
			continue
		}
		n := len(d.call)
		broken, after := "none", ""
		if d.broken > 0 {
			broken, after = fmt.Sprintf("%d of %d", d.broken, n), ms(d.after)
		}
		fmt.Fprintf(w, "| %s | %d | %s | %s | %s | %s | %s | %s |\n", p.name, n, ms(d.call[n/2]), ms(d.call[n*99/100]), ms(d.last[n/2]), ms(d.last[n*99/100]), broken, after)
	}
	fmt.Fprint(w, "\n| | what was measured | does a revoke hold when it returns? |\n|---|---|---|\n")
	for _, p := range t.peers {
		if p.absent == "" {
			fmt.Fprintf(w, "| %s | %s | %s |\n", p.name, p.how, p.holds)
		}
	}
}

func ms(d time.Duration) string {
	switch v := float64(d) / float64(time.Millisecond); {
	case v < 1:
		return fmt.Sprintf("%.3f ms", v)
	case v < 100:
		return fmt.Sprintf("%.2f ms", v)
	default:
		return fmt.Sprintf("%.0f ms", v)
	}
}

func micro(d time.Duration) string {
	return fmt.Sprintf("%.1f µs", float64(d)/float64(time.Microsecond))
}
