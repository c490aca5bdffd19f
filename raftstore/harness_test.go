package raftstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"go.uber.org/goleak"
)

var seedFlag = flag.Uint64("seed", 0, "seed of the randomised tests; 0: a new one each run")

// newRand returns a generator whose seed is printed, so that a failure can be run again.
func newRand(tb testing.TB) *rand.Rand {
	tb.Helper()
	seed := *seedFlag
	if seed == 0 {
		seed = rand.Uint64()
	}
	tb.Logf("run again with -seed=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// usualTorture is what `make torture` takes as its measure of time, and where count runs the long form once.
const usualTorture = 3 * time.Minute

// tortureTime is how long the tests that run for a time are to run in the long form: TORTURE. 0: this is not the long form.
func tortureTime() time.Duration {
	if os.Getenv("MACHINEID_TEST_TORTURE") == "" {
		return 0
	}
	if set := os.Getenv("TORTURE"); set != "" {
		d, err := time.ParseDuration(set)
		if err != nil || d <= 0 {
			panic(fmt.Sprintf("TORTURE is %q, not a time such as 20m", set))
		}
		return d
	}
	return usualTorture
}

// count is how often a randomised test runs: few with -short, a thirtieth of long as a rule, and in `make torture` long, or more in
// proportion if TORTURE is more than usual.
func count(short, long int) int {
	switch d := tortureTime(); {
	case d > 0:
		return int(float64(long) * max(1, float64(d)/float64(usualTorture)))
	case testing.Short():
		return short
	}
	return max(short, long/30)
}

// stride is how many points of a life a test that tries each goes on by: from one to the next in `make torture`, else by usual, from a random first.
func stride(usual int64) int64 {
	if tortureTime() > 0 {
		return 1
	}
	return usual
}

// machine is a small real state machine: a command sets a key to a value and counts itself; its outcome is the new count.
// A command that begins with '!' is refused, one that begins with '?' cannot be read.
type machine struct {
	applies   atomic.Int64
	mu        sync.Mutex
	restored  []Position
	committed []Position
	onCommit  func(Position)
	onApply   func(Position)
	format    int // that it was told last
}

var keyCount = []byte("\x01count")

func (m *machine) Raised(format int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.format = format
}

// knows fails unless the machine was told the format of what it reads.
func (m *machine) knows(r pebble.Reader) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	v, err := getCopy(r, keyFormat)
	if want := max(int(append(v, 0)[0]), formatFirst); err == nil && m.format != want {
		err = fmt.Errorf("the machine was told of format %d, and the state is of %d", m.format, want)
	}
	return err
}

func (m *machine) Restored(r pebble.Reader, at Position) error {
	got, err := readApplied(r)
	if err != nil {
		return err
	}
	if got != at {
		return fmt.Errorf("told %v, the reader is at %v", at, got)
	}
	if err := m.knows(r); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.restored = append(m.restored, at)
	return nil
}

// restoredAt returns where the machine was restored so far.
func (m *machine) restoredAt() []Position {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.restored)
}

func (m *machine) Apply(w *pebble.Batch, at Position, cmd []byte) any {
	m.applies.Add(1)
	if err := m.knows(w); err != nil {
		panic(err)
	}
	if m.onApply != nil {
		m.onApply(at)
	}
	if bytes.HasPrefix(cmd, []byte("!")) {
		return "refused"
	}
	if bytes.HasPrefix(cmd, []byte("?")) {
		panic("unreadable command")
	}
	n, err := readCount(w)
	if err != nil {
		panic(err)
	}
	n++
	key, value, _ := bytes.Cut(cmd, []byte("="))
	if err := errors.Join(
		w.Set(append([]byte{2}, key...), value, nil),
		w.Set(keyCount, binary.BigEndian.AppendUint64(nil, n), nil),
	); err != nil {
		panic(err)
	}
	return n
}

func (m *machine) Committed(at Position) {
	m.mu.Lock()
	m.committed = append(m.committed, at)
	m.mu.Unlock()
	if m.onCommit != nil {
		m.onCommit(at)
	}
}

func readCount(r pebble.Reader) (uint64, error) {
	v, err := getCopy(r, keyCount)
	if err != nil || v == nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(v), nil
}

// node builds a Store by options that read as sentences.
type node struct {
	cfg     Config
	machine *machine
	fatal   chan error
	trans   *raft.InmemTransport
}

type option func(*node)

func onFS(fs vfs.FS) option       { return func(n *node) { n.cfg.FS = fs } }
func inDir(dir string) option     { return func(n *node) { n.cfg.Dir = dir } }
func named(id string) option      { return func(n *node) { n.cfg.ID = id } }
func notBootstrapped() option     { return func(n *node) { n.cfg.Bootstrap = false } }
func withKnobs(k knobs) option    { return func(n *node) { n.cfg.knobs = k } }
func with(f func(*Config)) option { return func(n *node) { f(&n.cfg) } }
func running(m *machine) option   { return func(n *node) { n.machine = m } }

// overTCP gives the node a real listener instead of the in-memory transport.
func overTCP(tb testing.TB) option {
	tb.Helper()
	return func(n *node) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		n.cfg.Listener, n.cfg.Transport = l, nil
	}
}

// newNode prepares a node that bootstraps itself in memory. Its Fatal hook reports on a channel and ends the goroutine that
// failed: a fault must never let that one go on.
func newNode(options ...option) *node {
	n := &node{machine: &machine{}, fatal: make(chan error, 1)}
	addr, trans := raft.NewInmemTransport("")
	trans.Connect(addr, trans) // a node calls itself at start
	n.trans = trans
	n.cfg = Config{
		ID: "n1", Dir: "data", FS: vfs.NewMem(), Transport: trans, Bootstrap: true,
		Fatal: func(err error) {
			n.fatal <- err
			runtime.Goexit()
		},
		CacheBytes: 1 << 20,
	}
	if os.Getenv("RAFTSTORE_TEST_LOG") != "" {
		n.cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	for _, o := range options {
		o(n)
	}
	return n
}

func (n *node) open() (*Store, error) { return Open(n.cfg, n.machine) }

// start opens a node, waits until it leads, and closes it at the end of the test.
func start(tb testing.TB, options ...option) (*Store, *machine) {
	tb.Helper()
	n := newNode(options...)
	s, err := n.open()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { stop(tb, s) })
	waitLeading(tb, s)
	return s, n.machine
}

func stop(tb testing.TB, s *Store) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := s.Close(ctx); err != nil && s.fault.err() == nil {
		tb.Errorf("close: %v", err)
	}
}

func waitLeading(tb testing.TB, s *Store) {
	tb.Helper()
	eventually(tb, "the node leads", func() bool { _, ok := s.Leading(); return ok })
}

// eventually waits for a condition without a fixed time: it yields, then looks again.
func eventually(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(200 * time.Microsecond)
	defer tick.Stop()
	for !cond() {
		if time.Now().After(deadline) {
			tb.Fatalf("waited in vain until %s", what)
		}
		<-tick.C
	}
}

func propose(tb testing.TB, s *Store, cmd string) Result {
	tb.Helper()
	res, err := s.Propose(tb.Context(), []byte(cmd))
	if err != nil {
		tb.Fatalf("propose %.20q: %v", cmd, err)
	}
	return res
}

// must returns a value, or stops the test.
func must[T any](tb testing.TB) func(v T, err error) T {
	tb.Helper()
	return func(v T, err error) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

// valueOf reads one key of the machine through a View.
func valueOf(tb testing.TB, s *Store, key string) (string, bool) {
	tb.Helper()
	v := must[*View](tb)(s.View())
	defer func() {
		if err := v.Close(); err != nil {
			tb.Error(err)
		}
	}()
	value, found, err := v.Get(append([]byte{2}, key...))
	if err != nil {
		tb.Fatal(err)
	}
	return string(value), found
}

// noLeaks fails the test if goroutines of it outlive it. It must come before what it watches.
func noLeaks(t *testing.T) {
	t.Helper()
	ignore := goleak.IgnoreCurrent()
	t.Cleanup(func() { goleak.VerifyNone(t, ignore) })
}
