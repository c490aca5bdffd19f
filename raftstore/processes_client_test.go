//go:build linux

package raftstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

const (
	keyTime = 2 * time.Second // how long a key is in use: the check of one key must end
	keysNow = 6               // keys in use at a time
)

// witness gathers what clients saw of a cluster of processes, and what its nodes are.
type witness struct {
	c     *processes
	began time.Time
	stop  chan struct{}
	busy  sync.WaitGroup

	mu       sync.Mutex
	ops      []porcupine.Operation
	seen     map[string]string // the value last seen of a key: what a cas goes by
	counts   map[string]int
	acked    time.Time         // when the newest write was
	gap      time.Duration     // longest time without a write
	gapAfter []string          // what was done to the cluster then
	hashes   map[uint64]string // by index, from whichever node told first
	checked  int               // how many were compared with another node's
	terms    map[uint64]string // who led them
	runs     map[string]work   // of each node, in its newest run
	before   work              // in all runs before those
}

// work is what nodes did on the side.
type work struct {
	compared int64 // ranges of logs, by the verifier
	installs int64 // states that were sent and installed
	slowed   int64 // writes to a slow disk
}

func (a work) plus(b work) work {
	return work{a.compared + b.compared, a.installs + b.installs, a.slowed + b.slowed}
}

// observe lets clients work, and looks at the nodes, until the end.
func observe(c *processes, rng *rand.Rand, clients int) *witness {
	w := &witness{
		c: c, began: time.Now(), acked: time.Now(), stop: make(chan struct{}), seen: map[string]string{}, counts: map[string]int{},
		hashes: map[uint64]string{}, terms: map[uint64]string{}, runs: map[string]work{},
	}
	for id := range clients {
		own := rand.New(rand.NewPCG(rng.Uint64(), uint64(id)))
		w.busy.Go(func() { w.client(id, own) })
	}
	w.busy.Go(w.look)
	return w
}

func (w *witness) end() {
	close(w.stop)
	w.busy.Wait()
}

// idle reports whether too little was done so far to mean anything.
func (w *witness) idle() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counts["write done"] < 10 || w.counts["read done"] < 10 || w.checked < 10
}

// pause is how long a client waits between two calls at most. In the long form nodes are to be busy; else they are to have time, beside the tests of other packages.
func pause() time.Duration {
	if tortureTime() > 0 {
		return 10 * time.Millisecond
	}
	return 50 * time.Millisecond
}

func (w *witness) now() int64 { return int64(time.Since(w.began)) }

// client calls one node after the other, or, every second one, reads at the same node whoever leads: it waits there with a question
// when a paused leader goes on. What was refused is left out: it must never show (R9).
func (w *witness) client(id int, rng *rand.Rand) {
	var leader string
	for n := 0; ; n++ {
		select {
		case <-w.stop:
			return
		case <-time.After(time.Duration(rng.Int64N(int64(pause())))):
		}
		nodes := w.c.all()
		p := nodes[rng.IntN(len(nodes))]
		if hinted := w.c.find(leader); hinted != nil && rng.IntN(8) > 0 {
			p = hinted
		}
		cmd := regCommand{Kind: []string{kindWrite, kindWrite, kindCAS, kindRead, kindRead}[rng.IntN(5)]}
		if id%2 == 1 {
			p, cmd.Kind = nodes[id/2%len(nodes)], kindRead
		}
		cmd.Key = fmt.Sprintf("%d.%d", time.Since(w.began)/keyTime, rng.IntN(keysNow))
		if cmd.Kind != kindRead {
			cmd.Value = fmt.Sprintf("%d.%d", id, n)
		}
		if cmd.Kind == kindCAS {
			w.mu.Lock()
			cmd.Old = w.seen[cmd.Key]
			w.mu.Unlock()
		}
		within := 1500 * time.Millisecond
		if cmd.Kind == kindRead { // so that some are with a paused leader that were asked after another was elected
			within = time.Duration(100+rng.IntN(1400)) * time.Millisecond
		}
		leader = w.take(p, id, cmd, within)
	}
}

// take makes one call and records it. It returns who the node believes leads.
func (w *witness) take(p *process, id int, cmd regCommand, within time.Duration) (leader string) {
	body, err := json.Marshal(cmd)
	if err != nil {
		panic(err)
	}
	op := porcupine.Operation{ClientId: id, Input: cmd, Call: w.now()}
	var a regAnswer
	err = p.call(within, "/op", body, &a)
	op.Return = w.now()
	var dial *net.OpError
	switch {
	case errors.Is(err, errNotSent), errors.As(err, &dial) && dial.Op == "dial":
		a.Outcome = answerRefused
	case err != nil:
		a.Outcome = answerUnknown
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts[cmd.Kind+" "+a.Outcome]++
	switch {
	case a.Outcome == answerRefused, a.Outcome == answerUnknown && cmd.Kind == kindRead:
		return a.Leader
	case a.Outcome == answerUnknown:
		op.Return = math.MaxInt64 // at any later time, or never
	case cmd.Kind == kindRead:
		w.seen[cmd.Key] = a.Value
	default:
		if a.Done {
			w.seen[cmd.Key] = cmd.Value
		}
		if gap := time.Since(w.acked); gap > w.gap {
			w.gap, w.gapAfter = gap, w.c.recently()
		}
		w.acked = time.Now()
	}
	op.Output = a
	w.ops = append(w.ops, op)
	if a.Outcome == answerUnknown {
		return "" // whoever leads, it is not certain to be this one
	}
	return p.cfg.ID
}

// look compares the hashes of all nodes at equal indexes, and notes who leads.
func (w *witness) look() {
	since := map[string]uint64{}
	for {
		select {
		case <-w.stop:
			return
		case <-time.After(200 * time.Millisecond):
		}
		for _, p := range w.c.all() {
			w.lookAt(p, since)
		}
	}
}

func (w *witness) lookAt(p *process, since map[string]uint64) {
	s, err := p.state(since[p.cfg.ID])
	if err != nil {
		since[p.cfg.ID] = 0 // it may repeat some, after a crash
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.Leads {
		if other := w.terms[s.Term]; other != "" && other != s.ID {
			w.c.faultf("%s and %s both lead term %d", other, s.ID, s.Term)
		}
		w.terms[s.Term] = s.ID
	}
	now, was := work{s.Compared, s.Installs, s.Slowed}, w.runs[s.ID]
	if now.compared < was.compared || now.installs < was.installs || now.slowed < was.slowed {
		w.before = w.before.plus(was)
	}
	w.runs[s.ID] = now
	for index, hash := range s.Hashes {
		since[p.cfg.ID] = max(since[p.cfg.ID], index)
		switch was, ok := w.hashes[index]; {
		case !ok:
			w.hashes[index] = hash
		case was != hash:
			w.c.faultf("at index %d %s has the state %s, another had %s", index, s.ID, hash, was)
		default:
			w.checked++
		}
	}
}

// await waits for a condition that costs calls.
func await(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for end := time.Now().Add(settled); !cond(); <-poll.C {
		if time.Now().After(end) {
			tb.Fatalf("waited in vain until %s", what)
		}
	}
}

// leaders is how many different terms were led.
func (w *witness) leaders() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.terms)
}

// finish stops the clients, heals nothing, and adds what the leader has in the end to the history: a read of every key. The states
// of all nodes must be the same at the same index.
func (w *witness) finish(tb testing.TB) {
	tb.Helper()
	var all map[string]string
	call := w.now()
	await(tb, "the leader tells everything", func() bool {
		call = w.now()
		l := w.c.leader()
		return l != nil && l.call(5*time.Second, "/all", nil, &all) == nil
	})
	w.mu.Lock()
	keys := map[string]bool{}
	for _, op := range w.ops {
		keys[commandOf(op.Input).Key] = true
	}
	for key := range keys {
		w.ops = append(w.ops, porcupine.Operation{
			ClientId: 1 << 20, Input: regCommand{Kind: kindRead, Key: key}, Call: call, Return: w.now(),
			Output: regAnswer{Outcome: answerDone, Value: all[key]},
		})
	}
	w.mu.Unlock()
	w.level(tb)
}

// level waits until all nodes have applied the same, and compares their states there.
func (w *witness) level(tb testing.TB) {
	tb.Helper()
	var states []nodeState
	await(tb, "all nodes have applied the same", func() bool {
		states = states[:0]
		for _, p := range w.c.all() {
			s, err := p.state(noHashes)
			if err != nil || (len(states) > 0 && s.Applied != states[0].Applied) {
				return false
			}
			states = append(states, s)
		}
		return len(states) == w.c.size
	})
	for i, p := range w.c.all() { // nothing is written any more
		states[i] = must[nodeState](tb)(p.state(0))
	}
	for _, p := range w.c.all() {
		w.lookAt(p, map[string]uint64{})
		if err := p.do(10*time.Second, "audit", "", ""); err != nil {
			w.c.faultf("the state of %s in the end: %v", p.cfg.ID, err)
		}
	}
	newest := func(s nodeState) (at uint64) {
		for index := range s.Hashes {
			at = max(at, index)
		}
		return at
	}
	for _, s := range states {
		at := newest(s)
		if at == 0 || s.Hashes[at] != states[0].Hashes[newest(states[0])] {
			w.c.faultf("in the end %s has the state %q of index %d, %s has %q of %d", s.ID, s.Hashes[at], at,
				states[0].ID, states[0].Hashes[newest(states[0])], newest(states[0]))
		}
	}
}

func commandOf(input any) regCommand {
	cmd, ok := input.(regCommand)
	if !ok {
		panic(fmt.Sprintf("%T is no command", input))
	}
	return cmd
}

func answerOf(output any) regAnswer {
	a, ok := output.(regAnswer)
	if !ok {
		panic(fmt.Sprintf("%T is no answer", output))
	}
	return a
}

// casRegisters is what a cluster must look like to its clients: each key is an atomic register with compare-and-set.
var casRegisters = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byKey := make(map[string][]porcupine.Operation)
		for _, op := range history {
			key := commandOf(op.Input).Key
			byKey[key] = append(byKey[key], op)
		}
		parts := make([][]porcupine.Operation, 0, len(byKey))
		for part := range maps.Values(byKey) {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		in, out := commandOf(input), answerOf(output)
		switch in.Kind {
		case kindRead:
			return out.Value == state, state
		case kindWrite:
			return true, in.Value
		}
		matches := state == in.Old
		if out.Outcome == answerDone && out.Done != matches {
			return false, state
		}
		if matches {
			return true, in.Value
		}
		return true, state
	},
	DescribeOperation: func(input, output any) string {
		in, out := commandOf(input), answerOf(output)
		switch in.Kind {
		case kindRead:
			return fmt.Sprintf("%s is %q", in.Key, out.Value)
		case kindWrite:
			return fmt.Sprintf("%s=%q (%s)", in.Key, in.Value, out.Outcome)
		}
		return fmt.Sprintf("%s=%q if %q (%s, %v)", in.Key, in.Value, in.Old, out.Outcome, out.Done)
	},
}

// judge returns what porcupine says of all that clients saw so far.
func (w *witness) judge() porcupine.CheckResult {
	w.mu.Lock()
	ops := append([]porcupine.Operation(nil), w.ops...)
	w.mu.Unlock()
	return porcupine.CheckOperationsTimeout(casRegisters, ops, time.Minute)
}

// badKeys are the histories that are not linearizable, in words.
func (w *witness) badKeys() (bad []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, part := range casRegisters.Partition(w.ops) {
		if got := porcupine.CheckOperationsTimeout(casRegisters, part, 20*time.Second); got != porcupine.Ok {
			lines := []string{fmt.Sprintf("%s: %s", commandOf(part[0].Input).Key, got)}
			for _, op := range part {
				lines = append(lines, fmt.Sprintf("  client %d, %.6f to %.6f s: %s", op.ClientId, float64(op.Call)/1e9, float64(op.Return)/1e9,
					casRegisters.DescribeOperation(op.Input, op.Output)))
			}
			bad = append(bad, strings.Join(lines, "\n"))
		}
	}
	return bad
}
