package raftstore

import (
	"maps"
	"sync"
)

// allowance is what may still be taken of a room, and who took what of it. A party may take no more than it leaves: whoever takes without end always leaves
// the others as much (I14). What a party took counts until it is seen that as much has come back, not only until the next look, or it would take half of
// what is left again and again. The zero party is the program itself, and has no share.
type allowance struct {
	mu    sync.Mutex
	left  int64           // bytes; below 0: less than nothing
	most  int64           // the most that was left since it began anew
	spent map[Party]int64 // bytes of what is gone since; each is of a command of its own at least
	looks uint64          // how often it was said what is left
}

// spending is what was taken for one command.
type spending struct {
	of    Party
	bytes int64
	looks uint64
}

// set says what is left, in bytes. Nobody has taken more than is gone. anew forgets who took what.
func (a *allowance) set(left int64, anew bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.looks++
	a.left = left
	if anew || a.spent == nil {
		a.spent, a.most = map[Party]int64{}, left
	}
	a.most = max(a.most, left)
	var total int64
	for _, n := range a.spent {
		total += n
	}
	gone := a.most - left
	if total <= gone {
		return
	}
	for of, n := range a.spent {
		a.spent[of] = int64(float64(n) * float64(gone) / float64(total))
	}
	maps.DeleteFunc(a.spent, func(_ Party, n int64) bool { return n == 0 })
}

// take takes n bytes for a party, and reports false if there are not as many for it.
func (a *allowance) take(of Party, n int64) (spending, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n > a.left || of != (Party{}) && a.spent[of]+n > a.left-n {
		return spending{}, false
	}
	a.left -= n
	if a.spent == nil {
		a.spent = map[Party]int64{}
	}
	a.spent[of] += n
	return spending{of: of, bytes: n, looks: a.looks}, true
}

// giveBack undoes a take, unless it was said since what is left: that holds without the command, or the next time will.
func (a *allowance) giveBack(sp spending) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if sp.looks != a.looks {
		return
	}
	a.left += sp.bytes
	if a.spent[sp.of] -= sp.bytes; a.spent[sp.of] == 0 {
		delete(a.spent, sp.of)
	}
}
