package hub

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/shared/clock"
	"machineid/shared/link"
)

// handOver is a hand-over to the next term.
func (w *world) handOver() {
	w.t.Helper()
	w.yield()
	w.depose()
	w.elsewhere()
	w.lead()
}

func (w *world) yield() {
	w.t.Helper()
	if err := w.hub.Yield(w.t.Context(), "a2:7071"); err != nil {
		w.t.Error(err)
	}
}

// duringNext runs f before the hub's next command is applied.
func (w *world) duringNext(f func()) {
	w.hub.cfg.Propose = func(ctx context.Context, cmd *statepb.Command) (state.Outcome, error) {
		w.hub.cfg.Propose = w.propose
		f()
		return w.propose(ctx, cmd)
	}
}

// elsewhere makes the hub that of another node, which was told of no session.
func (w *world) elsewhere() {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	w.hub.recent, w.hub.unsettled = [recentMax]*change{}, map[*change]struct{}{}
}

// catchUp acknowledges what a Welcome said, as an edge does.
func (p *peer) catchUp() {
	p.w.t.Helper()
	for _, f := range p.frames() {
		if welcome := f.GetWelcome(); welcome != nil {
			p.ack(welcome.GetIndex())
			return
		}
	}
	p.w.t.Error("no Welcome")
}

// TestACleanHandoverStallsNothing: the next leader returns from changes as soon as every
// process that may hold a lease has moved to it (I8).
func TestACleanHandoverStallsNothing(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		w.lead()
		e, f := w.join("e", 1), w.join("f", 2)
		gone, back := w.join("gone", 3), w.join("back", 4)
		for _, p := range []*peer{e, f, gone, back} {
			if p.renew() == nil {
				t.Fatal("no grant")
			}
		}
		gone.hangUp()
		back.tell(&link.ToAuthority{Ack: &link.Ack{GaveBack: true}})
		time.Sleep(time.Second)
		if err := w.hub.Yield(t.Context(), "a2:7071"); err != nil {
			t.Fatal(err)
		}
		rec := w.record()
		if !rec.GetOpen() || !rec.GetListed() || len(rec.GetHolders()) != 3 {
			t.Errorf("the record: %v", rec)
		}
		for _, h := range rec.GetHolders() {
			if got := time.Duration(h.GetLeftNs()); got <= 0 || got > stretched-time.Second {
				t.Errorf("%v left of a lease that was booked a second ago", got)
			}
		}
		if err := w.hub.Yield(t.Context(), ""); !errors.Is(err, ErrHandingOver) {
			t.Errorf("a second hand-over at once: %v", err)
		}
		if e.renew() != nil {
			t.Error("a lease is granted after the list was made")
		}
		if late := w.join("late", 9); !late.over() || late.frames()[0].GetGoodbye().GetLeaderAddress() != "a2:7071" {
			t.Error("a session is taken after the list was made, or not told where to go")
		}
		// What is changed meanwhile goes on to the edges, and this leader's callers get their answers.
		during := w.change(orgA)
		e.ack(during)
		f.ack(during)
		owed := w.change(orgA) // nobody acknowledges it here
		synctest.Wait()
		w.depose()
		last := e.frames()
		if len(last) == 0 || last[len(last)-1].GetGoodbye().GetLeaderAddress() != "a2:7071" {
			t.Errorf("an edge hears %v", last)
		}

		w.elsewhere()
		w.lead()
		began := w.since()
		index := w.change(orgA)
		before, after, read := w.settle(owed), w.settle(index), make(chan error, 1)
		go func() { read <- w.hub.SettleOrg(context.WithoutCancel(t.Context()), index, orgA) }()
		all := func(of func(<-chan settled)) { of(before); of(after) }
		w.join("e", 1).catchUp()
		w.join("gone", 3).catchUp()
		all(w.waits) // f may still answer from its memory
		stranger := w.join("f", 8)
		stranger.catchUp() // another process of that name
		all(w.waits)
		late := w.join("f", 2)
		w.hub.mu.Lock()
		begun := w.hub.reign.begun
		w.hub.mu.Unlock()
		late.ack(begun - 1)
		all(w.waits)
		select {
		case err := <-read:
			t.Errorf("a read returned: %v", err)
		default:
		}
		late.catchUp()
		all(func(c <-chan settled) {
			if s := w.now(c); s.err != nil || s.at != began {
				t.Errorf("settled at %v: %+v; want %v", s.at, s, began)
			}
		})
		if err := <-read; err != nil {
			t.Error(err)
		}
		if rec := w.record(); !rec.GetOpen() || rec.GetListed() {
			t.Errorf("the next leader's record: %v", rec)
		}
	})
}

// TestAnEdgeThatDoesNotMove is waited for to the end of its lease as it was listed, and not
// longer than S.
func TestAnEdgeThatDoesNotMove(t *testing.T) {
	for _, idle := range []time.Duration{0, time.Second, 3 * time.Second} {
		inWorld(t, usual, nil, func(w *world) {
			t := w.t
			w.lead()
			w.join("e", 1).renew()
			time.Sleep(idle)
			w.handOver()
			began := w.since()
			if p, err := w.hub.Progress(t.Context(), 1, orgA); err == nil {
				t.Errorf("progress without a state: %+v", p)
			}
			want := min(clock.Stretch(stretched-idle, usual.Bound), stretched)
			if s := <-w.settle(w.change(orgA)); s.err != nil || s.at.Round(time.Millisecond) != (began+want).Round(time.Millisecond) {
				t.Errorf("idle %v: settled at %v, want %v", idle, s.at, began+want)
			}
		})
	}
}

// TestTheLastOfTheHeirsCounts: of those that do not move, the one whose lease is the longest holds what is changed, whatever order they are in.
func TestTheLastOfTheHeirsCounts(t *testing.T) {
	rec := openRecord(lease)
	rec.Listed = true
	const heirs = 16
	for i := range heirs {
		process := [16]byte{byte(i)}
		left := time.Duration(1+i*7%heirs) * 100 * time.Millisecond
		rec.Holders = append(rec.Holders, &statepb.LeaseHolder{ProcessId: process[:], LeftNs: int64(left)})
	}
	for range 4 {
		inWorld(t, usual, rec, func(w *world) {
			began, hold := w.since(), clock.Stretch(heirs*100*time.Millisecond, usual.Bound)
			w.lead()
			if s := <-w.settle(w.change(orgA)); s.at != began+hold || s.err != nil {
				w.t.Errorf("settled at %v, %v; want %v", s.at, s.err, began+hold)
			}
		})
	}
}

// TestHandoversInARow: who has not moved is on the next list too.
func TestHandoversInARow(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		w.lead()
		w.join("e", 1).renew()
		w.join("f", 2).renew()
		w.handOver()
		w.join("e", 1).catchUp()
		w.handOver()
		if n := len(w.hub.reign.inherited); n != 2 {
			t.Errorf("%d are expected", n)
		}
		c := w.settle(w.change(orgB))
		w.join("e", 1).catchUp()
		w.waits(c) // f has moved nowhere
		f := w.join("f", 2)
		f.tell(&link.ToAuthority{Ack: &link.Ack{GaveBack: true}})
		w.now(c)

		time.Sleep(2 * stretched) // nobody has a lease any more
		w.handOver()
		if s := w.now(w.settle(w.change(orgA))); s.err != nil {
			t.Error(s.err)
		}
		// A leader that dies without a word is waited for, whatever was recorded before it.
		w.join("e", 1).renew()
		w.depose()
		w.lead()
		began := w.since()
		w.join("e", 1).catchUp()
		if s := <-w.settle(w.change(orgB)); s.at != began+stretched {
			t.Errorf("settled at %v, want %v", s.at, began+stretched)
		}
	})
}

// TestWhoHoldsALeaseIsNotKnown in a hold-down: nothing is listed, and the next leader waits.
func TestWhoHoldsALeaseIsNotKnown(t *testing.T) {
	inWorld(t, usual, openRecord(lease), func(w *world) {
		t := w.t
		w.lead()
		time.Sleep(stretched - 1)
		if err := w.hub.Yield(t.Context(), ""); err == nil || w.record().GetListed() || !w.record().GetOpen() {
			t.Errorf("%v; the record: %v", err, w.record())
		}
		w.depose()
		w.lead()
		began := w.since()
		if s := <-w.settle(w.change(orgA)); s.at != began+stretched {
			t.Errorf("settled at %v, want %v", s.at, began+stretched)
		}
	})
}

// TestAHandoverThatFails is taken back: no lease is given before the record says open, and
// the list is gone, for it says nothing of the leases that are given after.
func TestAHandoverThatFails(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		w.lead()
		p := w.join("e", 1)
		p.renew()
		if err := w.hub.Yield(t.Context(), "a2:7071"); err != nil {
			t.Fatal(err)
		}
		w.refuse = 1
		go w.hub.Resume()
		synctest.Wait()
		if p.renew() != nil || w.hub.Leading() {
			t.Error("a lease is granted while the record lists who has one")
		}
		time.Sleep(recordRetry)
		synctest.Wait()
		if p.renew() == nil || !w.hub.Leading() || !w.record().GetOpen() || w.record().GetListed() {
			t.Errorf("not taken back: %v", w.record())
		}
		w.depose()
		if last := p.frames(); last[len(last)-1].GetGoodbye().GetLeaderAddress() != "" {
			t.Error("edges are sent to where the leadership did not go")
		}
		w.lead()
		began := w.since()
		w.join("e", 1).catchUp()
		if s := <-w.settle(w.change(orgA)); s.at != began+stretched {
			t.Errorf("settled at %v, want %v", s.at, began+stretched)
		}

		// A node that stops does not begin again.
		p = w.join("e", 1)
		p.catchUp()
		if p.renew() == nil {
			t.Fatal("no grant")
		}
		if w.hub.Stop(t.Context()); !w.record().GetListed() {
			t.Errorf("the record at the end: %v", w.record())
		}
		w.hub.Resume()
		if w.hub.Leading() || !w.record().GetOpen() {
			t.Error("a node that stops takes sessions again")
		}
	})
}

// TestAnEdgeMovesWithALongerLease than the new leader gives: it is waited for to that one's
// end, and the record keeps the longer times until then, whoever has moved.
func TestAnEdgeMovesWithALongerLease(t *testing.T) {
	longer := Times{Lease: 5 * time.Second, CacheTTL: time.Minute, Bound: 0.01}
	shorter := func(w *world) { // the next node has other settings
		w.yield()
		w.depose()
		w.elsewhere()
		w.hub.cfg.Times.Lease = time.Second
		w.lead()
	}
	inWorld(t, longer, nil, func(w *world) {
		t := w.t
		w.lead()
		w.join("e", 1).renew()
		shorter(w)
		began := w.since()
		w.join("e", 1).catchUp()
		p := w.join("e", 1) // its debts pass to the newer session, and its lease is no shorter
		p.catchUp()
		p.hangUp()
		if s := <-w.settle(w.change(orgA)); s.at != began+longer.Stretched() {
			t.Errorf("settled at %v with a lease of the leader before to %v", s.at, began+longer.Stretched())
		}
	})
	inWorld(t, longer, nil, func(w *world) {
		t := w.t
		w.lead()
		w.join("e", 1).renew()
		shorter(w)
		w.join("e", 1).catchUp()
		time.Sleep(longer.Stretched() - time.Second)
		if got := times(w.record()).Lease; got != longer.Lease {
			t.Errorf("a lease of %v is recorded while one of %v is out", got, longer.Lease)
		}
		w.depose() // without a word
		w.lead()
		began := w.since()
		if s := <-w.settle(w.change(orgA)); s.at != began+longer.Stretched() {
			t.Errorf("the next leader settled at %v, want %v", s.at, began+longer.Stretched())
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if got := times(w.record()).Lease; got != time.Second {
			t.Errorf("a lease of %v is recorded when no longer one is out", got)
		}
	})
}

// TestAHandoverTakenBackTooLate: a Resume that is overtaken by a later list gives no lease,
// wherever it is by then.
func TestAHandoverTakenBackTooLate(t *testing.T) {
	for name, f := range map[string]func(w *world){
		"it begins while a list is on its way": func(w *world) {
			w.duringNext(w.hub.Resume)
			w.yield()
		},
		"a list is made while its record is on its way": func(w *world) {
			w.yield()
			w.duringNext(func() {
				w.hub.Resume() // of the next attempt
				w.yield()
			})
			w.hub.Resume()
		},
		"the node stops while its record is on its way": func(w *world) {
			w.yield()
			w.duringNext(func() { w.hub.Stop(w.t.Context()) })
			w.hub.Resume()
		},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, usual, nil, func(w *world) {
				t := w.t
				w.lead()
				p := w.join("e", 1)
				p.renew()
				f(w)
				time.Sleep(2 * recordRetry)
				synctest.Wait()
				if p.renew() != nil || w.hub.Leading() {
					t.Errorf("a lease is granted after the last list was made; the record: %v", w.record())
				}
				stops := w.hub.reign.final
				w.hub.Resume()
				if (p.renew() == nil) != stops || !w.record().GetOpen() || w.record().GetListed() && !stops {
					t.Errorf("the last hand-over is not taken back; the record: %v", w.record())
				}
			})
		})
	}
}

// TestManyHolders: a list that is too long is none.
func TestManyHolders(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		w.lead()
		r := w.hub.reign
		r.inherited, r.inheritedEnd = map[[16]byte]clock.Time{}, w.Now().Add(time.Second)
		for i := range holdersMax + 1 {
			r.inherited[[16]byte{byte(i), byte(i >> 8), byte(i >> 16)}] = r.inheritedEnd
		}
		if err := w.hub.Yield(w.t.Context(), ""); err == nil || w.record().GetListed() {
			w.t.Errorf("%v; %d are listed", err, len(w.record().GetHolders()))
		}
	})
}

// TestQuiet waits for what the edges have not acknowledged.
func TestQuiet(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		w.lead()
		p := w.join("e", 1)
		index := w.change(orgA)
		synctest.Wait()
		quiet := make(chan struct{})
		go func() {
			w.hub.Quiet(w.t.Context())
			close(quiet)
		}()
		synctest.Wait()
		select {
		case <-quiet:
			w.t.Error("an edge has not acknowledged")
		default:
		}
		p.ack(index)
		<-quiet
		w.hub.Quiet(w.t.Context())
	})
}
