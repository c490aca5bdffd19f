//go:build linux

// Command scale measures MachineID with a million devices on one machine: three
// nodes and an edge as processes, everything loaded through the API. It says how
// long loading took, what memory each tier needs then, how soon a node serves
// again, and how long a revoke takes.
//
//	go run ./bench/scale [-orgs 10000] [-devices 1000000] [-docs docs/bench.md]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"machineid/bench/fleet"
	"machineid/bench/load"
	"machineid/bench/report"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := scale(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "scale:", err)
		os.Exit(1)
	}
}

func scale(ctx context.Context, args []string) (err error) {
	flags := flag.NewFlagSet("scale", flag.ExitOnError)
	var (
		orgs        = flags.Int("orgs", 10_000, "how many orgs")
		devices     = flags.Int("devices", 1_000_000, "how many devices, over all orgs")
		connections = flags.Int("connections", 512, "connections that load, at the leader")
		within      = flags.Duration("within", 270*time.Second, "how long devices are registered at most; then the figures are about fewer, and say so. Asking the edge about all of them has two thirds of it")
		dir         = flags.String("dir", "", "folder for the data, on the disk to measure; default: a temporary one")
		docs        = flags.String("docs", "", "the document that the figures are written into, at its markers")
	)
	_ = flags.Parse(args) // ends the program on an error
	if *dir == "" {
		if *dir, err = os.MkdirTemp("", "scale-"); err != nil {
			return fmt.Errorf("make a folder: %w", err)
		}
		defer func() { err = errors.Join(err, os.RemoveAll(*dir)) }()
	}
	binary, err := fleet.Build(ctx, *dir)
	if err != nil {
		return err
	}
	machine := fleet.Machine(ctx)
	f, err := fleet.Open(ctx, fleet.Config{
		Binary: binary, Dir: *dir, Nodes: 3, Edges: 1, NodeFlags: []string{"--cache-ttl", cacheTTL.String()},
		EdgeFlags: []string{"--limits=false", "--cache-entries", strconv.Itoa(max(*devices, 1000))},
	})
	if err != nil {
		return err
	}
	defer f.Close()
	r := &run{Fleet: f, dir: *dir, orgs: *orgs, devices: *devices, connections: *connections, within: *within, room: max(*devices, 1000), screen: load.NewScreen(os.Stderr, isTerminal(os.Stderr), "scale")}
	fmt.Fprintf(&r.text, "%s %d devices in %d orgs, three nodes and an edge.\n\n", machine, *devices, *orgs)
	fmt.Fprint(&r.text, "| what | figure |\n|---|---|\n")
	err = r.all(ctx)
	fmt.Fprint(os.Stdout, r.text.String())
	if err != nil || *docs == "" {
		return err
	}
	return report.Insert(*docs, "scale", r.text.String())
}

// cacheTTL is long enough for the edge to hold all at once: usually entries that nobody asks about end after a minute.
const cacheTTL = 10 * time.Minute

// run is one measurement.
type run struct {
	*fleet.Fleet

	dir                        string
	orgs, devices, connections int
	room                       int // entries that the edge has room for
	within                     time.Duration
	screen                     *load.Screen
	text                       strings.Builder

	phase struct {
		what  string
		began time.Time
	}
	took map[string]time.Duration // of each phase of preparing
}

func (r *run) rowf(what, format string, args ...any) {
	fmt.Fprintf(&r.text, "| %s | %s |\n", what, fmt.Sprintf(format, args...))
}

// progress shows how far preparing is, and notes how long each phase took.
func (r *run) progress(what string, done, total int) {
	if r.took == nil {
		r.took = map[string]time.Duration{}
	}
	if what != r.phase.what {
		r.phase.what, r.phase.began = what, time.Now()
	}
	r.took[what] = time.Since(r.phase.began)
	r.screen.Progress(what, done, total)
}

func (r *run) all(ctx context.Context) error {
	leader, err := r.Leader(ctx)
	if err != nil {
		return err
	}
	edge := r.Edges[0]
	cfg, err := r.config(leader, edge)
	if err != nil {
		return err
	}
	empty, err := edge.Heap(ctx)
	if err != nil {
		return err
	}
	few := *cfg
	few.Orgs, few.Devices, few.Mode = min(10, r.orgs), min(100, r.devices), "hit"
	small, err := load.Prepare(ctx, &few)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	if err := r.revokes(ctx, small, cfg, fmt.Sprintf("before: %d devices", few.Devices)); err != nil {
		return err
	}
	began := time.Now()
	world, err := load.Prepare(ctx, cfg)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	all := time.Since(began)
	if n := len(world.Devices); n < r.devices {
		r.rowf("loading was ended after "+r.within.String(), "**%d devices**, not %d: all below is about these", n, r.devices)
		r.devices = n
	}
	making, lifting, registering := r.took["making orgs"], r.took["lifting limits"], r.took["registering devices"]
	r.rowf("loaded through the API, "+strconv.Itoa(r.connections)+" connections", "%s: %d orgs in %s, their limits in %s, %d devices in %s: **%.0f registers/s**", seconds(all),
		r.orgs, seconds(making), seconds(lifting), r.devices, seconds(registering), float64(r.devices)/registering.Seconds())
	if err := r.memory(ctx, leader, "authority, the leader: live heap, resident memory, disk"); err != nil {
		return err
	}
	held, err := world.Warm(ctx, r.within*2/3)
	if err != nil {
		return fmt.Errorf("ask the edge about every device: %w", err)
	}
	asking := r.took["asking every target about every device"]
	r.rowf(fmt.Sprintf("the edge is asked about %d devices, each a miss", held), "%s: %.0f validates/s", seconds(asking), float64(held)/asking.Seconds())
	heap, err := edge.Heap(ctx)
	if err != nil {
		return err
	}
	r.rowf("the edge then: live heap, resident memory", "%s, %s; empty it has %s live: **%.0f bytes a device**, or %.0f with the room for %d entries that is taken at once; both with its share of a key and an org", mb(heap), mb(edge.RSS()),
		mb(empty), float64(heap-empty)/float64(held), float64(heap)/float64(held), r.room)
	world.Devices = world.Devices[:held]
	if err := r.hits(ctx, world, cfg); err != nil {
		return err
	}
	if err := r.revokes(ctx, world, cfg, "with all that, the edge holding every device"); err != nil {
		return err
	}
	return r.restarts(ctx, leader)
}

func (r *run) config(leader, edge *fleet.Member) (*load.Config, error) {
	s, err := load.Find("validate")
	if err != nil {
		return nil, err
	}
	token, err := os.ReadFile(r.TokenFile)
	if err != nil {
		return nil, fmt.Errorf("read the operator's token: %w", err)
	}
	at, err := load.ParseTarget(edge.URL())
	if err != nil {
		return nil, err
	}
	front, err := load.ParseTarget(leader.URL())
	if err != nil {
		return nil, err
	}
	return &load.Config{
		Scenario: s, Mode: "cold" /* asks nothing beforehand */, Targets: []*load.Target{at}, Makers: []*load.Target{front}, Operators: []*load.Target{front}, Enough: r.within, Disposable: true, Token: strings.TrimSpace(string(token)),
		Connections: r.connections, Timeout: 10 * time.Second, Orgs: r.orgs, Devices: r.devices, Seed: uint64(time.Now().UnixNano()),
		Progress: r.progress,
	}, nil
}

// memory says what an authority node needs.
func (r *run) memory(ctx context.Context, m *fleet.Member, what string) error {
	heap, err := m.Heap(ctx)
	if err != nil {
		return err
	}
	size, err := folder(filepath.Join(r.dir, m.ID))
	if err != nil {
		return err
	}
	r.rowf(what, "%s, %s, %s", mb(heap), mb(m.RSS()), mb(size))
	return nil
}

// hits validates what the edge holds.
func (r *run) hits(ctx context.Context, w *load.World, base *load.Config) error {
	cfg := *base
	cfg.Mode, cfg.Rate, cfg.Connections, cfg.Duration, cfg.Warmup = "hit", load.Rate{From: 5000, To: 5000}, 64, 8*time.Second, time.Second
	cfg.Watch = r.screen.Watch
	rep, err := w.Measure(ctx, &cfg)
	if err != nil {
		return fmt.Errorf("validate: %w", err)
	}
	op, _ := rep.Op(rep.Main)
	r.rowf("validates at 5,000/s, any of the devices", "p50 %s, p99 %s; %.2f %% from memory, %d errors of %d", millis(op.LatencyMs.P50), millis(op.LatencyMs.P99),
		100*float64(op.Cached)/float64(max(op.Count, 1)), op.Errors, op.Count)
	return nil
}

// revokes measures the promise's price.
func (r *run) revokes(ctx context.Context, w *load.World, base *load.Config, what string) (err error) {
	cfg := *base
	if cfg.Scenario, err = load.Find("revoke"); err != nil {
		return err
	}
	cfg.Mode, cfg.Rate, cfg.Connections, cfg.Duration, cfg.Warmup = "", load.Rate{From: 20, To: 20}, 16, 8*time.Second, time.Second
	cfg.Watch = r.screen.Watch
	rep, err := w.Measure(ctx, &cfg)
	if err != nil {
		return fmt.Errorf("revoke: %w", err)
	}
	call, _ := rep.Op("revoke")
	deny, has := rep.Op("deny_last")
	if !has || call.Count == 0 {
		return errors.New("revoke: nothing was measured")
	}
	r.rowf("revoke, "+what, "the call p50 **%s**, p99 %s; the edge denies after p50 %s, p99 %s; %d revokes, %d errors, **%d violations**", millis(call.LatencyMs.P50), millis(call.LatencyMs.P99),
		millis(deny.LatencyMs.P50), millis(deny.LatencyMs.P99), call.Count, call.Errors+deny.Errors, rep.Violations.Count)
	if rep.Violations.Count > 0 {
		return fmt.Errorf("the promise was broken: %v", rep.Violations.Samples)
	}
	return nil
}

// restarts measures how soon nodes serve again.
func (r *run) restarts(ctx context.Context, leader *fleet.Member) error {
	var follower *fleet.Member
	for _, n := range r.Nodes {
		if n != leader {
			follower = n
		}
	}
	for _, way := range []struct {
		name string
		end  func()
	}{{"a follower that was killed", follower.Kill}, {"a follower that was stopped", follower.End}} {
		way.end()
		began := time.Now()
		if err := follower.Run(ctx); err != nil {
			return err
		}
		r.rowf("restart of "+way.name+", until it is ready", "%s", seconds(time.Since(began)))
	}
	if err := r.memory(ctx, follower, "the same node then: live heap, resident memory, disk"); err != nil {
		return err
	}
	for _, n := range r.Nodes {
		n.Kill()
	}
	began := time.Now()
	faults := make([]error, len(r.Nodes))
	var starting sync.WaitGroup
	for i, n := range r.Nodes {
		starting.Go(func() { faults[i] = n.Run(ctx) })
	}
	starting.Wait()
	if err := errors.Join(faults...); err != nil {
		return err
	}
	if _, err := r.Leader(ctx); err != nil {
		return err
	}
	r.rowf("restart of all three, killed at once, until all are ready and one leads", "%s", seconds(time.Since(began)))
	return nil
}

// folder is the size of the files below dir.
func folder(dir string) (size int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil //nolint:nilerr // files come and go
		}
		if info, err := d.Info(); err == nil {
			size += info.Size()
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("measure the folder %s: %w", dir, err)
	}
	return size, nil
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil && os.Getenv("TERM") != "dumb"
}

func mb(bytes int64) string          { return fmt.Sprintf("%.0f MB", float64(bytes)/1e6) }
func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
func millis(ms float64) string       { return report.Duration(ms) }
