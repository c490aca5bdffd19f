package raftstore

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/hashicorp/raft"
)

// The tests here look at a node in the middle of a write: the file system calls them back where the write meets the disk. What is
// published too early, or acknowledged in spite of a fault, shows there each time, and not once in a thousand crashes.

// hookedFS calls hook, while it is set, before each write to a file in the folder `under`.
type hookedFS struct {
	vfs.FS
	under string
	hook  atomic.Pointer[func(op errorfs.Op)]
	looks atomic.Int64 // at writes, that are under way
}

func newHookedFS(disk vfs.FS, under string) *hookedFS {
	h := &hookedFS{under: under}
	h.FS = errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		h.looks.Add(1)
		defer h.looks.Add(-1)
		if hook := h.hook.Load(); hook != nil && op.Kind.ReadOrWrite() != errorfs.OpIsRead && strings.Contains(op.Path, h.under) {
			(*hook)(op)
		}
		return nil
	}))
	return h
}

// during runs op, and look at every write that it brings to the disk. It fails the test if there was none. No look is under way when it
// returns: one that ended later, in a flush of Pebble's, would hold a store that is being closed.
func (h *hookedFS) during(tb testing.TB, what string, op func(), look func(op errorfs.Op)) {
	tb.Helper()
	var seen atomic.Int64
	hook := func(op errorfs.Op) {
		seen.Add(1)
		look(op)
	}
	h.hook.Store(&hook)
	op()
	h.hook.Store(nil)
	for h.looks.Load() > 0 {
		time.Sleep(time.Millisecond)
	}
	if seen.Load() == 0 {
		tb.Errorf("%s: nothing was written to %s", what, h.under)
	}
}

func isSync(op errorfs.Op) bool {
	return op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo
}

// commands makes entries of one command each.
func commands(first, last, term uint64, cmd []byte) []*raft.Log {
	ls := logs(first, last, term)
	for _, l := range ls {
		l.Data = appendPacked(appendPackHeader(nil, 1), cmd)
	}
	return ls
}

// The state counts as durable when its sync is over, and not before: until then the log keeps what would be needed (R2).
func TestDurableBehindTheSync(t *testing.T) {
	fs := newHookedFS(vfs.NewMem(), stateName(1))
	s := follower(t, fs, 9, 1)
	ls := commands(2, 9, 1, []byte("x"))
	s.fsm.ApplyBatch(ls)
	if durable := s.fsm.durable.Load().applied.Index; durable != 0 {
		t.Fatalf("durable up to %d before anything was synced", durable)
	}
	synced := false
	fs.during(t, "persist", func() {
		if err := s.fsm.persist(Position{Index: 9, Term: 1}); err != nil {
			t.Error(err)
		}
	}, func(op errorfs.Op) {
		if !isSync(op) {
			return
		}
		synced = true
		if durable := s.fsm.durable.Load().applied.Index; durable != 0 {
			t.Errorf("durable up to %d while the sync is under way", durable)
		}
		if list, err := s.snaps.List(); len(list) > 0 || err != nil {
			t.Errorf("listed while the sync is under way: %v, %v", list, err)
		}
		if err := s.log.DeleteRange(1, 5); err == nil {
			t.Error("the log was truncated while the sync is under way")
		}
	})
	if !synced {
		t.Error("the state was not synced")
	}
	if durable := s.fsm.durable.Load().applied.Index; durable != 9 {
		t.Errorf("durable up to %d afterwards", durable)
	}
	if err := errors.Join(s.log.DeleteRange(1, 5), closeParts(s)); err != nil {
		t.Error(err)
	}
}

// An install that comes while the state before it is synced is durable by itself: the sync says nothing of it, and takes nothing back (R2, R6).
func TestWhatIsDurableNeverGoesBack(t *testing.T) {
	fs := newHookedFS(vfs.NewMem(), stateName(1))
	s := follower(t, fs, 9, 1)
	s.fsm.ApplyBatch(commands(2, 9, 1, []byte("x")))
	at := Position{Index: 50, Term: 3}
	archive, _ := donate(t, at, s.ident.Cluster)
	installed := false
	fs.during(t, "persist", func() {
		if err := s.fsm.persist(Position{Index: 9, Term: 1}); err != nil {
			t.Error(err)
		}
	}, func(op errorfs.Op) {
		if !isSync(op) || installed {
			return
		}
		installed = true
		if err := receive(s, at, archive); err != nil {
			t.Error(err)
		}
	})
	if got := s.fsm.durable.Load().applied; got != at || !installed {
		t.Errorf("installed %v at %v, and durable at %v", installed, at, got)
	}
	if list := must[[]*raft.SnapshotMeta](t)(s.snaps.List()); len(list) != 1 || list[0].Index != at.Index {
		t.Errorf("listed: %v", list)
	}
	if err := closeParts(s); err != nil {
		t.Error(err)
	}
}

// Readers of the log see an entry when it is on disk (R1).
func TestTheLogShowsWhatIsSynced(t *testing.T) {
	fs := newHookedFS(vfs.NewMem(), nameLog+"/")
	s := follower(t, fs, 3, 1)
	synced := false
	fs.during(t, "append", func() {
		if err := s.log.StoreLogs(logs(4, 6, 1)); err != nil {
			t.Error(err)
		}
	}, func(op errorfs.Op) {
		if !isSync(op) {
			return
		}
		synced = true
		if last := must[uint64](t)(s.log.LastIndex()); last != 3 {
			t.Errorf("the log ends at %d while the sync is under way", last)
		}
		var l raft.Log
		if err := s.log.GetLog(4, &l); !errors.Is(err, raft.ErrLogNotFound) {
			t.Errorf("entry 4 is read while the sync is under way: %v, %v", l, err)
		}
	})
	if !synced {
		t.Error("the log was not synced")
	}
	if last := must[uint64](t)(s.log.LastIndex()); last != 6 {
		t.Errorf("the log ends at %d afterwards", last)
	}
	if err := closeParts(s); err != nil {
		t.Error(err)
	}
}

// big is a command whose commit goes to the disk: a batch that is larger than half a memtable has one to itself.
func big() []byte { return append([]byte("k="), bytes.Repeat([]byte("v"), stateMemTableBytes)...) }

// An entry counts as applied, and the machine is told, when its effects show and not before (R3): who hears of it reads it.
func TestAppliedWhenItShows(t *testing.T) {
	fs := newHookedFS(vfs.NewMem(), stateName(1))
	m := &machine{}
	s := must[*Store](t)(openParts(newNode(onFS(fs)).cfg, m))
	l := commands(2, 2, 1, big())
	fs.during(t, "apply", func() { s.fsm.ApplyBatch(l) }, func(errorfs.Op) {
		m.mu.Lock()
		told := slices.Clone(m.committed)
		m.mu.Unlock()
		v := must[*View](t)(s.View())
		defer func() { _ = v.Close() }()
		if at := v.Position().Index; at < s.Applied().Index || at < uint64(2*len(told)) {
			t.Errorf("applied up to %d and told of %v while %d shows", s.Applied().Index, told, at)
		}
	})
	if err := closeParts(s); err != nil {
		t.Error(err)
	}
}

// A fault that comes while a write is under way keeps the write from being acknowledged, though it went well (R5): Pebble reports an
// error of its background work, and what is behind it is uncertain.
func TestNothingIsAcknowledgedBehindAFault(t *testing.T) {
	for name, write := range map[string]struct {
		under string
		op    func(s *Store) error
	}{
		"append":   {nameLog + "/", func(s *Store) error { return s.log.StoreLogs(logs(4, 6, 1)) }},
		"truncate": {nameLog + "/", func(s *Store) error { return s.log.DeleteRange(3, 3) }},
		"vote":     {nameLog + "/", func(s *Store) error { return s.log.SetUint64([]byte(keyCurrentTerm), 7) }},
		"install":  {nameLog + "/", func(s *Store) error { return s.log.reconcile(2, Position{Index: 3, Term: 1}) }},
		"persist":  {stateName(1), func(s *Store) error { return s.fsm.persist(Position{Index: 3, Term: 1}) }},
		"apply": {stateName(1), func(s *Store) error {
			s.fsm.ApplyBatch(commands(2, 2, 1, big()))
			return nil
		}},
	} {
		for _, before := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				fs := newHookedFS(vfs.NewMem(), write.under)
				n := newNode(onFS(fs))
				s := must[*Store](t)(openParts(n.cfg, &machine{}))
				if err := s.log.StoreLogs(logs(2, 3, 1)); err != nil {
					t.Fatal(err)
				}
				acknowledged, ended, wrote := false, make(chan struct{}), false
				run := func() {
					go func() {
						defer close(ended) // a fault ends this goroutine
						if err := write.op(s); err == nil {
							acknowledged = true
						}
					}()
					<-ended
				}
				if before {
					hook := func(errorfs.Op) { wrote = true }
					fs.hook.Store(&hook)
					s.fault.record(errInjected)
					run()
				} else {
					fs.during(t, name, run, func(errorfs.Op) { s.fault.record(errInjected) })
				}
				if acknowledged {
					t.Error("it was acknowledged")
				}
				if wrote {
					t.Error("it was begun though there had been a fault")
				}
				select {
				case err := <-n.fatal:
					if !errors.Is(err, errInjected) {
						t.Errorf("fault: %v", err)
					}
				default:
					t.Error("the process was not ended")
				}
				if err := closeParts(s); err != nil { // the disk is well
					t.Error(err)
				}
			})
		}
	}
}

// The applied position never goes back: raft takes the position of a snapshot first, and writes the snapshot beside what is applied
// meanwhile (R3).
func TestThePositionNeverGoesBack(t *testing.T) {
	disk := vfs.NewMem()
	m := &machine{}
	s := must[*Store](t)(openParts(newNode(onFS(disk)).cfg, m))
	if err := s.log.StoreLogs(commands(2, 9, 1, []byte("k=v"))); err != nil {
		t.Fatal(err)
	}
	s.fsm.ApplyBatch(commands(2, 3, 1, []byte("k=v")))
	done := make(chan error, 1)
	m.onApply = func(Position) {
		m.onApply = nil
		go func() { done <- s.fsm.persist(Position{Index: 5, Term: 1}) }() // 4 and 5 were raft's own
		for range 100 {
			if at := s.Applied(); at.Index != 3 {
				t.Errorf("at %v while a batch is applied", at)
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
	s.fsm.ApplyBatch(commands(6, 9, 1, []byte("k=v")))
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := s.fsm.persist(Position{Index: 4, Term: 1}); err != nil {
		t.Error(err)
	}
	want := Position{Index: 9, Term: 1}
	if at, kept := s.Applied(), must[Position](t)(readApplied(s.states.current.db)); at != want || kept != want {
		t.Errorf("at %v, and %v in the state, want %v", at, kept, want)
	}
	if err := closeParts(s); err != nil {
		t.Error(err)
	}
}

// What is applied again changes nothing, and has no outcome (R3): raft may repeat entries that the state has.
func TestARepetitionChangesNothing(t *testing.T) {
	m := &machine{}
	s := must[*Store](t)(openParts(newNode().cfg, m))
	ls := commands(2, 5, 1, []byte("k=v"))
	s.fsm.ApplyBatch(ls)
	answers := s.fsm.ApplyBatch(append(ls[2:], commands(6, 6, 1, []byte("k=v"))...)) // 4 and 5 again
	if n := m.applies.Load(); n != 5 || answers[0] != nil || answers[1] != nil || answers[2] == nil {
		t.Errorf("%d applied, answers %v", n, answers)
	}
	if n := must[uint64](t)(readCount(s.states.current.db)); n != 5 || s.Applied().Index != 6 {
		t.Errorf("the state counts %d, at %v", n, s.Applied())
	}
	if err := closeParts(s); err != nil {
		t.Error(err)
	}
}

// Entries that together are more than one batch are told of once each, in their order, when they show.
func TestALongBatchIsToldOnce(t *testing.T) {
	m := &machine{}
	s := must[*Store](t)(openParts(newNode().cfg, m))
	m.onCommit = func(at Position) {
		if now := s.Applied(); now.Index < at.Index {
			t.Errorf("told of %v at %v", at, now)
		}
	}
	third := append([]byte("k="), make([]byte, maxApplyBatch/3)...)
	s.fsm.ApplyBatch(commands(2, 11, 1, third))
	for i, at := range m.committed {
		if at.Index != uint64(i)+2 {
			t.Errorf("number %d is %v", i, at)
		}
	}
	if len(m.committed) != 10 {
		t.Errorf("told of %v", m.committed)
	}
	if err := closeParts(s); err != nil {
		t.Error(err)
	}
}

// The log of another cluster is not applied, whichever way it came here (R8).
func TestTheBarrierOfAnotherCluster(t *testing.T) {
	n := newNode()
	s := must[*Store](t)(openParts(n.cfg, n.machine))
	of := func(index uint64, cluster string) []*raft.Log {
		return []*raft.Log{{Index: index, Term: 1, Type: raft.LogCommand, Data: barrier{term: 1, reign: ReignID{1}, cluster: cluster}.encode()}}
	}
	s.fsm.ApplyBatch(of(2, s.ident.Cluster))
	ended := make(chan struct{})
	go func() {
		defer close(ended) // a fault ends this goroutine
		s.fsm.ApplyBatch(of(3, "another"))
	}()
	<-ended
	select {
	case err := <-n.fatal:
		if !strings.Contains(err.Error(), `it is of cluster "another"`) {
			t.Errorf("fault: %v", err)
		}
	default:
		t.Error("it was applied")
	}
	if s.Applied().Index != 2 {
		t.Errorf("applied %v", s.Applied())
	}
	if err := closeParts(s); err != nil {
		t.Error(err)
	}
}
