package raftstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/hashicorp/raft"

	"machineid/internal/testkit/bubble"
	"machineid/internal/testkit/injected"
)

// TestRecoverBeginsAnotherCluster: two of three are lost for good, as it seems, and the third goes on alone. Those that come back all the same go
// on with the cluster of before: neither takes anything from the other.
func TestRecoverBeginsAnotherCluster(t *testing.T) {
	nodes := tcpCluster(t, 3)
	leader := leaderOf(t, nodes)
	for i := range 50 {
		put(t, nodes, fmt.Sprintf("key%d=%d", i, i))
	}
	survivor, others := nodes[0], nodes[1:]
	eventually(t, "the survivor has all", func() bool { return survivor.store.Applied() == leader.store.Applied() })
	last, cluster, life := survivor.store.Applied(), survivor.store.Cluster(), survivor.store.life()
	for _, n := range nodes {
		n.kill(t)
	}
	o := Restoring{ID: survivor.name, Address: survivor.addr, Edit: mark}
	begun, err := Recover(survivor.dir, &machine{}, o)
	if err != nil || begun.Index < last.Index || begun.Replaces != cluster || begun.Cluster == cluster || begun.Kept != survivor.dir+suffixBefore {
		t.Fatalf("%+v, %v; the state was at %v", begun, err, last)
	}
	if _, err := vfs.Default.Stat(begun.Kept + "/" + nameIdent); err != nil {
		t.Errorf("the old folder: %v", err)
	}
	survivor.open(t, false)
	waitLeading(t, survivor.store)
	for key, want := range map[string]string{"key0": "0", "key49": "49", "restored": "yes", "from": cluster, "to": begun.Cluster} {
		if got, ok := valueOf(t, survivor.store, key); !ok || got != want {
			t.Errorf("%s: %q, %v", key, got, ok)
		}
	}
	members := must[[]Member](t)(survivor.store.Members(t.Context()))
	if len(members) != 1 || members[0].ID != survivor.name || survivor.store.Cluster() != begun.Cluster || survivor.store.life() == life {
		t.Errorf("%+v of %s", members, survivor.store.Cluster())
	}
	res := propose(t, survivor.store, "recovered=yes")
	if res.Term <= last.Term+termGap {
		t.Errorf("the term is %d after %d", res.Term, last.Term)
	}
	if _, err := Recover(survivor.dir, &machine{}, o); err == nil || !strings.Contains(err.Error(), "is the node running") {
		t.Errorf("a running node was recovered: %v", err)
	}

	for _, n := range others {
		n.open(t, false)
	}
	for i := range 200 { // further than the recovered one is
		put(t, others, fmt.Sprintf("old%d=v", i))
	}
	level(t, others, last.Index+200)
	eventually(t, "the others say that it is not theirs", func() bool {
		for _, m := range must[[]Member](t)(leaderOf(t, others).store.Members(t.Context())) {
			if m.ID == survivor.name {
				return m.Err != nil && strings.Contains(m.Err.Error(), "is of cluster")
			}
		}
		return false
	})
	propose(t, survivor.store, "more=1")
	for key, want := range map[string]bool{"recovered": true, "more": true, "old0": false, "old199": false} {
		if _, ok := valueOf(t, survivor.store, key); ok != want {
			t.Errorf("the recovered one: %s: %v", key, ok)
		}
		if _, ok := valueOf(t, leaderOf(t, others).store, key); ok == want {
			t.Errorf("the others: %s: %v", key, ok)
		}
	}
	if at := leaderOf(t, others).store.Applied(); at.Term >= res.Term || leaderOf(t, others).store.Cluster() != cluster {
		t.Errorf("the others are at %v of %s", at, leaderOf(t, others).store.Cluster())
	}
}

// worn is the disk of a node that lost its power: part of its state is on it, the rest in the log, and it has voted in a term that no entry has.
func worn(t *testing.T, options ...option) (disk *vfs.MemFS, commands uint64, last Position) {
	t.Helper()
	fs := vfs.NewCrashableMem()
	s, _ := start(t, append([]option{onFS(fs)}, options...)...)
	for i := range 40 {
		propose(t, s, fmt.Sprintf("key%d=%s", i, strings.Repeat("v", 100)))
		if i == 19 {
			if err := snapshot(s); err != nil {
				t.Fatal(err)
			}
		}
	}
	return fs.CrashClone(vfs.CrashCloneCfg{}), 40, s.Applied()
}

// recovered opens what a recovery made and says what is wrong with it. Each command counts once.
func recovered(tb testing.TB, fs vfs.FS, address string, commands uint64, last Position) {
	tb.Helper()
	s, _ := start(tb, onFS(fs), notBootstrapped(), with(func(cfg *Config) { _, cfg.Transport = raft.NewInmemTransport(raft.ServerAddress(address)) }))
	defer stop(tb, s)
	if got := countOf(tb, s); got != commands {
		tb.Errorf("%d commands took effect, want %d", got, commands)
	}
	for i := range 40 {
		if _, ok := valueOf(tb, s, fmt.Sprintf("key%d", i)); !ok {
			tb.Errorf("key%d is gone", i)
		}
	}
	if to, _ := valueOf(tb, s, "to"); to == "" || to != s.Cluster() {
		tb.Errorf("it is of cluster %s, the Edit was told %q", s.Cluster(), to)
	}
	servers := s.raft.GetConfiguration().Configuration().Servers
	if len(servers) != 1 || string(servers[0].Address) != address || servers[0].ID != s.life().server() {
		tb.Errorf("members: %+v, want one at %s", servers, address)
	}
	if res := propose(tb, s, "more=1"); res.Index <= last.Index || res.Term <= last.Term+termGap {
		tb.Errorf("the first command is at %v, the log ended at %v", res.Position, last)
	}
}

func recovering(fs vfs.FS, address string) Restoring {
	return Restoring{ID: "n1", Address: address, Edit: mark, FS: fs}
}

// TestRecoverAppliesTheRest of the log, all of it and once, whatever is in it, and in a term above each that the node knows of.
func TestRecoverAppliesTheRest(t *testing.T) {
	const voted = 5_000_000
	disk, commands, last := worn(t)
	old := newNode(onFS(disk), notBootstrapped())
	s := must[*Store](t)(openParts(old.cfg, old.machine))
	if at := s.Applied(); at.Index < 2 || at.Index >= last.Index {
		t.Fatalf("the state is at %v, the log ends at %v: it shows nothing", at, last)
	}
	if err := errors.Join(s.log.SetUint64([]byte(keyCurrentTerm), voted), closeParts(s)); err != nil {
		t.Fatal(err)
	}
	last.Term = voted
	begun, err := Recover("data", &machine{}, recovering(disk, "127.0.0.1:1"))
	if err != nil || begun.Index < last.Index {
		t.Fatalf("%+v, %v; the log ended at %v", begun, err, last)
	}
	recovered(t, disk, "127.0.0.1:1", commands, last)
}

// TestRecoverRaisesTheFormat that is in the log and not yet in the state; one that this program does not know is an error.
func TestRecoverRaisesTheFormat(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s, _ := start(t, onFS(fs), with(beginsFirst))
	propose(t, s, "a=1")
	atFormat(t, s, formatFirst)
	if got, err := s.RaiseFormat(t.Context(), 0); err != nil || got != formatNewest {
		t.Fatalf("%d, %v", got, err)
	}
	propose(t, s, "b=1")
	disk := fs.CrashClone(vfs.CrashCloneCfg{})
	if _, err := Recover("data", &machine{}, recovering(disk, "127.0.0.1:1")); err != nil {
		t.Fatal(err)
	}
	again, _ := start(t, onFS(disk), notBootstrapped())
	atFormat(t, again, formatNewest)
	for _, key := range []string{"a", "b"} {
		if _, ok := valueOf(t, again, key); !ok {
			t.Errorf("%s is gone", key)
		}
	}

	before, _ := s.log.LastIndex()
	s.raft.Apply(encodeFormat(formatNewest+1), 0) // nobody answers: it ends this node
	eventually(t, "it is in the log", func() bool { last, _ := s.log.LastIndex(); return last > before })
	disk = fs.CrashClone(vfs.CrashCloneCfg{})
	if _, err := Recover("data", &machine{}, recovering(disk, "127.0.0.1:1")); err == nil || !strings.Contains(err.Error(), "not one this program knows") {
		t.Errorf("a format that this program does not know: %v", err)
	}
}

// pebblePanics says whether Pebble may panic by itself where op fails, so that no test survives it: at most files of a database, when it is opened
// (a compaction may run already that a failed open takes the ground from) or when a WAL is changed. What is written to a WAL is told.
func pebblePanics(op errorfs.Op) bool {
	write := op.Kind == errorfs.OpFileWrite || op.Kind == errorfs.OpFileSync || op.Kind == errorfs.OpFileSyncData
	ofDatabase := strings.Contains(op.Path, "/"+nameLog) || strings.Contains(op.Path, "/"+prefixState)
	return ofDatabase && (!write || !strings.HasSuffix(op.Path, ".log"))
}

// TestOfflineFaultsAreErrors: whichever write fails, who recovers or restores is told, and another attempt on a disk that works gets through. Nothing
// ends the process, nothing hangs.
func TestOfflineFaultsAreErrors(t *testing.T) {
	disk, commands, last := worn(t)
	raw, at := full(t)
	faults := injected.Needed(t, "recover", "restore")
	for name, do := range map[string]struct {
		try   func(vfs.FS) error
		check func(vfs.FS)
	}{
		"recover": {
			func(fs vfs.FS) error {
				_, err := Recover("data", &machine{}, recovering(fs, "127.0.0.1:1"))
				return err
			},
			func(fs vfs.FS) { recovered(t, fs, "127.0.0.1:1", commands, last) },
		},
		"restore": {
			func(fs vfs.FS) error {
				_, err := Restore("new", bytes.NewReader(slices.Clone(raw)), restoring(fs, "n9"))
				return err
			},
			func(fs vfs.FS) { reopened(t, fs, "new", "n9", at) },
		},
	} {
		failing := func(fs vfs.FS, at int64) (writes int64, err error) {
			var n atomic.Int64
			err = do.try(errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
				if op.Kind.ReadOrWrite() == errorfs.OpIsRead || n.Add(1) != at || pebblePanics(op) {
					return nil
				}
				faults.Did(name)
				return errInjected
			})))
			return n.Load(), err
		}
		writes, err := failing(disk.CrashClone(vfs.CrashCloneCfg{}), -1)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		step, told := stride(7), 0
		for i := 1 + rand.Int64N(step); i <= writes; i += step {
			fs := disk.CrashClone(vfs.CrashCloneCfg{})
			_, err := failing(fs, i)
			if err == nil {
				continue // such as the removal of what nobody needs
			}
			told++
			if !errors.Is(err, errInjected) && !strings.Contains(err.Error(), errInjected.Error()) {
				t.Errorf("%s: write %d of %d: %v", name, i, writes, err)
			}
			crashed := fs.CrashClone(vfs.CrashCloneCfg{})
			if err := do.try(crashed); err != nil && !strings.Contains(err.Error(), "there is something already") {
				t.Errorf("%s: after write %d of %d failed: %v", name, i, writes, err)
			} else if i%5 == 0 {
				do.check(crashed)
			}
		}
		if told == 0 {
			t.Errorf("%s: no failure was told", name)
		}
		t.Logf("%s: %d failures told, of %d made, of %d writes", name, told, faults.Count(name), writes)
	}
	var o Restoring // as little as can be given, on the real disk
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.MkdirAll(filepath.Join(dir, nameLog), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		nameIdent: `{"format":2,"node":"n1","store":"s"}`, nameState: `{"format":2,"generation":1}`, nameLog + "/CURRENT": "MANIFEST-000009\n", nameLog + "/marker.manifest.000001.MANIFEST-000009": "",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o.ID, o.Address = "n1", "127.0.0.1:1"
	if _, err := Recover(dir, &machine{}, o); err == nil {
		t.Error("a damaged log was recovered")
	}
	if _, err := ReadLog(dir, 0, 0, 10, func([][]byte) string { return "" }); err == nil {
		t.Error("a damaged log was read")
	}
}

// TestRecoverOfAMachineThatPanics is an error, and leaves the folder to a program that can read it.
func TestRecoverOfAMachineThatPanics(t *testing.T) {
	disk, _, _ := worn(t)
	bad := &machine{onApply: func(Position) { panic("it does not know this command") }}
	if _, err := Recover("data", bad, recovering(disk, "127.0.0.1:1")); err == nil || !strings.Contains(err.Error(), "does not know this command") {
		t.Fatalf("%v", err)
	}
	s, _ := start(t, onFS(disk.CrashClone(vfs.CrashCloneCfg{})), notBootstrapped())
	propose(t, s, "more=1")
}

// TestRecoverAgain: what is asked for now counts, and not what an attempt was asked for that was cut between its renames. Until it is repeated no
// store begins in the place of the folder.
func TestRecoverAgain(t *testing.T) {
	disk, commands, last := worn(t)
	cut := errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpRename && op.Path == "data"+suffixRestoring {
			return errInjected
		}
		return nil
	}))
	if _, err := Recover("data", &machine{}, recovering(cut, "127.0.0.1:1")); !errors.Is(err, errInjected) {
		t.Fatalf("%v", err)
	}
	if _, err := disk.Stat("data"); !oserror.IsNotExist(err) {
		t.Fatalf("it is not between the renames: %v", err)
	}
	for _, bootstrap := range []bool{false, true} {
		if _, err := newNode(onFS(disk), with(func(c *Config) { c.Bootstrap = bootstrap })).open(); err == nil || !strings.Contains(err.Error(), "a recovery of this folder was cut") {
			t.Errorf("a start, bootstrapping %v: %v", bootstrap, err)
		}
	}
	if _, err := Restore("data", strings.NewReader(""), recovering(disk, "127.0.0.1:1")); err == nil || !strings.Contains(err.Error(), "a recover for node n1") {
		t.Errorf("a restore in its place: %v", err)
	}
	other := recovering(disk, "127.0.0.1:1")
	other.ID = "n2"
	if _, err := Recover("data", &machine{}, other); err == nil || !strings.Contains(err.Error(), "--id n1") {
		t.Errorf("as another node: %v", err)
	}
	if _, err := disk.Stat("data"); !oserror.IsNotExist(err) {
		t.Errorf("what was refused has changed something: %v", err)
	}
	begun, err := Recover("data", &machine{}, recovering(disk, "127.0.0.1:2"))
	if err != nil || begun.Kept != "data"+suffixBefore {
		t.Fatalf("%+v, %v", begun, err)
	}
	recovered(t, disk, "127.0.0.1:2", commands, last)
}

// TestRecoverTakesNoLeftover of anything but its own.
func TestRecoverTakesNoLeftover(t *testing.T) {
	raw, _ := full(t)
	leave := func(t *testing.T, fs *vfs.MemFS, o any, more ...string) {
		t.Helper()
		l := newSite(fs, "data").fresh
		if err := l.create(); err != nil {
			t.Fatal(err)
		}
		if o != nil {
			if err := l.writeFile(nameOrigin, o); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range more {
			if err := l.writeFile(name, "x"); err != nil {
				t.Fatal(err)
			}
		}
	}
	ours := origin{Operation: byRecover, Node: "n1", Store: "s", Kept: "data" + suffixBefore}
	for name, c := range map[string]struct {
		folder bool // there is one to recover
		o      any
		refuse string // "": taken
	}{
		"its own":                                  {true, ours, ""},
		"another node's":                           {true, origin{Operation: byRecover, Node: "n2", Kept: "x"}, "for node n2"},
		"a restore's":                              {true, origin{Operation: byRestore, Node: "n1"}, "a restore for node n1"},
		"no one's":                                 {true, nil, "does not say what it is"},
		"a damaged one's":                          {true, 7, "read " + nameOrigin},
		"its own, and nothing else":                {false, ours, "is not the folder that it kept"},
		"a restore's, and nothing else":            {false, origin{Operation: byRestore, Node: "n1"}, "there is no such folder"},
		"its own, with a path":                     {false, origin{Operation: byRecover, Node: "n1", Kept: "../data"}, "is not the folder that it kept"},
		"no one's, and nothing else":               {false, nil, "there is no such folder"},
		"its own, and the kept is another store's": {false, origin{Operation: byRecover, Node: "n1", Store: "t", Kept: "kept"}, "is not the folder that it kept"},
	} {
		t.Run(name, func(t *testing.T) {
			disk, commands, last := worn(t)
			if !c.folder {
				if err := disk.Rename("data", "kept"); err != nil {
					t.Fatal(err)
				}
			}
			leave(t, disk, c.o)
			_, err := Recover("data", &machine{}, recovering(disk, "127.0.0.1:1"))
			switch {
			case c.refuse == "" && err != nil, c.refuse != "" && (err == nil || !strings.Contains(err.Error(), c.refuse)):
				t.Fatalf("%v, want %q", err, c.refuse)
			case err == nil:
				recovered(t, disk, "127.0.0.1:1", commands, last)
			case c.folder:
				s, _ := start(t, onFS(disk), notBootstrapped())
				propose(t, s, "more=1")
			}
		})
	}
	for name, c := range map[string]struct {
		o      any
		refuse string
	}{
		"its own": {origin{Operation: byRestore, Node: "n1"}, ""}, "for another node": {origin{Operation: byRestore, Node: "n2"}, ""},
		"a recovery's": {ours, "a recover for node n1"}, "no one's": {nil, "does not say what it is"},
	} {
		fs := vfs.NewMem()
		leave(t, fs, c.o)
		if _, err := newNode(onFS(fs)).open(); err == nil || !strings.Contains(err.Error(), "was cut") {
			t.Errorf("a start beside a leftover, %s: %v", name, err)
		}
		_, err := Restore("data", bytes.NewReader(slices.Clone(raw)), restoring(fs, "n1"))
		if c.refuse == "" && err != nil || c.refuse != "" && (err == nil || !strings.Contains(err.Error(), c.refuse)) {
			t.Errorf("a restore, %s: %v, want %q", name, err, c.refuse)
		}
	}
	if fs := vfs.NewMem(); HasFolder(filepath.Join(t.TempDir(), "none")) || fs == nil {
		t.Error("there is a folder where none is")
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "data"+suffixRestoring), 0o700); err != nil {
		t.Fatal(err)
	}
	if !HasFolder(filepath.Join(dir, "data")) || !HasFolder(dir) {
		t.Error("what a recovery left is taken for nothing")
	}
}

// TestRecoverAFolderOfTheFormatBefore: one that was made before stores had ids does not start, and a recovery makes one of it that does.
func TestRecoverAFolderOfTheFormatBefore(t *testing.T) {
	disk, commands, last := worn(t)
	n := newNode(onFS(disk), notBootstrapped())
	s := must[*Store](t)(openParts(n.cfg, n.machine))
	before := map[string]any{"format": formatNoStore, "cluster": s.ident.Cluster, "node": "n1"}
	servers := configuration{index: 1, encoded: raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: "n1", Address: "a"}, {ID: "n2", Address: "b"}}})}
	st := must[*state](t)(s.states.acquire())
	err := errors.Join(
		s.logDB.Set([]byte(keyLogIdent), must[[]byte](t)(json.Marshal(before)), pebble.Sync), st.db.Set(keyConf, servers.encode(), pebble.Sync),
		s.layout.writeFile(nameIdent, before), s.layout.writeFile(nameState, map[string]any{"format": formatNoStore, "generation": 1, "index": 0, "term": 0}),
	)
	st.release()
	if err := errors.Join(err, closeParts(s)); err != nil {
		t.Fatal(err)
	}
	if _, err := newNode(onFS(disk)).open(); !errors.Is(err, errNoStore) {
		t.Fatalf("a start: %v", err)
	}
	if _, err := Recover("data", &machine{}, recovering(disk, "127.0.0.1:1")); err != nil {
		t.Fatal(err)
	}
	recovered(t, disk, "127.0.0.1:1", commands, last)
}

// freeAddress is one that nobody listens at for the moment.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestRestoredClustersTakeOthers: a restored cluster sends a fresh node its state and its log, across the boundary at which the term jumps; an archive of
// it can be restored, a folder of it recovered, and either recovered again before it ever ran.
func TestRestoredClustersTakeOthers(t *testing.T) {
	raw, at := full(t)
	first := &tcpNode{name: "n1", dir: filepath.Join(t.TempDir(), "n1"), addr: freeAddress(t)}
	begun, err := Restore(first.dir, bytes.NewReader(slices.Clone(raw)), Restoring{ID: "n1", Address: first.addr, Edit: mark})
	if err != nil {
		t.Fatal(err)
	}
	again, err := Recover(first.dir, &machine{}, Restoring{ID: "n1", Address: first.addr, Edit: mark})
	if err != nil || again.Replaces != begun.Cluster || again.Position != at {
		t.Fatalf("recovered before it ran: %+v, %v", again, err)
	}
	first.open(t, false)
	t.Cleanup(func() { first.kill(t) })
	waitLeading(t, first.store)
	second := &tcpNode{name: "n2", dir: t.TempDir(), addr: "127.0.0.1:0"}
	second.open(t, false)
	t.Cleanup(func() { second.kill(t) })
	nodes := []*tcpNode{first, second}
	eventually(t, "the other one is taken in", func() bool {
		err := first.store.AddNonvoter(t.Context(), second.name, second.addr)
		if err == nil {
			err = first.store.Promote(t.Context(), second.name)
		}
		return err == nil
	})
	res := put(t, nodes, "new=1")
	level(t, nodes, res.Index)
	if res.Term <= at.Term+2*termGap || second.store.Cluster() != again.Cluster || len(second.machine.restoredAt()) < 2 {
		t.Errorf("at %v, the other is of %s and was restored at %v", res.Position, second.store.Cluster(), second.machine.restoredAt())
	}
	second.kill(t)
	second.open(t, false) // the log across its own start
	res = put(t, nodes, "newer=1")
	level(t, nodes, res.Index)

	archive := backup(t, second.store)
	fs := vfs.NewMem()
	last, err := Restore("third", bytes.NewReader(archive), restoring(fs, "n9"))
	if err != nil || last.Replaces != again.Cluster || last.Index != res.Index {
		t.Fatalf("%+v, %v", last, err)
	}
	reopened(t, fs, "third", "n9", last.Position)
}

// A recovery that is cut must not leave a damaged folder that an ordinary start takes for whole: it opens the log, and that cuts off what stands behind the damage.
func TestRecoverHidesNoDamage(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		mem := vfs.NewCrashableMem()
		s, _ := start(t, onFS(mem))
		propose(t, s, "before=1")
		propose(t, s, "revoke=1")
		time.Sleep(3 * sealAfter)
		disk := mem.CrashClone(vfs.CrashCloneCfg{})
		file, _ := newestWAL(t, disk)
		raw := contentOf(t, disk, file)
		raw[bytes.LastIndex(raw, []byte("revoke=1"))] ^= 1
		overwrite(t, disk, file, raw)
		if _, err := newNode(onFS(disk), notBootstrapped()).open(); err == nil {
			t.Fatal("the damage is not seen, and the test shows nothing")
		}
		o := Restoring{ID: "n1", Address: "127.0.0.1:1", FS: disk, Edit: func(pebble.Reader, *pebble.Batch, string, string) error { return errors.New("cut here") }}
		if _, err := Recover("data", &machine{}, o); err == nil {
			t.Fatal("it was not cut, and the test shows nothing")
		}
		if _, err := newNode(onFS(disk), notBootstrapped()).open(); err == nil || !strings.Contains(err.Error(), "machineid recover") {
			t.Errorf("it starts as what it was: %v", err)
		}
		o.Edit = nil
		begun, err := Recover("data", &machine{}, o)
		if err != nil || begun.Damaged == "" {
			t.Fatalf("recovered with what is left: %+v, %v", begun, err)
		}
	})
}
