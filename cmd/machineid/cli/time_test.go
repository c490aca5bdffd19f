//go:build unix

package cli

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"machineid/authority/billing/stripetest"
	"machineid/internal/testkit/bubble"
)

// What time ends (I11), in worlds whose clocks are as far off as they may be.

// skew is what is wrong with the clocks of a world: the rates of the authority's and the edge's, and by how much the authority's
// wall clock is set before something ends.
type skew struct {
	authority, edge float64
	step            time.Duration
	long            bool // only in long forms
}

var skews = map[string]skew{
	"all clocks are right":                 {1, 1, 0, true},
	"the edge's clock is slow":             {1 + bound, 1 - bound, 0, false},
	"the edge's clock is fast":             {1 - bound, 1 + bound, 0, true},
	"the wall clock is set forward":        {1, 1, 5 * time.Second, true},
	"it is set forward, the edge is slow":  {1 + bound, 1 - bound, 9 * time.Second, false},
	"the wall clock is set back":           {1, 1, -5 * time.Second, true},
	"it is set back, and the edge is fast": {1 - bound, 1 + bound, -9 * time.Second, true},
}

// inEachSkew runs a scenario in worlds of one edge that remembers device d of an org.
func inEachSkew(t *testing.T, scenario func(w *world, e *member, s skew)) {
	t.Helper()
	t.Parallel()
	for name, s := range skews {
		if s.long && os.Getenv("MACHINEID_TEST_TORTURE") == "" {
			continue
		}
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.startAuthority(s.authority)
				w.key = w.change("org/create", "{}").Key
				w.change("devices/register", device("d"))
				r := newRelay(w, 1)
				r.quick = true // what takes time hides that clocks differ
				e := w.startEdge(0, s.edge, r)
				w.remembers(e, 0)
				scenario(w, e, s)
				w.end(e)
				r.server.Stop()
				w.stopAuthority()
				time.Sleep(2 * time.Minute) // for what fasthttp cleans up
			})
		})
	}
}

// remembers waits until the edge says ALLOW, and some time more, another each round: for as long it has not been told the time.
func (w *world) remembers(e *member, round int) {
	w.t.Helper()
	w.until("the edge says ALLOW", func() bool {
		a, _ := w.call(e, "devices/validate", device("d"))
		return a.Code == codeAllow
	})
	time.Sleep(time.Duration(round) * w.times.Lease / 4 / rounds)
}

// rounds are what makes each time since a renewal come up, about.
const rounds = 8

// over wants an end to be in force for all that is sent from now on: an edge says so, or nothing.
func (w *world) over(e *member, what, key, code string) {
	w.t.Helper()
	told := time.Now()
	for pause := time.Nanosecond; time.Since(told) < time.Second; pause = min(2*pause, 20*time.Millisecond) {
		time.Sleep(pause)
		sent := time.Since(told)
		if a, _ := w.do(e, "POST", "devices/validate", device("d"), "X-Org-Key", key); a.Code != code && a.Code != codeUnsure {
			w.t.Errorf("%s: the edge says %s to what is sent %v later, want %s", what, a.Code, sent, code)
			return
		}
	}
}

// TestARotationWithoutGraceIsInForce: it is for a key that leaked. When it has returned no edge takes that key any more.
func TestARotationWithoutGraceIsInForce(t *testing.T) {
	inEachSkew(t, func(w *world, e *member, s skew) {
		for i := range rounds {
			w.remembers(e, i)
			if i == rounds-1 { // once: to be off by more is another fault
				w.ahead.Add(int64(s.step))
			}
			old := w.key
			w.key = w.change("org/keys/rotate", `{"graceSeconds":0}`).Key
			w.over(e, fmt.Sprint("rotation ", i, " had returned"), old, codeUnknownKey)
		}
	})
}

// TestAnEntitlementThatIsEndedIsOver: an operator ends what an org is entitled to by the time of now, or before.
func TestAnEntitlementThatIsEndedIsOver(t *testing.T) {
	inEachSkew(t, func(w *world, e *member, s skew) {
		org, _ := w.do(w.authority(), "GET", "org", "", "X-Org-Key", w.key)
		set := func(until string) {
			w.until("the org is changed", func() bool {
				_, status := w.do(w.authority(), "PATCH", "operator/orgs/"+org.OrgID, `{"accessUntil":`+until+`}`, "Authorization", "Bearer "+worldToken)
				return status == 200
			})
		}
		for i := range rounds {
			w.remembers(e, i)
			if i == rounds-2 {
				w.ahead.Add(int64(s.step))
			}
			before := time.Duration(i%2) * time.Second
			now := w.wall()
			set(now.Add(-before).UTC().Format(`"2006-01-02T15:04:05.000Z"`))
			if s.step >= 0 { // else its time stands still, before now
				w.over(e, fmt.Sprint("accessUntil had been set to ", before, " ago"), w.key, codeExpired)
			}
			set("null")
		}
	})
}

// TestUnpaidWithoutGraceIsFrozen: when the webhook is answered that somebody does not pay, and no grace is given, the org is frozen.
func TestUnpaidWithoutGraceIsFrozen(t *testing.T) {
	inEachSkew(t, func(w *world, e *member, s skew) {
		say := func() {
			for _, event := range w.stripe.Events() {
				w.until("the webhook is answered", func() bool {
					_, status := w.do(w.authority(), "POST", "webhooks/stripe", string(event), "Stripe-Signature", stripetest.Sign(event, w.wall(), stripetest.WebhookSecret))
					return status == 200
				})
			}
		}
		sub, err := w.stripe.Pay(w.change("billing/checkout", `{"plan":"pro"}`).URL)
		if err != nil {
			w.t.Fatal(err)
		}
		say()
		for i := range rounds {
			w.remembers(e, i)
			if i == rounds-1 {
				w.ahead.Add(int64(s.step))
			}
			w.stripe.Change(sub, func(x *stripetest.Subscription) { x.Status = "past_due" })
			say()
			w.over(e, "that it is past due had been answered", w.key, codeFrozen)
			w.stripe.Change(sub, func(x *stripetest.Subscription) { x.Status = "active" })
			say()
		}
	})
}

// TestAnEndThatIsToldIsOver: in whichever way the authority tells that a device has ended, no edge allows it after that.
func TestAnEndThatIsToldIsOver(t *testing.T) {
	read := func(w *world, path string) (answer, int) {
		return w.do(w.authority(), "GET", path, "", "X-Org-Key", w.key)
	}
	ways := []struct {
		name string
		told func(w *world) bool
	}{
		{"get", func(w *world) bool { _, status := read(w, "devices/get?deviceId=d"); return status == 404 }},
		{"list", func(w *world) bool {
			a, status := read(w, "devices/list")
			return status == 200 && !slices.ContainsFunc(a.Devices, func(d seenDevice) bool { return d.DeviceID == "d" })
		}},
		{"usage", func(w *world) bool { a, status := read(w, "usage"); return status == 200 && a.Used == 2 }},
		{"validate", func(w *world) bool {
			a, _ := w.call(w.authority(), "devices/validate", device("d"))
			return a.Code == codeNotFound
		}},
		{"revoke", func(w *world) bool {
			_, status := w.call(w.authority(), "devices/unrevoke", device("d"))
			return status == 404
		}},
		{"register", func(w *world) bool {
			_, status := w.call(w.authority(), "devices/register", device("another"))
			return status == 200
		}},
	}
	inEachSkew(t, func(w *world, e *member, s skew) {
		for _, id := range []string{"x", "y"} { // the others that may be
			w.change("devices/register", device(id))
		}
		for i, way := range ways {
			w.until("the device is there again", func() bool {
				w.call(w.authority(), "devices/remove", device("another"))
				_, status := w.call(w.authority(), "devices/register", fmt.Sprintf(`{"deviceId":"d","ttlSeconds":%d}`, 2+max(0, s.step/time.Second)))
				return status == 200
			})
			w.remembers(e, i)
			if s.step == 0 {
				time.Sleep(time.Second)
			}
			w.ahead.Add(int64(s.step))
			w.until("it is told by "+way.name, func() bool { return way.told(w) })
			w.over(e, "it had been told by "+way.name, w.key, codeNotFound)
		}
	})
}

// TestTimeGoesOnOverACrash: a leader whose wall clock is ahead has told that a device has ended, and an edge has too. It dies, and the
// next leader's clock is behind: nobody takes it back.
func TestTimeGoesOnOverACrash(t *testing.T) {
	t.Parallel()
	seeds := uint64(1)
	if os.Getenv("MACHINEID_TEST_TORTURE") != "" {
		seeds = 20
	}
	for seed := range seeds {
		bubble.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 1))
			s := newSite(t, rng, 3, 1)
			c := s.caller("c")
			key := ""
			s.until("an org is there", func() bool {
				r := c.call("a1", "POST", "org/create", "{}")
				key = r.Key
				return r.code == 200
			})
			leader := s.leader()
			c.call(leader.id, "POST", "devices/register", `{"deviceId":"d","ttlSeconds":30}`, "X-Org-Key", key)
			registered := s.at()
			for _, n := range s.nodes {
				n.wall.Store(int64(-4 * time.Second))
			}
			leader.wall.Store(int64(5 * time.Second)) // 9 s ahead of all others

			// What the authority says, and each edge, in the order of asking.
			places := []string{"the authority", "e1"}
			ask := func(place string) (ended, known bool) {
				if place != places[0] {
					r := c.call(place, "POST", "devices/validate", device("d"), "X-Org-Key", key)
					return r.Code == codeNotFound, r.Code == codeNotFound || r.Code == codeAllow
				}
				for _, n := range s.nodes {
					if n.proc.Load() == nil {
						continue
					}
					if r := c.call(n.id, "GET", "devices/get?deviceId=d", "", "X-Org-Key", key); r.code == 200 || r.code == 404 {
						return r.code == 404, true
					}
				}
				return false, false
			}
			for _, place := range places {
				s.until(place+" says that it has ended", func() bool { ended, _ := ask(place); return ended })
			}
			if early := 30*time.Second - (s.at() - registered); early < time.Second {
				t.Errorf("seed %d: the clock that is ahead ended it only %v before its time", seed, early)
			}
			s.crash(leader, rng)
			var answers, back [2]int
			for range 160 {
				time.Sleep(50 * time.Millisecond)
				for i, place := range places {
					ended, known := ask(place)
					if known {
						answers[i]++
					}
					if known && !ended {
						back[i]++
					}
				}
			}
			for i, place := range places {
				if back[i] > 0 || answers[i] < 40 {
					t.Errorf("seed %d: %s took it back in %d of %d answers", seed, place, back[i], answers[i])
				}
			}
			s.startNode(leader, false)
			s.until("all nodes are ready", s.nodesReady)
			c.close()
			s.stop()
		})
	}
}

// TestABoundThatIsRaised: a restart with a larger bound on clocks, since the new host's is as bad as that. Leases of before are waited for by it.
func TestABoundThatIsRaised(t *testing.T) {
	t.Parallel()
	step := rounds / 2
	if os.Getenv("MACHINEID_TEST_TORTURE") != "" {
		step = 1
	}
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.startAuthority(1)
		w.key = w.change("org/create", "{}").Key
		w.change("devices/register", device("d"))
		r := newRelay(w, 1)
		e := w.startEdge(0, 1-bound, r)
		for i := 0; i < rounds; i += step {
			w.remembers(e, i)
			w.call(e, "devices/validate", device("d"))
			r.cut.Store(true)
			w.stopAuthority()
			w.times.Bound = 0.1
			w.startAuthority(1.09)
			w.change("devices/revoke", device("d"))
			w.over(e, fmt.Sprint("revoke ", i, " had returned"), w.key, codeRevoked)
			r.cut.Store(false)
			w.stopAuthority()
			w.times.Bound = bound
			w.startAuthority(1)
			w.change("devices/unrevoke", device("d"))
		}
		w.end(e)
		r.server.Stop()
		w.stopAuthority()
		time.Sleep(2 * time.Minute) // for what fasthttp cleans up
	})
}

// TestANewLeaderTellsNoEndTooEarly: it has a later time than the leader that died, and an edge goes on under that one's lease, out of the
// new one's reach. What the new one says of ends, a validate that it answers included, is so at that edge.
func TestANewLeaderTellsNoEndTooEarly(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(1, 1))
		s := newSite(t, rng, 3, 1)
		c := s.caller("c")
		key := ""
		s.until("an org is there", func() bool {
			r := c.call("a1", "POST", "org/create", "{}")
			key = r.Key
			return r.code == 200
		})
		leader := s.leader()
		c.call(leader.id, "POST", "devices/register", `{"deviceId":"d","ttlSeconds":6}`, "X-Org-Key", key)
		says := func(place string) string {
			return c.call(place, "POST", "devices/validate", device("d"), "X-Org-Key", key).Code
		}
		s.until("the edge says ALLOW", func() bool { return says("e1") == codeAllow })
		for _, n := range s.nodes {
			if n != leader {
				n.wall.Store(int64(9 * time.Second))
				s.net.setCut("e1", n.id, true)
				s.net.setCut(n.id, "e1", true)
			}
		}
		s.crash(leader, rng)
		for began := s.at(); s.at()-began < 4*time.Second; time.Sleep(10 * time.Millisecond) {
			for _, n := range s.nodes {
				if n == leader || says(n.id) != codeNotFound {
					continue
				}
				time.Sleep(time.Nanosecond)
				if code := says("e1"); code == codeAllow {
					t.Errorf("%s has told that the device has ended, and then the edge says %s, %v after the leader died", n.id, code, s.at()-began)
					began = -time.Hour // one is enough
					break
				}
			}
		}
		s.net.mend(func(way) bool { return true })
		s.startNode(leader, false)
		s.until("all nodes are ready", s.nodesReady)
		c.close()
		s.stop()
	})
}

// TestARefusalTellsNothingTooEarly: a registration is refused because the org is held, while an edge that cannot be reached does not know
// of that yet. Who is refused is told no sooner than it is so everywhere.
func TestARefusalTellsNothingTooEarly(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.startAuthority(1)
		w.key = w.change("org/create", "{}").Key
		w.change("devices/register", device("d"))
		r := newRelay(w, 1)
		e := w.startEdge(0, 1, r)
		w.remembers(e, 0)
		org, _ := w.do(w.authority(), "GET", "org", "", "X-Org-Key", w.key)
		r.cut.Store(true)
		held := make(chan struct{})
		go func() {
			defer close(held)
			w.do(w.authority(), "PATCH", "operator/orgs/"+org.OrgID, `{"hold":true}`, "Authorization", "Bearer "+worldToken)
		}()
		time.Sleep(100 * time.Millisecond)
		a, status := w.call(w.authority(), "devices/register", device("another"))
		if status == 403 && a.Error == "plan_frozen" {
			w.over(e, "a registration had been refused", w.key, codeFrozen)
		} else if status == 200 {
			t.Errorf("the org is held, and a registration was granted")
		}
		<-held
		r.cut.Store(false)
		w.end(e)
		r.server.Stop()
		w.stopAuthority()
		time.Sleep(2 * time.Minute) // for what fasthttp cleans up
	})
}
