package edge

import (
	"sync"
	"time"

	"machineid/shared/clock"
)

// A table of budgets has so many sets, and each set so many cells. Its memory is
// this and no more (280 KB), whoever comes.
const (
	budgetSets = 1 << 11
	budgetWays = 8
)

// budgets counts what each of many parties uses, by the generic cell rate
// algorithm: one use costs `every` of time, and a party may be `burst` uses ahead.
// A use that may yet turn out to be free is held: it takes room until it is
// settled, so that what is spent and what is held are never above the burst.
//
// Only what memory cannot answer comes here, and locks are of a set: two parties
// meet in one by chance only, for tags are keyed hashes. In a full set that party
// makes room which is nearest to having its whole burst again: a flood from many
// addresses frees its own places, and shares none with those that are within
// their budget. Safe for concurrent use; nil has no limit.
type budgets struct {
	every time.Duration
	burst int64
	// clean is how much more a party may hold that has nothing spent: who has wasted nothing is
	// not kept waiting for what is under way.
	clean int64
	sets  []budgetSet
}

type budgetSet struct {
	mu    sync.Mutex
	cells [budgetWays]budgetCell
}

type budgetCell struct {
	tag   uint64
	spent clock.Time // when all that was spent will have been earned again
	held  int64
}

// newBudgets allows n uses in each span, all of them at once at most. 0 is no limit.
func newBudgets(n int, span time.Duration, sets int) *budgets {
	if n <= 0 {
		return nil
	}
	return &budgets{every: max(span/time.Duration(n), 1), burst: int64(n), sets: make([]budgetSet, sets)}
}

// hold takes room for one use of a party, to be settled. If there is none it says
// how long that will take, at least, and whether it is only held: then it may come
// at any time, as soon as others are settled.
func (b *budgets) hold(tag uint64, now clock.Time) (wait time.Duration, onlyHeld bool) {
	if b == nil {
		return 0, false
	}
	s := b.set(tag)
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.cell(tag)
	if c == nil {
		c = s.victim(now)
		*c = budgetCell{tag: tag}
	}
	room := time.Duration(b.burst)*b.every - max(c.spent.Sub(now), 0)
	if room >= time.Duration(c.held+1)*b.every || c.spent <= now && c.held < b.burst+b.clean {
		c.held++
		return 0, false
	}
	if room >= b.every {
		return b.every, true
	}
	return b.every - room, false
}

// settle ends a hold: the use is spent, or was free.
func (b *budgets) settle(tag uint64, now clock.Time, spend bool) {
	if b == nil {
		return
	}
	s := b.set(tag)
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.cell(tag)
	if c == nil || c.held == 0 {
		return // it had to make room
	}
	c.held--
	if spend {
		c.spent = max(c.spent, now).Add(b.every)
	}
}

// take spends one use, or says how long it must wait.
func (b *budgets) take(tag uint64, now clock.Time) (wait time.Duration) {
	if wait, _ = b.hold(tag, now); wait == 0 {
		b.settle(tag, now, true)
	}
	return wait
}

func (b *budgets) set(tag uint64) *budgetSet { return &b.sets[tag%uint64(len(b.sets))] }

func (s *budgetSet) cell(tag uint64) *budgetCell {
	for i := range s.cells {
		if s.cells[i].tag == tag {
			return &s.cells[i]
		}
	}
	return nil
}

// victim is the cell that makes room: one that is as good as new, else of those that
// hold nothing the one that has spent least.
func (s *budgetSet) victim(now clock.Time) *budgetCell {
	best := &s.cells[0]
	for i := range s.cells {
		c := &s.cells[i]
		switch {
		case c.held == 0 && c.spent <= now:
			return c
		case (c.held == 0) != (best.held == 0):
			if c.held == 0 {
				best = c
			}
		case c.spent < best.spent:
			best = c
		}
	}
	return best
}
