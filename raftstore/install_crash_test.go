package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/hashicorp/raft"

	"machineid/internal/testkit/injected"
)

// A crash at any change of the data folder itself while a snapshot is installed leaves the old state or the new one (R6): a disk may keep the new
// STATE and not what it names, if that was not synced before.
func TestCrashAtEachNameOfAnInstall(t *testing.T) {
	at := Position{Index: 10, Term: 3}
	rng := newRand(t)
	disk := vfs.NewCrashableMem()
	var mu sync.Mutex // files of before are removed aside
	var images []image
	watching := false
	fs := errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		mu.Lock()
		defer mu.Unlock()
		if watching && op.Kind.ReadOrWrite() != errorfs.OpIsRead && (op.Path == "data" || filepath.Dir(op.Path) == "data") {
			for range 30 {
				clone := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rng})
				images = append(images, image{fs: clone, what: fmt.Sprintf("before %v of %s", op.Kind, op.Path)})
			}
		}
		return nil
	}))
	s := follower(t, fs, 5, 2)
	archive, chain := donate(t, at, s.ident.Cluster)
	watch := func(on bool) {
		mu.Lock()
		defer mu.Unlock()
		watching = on
	}
	watch(true)
	if err := receive(s, at, archive); err != nil {
		t.Fatal(err)
	}
	watch(false)
	if err := closeParts(s); err != nil {
		t.Fatal(err)
	}
	seen := injected.Needed(t, "a crash before the new state", "a crash behind it")
	for _, im := range images {
		after, err := openParts(newNode(onFS(im.fs)).cfg, chainMachine{})
		if err != nil {
			t.Fatalf("crash %s: %v", im.what, err)
		}
		got := must[[]byte](t)(getCopy(after.states.current.db, keyChain))
		if isNew := after.Applied() == at; isNew && !bytes.Equal(got, chain) || !isNew && (after.Applied().Index != 0 || got != nil) {
			t.Errorf("crash %s: state %x at %v", im.what, got, after.Applied())
		} else if isNew {
			seen.Did("a crash behind it")
		} else {
			seen.Did("a crash before the new state")
		}
		if err := closeParts(after); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%d crashes verified", len(images))
}

// donateFormat makes an archive of a state that says that it is of a format.
func donateFormat(tb testing.TB, at Position, cluster string, format byte) []byte {
	tb.Helper()
	s := must[*Store](tb)(openParts(newNode(named("donor"), notBootstrapped()).cfg, chainMachine{}))
	conf := raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: "donor", Address: "a"}}})
	db := s.states.current.db
	if err := errors.Join(db.Set(keyCluster, []byte(cluster), pebble.NoSync), db.Set(keyFormat, []byte{format}, pebble.NoSync)); err != nil {
		tb.Fatal(err)
	}
	s.fsm.ApplyBatch([]*raft.Log{{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: conf}, {Index: at.Index, Term: at.Term, Type: raft.LogCommand}})
	_, rc, err := s.snaps.Open(idLive)
	if err != nil {
		tb.Fatal(err)
	}
	archive := must[[]byte](tb)(io.ReadAll(rc))
	if err := errors.Join(rc.Close(), closeParts(s)); err != nil {
		tb.Fatal(err)
	}
	return archive
}

// An install brings both databases to the format of the state, or is refused by a program that does not know it, and then the old state stays.
func TestInstallOfAFormat(t *testing.T) {
	at := Position{Index: 10, Term: 3}
	s := follower(t, vfs.NewMem(), 5, 2)
	if err := receive(s, at, donateFormat(t, at, s.ident.Cluster, formatNewest+1)); err == nil || !strings.Contains(err.Error(), "not one this program knows") {
		t.Errorf("a format that is not known: %v", err)
	}
	if s.Applied().Index != 0 || s.fsm.format.Load() != formatFirst {
		t.Errorf("at %v, format %d", s.Applied(), s.fsm.format.Load())
	}
	if err := receive(s, at, donateFormat(t, at, s.ident.Cluster, formatNewest)); err != nil {
		t.Fatal(err)
	}
	for name, db := range map[string]*pebble.DB{"log": s.log.db, "state": s.states.current.db} {
		if got := db.FormatMajorVersion(); got != pebbleFormats[formatNewest] {
			t.Errorf("the %s is at %v, want %v", name, got, pebbleFormats[formatNewest])
		}
	}
	if err := closeParts(s); err != nil {
		t.Error(err)
	}
}

// A snapshot whose configuration is another than raft was told of is refused: who votes is part of the state.
func TestReceiveComparesTheConfiguration(t *testing.T) {
	at := Position{Index: 10, Term: 3}
	s := follower(t, vfs.NewMem(), 5, 2)
	archive, _ := donate(t, at, s.ident.Cluster)
	for _, announced := range []uint64{1, 2} { // it has that of index 1
		sink := must[raft.SnapshotSink](t)(s.snaps.Create(1, at.Index, at.Term, raft.Configuration{}, announced, nil))
		_, err := io.Copy(sink, bytes.NewReader(bytes.Clone(archive)))
		if err = errors.Join(err, sink.Close()); (err == nil) != (announced == 1) {
			t.Errorf("announced %d: %v", announced, err)
		}
	}
	if err := closeParts(s); err != nil {
		t.Error(err)
	}
}

// A checkpoint that the log no longer reaches back to is not sent again, though somebody still reads it: who gets it would ask for another at once.
func TestALiveSnapshotIsRenewed(t *testing.T) {
	s, _ := start(t, with(func(c *Config) { c.TrailingLogs = 1 }))
	propose(t, s, "k=v")
	old, held, err := s.snaps.Open(idLive)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = held.Close() }()
	for range 20 {
		propose(t, s, "k=v")
	}
	if meta, again, err := s.snaps.Open(idLive); err != nil || meta.Index != old.Index || again.Close() != nil {
		t.Errorf("one that the log reaches back to is not shared: %+v, %v", meta, err)
	}
	if err := snapshot(s); err != nil {
		t.Fatal(err)
	}
	first := must[uint64](t)(s.log.FirstIndex())
	if first <= old.Index+1 {
		t.Fatalf("the log begins at %d: it was not truncated, and the test shows nothing", first)
	}
	meta, again, err := s.snaps.Open(idLive)
	if err != nil {
		t.Fatal(err)
	}
	if meta.Index+1 < first {
		t.Errorf("sent at %d, and the log begins at %d", meta.Index, first)
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}
