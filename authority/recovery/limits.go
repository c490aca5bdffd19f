package recovery

import (
	"slices"
	"sync"
	"time"
)

// limitsMax bounds how many addresses are counted. When there are more, new ones are not heard until an hour is over: memory is not to be
// had by asking.
const limitsMax = 20_000

// limits counts what was asked within the last hour. It is this node's alone: another leader begins anew.
type limits struct {
	mu    sync.Mutex
	times map[string][]time.Time
	swept time.Time
}

func newLimits() *limits { return &limits{times: map[string][]time.Time{}} }

// take counts one more and reports whether it may be.
func (l *limits) take(who string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := func(t time.Time) bool { return now.Sub(t) >= time.Hour }
	if len(l.times) >= limitsMax && now.Sub(l.swept) > time.Minute {
		l.swept = now
		for name, times := range l.times {
			if !slices.ContainsFunc(times, func(t time.Time) bool { return !old(t) }) {
				delete(l.times, name)
			}
		}
	}
	times := slices.DeleteFunc(l.times[who], old)
	if len(times) >= perHour || len(times) == 0 && len(l.times) >= limitsMax {
		return false
	}
	l.times[who] = append(times, now)
	return true
}
