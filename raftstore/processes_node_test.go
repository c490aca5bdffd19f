//go:build linux

package raftstore

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/verifier"
)

const (
	nodeEnv     = "RAFTSTORE_TEST_NODE" // nodeConfig, as JSON
	exitDiffers = 4                     // the verifier found a difference
	exitRace    = 66                    // the race detector found one
	nodeDisk    = 256 << 20
	hashesKept  = 4096
)

// TestMain makes the test binary a node of a cluster if it is told so.
func TestMain(m *testing.M) {
	if raw := os.Getenv(nodeEnv); raw != "" {
		if err := runNode(raw); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// nodeConfig says how a node process is to run. The last three are mutants.
type nodeConfig struct {
	ID, Dir, Advertise, From string
	Home                     string // the cluster whose clients it serves; empty: any
	Bootstrap                bool
	ReadUnconfirmed          bool // reads do not confirm that the node leads
	Wobbles                  bool // its machine is not that of the others
	AcksEarly                bool // a write is acknowledged once it is in the log
}

// registers of a node: a command writes one, or replaces what it has. The sum covers the state, key by key; the chain covers every
// command and what came of it. Both are part of the state, and at each index they are the same on every node.
type registerMachine struct {
	wobbles bool
	sum     [2]uint64         // sum, chain; of the entry that is being applied
	pending map[uint64]string // by index, of entries that are being applied

	mu       sync.Mutex
	hashes   map[uint64]string // by index, after the whole entry
	restored int               // how often it was given a state: at the start, and with each install
}

type regCommand struct{ Kind, Key, Value, Old string }

const (
	kindWrite = "write"
	kindCAS   = "cas"
	kindRead  = "read"
)

var keySum = []byte("\x01sum")

func regKey(key string) []byte { return append([]byte{2}, key...) }

func regHash(parts ...string) uint64 {
	h := fnv.New64a()
	for _, p := range parts {
		_, _ = fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	return h.Sum64()
}

// Raised does nothing: it knows one format.
func (m *registerMachine) Raised(int) {}

// Restored checks that what was sent, or survived a crash, is the state that the sum is of.
func (m *registerMachine) Restored(r pebble.Reader, at Position) error {
	m.mu.Lock()
	m.restored++
	m.mu.Unlock()
	var err error
	if m.sum, err = audited(r); err == nil && m.sum != [2]uint64{} {
		m.pending[at.Index] = m.hash()
		m.Committed(at)
	}
	return err
}

// audited returns the sum and the chain that are stored in a state, if all its registers do add up to the sum.
func audited(r pebble.Reader) (stored [2]uint64, err error) {
	v, err := getCopy(r, keySum)
	if err != nil {
		return stored, err
	}
	if v != nil {
		stored = [2]uint64{binary.BigEndian.Uint64(v), binary.BigEndian.Uint64(v[8:])}
	}
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: regKey(""), UpperBound: []byte{3}})
	if err != nil {
		return stored, err
	}
	var sum uint64
	for ok := it.First(); ok; ok = it.Next() {
		key := string(it.Key()[1:])
		sum += regHash(key, string(it.Value())) - regHash(key, "")
	}
	if err := it.Close(); err != nil {
		return stored, err
	}
	if sum != stored[0] {
		return stored, fmt.Errorf("the registers add up to %016x, and should to %016x", sum, stored[0])
	}
	return stored, nil
}

// Apply answers whether a cas took place.
func (m *registerMachine) Apply(w *pebble.Batch, at Position, raw []byte) any {
	var cmd regCommand
	if err := json.Unmarshal(raw, &cmd); err != nil {
		panic(err)
	}
	was, err := getCopy(w, regKey(cmd.Key))
	if err != nil {
		panic(err)
	}
	done := cmd.Kind == kindWrite || string(was) == cmd.Old
	value := cmd.Value
	if m.wobbles && at.Index%64 == 0 {
		value += "?"
	}
	if done {
		m.sum[0] += regHash(cmd.Key, value) - regHash(cmd.Key, string(was))
		if err := w.Set(regKey(cmd.Key), []byte(value), nil); err != nil {
			panic(err)
		}
	}
	m.sum[1] = regHash(fmt.Sprint(m.sum[1], at, done), string(raw))
	if err := w.Set(keySum, binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, m.sum[0]), m.sum[1]), nil); err != nil {
		panic(err)
	}
	m.pending[at.Index] = m.hash()
	return done
}

func (m *registerMachine) hash() string { return fmt.Sprintf("%016x-%016x", m.sum[0], m.sum[1]) }

// Committed is called when the entry is visible: some entries after it may be, too.
func (m *registerMachine) Committed(at Position) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hashes[at.Index] = m.pending[at.Index]
	delete(m.pending, at.Index)
	delete(m.hashes, at.Index-hashesKept)
}

func (m *registerMachine) installs() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return int64(m.restored - 1)
}

func (m *registerMachine) since(index uint64) map[uint64]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make(map[uint64]string)
	for i, h := range m.hashes {
		if i > index {
			out[i] = h
		}
	}
	return out
}

// nodeProcess is what serves the test's calls in a node.
type nodeProcess struct {
	cfg      nodeConfig
	store    *Store
	opened   chan struct{} // closed when store is there: it may lead before
	machine  *registerMachine
	audit    *audit
	disk     *quotaFS
	slow     atomic.Int64 // how long each write to the disk takes longer, ns
	slowed   atomic.Int64 // writes that did
	compared atomic.Int64 // ranges of the log that the verifier found equal
}

// heartbeats is short in the long form, for many elections; else so long that a node which waits for a processor is not taken for dead.
func heartbeats() time.Duration {
	if tortureTime() > 0 {
		return 300 * time.Millisecond
	}
	return time.Second
}

func runNode(raw string) error {
	n := &nodeProcess{opened: make(chan struct{}), machine: &registerMachine{hashes: make(map[uint64]string), pending: make(map[uint64]string)}}
	if err := json.Unmarshal([]byte(raw), &n.cfg); err != nil {
		return err
	}
	n.machine.wobbles = n.cfg.Wobbles
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	n.disk = newQuotaFS(vfs.Default, nodeDisk)
	slow := errorfs.Wrap(n.disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if d := n.slow.Load(); d > 0 && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			n.slowed.Add(1)
			<-time.After(time.Duration(d))
		}
		return nil
	}))
	raftSide, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	control, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	n.store, err = Open(Config{
		ID: n.cfg.ID, Dir: n.cfg.Dir, FS: slow, Listener: raftSide, Advertise: n.cfg.Advertise, Bootstrap: n.cfg.Bootstrap,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)), Lead: n.lead,
		HeartbeatTimeout: heartbeats(), RPCTimeout: 3 * time.Second,
		SnapshotInterval: time.Second, SnapshotThreshold: 300, TrailingLogs: 200,
		CacheBytes: 4 << 20, LogCacheBytes: 1 << 10,
		knobs: knobs{readUnconfirmed: n.cfg.ReadUnconfirmed, beginsFirst: true}, // so that there is something to raise
		Dial: func(ctx context.Context, addr string) (net.Conn, error) {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(n.cfg.From)}}
			return d.DialContext(ctx, "tcp", addr)
		},
		wrapLog: func(logs raft.LogStore) raft.LogStore {
			n.audit = newAudit(logs, func(r verifier.VerificationReport) {
				if r.Err != nil {
					fmt.Fprintln(os.Stderr, "VERIFIER:", r.Err)
					os.Exit(exitDiffers)
				}
				n.compared.Add(1)
			})
			return n.audit
		},
	}, n.machine)
	if err != nil {
		return err
	}
	close(n.opened)
	served := make(chan error, 1)
	server := &http.Server{Handler: n.handler()}
	go func() { served <- server.Serve(control) }()
	fmt.Fprintf(os.Stdout, "ready %s %s\n", raftSide.Addr(), control.Addr())
	gone := make(chan struct{})
	go func() { // the test holds the other end: without it there is no reason to live
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(gone)
	}()
	select {
	case <-gone:
		os.Exit(0)
	case err := <-served:
		return err
	case <-ended:
	}
	n.audit.end()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := n.store.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil // it is cut off, so what is under way does not end
}

// lead takes checkpoints for the verifier.
func (n *nodeProcess) lead(ctx context.Context, _ uint64) {
	<-n.opened
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			checkpoint(n.store)
		}
	}
}

// What a node answers to a call of a client.
const (
	answerDone    = "done"
	answerRefused = "refused" // has not and will not take effect
	answerUnknown = "unknown"
)

type regAnswer struct {
	Outcome string
	Done    bool   // of a cas
	Value   string // of a read
	Leader  string // of a refusal: who this node believes leads
	Error   string
}

func (n *nodeProcess) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/op", func(w http.ResponseWriter, r *http.Request) {
		var cmd regCommand
		if err := json.NewDecoder(r.Body).Decode(&cmd); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		defer cancel()
		var a regAnswer
		switch {
		case n.cfg.Home != "" && n.store.Cluster() != n.cfg.Home:
			a = regAnswer{Outcome: answerRefused, Error: "it is of another cluster"}
		case cmd.Kind == kindRead:
			a = n.read(ctx, cmd.Key)
		default:
			a = n.propose(ctx, cmd)
		}
		if a.Outcome == answerRefused {
			a.Leader, _ = n.store.Leader()
		}
		writeJSON(w, a)
	})
	mux.HandleFunc("/all", func(w http.ResponseWriter, r *http.Request) {
		all := make(map[string]string)
		v, err := n.view(r.Context())
		if err == nil {
			defer func() { _ = v.Close() }()
			err = v.Scan([]byte{2}, []byte{3}, func(key, value []byte) (bool, error) {
				all[string(key[1:])] = string(value)
				return true, nil
			})
		}
		answerOrFail(w, all, err)
	})
	mux.HandleFunc("/state", func(w http.ResponseWriter, r *http.Request) {
		var since uint64
		_, _ = fmt.Sscan(r.FormValue("since"), &since)
		writeJSON(w, n.state(since))
	})
	mux.HandleFunc("/members", func(w http.ResponseWriter, r *http.Request) {
		_, err := n.store.Confirm(r.Context())
		var conf raft.Configuration
		if err == nil {
			conf, err = n.store.fsm.configuration().decode()
		}
		answerOrFail(w, conf.Servers, err)
	})
	mux.HandleFunc("/do", func(w http.ResponseWriter, r *http.Request) {
		answerOrFail(w, "ok", n.do(r.Context(), r.FormValue("what"), r.FormValue("id"), r.FormValue("at")))
	})
	return mux
}

// nodeState is what a node says of itself.
type nodeState struct {
	NodeStatus
	Leads    bool              // and is ready
	Compared int64             // ranges of its log, by the verifier
	Installs int64             // states it was sent by others in this run
	Slowed   int64             // writes that took longer
	Hashes   map[uint64]string // of the indexes asked for
}

func (n *nodeProcess) state(since uint64) nodeState {
	_, leads := n.store.Leading()
	return nodeState{
		NodeStatus: n.store.Status(), Leads: leads, Compared: n.compared.Load(), Installs: n.machine.installs(), Slowed: n.slowed.Load(),
		Hashes: n.machine.since(since),
	}
}

func (n *nodeProcess) view(ctx context.Context) (*View, error) {
	if _, leads := n.store.Leading(); !leads {
		return nil, ErrNotLeader
	}
	return n.store.Read(ctx)
}

func (n *nodeProcess) read(ctx context.Context, key string) regAnswer {
	v, err := n.view(ctx)
	if err != nil {
		return regAnswer{Outcome: answerRefused, Error: err.Error()}
	}
	defer func() { _ = v.Close() }()
	value, _, err := v.Get(regKey(key))
	if err != nil {
		return regAnswer{Outcome: answerRefused, Error: err.Error()}
	}
	return regAnswer{Outcome: answerDone, Value: string(value)}
}

func (n *nodeProcess) propose(ctx context.Context, cmd regCommand) regAnswer {
	raw, err := json.Marshal(cmd)
	if err != nil {
		return regAnswer{Outcome: answerRefused, Error: err.Error()}
	}
	if n.cfg.AcksEarly && cmd.Kind == kindWrite {
		return n.proposeEarly(ctx, raw)
	}
	res, err := n.store.Propose(ctx, raw)
	switch {
	case err == nil:
		done, _ := res.Outcome.(bool)
		return regAnswer{Outcome: answerDone, Done: done}
	case Unknown(err):
		return regAnswer{Outcome: answerUnknown, Error: err.Error()}
	default:
		return regAnswer{Outcome: answerRefused, Error: err.Error()}
	}
}

// proposeEarly is the mutant that answers when the command is in this node's log, before it is committed.
func (n *nodeProcess) proposeEarly(ctx context.Context, raw []byte) regAnswer {
	before := n.store.raft.LastIndex()
	failed := make(chan error, 1)
	go func() {
		_, err := n.store.Propose(context.WithoutCancel(ctx), raw)
		failed <- err
	}()
	poll := time.NewTicker(200 * time.Microsecond)
	defer poll.Stop()
	for n.store.raft.LastIndex() == before {
		select {
		case err := <-failed:
			if err != nil && !Unknown(err) {
				return regAnswer{Outcome: answerRefused, Error: err.Error()}
			}
			return regAnswer{Outcome: answerUnknown}
		case <-ctx.Done():
			return regAnswer{Outcome: answerUnknown}
		case <-poll.C:
		}
	}
	return regAnswer{Outcome: answerDone, Done: true}
}

// do obeys the test.
func (n *nodeProcess) do(ctx context.Context, what, id, at string) error {
	switch what {
	case "transfer":
		return n.store.TransferLeadership(ctx, id)
	case "add":
		return n.store.AddNonvoter(ctx, id, at)
	case "replace":
		return n.store.Replace(ctx, id, at)
	case "promote":
		return n.store.Promote(ctx, id)
	case "demote":
		return n.store.Demote(ctx, id)
	case "remove":
		return n.store.Remove(ctx, id)
	case "raise":
		_, err := n.store.RaiseFormat(ctx, 0)
		return err
	case "audit":
		v, err := n.store.View()
		if err != nil {
			return err
		}
		defer func() { _ = v.Close() }()
		_, err = audited(v.Reader())
		return err
	case "slow": // at: how much
		d, err := time.ParseDuration(at)
		n.slow.Store(int64(d))
		return err
	case "leave": // at: how many bytes the disk has left
		var left int64
		_, err := fmt.Sscan(at, &left)
		n.disk.leave(left)
		return err
	}
	return fmt.Errorf("%q is not known", what)
}

func writeJSON(w http.ResponseWriter, v any) {
	if err := json.NewEncoder(w).Encode(v); err != nil && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "write") {
		panic(err)
	}
}

func answerOrFail(w http.ResponseWriter, v any, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	writeJSON(w, v)
}
