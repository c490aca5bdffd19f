package raftstore

import (
	"bytes"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// backup returns an archive of a node's state.
func backup(tb testing.TB, s *Store) []byte {
	tb.Helper()
	b := must[*Backup](tb)(s.Backup(tb.Context()))
	raw := must[[]byte](tb)(io.ReadAll(b))
	if err := b.Close(); err != nil {
		tb.Error(err)
	}
	if int64(len(raw)) != b.Size {
		tb.Errorf("%d bytes, announced %d", len(raw), b.Size)
	}
	return raw
}

// mark is an Edit that leaves a trace.
func mark(_ pebble.Reader, w *pebble.Batch) error {
	return w.Set([]byte("\x02restored"), []byte("yes"), nil)
}

func restoring(fs vfs.FS, id string) Restoring {
	return Restoring{
		ID: id, Members: []Peer{{ID: id, Address: "127.0.0.1:1"}}, Edit: mark, FS: fs,
		Fatal: func(error) { runtime.Goexit() },
	}
}

// full is a node with some data, and an archive of it.
func full(tb testing.TB) ([]byte, Position) {
	tb.Helper()
	s, _ := start(tb)
	for i := range 300 {
		propose(tb, s, fmt.Sprintf("key%d=%s", i, strings.Repeat("v", 100)))
	}
	return backup(tb, s), s.Applied()
}

// reopened opens a restored folder: it must lead, hold everything, and take commands.
func reopened(tb testing.TB, fs vfs.FS, dir, id string, at Position) {
	tb.Helper()
	s, m := start(tb, onFS(fs), inDir(dir), named(id), notBootstrapped())
	for key, want := range map[string]string{"key0": strings.Repeat("v", 100), "key299": strings.Repeat("v", 100), "restored": "yes"} {
		if got, ok := valueOf(tb, s, key); !ok || got != want {
			tb.Errorf("%s: %.10q, %v", key, got, ok)
		}
	}
	if got := m.restoredAt(); !slices.Equal(got, []Position{at}) {
		tb.Errorf("restored at %v, want %v", got, at)
	}
	res := propose(tb, s, "new=1")
	if res.Index <= at.Index || res.Term <= at.Term {
		tb.Errorf("the first command is at %v, the archive's position is %v", res.Position, at)
	}
	if term, err := s.Confirm(tb.Context()); err != nil || term != res.Term {
		tb.Errorf("confirm: %d, %v", term, err)
	}
}

func TestRestoreMakesAFolderThatGoesOn(t *testing.T) {
	raw, at := full(t)
	fs := vfs.NewMem()
	a, err := Restore("a/new", bytes.NewReader(slices.Clone(raw)), restoring(fs, "n9"))
	if err != nil || a.Position != at || a.Cluster == "" || len(a.Members) != 1 || a.Members[0].ID != "n1" {
		t.Fatalf("%+v, %v", a, err)
	}
	reopened(t, fs, "a/new", "n9", at)
	if _, err := Restore("a/new", bytes.NewReader(slices.Clone(raw)), restoring(fs, "n9")); err == nil {
		t.Error("a folder in use was overwritten")
	}
	got, err := Inspect(bytes.NewReader(raw), func(r pebble.Reader) error {
		_, err := getCopy(r, []byte("\x02key0"))
		return err
	})
	if err != nil || got.Position != at {
		t.Errorf("inspect: %+v, %v", got, err)
	}
}

// TestRestoreRefuses what is no whole archive, and leaves nothing under the name.
func TestRestoreRefuses(t *testing.T) {
	raw, _ := full(t)
	flip := func(at int) []byte {
		b := slices.Clone(raw)
		b[at] ^= 1
		return b
	}
	bad := map[string][]byte{
		"nothing": nil, "garbage": bytes.Repeat([]byte("x"), 1000), "with a tail": append(slices.Clone(raw), 0),
		"half": raw[:len(raw)/2], "less one byte": raw[:len(raw)-1],
	}
	for at := 0; at < len(raw); at += max(1, len(raw)/60) {
		bad[fmt.Sprintf("a bit at %d of %d", at, len(raw))] = flip(at)
	}
	for name, b := range bad {
		fs := vfs.NewMem()
		if _, err := Restore("new", bytes.NewReader(slices.Clone(b)), restoring(fs, "n1")); err == nil {
			t.Errorf("%s: it was taken", name)
		}
		if _, err := fs.Stat("new"); !oserror.IsNotExist(err) {
			t.Errorf("%s: it left a folder (%v)", name, err)
		}
		if _, err := Inspect(bytes.NewReader(b), nil); err == nil {
			t.Errorf("%s: inspect found nothing", name)
		}
	}
	for name, o := range map[string]Restoring{
		"no member":      {ID: "n1"},
		"another member": {ID: "n1", Members: []Peer{{ID: "n2", Address: "b"}}},
		"no voter":       {ID: "n1", Members: []Peer{{ID: "n1", Address: "a", NonVoter: true}}},
		"twice":          {ID: "n1", Members: []Peer{{ID: "n1", Address: "a"}, {ID: "n1", Address: "b"}}},
		"one address":    {ID: "n1", Members: []Peer{{ID: "n1", Address: "a"}, {ID: "n2", Address: "a"}}},
		"no address":     {ID: "n1", Members: []Peer{{ID: "n1"}}},
	} {
		o.FS = vfs.NewMem()
		if _, err := Restore("new", bytes.NewReader(raw), o); err == nil {
			t.Errorf("%s: it was taken", name)
		}
	}
}

// TestRestoreAtEachCrash: whenever the power goes, the folder is there whole, or not at all, and another attempt gets through.
func TestRestoreAtEachCrash(t *testing.T) {
	raw, at := full(t) // a file in memory scribbles over what it was given, hence the clones
	rng := newRand(t)
	disk := vfs.NewCrashableMem()
	var mu sync.Mutex
	var crashed []*vfs.MemFS
	writes := 0
	every := 5
	if testing.Short() {
		every = 25
	}
	fs := errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			mu.Lock()
			defer mu.Unlock()
			if writes++; writes%every == 0 {
				crashed = append(crashed, disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 25 * rng.IntN(5), RNG: rng}))
			}
		}
		return nil
	}))
	if _, err := Restore("new", bytes.NewReader(slices.Clone(raw)), restoring(fs, "n9")); err != nil {
		t.Fatal(err)
	}
	end := disk.CrashClone(vfs.CrashCloneCfg{}) // nothing that was not synced
	reopened(t, end, "new", "n9", at)
	for i, fs := range crashed {
		if _, err := fs.Stat("new"); oserror.IsNotExist(err) {
			if _, err := Restore("new", bytes.NewReader(slices.Clone(raw)), restoring(fs, "n9")); err != nil {
				t.Errorf("crash %d: the next attempt: %v", i, err)
				continue
			}
		}
		if i%8 == 0 || i == len(crashed)-1 {
			reopened(t, fs, "new", "n9", at)
		}
	}
	t.Logf("%d crashes in %d writes", len(crashed), writes)
}

// TestRecoverFromOneNode: a cluster of three has lost two for good; what the third has in its log goes on alone.
func TestRecoverFromOneNode(t *testing.T) {
	nodes := tcpCluster(t, 3)
	leader := leaderOf(t, nodes)
	for i := range 50 {
		propose(t, leader.store, fmt.Sprintf("key%d=%d", i, i))
	}
	survivor := nodes[0]
	if survivor == leader {
		survivor = nodes[1]
	}
	eventually(t, "the survivor has all", func() bool { return survivor.store.Applied() == leader.store.Applied() })
	last, cluster := survivor.store.Applied(), survivor.store.Cluster()
	for _, n := range nodes {
		n.kill(t)
	}
	o := Restoring{ID: survivor.name, Members: []Peer{{ID: survivor.name, Address: survivor.addr}}, Edit: mark}
	at, err := Recover(survivor.dir, &machine{}, o)
	if err != nil || at.Index < last.Index {
		t.Fatalf("%v, %v; the state was at %v", at, err, last)
	}
	if _, err := vfs.Default.Stat(survivor.dir + suffixBefore + "/" + nameIdent); err != nil {
		t.Errorf("the old folder: %v", err)
	}
	survivor.open(t, false)
	waitLeading(t, survivor.store)
	for _, key := range []string{"key0", "key49", "restored"} {
		if _, ok := valueOf(t, survivor.store, key); !ok {
			t.Errorf("%s is gone", key)
		}
	}
	members := must[[]Member](t)(survivor.store.Members(t.Context()))
	if len(members) != 1 || members[0].ID != survivor.name || survivor.store.Cluster() != cluster {
		t.Errorf("%+v of %s", members, survivor.store.Cluster())
	}
	propose(t, survivor.store, "more=1")
	if _, err := Recover(survivor.dir, &machine{}, o); err == nil {
		t.Error("a running node was recovered")
	}
}
