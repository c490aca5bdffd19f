package search

import (
	"hash/maphash"
	"sync/atomic"
)

// visited is a set of 64-bit hashes of states (hash compaction): two states of one
// hash are taken for one, and what only the second leads to may be missed. Among n
// states the chance that there is any such pair is about n²/2^64 (63 bits count): 5e-6
// for ten million, 5e-4 for a hundred million. Every search hashes with another seed, so
// that two miss different ones. Safe for concurrent use, but for reserve.
type visited[S comparable] struct {
	alike []func(s *S) S
	seed  maphash.Seed
	slot  []atomic.Uint64
	n     atomic.Int64
}

func newVisited[S comparable](alike []func(s *S) S) *visited[S] {
	return &visited[S]{alike: alike, seed: maphash.MakeSeed(), slot: make([]atomic.Uint64, 1<<16)}
}

// hash of a state; the smallest of those that differ in names only.
func (v *visited[S]) hash(s *S) uint64 {
	h := maphash.Comparable(v.seed, *s)
	for _, renamed := range v.alike {
		h = min(h, maphash.Comparable(v.seed, renamed(s)))
	}
	return h | 1
}

// add reports whether h is new.
func (v *visited[S]) add(h uint64) bool {
	mask := uint64(len(v.slot) - 1)
	for i := h >> 20 & mask; ; i = (i + 1) & mask {
		switch v.slot[i].Load() {
		case 0:
			if v.slot[i].CompareAndSwap(0, h) {
				if v.n.Add(1) > int64(len(v.slot)/16*15) {
					panic("the table of visited states is full: raise branching")
				}
				return true
			}
			if v.slot[i].Load() == h {
				return false
			}
		case h:
			return false
		}
	}
}

// reserve makes room for so many more.
func (v *visited[S]) reserve(more int) {
	size := len(v.slot)
	for size < (int(v.n.Load())+more)*5/4 {
		size *= 2
	}
	if size == len(v.slot) {
		return
	}
	old := v.slot
	v.slot = make([]atomic.Uint64, size)
	mask := uint64(size - 1)
	for i := range old {
		h := old[i].Load()
		if h == 0 {
			continue
		}
		j := h >> 20 & mask
		for v.slot[j].Load() != 0 {
			j = (j + 1) & mask
		}
		v.slot[j].Store(h)
	}
}
