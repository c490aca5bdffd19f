//go:build linux

// Command scenarios runs every scenario of `machineid bench` on three nodes and
// three edges, all processes of this machine, each beside a bare fasthttp handler
// that answers the same calls with as many bytes. It names what limits each
// figure, from processor times and CPU profiles taken meanwhile.
//
//	go run ./bench/scenarios [-docs docs/bench.md] [-only hit]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"machineid/bench/fleet"
	"machineid/bench/report"
)

func main() {
	if addr := os.Getenv(bareEnv); addr != "" {
		exit(runBare(addr, os.Args[1]))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := scenarios(ctx, os.Args[1:])
	stop()
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "scenarios:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func scenarios(ctx context.Context, args []string) (err error) {
	fs := flag.NewFlagSet("scenarios", flag.ExitOnError)
	var (
		length = fs.Duration("for", 8*time.Second, "how long each scenario is measured")
		only   = fs.String("only", "", "only the scenarios whose name matches this expression")
		dir    = fs.String("dir", "", "folder for the data, on the disk to measure; default: a temporary one")
		docs   = fs.String("docs", "", "the document that the tables are written into, at its markers")
	)
	_ = fs.Parse(args) // ends the program on an error
	match, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	if *dir == "" {
		if *dir, err = os.MkdirTemp("", "scenarios-"); err != nil {
			return fmt.Errorf("make a folder: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(*dir)) }()
	}
	binary, err := fleet.Build(ctx, *dir)
	if err != nil {
		return err
	}
	machine := fleet.Machine(ctx)
	f, err := fleet.Open(ctx, fleet.Config{Binary: binary, Dir: *dir, Nodes: 3, Edges: 3, EdgeFlags: []string{"--limits=false"}})
	if err != nil {
		return err
	}
	defer f.Close()
	r := &runner{Fleet: f, binary: binary, dir: *dir, length: *length}
	bare, err := r.startBare(ctx)
	if err != nil {
		return err
	}
	defer bare.Kill()
	var done []*outcome
	for _, s := range all {
		if !match.MatchString(s.name) {
			continue
		}
		o, err := r.run(ctx, s)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		done = append(done, o)
	}
	var text strings.Builder
	write(&text, machine, *length, done)
	fmt.Fprint(os.Stdout, text.String())
	if *docs == "" {
		return nil
	}
	return report.Insert(*docs, "bench-report", text.String())
}

// scenario is one run.
type scenario struct {
	name   string
	args   []string // of machineid bench, the scenario's name first
	rate   int      // due a second; 0: a closed loop
	conns  int
	killed bool // the leader is killed halfway, and started again
}

// all is what is run: each scenario at a rate that leaves the machine air, and in a closed loop those whose highest rate matters.
var all = []scenario{
	{name: "validate, hit", args: []string{"validate", "--mode", "hit"}, rate: 5000, conns: 64},
	{name: "validate, cold", args: []string{"validate", "--mode", "cold"}, rate: 1500, conns: 64},
	{name: "validate, unknown", args: []string{"validate", "--mode", "unknown"}, rate: 1500, conns: 64},
	{name: "mixed", args: []string{"mixed"}, rate: 1500, conns: 64},
	{name: "revoke", args: []string{"revoke"}, rate: 20, conns: 16},
	{name: "storm", args: []string{"storm"}, rate: 1500, conns: 64},
	{name: "register", args: []string{"register"}, rate: 500, conns: 64},
	{name: "validate, hit, closed loop", args: []string{"validate", "--mode", "hit"}, conns: 64},
	{name: "validate, cold, closed loop", args: []string{"validate", "--mode", "cold", "--devices", "40000", "--orgs", "100"}, conns: 32},
	{name: "register, closed loop", args: []string{"register", "--orgs", "100"}, conns: 256},
	{name: "failover", args: []string{"failover"}, rate: 1000, conns: 64, killed: true}, // last: what it breaks shall not meet the others
}

// startBare starts the yardstick. The answer that it imitates is an edge's own.
func (r *runner) startBare(ctx context.Context) (*fleet.Process, error) {
	answer, err := r.answer(ctx)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(r.dir, "answer")
	if err := os.WriteFile(file, answer, 0o600); err != nil {
		return nil, fmt.Errorf("keep the answer: %w", err)
	}
	return r.bareProcess(ctx, file)
}
