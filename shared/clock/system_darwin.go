package clock

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// CountsSuspend says whether System counts while the machine is suspended.
const CountsSuspend = true

// system reads CLOCK_MONOTONIC_RAW, which stands for mach_continuous_time: it counts while the machine sleeps, and nothing sets or slews it. Go's
// own monotonic clock is mach_absolute_time, which stops then.
type system struct{}

// System is the machine's own clock; see CountsSuspend.
func System() Clock { return system{} }

func (system) Now() Time {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC_RAW, &ts); err != nil {
		// Without a clock no lease can be judged. macOS has had this one since 10.12.
		panic(fmt.Errorf("read CLOCK_MONOTONIC_RAW: %w", err))
	}
	return Time(ts.Nano())
}
