// Package clock counts elapsed time for leases (DESIGN.md, I1). Its readings
// have no meaning as dates: only differences count, and only their rate is
// assumed to be right, within the clock bound ρ.
//
// The clock must count while a machine is suspended. Go's monotonic clock stops
// then on most systems, and an edge that slept for an hour would wake with a lease
// that looks fresh. Where System cannot count on, no server but dev starts
// (shared/system).
package clock

import "time"

// Time is a reading in nanoseconds since an arbitrary start.
type Time int64

// Add returns t moved by d.
func (t Time) Add(d time.Duration) Time { return t + Time(d) }

// Sub returns the time that has passed from u to t.
func (t Time) Sub(u Time) time.Duration { return time.Duration(t - u) }

// Clock reads the time. For one goroutine it never goes back. It is safe for
// concurrent use.
type Clock interface {
	Now() Time
}

// At reads c for a moment that the caller has read from time.Now already, if c can
// do so for less than a reading of its own; else it reads it now.
func At(c Clock, now time.Time) Time {
	if s, ok := c.(interface{ At(t time.Time) Time }); ok {
		return s.At(now)
	}
	return c.Now()
}

// Stretch returns how long a clock that may run fast by bound must count to be
// sure that one that may run slow by bound has counted d: d(1+ρ)/(1−ρ), rounded
// up. The bound is a fraction, 0.01 for 1 %.
func Stretch(d time.Duration, bound float64) time.Duration {
	return time.Duration(float64(d)*(1+bound)/(1-bound)) + 1
}
