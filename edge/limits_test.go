package edge

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valyala/fasthttp"

	"machineid/shared/clock"
	"machineid/shared/link"
	"machineid/shared/orgkey"
)

func randomKey(t *testing.T) orgkey.Key {
	t.Helper()
	k, err := orgkey.New(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// limited makes the edge, which has not started, keep to limits, and believe what
// the test says of its address.
func (w *world) limited(l Limits) {
	w.e.limits = newLimits(l, w.a)
	w.e.cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/32")}
}

// limitedAnswer is a validate's answer, with what a limit adds.
type limitedAnswer struct {
	Code   string `json:"code"`
	Reason string `json:"reason"`
	retry  string
}

func (w *world) from(address string, key orgkey.Key, device string) (a limitedAnswer) {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.SetRequestURI("http://edge/api/v1/devices/validate?deviceId=" + device)
	req.Header.Set("X-Org-Key", key.Reveal())
	req.Header.Set("X-Forwarded-For", address)
	if err := w.client.Do(req, resp); err != nil {
		w.t.Errorf("validate: %v", err)
		return a
	}
	if err := json.Unmarshal(resp.Body(), &a); err != nil || resp.StatusCode() != 200 {
		w.t.Errorf("validate: %d %q", resp.StatusCode(), resp.Body())
	}
	a.retry = string(resp.Header.Peek("Retry-After"))
	return a
}

var refusedByLimit = limitedAnswer{"SYSTEM_UNAVAILABLE", "rate_limited", "1"}

// TestUnknownKeysReachTheAuthoritySoOften, by address and in all, to the nanosecond
// of a virtual clock; what is remembered and what was proven is not limited.
func TestUnknownKeysReachTheAuthoritySoOften(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.limited(Limits{UnknownKeys: 10, UnknownKeysAddress: 4})
		w.start()
		w.want("d", "ALLOW", false) // proves the key
		base := w.a.fetches()
		flood := func(address string, want int) {
			t.Helper()
			for i := range 20 {
				got, refused := w.from(address, randomKey(t), "d"), i >= want
				if (got == refusedByLimit) != refused || !refused && got.Code != "ORG_NOT_FOUND" {
					t.Fatalf("%s, key %d of %d: %+v", address, i, want, got)
				}
			}
			base += want
			if n := w.a.fetches(); n != base {
				t.Fatalf("%s: %d fetches, want %d", address, n, base)
			}
		}
		flood("192.0.2.1", 4)
		flood("2001:db8::1", 4)
		flood("2001:db8::2", 0) // the same /64
		flood("192.0.2.2", 2)   // the edge's own
		// The proven key needs no room, whoever asks with it: not for what is remembered,
		// nor for what has to be fetched.
		w.want("d", "ALLOW", true)
		w.a.change(t, func() { w.a.devices["d"] = revoked() }, w.a.hashing.Key((*[32]byte)(new(w.key.Hash()))), w.a.device("d"))
		if got := w.from("192.0.2.1", w.key, "d"); got.Code != "DEVICE_REVOKED" {
			t.Errorf("the proven key: %+v", got)
		}
		base = w.a.fetches()
		time.Sleep(100*time.Millisecond - 1)
		flood("192.0.2.3", 0)
		time.Sleep(time.Nanosecond)
		flood("192.0.2.3", 1)
		time.Sleep(time.Second)
		flood("192.0.2.1", 4)
		if n := count(w.e.metrics.limited["unknown_keys"]); n == 0 || n != count(w.e.metrics.rateLimited) {
			t.Errorf("%d were counted", n)
		}
	})
}

// TestAKeyThatExistsIsFree: a thousand orgs come one after the other from one address.
func TestAKeyThatExistsIsFree(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.limited(Limits{UnknownKeys: 10, UnknownKeysAddress: 4})
		w.start()
		for range 100 {
			key := randomKey(t)
			w.a.set(func() { w.a.keys[key.Hash()] = &link.KeyRecord{Known: true, OrgId: testOrg[:]} })
			if got := w.from("192.0.2.1", key, "d"); got.Code != "ALLOW" {
				t.Fatalf("%+v", got)
			}
		}
	})
}

// TestAFloodOfKeysAtOnce: what is under way counts, so that a slow authority is
// asked no more; what gets no answer is spent.
func TestAFloodOfKeysAtOnce(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.limited(Limits{UnknownKeys: 10})
		w.start()
		w.hold()
		var work sync.WaitGroup
		began := time.Now()
		for i := range 300 {
			key := randomKey(t)
			work.Go(func() {
				if got := w.from(fmt.Sprintf("192.0.2.%d", i%256), key, "d"); got.Code != "SYSTEM_UNAVAILABLE" {
					t.Errorf("%+v", got)
				}
			})
		}
		work.Wait()
		if n := w.a.fetches(); n != 10 || time.Since(began) != DefaultMaxWait {
			t.Errorf("%d fetches in %v", n, time.Since(began))
		}
		time.Sleep(flightLife)
		w.a.breakOff() // lets the flights go: nothing was learnt
		w.letGo()
		time.Sleep(50 * time.Millisecond)
		if got := w.from("192.0.2.1", randomKey(t), "d"); got != refusedByLimit {
			t.Errorf("after fetches without an answer: %+v", got)
		}
	})
}

// TestUnknownDevicesReachTheAuthoritySoOften, by key. Devices that exist cost nothing
// and wait for each other; another key has a budget of its own.
func TestUnknownDevicesReachTheAuthoritySoOften(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.limited(Limits{UnknownDevices: 3})
		w.start()
		other := keyOf(2)
		w.a.set(func() {
			for i := range 30 {
				w.a.devices[fmt.Sprint("known", i)] = active()
			}
			w.a.keys[other.Hash()] = &link.KeyRecord{Known: true, OrgId: testOrg[:]}
		})
		w.want("d", "ALLOW", false)
		var work sync.WaitGroup
		for i := range 30 {
			work.Go(func() {
				if got := w.from("192.0.2.1", w.key, fmt.Sprint("known", i)); got.Code != "ALLOW" {
					t.Errorf("known%d: %+v", i, got)
				}
			})
		}
		work.Wait()
		base := w.a.fetches()
		for i := range 10 {
			got, refused := w.from(fmt.Sprintf("192.0.2.%d", i), w.key, fmt.Sprint("unknown", i)), i >= 3
			if (got == refusedByLimit) != refused || !refused && got.Code != "DEVICE_NOT_FOUND" {
				t.Errorf("unknown%d: %+v", i, got)
			}
		}
		synctest.Wait()
		w.want("unknown0", "DEVICE_NOT_FOUND", true)
		// A device that was known needs no room when its record is out of date.
		w.a.change(t, func() { w.a.devices["d"] = revoked() }, w.a.device("d"))
		w.want("d", "DEVICE_REVOKED", false)
		if n := w.a.fetches(); n != base+4 {
			t.Errorf("%d fetches", n-base)
		}
		w.from("192.0.2.1", other, "d")
		if got := w.from("192.0.2.1", other, "unknown9"); got.Code != "DEVICE_NOT_FOUND" {
			t.Errorf("another key: %+v", got)
		}
	})
}

// handClock is a clock that a test moves.
type handClock struct{ clock.Time }

func (c *handClock) Now() clock.Time { return c.Time }

func limitedFront(t *testing.T, upstream string, l Limits) (*front, *fakeUpstream, *handClock) {
	t.Helper()
	u, hand := newUpstream(t, upstream), &handClock{clock.Time(time.Hour)}
	f := newFront(t, u.Addr().String())
	f.e.limits = newLimits(l, hand)
	return f, u, hand
}

func callWith(method, path, key string) string {
	head := method + " /api/v1/" + path + " HTTP/1.1\r\nHost: x\r\nX-Org-Key: " + key + "\r\n"
	if method == "GET" {
		return head + "\r\n"
	}
	return head + "Content-Length: 2\r\n\r\n{}"
}

// until calls so often until a limit is met, and judges the 429.
func (f *front) until(request string) (n int) {
	f.t.Helper()
	for range 50 {
		status, header, body := f.raw(request)
		if status == 429 {
			if body["error"] != "rate_limited" || body["status"] != "error" || header.Get("Retry-After") == "" {
				f.t.Errorf("%v %v", header, body)
			}
			return n
		}
		n++
	}
	return n
}

// TestChangesOfAKey are limited, reads are not, nor other keys.
func TestChangesOfAKey(t *testing.T) {
	f, u, hand := limitedFront(t, okAnswer, Limits{Changes: 5})
	one, two := keyOf(1).Reveal(), keyOf(2).Reveal()
	if a, b, c := f.until(callWith("POST", "devices/register", one)), f.until(callWith("POST", "devices/revoke", one)), f.until(callWith("POST", "devices/revoke", two)); a != 5 || b != 0 || c != 5 {
		t.Errorf("%d, %d, %d", a, b, c)
	}
	if n := f.until(callWith("GET", "usage", one)); n != 50 {
		t.Errorf("%d reads", n)
	}
	for i := range 3 { // a header that nobody reads beside a key
		request := strings.Replace(callWith("POST", "devices/revoke", one), "Host: x\r\n", fmt.Sprintf("Host: x\r\nX-MachineID-Org: o\r\nAuthorization: Bearer %d\r\n", i), 1)
		if n := f.until(request); n != 0 {
			t.Errorf("%d with another token beside the key", n)
		}
	}
	hand.Time = hand.Add(200 * time.Millisecond)
	if n := f.until(callWith("POST", "devices/revoke", one)); n != 1 {
		t.Errorf("%d when one is earned", n)
	}
	if heads, _ := u.seen(); len(heads) != 5+5+50+1 {
		t.Errorf("%d reached the authority", len(heads))
	}
	if n := count(f.e.metrics.limited["changes"]); n != 7 {
		t.Errorf("%d were counted", n)
	}
}

// TestReadsOfAKey are limited where they are passed on, apart from its changes, and other keys' are not.
func TestReadsOfAKey(t *testing.T) {
	f, u, hand := limitedFront(t, okAnswer, Limits{Reads: 5, Changes: 3})
	one, two := keyOf(1).Reveal(), keyOf(2).Reveal()
	if a, b, c := f.until(callWith("GET", "org/export", one)), f.until(callWith("GET", "usage", one)), f.until(callWith("GET", "devices/list", two)); a != 5 || b != 0 || c != 5 {
		t.Errorf("%d, %d, %d", a, b, c)
	}
	if n := f.until(callWith("POST", "devices/revoke", one)); n != 3 {
		t.Errorf("%d changes", n)
	}
	hand.Time = hand.Add(200 * time.Millisecond)
	if n := f.until(callWith("GET", "audit", one)); n != 1 {
		t.Errorf("%d when one is earned", n)
	}
	if heads, _ := u.seen(); len(heads) != 5+5+3+1 {
		t.Errorf("%d reached the authority", len(heads))
	}
	if n := count(f.e.metrics.limited["reads"]); n != 4 {
		t.Errorf("%d were counted", n)
	}
}

// TestWhatIsRefusedHoldsNothing: a call beyond its key's limit takes nothing of what its address has for keys that fail.
func TestWhatIsRefusedHoldsNothing(t *testing.T) {
	const busy = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}" // says nothing of a key
	for method, path := range map[string]string{"POST": "devices/revoke", "GET": "usage"} {
		f, _, _ := limitedFront(t, busy, Limits{FailedKeys: 3, Changes: 1, Reads: 1})
		if n := f.until(callWith(method, path, keyOf(1).Reveal())); n != 1 {
			t.Fatalf("%d calls", n)
		}
		for range 10 {
			if status, _, _ := f.raw(callWith(method, path, keyOf(1).Reveal())); status != 429 {
				t.Fatalf("HTTP %d beyond the key's limit", status)
			}
		}
		if status, _, _ := f.raw(callWith(method, path, keyOf(2).Reveal())); status != 503 {
			t.Errorf("%s with another key: HTTP %d", method, status)
		}
	}
}

// TestKeysThatFail are limited by address, and a key that was good before is not
// touched by it: who holds it can always revoke.
func TestKeysThatFail(t *testing.T) {
	no := func(head, body string) string {
		return head + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
	}
	for name, c := range map[string]struct {
		raw  string
		want int
	}{
		"malformed":      {no("HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\n", `{"error":"invalid_org_key"}`), 4},
		"unknown":        {no("HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\n", `{"error":"org_not_found"}`), 4},
		"not yet judged": {no("HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n", `{"error":"missing_params"}`), 4},
		"good":           {no("HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\n", `{"error":"device_not_found"}`), 50},
		"unavailable":    {no("HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n", `{"error":"system_unavailable"}`), 50},
	} {
		t.Run(name, func(t *testing.T) {
			f, _, hand := limitedFront(t, c.raw, Limits{FailedKeys: 4})
			mine := keyOf(9).Hash()
			f.e.limits.prove(&mine, true, orgID{})
			if n := f.until(callWith("GET", "usage", keyOf(1).Reveal())); n != c.want {
				t.Errorf("%d, want %d", n, c.want)
			}
			if status, _, _ := f.raw(callWith("POST", "devices/revoke", keyOf(9).Reveal())); status == 429 {
				t.Error("a proven key pays for others")
			}
			hand.Time = hand.Add(250 * time.Millisecond)
			if status, _, _ := f.raw(callWith("POST", "devices/revoke", keyOf(3).Reveal())); status == 429 {
				t.Error("nothing is earned")
			}
			if name == "unknown" && f.e.limits.isProven(&mine) {
				t.Error("a key that was revoked is proven still")
			}
		})
	}
}

// TestOperatorsTokens that fail count as keys that fail; a good one that names an org
// which is not there does not.
func TestOperatorsTokens(t *testing.T) {
	for raw, want := range map[string]int{
		"HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}":                          4,
		"HTTP/1.1 404 Not Found\r\nContent-Type: application/json\r\nContent-Length: 25\r\n\r\n{\"error\":\"org_not_found\"}": 50,
	} {
		f, _, _ := limitedFront(t, raw, Limits{FailedKeys: 4})
		if n := f.until("GET /api/v1/usage HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer b\r\nX-MachineID-Org: o\r\n\r\n"); n != want {
			t.Errorf("%d, want %d: %s", n, want, raw)
		}
		// Operators' own calls likewise, and a key beside the token does not change that.
		f, _, _ = limitedFront(t, raw, Limits{FailedKeys: 4})
		f.e.cfg.ProxyOperator = true
		if n := f.until("GET /api/v1/operator/orgs/o HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer b\r\nX-Org-Key: " + keyOf(1).Reveal() + "\r\n\r\n"); n != want {
			t.Errorf("operators' calls: %d, want %d: %s", n, want, raw)
		}
	}
}

// TestOperatorsValidates: a token that is wrong is a decision like any other, and counts as one that fails all the same.
func TestOperatorsValidates(t *testing.T) {
	for said, want := range map[string]int{`{"allowed":false,"code":"INVALID_ORG_KEY"}`: 4, `{"allowed":true,"code":"ALLOW"}`: 20} {
		raw := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", len(said), said)
		f, u, _ := limitedFront(t, raw, Limits{FailedKeys: 4})
		for range 20 {
			if status, _, _ := f.raw("GET /api/v1/devices/validate?deviceId=d HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer b\r\nX-MachineID-Org: o\r\n\r\n"); status != 200 {
				t.Fatalf("HTTP %d", status)
			}
		}
		if heads, _ := u.seen(); len(heads) != want {
			t.Errorf("%d reached the authority, want %d: %s", len(heads), want, said)
		}
	}
}

// TestSignups are limited by address, and prove no key.
func TestSignups(t *testing.T) {
	f, _, hand := limitedFront(t, okAnswer, Limits{Signups: 3})
	key := keyOf(1)
	request := callWith("POST", "org/create", key.Reveal())
	if n := f.until(request); n != 3 {
		t.Errorf("%d", n)
	}
	if _, header, _ := f.raw(request); header.Get("Retry-After") != "20" {
		t.Errorf("Retry-After %s", header.Get("Retry-After"))
	}
	if f.e.limits.isProven(new(key.Hash())) {
		t.Error("a key that nobody looked at is proven")
	}
	hand.Time = hand.Add(20 * time.Second)
	if n := f.until(request); n != 1 {
		t.Errorf("%d when one is earned", n)
	}
}

// TestDevicesWithoutAnAnswerAreSpent: an authority that does not answer is not asked
// about more.
func TestDevicesWithoutAnAnswerAreSpent(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.limited(Limits{UnknownDevices: 3})
		w.start()
		w.want("d", "ALLOW", false)
		synctest.Wait() // the key is remembered a little later
		held := w.hold()
		for i := range 5 {
			w.later(fmt.Sprint("unknown", i))
		}
		time.Sleep(time.Second)
		if len(*held) != 3 {
			t.Errorf("%d fetches", len(*held))
		}
		w.a.breakOff()
		w.letGo()
		time.Sleep(50 * time.Millisecond)
		w.want("d", "ALLOW", false) // a new memory: with the key comes the device
		synctest.Wait()
		if got := w.from("192.0.2.1", w.key, "unknown9"); got != refusedByLimit {
			t.Errorf("after fetches without an answer: %+v", got)
		}
	})
}
