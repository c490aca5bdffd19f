package edge

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valyala/fasthttp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"machineid/shared/link"
	"machineid/shared/wire"
)

// TestALaggingAuthorityIsNotHammered: one that answers from before its own
// invalidation (ways others failed, 4) is asked again with pauses.
func TestALaggingAuthorityIsNotHammered(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.start()
		w.a.change(t, func() {}, w.a.device("d"))
		w.a.set(func() {
			w.a.answer = func(f *link.Fetch) *link.Answer {
				out := w.a.known(f)
				out.Index = 1
				return out
			}
		})
		began := time.Now()
		w.want("d", "SYSTEM_UNAVAILABLE", false)
		if took := time.Since(began); took != DefaultMaxWait {
			t.Errorf("it waited %v", took)
		}
		if n := w.a.fetches(); n < 3 || n > 2+2*int(DefaultMaxWait/retryFetch) {
			t.Errorf("%d fetches", n)
		}
		// It has caught up while one waits.
		c := w.later("d")
		w.letGo()
		if got := <-c; got.Code != "ALLOW" {
			t.Errorf("%+v", got)
		}
	})
}

// TestUnavailableIsNoAnswer: nothing is concluded, and it is asked again soon.
func TestUnavailableIsNoAnswer(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.start()
		n := 0
		w.a.set(func() {
			w.a.answer = func(f *link.Fetch) *link.Answer {
				if n++; n < 4 {
					return &link.Answer{Id: f.GetId(), Index: 1 << 40, Unavailable: true, Device: revoked()}
				}
				return w.a.known(f)
			}
		})
		began := time.Now()
		w.want("d", "ALLOW", false)
		if took := time.Since(began); took < 3*retryFetch || took >= DefaultMaxWait {
			t.Errorf("it took %v", took)
		}
	})
}

// TestHostileAnswers end nothing but a wait. Those with a key for a flight that
// asked for something else made the process panic.
func TestHostileAnswers(t *testing.T) {
	key, org, device := &link.KeyRecord{Known: true, OrgId: testOrg[:]}, &link.OrgRecord{Known: true}, active()
	long := strings.Repeat("x", 17)
	for name, forge := range map[string]func(a *link.Answer){
		"nothing":              func(a *link.Answer) { a.Key, a.Org, a.Device = nil, nil, nil },
		"a key too many":       func(a *link.Answer) { a.Key, a.Org, a.Device = key, org, device },
		"no key":               func(a *link.Answer) { a.Key = nil },
		"only a device":        func(a *link.Answer) { a.Key, a.Org = nil, nil },
		"a key of no org":      func(a *link.Answer) { a.Key = &link.KeyRecord{Known: true} },
		"a short org":          func(a *link.Answer) { a.Key = &link.KeyRecord{Known: true, OrgId: testOrg[:15]} },
		"a long org":           func(a *link.Answer) { a.Key = &link.KeyRecord{Known: true, OrgId: []byte(long)} },
		"another flight's":     func(a *link.Answer) { a.Id += 1000 },
		"an unknown key's org": func(a *link.Answer) { a.Key = &link.KeyRecord{OrgId: []byte(long)} },
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(w *world) {
				t := w.t
				w.start()
				w.want("d", "ALLOW", false)
				forged := func(f *link.Fetch) *link.Answer {
					a := w.a.known(f)
					forge(a)
					return a
				}
				w.a.set(func() { w.a.answer = forged })
				w.validate("by org") // the key is cached: this flight asks by org
				noKey := name == "nothing" || name == "no key" || name == "only a device" || name == "another flight's"
				if got := w.validateWith(keyOf(2), "d").Code; noKey && got != "SYSTEM_UNAVAILABLE" {
					t.Errorf("of a key that no answer tells of: %s", got)
				}
				if got := w.validate("d").Code; got != "ALLOW" {
					t.Errorf("what was cached: %s", got)
				}
				w.letGo()
				time.Sleep(askAgain)
				w.want("fresh", "DEVICE_NOT_FOUND", false)
				if n := len(w.a.heard().hellos); n != 1 {
					t.Errorf("%d sessions", n)
				}
			})
		})
	}
	inWorld(t, func(w *world) {
		t := w.t
		w.start()
		w.want("d", "ALLOW", false)
		for _, f := range []*link.ToEdge{
			{},
			{Invalidates: []*link.Invalidate{{}}},
			{Invalidates: []*link.Invalidate{{Index: 1, Hashes: []uint64{0, ^uint64(0)}}, {Index: 0}}},
			{Answers: []*link.Answer{{}, {Id: 1 << 63}}},
			{Welcome: &link.Welcome{Term: 1 << 60}},
			{Grant: &link.Grant{}},
			{Grant: &link.Grant{AskedAtNs: -1 << 63, GrantedNs: -1}},
		} {
			w.a.say(f)
		}
		w.want("d", "ALLOW", true)
		// An answer before its fetch was sent.
		m := w.e.memory.Load()
		m.flights.Load().send = func(*flight) bool { return true }
		fl := m.flights.Load().join(need{kind: needKey, hash: 5}, &question{sum: keyOf(3).Hash(), device: []byte("d")}, w.a.Now())
		w.a.say(&link.ToEdge{Answers: []*link.Answer{{Id: fl.fetch.GetId(), Index: 1 << 40, Key: key, Org: org, Device: device}}})
		if <-fl.done; fl.got != nil {
			t.Error("it counts")
		}
	})
}

// TestFramesAreBounded: 20,000 may wait for records with long names. In one frame
// their fetches were more than the authority takes, and the session broke.
func TestFramesAreBounded(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.start()
		m := w.e.memory.Load()
		const n = 5*fetchesMax + 1
		m.flights.Load().mu.Lock() // all at once
		s := w.e.link.session
		s.mu.Lock()
		for i := range n {
			fl := &flight{done: make(chan struct{}), fetch: link.Fetch{Id: uint64(i), KeyHash: make([]byte, 32), DeviceId: strings.Repeat("x", 256)}}
			s.fetches = append(s.fetches, fl)
		}
		s.mu.Unlock()
		m.flights.Load().mu.Unlock()
		s.nudge()
		if heard := w.a.heard(); len(heard.fetched) != n || heard.largest != fetchesMax || len(heard.hellos) != 1 {
			t.Errorf("%d fetches, %d in one frame, %d sessions", len(heard.fetched), heard.largest, len(heard.hellos))
		}
		if s.fetches != nil {
			t.Error("the queue is kept")
		}
	})
}

// TestWaiting: at most MaxWait for a fetch or the link, not at all when that has
// been down so long, and only so many at once (I9).
func TestWaiting(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		took := func(what string, a answer, code string, want time.Duration) {
			t.Helper()
			if a.Code != code || a.took != want {
				t.Errorf("%s: %s after %v, want %s after %v", what, a.Code, a.took, code, want)
			}
		}
		w.start()
		w.hold()
		took("a slow fetch", w.validate("d"), "SYSTEM_UNAVAILABLE", 250*time.Millisecond)
		w.letGo()
		time.Sleep(2 * time.Second)
		took("the fetch is back", w.validate("d"), "ALLOW", 0)

		goodbye := func(*link.Welcome) *link.ToEdge { return &link.ToEdge{Goodbye: &link.Goodbye{}} }
		w.a.set(func() { w.a.welcome = goodbye })
		w.a.breakOff()
		took("the link has just gone", w.validate("missing"), "SYSTEM_UNAVAILABLE", DefaultMaxWait)
		took("the link has been down", w.validate("missing"), "SYSTEM_UNAVAILABLE", 0)
		time.Sleep(testLease)
		took("no lease", w.validate("d"), "SYSTEM_UNAVAILABLE", 0)
		w.a.set(func() { w.a.welcome = nil })
		time.Sleep(2 * time.Second)

		// A session that ends while one waits, and the next that comes in time.
		held := w.hold()
		c := w.later("d2")
		w.letGo()
		w.a.breakOff()
		a := <-c
		if a.Code != "DEVICE_NOT_FOUND" || a.took > DefaultMaxWait || len(*held) != 1 {
			t.Errorf("over two sessions: %+v", a)
		}

		w.validate("d2") // clearing the caches at a new session may drop what came meanwhile
		w.hold()
		w.e.waiting.Add(19_999) // 20,000 may wait (docs/guarantee.md, I9)
		last := w.later("one more")
		took("too many", w.validate("too many"), "SYSTEM_UNAVAILABLE", 0)
		took("too many, but a hit", w.validate("d2"), "DEVICE_NOT_FOUND", 0)
		took("the last that may wait", <-last, "SYSTEM_UNAVAILABLE", DefaultMaxWait)
		w.e.waiting.Add(-19_999)
		if n := w.e.waiting.Load(); n != 0 {
			t.Errorf("%d wait", n)
		}
	})
}

// TestWaitersOfALeaseWake when it comes.
func TestWaitersOfALeaseWake(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.a.grant = func(*link.Renew) *link.Grant { return nil }
		w.run()
		var waiters sync.WaitGroup
		for range 20 {
			waiters.Go(func() {
				if got := w.validateWith(w.key, "d"); got.Code != "ALLOW" || got.took != 100*time.Millisecond {
					t.Errorf("%+v", got)
				}
			})
		}
		time.Sleep(100 * time.Millisecond)
		w.a.say(&link.ToEdge{Grant: &link.Grant{AskedAtNs: int64(w.a.Now()), GrantedNs: int64(testLease), NowMs: 1}})
		waiters.Wait()
		synctest.Wait()
	})
}

// TestNoPartyTakesAllWaitingPlaces: one org's misses have half of the places at most, and so have those of keys that are not known yet at one address; others wait as ever (I14).
func TestNoPartyTakesAllWaitingPlaces(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.start()
		others, second := keyOf(77), w.orgs(1)[0]
		w.a.set(func() {
			w.a.keys[others.Hash()] = &link.KeyRecord{Known: true, OrgId: bytes.Repeat([]byte{7}, 16)}
			w.a.orgs[orgID(bytes.Repeat([]byte{7}, 16))] = &link.OrgRecord{Known: true}
		})
		w.want("d", "ALLOW", false)
		if got := w.validateWith(others, "d"); got.Code != "ALLOW" {
			t.Fatalf("%+v", got)
		}
		if got := w.validateWith(second, "d"); got.Code != "ALLOW" {
			t.Fatalf("%+v", got)
		}
		w.hold()
		took := func(what string, a answer, want time.Duration) {
			t.Helper()
			if a.Code != "SYSTEM_UNAVAILABLE" || a.took != want {
				t.Errorf("%s: %s after %v, want it denied after %v", what, a.Code, a.took, want)
			}
		}
		org, address := wire.Party{}, wire.AddressParty(netip.IPv4Unspecified())
		copy(org[:], testOrg[:])
		for range 9_999 { // half of 20,000, but for one
			if !w.e.crowd.Enter(org) || !w.e.crowd.Enter(address) {
				t.Fatal("less than half")
			}
		}
		last := w.later("its last")
		synctest.Wait()
		took("beyond its half", w.validate("one more"), 0)
		took("beyond it with another key of the org", w.validateWith(second, "one more"), 0)
		if codes, _ := w.batch("two", "three"); codes[0] != "SYSTEM_UNAVAILABLE" || codes[1] != codes[0] {
			t.Errorf("a batch of it: %v", codes)
		}
		took("another org's", w.validateWith(others, "missing"), DefaultMaxWait)
		took("its last", <-last, DefaultMaxWait)
		took("a stranger's last", w.validateWith(keyOf(2), "x"), DefaultMaxWait)
		if !w.e.crowd.Enter(address) {
			t.Fatal("a place was not given back")
		}
		took("a stranger's beyond the half of the address", w.validateWith(keyOf(3), "x"), 0)
		if n := w.e.waiting.Load(); n != 0 {
			t.Errorf("%d wait", n)
		}
	})
}

// TestAHitDoesNotWaitForAMiss that came with it, on the same connection.
func TestAHitDoesNotWaitForAMiss(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.start()
		w.want("d", "ALLOW", false)
		w.want("d", "ALLOW", true)
		w.a.set(func() { w.a.answer = func(*link.Fetch) *link.Answer { return nil } })
		conn, err := w.http.Dial()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		ask := func(device string) string {
			return "GET /api/v1/devices/validate?deviceId=" + device + " HTTP/1.1\r\nHost: edge\r\nx-org-key: " + w.key.Reveal() + "\r\n\r\n"
		}
		began := time.Now()
		if _, err := conn.Write([]byte(ask("d") + ask("other") + ask("d"))); err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(conn)
		for i, want := range []time.Duration{0, DefaultMaxWait, DefaultMaxWait} {
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if took := time.Since(began); took != want {
				t.Errorf("answer %d came after %v, want %v", i, took, want)
			}
		}
	})
}

// TestANodeThatAnswersNothing holds a call for its own 8 s and 1.5 more, and the caller is told that it may have been carried out.
func TestANodeThatAnswersNothing(t *testing.T) {
	inWorldOf(t, func(w *world) {
		w.others = map[string]*authority{"mute": {listener: bufconn.Listen(1 << 20), server: grpc.NewServer()}}
		w.a.welcome = func(m *link.Welcome) *link.ToEdge {
			m.HttpAddress = "mute"
			return &link.ToEdge{Welcome: m}
		}
	}, func(w *world) {
		t, lines := w.t, w.others["mute"].listener
		defer lines.Close()
		go func() {
			for {
				c, err := lines.Accept()
				if err != nil {
					return
				}
				go io.Copy(io.Discard, c) //nolint:errcheck // it hears all, and says nothing
			}
		}()
		w.start()
		req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
		defer fasthttp.ReleaseRequest(req)
		defer fasthttp.ReleaseResponse(resp)
		req.SetRequestURI("http://edge/api/v1/devices/revoke")
		req.Header.SetMethod("POST")
		req.Header.Set("X-Org-Key", w.key.Reveal())
		req.SetBodyString(`{"deviceId":"d"}`)
		began := time.Now()
		if err := w.client.Do(req, resp); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 9*time.Second || took > 10*time.Second || resp.StatusCode() != 503 {
			t.Errorf("%d after %v: %s", resp.StatusCode(), took, resp.Body())
		}
	})
}
