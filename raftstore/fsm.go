package raftstore

import (
	"encoding/binary"
	"fmt"
	"io"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
)

// Position names one log entry. The zero Position is before the first.
type Position struct {
	Index uint64 `json:"index"`
	Term  uint64 `json:"term"`
}

// Machine is the deterministic state machine a Store replicates. Its methods run on one goroutine, in log order.
type Machine interface {
	// Raised tells the format that the cluster is at (Store.Format): before each Restored, and where an entry of the log raises it. So it is the same on
	// every node at the same index.
	Raised(format int)
	// Restored is called before any Apply: once at Open, and again whenever the state was replaced (snapshot install). r reads
	// the state at `at`, and is valid only during the call. An error stops the node.
	Restored(r pebble.Reader, at Position) error
	// Apply applies one command to w, an indexed batch: reads through w see all earlier commands. It returns the outcome for
	// the proposer. It must be deterministic and cannot fail: a refusal is an outcome that leaves w unchanged, and a command it
	// cannot read is a panic, which stops the node. Keys begin with a byte of at least 1. cmd is valid only during the call;
	// w must not be committed, closed or kept.
	Apply(w *pebble.Batch, at Position, cmd []byte) any
	// Committed is called once for each entry that held at least one command, in index order, after its effects (a whole pack)
	// are visible to View and before the proposers are answered. It must not block.
	Committed(at Position)
}

// maxApplyBatch is where a batch of entries is cut: well below half a memtable, from where on Pebble would give each batch a
// memtable of its own.
const maxApplyBatch = 4 << 20

// packOutcome is what the fsm answers for an entry of commands, through raft, to the packer that proposed it.
type packOutcome struct {
	at       Position
	outcomes []any
}

// fsm applies committed entries to the state. It is a raft.BatchingFSM, so configurations arrive in ApplyBatch too, and raft
// does not call StoreConfiguration at all.
type fsm struct {
	machine Machine
	fault   *fault
	states  *stateHolder
	metrics *storeMetrics
	knobs   knobs
	watch   *watch
	install func(rc io.ReadCloser) error // snapshotStore.install

	// mu keeps Persist, which runs on another goroutine, from moving the applied position back under ApplyBatch.
	mu   sync.Mutex
	conf atomic.Pointer[configuration] // the last applied one; changed under mu
	// members hears of each change of it, and must not block; nil: nobody does.
	members func()

	applied atomic.Pointer[Position]  // visible in the state
	durable atomic.Pointer[stateMeta] // on disk for certain (R2)
	cluster atomic.Pointer[string]    // its name, as the state has it; nil or empty: not known yet
	format  atomic.Int64              // of the cluster
	reigns  atomic.Pointer[[]Reign]   // oldest first; replaced, never changed (R15)
	raise   func(format int) error    // snapshotStore.raiseAll

	termMu   sync.Mutex
	termSeen chan struct{} // closed and replaced when an entry of a new term was applied
}

var _ raft.BatchingFSM = (*fsm)(nil)

// begin sets the fsm to a state that was just opened: what Pebble recovered at open, it has also flushed, so it is durable.
// next replaces the current state; nil keeps it.
func (f *fsm) begin(m stateMeta, next *state) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if next != nil {
		f.states.swap(next)
	}
	f.member(m.conf)
	f.cluster.Store(&m.cluster)
	f.format.Store(int64(m.format))
	f.reigns.Store(&m.reigns)
	f.durable.Store(&m)
	f.publish(m.applied)
}

// ApplyBatch applies entries in order: one Pebble batch holds their effects and the position they lead to (R3), without a
// sync, because the log can repeat them.
func (f *fsm) ApplyBatch(logs []*raft.Log) []any {
	f.fault.halt()
	watched := f.watch.begin("applying entries to the state")
	defer f.watch.end(watched)
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.failOnPanic("apply")
	began := f.metrics.now()
	st, err := f.states.acquire()
	if err != nil {
		f.fault.fail(fmt.Errorf("apply: %w", err))
	}
	defer st.release()

	answers := make([]any, len(logs))
	b := st.db.NewIndexedBatch()
	applied, conf := *f.applied.Load(), f.configuration()
	from, commands := 0, 0 // logs[from:i] are in b
	for i, l := range logs {
		if l.Index <= applied.Index {
			continue // a repetition; its outcome is not ours to give again
		}
		applied = Position{Index: l.Index, Term: l.Term}
		switch l.Type {
		case raft.LogCommand:
			out := &packOutcome{at: applied}
			n, err := unpack(l.Data, func(cmd []byte) {
				out.outcomes = append(out.outcomes, f.machine.Apply(b, applied, cmd))
			})
			if err != nil {
				f.fault.fail(fmt.Errorf("apply entry %d: %w", l.Index, err))
			}
			bar, err := decodeBarrier(l.Data)
			if err != nil {
				f.fault.fail(fmt.Errorf("apply entry %d: %w", l.Index, err))
			}
			if bar.cluster != "" {
				f.learnCluster(b, l.Index, bar.cluster)
			}
			f.learnReign(b, l, bar, n)
			f.learnFormat(b, l)
			commands += n
			answers[i] = out
		case raft.LogConfiguration:
			conf = configuration{index: l.Index, encoded: l.Data}
			f.set(b, keyConf, conf.encode())
		default: // raft sends no other type
		}
		if b.Len() >= maxApplyBatch && i+1 < len(logs) {
			f.commit(b, applied, conf)
			f.tell(answers[from : i+1])
			f.watch.progress(watched)
			b, from = st.db.NewIndexedBatch(), i+1
		}
	}
	f.commit(b, applied, conf)
	f.tell(answers[from:])
	f.metrics.applied(commands, began)
	return answers
}

// Apply applies one entry. raft calls ApplyBatch instead.
func (f *fsm) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

// configuration is the newest one that was applied.
func (f *fsm) configuration() configuration {
	if conf := f.conf.Load(); conf != nil {
		return *conf
	}
	return configuration{}
}

func (f *fsm) member(conf configuration) {
	if now := f.conf.Load(); now != nil && now.index == conf.index {
		return
	}
	f.conf.Store(&conf)
	if f.members != nil {
		f.members()
	}
}

// learnCluster writes the cluster's name to a state that has none: that of a node that joined by the log alone.
func (f *fsm) learnCluster(b *pebble.Batch, index uint64, name string) {
	known := f.cluster.Load()
	switch {
	case known == nil || *known == "":
		f.set(b, keyCluster, []byte(name))
		f.cluster.Store(&name)
	case *known != name:
		f.fault.fail(fmt.Errorf("apply entry %d: it is of cluster %q, the state of %q", index, name, *known))
	}
}

// learnFormat raises the format. The databases may be raised before the state that says so is durable: they are raised again then.
func (f *fsm) learnFormat(b *pebble.Batch, l *raft.Log) {
	format, err := raisedFormat(l.Data)
	if err == nil && int64(format) > f.format.Load() {
		if err = f.raise(format); err == nil {
			f.set(b, keyFormat, binary.AppendUvarint(nil, uint64(format)))
			f.format.Store(int64(format))
			f.machine.Raised(format)
		}
	}
	if err != nil {
		f.fault.fail(fmt.Errorf("apply entry %d: %w", l.Index, err))
	}
}

func (f *fsm) set(b *pebble.Batch, key, value []byte) {
	if err := b.Set(key, value, nil); err != nil {
		f.fault.fail(fmt.Errorf("apply: set %q: %w", key, err))
	}
}

func (f *fsm) commit(b *pebble.Batch, at Position, conf configuration) {
	f.set(b, keyApplied, encodePosition(at))
	if err := b.Commit(pebble.NoSync); err != nil {
		f.fault.fail(fmt.Errorf("apply up to entry %d: %w", at.Index, err))
	}
	f.fault.halt()
	closeBatch(b)
	f.member(conf)
	f.publish(at)
}

// tell reports the entries whose effects are now visible.
func (f *fsm) tell(answers []any) {
	for _, a := range answers {
		if out, ok := a.(*packOutcome); ok && len(out.outcomes) > 0 {
			f.machine.Committed(out.at)
		}
	}
}

// publish makes a position visible to Applied and wakes those that wait for its term.
func (f *fsm) publish(at Position) {
	old := f.applied.Swap(&at)
	if old != nil && old.Term == at.Term {
		return
	}
	f.termMu.Lock()
	defer f.termMu.Unlock()
	close(f.termSeen)
	f.termSeen = make(chan struct{})
}

// termApplied returns whether an entry of term or a later one was applied and, if not, what to wait for before asking again.
func (f *fsm) termApplied(term uint64) (bool, <-chan struct{}) {
	f.termMu.Lock()
	defer f.termMu.Unlock()
	return f.applied.Load().Term >= term, f.termSeen
}

// failOnPanic turns a panic of the machine into a fault. It must be deferred directly.
func (f *fsm) failOnPanic(what string) {
	if p := recover(); p != nil {
		f.fault.fail(fmt.Errorf("%s: panic: %v\n%s", what, p, debug.Stack()))
	}
}

// restored hands a state to the machine.
func (f *fsm) restored(r pebble.Reader, at Position) error {
	defer f.failOnPanic("restore")
	f.machine.Raised(int(f.format.Load()))
	if err := f.machine.Restored(r, at); err != nil {
		return fmt.Errorf("machine: restore the state at %d: %w", at.Index, err)
	}
	return nil
}
