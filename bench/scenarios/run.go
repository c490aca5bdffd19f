//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"machineid/bench/fleet"
	"machineid/bench/report"
)

// runner runs scenarios one after the other on one cluster.
type runner struct {
	*fleet.Fleet

	binary, dir string
	bare        string // the yardstick's URL
	length      time.Duration
}

// outcome is one scenario's.
type outcome struct {
	scenario

	report, bare *report.Report
	use          use
	edge, leader *profile // nil: none was taken
	terms        uint64   // how many began meanwhile
}

// use is how much of the machine's processor time each part took, as shares of all cores.
type use struct{ edges, nodes, generator, others float64 }

const barely = 4 * time.Second // how long the yardstick is measured

// run runs one scenario, and the yardstick under the same load right after it. On a busy machine a cluster may be between two leaders just
// when a scenario begins: then it is run again.
func (r *runner) run(ctx context.Context, s scenario) (o *outcome, err error) {
	for range 3 {
		if o, err = r.once(ctx, s); !errors.Is(err, errUnavailable) || ctx.Err() != nil {
			break
		}
		fmt.Fprintf(os.Stderr, "scenarios: once more: %v\n", err)
		if _, err := r.Leader(ctx); err != nil {
			return nil, err
		}
	}
	return o, err
}

func (r *runner) once(ctx context.Context, s scenario) (o *outcome, err error) {
	o = &outcome{scenario: s}
	args := append([]string{"bench"}, s.args...)
	args = append(args, "--duration", r.length.String(), "--operator-url", r.urls(r.Nodes), "--operator-token-file", r.TokenFile)
	_, before, err := r.Reign(ctx)
	if err != nil {
		return nil, err
	}
	o.report, err = r.bench(ctx, s, append(args, "--target", r.urls(r.Edges)), func(generator *exec.Cmd) { r.observe(ctx, o, generator) })
	if err != nil {
		return nil, err
	}
	_, after, err := r.Reign(ctx)
	if err != nil {
		return nil, err
	}
	o.terms = after - before
	args = []string{"bench", "validate", "--mode", "hit", "--duration", barely.String(), "--operator-url", r.bare, "--operator-token-file", r.TokenFile, "--target", r.bare}
	o.bare, err = r.bench(ctx, s, args, func(*exec.Cmd) {})
	if err != nil {
		return nil, fmt.Errorf("the bare handler: %w", err)
	}
	return o, nil
}

func (r *runner) urls(members []*fleet.Member) string {
	all := make([]string, 0, len(members))
	for _, m := range members {
		all = append(all, m.URL())
	}
	return strings.Join(all, ",")
}

// bench runs `machineid bench`, and calls during when its load has begun.
func (r *runner) bench(ctx context.Context, s scenario, args []string, during func(generator *exec.Cmd)) (*report.Report, error) {
	out := filepath.Join(r.dir, "report.json")
	args = append(args, "--connections", strconv.Itoa(s.conns), "--warmup", "1s", "--out", out)
	if s.rate > 0 {
		args = append(args, "--rate", strconv.Itoa(s.rate))
	} else {
		args = append(args, "--closed-loop")
	}
	fmt.Fprintf(os.Stderr, "scenarios: machineid %s\n", strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, r.binary, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	said, err := cmd.StderrPipe()
	if err != nil {
		return nil, fmt.Errorf("run machineid bench: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("run machineid bench: %w", err)
	}
	var observing sync.WaitGroup
	var last bytes.Buffer
	begun := false
	lines := bufio.NewScanner(said)
	for lines.Scan() {
		last.WriteString(lines.Text() + "\n")
		fmt.Fprintln(os.Stderr, lines.Text())
		if !begun && (strings.HasPrefix(lines.Text(), "warm-up") || strings.Contains(lines.Text(), " rate ")) {
			begun = true
			observing.Go(func() { during(cmd) })
		}
	}
	_, _ = io.Copy(io.Discard, said) // a line too long for the scanner
	err = cmd.Wait()
	observing.Wait()
	if _, ended := errors.AsType[*exec.ExitError](err); ended && cmd.ProcessState.ExitCode() == exitMissed {
		err = nil // the report says by what
	}
	if err != nil {
		if cmd.ProcessState.ExitCode() == exitUnavailable {
			err = errUnavailable
		}
		return nil, fmt.Errorf("machineid bench: %w: %s", err, last.Bytes()[max(0, last.Len()-2000):])
	}
	b, err := os.ReadFile(out)
	if err != nil {
		return nil, fmt.Errorf("read the report: %w", err)
	}
	rep := &report.Report{}
	if err := json.Unmarshal(b, rep); err != nil {
		return nil, fmt.Errorf("read the report: %w", err)
	}
	return rep, nil
}

// Exit codes of machineid bench.
const (
	exitMissed      = 3 // a condition was missed
	exitUnavailable = 4
)

var errUnavailable = errors.New("unavailable")

// observe takes profiles and processor times while the load runs, and breaks what the scenario wants broken.
func (r *runner) observe(ctx context.Context, o *outcome, generator *exec.Cmd) {
	window := r.length - time.Second // well within the measurement
	leader, err := r.Leader(ctx)
	if err != nil {
		return // without a leader the report says enough
	}
	before := r.times(generator)
	var working sync.WaitGroup
	take := func(m *fleet.Member, into **profile) {
		working.Go(func() {
			b, err := m.Profile(ctx, window)
			if err == nil {
				*into, err = r.read(ctx, m.ID, b)
			}
			if err != nil && !o.killed {
				fmt.Fprintf(os.Stderr, "scenarios: no profile of %s: %v\n", m.ID, err)
			}
		})
	}
	take(r.Edges[0], &o.edge)
	if o.killed {
		working.Go(func() { r.breakLeader(ctx, leader) })
	} else {
		take(leader, &o.leader)
	}
	select {
	case <-time.After(window):
	case <-ctx.Done():
	}
	used, at := fleet.CPU(generator.Process.Pid), time.Now() // now, for it may end before the others have
	working.Wait()
	after := r.times(generator)
	after.generator = before.generator + time.Duration(float64(used-before.generator)*after.at.Sub(before.at).Seconds()/at.Sub(before.at).Seconds())
	o.use = after.since(before)
}

// breakLeader kills the leader, and starts it again.
func (r *runner) breakLeader(ctx context.Context, leader *fleet.Member) {
	for _, step := range []func(){leader.Kill, func() {
		if err := leader.Run(ctx); err != nil {
			fmt.Fprintf(os.Stderr, "scenarios: start %s again: %v\n", leader.ID, err)
		}
	}} {
		select {
		case <-time.After(r.length / 4):
		case <-ctx.Done():
		}
		step() // also when the run is over: what was killed runs again for the next
	}
}

// times are processor times since each process began, and the machine since it did.
type times struct {
	at               time.Time
	edges, nodes     map[*fleet.Process]time.Duration
	generator, whole time.Duration
}

func (r *runner) times(generator *exec.Cmd) (t times) {
	t = times{at: time.Now(), edges: map[*fleet.Process]time.Duration{}, nodes: map[*fleet.Process]time.Duration{}}
	for _, m := range r.Edges {
		t.edges[m.Process] = m.CPU()
	}
	for _, m := range r.Nodes {
		t.nodes[m.Process] = m.CPU()
	}
	t.generator = fleet.CPU(generator.Process.Pid)
	t.whole = fleet.MachineCPU()
	return t
}

func (t times) since(from times) use {
	all := t.at.Sub(from.at).Seconds() * float64(runtime.NumCPU())
	sum := func(now, then map[*fleet.Process]time.Duration) (all time.Duration) {
		for p, d := range now { // one that was killed meanwhile is missing, and its successor began at nothing
			all += d - then[p]
		}
		return all
	}
	u := use{
		edges: sum(t.edges, from.edges).Seconds() / all, nodes: sum(t.nodes, from.nodes).Seconds() / all,
		generator: max(0, (t.generator-from.generator).Seconds()/all),
	}
	u.others = max(0, (t.whole-from.whole).Seconds()/all-u.edges-u.nodes-u.generator)
	return u
}
