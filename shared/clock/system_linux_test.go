package clock

import (
	"testing"
	"time"
)

// TestSystemKeepsToBootTime compares readings with the clock they stand for.
func TestSystemKeepsToBootTime(t *testing.T) {
	s := System()
	var behind, ahead time.Duration
	s.Now()
	for end := boot().Add(300 * time.Millisecond); boot() < end; {
		before := boot()
		got := s.Now()
		after := boot()
		behind = max(behind, before.Sub(got))
		ahead = max(ahead, got.Sub(after))
	}
	t.Logf("at most %v behind, %v ahead", behind, ahead)
	if behind > shortSuspend || ahead > rereadWithin {
		t.Errorf("%v behind (at most %v), %v ahead (at most %v)", behind, shortSuspend, ahead, rereadWithin)
	}
}

// TestSystemNoticesASuspension forges what the kernel does to a suspended
// machine: the wall clock has moved on and the monotonic clock has not.
func TestSystemNoticesASuspension(t *testing.T) {
	for _, slept := range []time.Duration{2 * time.Millisecond, time.Hour, -time.Hour} {
		s := &system{}
		now := time.Now()
		// Had it counted on from this reading, it would be an hour ahead.
		s.last.Store(&reading{at: now, wall: now.UnixNano() - int64(slept), boot: boot().Add(time.Hour)})
		if got, want := s.Now(), boot(); got > want {
			t.Errorf("after %v asleep: counted on to %v ahead of the true time", slept, got.Sub(want))
		}
	}
}

// TestSystemCountsOnWithoutASystemCall is the other side: undisturbed, it does
// count on from the last reading.
func TestSystemCountsOnWithoutASystemCall(t *testing.T) {
	s, now := &system{}, time.Now()
	s.last.Store(&reading{at: now, wall: now.UnixNano(), boot: boot().Add(time.Hour)})
	if got, want := s.Now(), boot().Add(time.Minute); got < want {
		t.Error("it read the clock anew")
	}
}
