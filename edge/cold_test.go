package edge

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"machineid/shared/link"
	"machineid/shared/orgkey"
)

// slowly has the authority answer each fetch after a while, as one that is far away or busy does.
func (w *world) slowly(after time.Duration) {
	w.a.set(func() {
		w.a.answer = func(f *link.Fetch) *link.Answer {
			time.AfterFunc(after, func() {
				w.a.mu.Lock()
				answer, c := w.a.known(f), w.a.current
				w.a.mu.Unlock()
				c.send(&link.ToEdge{Answers: []*link.Answer{answer}})
			})
			return nil
		}
	})
}

// orgs makes so many keys that exist.
func (w *world) orgs(n int) []orgkey.Key {
	keys := make([]orgkey.Key, n)
	for i := range keys {
		keys[i] = randomKey(w.t)
		w.a.set(func() { w.a.keys[keys[i].Hash()] = &link.KeyRecord{Known: true, OrgId: testOrg[:]} })
	}
	return keys
}

// TestAColdEdgeDeniesNoLiveAgent: keys that it sees for the first time wait for each other, within MaxWait, as devices do. 5,000 a second
// come through one address, or through many, and the authority takes its time. Where it takes 40 ms and more a few in a hundred may be overtaken by later ones until
// their time is up: nobody queues.
func TestAColdEdgeDeniesNoLiveAgent(t *testing.T) {
	const rate, share = 5000, 5 // for a fifth of a second
	for _, tt := range []struct {
		latency   time.Duration
		addresses int
		late      int64 // that may be denied
	}{{2 * time.Millisecond, 1, 0}, {10 * time.Millisecond, 1, 0}, {25 * time.Millisecond, 1, 0}, {40 * time.Millisecond, 1, rate / share / 30}, {45 * time.Millisecond, 256, rate / share / 30}} {
		t.Run(fmt.Sprintf("%v, %d addresses", tt.latency, tt.addresses), func(t *testing.T) {
			inWorld(t, func(w *world) {
				t := w.t
				w.client.MaxConns = rate
				w.limited(DefaultLimits())
				keys := w.orgs(rate / share)
				w.start()
				w.slowly(tt.latency)
				var work sync.WaitGroup
				var denied atomic.Int64
				for i, key := range keys {
					work.Go(func() {
						if got := w.from(fmt.Sprintf("192.0.2.%d", i%tt.addresses), key, "d"); got.Code != "ALLOW" && denied.Add(1) > tt.late {
							t.Errorf("key %d: %+v", i, got)
						}
					})
					time.Sleep(time.Second / rate)
				}
				work.Wait()
			})
		})
	}
}

// TestAFloodOfKeysTakesNoPlaces: what nobody knows waits in few places, few of one address, and reaches the authority as seldom as before. Who
// is known is answered meanwhile, and so is a key that is new and exists, from an address that has wasted nothing.
func TestAFloodOfKeysTakesNoPlaces(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.client.MaxConns = 20_000
		l := DefaultLimits()
		w.limited(l)
		fresh := w.orgs(10)
		w.start()
		w.want("d", "ALLOW", false)
		base := w.a.fetches()
		w.slowly(50 * time.Millisecond)
		var flood sync.WaitGroup
		began := time.Now()
		for i := range 3000 {
			flood.Go(func() {
				if got := w.from("192.0.2.1", randomKey(t), "d"); got.Code == "ALLOW" {
					t.Errorf("key %d: %+v", i, got)
				}
			})
		}
		time.Sleep(10 * time.Millisecond)
		if n := w.e.waiting.Load(); n > keysWaitAddressMost+int64(l.UnknownKeysAddress)*(1+cleanAddress) {
			t.Errorf("%d wait", n)
		}
		for i, key := range fresh {
			if got := w.from(fmt.Sprintf("198.51.100.%d", i), key, "d"); got.Code != "ALLOW" {
				t.Errorf("a key that is new: %+v", got)
			}
		}
		w.a.change(t, func() {}, w.a.device("d"))
		if got := w.from("192.0.2.1", w.key, "d"); got.Code != "ALLOW" {
			t.Errorf("a known key: %+v", got)
		}
		flood.Wait()
		took := time.Since(began).Seconds() + 1
		if n, most := w.a.fetches()-base-len(fresh)-1, l.UnknownKeysAddress*(1+cleanAddress)+int(took*float64(l.UnknownKeysAddress)); n > most {
			t.Errorf("the authority was asked %d times, at most %d were due", n, most)
		}
		if n := w.e.waiting.Load(); n != 0 {
			t.Errorf("%d wait", n)
		}
		if wait, _ := new(held).add(w.e.limits.keysWait, 1, w.a.Now()); wait != 0 {
			t.Error("places are lost")
		}
	})
}

// TestPlacesAreGivenBack: as many as there are can be taken again after all have waited.
func TestPlacesAreGivenBack(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		w.limited(Limits{UnknownKeysAddress: 1})
		w.start()
		w.hold()
		var work sync.WaitGroup
		for range 50 {
			key := randomKey(t)
			work.Go(func() { w.from("192.0.2.1", key, "d") })
		}
		work.Wait()
		if n := w.e.limits.keysWait.Held() + w.e.limits.keysWaitAddress.Held(); n != 0 {
			t.Errorf("%d are held by nobody", n)
		}
	})
}
