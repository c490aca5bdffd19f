package raftstore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"

	"machineid/internal/testkit/bubble"
)

// TestJudge: what a history says of an index, a term and a reign (R15).
func TestJudge(t *testing.T) {
	a, b, c, d := ReignID{1}, ReignID{2}, ReignID{3}, ReignID{4}
	reigns := []Reign{{First: 10, Term: 2, ID: a}, {First: 20, Term: 3, ID: b}, {First: 30, Term: 5}, {First: 32, Term: 5, ID: c}}
	const applied = 40
	for _, tt := range []struct {
		what        string
		index, term uint64
		id          ReignID
		want        Verdict
	}{
		{"its first", 10, 2, a, VerdictSame},
		{"its last", 19, 2, a, VerdictSame},
		{"the newest applied", 40, 5, c, VerdictSame},
		{"not applied yet", 41, 5, c, VerdictUnknown},
		{"of a reign that was over", 20, 2, a, VerdictOther},
		{"of one that was over, and not applied", 99, 3, b, VerdictOther},
		{"of one that had not begun", 19, 3, b, VerdictOther},
		{"older than what is remembered", 9, 2, d, VerdictUnknown},
		{"older, of one that had not begun", 9, 2, a, VerdictOther},
		{"of a reign that is not here", 25, 3, d, VerdictOther},
		{"of one not here, beyond what is applied", 41, 6, d, VerdictUnknown},
		{"of the same term twice", 41, 5, d, VerdictUnknown},
		{"of another term", 25, 4, b, VerdictOther},
		{"of nobody", 30, 5, ReignID{}, VerdictOther},
		{"of nobody, not applied", 41, 5, ReignID{}, VerdictUnknown},
	} {
		if got := judge(reigns, applied, tt.index, tt.term, tt.id); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.what, got, tt.want)
		}
	}
	if got := judge(nil, 7, 5, 1, a); got != VerdictUnknown {
		t.Errorf("without a history: %v", got)
	}
}

// historyModel is who wrote what, found out by walking the log from its beginning.
func historyModel(logs []*raft.Log) (list []Reign) {
	for _, l := range logs {
		bar, _ := decodeBarrier(l.Data)
		n, _ := unpack(l.Data, func([]byte) {})
		var now Reign
		if len(list) > 0 {
			now = list[len(list)-1]
		}
		switch {
		case n > 0 && now.Term != l.Term:
			list = append(list, Reign{First: l.Index, Term: l.Term})
		case bar.reign != ReignID{} && bar.term == l.Term && (now.Term != l.Term || now.ID == ReignID{}):
			list = append(list, Reign{First: l.Index, Term: l.Term, ID: bar.reign})
		}
	}
	return list[max(0, len(list)-reignsKept):]
}

// randomLog has terms with a barrier, with several, with one of an earlier term first, with commands ahead, and with none.
func randomLog(rng *rand.Rand, terms int) (logs []*raft.Log) {
	var index uint64
	add := func(term uint64, data []byte) {
		index += 1 + uint64(rng.IntN(2)) // raft keeps entries of its own to itself
		logs = append(logs, &raft.Log{Index: index, Term: term, Type: raft.LogCommand, Data: data})
	}
	command := appendPacked(appendPackHeader(nil, 1), []byte("k=v"))
	var last barrier
	for term := uint64(1); len(logs) == 0 || int(term) <= terms; term += 1 + uint64(rng.IntN(2)) {
		bar := barrier{term: term, cluster: "c"}
		for i := range bar.reign {
			bar.reign[i] = byte(rng.IntN(256))
		}
		if rng.IntN(8) == 0 {
			add(term, last.encode())
		}
		if rng.IntN(8) == 0 {
			add(term, command)
		}
		if rng.IntN(8) == 0 {
			add(term, append([]byte{packName}, "c"...))
		}
		for range rng.IntN(4) {
			add(term, bar.encode())
			for range rng.IntN(3) {
				add(term, [][]byte{command, emptyPack, nil}[rng.IntN(3)])
			}
		}
		last = bar
	}
	return logs
}

// TestHistoryOfALog: the reigns are those of the log, the newest of them, however entries come together, and the state keeps them.
func TestHistoryOfALog(t *testing.T) {
	rng := newRand(t)
	for round := range 4 {
		logs := randomLog(rng, []int{5, 40, 300, 3 * reignsKept}[round])
		want := historyModel(logs)
		// It waits for others, so that nothing reaches its state but what is applied here.
		s := must[*Store](t)(newNode(notBootstrapped()).open())
		for rest := logs; len(rest) > 0; {
			n := 1 + rng.IntN(min(len(rest), 40))
			s.fsm.ApplyBatch(rest[:n])
			rest = rest[n:]
		}
		if got := s.fsm.history(); !slices.Equal(got, want) {
			t.Fatalf("%d reigns, want %d: %v, %v", len(got), len(want), got, want)
		}
		db := must[*state](t)(s.states.acquire())
		kept := must[[]Reign](t)(readReigns(db.db))
		db.release()
		if !slices.Equal(kept, want) {
			t.Fatalf("the state keeps %d reigns, want %d", len(kept), len(want))
		}
		// Whoever wrote an entry is said to have, and nobody else.
		for range 1000 {
			l := logs[rng.IntN(len(logs))]
			i := slices.IndexFunc(want, func(r Reign) bool { return r.First > l.Index })
			if i < 0 {
				i = len(want)
			}
			if i--; i < 0 {
				continue // forgotten
			}
			by, other := want[i], want[rng.IntN(len(want))]
			if got := s.Judge(l.Index, by.Term, by.ID); (got == VerdictSame) != (by.ID != ReignID{}) || got == VerdictUnknown {
				t.Fatalf("%d by %v: %v", l.Index, by, got)
			}
			if got := s.Judge(l.Index, other.Term, other.ID); other != by && got != VerdictOther {
				t.Fatalf("%d by %v: %v, and it is by %v", l.Index, other, got, by)
			}
		}
		stop(t, s)
	}
}

// TestEachTermIsAReign of its own, also after a start, and it is there before the first command.
func TestEachTermIsAReign(t *testing.T) {
	fs := vfs.NewMem()
	wrote := map[uint64]Reign{} // by index
	ids := map[ReignID]uint64{} // terms
	for range 3 {
		n := newNode(onFS(fs))
		s := must[*Store](t)(n.open())
		for range 3 {
			waitLeading(t, s)
			res := propose(t, s, "k=v")
			by, ok := s.ReignAt(res.Index)
			if !ok || by.Term != res.Term || by.ID == (ReignID{}) || by.First >= res.Index {
				t.Fatalf("entry %d of term %d is by %v, %v", res.Index, res.Term, by, ok)
			}
			if term, known := ids[by.ID]; known && term != res.Term {
				t.Errorf("terms %d and %d are one reign", term, res.Term)
			}
			ids[by.ID], wrote[res.Index] = res.Term, by
			depose(t, n, s)
			eventually(t, "the next term is ready", func() bool { term, ok := s.Leading(); return ok && term > res.Term })
		}
		for index, by := range wrote {
			if got := s.Judge(index, by.Term, by.ID); got != VerdictSame {
				t.Errorf("%d by %v: %v", index, by, got)
			}
		}
		stop(t, s)
	}
}

// TestATermUsedTwice: a folder that is put back to a copy leads the same term again, writes the same indexes, and knows that it has not
// written what it is told of.
func TestATermUsedTwice(t *testing.T) {
	disk := vfs.NewCrashableMem()
	s, _ := start(t, onFS(disk))
	propose(t, s, "k=v")
	stop(t, s)
	copied := disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: rand.New(rand.NewPCG(1, 1))})

	lives := make([]Reign, 2)
	var last [2]Position
	for i, fs := range []vfs.FS{disk, copied} {
		s := must[*Store](t)(newNode(onFS(fs)).open())
		waitLeading(t, s)
		// A slow start sends its barrier twice: so the second life writes up to where the first one came, which is far enough.
		for n := 0; n < 15 && i == 0 || i == 1 && last[1].Index < last[0].Index; n++ {
			last[i] = propose(t, s, "k=v").Position
		}
		lives[i], _ = s.ReignAt(last[i].Index)
		if i == 1 {
			if last[0] != last[1] {
				t.Fatalf("%v and %v: they are no twins, and the test shows nothing", last[0], last[1])
			}
			if got := s.Judge(last[0].Index, lives[0].Term, lives[0].ID); got != VerdictOther {
				t.Errorf("what the other life wrote: %v", got)
			}
			if got := s.Judge(last[0].Index+1, lives[0].Term, lives[0].ID); got != VerdictUnknown {
				t.Errorf("what the other life wrote further on: %v", got)
			}
			if got := s.Judge(last[1].Index, lives[1].Term, lives[1].ID); got != VerdictSame {
				t.Errorf("what it wrote itself: %v", got)
			}
		}
		stop(t, s)
	}
}

// TestNothingIsProposedAheadOfTheBarrier: a command there would be nobody's (R15).
func TestNothingIsProposedAheadOfTheBarrier(t *testing.T) {
	s, _ := start(t)
	term := s.lead.ready.Swap(0)
	if _, err := s.Propose(t.Context(), []byte("k=v")); !errors.Is(err, ErrNotLeader) || Unknown(err) {
		t.Errorf("before the barrier: %v", err)
	}
	s.lead.ready.Store(term)
	propose(t, s, "k=v")
}

// TestEveryNodeHasTheSameHistory, whether it applied the log or was sent the state, through crashes and hand-overs, and no index is ever
// said to be of two reigns.
func TestEveryNodeHasTheSameHistory(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 3, with(func(cfg *Config) { cfg.TrailingLogs, cfg.SnapshotThreshold = 5, 20 }))
		defer c.stop()
		rng := rand.New(rand.NewPCG(7, 7))
		wrote := map[uint64]Reign{}
		for round := range 12 {
			l := c.leader()
			for i := range 30 {
				if res, err := l.store.Propose(t.Context(), fmt.Appendf(nil, "k%d=v", i)); err == nil {
					by, _ := l.store.ReignAt(res.Index)
					wrote[res.Index] = by
				}
			}
			var down *member
			switch round % 3 {
			case 0:
				down = l
			case 1:
				down = c.followers()[0]
			default:
				_ = l.store.TransferLeadership(t.Context(), "") // who leads then is of no interest
			}
			if down != nil {
				c.crash(down, rng)
				l = c.leader()
				for i := range 60 {
					_, _ = l.store.Propose(t.Context(), fmt.Appendf(nil, "k%d=w", i))
				}
				c.start(down, false)
			}
			time.Sleep(time.Minute) // snapshots
			c.settle()
			want := c.leader().store.fsm.history()
			for _, m := range c.members {
				if got := m.store.fsm.history(); !slices.Equal(got, want) {
					t.Fatalf("round %d: %s has %v, the leader %v", round, m.name, got, want)
				}
				for index, by := range wrote {
					if got := m.store.Judge(index, by.Term, by.ID); got != VerdictSame {
						t.Fatalf("round %d: %s says of %d by %v: %v", round, m.name, index, by, got)
					}
				}
			}
		}
		if n := len(c.leader().store.fsm.history()); n < 8 {
			t.Errorf("%d reigns: too few to show anything", n)
		}
	})
}
