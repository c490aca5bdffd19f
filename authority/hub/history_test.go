package hub

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"machineid/raftstore"
	"machineid/shared/link"
)

// remembers is the Hello of a process that holds everything, as the leader of this reign had told it.
func (w *world) remembers() *link.Hello {
	hello := w.current("e", 1)
	hello.Held = slices.Repeat([]byte{0xff}, link.HeldBytes)
	return hello
}

// TestAnEdgeThatKnowsMoreIsTurnedAway: only a deposed leader has dispatched less than an edge has heard of, or leads an older term. What it
// would answer is older than what the edge takes for current. It finds that out by asking the voters.
func TestAnEdgeThatKnowsMoreIsTurnedAway(t *testing.T) {
	for name, more := range map[string]func(*link.Hello){
		"an index":         func(h *link.Hello) { h.LastIndex++ },
		"a term":           func(h *link.Hello) { h.Term++ },
		"without a reign":  func(h *link.Hello) { h.Reign = nil },
		"of no such reign": func(h *link.Hello) { h.Reign = h.Reign[:15] },
	} {
		for why, confirm := range map[string]func() (uint64, error){
			"no quorum": func() (uint64, error) { return 0, errors.New("no quorum") },
			"deposed":   func() (uint64, error) { return 2, nil }, // and elected again, in a reign that has not begun here
		} {
			t.Run(name+", "+why, func(t *testing.T) {
				inWorld(t, usual, nil, func(w *world) {
					t := w.t
					w.lead()
					hello := w.remembers()
					more(hello)
					w.store.set(func(s *fakeStore) { s.confirm = confirm })
					p := w.greet(hello)
					if f := p.frames(); !p.over() || len(f) != 1 || f[0].GetGoodbye().GetLeaderAddress() != "a2:7071" {
						t.Errorf("it is not told where the leader is: %v", f)
					}
					if n := len(w.hub.Sessions()); n != 0 {
						t.Errorf("%d sessions", n)
					}
					if w.greet(w.remembers()).over() {
						t.Error("an edge that knows as much has none")
					}
				})
			})
		}
	}
}

// TestAnEdgeOfAnotherHistoryBeginsAnew (I13): what it remembers is in no history any more, if this node leads all the same.
func TestAnEdgeOfAnotherHistoryBeginsAnew(t *testing.T) {
	for name, tt := range map[string]struct {
		verdict       raftstore.Verdict
		term          uint64 // more than the leader's
		reset, proven bool
	}{
		"this history":                       {verdict: raftstore.VerdictSame},
		"another one":                        {verdict: raftstore.VerdictOther, reset: true},
		"unknown":                            {verdict: raftstore.VerdictUnknown, reset: true, proven: true},
		"another one, and a newer term":      {verdict: raftstore.VerdictOther, term: 3, reset: true, proven: true},
		"unknown, and a newer term":          {verdict: raftstore.VerdictUnknown, term: 3, reset: true, proven: true},
		"this history, by a term of nowhere": {verdict: raftstore.VerdictSame, term: 3, reset: true, proven: true},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, usual, nil, func(w *world) {
				t := w.t
				w.lead()
				hello := w.remembers()
				hello.Term += tt.term
				hello.ReadIndex = hello.LastIndex + 1 // it has fetched what it has not been told of
				asked, rounds := false, 0
				w.store.set(func(s *fakeStore) {
					s.judge = func(index, term uint64, id raftstore.ReignID) raftstore.Verdict {
						asked = index == hello.ReadIndex && term == hello.Term && id == reignOf(1)
						return tt.verdict
					}
					s.confirm = func() (uint64, error) {
						rounds++
						return 1, nil
					}
				})
				before := rounds
				f := w.greet(hello).frames()
				if len(f) == 0 || f[0].GetWelcome() == nil {
					t.Fatalf("it has no session: %v", f)
				}
				got := f[0].GetWelcome()
				if !asked || got.GetReset_() != tt.reset || got.GetProven() != tt.proven {
					t.Errorf("asked %v, reset %v, proven %v; want %v, %v", asked, got.GetReset_(), got.GetProven(), tt.reset, tt.proven)
				}
				if now := rounds - before; (now > 0) != tt.proven {
					t.Errorf("%d rounds: a proof is a round that begins after the Hello", now)
				}
			})
		})
	}
}

// TestAnotherIncarnationIsNotJudged: the edge begins anew in any case, and takes a newer one whatever its term.
func TestAnotherIncarnationIsNotJudged(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		w.lead()
		hello := w.remembers()
		hello.Incarnation, hello.Term = slices.Repeat([]byte{1}, 16), 9
		w.store.set(func(s *fakeStore) {
			s.judge = func(uint64, uint64, raftstore.ReignID) raftstore.Verdict {
				w.t.Error("judged")
				return raftstore.VerdictSame
			}
		})
		if f := w.greet(hello).frames(); len(f) == 0 || !f[0].GetWelcome().GetReset_() || f[0].GetWelcome().GetProven() {
			w.t.Errorf("welcomed as %v", f)
		}
	})
}

// TestAWelcomeSaysWhoseItIs: the reign that wrote its index, in each term, and the clusters that this one replaces.
func TestAWelcomeSaysWhoseItIs(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		for term := uint64(1); term <= 3; term++ {
			w.lead()
			id := reignOf(term)
			got := w.join("e", byte(term)).frames()[0].GetWelcome()
			if got.GetTerm() != term || !slices.Equal(got.GetReign(), id[:]) {
				t.Errorf("term %d: %v", term, got)
			}
			if got.GetClusterId() != "c" || !slices.Equal(got.GetReplaces(), []string{"older", "old"}) {
				t.Errorf("of cluster %q, which replaces %q", got.GetClusterId(), got.GetReplaces())
			}
			w.depose()
		}
	})
}

// later is a history in which a leader of term 9 has written all from an index on.
func (w *world) later(from uint64) {
	w.store.set(func(s *fakeStore) {
		s.reignAt = func(index uint64) (raftstore.Reign, bool) {
			if index >= from {
				return raftstore.Reign{First: from, Term: 9, ID: reignOf(9)}, true
			}
			return raftstore.Reign{Term: 1, ID: reignOf(1)}, true
		}
	})
}

// TestALeaderThatIsOverTakesNoSessions: what has been applied is of a later one.
func TestALeaderThatIsOverTakesNoSessions(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		w.later(1)
		w.lead()
		p := w.greet(helloOf("e", 1))
		time.Sleep(2 * expectTime)
		if !p.over() {
			w.t.Error("it took one")
		}
	})
}

// TestNothingOfALaterLeaderIsTold: a deposed node applies what the next leader writes, before it hears that its own term is over. Its sessions
// say that all they tell is of one reign, so they hear of none of it: no Invalidate, and no Grant that reaches up to it.
func TestNothingOfALaterLeaderIsTold(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		w.lead()
		p := w.join("e", 1)
		own := w.change(orgA)
		synctest.Wait()
		if got := invalidated(p.frames()); !slices.Equal(got, []uint64{own}) {
			t.Fatalf("told of %v, want %d", got, own)
		}
		w.later(own + 1)
		index := w.change(orgA)
		synctest.Wait()
		if got := invalidated(p.frames()); got != nil {
			t.Errorf("told of %v", got)
		}
		if g := p.renew(); g != nil {
			t.Errorf("granted %v, at %d", g, index)
		}
		if w.hub.Leading() {
			t.Error("it takes sessions")
		}
		short, cancel := context.WithTimeout(t.Context(), lease)
		defer cancel()
		if _, err := w.hub.Settle(short, index); err == nil { // it cannot know yet that it leads no more
			t.Errorf("it vouches for what the next leader's sessions must acknowledge: %v", err)
		}
	})
}

// TestNothingOfALaterLeaderIsRead, for the same reason.
func TestNothingOfALaterLeaderIsRead(t *testing.T) {
	inRealWorld(t, func(w *realWorld) {
		t := w.t
		p := w.greet(helloOf("e", 1))
		ask := &link.Fetch{Id: 1, OrgId: orgA[:], DeviceId: "d"}
		if a := p.fetch(ask); !a.GetDevice().GetKnown() {
			t.Fatalf("answered %v", a)
		}
		store := &fakeStore{leads: true, view: w.real.View}
		store.term, _ = w.real.Leading() // and all that is there is of another reign
		w.hub.store = store
		a := p.fetch(ask)
		w.hub.store = w.real
		if !a.GetUnavailable() {
			t.Errorf("answered %v", a)
		}
	})
}
