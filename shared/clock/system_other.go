//go:build !linux && !darwin && !windows

package clock

import "time"

// CountsSuspend says whether System counts while the machine is suspended.
// Here it does not: good for trying things, not for the promise (shared/system).
const CountsSuspend = false

type system struct{}

var start = time.Now()

// System is the machine's own clock; see CountsSuspend.
func System() Clock { return system{} }

func (system) Now() Time { return Time(time.Since(start)) }
