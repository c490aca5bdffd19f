//go:build linux

package raftstore

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

const sigTerm = syscall.SIGTERM

// processSeed is MACHINEID_TEST_SEED, or a new one each run; it is printed.
func processSeed(tb testing.TB) uint64 {
	tb.Helper()
	seed := rand.Uint64N(1 << 32)
	if set := os.Getenv("MACHINEID_TEST_SEED"); set != "" {
		seed = must[uint64](tb)(strconv.ParseUint(set, 10, 64))
	}
	tb.Logf("run again with MACHINEID_TEST_SEED=%d", seed)
	return seed
}

// processTime is how long each cluster of processes is hurt: half of TORTURE in the long form.
func processTime() time.Duration {
	switch {
	case tortureTime() > 0:
		return tortureTime() / 2
	case testing.Short():
		return 3 * time.Second
	}
	return 9 * time.Second
}

// TestProcesses hurts clusters of real processes in every way there is, while clients read and write at every node. What they saw is
// linearizable, every acknowledged write is there, and the states of all nodes are the same at the same index, at any time. Clusters
// have the machine for themselves, as far as one test of a package can: a node that gets no processor is not heard, and another is elected.
func TestProcesses(t *testing.T) {
	sizes := []int{3}
	if tortureTime() > 0 {
		sizes = []int{3, 5}
	}
	for _, nodes := range sizes {
		t.Run(fmt.Sprintf("%d nodes", nodes), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(processSeed(t), uint64(nodes)))
			c := startProcesses(t, nodes, nodeConfig{})
			w := observe(c, rng, 8)
			h := newHavoc(c, rng)
			among := mishaps
			if tortureTime() > 0 {
				among = slices.Concat(mishaps, longMishaps)
			}
			for h.rampage(among, processTime()); w.idle() && len(c.faultsFound()) == 0; {
				h.rampage(among, time.Second) // on a slow machine little is done in that time
			}
			w.end()
			if len(c.faultsFound()) == 0 {
				w.finish(t)
			}
			bad := w.badKeys()
			w.report(t, h, bad)
			for _, found := range slices.Concat(c.faultsFound(), bad) {
				t.Error(found)
			}
			if t.Failed() {
				t.Log(strings.Join(c.past, "\n"))
			}
		})
	}
}

// report prints what was done and seen.
func (w *witness) report(t *testing.T, h *havoc, bad []string) {
	t.Helper()
	did := w.before
	for _, run := range w.runs {
		did = did.plus(run)
	}
	t.Logf("%d operations in %s: %v", len(w.ops), time.Since(w.began).Round(time.Second), w.counts)
	faults := 0
	for _, n := range h.count {
		faults += n
	}
	t.Logf("%d faults: %v; orders %v, obeyed %v; %d writes to slow disks; %v", faults, h.count, h.ordered, h.obeyed, did.slowed, &w.c.wires.met)
	for _, fault := range h.came(did) {
		t.Error(fault)
	}
	t.Logf("%d violations; %d leaders; longest time without a write %s (during %q), until all were level again %s; %d states compared at equal indexes, %d ranges of logs by the verifier; %d states sent",
		len(bad)+len(w.c.faultsFound()), w.leaders(), w.gap.Round(time.Millisecond), w.gapAfter,
		h.slowest.Round(time.Millisecond), w.checked, did.compared, did.installs)
}

// TestProcessesMutants: each planted fault is caught by the checks of the test above; by make torture all, else one of them.
func TestProcessesMutants(t *testing.T) {
	named := func(names ...string) (some []mishap) {
		for _, f := range mishaps {
			if slices.Contains(names, f.name) {
				some = append(some, f)
			}
		}
		return some
	}
	for _, mutant := range []struct {
		name   string
		cfg    nodeConfig
		faults []mishap
		caught func(w *witness) bool
	}{
		{
			"reads are not confirmed",
			nodeConfig{ReadUnconfirmed: true},
			named("leader paused with answers under way"),
			func(w *witness) bool { return w.judge() == porcupine.Illegal },
		},
		{
			"a machine is not deterministic",
			nodeConfig{Wobbles: true},
			named("transfer"),
			func(w *witness) bool { return len(w.c.faultsFound()) > 0 },
		},
		{
			"writes are acknowledged before they are committed",
			nodeConfig{AcksEarly: true},
			named("leader cut off", "leader killed"),
			func(w *witness) bool { return w.judge() == porcupine.Illegal },
		},
	} {
		if tortureTime() == 0 && !mutant.cfg.Wobbles {
			continue
		}
		t.Run(mutant.name, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(processSeed(t), 1))
			c := startProcesses(t, 3, mutant.cfg)
			w := observe(c, rng, 16)
			defer w.end()
			h := newHavoc(c, rng)
			for range 40 { // far more than it ever took
				h.strike(mutant.faults)
				h.repair()
				if mutant.caught(w) {
					t.Logf("caught after %v", h.count)
					return
				}
			}
			t.Error("it was never caught")
		})
	}
}
