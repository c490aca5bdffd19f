package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"
)

// logs returns entries first..last of one term.
func logs(first, last, term uint64) []*raft.Log {
	var ls []*raft.Log
	for i := first; i <= last; i++ {
		ls = append(ls, &raft.Log{
			Index: i, Term: term, Type: raft.LogCommand, Data: fmt.Appendf(nil, "%d.%d", i, term),
			Extensions: []byte("x"), AppendedAt: time.Unix(int64(i), 0),
		})
	}
	return ls
}

// contents returns the terms of first..last as the store shows them: "1x3" is entry 1 of term 3.
func contents(tb testing.TB, s *logStore) string {
	tb.Helper()
	first := must[uint64](tb)(s.FirstIndex())
	last := must[uint64](tb)(s.LastIndex())
	var b strings.Builder
	for i := first; i <= last && last > 0; i++ {
		var l raft.Log
		if err := s.GetLog(i, &l); err != nil {
			tb.Fatalf("entry %d of %d-%d: %v", i, first, last, err)
		}
		if diff := cmp.Diff(logs(i, i, l.Term)[0], &l); diff != "" {
			tb.Fatalf("entry %d: %s", i, diff)
		}
		fmt.Fprintf(&b, " %dx%d", i, l.Term)
	}
	for _, i := range []uint64{0, first - 1, last + 1} {
		var l raft.Log
		if i >= first && i <= last && last > 0 || i == s.boundary.Index && i > 0 {
			continue
		}
		// raft compares with ==, so a wrapped error is a bug.
		if err := s.GetLog(i, &l); err != raft.ErrLogNotFound { //nolint:errorlint // see above
			tb.Errorf("entry %d outside %d-%d: %v", i, first, last, err)
		}
	}
	return strings.TrimSpace(b.String())
}

type logStep struct {
	do   func(s *logStore) error
	want string // contents afterwards
	fail string // part of the error wanted
}

func store(first, last, term uint64) func(*logStore) error {
	return func(s *logStore) error { return s.StoreLogs(logs(first, last, term)) }
}

func del(lo, hi uint64) func(*logStore) error {
	return func(s *logStore) error { return s.DeleteRange(lo, hi) }
}

func install(generation uint64, at Position) func(*logStore) error {
	return func(s *logStore) error { return s.reconcile(generation, at) }
}

// The log behaves the same whether it was just written or read back from disk, with its cache and without.
func TestLogStore(t *testing.T) {
	for name, steps := range map[string][]logStep{
		"empty": {{del(0, 100), "", ""}, {del(5, 1), "", ""}},
		"append": {
			{store(1, 2, 1), "1x1 2x1", ""},
			{store(3, 3, 2), "1x1 2x1 3x2", ""},
		},
		"starts anywhere":         {{store(100, 101, 3), "100x3 101x3", ""}},
		"no index 0":              {{store(0, 1, 1), "", "index 0"}},
		"no gap":                  {{store(1, 1, 1), "1x1", ""}, {store(3, 3, 1), "1x1", "ends at 1"}},
		"no gap within":           {{func(s *logStore) error { return s.StoreLogs(append(logs(1, 1, 1), logs(3, 3, 1)...)) }, "", "follows 1"}},
		"overwrite the tail":      {{store(1, 5, 1), "1x1 2x1 3x1 4x1 5x1", ""}, {store(3, 3, 2), "1x1 2x1 3x2", ""}},
		"overwrite and go on":     {{store(1, 3, 1), "1x1 2x1 3x1", ""}, {store(3, 4, 2), "1x1 2x1 3x2 4x2", ""}},
		"nothing to append":       {{func(s *logStore) error { return s.StoreLogs(nil) }, "", ""}},
		"one":                     {{func(s *logStore) error { return s.StoreLog(logs(1, 1, 1)[0]) }, "1x1", ""}},
		"delete the head":         {{store(1, 4, 1), "1x1 2x1 3x1 4x1", ""}, {del(1, 2), "3x1 4x1", ""}, {store(5, 5, 1), "3x1 4x1 5x1", ""}},
		"delete from before":      {{store(5, 7, 1), "5x1 6x1 7x1", ""}, {del(0, 5), "6x1 7x1", ""}},
		"delete the tail":         {{store(1, 4, 1), "1x1 2x1 3x1 4x1", ""}, {del(3, 4), "1x1 2x1", ""}, {store(3, 3, 2), "1x1 2x1 3x2", ""}},
		"delete to beyond":        {{store(1, 4, 1), "1x1 2x1 3x1 4x1", ""}, {del(3, ^uint64(0)), "1x1 2x1", ""}},
		"delete all":              {{store(1, 4, 1), "1x1 2x1 3x1 4x1", ""}, {del(1, 4), "", ""}, {store(9, 9, 2), "", "emptied of 1-4"}, {store(5, 5, 2), "5x2", ""}},
		"go on after that":        {{store(1, 4, 1), "1x1 2x1 3x1 4x1", ""}, {del(1, 4), "", ""}, {store(5, 5, 2), "5x2", ""}, {store(6, 6, 2), "5x2 6x2", ""}},
		"conflict in all":         {{store(3, 4, 1), "3x1 4x1", ""}, {del(3, 4), "", ""}, {store(3, 3, 2), "3x2", ""}},
		"conflict after install":  {{install(2, Position{4, 2}), "", ""}, {store(5, 6, 2), "5x2 6x2", ""}, {del(5, 6), "", ""}, {store(5, 5, 3), "5x3", ""}, {del(5, 5), "", ""}, {store(6, 6, 3), "6x3", ""}},
		"delete what is not":      {{store(5, 7, 1), "5x1 6x1 7x1", ""}, {del(1, 4), "5x1 6x1 7x1", ""}, {del(8, 9), "5x1 6x1 7x1", ""}},
		"never the middle":        {{store(1, 4, 1), "1x1 2x1 3x1 4x1", ""}, {del(2, 3), "1x1 2x1 3x1 4x1", "inside"}},
		"install on an empty log": {{install(2, Position{10, 3}), "", ""}, {store(11, 11, 4), "11x4", ""}},
		"install on a lagging log": {
			{store(1, 4, 1), "1x1 2x1 3x1 4x1", ""},
			{install(2, Position{10, 3}), "", ""},
			{store(12, 12, 4), "", "begins after 10"},
			{store(10, 10, 4), "", "already covers"},
			{store(11, 11, 4), "11x4", ""},
		},
		"install on an equal log":     {{store(1, 4, 1), "1x1 2x1 3x1 4x1", ""}, {install(2, Position{4, 1}), "", ""}, {store(5, 5, 1), "5x1", ""}},
		"install on a divergent log":  {{store(1, 6, 1), "1x1 2x1 3x1 4x1 5x1 6x1", ""}, {install(2, Position{4, 2}), "5x1 6x1", ""}, {store(5, 5, 2), "5x2", ""}},
		"install twice is once":       {{store(1, 6, 1), "1x1 2x1 3x1 4x1 5x1 6x1", ""}, {install(2, Position{4, 2}), "5x1 6x1", ""}, {install(2, Position{6, 2}), "5x1 6x1", ""}},
		"install at 1 is refused":     {{install(2, Position{1, 1}), "", "past 1"}},
		"boundary goes with the head": {{install(2, Position{4, 2}), "", ""}, {store(5, 8, 2), "5x2 6x2 7x2 8x2", ""}, {del(5, 6), "7x2 8x2", ""}},
	} {
		for _, reopen := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/reopened=%v", name, reopen), func(t *testing.T) {
				fs := vfs.NewMem()
				for i, step := range steps {
					t.Run(strconv.Itoa(i), func(t *testing.T) {
						s := openTestLog(t, fs, "log", knobs{})
						err := step.do(s)
						if step.fail == "" && err != nil || step.fail != "" && (err == nil || !strings.Contains(err.Error(), step.fail)) {
							t.Fatalf("error %v, want %q", err, step.fail)
						}
						if reopen {
							s = must[*logStore](t)(openLogStore(s.db, s.fault, 0, s.metrics, knobs{}))
						}
						if got := contents(t, s); got != step.want {
							t.Errorf("log is %q, want %q", got, step.want)
						}
					})
				}
			})
		}
	}
}

// The boundary answers for the installed position and is no entry (R7).
func TestLogBoundary(t *testing.T) {
	s := openTestLog(t, vfs.NewMem(), "log", knobs{})
	if err := s.reconcile(2, Position{Index: 10, Term: 3}); err != nil {
		t.Fatal(err)
	}
	var l raft.Log
	if err := s.GetLog(10, &l); err != nil || l.Term != 3 || l.Type != raft.LogNoop {
		t.Errorf("at the boundary: %+v, %v", l, err)
	}
	if err := s.StoreLogs(logs(11, 14, 3)); err != nil {
		t.Fatal(err)
	}
	if first := must[uint64](t)(s.FirstIndex()); first != 11 {
		t.Errorf("first is %d", first)
	}
	for _, s := range []*logStore{s, must[*logStore](t)(openLogStore(s.db, s.fault, 0, s.metrics, knobs{}))} { // and as a restart has it
		if err := s.GetLog(10, &l); err != nil || l.Term != 3 {
			t.Errorf("at the boundary, behind the first append: %+v, %v", l, err)
		}
	}
	if err := s.DeleteRange(11, 12); err != nil {
		t.Fatal(err)
	}
	if err := s.GetLog(10, &l); !errors.Is(err, raft.ErrLogNotFound) {
		t.Errorf("the boundary outlived the head: %v", err)
	}
}

// An entry that was read is the caller's: Pebble uses its memory again.
func TestWhatWasReadStays(t *testing.T) {
	n := newNode()
	db := must[*pebble.DB](t)(pebble.Open("log", &pebble.Options{FS: vfs.NewMem(), MemTableSize: 256 << 10, Logger: pebbleLogger{logger: n.cfg.withDefaults().Logger}}))
	s := must[*logStore](t)(openLogStore(db, newFault(n.cfg.Fatal, nil), 0, newStoreMetrics(nil), knobs{})) // without a ring: all is read from Pebble
	fill := func(index uint64, c byte) {
		t.Helper()
		err := s.StoreLog(&raft.Log{Index: index, Term: 1, Type: raft.LogCommand, Data: bytes.Repeat([]byte{c}, 50_000)})
		if err != nil {
			t.Fatal(err)
		}
	}
	fill(1, 'a')
	var l raft.Log
	if err := s.GetLog(1, &l); err != nil {
		t.Fatal(err)
	}
	for i := range uint64(20) {
		fill(2+i, 'b')
		if err := db.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if len(bytes.Trim(l.Data, "a")) > 0 {
		t.Error("it is another entry's by now")
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

// The log is not truncated beyond what the state has on disk, whoever asks (R2).
func TestLogKeepsWhatTheStateNeeds(t *testing.T) {
	s := openTestLog(t, vfs.NewMem(), "log", knobs{})
	s.durable = func() uint64 { return 3 }
	if err := s.StoreLogs(logs(1, 9, 1)); err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteRange(1, 4); err == nil {
		t.Error("entry 4 was deleted though the state is durable only up to 3")
	}
	if err := s.DeleteRange(1, 3); err != nil {
		t.Error(err)
	}
}

func TestStableStore(t *testing.T) {
	s := openTestLog(t, vfs.NewMem(), "log", knobs{})
	if v, err := s.Get([]byte("none")); v != nil || err != nil {
		t.Errorf("a missing value: %q, %v", v, err)
	}
	if v, err := s.GetUint64([]byte("none")); v != 0 || err != nil {
		t.Errorf("a missing number: %d, %v", v, err)
	}
	if err := errors.Join(s.Set([]byte("k"), []byte("v")), s.SetUint64([]byte("n"), 1<<40), s.SetUint64([]byte("n"), 7)); err != nil {
		t.Fatal(err)
	}
	if v, err := s.Get([]byte("k")); string(v) != "v" || err != nil {
		t.Errorf("value: %q, %v", v, err)
	}
	if v, err := s.GetUint64([]byte("n")); v != 7 || err != nil {
		t.Errorf("number: %d, %v", v, err)
	}
	if _, err := s.GetUint64([]byte("k")); err == nil {
		t.Error("a value of one byte passed for a number")
	}
	if got := contents(t, s); got != "" {
		t.Errorf("stable values show up as entries: %s", got)
	}
}

// Readers run beside the one writer and see whole entries within the bounds they were told.
func TestLogConcurrentReaders(t *testing.T) {
	s := openTestLog(t, vfs.NewMem(), "log", knobs{})
	s.ring.limit = 20 * 200 // most reads miss
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
				first, _ := s.FirstIndex()
				last, _ := s.LastIndex()
				for i := first; i <= last && last > 0; i += 3 {
					var l raft.Log
					switch err := s.GetLog(i, &l); {
					case errors.Is(err, raft.ErrLogNotFound): // truncated since
					case err != nil:
						t.Error(err)
						return
					case l.Index != i || string(l.Data) != fmt.Sprintf("%d.%d", i, l.Term):
						t.Errorf("entry %d is %+v", i, l)
						return
					}
				}
			}
		})
	}
	for i := range uint64(count(300, 3000)) {
		first, last := 1+i*5, 5+i*5
		if err := s.StoreLogs(logs(first, last, 1+i)); err != nil {
			t.Fatal(err)
		}
		if i%7 == 6 {
			if err := s.DeleteRange(0, last-20); err != nil {
				t.Fatal(err)
			}
		}
		if i%11 == 10 {
			if err := errors.Join(s.DeleteRange(last-2, last), s.StoreLogs(logs(last-2, last, i))); err != nil {
				t.Fatal(err)
			}
		}
	}
	close(stop)
	readers.Wait()
}

// What belongs together opens; a log or state that was replaced, or lost what it had, is refused (R1, R2, R8).
func TestCheckState(t *testing.T) {
	for name, c := range map[string]struct {
		log   func(s *logStore) error
		state Position
		fail  string
	}{
		"both empty":           {func(*logStore) error { return nil }, Position{}, ""},
		"log ahead":            {store(1, 9, 2), Position{4, 2}, ""},
		"log level":            {store(1, 9, 2), Position{9, 2}, ""},
		"truncated to state":   {store(5, 9, 2), Position{4, 1}, ""},
		"log behind":           {store(1, 3, 2), Position{4, 2}, "lost entries"},
		"other term":           {store(1, 9, 2), Position{4, 1}, "not of one node"},
		"state lost":           {store(5, 9, 2), Position{}, "begins after 4"},
		"state behind":         {store(5, 9, 2), Position{3, 2}, "begins after 4"},
		"state before install": {install(2, Position{4, 2}), Position{3, 2}, "begins after 4"},
		"just installed":       {install(2, Position{4, 2}), Position{4, 2}, ""},
		"conflict after install": {func(s *logStore) error {
			return errors.Join(store(1, 9, 1)(s), install(2, Position{4, 2})(s), del(5, 9)(s))
		}, Position{4, 2}, ""},
		"conflict in all": {func(s *logStore) error {
			return errors.Join(store(1, 9, 1)(s), del(1, 4)(s), del(5, 9)(s))
		}, Position{4, 1}, ""},
		"all truncated":   {func(s *logStore) error { return errors.Join(store(1, 9, 1)(s), del(1, 9)(s)) }, Position{9, 1}, ""},
		"lost after that": {func(s *logStore) error { return errors.Join(store(1, 9, 1)(s), del(1, 9)(s)) }, Position{8, 1}, "lost entries"},
	} {
		t.Run(name, func(t *testing.T) {
			s := openTestLog(t, vfs.NewMem(), "log", knobs{})
			if err := errors.Join(s.SetUint64([]byte(keyCurrentTerm), 2), c.log(s)); err != nil {
				t.Fatal(err)
			}
			err := s.checkState(c.state)
			if c.fail == "" && err != nil || c.fail != "" && (err == nil || !strings.Contains(err.Error(), c.fail)) {
				t.Errorf("error %v, want %q", err, c.fail)
			}
		})
	}
	t.Run("log lost", func(t *testing.T) {
		s := openTestLog(t, vfs.NewMem(), "log", knobs{})
		for range 2 { // nothing is there, and then a log without a term
			if err := s.checkState(Position{4, 2}); err == nil || !strings.Contains(err.Error(), "no term") {
				t.Errorf("error %v", err)
			}
			if err := s.StoreLogs(logs(1, 9, 2)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// raft reads the log for its metrics whenever it likes, also while the store closes.
func TestALogThatIsClosedIsNotRead(t *testing.T) {
	s, _ := start(t)
	propose(t, s, "a=1")
	log := s.log
	log.ring.dropFrom(0)
	first, _ := log.FirstIndex()
	var l raft.Log
	if err := log.GetLog(first, &l); err != nil {
		t.Fatal(err)
	}
	stop(t, s)
	if err := log.GetLog(first, &l); !errors.Is(err, ErrClosed) {
		t.Errorf("read: %v", err)
	}
}
