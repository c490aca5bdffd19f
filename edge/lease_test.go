package edge

import (
	"bufio"
	"encoding/json"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"machineid/shared/clock"
	"machineid/shared/link"
)

// until sleeps until the edge's clock reads at.
func (w *world) until(at clock.Time) {
	time.Sleep(at.Sub(w.a.Now()))
}

// TestWithoutALeaseNothingIsAnswered: not what is cached, nor a fresh answer (I1).
// The second half is the proof that the first can fail: with grants it answers.
func TestWithoutALeaseNothingIsAnswered(t *testing.T) {
	for _, grants := range []bool{false, true} {
		inWorld(t, func(w *world) {
			t := w.t
			w.start()
			w.want("d", "ALLOW", false)
			w.a.set(func() {
				if !grants {
					w.a.grant = func(*link.Renew) *link.Grant { return nil }
				}
			})
			end := clock.Time(w.e.lease.Load())
			w.until(end - 1)
			w.want("d", "ALLOW", true)
			if grants {
				time.Sleep(testLease)
				w.want("d", "ALLOW", true)
				return
			}
			w.until(end)
			w.want("d", "SYSTEM_UNAVAILABLE", false)
			// An answer to a fetch that was sent in time lands, and does not count.
			m := w.e.memory.Load()
			q := question{sum: w.key.Hash(), device: []byte("d")}
			code, _ := m.judge(&q, w.a.Now(), 1, nil)
			if got := w.e.recall(&q, time.Now()); got != 0 || code == 0 {
				t.Errorf("recall says %v; memory alone would say %v", got, code)
			}
			if why := strings.Join(w.e.Ready(), " "); !strings.Contains(why, "lease") {
				t.Errorf("it is not ready because of %q", why)
			}
		})
	}
}

// TestTheClockIsReadWhenARequestIsThere, with the last byte of its body, however that comes: not when its connection began to wait for it, nor when its head
// came. The reading must not be from before the question was put. Mutants that take the connection's time, or the head's, answer from a lease that has run out.
func TestTheClockIsReadWhenARequestIsThere(t *testing.T) {
	const one, several, body = "devices/validate", "devices/validate_batch", `{"deviceId":"d"}`
	for name, shape := range map[string]struct{ call, headers, first, rest string }{
		"at once":           {one, "Content-Length: 16", "", body},
		"in two":            {one, "Content-Length: 16", body[:15], body[15:]},
		"large":             {one, "Content-Length: 9000", `{"deviceId":`, strings.Repeat(" ", 9000-16) + `"d"}`},
		"large, last byte":  {one, "Content-Length: 9000", `{"deviceId":"d"` + strings.Repeat(" ", 9000-16), "}"},
		"chunked":           {one, "Transfer-Encoding: chunked", "", "10\r\n" + body + "\r\n0\r\n\r\n"},
		"chunked, its end":  {one, "Transfer-Encoding: chunked", "10\r\n" + body + "\r\n", "0\r\n\r\n"},
		"expecting":         {one, "Expect: 100-continue\r\nContent-Length: 16", "", body},
		"expecting, large":  {one, "Expect: 100-continue\r\nContent-Length: 9000", "", strings.Repeat(" ", 9000-16) + body},
		"several":           {several, "Content-Length: 19", "", `{"deviceIds":["d"]}`},
		"several, large":    {several, "Content-Length: 9000", "", strings.Repeat(" ", 9000-19) + `{"deviceIds":["d"]}`},
		"several, in parts": {several, "Transfer-Encoding: chunked", "", "13\r\n" + `{"deviceIds":["d"]}` + "\r\n0\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				t := w.t
				w.start()
				c, err := w.http.Dial()
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = c.Close() }()
				r := bufio.NewReader(c)
				head := "POST /api/v1/" + shape.call + " HTTP/1.1\r\nHost: edge\r\nX-Org-Key: " + w.key.Reveal() + "\r\n" + shape.headers + "\r\n\r\n"
				ask := func(pause time.Duration) string {
					_, _ = io.WriteString(c, head+shape.first)
					time.Sleep(pause)
					_, _ = io.WriteString(c, shape.rest)
					for {
						resp, err := http.ReadResponse(r, nil)
						if err != nil {
							t.Fatal(err)
						}
						if resp.StatusCode == http.StatusContinue {
							continue
						}
						var a struct {
							answer

							Decisions []answer
						}
						err = json.NewDecoder(resp.Body).Decode(&a)
						if _ = resp.Body.Close(); err != nil {
							t.Error(err)
						}
						for _, one := range a.Decisions {
							a.Code = one.Code
						}
						return a.Code
					}
				}
				ask(0)
				synctest.Wait()
				w.a.set(func() { w.a.grant = func(*link.Renew) *link.Grant { return nil } })
				end := clock.Time(w.e.lease.Load())
				w.until(end - clock.Time(time.Second))
				if got := ask(0); got != "ALLOW" {
					t.Errorf("under the lease: %s", got)
				}
				if got := ask(time.Second); got != "SYSTEM_UNAVAILABLE" {
					t.Errorf("the body came at the lease's end: %s", got)
				}
				w.a.set(func() { w.a.grant = nil })
				time.Sleep(2 * testLease)
				if got := ask(0); got != "ALLOW" {
					t.Errorf("under a new lease: %s", got)
				}
				w.a.set(func() { w.a.grant = func(*link.Renew) *link.Grant { return nil } })
				time.Sleep(testLease)
				if got := ask(0); got != "SYSTEM_UNAVAILABLE" {
					t.Errorf("on a connection that waited through the lease's end: %s", got)
				}
			})
		})
	}
}

// TestAnswersWithoutAGrant: an authority that answers fetches and grants nothing.
func TestAnswersWithoutAGrant(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.a.grant = func(*link.Renew) *link.Grant { return nil }
		w.run()
		w.want("d", "SYSTEM_UNAVAILABLE", false)
		m := w.e.memory.Load()
		fl := m.flights.Load().join(need{kind: needKey, hash: 1}, &question{sum: w.key.Hash(), device: []byte("d")}, w.a.Now())
		<-fl.done
		if fl.got == nil || fl.got.device == nil {
			t.Fatal("nothing was fetched, so this proves nothing")
		}
		w.want("d", "SYSTEM_UNAVAILABLE", false)
	})
}

// TestALeaseCountsFromWhenItWasAsked, on the edge's clock, however long the grant
// was on its way (I1.3). The forged grant is what a mutant that counts from the
// answer would make of it.
func TestALeaseCountsFromWhenItWasAsked(t *testing.T) {
	for _, forged := range []time.Duration{0, 700 * time.Millisecond} {
		inWorld(t, func(w *world) {
			t := w.t
			var asked []clock.Time
			w.a.grant = func(r *link.Renew) *link.Grant {
				asked = append(asked, clock.Time(r.GetAskedAtNs()))
				return nil
			}
			w.run()
			if len(asked) != 1 || asked[0] > w.a.Now() {
				t.Fatalf("asked at %v, it is %v", asked, w.a.Now())
			}
			time.Sleep(700 * time.Millisecond)
			g := &link.Grant{AskedAtNs: int64(asked[0]) + int64(forged), GrantedNs: int64(testLease), NowMs: 1}
			w.a.say(&link.ToEdge{Grant: g})
			synctest.Wait()
			want := asked[0].Add(testLease)
			if got := clock.Time(w.e.lease.Load()); (got == want) != (forged == 0) {
				t.Errorf("the lease ends at %v, want %v", got, want)
			}
			w.want("d", "ALLOW", false)
			w.until(want)
			if got := w.validate("d").Code; (got == "ALLOW") != (forged != 0) {
				t.Errorf("at the lease's end: %s", got)
			}
		})
	}
}

// TestAGrantOfMoreThanALeaseIsNone: a leader that says how long its leases are gives no longer one, and none for a time that has not begun.
func TestAGrantOfMoreThanALeaseIsNone(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.start()
		w.a.set(func() { w.a.grant = func(*link.Renew) *link.Grant { return nil } })
		before := w.e.lease.Load()
		time.Sleep(time.Second)
		for _, c := range []struct {
			granted time.Duration
			taken   bool
		}{{testLease + 1, false}, {22800 * time.Millisecond, false}, {testLease, true}} {
			now := w.a.Now()
			w.a.say(&link.ToEdge{Grant: &link.Grant{AskedAtNs: int64(now), GrantedNs: int64(c.granted), NowMs: 1}})
			want := before
			if c.taken {
				want = int64(now.Add(testLease))
			}
			if got := w.e.lease.Load(); got != want {
				t.Errorf("granted %v, the lease ends at %v, want %v", c.granted, got, want)
			}
		}
	})
	// Nor one that was asked for when nobody can have asked yet: its end would be as far away as its sender likes. Nor one that was never asked for, or of nothing.
	inWorld(t, func(w *world) {
		t := w.t
		w.start()
		w.a.set(func() { w.a.grant = func(*link.Renew) *link.Grant { return nil } })
		before := w.e.lease.Load()
		time.Sleep(time.Second)
		now := int64(w.a.Now())
		for _, g := range []*link.Grant{
			{AskedAtNs: now + 1, GrantedNs: int64(testLease)},
			{AskedAtNs: now + int64(time.Hour), GrantedNs: int64(testLease)},
			{AskedAtNs: now + 1, GrantedNs: 1},
			{AskedAtNs: math.MaxInt64 - int64(testLease), GrantedNs: int64(testLease)},
			{AskedAtNs: math.MaxInt64, GrantedNs: int64(testLease)},
			{AskedAtNs: 0, GrantedNs: int64(testLease)},
			{AskedAtNs: -1, GrantedNs: int64(testLease)},
			{AskedAtNs: math.MinInt64, GrantedNs: int64(testLease)},
			{AskedAtNs: now, GrantedNs: 0},
			{AskedAtNs: now, GrantedNs: -1},
			{AskedAtNs: now, GrantedNs: math.MinInt64},
		} {
			asked := w.e.asked.Load()
			g.NowMs = 1
			w.a.say(&link.ToEdge{Grant: g})
			if got := w.e.lease.Load(); got != before || w.e.asked.Load() != asked {
				t.Errorf("asked for %v from now, granted %v: the lease ends at %v, want %v", g.GetAskedAtNs()-now, g.GetGrantedNs(), got, before)
			}
		}
		w.until(clock.Time(before))
		w.want("d", "SYSTEM_UNAVAILABLE", false)
		now = int64(w.a.Now())
		w.a.say(&link.ToEdge{Grant: &link.Grant{AskedAtNs: now, GrantedNs: int64(testLease), NowMs: 1}}) // asked for just now, it is one
		if got := w.e.lease.Load(); got != now+int64(testLease) {
			t.Errorf("the lease ends at %v, want %v", got, now+int64(testLease))
		}
	})
	// One that says that its leases are for ever gives none of them.
	inWorld(t, func(w *world) {
		w.a.welcome = func(said *link.Welcome) *link.ToEdge {
			said.LeaseNs = math.MaxInt64
			return &link.ToEdge{Welcome: said}
		}
		w.start()
		before := w.e.lease.Load()
		for _, granted := range []time.Duration{grantMax + 1, math.MaxInt64} {
			w.a.say(&link.ToEdge{Grant: &link.Grant{AskedAtNs: int64(w.a.Now()), GrantedNs: int64(granted), NowMs: 1}})
			if got := w.e.lease.Load(); got != before {
				w.t.Errorf("granted %v, the lease ends at %v, want %v", granted, got, before)
			}
		}
	})
}

// TestTheAuthorityMayBeAMillisecondAhead of what its grant says, which is cut to whole ones: what it tells as ended within that is ended here.
func TestTheAuthorityMayBeAMillisecondAhead(t *testing.T) {
	for ends, code := range map[int64]string{1: "DEVICE_NOT_FOUND", 2: "ALLOW"} {
		inWorld(t, func(w *world) {
			w.start()
			w.a.set(func() { w.a.grant = func(*link.Renew) *link.Grant { return nil } })
			said := time.Now().Add(time.Second).UnixMilli() // later than all that was said
			w.a.set(func() { w.a.devices["d"] = &link.DeviceRecord{Known: true, ExpiresAtMs: said + ends} })
			w.want("d", "ALLOW", false)
			// It read its clock when we asked, a moment before its next millisecond.
			w.a.say(&link.ToEdge{Grant: &link.Grant{AskedAtNs: int64(w.a.Now()), GrantedNs: int64(testLease), NowMs: said}})
			time.Sleep(time.Millisecond - 1)
			w.want("d", code, true)
		})
	}
}

// TestAnOlderGrantDoesNotShorten what a newer one gave.
func TestAnOlderGrantDoesNotShorten(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.start()
		end := w.e.lease.Load()
		w.a.say(&link.ToEdge{Grant: &link.Grant{AskedAtNs: int64(w.a.Now()), GrantedNs: 1}})
		synctest.Wait()
		if got := w.e.lease.Load(); got != end {
			t.Errorf("the lease ends at %v, want %v", got, end)
		}
	})
}
