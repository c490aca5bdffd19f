package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/hashicorp/raft"

	"machineid/internal/testkit/injected"
)

// The crash tests drive the storage as raft does, on a disk that loses what was not synced: at random file operations the disk
// is cloned as a crash might leave it, each clone is opened, and what was acknowledged before must be there.

// chainMachine folds every command into one value, so that a state tells exactly which commands made it.
type chainMachine struct{}

var keyChain = []byte("\x01chain")

func (chainMachine) Restored(pebble.Reader, Position) error { return nil }
func (chainMachine) Committed(Position)                     {}
func (chainMachine) Raised(int)                             {}

func (chainMachine) Apply(w *pebble.Batch, _ Position, cmd []byte) any {
	v, err := getCopy(w, keyChain)
	if err == nil {
		err = w.Set(keyChain, link(v, cmd), nil)
	}
	if err != nil {
		panic(err)
	}
	return nil
}

func link(chain, cmd []byte) []byte {
	h := fnv.New64a()
	_, _ = h.Write(chain)
	_, _ = h.Write(cmd)
	return h.Sum(nil)
}

// truth is what the test knows. Fields change only between operations, except pending, which says what the one under way may
// already have done.
type truth struct {
	entries   map[uint64]*raft.Log // acknowledged
	chain     map[uint64][]byte    // state after each applied index
	last      uint64
	applied   Position
	gone      uint64 // entries up to here may have been truncated
	persisted uint64
	term      uint64
	vote      string
	pending   string // "": nothing
	cutFrom   uint64 // pending: entries from here on may be gone or replaced
	voteNext  string // pending
}

func (m *truth) clone() *truth {
	c := *m
	c.entries, c.chain = maps.Clone(m.entries), maps.Clone(m.chain)
	return &c
}

// image is a disk after a crash, with what was true when it happened.
type image struct {
	fs     *vfs.MemFS
	want   *truth
	what   string
	within bool // an operation, and not between two
}

const crashed = "a crash within an operation"

// crashRun is one life of a storage with crashes planned.
type crashRun struct {
	tb    testing.TB
	rng   *rand.Rand
	disk  *vfs.MemFS
	store *Store

	mu     sync.Mutex
	dice   *rand.Rand // of the crashes: file operations come from many goroutines
	truth  *truth
	next   int // file operations until the next crash; -1: none
	images []image
	pct    int
}

func (r *crashRun) injector() errorfs.Injector {
	return errorfs.InjectorFunc(func(op errorfs.Op) error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.next < 0 || op.Kind.ReadOrWrite() == errorfs.OpIsRead {
			return nil
		}
		if r.next--; r.next >= 0 {
			return nil
		}
		r.next = 1 + r.dice.IntN(40)
		r.snap(fmt.Sprintf("before %v of %s", op.Kind, op.Path))
		return nil
	})
}

// snap takes the disk as a crash at this moment would leave it. r.mu is held.
func (r *crashRun) snap(what string) {
	clone := r.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.pct, RNG: r.dice})
	r.images = append(r.images, image{fs: clone, want: r.truth.clone(), what: fmt.Sprintf("%s, during %q", what, r.truth.pending), within: r.truth.pending != ""})
}

// openParts opens folder and databases as Open does, without raft.
func openParts(cfg Config, m Machine) (*Store, error) {
	cfg = cfg.withDefaults()
	s := &Store{cfg: cfg, fault: newFault(cfg.Fatal, cfg.Logger), metrics: newStoreMetrics(nil)}
	p, err := s.openFolder()
	if err == nil {
		err = s.openStorage(p, m)
	}
	if err != nil {
		return nil, errors.Join(err, s.giveBack())
	}
	return s, nil
}

func closeParts(s *Store) error {
	s.states.swap(nil)
	s.snaps.open.Wait()
	return errors.Join(s.snaps.closeError(), s.release())
}

// during runs one operation: before says what it may do while it runs, after what is true once it returned.
func (r *crashRun) during(name string, before func(*truth), op func() error, after func(*truth)) {
	r.tb.Helper()
	r.mu.Lock()
	r.truth.pending = name
	if before != nil {
		before(r.truth)
	}
	r.mu.Unlock()
	if err := op(); err != nil {
		r.tb.Fatalf("%s: %v", name, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.truth.pending, r.truth.cutFrom, r.truth.voteNext = "", 0, ""
	if after != nil {
		after(r.truth)
	}
}

func (r *crashRun) append(from, n, term uint64) {
	ls := make([]*raft.Log, 0, n)
	for i := from; i < from+n; i++ {
		cmd := fmt.Appendf(nil, "%d.%d.%x", i, term, r.rng.Uint64())
		if r.rng.IntN(8) == 0 {
			cmd = append(cmd, make([]byte, 20_000)...)
		}
		data := appendPacked(appendPackHeader(nil, 1), cmd)
		ls = append(ls, &raft.Log{Index: i, Term: term, Type: raft.LogCommand, Data: data})
	}
	if m := r.truth; from <= m.last && r.rng.IntN(2) == 0 { // as raft does; the other half as one overwriting append
		r.during("cut", func(m *truth) { m.cutFrom = from }, func() error { return r.store.log.DeleteRange(from, m.last) },
			func(m *truth) {
				for i := from; i <= m.last; i++ {
					delete(m.entries, i)
				}
				m.last = from - 1
			})
	}
	r.during("append", func(m *truth) {
		if from <= m.last {
			m.cutFrom = from
		}
	}, func() error { return r.store.log.StoreLogs(ls) }, func(m *truth) {
		for i := from; i <= m.last; i++ {
			delete(m.entries, i)
		}
		for _, l := range ls {
			m.entries[l.Index] = l
		}
		m.last = from + n - 1
	})
}

func (r *crashRun) apply(n uint64) {
	m := r.truth
	var ls []*raft.Log
	chain := m.chain[m.applied.Index]
	at := m.applied
	r.mu.Lock()
	for i := at.Index + 1; i <= min(m.last, m.applied.Index+n); i++ {
		l := m.entries[i]
		if l.Type == raft.LogCommand {
			ls = append(ls, l)
			if _, err := unpack(l.Data, func(cmd []byte) { chain = link(chain, cmd) }); err != nil {
				r.tb.Fatal(err)
			}
		}
		at = Position{Index: i, Term: l.Term}
		m.chain[i] = chain // known in advance: a crash may leave any prefix
	}
	r.mu.Unlock()
	if len(ls) == 0 {
		return
	}
	r.during("apply", nil, func() error { r.store.fsm.ApplyBatch(ls); return nil }, func(m *truth) { m.applied = at })
}

// persist is raft's snapshot: Persist, then truncation but for a few entries.
func (r *crashRun) persist(keep uint64) {
	at := r.truth.applied
	if at.Index == 0 {
		return
	}
	sink, err := r.store.snaps.Create(1, at.Index, at.Term, raft.Configuration{}, 1, nil)
	if err != nil {
		r.tb.Fatal(err)
	}
	r.during("persist", nil, func() error { return errors.Join(liveSnapshot{r.store.fsm}.Persist(sink), sink.Close()) },
		func(m *truth) { m.persisted = at.Index })
	hi := min(at.Index, r.truth.last-min(keep, r.truth.last))
	if hi == 0 {
		return
	}
	first, _ := r.store.log.FirstIndex()
	r.during("truncate", func(m *truth) { m.gone = max(m.gone, hi) },
		func() error { return r.store.log.DeleteRange(first, hi) }, nil)
}

func (r *crashRun) vote() {
	m := r.truth
	term, candidate := m.term+1+r.rng.Uint64N(3), fmt.Sprintf("c%d", r.rng.IntN(3))
	r.during("vote", func(m *truth) { m.voteNext = fmt.Sprintf("%d %s", term, candidate) }, func() error {
		l := r.store.log
		return errors.Join(
			l.SetUint64([]byte(keyCurrentTerm), term),
			l.SetUint64([]byte("LastVoteTerm"), term),
			l.Set([]byte("LastVoteCand"), []byte(candidate)),
		)
	}, func(m *truth) { m.term, m.vote = term, fmt.Sprintf("%d %s", term, candidate) })
}

// install receives the state of another node that is ahead, and installs it.
func (r *crashRun) install() {
	m := r.truth
	k := max(m.applied.Index, 1) + 1 + r.rng.Uint64N(12)
	at := Position{Index: k, Term: m.term}
	archive, chain := donate(r.tb, at, r.store.ident.Cluster)
	r.during("install", func(m *truth) {
		m.chain[k] = chain
		m.gone = max(m.gone, k)
	}, func() error { return receive(r.store, at, archive) }, func(m *truth) {
		m.applied, m.persisted = at, k
		m.last = max(m.last, k)
		m.entries[k] = &raft.Log{Index: k, Term: at.Term, Type: raft.LogNoop}
	})
	// raft would now cut the rest as a conflict; the test does so, to go on with a log that could be committed.
	if r.truth.last > k {
		r.append(k+1, 1, at.Term)
	}
}

// donate makes an archive of a state at a position, with a chain of its own.
func donate(tb testing.TB, at Position, cluster string) (archive, chain []byte) {
	tb.Helper()
	n := newNode(named("donor"), notBootstrapped())
	s := must[*Store](tb)(openParts(n.cfg, chainMachine{}))
	cmd := fmt.Appendf(nil, "donated at %d.%d", at.Index, at.Term)
	chain = link(nil, cmd)
	conf := raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: "donor", Address: "a"}}})
	if err := s.states.current.db.Set(keyCluster, []byte(cluster), pebble.NoSync); err != nil {
		tb.Fatal(err)
	}
	s.fsm.ApplyBatch([]*raft.Log{
		{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: conf},
		{Index: at.Index, Term: at.Term, Type: raft.LogCommand, Data: appendPacked(appendPackHeader(nil, 1), cmd)},
	})
	meta, rc, err := s.snaps.Open(idLive)
	if err != nil {
		tb.Fatal(err)
	}
	archive = must[[]byte](tb)(io.ReadAll(rc))
	if int64(len(archive)) != meta.Size || meta.Index != at.Index || meta.Term != at.Term {
		tb.Fatalf("archive of %d bytes for %+v", len(archive), meta)
	}
	if err := errors.Join(rc.Close(), closeParts(s)); err != nil {
		tb.Fatal(err)
	}
	return archive, chain
}

// receive does what raft does with a snapshot from the leader.
func receive(s *Store, at Position, archive []byte) error {
	conf := raft.Configuration{Servers: []raft.Server{{ID: "donor", Address: "a"}}}
	sink, err := s.snaps.Create(1, at.Index, at.Term, conf, 1, nil)
	if err != nil {
		return err
	}
	if _, err := io.Copy(sink, bytes.NewReader(bytes.Clone(archive))); err != nil { // MemFS may change what it is given
		return errors.Join(err, sink.Cancel())
	}
	if err := sink.Close(); err != nil {
		return err
	}
	_, rc, err := s.snaps.Open(sink.ID())
	if err != nil {
		return err
	}
	return errors.Join(s.fsm.Restore(rc), rc.Close())
}

// life runs a storage through random operations and returns the images of its crashes.
func life(tb testing.TB, seed uint64, pct int, k knobs, installs bool) []image {
	tb.Helper()
	disk := vfs.NewCrashableMem()
	r := &crashRun{
		tb: tb, rng: rand.New(rand.NewPCG(seed, 2)), dice: rand.New(rand.NewPCG(seed, 3)), disk: disk, pct: pct, next: -1,
		truth: &truth{entries: map[uint64]*raft.Log{}, chain: map[uint64][]byte{0: nil}, cutFrom: 0},
	}
	n := newNode(onFS(errorfs.Wrap(disk, r.injector())), withKnobs(k))
	r.store = must[*Store](tb)(openParts(n.cfg, chainMachine{}))
	r.truth.term, r.truth.last = 1, 1
	r.truth.entries[1] = &raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration}
	var boot raft.Log
	if err := r.store.log.GetLog(1, &boot); err != nil {
		tb.Fatal(err)
	}
	r.truth.entries[1] = &boot
	r.mu.Lock()
	r.next = r.dice.IntN(40)
	r.mu.Unlock()
	for range 25 {
		m := r.truth
		switch p := r.rng.IntN(100); {
		case p < 40:
			r.append(m.last+1, 1+r.rng.Uint64N(6), m.term)
		case p < 50 && m.last > m.applied.Index: // a conflict: the tail is replaced by a newer term's
			from := m.applied.Index + 1 + r.rng.Uint64N(m.last-m.applied.Index)
			r.append(from, 1, m.term)
		case p < 75:
			r.apply(1 + r.rng.Uint64N(20))
		case p < 85:
			r.persist(r.rng.Uint64N(4))
		case p < 95 || !installs:
			r.vote()
		default:
			r.install()
		}
	}
	r.mu.Lock()
	r.snap("at the end")
	r.next = -1
	images := r.images
	r.mu.Unlock()
	if err := closeParts(r.store); err != nil {
		tb.Fatal(err)
	}
	return images
}

var percentages = []int{0, 25, 50, 75, 100}

// crashes runs lives until n images were verified, or one is wrong.
func crashes(tb testing.TB, n int, k knobs, installs bool) (verified int, wrong error) {
	tb.Helper()
	rng := newRand(tb)
	faults := injected.Needed(tb, crashed)
	for verified < n {
		pct := percentages[verified%len(percentages)]
		for _, im := range life(tb, rng.Uint64(), pct, k, installs) {
			if verified++; verified > n {
				return n, nil
			}
			if im.within {
				faults.Did(crashed)
			}
			if err := im.verify(k); err != nil {
				return verified, fmt.Errorf("crash %s with %d%% of the unsynced data: %w", im.what, pct, err)
			}
		}
	}
	return verified, nil
}

// What was acknowledged survives a crash at any file operation, votes never go back, and the state never passes the log
// (R1 to R4, R6, R7).
func TestCrash(t *testing.T) {
	n, err := crashes(t, count(300, 10_000), knobs{}, true)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d crashes verified", n)
}

// The check above is worth something only if it catches each of these.
func TestCrashCatchesMutants(t *testing.T) {
	for name, c := range map[string]struct {
		knobs knobs
		want  string
	}{
		"votes are not synced":                             {knobs{unsyncedStable: true}, "R4"},
		"the log is truncated before the state is durable": {knobs{truncateUnsynced: true}, "truncated"},
	} {
		t.Run(name, func(t *testing.T) {
			n, err := crashes(t, 2000, c.knobs, false)
			if err == nil {
				t.Fatalf("not caught in %d crashes", n)
			}
			if !strings.Contains(err.Error(), c.want) && !strings.Contains(err.Error(), "R2") {
				t.Errorf("caught for another reason than %s: %v", c.want, err)
			}
			t.Logf("caught after %d crashes: %v", n, err)
		})
	}
}
