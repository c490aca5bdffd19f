package clock

import (
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// CountsSuspend says whether System counts while the machine is suspended.
const CountsSuspend = true

// shortSuspend is the shortest suspension that is noticed at once, and so how far
// behind CLOCK_BOOTTIME a reading may be. A thousandth of the shortest lease: the
// clock bound has room for it.
const shortSuspend = time.Millisecond

// rereadEvery bounds how long a shorter suspension goes unnoticed.
const rereadEvery = 100 * time.Millisecond

// rereadWithin bounds how far apart the two clocks of one reading were read, and
// so how far ahead of CLOCK_BOOTTIME it may be.
const rereadWithin = 50 * time.Microsecond

// system reads CLOCK_BOOTTIME, at the price of time.Now. To read it anew takes a
// system call, a tenth of what the edge spends on a whole validate. So it counts
// on with the monotonic clock, which stops during a suspension, and watches the
// wall clock, to which the kernel adds the suspended time before any process runs
// again: as long as the two have moved alike there was none. Whatever else moves
// the wall clock only costs the system call.
type system struct {
	last atomic.Pointer[reading]
	boot func() Time // CLOCK_BOOTTIME
}

type reading struct {
	at   time.Time // monotonic, taken just before boot
	wall int64     // nanoseconds, of the same moment
	boot Time
}

// System is the machine's own clock; see CountsSuspend.
func System() Clock {
	s := &system{boot: boot}
	s.last.Store(&reading{}) // too old to count on from
	return s
}

func (s *system) Now() Time { return s.At(time.Now()) }

// At is Now for a moment that the caller has read already.
func (s *system) At(now time.Time) Time {
	last := s.last.Load()
	passed := now.Sub(last.at) // by the monotonic clock
	moved := time.Duration(now.UnixNano() - last.wall)
	if passed >= 0 && passed < rereadEvery && moved-passed < shortSuspend && passed-moved < shortSuspend {
		return last.boot.Add(passed)
	}
	at := time.Now()
	r := &reading{at: at, wall: at.UnixNano(), boot: s.boot()}
	if counted := last.boot.Add(at.Sub(last.at)); counted > r.boot && counted.Sub(r.boot) < rereadWithin {
		r.boot = counted // as far ahead as the last reading was: whoever has seen that must not see less now
	}
	if time.Since(at) < rereadWithin && !s.last.CompareAndSwap(last, r) {
		// Another was faster, and may be less far ahead. All count on from that one, unless the machine slept since it was read.
		return s.At(at)
	}
	return r.boot
}

func boot() Time {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		// Without a clock no lease can be judged. Linux has had this one since 2.6.39.
		panic(fmt.Errorf("read CLOCK_BOOTTIME: %w", err))
	}
	return Time(ts.Nano())
}
