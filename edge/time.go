package edge

import (
	"sync/atomic"
	"time"

	"machineid/shared/clock"
	"machineid/shared/decision"
)

// authorityTime is the authority's time as this edge knows it: by it the ends of keys, orgs and devices are judged. It never goes back (I11).
type authorityTime struct {
	latest clock.Rising // that was heard of or judged by
	// ahead is the authority's time minus the own clock, in nanoseconds, by the newest lease. The link's receive loop alone writes it.
	ahead atomic.Int64
}

// millisMax is the end of the year 9999, which no authority's clock shows.
const millisMax = 253_402_300_799_999

func sane(ms int64) bool { return ms > 0 && ms <= millisMax }

// at is the authority's time when the own clock reads now, and no time that was judged by before is later.
func (t *authorityTime) at(now clock.Time) decision.Millis {
	return t.latest.Raise((int64(now) + t.ahead.Load()) / int64(time.Millisecond))
}

// hear takes what the authority says its time is.
func (t *authorityTime) hear(ms int64) {
	if sane(ms) {
		t.latest.Raise(ms)
	}
}

// count takes the authority's time when it gave a lease that was asked for at asked: from there the edge counts on. The authority read it after that and cut it
// to milliseconds, so with one more the estimate is not behind. What was counted by the lease before stays counted: time does not fall.
func (t *authorityTime) count(ms, asked int64, now clock.Time) {
	if !sane(ms) {
		return
	}
	t.at(now)
	t.ahead.Store((ms+1)*int64(time.Millisecond) - asked)
}
