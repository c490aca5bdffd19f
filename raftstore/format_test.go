package raftstore

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"machineid/internal/testkit/bubble"
	"machineid/internal/testkit/injected"
)

// beginsFirst has a cluster begin as one of before did.
func beginsFirst(cfg *Config) { cfg.knobs.beginsFirst = true }

func olderProgram(cfg *Config) { cfg.NewestFormat = formatFirst }

func atFormat(tb testing.TB, s *Store, want int) {
	tb.Helper()
	st := must[*state](tb)(s.states.acquire())
	defer st.release()
	state, log := st.db.FormatMajorVersion(), s.logDB.FormatMajorVersion()
	if s.Format() != want || state != pebbleFormats[want] || log != pebbleFormats[want] {
		tb.Errorf("%s: format %d, its state's files %s, its log's %s; want %d: %s", s.cfg.ID, s.Format(), state, log, want, pebbleFormats[want])
	}
}

// A new cluster begins with the newest format, also if its beginning is repeated, and so do those who join it; one that is there stays as it is.
func TestAClusterBeginsWithTheNewestFormat(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const later = formatNewest + 3
		c := newCluster(t, 3, with(func(cfg *Config) { cfg.NewestFormat = formatNewest + 2 }))
		defer c.stop()
		c.settle()
		for _, m := range c.members {
			if got := m.store.Format(); got != formatNewest+2 {
				t.Errorf("%s is at %d", m.name, got)
			}
		}
		c.options = []option{with(func(cfg *Config) { cfg.NewestFormat = later })}
		for _, m := range c.members {
			c.down(m)
			c.start(m, false)
			c.settle()
		}
		if got := c.leader().store.Format(); got != formatNewest+2 {
			t.Errorf("it was raised by a restart: %d", got)
		}
		if got, err := c.leader().store.RaiseFormat(within(t, 5*time.Second), 0); err != nil || got != later {
			t.Errorf("raised to %d: %v", got, err)
		}
	})
}

// A cluster of the first format stays at it when a newer program starts on its folder, also if the state had nothing of it yet: what the log has was
// written by somebody. The founder alone would else raise it for members that cannot follow.
func TestARestartRaisesNothing(t *testing.T) {
	disk := vfs.NewCrashableMem()
	s, _ := start(t, onFS(disk), with(beginsFirst))
	propose(t, s, "a=1")
	crashed := disk.CrashClone(vfs.CrashCloneCfg{})
	for range 10 { // which is first, the leader or the state, is not certain; each on a disk of its own, for the first start writes a state
		again, _ := start(t, onFS(crashed.CrashClone(vfs.CrashCloneCfg{})))
		if v, _ := valueOf(t, again, "a"); v != "1" || again.Format() != formatFirst {
			t.Errorf("a=%q, format %d, want %d", v, again.Format(), formatFirst)
		}
		stop(t, again)
	}
}

// The log tells whether a cluster has been led: it begins with the membership, and the first that a leader writes may be a format.
func TestUnwritten(t *testing.T) {
	of := func(kind raft.LogType, data []byte) *raft.Log { return &raft.Log{Type: kind, Data: data} }
	members, noop, raise := of(raft.LogConfiguration, []byte("m")), of(raft.LogNoop, nil), of(raft.LogCommand, encodeFormat(formatNewest))
	for _, c := range []struct {
		name  string
		first uint64
		log   []*raft.Log
		want  bool
	}{
		{"the membership alone", 1, []*raft.Log{members}, true},
		{"led twice, to no end", 1, []*raft.Log{members, noop, raise, noop}, true},
		{"a reign", 1, []*raft.Log{members, noop, of(raft.LogCommand, barrier{term: 2}.encode())}, false},
		{"one of an older program", 1, []*raft.Log{members, noop, of(raft.LogCommand, nil)}, false},
		{"commands", 1, []*raft.Log{members, of(raft.LogCommand, appendPacked(appendPackHeader(nil, 1), []byte("a=1")))}, false},
		{"the end of a log", 2, []*raft.Log{noop}, false},
		{"nothing", 1, nil, false},
	} {
		s := openTestLog(t, vfs.NewMem(), "log", knobs{})
		for i, l := range c.log {
			l := *l
			l.Index, l.Term = c.first+uint64(i), 1
			if err := s.StoreLogs([]*raft.Log{&l}); err != nil {
				t.Fatal(err)
			}
		}
		if got := s.unwritten(); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// A format is raised on every node by one entry of the log, and not before every member knows it.
func TestRaiseFormat(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, with(beginsFirst))
		defer c.stop()
		s := c.leader().store
		old := c.followers()[0]
		restart := func(options ...option) {
			c.down(old)
			before := c.options
			c.options = append(slices.Clip(c.options), options...)
			c.start(old, false)
			c.options = before
			c.settle()
		}
		refused := func(what, because string, to int) {
			t.Helper()
			_, err := s.RaiseFormat(within(t, 5*time.Second), to)
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), because) {
				t.Errorf("%s: %v", what, err)
			}
			atFormat(t, s, formatFirst)
		}
		restart(with(olderProgram))
		refused("one does not know it", "knows formats up to 1", formatNewest)
		if got, err := s.RaiseFormat(within(t, 5*time.Second), 0); err != nil || got != formatFirst {
			t.Errorf("the newest that all know: %d, %v", got, err)
		}
		c.down(old)
		refused("one is down", "every member must answer", 0)
		c.start(old, false)
		c.settle()
		refused("nobody knows it", "knows formats up to", formatNewest+1)
		if _, err := c.followers()[0].store.RaiseFormat(within(t, 5*time.Second), 0); !errors.Is(err, ErrNotLeader) {
			t.Errorf("a follower: %v", err)
		}
		for range 2 { // the second time there is nothing to do
			if got, err := s.RaiseFormat(within(t, 5*time.Second), 0); err != nil || got != formatNewest {
				t.Fatalf("raised to %d: %v", got, err)
			}
		}
		c.settle()
		for _, m := range c.members {
			atFormat(t, m.store, formatNewest)
		}
		if _, err := s.RaiseFormat(within(t, 5*time.Second), formatFirst); !errors.Is(err, ErrRefused) {
			t.Errorf("lowered: %v", err)
		}
		restart()
		atFormat(t, old.store, formatNewest)

		// A program that does not know it is neither let in nor started again.
		late := c.add()
		options := c.options
		c.options = append(slices.Clip(c.options), with(olderProgram))
		c.start(late, false)
		c.options = options
		if err := s.AddNonvoter(within(t, 5*time.Second), late.name, string(late.addr)); !errors.Is(err, ErrRefused) {
			t.Errorf("an older program is added: %v", err)
		}
		c.down(late)
		c.down(old)
		if _, err := newNode(named(old.name), onFS(old.fs), with(olderProgram), notBootstrapped()).open(); err == nil ||
			!strings.Contains(err.Error(), "install the program") {
			t.Errorf("an older program opens it: %v", err)
		}
		c.start(old, false)
		// A new one learns it from the log.
		c.start(late, false)
		if err := s.AddNonvoter(within(t, 5*time.Second), late.name, string(late.addr)); err != nil {
			t.Fatal(err)
		}
		c.settle()
		atFormat(t, late.store, formatNewest)
	})
}

// A raise whose outcome is unknown may still come: until that is decided, nobody is let in who could not follow it.
func TestNobodyOlderJoinsDuringARaise(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, with(beginsFirst))
		defer c.stop()
		l := c.leader()
		options := c.options
		c.options = append(slices.Clip(c.options), with(olderProgram))
		late := c.add()
		c.start(late, false)
		c.options = options
		wedge := func(on bool) {
			c.net.mu.Lock()
			defer c.net.mu.Unlock()
			for _, f := range c.members {
				c.net.wedged[route{l.addr, f.addr}] = on && f != l && f != late // entries wait, as on slow disks; heartbeats pass
			}
		}
		add := func() error {
			return l.store.AddNonvoter(within(t, time.Second), late.name, string(late.addr))
		}
		wedge(true)
		if _, err := l.store.RaiseFormat(within(t, time.Second), 0); !Unknown(err) {
			t.Fatalf("raise: %v", err)
		}
		err := add()
		if !errors.Is(err, ErrRefused) || Unknown(err) || !strings.Contains(err.Error(), "nothing was begun") {
			t.Errorf("add while it is unknown: %v", err)
		}
		wedge(false)
		c.until("it is raised", func() bool { return l.store.Format() == formatNewest })
		if err := add(); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "install a newer one") {
			t.Errorf("add afterwards: %v", err)
		}
		time.Sleep(10 * time.Second) // it would have stopped by now
		if err := late.store.fault.err(); err != nil || late.store.Status().LastIndex > 0 {
			t.Errorf("it was sent the log (%v): %+v", err, late.store.Status())
		}
	})
}

// An older program may join as long as nothing was raised.
func TestAnOlderProgramJoins(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 1, with(beginsFirst))
		defer c.stop()
		c.options = append(slices.Clip(c.options), with(olderProgram))
		late := c.add()
		c.start(late, false)
		if err := c.members[0].store.AddNonvoter(within(t, 5*time.Second), late.name, string(late.addr)); err != nil {
			t.Fatal(err)
		}
		c.settle()
	})
}

// An older program that is sent the entry stops, rather than go on and write what the others do not expect.
func TestRaisedBeyondUs(t *testing.T) {
	n := newNode(with(olderProgram))
	s := must[*Store](t)(n.open())
	waitLeading(t, s)
	go func() { _ = s.raft.Apply(encodeFormat(formatNewest), 0).Error() }()
	select {
	case err := <-n.fatal:
		if !strings.Contains(err.Error(), "install the program") {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it went on")
	}
}

// What a loss of power at any write of a raise leaves is one format or the other, and what was acknowledged stays.
func TestCrashDuringRaise(t *testing.T) {
	disk := vfs.NewCrashableMem()
	o := newOutages(disk, newRand(t))
	o.off = true
	s, _ := start(t, onFS(o.fs()), with(beginsFirst))
	propose(t, s, "a=1")
	o.mu.Lock()
	o.off = false
	o.mu.Unlock()
	if got, err := s.RaiseFormat(t.Context(), 0); err != nil || got != formatNewest {
		t.Fatalf("raised to %d: %v", got, err)
	}
	raised := disk.CrashClone(vfs.CrashCloneCfg{})
	found := injected.Needed(t, "a crash that left the old format", "a crash that left the new one")
	for _, c := range append(o.stop(t, 60), outage{raised, "after it was raised"}) {
		again, _ := start(t, onFS(c.fs))
		if value, _ := valueOf(t, again, "a"); value != "1" {
			t.Errorf("crash %s: a is %q", c.what, value)
		}
		switch format := again.Format(); {
		case format == formatNewest:
			found.Did("a crash that left the new one")
		case format == formatFirst && c.fs != raised:
			found.Did("a crash that left the old format")
		default:
			t.Errorf("crash %s: format %d", c.what, format)
		}
		allows(t, again)
		stop(t, again)
	}
	t.Log(found)
}

// allows requires that the files allow what the format says; they may allow more after a crash.
func allows(tb testing.TB, s *Store) {
	tb.Helper()
	st := must[*state](tb)(s.states.acquire())
	defer st.release()
	if want := pebbleFormats[s.Format()]; st.db.FormatMajorVersion() < want || s.logDB.FormatMajorVersion() < want {
		tb.Errorf("format %d, and files of %s and %s", s.Format(), st.db.FormatMajorVersion(), s.logDB.FormatMajorVersion())
	}
}

// TestARaisedStateIsPlantedByWhoKnowsIt: a recovery and a restore take what is at a format that the program knows, and refuse what is beyond, in one
// sentence, before a folder is there that could not be started.
func TestARaisedStateIsPlantedByWhoKnowsIt(t *testing.T) {
	const later = formatNewest + 1
	knows := func(o Restoring, newest int) Restoring { o.NewestFormat = newest; return o }
	disk := vfs.NewCrashableMem()
	s, _ := start(t, onFS(disk), with(func(cfg *Config) { cfg.NewestFormat = later }))
	propose(t, s, "a=1")
	if s.Format() != later {
		t.Fatalf("it began with format %d", s.Format())
	}
	raw, crashed := backup(t, s), disk.CrashClone(vfs.CrashCloneCfg{})

	for name, plant := range map[string]func(newest int) (vfs.FS, string, error){
		"restore": func(newest int) (vfs.FS, string, error) {
			fs := vfs.NewMem()
			_, err := Restore("new", bytes.NewReader(slices.Clone(raw)), knows(restoring(fs, "n1"), newest))
			return fs, "new", err
		},
		"recover": func(newest int) (vfs.FS, string, error) {
			_, err := Recover("data", &machine{}, knows(recovering(crashed, "127.0.0.1:1"), newest))
			return crashed, "data" + suffixBefore, err
		},
	} {
		for _, newest := range []int{0, formatNewest} {
			fs, made, err := plant(newest)
			if err == nil || strings.Count(err.Error(), "install the program") != 1 {
				t.Errorf("%s, by a program that knows %d: %v", name, newest, err)
			}
			if _, err := fs.Stat(made); !oserror.IsNotExist(err) {
				t.Errorf("%s, by a program that knows %d: %s is there (%v)", name, newest, made, err)
			}
		}
		if _, _, err := plant(later); err != nil {
			t.Errorf("%s, by a program that knows it: %v", name, err)
		}
	}
}
