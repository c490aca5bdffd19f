package edge

import (
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	"machineid/shared/clock"
	"machineid/shared/decision"
	"machineid/shared/link"
)

// seen lists whom the reports of an authority name, with the times since it began.
func (a *authority) seen() map[string][]time.Duration {
	list := map[string][]time.Duration{}
	for _, r := range a.heard().reports {
		for _, of := range r.GetSeen() {
			for i, id := range of.GetDeviceIds() {
				list[id] = append(list[id], time.UnixMilli(of.GetAtMs()[i]).Sub(a.began))
			}
		}
	}
	return list
}

// TestReports: a device that exists is reported once a minute, however often it asks and
// is fetched; one that is unknown never is (I10).
func TestReports(t *testing.T) {
	inWorld(t, func(w *world) {
		w.a.set(func() { w.a.devices["idle"] = active(); w.a.devices["off"] = revoked() })
		w.start()
		for i := range 130 { // the TTL is 20 s: it is fetched seven times
			w.validate("d")
			w.validate("nobody")
			if i == 0 {
				w.validate("idle")
				w.validate("off")
			}
			time.Sleep(time.Second)
		}
		seen := w.a.seen()
		if n := len(seen["d"]); n != 3 {
			t.Errorf("reported %d times in 130 s: %v", n, seen["d"])
		}
		for i := 1; i < len(seen["d"]); i++ {
			if apart := seen["d"][i] - seen["d"][i-1]; apart < time.Minute-10*time.Millisecond {
				t.Errorf("reported again after %v", apart)
			}
		}
		if len(seen["idle"]) != 1 || len(seen["off"]) != 1 || len(seen["nobody"]) != 0 {
			t.Errorf("reported: %v", seen)
		}
		heard := w.a.heard()
		last := heard.reports[len(heard.reports)-1]
		counts := map[string]uint64{}
		for _, c := range last.GetValidates() {
			counts[c.GetCode()] += c.GetHits() + c.GetMisses()
		}
		if counts["ALLOW"] != 131 || counts["DEVICE_NOT_FOUND"] != 130 || counts["DEVICE_REVOKED"] != 1 || last.GetEntries() < 4 {
			t.Errorf("the last report: %v", last)
		}
		if age := w.e.clock.Now().Sub(clock.Time(w.e.asked.Load())); age < 0 || age > testLease/2 {
			t.Errorf("the newest lease was asked for %v ago", age)
		}
		n := len(heard.reports)
		time.Sleep(time.Minute)
		if more := len(w.a.heard().reports) - n; more > 1 {
			t.Errorf("%d reports of nothing", more)
		}
	})
}

// TestReportsOfKeys: a key with which validates are decided is reported once a minute, however often it is fetched and whatever the answer; one
// that is no key never is (I10).
func TestReportsOfKeys(t *testing.T) {
	for _, off := range []bool{false, true} {
		inWorld(t, func(w *world) {
			w.a.orgs[testOrg].Disabled = off
			w.start()
			for range 130 {
				w.validate("d")
				w.validate("nobody")
				w.validateWith(keyOf(99), "d") // nobody knows it
				time.Sleep(time.Second)
			}
			var used []time.Duration
			for _, r := range w.a.heard().reports {
				for _, u := range r.GetUsed() {
					if sum := w.key.Hash(); string(u.GetKeyHash()) != string(sum[:]) {
						t.Errorf("reported: %x", u.GetKeyHash())
					}
					used = append(used, time.UnixMilli(u.GetAtMs()).Sub(w.a.began))
				}
			}
			if len(used) != 3 {
				t.Errorf("reported %d times in 130 s: %v", len(used), used)
			}
			for i := 1; i < len(used); i++ {
				if used[i]-used[i-1] < time.Minute-10*time.Millisecond {
					t.Errorf("reported at %v", used)
				}
			}
		})
	}
}

// TestReportsOfAnOrgThatIsOff name everybody who asks, for the edge cannot know who exists.
func TestReportsOfAnOrgThatIsOff(t *testing.T) {
	inWorld(t, func(w *world) {
		w.a.orgs[testOrg].Disabled = true
		w.start()
		for range 70 {
			w.validate("d")
			w.validate("nobody")
			time.Sleep(time.Second)
		}
		if seen := w.a.seen(); len(seen["d"]) != 2 || len(seen["nobody"]) != 2 {
			t.Errorf("reported: %v", seen)
		}
	})
}

// TestReportsAreBounded: whatever strangers ask, a report has at most 64 KiB (docs/guarantee.md, I10), an
// edge without a session keeps 16,384 sightings, and ids that may not exist leave room for
// those that do.
func TestReportsAreBounded(t *testing.T) {
	const kept = 16_384
	m := metrics{unreported: newMetrics(nil, &Edge{}).unreported}
	s := newSightings(&m)
	at := time.Now().UnixMilli()
	for i := range 3 * kept {
		id := fmt.Appendf(nil, "stranger-%0247d", i) // as long as an id may be
		s.denied(testOrg, id, uint64(i)*0x9e3779b97f4a7c15, 0, at)
	}
	if len(s.waiting) != kept/2 || count(m.unreported) == 0 {
		t.Errorf("%d of strangers wait, %d dropped", len(s.waiting), count(m.unreported))
	}
	for i := range 3 * kept {
		d := newDevice(stamp{}, &owner{org: orgID{byte(i), byte(i >> 8)}}, fmt.Sprint("agent-", i), decision.Occupant{Known: true})
		s.asked(d, 1, at)
		s.asked(d, 2, at)
		s.used(&keyEntry{}, 1, at)
	}
	if len(s.waiting) != kept {
		t.Errorf("%d wait", len(s.waiting))
	}
	total, largest := 0, 0
	for len(s.waiting) > 0 {
		r := &link.Report{Entries: math.MaxInt64}
		for _, c := range decision.Codes() {
			r.Validates = append(r.Validates, &link.Tally{Code: c.String(), Hits: math.MaxUint64, Misses: math.MaxUint64})
		}
		r.Seen, r.Used = s.take()
		total += len(r.Used)
		n := proto.Size(r)
		if n > 65_536 {
			t.Errorf("a report of %d bytes", n)
		}
		largest = max(largest, n)
		for _, of := range r.GetSeen() {
			total += len(of.GetDeviceIds())
		}
	}
	if total != kept || largest < 60_000 {
		t.Errorf("%d were reported, in reports of %d bytes at the most", total, largest)
	}
}

// TestReportsComeLast: behind renewals, acknowledgements and fetches, and never two at once.
func TestReportsComeLast(t *testing.T) {
	inWorld(t, func(w *world) {
		s := &session{e: w.e, wake: make(chan struct{}, 1), report: &link.Report{Entries: 1}, renewDue: true, ackDue: true}
		s.flights = newFlights(s.fetch)
		for i := range 2*fetchesMax + 1 {
			s.flights.join(need{kind: needDevice, hash: uint64(i)}, &question{}, 0)
		}
		for i := range 3 {
			if f := s.take(); (f.GetReport() != nil) != (i == 2) {
				t.Errorf("frame %d carries the report: %v", i, f.GetReport() != nil)
			}
		}
		if s.take() != nil {
			t.Error("a report is sent twice")
		}
		synctest.Wait()
	})
}
