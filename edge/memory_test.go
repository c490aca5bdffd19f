package edge

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"machineid/shared/clock"
	"machineid/shared/decision"
	"machineid/shared/link"
	"machineid/shared/orgkey"
)

// TestHitsAndMisses: what was fetched once answers, refusals too (I5).
func TestHitsAndMisses(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.start()
		w.want("d", "ALLOW", false)
		w.want("d", "ALLOW", true)
		w.want("unknown", "DEVICE_NOT_FOUND", false)
		w.want("unknown", "DEVICE_NOT_FOUND", true)
		stranger := keyOf(2)
		for i := range 3 {
			synctest.Wait()
			if got := w.validateWith(stranger, fmt.Sprint("d", i)); got.Code != "ORG_NOT_FOUND" || got.hit != (i > 0) {
				t.Errorf("%d: %+v", i, got)
			}
		}
		if n := w.a.fetches(); n != 3 {
			t.Errorf("%d fetches, want 3: %v", n, w.a.heard().fetched)
		}
		for _, bad := range []string{"", strings.Repeat("x", 257), `a\u0000`} {
			if got := w.validate(bad); got.Code != "INVALID_DEVICE_ID" {
				t.Errorf("%.10q: %+v", bad, got)
			}
		}
	})
}

// TestExpiryCountsFromTheFetch, not from when its answer landed, and no hit
// extends it (I5). A mutant that counts from the answer hits 200 ms longer.
func TestExpiryCountsFromTheFetch(t *testing.T) {
	for _, rate := range []float64{1, 0.99, 1.01} {
		inWorld(t, func(w *world) {
			t := w.t
			w.a.set(func() { w.a.rate = rate })
			w.start()
			var held *link.Fetch
			w.a.set(func() { w.a.answer = func(f *link.Fetch) *link.Answer { held = f; return nil } })
			sent := w.a.Now()
			c := w.later("d")
			time.Sleep(200 * time.Millisecond)
			w.a.set(func() { w.a.answer = nil })
			w.a.release(held)
			if got := <-c; got.Code != "ALLOW" || got.hit {
				t.Fatalf("%+v", got)
			}
			end := sent.Add(testTTL)
			for w.a.Now() < end.Add(-1100*time.Millisecond) {
				time.Sleep(time.Second)
				w.want("d", "ALLOW", true)
			}
			time.Sleep(time.Duration(float64(end.Sub(w.a.Now())-time.Microsecond) / rate))
			w.want("d", "ALLOW", true)
			time.Sleep(2 * time.Microsecond)
			w.want("d", "ALLOW", false)
			if n := w.a.fetches(); n != 2 {
				t.Errorf("%d fetches", n)
			}
		})
	}
}

// TestAFloodCannotPushOutWhatIsKnown: refusals have room of their own (I5). With
// one cache for both, the mutant, nearly all is lost.
func TestAFloodCannotPushOutWhatIsKnown(t *testing.T) {
	const entries, known, flood = 256, 200, 20_000
	left := func(together bool) (keys, devices int) {
		c, err := newCaches(entries)
		if err != nil {
			t.Fatal(err)
		}
		defer c.close()
		own := *c
		if together {
			own.refusedKeys, own.refusedDevices = c.keys, c.devices
		}
		m := &memory{caches: &own, epoch: 1, sight: newSightings(&metrics{})}
		m.flights.Store(newFlights(func(*flight) bool { return false }))
		at := stamp{index: 1, expires: 1 << 60, epoch: 1}
		of := newKey(at, orgkey.Hash{}, testOwner, m.hasher, decision.Key{})
		keep := func(i int, isKnown bool) (sum orgkey.Hash, id string) {
			sum, id = orgkey.Sum(fmt.Append(nil, i)), strconv.Itoa(i)
			got := &found{
				key:    newKey(at, sum, testOwner, m.hasher, decision.Key{Known: isKnown}),
				device: newDevice(at, testOwner, id, decision.Occupant{Known: isKnown}),
			}
			m.keep(got, 0)
			return sum, id
		}
		wait := func() {
			c.keys.Wait()
			c.refusedKeys.Wait()
			c.devices.Wait()
			c.refusedDevices.Wait()
		}
		for i := range known {
			keep(i, true)
		}
		wait()
		for i := known; i < known+flood; i++ {
			sum, id := keep(i, false)
			// A stranger can ask more than once.
			q := &question{sum: sum, device: []byte(id)}
			m.key(q, 1, nil)
			m.device(of, q, m.hasher.Device(&testOrg, q.device), 1, nil)
			if i%1000 == 0 {
				wait()
			}
		}
		wait()
		for i := range known {
			q := &question{sum: orgkey.Sum(fmt.Append(nil, i)), device: fmt.Append(nil, i)}
			if k := m.key(q, 1, nil); k != nil && k.rec.Known {
				keys++
			}
			if d := m.device(of, q, m.hasher.Device(&testOrg, q.device), 1, nil); d != nil && d.known {
				devices++
			}
		}
		return keys, devices
	}
	if keys, devices := left(false); keys < known*95/100 || devices < known*95/100 {
		t.Errorf("after the flood %d keys and %d devices of %d are left", keys, devices, known)
	}
	if keys, devices := left(true); keys >= known*95/100 && devices >= known*95/100 {
		t.Errorf("the mutant is not caught: %d keys, %d devices", keys, devices)
	}
}

// TestACollisionCostsAMiss: an entry under the right hash of another key, org or
// device does not answer.
func TestACollisionCostsAMiss(t *testing.T) {
	c, err := newCaches(100)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	m := &memory{caches: c, epoch: 1, sight: newSightings(&metrics{})}
	at := stamp{index: 1, expires: 1 << 60, epoch: 1}
	q := &question{sum: orgkey.Sum([]byte("mine")), device: []byte("mine")}
	keyHash, orgHash := m.hasher.Key((*[32]byte)(&q.sum)), m.hasher.Org(&testOrg)
	deviceHash := m.hasher.Device(&testOrg, q.device)
	keyWith := func(sum orgkey.Hash) *keyEntry {
		k := newKey(at, sum, testOwner, m.hasher, decision.Key{Known: true})
		k.hash = keyHash
		return k
	}
	orgWith := func(id orgID) *orgEntry { return newOrg(at, &owner{org: id}, decision.Holder{Known: true}) }
	deviceWith := func(org orgID, id string) *deviceEntry {
		return newDevice(at, &owner{org: org}, id, decision.Occupant{Known: true})
	}
	put := func(k *keyEntry, o *orgEntry, d *deviceEntry) {
		c.clear()
		for i := range m.front {
			m.front[i].Store(nil)
		}
		c.keys.Set(keyHash, k, 1)
		c.orgs.Set(orgHash, o, 1)
		c.devices.Set(deviceHash, d, 1)
		c.keys.Wait()
		c.orgs.Wait()
		c.devices.Wait()
	}
	other := orgkey.Sum([]byte("another"))
	for name, forge := range map[string]func() byte{
		"none":              func() byte { put(keyWith(q.sum), orgWith(testOrg), deviceWith(testOrg, "mine")); return 0 },
		"key":               func() byte { put(keyWith(other), orgWith(testOrg), deviceWith(testOrg, "mine")); return needKey },
		"org":               func() byte { put(keyWith(q.sum), orgWith(orgID{2}), deviceWith(testOrg, "mine")); return needOrg },
		"device's name":     func() byte { put(keyWith(q.sum), orgWith(testOrg), deviceWith(testOrg, "other")); return needDevice },
		"another org's one": func() byte { put(keyWith(q.sum), orgWith(testOrg), deviceWith(orgID{2}, "mine")); return needDevice },
		"front, another key": func() byte {
			put(keyWith(q.sum), orgWith(testOrg), deviceWith(testOrg, "mine"))
			k := keyWith(other)
			k.org, k.owner, k.orgHash = orgID{9}, &owner{org: orgID{9}}, 9
			m.frontOf(&q.sum).Store(k)
			return 0
		},
	} {
		want := forge()
		code, missing := m.judge(q, 1, 1, nil)
		if missing.kind != want || (code == decision.Allow) != (want == 0) {
			t.Errorf("%s: %v, missing %d, want %d", name, code, missing.kind, want)
		}
		// Nor does one that a shared flight brought.
		if want == needKey {
			code, missing = m.judge(q, 1, 1, &found{key: keyWith(other), org: orgWith(testOrg), device: deviceWith(testOrg, "mine")})
			if code != 0 || missing.kind != needKey {
				t.Errorf("%s by a flight: %v", name, code)
			}
		}
	}
}

// TestTwoKeysOfOneHash share a flight's name, and each gets its own answer.
func TestTwoKeysOfOneHash(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.start()
		var held []*link.Fetch
		w.a.set(func() { w.a.answer = func(f *link.Fetch) *link.Answer { held = append(held, f); return nil } })
		m := w.e.memory.Load()
		stranger := keyOf(2).Hash()
		// The flight of another key, under the hash of ours.
		fl := m.flights.Load().join(need{kind: needKey, hash: m.hasher.Key((*[32]byte)(new(w.key.Hash())))}, &question{sum: stranger, device: []byte("d")}, w.a.Now())
		c := w.later("d")
		if fl == nil || len(held) != 1 {
			t.Fatalf("held %v", held)
		}
		w.a.set(func() { w.a.answer = nil })
		w.a.release(held[0])
		if got := <-c; got.Code != "ALLOW" {
			t.Errorf("%+v", got)
		}
	})
}

// TestAnOrgThatIsOffNeedsNoDevice, and off and on again cost one fetch each,
// however many devices it has (I4).
func TestAnOrgThatIsOffNeedsNoDevice(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		const devices = 50
		for i := range devices {
			w.a.devices[strconv.Itoa(i)] = active()
		}
		w.start()
		for i := range devices {
			w.want(strconv.Itoa(i), "ALLOW", false)
		}
		before := w.a.fetches()
		org := w.a.hashing.Org(&testOrg)
		for _, off := range []bool{true, false} {
			w.a.change(t, func() { w.a.orgs[testOrg] = &link.OrgRecord{Known: true, Disabled: off} }, org)
			code := map[bool]string{true: "ORG_DISABLED", false: "ALLOW"}[off]
			w.want("0", code, false)
			for i := 1; i < devices; i++ {
				w.want(strconv.Itoa(i), code, true)
			}
			if off {
				w.want("never heard of", code, true)
			}
		}
		if n := w.a.fetches() - before; n != 2 {
			t.Errorf("off and on cost %d fetches", n)
		}
	})
}

// TestExpiriesAreJudgedByTheAuthoritysTime: the edge's own date does not count.
func TestExpiriesAreJudgedByTheAuthoritysTime(t *testing.T) {
	for _, skew := range []time.Duration{-20 * 365 * 24 * time.Hour, 0, 20 * 365 * 24 * time.Hour} {
		inWorld(t, func(w *world) {
			w.a.skew = skew
			ends := time.Now().Add(skew + 10*time.Second)
			w.a.devices["d"] = &link.DeviceRecord{Known: true, ExpiresAtMs: ends.UnixMilli()}
			w.start()
			w.want("d", "ALLOW", false)
			left := func() time.Duration { return time.Until(ends.Add(-skew)) }
			time.Sleep(left() - 2*time.Millisecond) // up to one early, never late
			w.want("d", "ALLOW", true)
			time.Sleep(left())
			w.want("d", "DEVICE_NOT_FOUND", true)
		})
	}
}

// TestARecordOfANewerVersion is not misread.
func TestARecordOfANewerVersion(t *testing.T) {
	inWorld(t, func(w *world) {
		w.a.devices["d"] = &link.DeviceRecord{Known: true, MinVersion: decision.Version + 1}
		w.start()
		w.want("d", "SYSTEM_UNAVAILABLE", false)
		w.want("d", "SYSTEM_UNAVAILABLE", true)
		if n := count(w.e.metrics.unreadable); n != 2 {
			t.Errorf("%d denials are put down to a newer record", n)
		}
	})
}

// TestFloorsOnlyRise, whatever order a broken authority names indexes in.
func TestFloorsOnlyRise(t *testing.T) {
	m := &memory{caches: &caches{overtaken: &atomic.Uint64{}}}
	for _, index := range []uint64{5, 3, 9, 0, 8} {
		m.raise(1<<floorBits+7, index)
	}
	if got := m.floor(7).Load(); got != 9 {
		t.Errorf("the floor is %d", got)
	}
	s := &stamp{index: 9, expires: 100}
	for _, c := range []struct {
		what string
		s    stamp
		now  clock.Time
		want bool
	}{
		{"as new as the floor", *s, 99, true},
		{"below the floor", stamp{index: 8, expires: 100}, 99, false},
		{"expired", *s, 100, false},
		{"of another memory", stamp{index: 9, expires: 100, epoch: 1}, 99, false},
	} {
		if got := m.counts(c.s, 7, c.now); got != c.want {
			t.Errorf("%s: %v", c.what, got)
		}
	}
	if n := m.overtaken.Load(); n != 1 {
		t.Errorf("%d entries were below their floor", n)
	}
}

// TestRoom: ristretto panics in the background with the first eviction from a cache of one entry, so an edge has bounds.
func TestRoom(t *testing.T) {
	for entries, ok := range map[int64]bool{1: false, MinCacheEntries - 1: false, MinCacheEntries: true, MaxCacheEntries + 1: false, -1: false} {
		e, err := New(Config{ID: "e1", CacheEntries: entries, NoDate: true, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry()})
		if (err == nil) != ok {
			t.Errorf("room for %d: %v", entries, err)
		}
		if err != nil {
			continue
		}
		for i := range uint64(4 * MinCacheEntries) {
			e.caches.refusedKeys.Set(i, &keyEntry{}, 1)
			e.caches.refusedDevices.Set(i, &deviceEntry{}, 1)
		}
		e.caches.refusedKeys.Wait()
		e.caches.refusedDevices.Wait()
		if k, d := e.caches.refusedKeys.RemainingCost(), e.caches.refusedDevices.RemainingCost(); k > 0 || d > 0 {
			t.Errorf("room for %d: still room for %d and %d, so nothing was evicted", entries, k, d)
		}
		e.caches.close()
	}
}
