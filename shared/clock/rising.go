package clock

import "sync/atomic"

// Rising is a time of day in milliseconds that never goes back, whoever raises it. The zero
// value is ready for use. It is safe for concurrent use.
type Rising struct{ latest atomic.Int64 }

// Raise returns the later of ms and all that it was raised to before.
func (r *Rising) Raise(ms int64) int64 {
	for {
		latest := r.latest.Load()
		if ms <= latest {
			return latest
		}
		if r.latest.CompareAndSwap(latest, ms) {
			return ms
		}
	}
}

// Latest returns what it was raised to, 0 if it was not.
func (r *Rising) Latest() int64 { return r.latest.Load() }
