package raftstore

import "github.com/hashicorp/raft"

// entryOverhead is what an entry costs in memory besides its data.
const entryOverhead = 128

// ring keeps the newest entries of the log in memory, bounded by bytes: raft's own cache counts entries, and a packed entry may
// be half a megabyte. Entries are contiguous. Not safe for concurrent use: logStore.mu guards it.
type ring struct {
	buf   []raft.Log // circular
	head  int        // position of the oldest entry in buf
	n     int
	bytes int
	limit int
}

func entryCost(l *raft.Log) int { return entryOverhead + len(l.Data) + len(l.Extensions) }

func (r *ring) at(i int) *raft.Log { return &r.buf[(r.head+i)%len(r.buf)] }

func (r *ring) first() uint64 { return r.at(0).Index }

func (r *ring) get(index uint64) (*raft.Log, bool) {
	if r.n == 0 || index < r.first() || index > r.at(r.n-1).Index {
		return nil, false
	}
	return r.at(int(index - r.first())), true
}

// push appends one entry. An entry that does not follow the newest replaces everything, and one larger than the bound empties it.
func (r *ring) push(l *raft.Log) {
	if r.n > 0 && l.Index != r.at(r.n-1).Index+1 {
		r.clear()
	}
	cost := entryCost(l)
	if cost > r.limit {
		r.clear()
		return
	}
	for r.bytes+cost > r.limit {
		r.dropOldest()
	}
	if r.n == len(r.buf) {
		r.grow()
	}
	*r.at(r.n) = *l
	r.n++
	r.bytes += cost
}

func (r *ring) grow() {
	grown := make([]raft.Log, max(64, 2*len(r.buf)))
	for i := range r.n {
		grown[i] = *r.at(i)
	}
	r.buf, r.head = grown, 0
}

func (r *ring) dropOldest() {
	l := r.at(0)
	r.bytes -= entryCost(l)
	*l = raft.Log{}
	r.head = (r.head + 1) % len(r.buf)
	r.n--
}

// dropTo forgets every entry up to and including index.
func (r *ring) dropTo(index uint64) {
	for r.n > 0 && r.first() <= index {
		r.dropOldest()
	}
}

// dropFrom forgets index and every entry after it.
func (r *ring) dropFrom(index uint64) {
	for r.n > 0 && r.at(r.n-1).Index >= index {
		l := r.at(r.n - 1)
		r.bytes -= entryCost(l)
		*l = raft.Log{}
		r.n--
	}
}

// dropBetween forgets lo..hi, which are at one end of the log; whatever it cannot cut off at an end, it forgets too.
func (r *ring) dropBetween(lo, hi uint64) {
	if r.n == 0 || hi < r.first() || lo > r.at(r.n-1).Index {
		return
	}
	if lo <= r.first() {
		r.dropTo(hi)
		return
	}
	r.dropFrom(lo)
}

func (r *ring) clear() {
	for r.n > 0 {
		r.dropOldest()
	}
}
