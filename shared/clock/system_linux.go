package clock

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// CountsSuspend says whether System counts while the machine is suspended.
const CountsSuspend = true

type system struct{}

// Now costs a system call, some 0.2 µs: read it once a request.
func (system) Now() Time {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		// Without a clock no lease can be judged. Linux has had this one since 2.6.39.
		panic(fmt.Errorf("read CLOCK_BOOTTIME: %w", err))
	}
	return Time(ts.Nano())
}
