package hub

import (
	"errors"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"machineid/authority/state"
	"machineid/raftstore"
	"machineid/shared/clock"
	"machineid/shared/link"
)

// TestHelloIsBookedAsAFullLease: the process may hold one from an earlier session
// (I1.2). A mutant that books nothing settles at once.
func TestHelloIsBookedAsAFullLease(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		w.lead()
		time.Sleep(time.Second)
		p := w.join("e", 1)
		if got := w.left("e"); got != stretched {
			t.Errorf("%v is booked, want %v", got, stretched)
		}
		joined := w.since()
		c := w.settle(w.change(orgA))
		w.waits(c)
		p.hangUp()
		if s := <-c; s.at != joined+stretched || s.p.Expired != 1 {
			t.Errorf("settled at %v: %+v, want %v", s.at, s.p, joined+stretched)
		}
	})
}

// TestGrantsCountFromTheProof: D - (r - v0), booked until v0 + S, and nothing
// without a proof that is younger than D (I1.2).
func TestGrantsCountFromTheProof(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		var proved atomic.Bool
		w.store.set(func(s *fakeStore) {
			s.confirm = func() (uint64, error) {
				if proved.Load() {
					return 1, nil
				}
				return 0, errors.New("no quorum")
			}
		})
		w.lead()
		p := w.join("e", 1)
		if g := p.renew(); g != nil {
			t.Errorf("granted %v without a proof", g)
		}
		time.Sleep(50 * time.Millisecond)
		proved.Store(true)
		time.Sleep(260 * time.Millisecond) // a round at 300 ms
		proved.Store(false)
		proof := 300 * time.Millisecond
		for _, at := range []time.Duration{310 * time.Millisecond, time.Second, 3*time.Second + 299*time.Millisecond} {
			time.Sleep(at - w.since())
			asked := w.Now()
			g := p.renew()
			want := lease - (at - proof)
			if g.GetGrantedNs() != int64(want) || g.GetAskedAtNs() != int64(asked) || g.GetNowMs() != time.Now().UnixMilli() {
				t.Errorf("at %v: granted %v, want %v", at, g, want)
			}
			if end := w.since() + w.left("e"); end != max(proof, 0)+stretched {
				t.Errorf("at %v: booked until %v, want %v", at, end, proof+stretched)
			}
		}
		time.Sleep(proof + lease - w.since())
		if g := p.renew(); g != nil {
			t.Errorf("granted %v by a proof of D ago", g)
		}
	})
}

// TestAGrantIsNeverMoreThanALease, however long it stalls between reading the clock and booking: the proof is then from after the reading.
func TestAGrantIsNeverMoreThanALease(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		w.lead()
		p := w.join("e", 1)
		for _, d := range []time.Duration{0, time.Second, 20 * time.Second} {
			p.frames()
			asked := int64(w.Now())
			w.stall.Store(int64(d))
			w.hub.grant(w.one("e"), asked) // all others wait for the time, so it is the one that stalls
			synctest.Wait()
			got := p.frames()
			if len(got) != 1 || got[0].GetGrant() == nil {
				t.Fatalf("after a stall of %v: %v", d, got)
			}
			if g := time.Duration(got[0].GetGrant().GetGrantedNs()); g > lease || d == 0 && g < lease/2 {
				t.Errorf("after a stall of %v it grants %v", d, g)
			}
		}
	})
}

// TestAProofOfAnotherTermIsNone: the round must ask for this reign's term.
func TestAProofOfAnotherTermIsNone(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		w.store.set(func(s *fakeStore) { s.confirm = func() (uint64, error) { return 2, nil } })
		w.lead()
		if g := w.join("e", 1).renew(); g != nil {
			t.Errorf("granted %v", g)
		}
	})
}

// TestAGrantSaysHowFarTheSessionIsTold (I6).
func TestAGrantSaysHowFarTheSessionIsTold(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		w.lead()
		p := w.join("e", 1)
		if got := p.frames()[0].GetWelcome().GetIndex(); got != w.index {
			t.Errorf("welcomed at %d, want %d", got, w.index)
		}
		index := w.change(orgA)
		synctest.Wait()
		if g := p.renew(); g.GetIndex() != index {
			t.Errorf("granted at %d, want %d", g.GetIndex(), index)
		}
	})
}

// TestAGrantDoesNotRunAheadOfTheDispatch: what is applied and not queued yet, an edge must not be told to have (I6). With such an index
// it would resume behind an invalidation that it never saw.
func TestAGrantDoesNotRunAheadOfTheDispatch(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		w.lead()
		p := w.join("e", 1)
		before := p.renew().GetIndex()
		w.stop() // of the dispatch
		<-w.done
		if w.change(orgA) <= before {
			w.t.Fatal("nothing was applied")
		}
		synctest.Wait()
		if got := p.renew().GetIndex(); got != before {
			w.t.Errorf("granted at %d, and told up to %d", got, before)
		}
	})
}

// TestASessionThatBrokeCounts until its lease's end: the edge may answer (I2).
func TestASessionThatBrokeCounts(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		w.lead()
		p := w.join("e", 1)
		time.Sleep(time.Second)
		p.renew()
		booked := w.since() + w.left("e")
		p.hangUp()
		synctest.Wait()
		time.Sleep(time.Second)
		c := w.settle(w.change(orgA))
		if s := <-c; s.at != booked || s.p.Edges != 1 || s.p.Expired != 1 || s.p.Confirmed != 0 {
			t.Errorf("%+v at %v, want %v", s.p, s.at, booked)
		}
		time.Sleep(lease / 5)
		if list := w.hub.Sessions(); len(list) != 0 {
			t.Errorf("%v are not forgotten", list)
		}
		if s := w.now(w.settle(w.change(orgA))); s.p.Edges != 0 {
			t.Errorf("%+v after it was forgotten", s.p)
		}
	})
}

// TestTheSameProcessSettlesWhatItOwed by the first acknowledgement of its next
// session, at which it has dropped its memory; another process does not (I2).
func TestTheSameProcessSettlesWhatItOwed(t *testing.T) {
	for _, broken := range []bool{true, false} {
		inWorld(t, usual, nil, func(w *world) {
			t := w.t
			w.lead()
			p := w.join("e", 1)
			if broken {
				p.hangUp()
				synctest.Wait()
			}
			end := w.since() + w.left("e")
			index := w.change(orgA)
			c := w.settle(index)

			replacement := w.join("e", 2)
			replacement.ack(index)
			w.waits(c)

			next := w.join("e", 1)
			if !p.over() {
				t.Error("the process has two sessions")
			}
			w.waits(c)
			next.ack(index - 1)
			w.waits(c)
			next.ack(index)
			if s := w.now(c); s.p.Edges != 1 || s.p.Confirmed != 1 || s.at >= end {
				t.Errorf("%+v at %v", s.p, s.at)
			}
		})
	}
}

// TestADebtKeepsItsLeaseEnd when it passes to the next session.
func TestADebtKeepsItsLeaseEnd(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		w.lead()
		p := w.join("e", 1)
		end := w.since() + w.left("e")
		c := w.settle(w.change(orgA))
		time.Sleep(time.Second)
		next := w.join("e", 1)
		next.renew()
		if p.renew() != nil {
			t.Error("a replaced session is granted a lease")
		}
		p.ack(1 << 40)
		if s := <-c; s.at != end {
			t.Errorf("settled at %v, want %v", s.at, end)
		}
	})
}

// TestGivingBack settles at once, and nothing is granted or told any more. A
// mutant that goes on granting would let the edge answer from an old memory.
func TestGivingBack(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		w.lead()
		p := w.join("e", 1)
		p.renew()
		c := w.settle(w.change(orgA))
		w.waits(c)
		p.tell(&link.ToAuthority{
			Renew: &link.Renew{AskedAtNs: 1}, Ack: &link.Ack{GaveBack: true}, // in one frame: the Renew is read first
		})
		if s := w.now(c); s.p.Confirmed != 1 {
			t.Errorf("%+v", s.p)
		}
		if left := w.left("e"); left != 0 {
			t.Errorf("%v of the lease are left", left)
		}
		if g := p.renew(); g != nil {
			t.Errorf("granted %v", g)
		}
		if s := w.now(w.settle(w.change(orgA))); s.p.Edges != 0 {
			t.Errorf("%+v", s.p)
		}
		close(p.up) // it has said all
		synctest.Wait()
		if err := <-p.ended; err != nil {
			t.Errorf("the session ended with %v", err)
		}
	})
}

// TestAnEdgeThatDoesNotRead loses its session, and the queue stays bounded.
func TestAnEdgeThatDoesNotRead(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		w.lead()
		p := w.joinHoldingAll("e", 1)
		p.deaf = true
		big := make([]state.Concern, 10_000)
		for i := range big {
			big[i] = state.Concern{Kind: state.ConcernKey, Key: [32]byte{byte(i), byte(i >> 8), 1}}
		}
		w.hub.mu.Lock()
		s := slices.Collect(maps.Keys(w.hub.reign.sessions))[0]
		w.hub.mu.Unlock()
		n := 0
		for ; n < 1000 && !p.over(); n++ {
			w.mu.Lock()
			w.index++
			w.hub.Notify(w.index, big)
			w.mu.Unlock()
			s.mu.Lock()
			if s.bytes > queueMax+16+8*len(big) {
				t.Fatalf("%d bytes are queued", s.bytes)
			}
			s.mu.Unlock()
		}
		if !p.over() || n < 90 {
			t.Errorf("after %d changes of 80 KB: over %v", n, p.over())
		}
		if s.bytes != 0 || s.invals != nil {
			t.Errorf("%d bytes are kept for a session that has ended", s.bytes)
		}
		c := w.settle(w.index)
		w.waits(c) // it counts until its lease's end
	})
}

// TestFetchesBeyondTheLimit are answered unavailable at once, and renewals go on
// while the others are under way.
func TestFetchesBeyondTheLimit(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		disk := make(chan struct{})
		w.store.set(func(s *fakeStore) {
			s.view = func() (*raftstore.View, error) {
				<-disk
				return nil, errors.New("slow and broken")
			}
		})
		w.lead()
		p := w.join("e", 1)
		ask := func(from, n uint64) *link.ToAuthority {
			f := &link.ToAuthority{}
			for i := range n {
				f.Fetches = append(f.Fetches, &link.Fetch{Id: from + i, KeyHash: make([]byte, 32)})
			}
			return f
		}
		p.tell(ask(1, fetchMax-1))
		p.tell(ask(5000, 1))
		p.frames()
		p.tell(ask(6000, 2))
		answers := func() (ids []uint64) {
			for _, f := range p.frames() {
				for _, a := range f.GetAnswers() {
					if !a.GetUnavailable() {
						t.Errorf("answered %v", a)
					}
					ids = append(ids, a.GetId())
				}
			}
			return ids
		}
		if ids := answers(); len(ids) != 2 || ids[0] != 6000 || ids[1] != 6001 {
			t.Errorf("answered %v", ids)
		}
		if p.renew() == nil {
			t.Error("no grant while fetches are under way")
		}
		close(disk)
		synctest.Wait()
		if ids := answers(); len(ids) != fetchMax {
			t.Errorf("%d of %d were answered", len(ids), fetchMax)
		}
		p.tell(ask(7000, 2*fetchMax)) // more than fits: taken as all there is room for
		if ids := answers(); len(ids) != 2*fetchMax {
			t.Errorf("%d of %d were answered", len(ids), 2*fetchMax)
		}
	})
}

// TestAGrantRacesWithStop: whatever comes first, a lease that is out is seen, or
// is not given. Not in a bubble: real goroutines race.
func TestAGrantRacesWithStop(t *testing.T) {
	r := &reign{}
	r.proof.Store(int64(time.Hour))
	z := &horizon{time: func() (int64, bool) { return 1, true }}
	granted := 0
	for range 2000 {
		s := &session{reign: r, wake: make(chan struct{}, 1), cancel: func() {}}
		begin, done := make(chan struct{}), make(chan bool)
		go func() {
			<-begin
			done <- s.renew(1, clock.Time(time.Hour), usual, z, 0)
		}()
		close(begin)
		mayAnswer := s.stop(clock.Time(time.Hour)) > 0
		got := <-done
		if got != mayAnswer {
			t.Fatalf("granted %v, and Stop thinks it may answer: %v", got, mayAnswer)
		}
		if s.renew(1, clock.Time(time.Hour), usual, z, 0) {
			t.Fatal("granted after Stop")
		}
		if got {
			granted++
		}
	}
	t.Logf("%d of 2000 were granted", granted)
}

// TestTokensFollowSessions: the API asks who forwards a request.
func TestTokensFollowSessions(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		w.lead()
		p := w.join("e", 1)
		token := p.frames()[0].GetWelcome().GetProxyToken()
		if got := w.hub.Edge(token); got != "e" || len(token) < 20 {
			t.Errorf("token %q is of %q", token, got)
		}
		next := w.join("e", 1)
		if got := w.hub.Edge(token); got != "" {
			t.Errorf("the token of a replaced session is of %q", got)
		}
		token = next.frames()[0].GetWelcome().GetProxyToken()
		next.hangUp()
		synctest.Wait()
		if got := w.hub.Edge(token) + w.hub.Edge(""); got != "" {
			t.Errorf("the token of an ended session is of %q", got)
		}
	})
}
