package clock

import (
	"unsafe"

	"golang.org/x/sys/windows"
)

// CountsSuspend says whether System counts while the machine is suspended.
const CountsSuspend = true

// tick is the unit of the interrupt time, in nanoseconds.
const tick = 100

var interruptTime = windows.NewLazySystemDLL("kernelbase.dll").NewProc("QueryInterruptTimePrecise")

// System is the machine's own clock; see CountsSuspend. It is the interrupt time, which counts while the machine sleeps or hibernates, and which
// nobody sets; its unbiased sister does not count then.
func System() Clock {
	if interruptTime.Find() != nil {
		return ticks{}
	}
	return precise{}
}

type precise struct{}

func (precise) Now() Time {
	var t uint64
	_, _, _ = interruptTime.Call(uintptr(unsafe.Pointer(&t))) // it returns nothing
	return Time(t * tick)                                     // 292 years after the start of the machine
}

// ticks are the same time as of the last tick, which is 16 ms ago at most: what there is where the call is missing, as before Windows 10 and in Wine.
type ticks struct{}

func (ticks) Now() Time { return Time(windows.DurationSinceBoot()) }
