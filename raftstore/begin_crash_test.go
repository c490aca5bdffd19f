package raftstore

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/hashicorp/raft"
)

// TestFirstStartAtEachCrash: whenever the power goes while a folder is made, the next start goes on: it leads, in one cluster and with one store from
// then on, and never says that something was lost.
func TestFirstStartAtEachCrash(t *testing.T) {
	disk := vfs.NewCrashableMem()
	o := newOutages(disk, newRand(t))
	s, _ := start(t, onFS(o.fs()))
	propose(t, s, "first=1")
	acknowledged := disk.CrashClone(vfs.CrashCloneCfg{})
	stop(t, s)
	crashed := o.stop(t, 40)
	for _, c := range append(crashed, outage{acknowledged, "after the first answer"}) {
		n := newNode(onFS(c.fs))
		first, err := n.open()
		if err != nil {
			t.Errorf("crash %s: %v", c.what, err)
			continue
		}
		waitLeading(t, first)
		propose(t, first, "k=1")
		if _, ok := valueOf(t, first, "first"); !ok && c.fs == acknowledged {
			t.Errorf("crash %s: what was acknowledged is gone", c.what)
		}
		life, cluster := first.life(), first.Cluster()
		crashed := c.again() // what is synced
		stop(t, first)
		again, _ := start(t, onFS(crashed))
		if again.life() != life || again.Cluster() != cluster || again.ident != first.ident {
			t.Errorf("crash %s: it is %+v of %s, and was %+v of %s", c.what, again.life(), again.Cluster(), life, cluster)
		}
		if _, ok := valueOf(t, again, "k"); !ok {
			t.Errorf("crash %s: what was acknowledged at the second start is gone", c.what)
		}
		stop(t, again)
	}
}

// TestTakenInAtEachCrash: a store that is taken into a cluster keeps to that one, whenever the power goes: it is of that one or of none yet, with the
// store's id that it has always had, and can be taken in again.
func TestTakenInAtEachCrash(t *testing.T) {
	disk := vfs.NewCrashableMem()
	o := newOutages(disk, newRand(t))
	n := newNode(onFS(o.fs()), notBootstrapped())
	s := must[*Store](t)(openParts(n.cfg, n.machine))
	store := s.ident.Store
	o.mu.Lock()
	o.taken = nil // opening is the other test's
	o.mu.Unlock()
	if err := s.pin("c", false); err != nil {
		t.Fatal(err)
	}
	crashed := append(o.stop(t, 1000), outage{disk.CrashClone(vfs.CrashCloneCfg{}), "after it was taken in"})
	if len(crashed) < 5 {
		t.Errorf("%d crashes: they show nothing", len(crashed))
	}
	for i, c := range crashed {
		n := newNode(onFS(c.fs), notBootstrapped())
		again, err := openParts(n.cfg, n.machine)
		if err != nil {
			t.Errorf("crash %s: %v", c.what, err)
			continue
		}
		if name := again.clusterName(); again.ident.Store != store || name != "c" && (name != "" || i == len(crashed)-1) {
			t.Errorf("crash %s: it is %+v, and was store %s", c.what, again.ident, store)
		}
		if err := errors.Join(again.pin("c", false), closeParts(again)); err != nil {
			t.Errorf("crash %s: taken in again: %v", c.what, err)
		}
		again = must[*Store](t)(openParts(n.cfg, n.machine))
		if again.clusterName() != "c" || again.ident.Store != store {
			t.Errorf("crash %s: it is %+v in the end", c.what, again.ident)
		}
		if err := closeParts(again); err != nil {
			t.Error(err)
		}
	}
	if err := closeParts(s); err != nil {
		t.Error(err)
	}
}

// TestRaiseFormatAtEachCrash: whenever the power goes, the node starts, leads, and has one format: in its state, its log and its word; the new one if
// that was acknowledged.
func TestRaiseFormatAtEachCrash(t *testing.T) {
	disk := vfs.NewCrashableMem()
	o := newOutages(disk, newRand(t))
	s, _ := start(t, onFS(o.fs()), with(beginsFirst))
	propose(t, s, "k=1")
	atFormat(t, s, formatFirst)
	o.mu.Lock()
	o.taken = nil
	o.mu.Unlock()
	if _, err := s.RaiseFormat(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	acknowledged := disk.CrashClone(vfs.CrashCloneCfg{})
	stop(t, s)
	raised := 0
	for _, c := range append(o.stop(t, 40), outage{acknowledged, "after it was acknowledged"}) {
		n := newNode(onFS(c.fs))
		again, err := n.open()
		if err != nil {
			t.Errorf("crash %s: %v", c.what, err)
			continue
		}
		waitLeading(t, again)
		format := again.Format()
		atFormat(t, again, format)
		if format == formatNewest {
			raised++
		} else if c.fs == acknowledged || format != formatFirst {
			t.Errorf("crash %s: format %d", c.what, format)
		}
		if _, ok := valueOf(t, again, "k"); !ok {
			t.Errorf("crash %s: what was acknowledged is gone", c.what)
		}
		stop(t, again)
	}
	t.Logf("raised after %d of them", raised)
}

// TestInstallAtEachCrash: the state that STATE names is on the disk before STATE is (R6), whatever else of the folder is.
func TestInstallAtEachCrash(t *testing.T) {
	disk := vfs.NewCrashableMem()
	o := newOutages(disk, newRand(t))
	n := newNode(onFS(o.fs()), notBootstrapped())
	s := must[*Store](t)(openParts(n.cfg, chainMachine{}))
	if err := errors.Join(s.pin("c", false), s.log.SetUint64([]byte(keyCurrentTerm), 3)); err != nil {
		t.Fatal(err)
	}
	at := Position{Index: 9, Term: 3}
	archive, _ := donate(t, at, "c")
	o.mu.Lock()
	o.taken = nil
	o.mu.Unlock()
	if err := receive(s, at, archive); err != nil {
		t.Fatal(err)
	}
	installed, crashes := 0, 0
	for _, c := range o.stop(t, 1000) {
		n := newNode(onFS(c.fs), notBootstrapped())
		again, err := openParts(n.cfg, chainMachine{})
		if err != nil {
			t.Errorf("crash %s: %v", c.what, err)
			continue
		}
		crashes++
		if got := again.Applied(); got == at {
			installed++
		} else if got != (Position{}) {
			t.Errorf("crash %s: the state is at %v", c.what, got)
		}
		if err := closeParts(again); err != nil {
			t.Error(err)
		}
	}
	t.Logf("installed after %d of %d", installed, crashes)
	if installed == 0 || installed == crashes {
		t.Error("all crashes fell on one side of the install, so the test shows nothing of it")
	}
	if err := closeParts(s); err != nil {
		t.Error(err)
	}
}

// TestDurableAfterTheSync: what is said to be durable, and so may be cut from the log (R2), is told after the sync and not before.
func TestDurableAfterTheSync(t *testing.T) {
	var mu sync.Mutex // the WAL is synced on a goroutine of its own
	var s *Store
	syncs := 0
	disk := vfs.NewCrashableMem()
	n := newNode(onFS(errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		syncing := op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData || op.Kind == errorfs.OpFileSyncTo
		mu.Lock()
		defer mu.Unlock()
		if s != nil && syncing && strings.Contains(op.Path, stateName(1)) {
			syncs++
			if durable, applied := s.fsm.durable.Load().applied, s.Applied(); durable.Index >= applied.Index {
				t.Errorf("the sync of %s begins, and the state counts as durable at %v", op.Path, durable)
			}
		}
		return nil
	}))))
	opened := must[*Store](t)(openParts(n.cfg, n.machine))
	opened.fsm.ApplyBatch([]*raft.Log{{Index: 2, Term: 1, Type: raft.LogCommand, Data: appendPacked(appendPackHeader(nil, 1), []byte("a=1"))}})
	mu.Lock()
	s = opened
	mu.Unlock()
	if err := opened.fsm.persist(Position{Index: 2, Term: 1}); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	s = nil
	mu.Unlock()
	if syncs == 0 || opened.fsm.durable.Load().applied != (Position{Index: 2, Term: 1}) {
		t.Errorf("%d syncs, durable at %v", syncs, opened.fsm.durable.Load().applied)
	}
	if err := closeParts(opened); err != nil {
		t.Error(err)
	}
}
