package raftstore

import (
	"bytes"
	"fmt"
	"io"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/hashicorp/raft"

	"machineid/internal/testkit/bubble"
)

// filesBelow lists the files in a folder and below that have anything in them.
func filesBelow(tb testing.TB, fs vfs.FS, dir string) (paths []string) {
	tb.Helper()
	for _, name := range must[[]string](tb)(fs.List(dir)) {
		p := fs.PathJoin(dir, name)
		switch info := must[vfs.FileInfo](tb)(fs.Stat(p)); {
		case info.IsDir():
			paths = append(paths, filesBelow(tb, fs, p)...)
		case info.Size() > 0:
			paths = append(paths, p)
		}
	}
	return paths
}

func contentOf(tb testing.TB, fs vfs.FS, p string) []byte {
	tb.Helper()
	f := must[vfs.File](tb)(fs.Open(p))
	raw := must[[]byte](tb)(io.ReadAll(f))
	if err := f.Close(); err != nil {
		tb.Fatal(err)
	}
	return raw
}

func overwrite(tb testing.TB, fs vfs.FS, p string, raw []byte) {
	tb.Helper()
	f := must[vfs.File](tb)(fs.Create(p, vfs.WriteCategoryUnspecified))
	if _, err := f.Write(slices.Clone(raw)); err != nil {
		tb.Fatal(err)
	}
	if err := f.Close(); err != nil {
		tb.Fatal(err)
	}
}

// newestWAL is the log's file that checkWAL looks at, and its number.
func newestWAL(tb testing.TB, fs vfs.FS) (name string, number uint32) {
	tb.Helper()
	for _, p := range filesBelow(tb, fs, "data/log") {
		if n, err := strconv.ParseUint(strings.TrimSuffix(path.Base(p), walSuffix), 10, 32); err == nil && uint32(n) >= number {
			name, number = p, uint32(n)
		}
	}
	return name, number
}

// outcome is what a start makes of a folder: it refuses it or stops over it ("seen"), or it has the log up to index last ("whole"), or less.
func outcome(tb testing.TB, fs vfs.FS, last uint64) string {
	tb.Helper()
	done := make(chan string, 1)
	// A database that a fault left open may read what is damaged again and again, for as long as the process lives: then its next read does not end.
	var over atomic.Bool
	defer over.Store(true)
	n := newNode(onFS(errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if over.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsRead {
			select {}
		}
		return nil
	}))), notBootstrapped())
	go func() {
		said := "seen" // also if a fault ends this goroutine
		defer func() { done <- said }()
		cfg := n.cfg.withDefaults()
		cfg.Fatal = func(error) { runtime.Goexit() }
		s := &Store{cfg: cfg, gone: make(chan struct{}), fault: newFault(cfg.Fatal, cfg.Logger), metrics: newStoreMetrics(nil)}
		s.lead = newLeadership(s)
		defer func() { _ = s.giveBack() }()
		p, err := s.openFolder()
		if err == nil {
			err = checkWAL(s.fs, s.layout.path(nameLog))
		}
		if err == nil {
			err = s.openStorage(p, n.machine)
		}
		for i := s.log0(); err == nil && i <= min(last, s.logEnd()); i++ {
			err = s.log.GetLog(i, new(raft.Log))
		}
		if err != nil {
			return
		}
		if said = "whole"; s.logEnd() < last {
			said = fmt.Sprintf("%d entries are lost", last-s.logEnd())
		}
	}()
	select {
	case said := <-done:
		return said
	case <-time.After(time.Minute):
		tb.Fatal("it hangs")
		return ""
	}
}

func (s *Store) log0() uint64 {
	if s.log == nil {
		return 0
	}
	return s.log.first
}

func (s *Store) logEnd() uint64 {
	if s.log == nil {
		return 0
	}
	return s.log.last
}

// damaged says what becomes of a disk with a byte flipped at each of about n places of a file.
func damaged(tb testing.TB, disk *vfs.MemFS, file string, last uint64, n int) map[string][]int {
	tb.Helper()
	rng := newRand(tb)
	raw := contentOf(tb, disk, file)
	found := map[string][]int{}
	for at := 0; at < len(raw); at += 1 + rng.IntN(max(1, 2*len(raw)/n)) {
		fs := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rng})
		bad := slices.Clone(raw)
		bad[at] ^= 1 << rng.IntN(8)
		overwrite(tb, fs, file, bad)
		said := outcome(tb, fs, last)
		found[said] = append(found[said], at)
	}
	return found
}

func damageOf(tb testing.TB, raw []byte, number uint32) (at, synced int) {
	tb.Helper()
	at, synced, err := walDamage(bytes.NewReader(raw), number)
	if err != nil {
		tb.Fatal(err)
	}
	return at, synced
}

// written is a disk after a loss of power on a node that has written so many entries of so many bytes; the last of them is sealed or not.
func written(tb testing.TB, entries, size int, sealed bool) (disk *vfs.MemFS, last uint64) {
	tb.Helper()
	mem := vfs.NewCrashableMem()
	s, _ := start(tb, onFS(mem))
	for i := range entries {
		propose(tb, s, fmt.Sprintf("k%d=%s", i, strings.Repeat("v", size)))
	}
	if sealed {
		s.log.seal()
	}
	last = s.raft.LastIndex()
	return mem.CrashClone(vfs.CrashCloneCfg{}), last
}

// A byte that flips at rest in the newest file of the log is seen, wherever it is, once the log was sealed: what Pebble takes for a write that a loss
// of power cut is told from one by what stands behind it. Without the seal, the newest entry alone is unprotected.
func TestDamageToTheLogIsSeen(t *testing.T) {
	for _, c := range []struct{ entries, size int }{{30, 50}, {30, 5000}, {3, 100_000}} {
		t.Run(fmt.Sprintf("%d entries of %d", c.entries, c.size), func(t *testing.T) {
			disk, last := written(t, c.entries, c.size, true)
			file, _ := newestWAL(t, disk)
			size := len(contentOf(t, disk, file))
			for said, at := range damaged(t, disk, file, last, count(40, 400)) {
				if said != "seen" && (said != "whole" || at[0] < size-100) {
					t.Errorf("sealed, of %d bytes: %s after a flip at %v", size, said, at)
				}
			}
			if c.size > walBlock {
				return // Pebble looks long for the bit in a large chunk
			}
			disk, last = written(t, c.entries, c.size, false)
			file, _ = newestWAL(t, disk)
			size = len(contentOf(t, disk, file))
			for said, at := range damaged(t, disk, file, last, count(40, 400)) {
				if said != "seen" && at[0] < size-c.size-1000 {
					t.Errorf("not sealed, of %d bytes: %s after a flip at %v", size, said, at)
				}
			}
		})
	}
}

// A node whose log is damaged does not start, and says what to do.
func TestOpenRefusesADamagedLog(t *testing.T) {
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
		n := newNode(onFS(disk), notBootstrapped())
		if _, err := n.open(); err == nil || !strings.Contains(err.Error(), "is damaged at byte") || !strings.Contains(err.Error(), "restore a backup") {
			t.Errorf("it opens, without a revoke that was acknowledged: %v", err)
		}
		// The way out for a node that has nobody else.
		if _, err := Recover("data", &machine{}, restoring(disk, "n1")); err != nil {
			t.Fatal(err)
		}
		again, _ := start(t, onFS(disk), notBootstrapped())
		if _, ok := valueOf(t, again, "before"); !ok {
			t.Error("what stands before the damage is gone")
		}
	})
}

// What a loss of power leaves is never taken for damage: a file that ends anywhere, in nothing, zeros or what was there before.
func TestATornTailIsNoDamage(t *testing.T) {
	rng := newRand(t)
	disk, _ := written(t, 12, 5000, true)
	file, number := newestWAL(t, disk)
	raw := contentOf(t, disk, file)
	if at, by := damageOf(t, raw, number); at != 0 || by != 0 {
		t.Fatalf("as it was written: damaged at %d, by %d", at, by)
	}
	for end := 0; end < len(raw); end += 1 + rng.IntN(60) {
		garbage := make([]byte, 3*walHeader)
		for i := range garbage {
			garbage[i] = byte(rng.Uint32())
		}
		old := slices.Clone(raw[end:]) // a file that is used again has chunks of another number in it
		for name, tail := range map[string][]byte{"nothing": nil, "zeros": make([]byte, 1000), "garbage": garbage, "old chunks": old} {
			cut := slices.Concat(raw[:end], tail)
			n := number
			if name == "old chunks" {
				cut, n = old, number+1
			}
			if at, by := damageOf(t, cut, n); by != 0 {
				t.Fatalf("cut at %d, then %s: damaged at %d, by %d", end, name, at, by)
			}
		}
	}
}

// A write that was not synced may be missing in front of one that was: nothing is promised of it until a later one is synced.
func TestNothingIsPromisedOfWhatWasNotSynced(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		mem := vfs.NewCrashableMem()
		s, _ := start(t, onFS(mem), with(func(c *Config) { c.TrailingLogs = 1 }))
		for range 20 {
			propose(t, s, "a=1")
		}
		name, number := newestWAL(t, mem)
		begin := len(contentOf(t, mem, name))
		if err := snapshot(s); err != nil { // cuts the log's head, without a sync
			t.Fatal(err)
		}
		propose(t, s, "b=1")
		torn := func() []byte {
			raw := contentOf(t, mem, name)
			raw[begin+walHeader] ^= 1
			return raw
		}
		if at, by := damageOf(t, torn(), number); by != 0 {
			t.Errorf("torn at %d, and taken for damage at %d by %d", begin, at, by)
		}
		propose(t, s, "c=1")
		if at, by := damageOf(t, torn(), number); at != begin || by <= begin {
			t.Errorf("damaged at %d, and taken for %d by %d", begin, at, by)
		}
	})
}

// The log is sealed once when it is quiet, and not again before something is written.
func TestTheLogIsSealedWhenItIsQuiet(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		mem := vfs.NewCrashableMem()
		s, _ := start(t, onFS(mem))
		propose(t, s, "a=1")
		size := func() int {
			name, _ := newestWAL(t, mem)
			return len(contentOf(t, mem, name))
		}
		time.Sleep(3*sealAfter + sealAfter/2)
		name, number := newestWAL(t, mem)
		raw := contentOf(t, mem, name)
		i := bytes.LastIndex(raw, []byte("a=1"))
		raw[i] ^= 1
		if at, by := damageOf(t, raw, number); by <= i || at > i {
			t.Errorf("a flip in the newest entry, at %d of %d: damaged at %d, by %d", i, len(raw), at, by)
		}
		quiet := size()
		time.Sleep(time.Minute)
		if now := size(); now != quiet {
			t.Errorf("the log grew from %d to %d bytes while nothing was written", quiet, now)
		}
	})
}

// After a clean stop every byte that flips anywhere is seen or does no harm: the log is in tables then, with checksums.
func TestDamageAfterACleanStop(t *testing.T) {
	mem := vfs.NewCrashableMem()
	s, _ := start(t, onFS(mem))
	for i := range 30 {
		propose(t, s, fmt.Sprintf("k%d=v", i))
	}
	last := s.raft.LastIndex()
	stop(t, s)
	for _, file := range filesBelow(t, mem, "data") {
		for said, at := range damaged(t, mem, file, last, count(6, 60)) {
			if said != "seen" && said != "whole" {
				t.Errorf("%s: %s after a flip at %v", file, said, at)
			}
		}
	}
}
