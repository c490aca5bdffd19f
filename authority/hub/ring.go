package hub

import (
	"sort"

	"machineid/shared/link"
)

// ring is the recent invalidations, in index order. Every node derives the same
// from the log, so that an edge can go on at another node (I7).
type ring struct {
	since  uint64   // everything above this index is here
	blocks []*block // all but the last are full
}

// block holds some of the invalidations. What is written stays as it is.
type block struct {
	n    int
	list [blockSize]invalidation
}

type invalidation struct{ index, hash uint64 }

const (
	ringMax   = 1 << 20 // that many at the least
	blockSize = 4 << 10
	// replayMax bounds what one edge is sent again; with more, to begin anew is cheaper.
	replayMax = link.MaxInvalidates
)

// reset forgets everything: what came up to index is not known.
func (r *ring) reset(index uint64) { *r = ring{since: index} }

func (r *ring) add(index uint64, hashes []uint64) {
	for _, h := range hashes {
		last := len(r.blocks) - 1
		if last < 0 || r.blocks[last].n == blockSize {
			r.blocks = append(r.blocks, &block{})
			last++
		}
		b := r.blocks[last]
		b.list[b.n] = invalidation{index, h}
		b.n++
	}
	if drop := len(r.blocks) - (ringMax/blockSize + 1); drop > 0 {
		r.since = max(r.since, r.blocks[drop-1].list[blockSize-1].index)
		clear(r.blocks[:drop])
		r.blocks = r.blocks[drop:]
	}
}

// past is a ring as it was at some time. It may be read while the ring goes on.
type past struct {
	since  uint64
	blocks []*block
	n      int
}

func (r *ring) past() past {
	p := past{since: r.since, blocks: append([]*block(nil), r.blocks...)}
	if len(p.blocks) > 0 {
		p.n = (len(p.blocks)-1)*blockSize + p.blocks[len(p.blocks)-1].n
	}
	return p
}

func (p past) at(i int) invalidation { return p.blocks[i/blockSize].list[i%blockSize] }

// newest is the index up to which it tells of all.
func (p past) newest() uint64 {
	if p.n == 0 {
		return p.since
	}
	return p.at(p.n - 1).index
}

// replay returns the invalidations above index that concern a bucket of held, one
// message for each index. It returns false if it does not reach back so far,
// or if they are too many.
func (p past) replay(index uint64, held []byte) (list []*link.Invalidate, ok bool) {
	if index < p.since {
		return nil, false
	}
	count := 0
	for i := sort.Search(p.n, func(i int) bool { return p.at(i).index > index }); i < p.n; i++ {
		inv := p.at(i)
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
