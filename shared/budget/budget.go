// Package budget counts what each of many parties uses, whoever comes, in a space that is bounded: nobody who fills it shuts others out.
package budget

import (
	"sync"
	"time"

	"machineid/shared/clock"
)

// Sets is how many sets a table for many parties has. Its memory is this and no more (400 KB), whoever comes.
const Sets = 1 << 11

// ways is how many cells a set has.
const ways = 8

// Table counts what each of many parties uses, by the generic cell rate
// algorithm: one use costs `every` of time, and a party may be `burst` uses ahead.
// A use that may yet turn out to be free is held: it takes room until it is
// settled, so that what is spent and what is held are never above the burst.
//
// Only what memory cannot answer comes here, and locks are of a set: two parties
// meet in one by chance only, for tags are keyed hashes. In a full set that party
// makes room which is nearest to having its whole burst again: a flood from many
// addresses frees its own places, and shares none with those that are within
// their budget. Safe for concurrent use; nil has no limit.
type Table struct {
	every time.Duration
	burst int64
	clean int64
	sets  []set
}

type set struct {
	mu    sync.Mutex
	cells [ways]cell
}

type cell struct {
	tag   uint64
	spent clock.Time // when all that was spent will have been earned again
	held  int64
}

// New allows n uses in each span, all of them at once at most. 0 is no limit.
func New(n int, span time.Duration, sets int) *Table {
	if n <= 0 {
		return nil
	}
	return Every(n, span/time.Duration(n), sets)
}

// Every allows burst uses at once, and then one every so often.
func Every(burst int, every time.Duration, sets int) *Table {
	return &Table{every: max(every, 1), burst: int64(burst), sets: make([]set, sets)}
}

// Clean lets a party that has nothing spent hold so many times its burst more: who has wasted nothing is not kept waiting for what is under way. To be called
// before the table is used.
func (b *Table) Clean(times int64) {
	if b != nil {
		b.clean = times * b.burst
	}
}

// Held is how many uses are held. It is for tests.
func (b *Table) Held() (n int64) {
	for i := range b.sets {
		b.sets[i].mu.Lock()
		for _, c := range b.sets[i].cells {
			n += c.held
		}
		b.sets[i].mu.Unlock()
	}
	return n
}

// Hold takes room for one use of a party, to be settled. If there is none it says
// how long that will take, at least, and whether it is only held: then it may come
// at any time, as soon as others are settled.
func (b *Table) Hold(tag uint64, now clock.Time) (wait time.Duration, onlyHeld bool) {
	if b == nil {
		return 0, false
	}
	s := b.of(tag)
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.find(tag)
	if c == nil {
		c = s.victim(now)
		*c = cell{tag: tag}
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

// Settle ends a hold: the use is spent, or was free.
func (b *Table) Settle(tag uint64, now clock.Time, spend bool) {
	if b == nil {
		return
	}
	s := b.of(tag)
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.find(tag)
	if c == nil || c.held == 0 {
		return // it had to make room
	}
	c.held--
	if spend {
		c.spent = max(c.spent, now).Add(b.every)
	}
}

// Take spends one use, or says how long it must wait.
func (b *Table) Take(tag uint64, now clock.Time) (wait time.Duration) {
	if wait, _ = b.Hold(tag, now); wait == 0 {
		b.Settle(tag, now, true)
	}
	return wait
}

func (b *Table) of(tag uint64) *set { return &b.sets[tag%uint64(len(b.sets))] }

func (s *set) find(tag uint64) *cell {
	for i := range s.cells {
		if s.cells[i].tag == tag {
			return &s.cells[i]
		}
	}
	return nil
}

// victim is the cell that makes room: one that is as good as new, else of those that
// hold nothing the one that has spent least.
func (s *set) victim(now clock.Time) *cell {
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
