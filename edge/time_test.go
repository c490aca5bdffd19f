package edge

import (
	"math"
	"testing"
	"time"

	"machineid/shared/clock"
	"machineid/shared/link"
)

// TestWhatIsHeardOfIsThere: the time in a frame counts before the edge acknowledges what is in it, though its own estimate is behind (I11).
func TestWhatIsHeardOfIsThere(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		end := time.Now().Add(time.Hour).UnixMilli()
		w.a.set(func() { w.a.devices["d"] = &link.DeviceRecord{Known: true, ExpiresAtMs: end} })
		w.start()
		w.want("d", "ALLOW", false)
		w.want("d", "ALLOW", true)
		for _, f := range []*link.ToEdge{
			{NowMs: end - 1, Invalidates: []*link.Invalidate{{Index: 101}}},
			{NowMs: -1, Invalidates: []*link.Invalidate{{Index: 102}}},
			{NowMs: math.MaxInt64, Invalidates: []*link.Invalidate{{Index: 103}}}, // no clock shows that
		} {
			w.a.say(f)
			w.want("d", "ALLOW", true)
		}
		w.a.say(&link.ToEdge{NowMs: end, Invalidates: []*link.Invalidate{{Index: 104}}})
		if acks := w.a.heard().acks; len(acks) == 0 || acks[len(acks)-1].GetIndex() != 104 {
			t.Fatalf("it acknowledged %v", acks)
		}
		w.want("d", "DEVICE_NOT_FOUND", true)
		w.a.breakOff()
		time.Sleep(2 * time.Second)
		w.want("d", "DEVICE_NOT_FOUND", false) // of another memory, and the same time
	})
}

// TestTimeDoesNotFall: a later lease may say that it is earlier than the edge has counted, by a fast clock of its own or because the authority's wall clock stands still;
// what had ended has ended (I11).
func TestTimeDoesNotFall(t *testing.T) {
	inWorld(t, func(w *world) {
		end := time.Now().Add(10 * time.Second)
		w.a.set(func() {
			w.a.devices["d"] = &link.DeviceRecord{Known: true, ExpiresAtMs: end.UnixMilli()}
			w.a.skew = 11 * time.Second
		})
		w.start()
		w.want("d", "DEVICE_NOT_FOUND", false)
		w.a.set(func() { w.a.skew = -11 * time.Second })
		for range 20 {
			time.Sleep(testLease / 4)
			w.want("d", "DEVICE_NOT_FOUND", true)
		}
	})
}

// TestWhatWasCountedStays, also if nobody asked while it was counted: time does not fall.
func TestWhatWasCountedStays(t *testing.T) {
	at := func(ms int64) clock.Time { return clock.Time(ms * int64(time.Millisecond)) }
	var e authorityTime
	e.count(1000, int64(at(100)), at(110))
	e.count(1000, int64(at(600)), at(610)) // the authority's clock stands still
	if got := e.at(at(610)); got < 1000+510 {
		t.Errorf("by the first lease it was %d at its end, and is %d now", 1000+510, got)
	}
	if got := e.at(at(2000)); got != 1001+1400 {
		t.Errorf("by the second lease it is %d, not %d", got, 1001+1400)
	}
}

// TestTheEstimateIsNotBehind: the authority's time was cut to milliseconds, and read after the edge had asked.
func TestTheEstimateIsNotBehind(t *testing.T) {
	const asked = int64(time.Second)
	for _, ns := range []int64{0, 1, 500_000, 999_999} { // beyond the millisecond, when the authority read its clock
		var e authorityTime
		e.count(5000, asked, clock.Time(asked+10))
		there := 5000*int64(time.Millisecond) + ns // at the same moment as asked at the earliest
		for _, later := range []int64{0, 1, 499_999, 1_000_000, 7_654_321} {
			if got := e.at(clock.Time(asked + later)); got*int64(time.Millisecond) < (there+later)/int64(time.Millisecond)*int64(time.Millisecond) {
				t.Errorf("%d ns later it is %d ms here and %d ns there", later, got, there+later)
			}
		}
	}
}
