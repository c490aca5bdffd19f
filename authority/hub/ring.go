package hub

import (
	"sort"

	"machineid/shared/link"
)

// ring is the recent invalidations, in index order. Every node derives the same
// from the log, so that an edge can go on at another node (I7).
type ring struct {
	since uint64 // everything above this index is here
	list  []invalidation
	next  int // where the oldest is, once the list is full
}

type invalidation struct{ index, hash uint64 }

const (
	ringMax = 1 << 20
	// replayMax bounds what one edge is sent again; with more, to begin anew is cheaper.
	replayMax = 1 << 17
)

// reset forgets everything: what came up to index is not known.
func (r *ring) reset(index uint64) { *r = ring{since: index} }

func (r *ring) add(index uint64, hashes []uint64) {
	for _, h := range hashes {
		if len(r.list) < ringMax {
			r.list = append(r.list, invalidation{index, h})
			continue
		}
		r.since = max(r.since, r.list[r.next].index)
		r.list[r.next] = invalidation{index, h}
		r.next = (r.next + 1) % ringMax
	}
}

// replay returns the invalidations above index that concern a bucket of held, one
// message for each index. It returns false if the ring does not reach back so far,
// or if they are too many.
func (r *ring) replay(index uint64, held []byte) (list []*link.Invalidate, ok bool) {
	if index < r.since {
		return nil, false
	}
	n := len(r.list)
	at := func(i int) invalidation { return r.list[(r.next+i)%n] }
	count := 0
	for i := sort.Search(n, func(i int) bool { return at(i).index > index }); i < n; i++ {
		inv := at(i)
		if !link.Held(held, link.BucketOf(inv.hash)) {
			continue
		}
		if count++; count > replayMax {
			return nil, false
		}
		if last := len(list) - 1; last >= 0 && list[last].Index == inv.index {
			list[last].Hashes = append(list[last].Hashes, inv.hash)
		} else {
			list = append(list, &link.Invalidate{Index: inv.index, Hashes: []uint64{inv.hash}})
		}
	}
	return list, true
}
