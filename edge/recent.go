package edge

import (
	"math/bits"
	"sync/atomic"

	"machineid/shared/clock"
)

// recent holds devices that were asked for lately. Whoever asks for one of a million finds it here with a
// third of the looks at memory that no processor's cache holds. What is in it is judged like any
// entry.
type recent []recentSet

// recentSet is three of them, by their hash, in half a line of a processor's cache. The tags tell
// apart which one to look at; they may be wrong, for what is written at once by two.
type recentSet struct {
	tags    atomic.Uint64 // 16 bits for each device, and how many were put in
	devices [recentWays]atomic.Pointer[deviceEntry]
}

const (
	recentWays = 3
	tagBits    = 16
	tagMask    = 1<<tagBits - 1
)

// newRecent has one and a half to three places for each entry.
func newRecent(entries int64) recent {
	return make(recent, 1<<bits.Len64(uint64(entries)/2))
}

// of splits a hash: floors and ristretto's shards go by its last bits.
func (r recent) of(hash uint64) (set *recentSet, tag uint64) {
	return &r[hash>>floorBits&uint64(len(r)-1)], hash >> (64 - tagBits)
}

// put makes d the newest of its set, in the place of its older entry or of the oldest, mostly.
func (s *recentSet) put(tag uint64, d *deviceEntry) {
	tags := s.tags.Load()
	way := tags >> (recentWays * tagBits) % recentWays
	for i := range uint64(recentWays) {
		if tags>>(i*tagBits)&tagMask == tag {
			way = i
		}
	}
	at := way * tagBits
	s.tags.Store(tags&^(tagMask<<at) | tag<<at + 1<<(recentWays*tagBits))
	s.devices[way].Store(d)
}

// drop takes out what ristretto has dropped, or memory would hold it for as long as nobody
// else comes to its place.
func (r recent) drop(hash uint64, d *deviceEntry) {
	if d == nil {
		return
	}
	set, _ := r.of(hash)
	for i := range set.devices {
		set.devices[i].CompareAndSwap(d, nil)
	}
}

// sampleBits says that one of 2^6 hits passes recent by, so that ristretto learns what is asked for.
const sampleBits = 6

func sampled(hash uint64, now clock.Time) bool {
	return (hash^uint64(now))*0x9e3779b97f4a7c15>>(64-sampleBits) == 0
}
