package raftstore

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// A node resumes from its own applied index, whether or not raft ever took a snapshot and truncated the log (R3), also with far
// more entries than fit raft's internal queues (which is where RestoreCommittedLogs hangs).
func TestRestart(t *testing.T) {
	for _, snapshots := range []bool{false, true} {
		t.Run(fmt.Sprintf("snapshots=%v", snapshots), func(t *testing.T) {
			fs := vfs.NewMem()
			trailing := with(func(c *Config) { c.TrailingLogs = 10 })
			const entries = 10_500
			var at Position
			t.Run("fill", func(t *testing.T) {
				s, _ := start(t, onFS(fs), trailing)
				// Entries of one command each, past the packer, so that there really are so many.
				var last raft.ApplyFuture
				for i := range entries {
					data := appendPacked(appendPackHeader(nil, 1), fmt.Appendf(nil, "k%d=v", i))
					last = s.raft.Apply(data, 0)
				}
				if err := last.Error(); err != nil {
					t.Fatal(err)
				}
				if snapshots {
					if err := snapshot(s); err != nil {
						t.Fatal(err)
					}
					if first, _ := s.log.FirstIndex(); first < entries-10 {
						t.Errorf("after a snapshot the log begins at %d", first)
					}
				}
				at = s.Applied()
			})
			for run := range 2 {
				t.Run(fmt.Sprintf("run %d", run), func(t *testing.T) {
					s, m := start(t, onFS(fs), trailing)
					if m.restored[0].Index < at.Index {
						t.Errorf("restored at %v, was at %v", m.restored[0], at)
					}
					if n := m.applies.Load(); n != 0 {
						t.Errorf("%d commands were applied again", n)
					}
					if res := propose(t, s, "!"); res.Index <= at.Index {
						t.Errorf("position %v after %v", res.Position, at)
					}
					if conf := s.raft.GetConfiguration().Configuration(); len(conf.Servers) != 1 {
						t.Errorf("configuration %v", conf)
					}
				})
			}
		})
	}
}

// The log is bounded by bytes, not only by entries.
func TestTrim(t *testing.T) {
	const limit = 4 << 20
	fs := vfs.NewMem()
	bounded := with(func(c *Config) { c.MaxLogBytes = limit })
	t.Run("grow", func(t *testing.T) {
		s, _ := start(t, onFS(fs), bounded)
		value := strings.Repeat("v", 100_000)
		for i := range 200 {
			propose(t, s, fmt.Sprintf("k%d=%s", i, value))
		}
		eventually(t, "the log is small", func() bool { n, _ := s.log.size(); return n <= limit })
		if first, _ := s.log.FirstIndex(); first < 100 {
			t.Errorf("20 MB were appended and the log begins at %d", first)
		}
		eventually(t, "the usual number of entries stays again", func() bool {
			return s.raft.ReloadableConfig().TrailingLogs == s.cfg.TrailingLogs
		})
	})
	s, m := start(t, onFS(fs), bounded)
	if bytes, entries := s.log.size(); bytes < 100_000 || bytes > 2*limit || m.applies.Load() != 0 {
		t.Errorf("after a restart the log has %d bytes in %d entries, %d applied again", bytes, entries, m.applies.Load())
	}
}

// A crash that loses the unsynced state replays exactly what is missing, once.
func TestRestartReplaysTheTail(t *testing.T) {
	disk := vfs.NewCrashableMem()
	s, _ := start(t, onFS(disk))
	const n = 200
	for i := range n {
		propose(t, s, fmt.Sprintf("k%d=v", i))
	}
	after, m := start(t, onFS(disk.CrashClone(vfs.CrashCloneCfg{})))
	if got := countOf(t, after); got != n {
		t.Errorf("%d commands took effect, want %d", got, n)
	}
	if m.restored[0].Index != 0 || m.applies.Load() != n {
		t.Errorf("restored at %v and applied %d: nothing of the state was synced", m.restored[0], m.applies.Load())
	}
}

func countOf(tb testing.TB, s *Store) uint64 {
	tb.Helper()
	v := must[*View](tb)(s.View())
	n := must[uint64](tb)(readCount(v.Reader()))
	if err := v.Close(); err != nil {
		tb.Error(err)
	}
	return n
}

// An acknowledged command survives a crash of the whole node at any moment, through raft and the packer.
func TestCrashWholeNode(t *testing.T) {
	rng := newRand(t)
	lives := count(5, 50)
	crashed := 0
	for life := range lives {
		disk := vfs.NewCrashableMem()
		s, _ := start(t, onFS(disk))
		var mu sync.Mutex
		acked := map[string]bool{}
		type shot struct {
			fs    *vfs.MemFS
			acked []string
		}
		var shots []shot
		var callers sync.WaitGroup
		for c := range 8 {
			callers.Go(func() {
				for i := range 20 {
					cmd := fmt.Sprintf("%d.%d.%d", life, c, i)
					if _, err := s.Propose(t.Context(), []byte(cmd+"=v")); err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					acked[cmd] = true
					if rng.IntN(40) == 0 {
						keys := make([]string, 0, len(acked))
						for k := range acked {
							keys = append(keys, k)
						}
						shots = append(shots, shot{disk.CrashClone(vfs.CrashCloneCfg{
							UnsyncedDataPercent: percentages[rng.IntN(len(percentages))], RNG: rng,
						}), keys})
					}
					mu.Unlock()
				}
			})
		}
		callers.Wait()
		stop(t, s)
		for _, shot := range shots {
			crashed++
			after, _ := start(t, onFS(shot.fs))
			for _, key := range shot.acked {
				if _, ok := valueOf(t, after, key); !ok {
					t.Errorf("%s was acknowledged and is lost", key)
				}
			}
			stop(t, after)
		}
	}
	t.Logf("%d crashes verified", crashed)
	if crashed == 0 {
		t.Error("there was no crash")
	}
}

// Folders that are not what they were, are refused rather than guessed at (R8).
func TestOpenRefuses(t *testing.T) {
	used := func(t *testing.T) *vfs.MemFS {
		t.Helper()
		fs := vfs.NewMem()
		s, _ := start(t, onFS(fs))
		propose(t, s, "a=b")
		stop(t, s)
		return fs
	}
	for name, c := range map[string]struct {
		spoil   func(fs vfs.FS) error
		options []option
		want    string
	}{
		"another node":  {nil, []option{named("n2")}, "belongs to node"},
		"log lost":      {func(fs vfs.FS) error { return fs.RemoveAll("data/log") }, nil, "no log"},
		"state lost":    {func(fs vfs.FS) error { return errors.Join(fs.RemoveAll("data/state-1"), fs.Remove("data/STATE")) }, nil, "no STATE"},
		"identity lost": {func(fs vfs.FS) error { return fs.Remove("data/IDENT") }, nil, "no IDENT"},
		"the log of another store": {inside(func(s *Store) error {
			other := s.ident
			other.Store = randomID()
			return s.logDB.Set([]byte(keyLogIdent), must[[]byte](t)(json.Marshal(other)), pebble.Sync)
		}), nil, "the log is of store"},
		"a log that is nobody's": {inside(func(s *Store) error { return s.logDB.Delete([]byte(keyLogIdent), pebble.Sync) }), nil, "does not say whose"},
		"the state of another cluster": {inside(func(s *Store) error {
			return s.states.current.db.Set(keyCluster, []byte("another"), pebble.Sync)
		}), nil, "the state is of cluster"},
		"an older STATE": {inside(func(s *Store) error {
			return s.logDB.Set([]byte(keyInstalled), binary.BigEndian.AppendUint64(nil, 2), pebble.Sync)
		}), nil, "STATE was replaced"},
		"no listener":   {nil, []option{with(func(c *Config) { c.Transport = nil })}, "exactly one of"},
		"never patient": {nil, []option{with(func(c *Config) { c.HeartbeatTimeout = 1 })}, "the least is"},
	} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			t.Run("try", func(t *testing.T) {
				fs := used(t)
				if c.spoil != nil {
					if err := c.spoil(fs); err != nil {
						t.Fatal(err)
					}
				}
				s, err := newNode(append(c.options, onFS(fs))...).open()
				if err == nil {
					stop(t, s)
				}
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("opened with error %v, want %q", err, c.want)
				}
			})
		})
	}
	t.Run("in use", func(t *testing.T) {
		fs := vfs.NewMem()
		s, _ := start(t, onFS(fs))
		if _, err := newNode(onFS(fs)).open(); err == nil || !strings.Contains(err.Error(), "another process") {
			t.Errorf("second open: %v", err)
		}
		propose(t, s, "a=b")
	})
	t.Run("corrupt log", func(t *testing.T) {
		disk := vfs.NewCrashableMem() // a node that was closed has nothing in its WAL
		s, _ := start(t, onFS(disk))
		for range 50 { // of some, only the state will know
			propose(t, s, "a=b")
		}
		if err := s.fsm.persist(s.Applied()); err != nil {
			t.Fatal(err)
		}
		fs := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: newRand(t)})
		if err := truncateLargest(fs, "data/log"); err != nil {
			t.Fatal(err)
		}
		if s, err := newNode(onFS(fs)).open(); err == nil {
			stop(t, s)
			t.Error("a log whose file lost its end was accepted")
		}
	})
}

// inside changes a folder from within.
func inside(change func(s *Store) error) func(vfs.FS) error {
	return func(fs vfs.FS) error {
		s, err := openParts(newNode(onFS(fs)).cfg, &machine{})
		if err != nil {
			return err
		}
		return errors.Join(change(s), closeParts(s))
	}
}

// truncateLargest cuts the largest file of a folder in half.
func truncateLargest(fs *vfs.MemFS, dir string) error {
	names, err := fs.List(dir)
	if err != nil {
		return err
	}
	var largest string
	var size int64
	for _, name := range names {
		if info, err := fs.Stat(fs.PathJoin(dir, name)); err == nil && info.Size() >= size && strings.HasSuffix(name, ".log") {
			largest, size = fs.PathJoin(dir, name), info.Size()
		}
	}
	f, err := fs.Open(largest)
	if err != nil {
		return err
	}
	data := make([]byte, size)
	if _, err := f.Read(data); err != nil {
		return err
	}
	data = bytes.TrimRight(data, "\x00") // allocated, not written
	data = data[:len(data)/2]
	out, err := fs.Create(largest, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = out.Write(data)
	return errors.Join(err, f.Close(), out.Close())
}

// A node that is not bootstrapped has no state and waits to be told; bootstrapping a node that has state does nothing.
func TestBootstrap(t *testing.T) {
	fs := vfs.NewMem()
	t.Run("not asked for", func(t *testing.T) {
		s := must[*Store](t)(newNode(onFS(fs), notBootstrapped()).open())
		defer stop(t, s)
		if err := s.Health(); err == nil || !strings.Contains(err.Error(), "no leader") {
			t.Errorf("health: %v", err)
		}
		if _, err := s.Propose(t.Context(), []byte("a=b")); !errors.Is(err, ErrNotLeader) {
			t.Errorf("propose: %v", err)
		}
		if _, err := s.Confirm(t.Context()); !errors.Is(err, ErrNotLeader) {
			t.Errorf("confirm: %v", err)
		}
	})
	var cluster string
	t.Run("asked for", func(t *testing.T) {
		s, _ := start(t, onFS(fs))
		propose(t, s, "a=b")
		cluster = s.ident.Cluster
	})
	t.Run("again", func(t *testing.T) {
		s, _ := start(t, onFS(fs), notBootstrapped())
		if v, _ := valueOf(t, s, "a"); v != "b" || s.ident.Cluster != cluster || cluster == "" {
			t.Errorf("a is %q in cluster %q, was %q", v, s.ident.Cluster, cluster)
		}
	})
}

// A node that has a term has voted, and begins no cluster: its votes are another's (R4).
func TestWhoHasVotedBeginsNoCluster(t *testing.T) {
	fs := vfs.NewMem()
	s := must[*Store](t)(openParts(newNode(onFS(fs), notBootstrapped()).cfg, &machine{}))
	if err := errors.Join(s.log.SetUint64([]byte(keyCurrentTerm), 5), closeParts(s)); err != nil {
		t.Fatal(err)
	}
	s = must[*Store](t)(openParts(newNode(onFS(fs)).cfg, &machine{}))
	if last := must[uint64](t)(s.log.LastIndex()); last != 0 {
		t.Errorf("it began a cluster: its log ends at %d", last)
	}
	if term := must[uint64](t)(s.log.GetUint64([]byte(keyCurrentTerm))); term != 5 {
		t.Errorf("its term is %d", term)
	}
	if err := closeParts(s); err != nil {
		t.Error(err)
	}
}

// A view keeps showing one state while the store moves on and closes only after it.
func TestView(t *testing.T) {
	s, _ := start(t)
	first := propose(t, s, "a=1")
	v := must[*View](t)(s.Read(t.Context()))
	if v.Position() != first.Position {
		t.Errorf("position %v, want %v", v.Position(), first.Position)
	}
	propose(t, s, "a=2")
	propose(t, s, "b=1")
	if got, ok, err := v.Get([]byte("\x02a")); string(got) != "1" || !ok || err != nil {
		t.Errorf("a is %q, %v, %v", got, ok, err)
	}
	if _, ok, err := v.Get([]byte("\x02b")); ok || err != nil {
		t.Errorf("b is there: %v, %v", ok, err)
	}
	var keys []string
	if err := v.Scan(nil, nil, func(k, _ []byte) (bool, error) { keys = append(keys, string(k)); return true, nil }); err != nil {
		t.Fatal(err)
	}
	if fmt.Sprintf("%q", keys) != `["\x01count" "\x02a"]` {
		t.Errorf("keys %q: raftstore's own must not show", keys)
	}
	it := must[*pebble.Iterator](t)(v.NewIter(nil))
	if !it.First() || string(it.Key()) != "\x01count" {
		t.Errorf("first key %q", it.Key())
	}
	if err := errors.Join(it.Close(), v.Close(), v.Close()); err != nil {
		t.Error(err)
	}
}
