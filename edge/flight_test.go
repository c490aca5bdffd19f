package edge

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"machineid/shared/clock"
	"machineid/shared/link"
)

// hold makes the authority keep back what it answers to fetches.
func (w *world) hold() *[]*link.Fetch {
	held := &[]*link.Fetch{}
	w.a.set(func() {
		w.a.answer = func(f *link.Fetch) *link.Answer {
			*held = append(*held, f)
			return nil
		}
	})
	return held
}

func (w *world) letGo() { w.a.set(func() { w.a.answer = nil }) }

// TestAFloorBeatsAnAnswerThatLandsLate, and a flight that began before a change
// does not answer those that came after it: they get the new record (I3; ways
// others failed, 3). The mutant is an authority that puts old records under a new
// index: both then say ALLOW.
func TestAFloorBeatsAnAnswerThatLandsLate(t *testing.T) {
	key := keyOf(1).Hash()
	for name, c := range map[string]struct {
		change func(a *authority) uint64 // its hash
		code   string
	}{
		"device": {func(a *authority) uint64 { a.devices["d"] = revoked(); return a.device("d") }, "DEVICE_REVOKED"},
		"org": {func(a *authority) uint64 {
			a.orgs[testOrg] = &link.OrgRecord{Known: true, Frozen: true}
			return a.hashing.Org(&testOrg)
		}, "PLAN_FROZEN"},
		"key": {func(a *authority) uint64 {
			a.keys[key] = &link.KeyRecord{OrgId: testOrg[:]}
			return a.hashing.Key((*[32]byte)(&key))
		}, "ORG_NOT_FOUND"},
	} {
		for _, mutant := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, mutant %v", name, mutant), func(t *testing.T) {
				inWorld(t, func(w *world) {
					t := w.t
					w.start()
					held := w.hold()
					before := w.later("d")
					w.a.mu.Lock()
					old := w.a.known((*held)[0]) // read before the change
					w.a.mu.Unlock()

					var hash uint64
					w.a.set(func() { hash = c.change(w.a) })
					w.a.change(t, func() {}, hash)
					after := w.later("d")
					if n := len(*held); n != 1 {
						t.Fatalf("%d fetches; they do not share one", n)
					}
					w.letGo()
					if mutant {
						old.Index += 1000
					}
					w.a.say(&link.ToEdge{Answers: []*link.Answer{old}})
					if got := (<-after).Code; (got == c.code) == mutant {
						t.Errorf("after the change: %s", got)
					}
					<-before // may be either: it was sent before
					if got := w.validate("d").Code; (got == c.code) == mutant {
						t.Errorf("later: %s", got)
					}
				})
			})
		}
	}
}

// TestACachedEntryBelowItsFloorIsFetchedAgain, once.
func TestACachedEntryBelowItsFloorIsFetchedAgain(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.start()
		w.want("d", "ALLOW", false)
		w.a.change(t, func() { w.a.devices["d"] = revoked() }, w.a.device("d"))
		w.want("d", "DEVICE_REVOKED", false)
		w.want("d", "DEVICE_REVOKED", true)
		w.a.change(t, func() { w.a.devices["d"] = active() }, w.a.device("d"))
		w.want("d", "ALLOW", false)
		w.want("d", "ALLOW", true)
		// An Ack without the floor behind it: what the mutant in cmd/machineid forges.
		w.a.set(func() { w.a.devices["d"] = revoked() })
		w.want("d", "ALLOW", true)
	})
}

// TestManyWaitersShareOneFetch (I5).
func TestManyWaitersShareOneFetch(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.start()
		held := w.hold()
		var waiters []<-chan answer
		for range 100 {
			waiters = append(waiters, w.later("d"))
		}
		w.letGo()
		if n := len(*held); n != 1 {
			t.Fatalf("%d fetches", n)
		}
		w.a.release((*held)[0])
		for _, c := range waiters {
			if got := <-c; got.Code != "ALLOW" {
				t.Errorf("%+v", got)
			}
		}
		if n := w.a.fetches(); n != 1 {
			t.Errorf("%d fetches", n)
		}
	})
}

// TestALostAnswerDoesNotPoisonARecord: its flight is asked again while somebody
// wants it. It used to stay for as long as the session.
func TestALostAnswerDoesNotPoisonARecord(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.start()
		w.hold() // and loses
		w.want("d", "SYSTEM_UNAVAILABLE", false)
		w.letGo()
		time.Sleep(askAgain)
		w.want("d", "ALLOW", false)
		if n := len(w.a.heard().hellos); n != 1 {
			t.Errorf("%d sessions", n)
		}
		if fetched := w.a.heard().fetched; len(fetched) != 2 || fetched[0].GetId() != fetched[1].GetId() {
			t.Errorf("fetched %v", fetched)
		}
	})
}

// TestASlowAuthority: an answer that takes longer than a flight is patient still
// lands, and its entry's expiry counts from the first time it was asked.
func TestASlowAuthority(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.start()
		held := w.hold()
		first := w.a.Now()
		for w.a.Now() < first.Add(3*time.Second) {
			w.want("d", "SYSTEM_UNAVAILABLE", false)
		}
		if n := len(*held); n < 3 || n > 4 {
			t.Errorf("asked %d times in 3 s", n)
		}
		w.letGo()
		w.a.release((*held)[0])
		w.a.release((*held)[0]) // the answer to the second time
		w.want("d", "ALLOW", true)
		w.until(first.Add(testTTL))
		w.want("d", "ALLOW", false)
	})
}

// TestFlightsThatNobodyWantsAreForgotten: memory is bounded, whatever the
// authority does.
func TestFlightsThatNobodyWantsAreForgotten(t *testing.T) {
	sent := 0
	f := newFlights(func(*flight) bool { sent++; return true })
	now := clock.Time(time.Hour)
	var first *flight
	for i := range uint64(10_000) {
		fl := f.join(need{kind: needKey, hash: i}, &question{}, now)
		if first == nil {
			first = fl
		}
		now = now.Add(10 * time.Millisecond)
	}
	if n := len(f.byID); n > int((flightLife+askAgain)/(10*time.Millisecond))+1 || n != len(f.byNeed) {
		t.Errorf("%d flights are kept, %d by need", n, len(f.byNeed))
	}
	select {
	case <-first.done:
	default:
		t.Error("who waits for a forgotten flight waits on")
	}
	if f.take(1) != nil {
		t.Error("a forgotten flight lands")
	}
	// One that somebody wants stays.
	want := f.join(need{kind: needOrg, hash: 1}, &question{}, now)
	for range 100 {
		now = now.Add(askAgain)
		f.join(need{kind: needKey, hash: uint64(now)}, &question{}, now)
		if got := f.join(need{kind: needOrg, hash: 1}, &question{}, now); got != want {
			t.Fatal("a flight that is wanted is forgotten")
		}
	}
	f.end()
	if f.join(need{kind: needOrg, hash: 1}, &question{}, now) != nil {
		t.Error("a flight begins after the end")
	}
	<-want.done
}

// TestAFlightGivesBackItsRoom however it ends: what stayed held would be lost to all that ask later.
func TestAFlightGivesBackItsRoom(t *testing.T) {
	const most = 5
	for how, end := range map[string]func(f *flights, hand *handClock){
		"it is forgotten": func(f *flights, hand *handClock) {
			hand.Time = hand.Add(5 * time.Second)
			f.join(need{kind: needOrg, hash: 1}, &question{}, hand.Time)
		},
		"the session ends": func(f *flights, _ *handClock) { f.end() },
	} {
		hand := &handClock{clock.Time(time.Hour)}
		l := newLimits(Limits{UnknownKeys: most, UnknownKeysAddress: most}, hand)
		f := newFlights(func(*flight) bool { return true })
		f.limits = l
		ask := func(i uint64) *flight {
			return f.join(need{kind: needKey, hash: i}, &question{from: netip.MustParseAddr("2001:db8::1")}, hand.Time)
		}
		for i := range uint64(most) {
			if ask(i) == nil {
				t.Fatalf("%s: no room for flight %d", how, i)
			}
		}
		if own, address := l.unknownKeys.Held(), l.unknownKeysAddress.Held(); own != most || address != 2*most {
			t.Errorf("%s: %d and %d are held under way", how, own, address)
		}
		end(f, hand)
		if own, address := l.unknownKeys.Held(), l.unknownKeysAddress.Held(); own != 0 || address != 0 {
			t.Errorf("%s: %d and %d are held still", how, own, address)
		}
	}
}

// TestAFlightThatCannotBeSent is none, and keeps no room: the link is gone.
func TestAFlightThatCannotBeSent(t *testing.T) {
	hand := &handClock{clock.Time(time.Hour)}
	f := newFlights(func(*flight) bool { return false })
	f.limits = newLimits(Limits{UnknownKeys: 5}, hand)
	for range 10 {
		if f.join(need{kind: needKey, hash: 1}, &question{}, hand.Time) != nil {
			t.Fatal("what could not be sent is under way")
		}
	}
	if n := f.limits.unknownKeys.Held(); n != 0 || len(f.byID) != 0 || len(f.byNeed) != 0 {
		t.Errorf("%d are held, %d and %d kept", n, len(f.byID), len(f.byNeed))
	}
}

// TestWhenAFlightIsAskedAgain: after a second, if somebody wants it; and after five in which nobody does it is forgotten.
func TestWhenAFlightIsAskedAgain(t *testing.T) {
	sent, now := 0, clock.Time(time.Hour)
	f := newFlights(func(*flight) bool { sent++; return true })
	first := f.join(need{kind: needKey, hash: 1}, &question{}, now)
	for _, c := range []struct {
		after time.Duration
		want  int
	}{{time.Second - 1, 1}, {time.Second, 2}, {2*time.Second - 1, 2}, {2 * time.Second, 3}} {
		if f.join(need{kind: needKey, hash: 1}, &question{}, now.Add(c.after)) != first || sent != c.want {
			t.Errorf("after %v it was sent %d times, want %d", c.after, sent, c.want)
		}
	}
	asked := now.Add(2 * time.Second)
	for i, c := range []struct {
		after time.Duration
		there bool
	}{{4 * time.Second, true}, {5*time.Second - 1, true}, {5 * time.Second, false}} {
		f.join(need{kind: needKey, hash: uint64(i + 10)}, &question{}, asked.Add(c.after))
		if there := f.byID[first.fetch.GetId()] == first; there != c.there {
			t.Errorf("%v after it was wanted last it is there: %t", c.after, there)
		}
	}
}

// TestADeviceIsAskedForAlone where key and org are known. An org that changes meanwhile
// is asked for after.
func TestADeviceIsAskedForAlone(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.start()
		w.a.set(func() { w.a.devices["d2"] = active() })
		w.want("d", "ALLOW", false)
		synctest.Wait() // ristretto takes its time
		held := w.hold()
		answer := w.later("d2")
		first := (*held)[0]
		if !first.GetDeviceOnly() || first.GetKeyHash() != nil || first.GetDeviceId() != "d2" {
			t.Errorf("asked %v", first)
		}
		w.a.change(t, func() { w.a.orgs[testOrg] = &link.OrgRecord{Known: true, Disabled: true} }, w.a.hashing.Org(&testOrg))
		w.letGo()
		w.a.mu.Lock()
		alone := w.a.known(first)
		w.a.mu.Unlock()
		w.a.say(&link.ToEdge{Answers: []*link.Answer{alone}})
		if a := <-answer; a.Code != "ORG_DISABLED" {
			t.Errorf("answered %v", a)
		}
		fetched := w.a.heard().fetched
		if last := fetched[len(fetched)-1]; last.GetDeviceOnly() || last.GetOrgId() == nil {
			t.Errorf("asked %v for the org", last)
		}
	})
}
