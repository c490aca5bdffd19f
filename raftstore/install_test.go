package raftstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// follower opens a node without raft whose log holds entries 2..last of a term, of which it applied none.
func follower(tb testing.TB, fs vfs.FS, last, term uint64) *Store {
	tb.Helper()
	s := must[*Store](tb)(openParts(newNode(onFS(fs)).cfg, chainMachine{}))
	if last > 1 {
		ls := logs(2, last, term)
		for _, l := range ls {
			l.Data = appendPacked(appendPackHeader(nil, 1), l.Data)
		}
		if err := s.log.StoreLogs(ls); err != nil {
			tb.Fatal(err)
		}
	}
	return s
}

// An install onto a log that lags, is level or diverges leaves a node that accepts the leader's next entry, at once and after a
// restart: the case that hashicorp/raft gets wrong with other stores (issue 697, R7).
func TestInstallThenAppend(t *testing.T) {
	at := Position{Index: 10, Term: 3}
	for _, last := range []uint64{1, 5, 9, 10, 11, 20} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("last=%d/restart=%v", last, restart), func(t *testing.T) {
				fs := vfs.NewMem()
				s := follower(t, fs, last, 2)
				archive, chain := donate(t, at, s.ident.Cluster)
				if err := receive(s, at, archive); err != nil {
					t.Fatal(err)
				}
				if restart {
					if err := closeParts(s); err != nil {
						t.Fatal(err)
					}
					s = must[*Store](t)(openParts(newNode(onFS(fs)).cfg, chainMachine{}))
				}
				defer func() {
					if err := closeParts(s); err != nil {
						t.Error(err)
					}
				}()
				if got := must[[]byte](t)(getCopy(s.states.current.db, keyChain)); !bytes.Equal(got, chain) || s.Applied() != at {
					t.Errorf("state %x at %v, want %x", got, s.Applied(), chain)
				}
				if reach := s.reach(); reach.Applied != at.Index || reach.Last != max(last, at.Index) {
					t.Errorf("it says that it is at %+v", reach)
				}
				if meta := must[[]*raft.SnapshotMeta](t)(s.snaps.List()); meta[0].Index != 10 || meta[0].Configuration.Servers[0].ID != "donor" {
					t.Errorf("listed %+v", meta[0])
				}
				nextAppend(t, s, at)
				if names := must[[]string](t)(fs.List("data/staging")); len(names) != 0 {
					t.Errorf("left in staging: %v", names)
				}
				eventually(t, "the replaced state is gone", func() bool { _, err := fs.Stat("data/state-1"); return err != nil })
			})
		}
	}
}

// nextAppend is what raft does with the first append after an install: the entry before must match, a conflict is cut.
func nextAppend(tb testing.TB, s *Store, at Position) {
	tb.Helper()
	var before, there raft.Log
	if err := s.log.GetLog(at.Index, &before); err != nil || before.Term != at.Term {
		tb.Fatalf("entry before: %+v, %v", before, err)
	}
	if err := s.log.GetLog(at.Index-1, &there); !errors.Is(err, raft.ErrLogNotFound) {
		tb.Errorf("entry %d: %v: the boundary could be replicated as data", at.Index-1, err)
	}
	if last := must[uint64](tb)(s.log.LastIndex()); last > at.Index {
		if err := s.log.GetLog(at.Index+1, &there); err != nil {
			tb.Fatal(err)
		}
		if err := s.log.DeleteRange(at.Index+1, last); err != nil {
			tb.Fatal(err)
		}
	}
	l := &raft.Log{Index: at.Index + 1, Term: at.Term, Type: raft.LogCommand}
	if err := s.log.StoreLog(l); err != nil {
		tb.Fatal(err)
	}
	s.fsm.ApplyBatch([]*raft.Log{l})
	if s.Applied().Index != l.Index {
		tb.Errorf("applied %v", s.Applied())
	}
}

// A crash at any step of an install leaves the old state or the new one, whole, with a log that fits (R6).
func TestCrashDuringInstall(t *testing.T) {
	at := Position{Index: 10, Term: 3}
	steps := []string{
		"before the rename", "after the rename", "before the commit point", "after the commit point", "log reconciled", "done",
	}
	rng := newRand(t)
	crashed := 0
	for _, last := range []uint64{1, 5, 10, 20} {
		for _, pct := range percentages {
			disk := vfs.NewCrashableMem()
			s := follower(t, disk, last, 2)
			archive, chain := donate(t, at, s.ident.Cluster)
			clones := map[string]*vfs.MemFS{}
			s.snaps.step = func(name string) {
				clones[name] = disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: pct, RNG: rng})
			}
			if err := receive(s, at, archive); err != nil {
				t.Fatal(err)
			}
			s.snaps.step("done")
			if err := closeParts(s); err != nil {
				t.Fatal(err)
			}
			for i, step := range steps {
				crashed++
				after, err := openParts(newNode(onFS(clones[step])).cfg, chainMachine{})
				if err != nil {
					t.Errorf("%s, last %d, %d%%: %v", step, last, pct, err)
					continue
				}
				got := must[[]byte](t)(getCopy(after.states.current.db, keyChain))
				switch applied := after.Applied(); {
				case i >= 3: // past the commit point
					if applied != at || !bytes.Equal(got, chain) {
						t.Errorf("%s, last %d, %d%%: state %x at %v, want the new one", step, last, pct, got, applied)
					} else {
						nextAppend(t, after, at)
					}
				case applied.Index != 0 || got != nil:
					t.Errorf("%s, last %d, %d%%: state %x at %v, want the old one", step, last, pct, got, applied)
				default: // and the leader sends it again
					if err := receive(after, at, archive); err != nil {
						t.Errorf("%s: again: %v", step, err)
					}
				}
				if err := closeParts(after); err != nil {
					t.Error(err)
				}
			}
		}
	}
	t.Logf("%d crashes verified", crashed)
}

// An archive that is damaged anywhere, cut short, too long, or not what was announced, is refused and leaves nothing behind.
func TestReceiveRefuses(t *testing.T) {
	at := Position{Index: 10, Term: 3}
	fs := vfs.NewMem()
	s := follower(t, fs, 5, 2)
	defer func() {
		if err := closeParts(s); err != nil {
			t.Error(err)
		}
	}()
	archive, _ := donate(t, at, s.ident.Cluster)
	foreign, _ := donate(t, at, "another")
	rng := newRand(t)
	refuse := func(what string, at Position, archive []byte) {
		t.Helper()
		if err := receive(s, at, archive); err == nil {
			t.Fatalf("%s was accepted", what)
		}
	}
	refuse("another cluster's", at, foreign)
	refuse("another position", Position{Index: 11, Term: 3}, archive)
	refuse("a longer one", at, append(bytes.Clone(archive), 0))
	refuse("one without its last byte", at, archive[:len(archive)-1])
	refuse("one without its last checksum", at, archive[:len(archive)-crcLen])
	refuse("one of a later format", at, laterArchive(archive))
	refuse("nothing", at, nil)
	for range count(60, 600) {
		refuse("one cut short", at, archive[:rng.IntN(len(archive))])
		damaged := bytes.Clone(archive)
		damaged[rng.IntN(len(damaged))] ^= 1 << rng.IntN(8)
		refuse("a damaged one", at, damaged)
	}
	refuse("a file outside the folder", at, bytes.Replace(archive, []byte(`{"name":"0`), []byte(`{"name":"/`), 1))
	if names := must[[]string](t)(fs.List("data/staging")); len(names) != 0 {
		t.Errorf("left in staging: %v", names)
	}
	if err := receive(s, at, archive); err != nil {
		t.Errorf("the good one: %v", err)
	}
	if err := receive(s, at, archive); err != nil {
		t.Errorf("the same once more (a retry of the leader): %v", err)
	}
	old, _ := donate(t, Position{Index: 7, Term: 3}, s.ident.Cluster)
	refuse("one older than the state", Position{Index: 7, Term: 3}, old)
}

// laterArchive is archive as a program of the next format would head it.
func laterArchive(archive []byte) []byte {
	later := bytes.Replace(archive, fmt.Appendf(nil, `{"format":%d`, archiveFormat), fmt.Appendf(nil, `{"format":%d`, archiveFormat+1), 1)
	end := archivePrefixLen + int(binary.BigEndian.Uint32(later[len(archiveMagic):]))
	binary.BigEndian.PutUint32(later[end:], crc32.Checksum(later[archivePrefixLen:end], castagnoli))
	return later
}

// Views that were open before an install go on showing the old state, new ones show the new state, and the old files go when
// the last old view closes. The machine is told between (R6).
func TestViewDuringInstall(t *testing.T) {
	at := Position{Index: 50, Term: 3}
	fs := vfs.NewMem()
	m := &machine{}
	parts := must[*Store](t)(openParts(newNode(onFS(fs)).cfg, m))
	before := must[*View](t)(parts.View())
	archive, chain := donate(t, at, parts.ident.Cluster)
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				v, err := parts.View()
				if err != nil {
					t.Error(err)
					return
				}
				got, ok, err := v.Get(keyChain)
				if isNew := v.Position() == at; err != nil || ok != isNew || isNew && !bytes.Equal(got, chain) {
					t.Errorf("at %v: %x, %v, %v", v.Position(), got, ok, err)
				}
				if err := v.Close(); err != nil {
					t.Error(err)
				}
				runtime.Gosched()
			}
		})
	}
	if err := receive(parts, at, archive); err != nil {
		t.Fatal(err)
	}
	close(stop)
	readers.Wait()
	if before.Position().Index != 0 {
		t.Errorf("the old view moved to %v", before.Position())
	}
	if _, err := fs.Stat("data/state-1"); err != nil {
		t.Errorf("the old state is gone under its view: %v", err)
	}
	if err := before.Close(); err != nil {
		t.Error(err)
	}
	eventually(t, "the old state is removed", func() bool { _, err := fs.Stat("data/state-1"); return err != nil })
	if len(m.restored) != 2 || m.restored[1] != at {
		t.Errorf("machine restored at %v", m.restored)
	}
	if err := closeParts(parts); err != nil {
		t.Error(err)
	}
}

// Followers that fetch at the same time share one checkpoint, and the last one removes it. Writes go on meanwhile.
func TestOpenLiveSnapshot(t *testing.T) {
	fs := vfs.NewMem()
	s, _ := start(t, onFS(fs))
	for i := range 100 {
		propose(t, s, fmt.Sprintf("k%d=%s", i, strings.Repeat("v", 1000)))
	}
	var open []io.ReadCloser
	for range 3 {
		meta, rc, err := s.snaps.Open(idLive)
		if err != nil {
			t.Fatal(err)
		}
		open = append(open, rc)
		if meta.Index != s.Applied().Index {
			t.Errorf("snapshot at %d, applied %d", meta.Index, s.Applied().Index)
		}
	}
	if names := must[[]string](t)(fs.List("data/ckpt")); len(names) != 1 {
		t.Errorf("checkpoints %v, want one", names)
	}
	propose(t, s, "late=1")
	first := must[[]byte](t)(io.ReadAll(open[0]))
	for i, rc := range open[1:] { // and those before may have ended
		if err := open[i].Close(); err != nil {
			t.Error(err)
		}
		if again := must[[]byte](t)(io.ReadAll(rc)); !bytes.Equal(first, again) {
			t.Error("two readers of one checkpoint differ")
		}
	}
	for _, rc := range open {
		if err := errors.Join(rc.Close(), rc.Close()); err != nil { // again and again
			t.Error(err)
		}
	}
	if names := must[[]string](t)(fs.List("data/ckpt")); len(names) != 0 {
		t.Errorf("left behind: %v", names)
	}
	if err := s.fsm.Restore(open[0]); err != nil {
		t.Errorf("restoring our own live state must do nothing: %v", err)
	}
}

// raft counts barriers in its snapshot's position; the state's position must follow, or the next start looks for entries that
// the truncation took.
func TestPersistPassesBarriers(t *testing.T) {
	fs := vfs.NewMem()
	t.Run("run", func(t *testing.T) {
		s, _ := start(t, onFS(fs), with(func(c *Config) { c.TrailingLogs = 1 }))
		propose(t, s, "a=b")
		for range 5 {
			if err := s.raft.Barrier(0).Error(); err != nil {
				t.Fatal(err)
			}
		}
		if err := snapshot(s); err != nil {
			t.Fatal(err)
		}
	})
	s, m := start(t, onFS(fs))
	if m.applies.Load() != 0 {
		t.Error("applied again")
	}
	if v, _ := valueOf(t, s, "a"); v != "b" {
		t.Errorf("a is %q", v)
	}
}

// What is installed is looked at once more when it is in its place: it is the state that was announced, or the old one stays (R6).
func TestAnInstallLooksAtWhatItInstalls(t *testing.T) {
	at, other := Position{Index: 10, Term: 3}, Position{Index: 12, Term: 3}
	fs := vfs.NewMem()
	s := follower(t, fs, 5, 2)
	stage := func(at Position) (id string) {
		archive, _ := donate(t, at, s.ident.Cluster)
		sink := must[raft.SnapshotSink](t)(s.snaps.Create(1, at.Index, at.Term, raft.Configuration{}, 1, nil))
		_, err := io.Copy(sink, bytes.NewReader(archive))
		if err := errors.Join(err, sink.Close()); err != nil {
			t.Fatal(err)
		}
		return sink.ID()
	}
	announced, exchanged := s.layout.path(nameStaging, stage(at)), s.layout.path(nameStaging, stage(other))
	if err := errors.Join(fs.RemoveAll(announced), fs.Rename(exchanged, announced)); err != nil {
		t.Fatal(err)
	}
	_, rc, err := s.snaps.Open(fs.PathBase(announced))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.fsm.Restore(rc); err == nil || !strings.Contains(err.Error(), "the state is at 12 of term 3") {
		t.Errorf("installed: %v", err)
	}
	if s.Applied().Index != 0 {
		t.Errorf("the state is at %v", s.Applied())
	}
	if err := errors.Join(rc.Close(), closeParts(s)); err != nil {
		t.Error(err)
	}
}

// A log that an install emptied reaches as far as the state that took its place: else the node would be refused as an older copy of itself (R14).
func TestReachBehindAnInstall(t *testing.T) {
	at := Position{Index: 10, Term: 3}
	s := follower(t, vfs.NewMem(), 5, 2)
	archive, _ := donate(t, at, s.ident.Cluster)
	if err := receive(s, at, archive); err != nil {
		t.Fatal(err)
	}
	if last, got := must[uint64](t)(s.log.LastIndex()), s.reach(); last != 0 || got != (Reach{Applied: 10, Last: 10}) {
		t.Errorf("the log ends at %d, and the reach is %+v", last, got)
	}
	if err := closeParts(s); err != nil {
		t.Error(err)
	}
}
