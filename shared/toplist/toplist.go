// Package toplist finds who makes most of a load, in a space that is bounded however many there are: Space-Saving (Metwally, Agrawal and El Abbadi,
// 2005), whose counts are halved as time passes. What makes more than one part in [Size] of the load is surely among them; a rate may be
// too high by what one part in Size is, and is never too low.
package toplist

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// Size is how many are counted at once.
const Size = 64

// halfLife is after what time what was added counts half.
const halfLife = 30 * time.Second

// List counts what is added to it for each of many. It is safe for concurrent use. The zero value is ready.
type List[K comparable] struct {
	mu     sync.Mutex
	counts map[K]float64
	halved time.Time // when the counts were halved last
}

// Rate is what was added for one of many, a second, on average over the last minute or so.
type Rate[K comparable] struct {
	Of        K
	PerSecond float64
}

// Add counts amount for one of many. It costs a look-up, and for one that is new a look at all that are counted. now must not go back.
func (l *List[K]) Add(of K, amount float64, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.age(now)
	if _, counted := l.counts[of]; counted || len(l.counts) < Size {
		l.counts[of] += amount
		return
	}
	var least K
	low := -1.0
	for k, n := range l.counts {
		if low < 0 || n < low {
			least, low = k, n
		}
	}
	delete(l.counts, least)
	l.counts[of] = low + amount // it may have made all of that before it was counted
}

// Top returns those with the highest rates, the highest first, at most n of them.
func (l *List[K]) Top(n int, now time.Time) []Rate[K] {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.age(now)
	// What comes evenly at r a second counts r times the half-life right after it was halved, and grows from there.
	window := (halfLife + now.Sub(l.halved)).Seconds()
	list := make([]Rate[K], 0, len(l.counts))
	for k, count := range l.counts {
		list = append(list, Rate[K]{Of: k, PerSecond: count / window})
	}
	slices.SortFunc(list, func(a, b Rate[K]) int { return cmp.Compare(b.PerSecond, a.PerSecond) })
	return list[:min(n, len(list))]
}

// negligible is the count of one that is forgotten.
const negligible = 0.5

// age halves the counts once for every half-life that has passed. l.mu is held.
func (l *List[K]) age(now time.Time) {
	if l.counts == nil {
		l.counts, l.halved = make(map[K]float64, Size), now
		return
	}
	for l.halved.Add(halfLife).Before(now) || l.halved.Add(halfLife).Equal(now) {
		if len(l.counts) == 0 {
			l.halved = now
			return
		}
		l.halved = l.halved.Add(halfLife)
		for k, count := range l.counts {
			if l.counts[k] = count / 2; count/2 < negligible {
				delete(l.counts, k)
			}
		}
	}
}
