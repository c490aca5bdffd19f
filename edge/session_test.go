package edge

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"machineid/shared/clock"
	"machineid/shared/link"
)

// TestAnOldTermIsRefused: a deposed leader's answers under a newer leader's lease
// would be wrong (I7).
func TestAnOldTermIsRefused(t *testing.T) {
	for _, next := range []uint64{6, 7, 8} {
		inWorld(t, func(w *world) {
			t := w.t
			w.a.term = 7
			w.start()
			w.want("d", "ALLOW", false)
			w.a.set(func() { w.a.term, w.a.devices["d"] = next, revoked() })
			hellos := len(w.a.heard().hellos)
			w.a.breakOff()
			time.Sleep(2 * testLease)
			got := w.validate("d").Code
			if want := map[bool]string{true: "SYSTEM_UNAVAILABLE", false: "DEVICE_REVOKED"}[next < 7]; got != want {
				t.Errorf("term %d after 7: %s, want %s", next, got, want)
			}
			if len(w.a.heard().hellos) == hellos {
				t.Error("it did not even ask")
			}
			if got := w.a.heard().hello.GetTerm(); got != 7 && next <= 7 {
				t.Errorf("its Hello names term %d", got)
			}
		})
	}
}

// TestANewSessionHasAnEmptyMemory, and what the old one's answers bring counts for
// nobody (I7). A mutant that shares the memory says ALLOW.
func TestANewSessionHasAnEmptyMemory(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.start()
		w.want("d", "ALLOW", false)
		w.a.set(func() { w.a.answer = func(*link.Fetch) *link.Answer { return nil } })
		old := w.e.memory.Load()
		fl := old.flights.Load().join(need{kind: needKey, hash: 1}, &question{sum: w.key.Hash(), device: []byte("late")}, w.a.Now())
		synctest.Wait()
		var s *session
		w.e.link.mu.Lock()
		s = w.e.link.session
		w.e.link.mu.Unlock()

		w.a.set(func() {
			w.a.answer = nil
			w.a.devices["d"], w.a.devices["late"] = revoked(), revoked()
		})
		w.a.breakOff()
		select {
		case <-fl.done:
		default:
			t.Error("those that waited for the session wait on")
		}
		if s.fetch(&flight{}) {
			t.Error("a session that is over fetches")
		}
		time.Sleep(time.Second)
		if m := w.e.memory.Load(); m == old || m.floor(1).Load() != 0 {
			t.Fatal("the session has no memory of its own")
		}
		// An answer that is forged past all that: read long ago, kept by the old session.
		late := &flight{key: flightKey{needKey, 1}, done: make(chan struct{})}
		late.fetch = link.Fetch{Id: 99, KeyHash: fl.fetch.GetKeyHash(), DeviceId: "late"}
		late.sent.Store(int64(w.a.Now()))
		got := s.records(&link.Answer{
			Id: 99, Index: 1 << 40, Key: &link.KeyRecord{Known: true, OrgId: testOrg[:]}, Org: &link.OrgRecord{Known: true}, Device: active(),
		}, late)
		s.memory.keep(got, w.a.Now())
		s.answer(&link.Answer{Id: fl.fetch.GetId(), Index: 1 << 40})
		w.e.caches.keys.Wait()
		w.e.caches.orgs.Wait()
		w.e.caches.devices.Wait()
		w.want("late", "DEVICE_REVOKED", false)
		w.want("d", "DEVICE_REVOKED", false)
	})
}

// TestASessionSaysAtOnceWhatIsInForce: with its first frame an edge asks for a lease, and acknowledges all that the Welcome speaks of. A leader waits for that where an
// earlier session of the process has not acknowledged (I2).
func TestASessionSaysAtOnceWhatIsInForce(t *testing.T) {
	for _, reset := range []bool{true, false} {
		inWorld(t, func(w *world) {
			t := w.t
			w.start()
			w.want("d", "ALLOW", false)
			before := w.a.heard()
			w.a.set(func() {
				w.a.index += 5
				w.a.welcome = func(m *link.Welcome) *link.ToEdge {
					m.Reset_ = reset
					return &link.ToEdge{Welcome: m}
				}
			})
			w.a.breakOff()
			for len(w.a.heard().hellos) == len(before.hellos) {
				time.Sleep(time.Millisecond)
			}
			heard := w.a.heard()
			if last := heard.acks[len(heard.acks)-1].GetIndex(); last != 105 || heard.renewals != before.renewals+1 {
				t.Errorf("reset %t: at once it acknowledges %d and asks %d times, want 105 and once", reset, last, heard.renewals-before.renewals)
			}
		})
	}
}

// TestALeaderThatIsNamedIsTriedAtOnce, whether the node that names it turns the edge away or steps down in a session.
func TestALeaderThatIsNamedIsTriedAtOnce(t *testing.T) {
	for _, stepsDown := range []bool{true, false} {
		inWorldOf(t, func(w *world) { w.others = map[string]*authority{"a2": newAuthority()} }, func(w *world) {
			t := w.t
			next := w.others["a2"]
			goodbye := &link.ToEdge{Goodbye: &link.Goodbye{Reason: "not the leader", LeaderAddress: "a2"}}
			if stepsDown {
				w.start()
				w.a.say(goodbye)
			} else {
				w.a.welcome = func(*link.Welcome) *link.ToEdge { return goodbye }
				w.run()
			}
			if n := len(next.heard().hellos); n != 1 {
				t.Errorf("steps down %t: the leader has heard of %d sessions", stepsDown, n)
			}
			if why := w.reasons("link"); why != nil {
				t.Errorf("steps down %t: %v", stepsDown, why)
			}
		})
	}
}

// TestBetweenSessionsTheLeaseRunsOn, and not longer; misses are denied.
func TestBetweenSessionsTheLeaseRunsOn(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.start()
		w.want("d", "ALLOW", false)
		end := clock.Time(w.e.lease.Load())
		w.a.set(func() {
			w.a.welcome = func(*link.Welcome) *link.ToEdge {
				return &link.ToEdge{Goodbye: &link.Goodbye{Reason: "not the leader"}}
			}
		})
		w.a.breakOff()
		w.until(end - clock.Time(time.Millisecond))
		w.want("d", "ALLOW", true)
		w.want("missing", "SYSTEM_UNAVAILABLE", false)
		w.until(end)
		w.want("d", "SYSTEM_UNAVAILABLE", false)
		if why := strings.Join(w.e.Ready(), "; "); !strings.Contains(why, "lease: none") || !strings.Contains(why, "link: no session") {
			t.Errorf("ready: %q", why)
		}
	})
}

// TestPausesBetweenSessionsAreBounded, with jitter.
func TestPausesBetweenSessionsAreBounded(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.a.welcome = func(*link.Welcome) *link.ToEdge { return &link.ToEdge{Goodbye: &link.Goodbye{}} }
		w.run()
		time.Sleep(time.Minute)
		hellos := w.a.heard().hellos
		gaps := map[time.Duration]bool{}
		for i := 1; i < len(hellos); i++ {
			gap := hellos[i] - hellos[i-1]
			gaps[gap] = true
			if gap < minPause/2 || gap > maxPause+20*time.Millisecond || i > 5 && gap < maxPause/2 {
				t.Errorf("pause %d is %v", i, gap)
			}
		}
		if len(gaps) < 10 {
			t.Errorf("pauses have no jitter: %v", gaps)
		}
		// A session that lasted begins anew with the shortest.
		w.a.set(func() { w.a.welcome = nil })
		time.Sleep(5 * time.Second)
		before := time.Since(w.a.began)
		w.a.breakOff()
		time.Sleep(time.Second)
		if gap := w.a.heard().hellos[len(w.a.heard().hellos)-1] - before; gap > minPause {
			t.Errorf("after a session that lasted: %v", gap)
		}
	})
}

// TestAnAuthorityThatGrantsNothingIsLeft for another.
func TestAnAuthorityThatGrantsNothingIsLeft(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.a.grant = func(*link.Renew) *link.Grant { return nil }
		w.run()
		time.Sleep(testLease + 2*time.Second)
		if n := len(w.a.heard().hellos); n < 2 {
			t.Errorf("%d sessions were tried", n)
		}
		w.a.set(func() { w.a.grant = nil })
		time.Sleep(testLease)
		if why := w.e.Ready(); why != nil {
			t.Error(why)
		}
	})
}

// TestASilentLeaderIsLeftInTime: with another node to go to, an edge leaves one that grants nothing before its lease runs out.
func TestASilentLeaderIsLeftInTime(t *testing.T) {
	inWorldOf(t, func(w *world) {
		w.others = map[string]*authority{"a2": newAuthority()}
		w.addresses = []string{"a1", "a2"}
	}, func(w *world) {
		t := w.t
		w.start()
		w.a.set(func() { w.a.grant = func(*link.Renew) *link.Grant { return nil } })
		for range 1000 {
			time.Sleep(10 * time.Millisecond)
			if why := w.reasons("lease"); why != nil {
				t.Fatalf("%v after %v", why, time.Since(w.a.began))
			}
		}
		if n := len(w.others["a2"].heard().hellos); n != 1 {
			t.Errorf("%d sessions with the other", n)
		}
	})
}

// TestAGrantIsOfAMinuteAtMost, however long a lease its Welcome speaks of.
func TestAGrantIsOfAMinuteAtMost(t *testing.T) {
	for granted, want := range map[time.Duration]bool{time.Minute: true, time.Minute + 1: false} {
		inWorld(t, func(w *world) {
			w.a.welcome = func(m *link.Welcome) *link.ToEdge {
				m.LeaseNs = int64(time.Hour)
				return &link.ToEdge{Welcome: m}
			}
			w.a.grant = func(r *link.Renew) *link.Grant {
				return &link.Grant{AskedAtNs: r.GetAskedAtNs(), GrantedNs: int64(granted), NowMs: time.Now().UnixMilli(), Index: 100}
			}
			w.run()
			time.Sleep(time.Second)
			if got := w.reasons("lease") == nil; got != want {
				w.t.Errorf("a grant of %v is taken: %t", granted, got)
			}
		})
	}
}

// TestHostileWelcomes end the session, never the process.
func TestHostileWelcomes(t *testing.T) {
	for name, say := range map[string]func(w *link.Welcome) *link.ToEdge{
		"nothing":           func(*link.Welcome) *link.ToEdge { return &link.ToEdge{} },
		"no hash key":       func(w *link.Welcome) *link.ToEdge { w.HashKey = nil; return &link.ToEdge{Welcome: w} },
		"a long hash key":   func(w *link.Welcome) *link.ToEdge { w.HashKey = make([]byte, 17); return &link.ToEdge{Welcome: w} },
		"no lease":          func(w *link.Welcome) *link.ToEdge { w.LeaseNs = 0; return &link.ToEdge{Welcome: w} },
		"a negative lease":  func(w *link.Welcome) *link.ToEdge { w.LeaseNs = -1; return &link.ToEdge{Welcome: w} },
		"a negative TTL":    func(w *link.Welcome) *link.ToEdge { w.CacheTtlNs = -1; return &link.ToEdge{Welcome: w} },
		"a lease for ever":  func(w *link.Welcome) *link.ToEdge { w.LeaseNs = 1<<63 - 1; return &link.ToEdge{Welcome: w} },
		"a lease of 1 ns":   func(w *link.Welcome) *link.ToEdge { w.LeaseNs = 1; return &link.ToEdge{Welcome: w} }, // a ticker of 0 panics
		"no address":        func(w *link.Welcome) *link.ToEdge { w.HttpAddress = ""; return &link.ToEdge{Welcome: w} },
		"only a Welcome":    func(*link.Welcome) *link.ToEdge { return &link.ToEdge{Welcome: &link.Welcome{}} },
		"a Grant with none": func(*link.Welcome) *link.ToEdge { return &link.ToEdge{Grant: &link.Grant{GrantedNs: 1 << 60}} },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				t := w.t
				w.a.welcome = say
				w.run()
				time.Sleep(2 * time.Second)
				// Only calls that are passed on need the address. A grant of more than the leases are is none.
				good := name == "no address" || name == "a lease for ever"
				if got := w.validate("d").Code; (got == "SYSTEM_UNAVAILABLE") == good {
					t.Errorf("%s", got)
				}
				w.a.set(func() { w.a.welcome = nil })
				w.a.breakOff()
				time.Sleep(2 * time.Second)
				if got := w.validate("d").Code; got != "ALLOW" {
					t.Errorf("afterwards: %s", got)
				}
			})
		})
	}
}

// TestTheEndGivesTheLeaseBack, always, and the authority has read it: to end the
// stream at once could overtake it.
func TestTheEndGivesTheLeaseBack(t *testing.T) {
	for range 20 {
		inWorld(t, func(w *world) {
			t := w.t
			w.start()
			w.want("d", "ALLOW", false)
			began := time.Now()
			w.end()
			if n := len(w.a.heard().acks); n == 0 || !w.a.heard().acks[n-1].GetGaveBack() {
				t.Errorf("the authority has read %v", w.a.heard().acks)
			}
			if n := len(w.a.heard().hellos); n != 1 {
				t.Errorf("%d sessions: a new Hello is booked as a full lease", n)
			}
			if w.e.lease.Load() != 0 {
				t.Error("it holds a lease")
			}
			if took := time.Since(began); took > 500*time.Millisecond { // the authority has ended the session, and nobody waited for longer
				t.Errorf("it took %v", took)
			}
			if why := strings.Join(w.e.Ready(), " "); !strings.Contains(why, "draining") {
				t.Errorf("ready: %q", why)
			}
		})
	}
}

// TestAGrantAfterGivingBackIsIgnored: the authority counts on it.
func TestAGrantAfterGivingBackIsIgnored(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.start()
		w.want("d", "ALLOW", false)
		w.e.link.mu.Lock()
		s := w.e.link.session
		w.e.link.mu.Unlock()
		s.mu.Lock()
		s.returned = true
		w.e.lease.Store(0)
		s.mu.Unlock()
		w.a.say(&link.ToEdge{Grant: &link.Grant{AskedAtNs: int64(w.a.Now()), GrantedNs: int64(testLease)}})
		synctest.Wait()
		if w.e.lease.Load() != 0 {
			t.Error("it has a lease again")
		}
		if s.fetch(&flight{}) {
			t.Error("it fetches")
		}
		w.want("d", "SYSTEM_UNAVAILABLE", false)
	})
}

// TestTheEndWithoutAnAuthority does not hang.
func TestTheEndWithoutAnAuthority(t *testing.T) {
	for name, hang := range map[string]bool{"gone": false, "silent": true} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				t := w.t
				if hang {
					w.start()
					w.a.current.mu.Lock() // it says nothing any more
					defer w.a.current.mu.Unlock()
				} else {
					w.a.server.Stop()
					w.run()
					time.Sleep(time.Second)
				}
				began := time.Now()
				w.end()
				if took := time.Since(began); took > 2*time.Second {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}
