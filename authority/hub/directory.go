package hub

import (
	"encoding/binary"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"

	"machineid/shared/clock"
	"machineid/shared/link"
)

// directory tells which sessions may hold something of a bucket (I6): one bit for
// each bucket and slot, a slot being a session's number in its reign. What a
// session fetches is noted in the present generation, and forgotten when that has
// been followed by two others: a period at the least, which no entry at an edge
// outlives. So it takes the same memory whatever a stranger asks for. A bit too many
// costs a message.
type directory struct {
	period time.Duration

	mu      sync.RWMutex // held for writing to turn, grow or shrink; bits are set under a read lock, so that none is set in a generation that is past
	turned  clock.Time
	slots   int // that there are; bits of more may be left of earlier ones
	present generation
	past    generation
}

// generation is [slot/64], each of them a bit for each bucket and slot of 64.
type generation []*row

// row is made where something is noted: sessions that ask for nothing take next to nothing.
type row [link.Buckets / pageBuckets]atomic.Pointer[page]

type page [pageBuckets]atomic.Uint64

const (
	slotsPerWord = 64
	pageBuckets  = 512
)

// at is where the bits of a bucket are. It makes what is missing.
func (r *row) at(bucket uint32) *atomic.Uint64 {
	p := &r[bucket/pageBuckets]
	if p.Load() == nil {
		p.CompareAndSwap(nil, new(page)) // or another was faster
	}
	return &p.Load()[bucket%pageBuckets]
}

// word returns the bits of a bucket, none if it has no such row.
func (g generation) word(i int, bucket uint32) uint64 {
	if i >= len(g) {
		return 0
	}
	if p := g[i][bucket/pageBuckets].Load(); p != nil {
		return p[bucket%pageBuckets].Load()
	}
	return 0
}

// newDirectory returns one whose entries are forgotten one period at the least
// after they were noted.
func newDirectory(period time.Duration, now clock.Time) *directory {
	return &directory{period: period, turned: now}
}

// grow makes room for a slot.
func (d *directory) grow(slot int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.slots = max(d.slots, slot+1)
	for len(d.present) <= slot/slotsPerWord {
		d.present = append(d.present, new(row))
	}
}

// shrink says that there are no more than so many slots. The room for more goes with the next turns.
func (d *directory) shrink(slots int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.slots = slots
}

// note records that a slot is about to read what these hashes stand for. It must
// come before the reading (I5).
func (d *directory) note(slot int, hashes ...uint64) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	if slot/slotsPerWord >= len(d.present) {
		return // the session has been replaced, and what it still asks for tells nobody anything
	}
	of, bit := d.present[slot/slotsPerWord], uint64(1)<<(slot%slotsPerWord)
	for _, h := range hashes {
		of.at(link.BucketOf(h)).Or(bit)
	}
}

// hold records all that an edge says it may hold (I7). held has link.HeldBytes.
func (d *directory) hold(slot int, held []byte) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	of, bit := d.present[slot/slotsPerWord], uint64(1)<<(slot%slotsPerWord)
	for i := 0; i < len(held); i += 8 {
		for w := binary.LittleEndian.Uint64(held[i:]); w != 0; w &= w - 1 {
			of.at(uint32(i*8 + bits.TrailingZeros64(w))).Or(bit)
		}
	}
}

// holders calls f with each slot that may hold what a hash stands for.
func (d *directory) holders(hash uint64, f func(slot int)) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	bucket := link.BucketOf(hash)
	for i := range max(len(d.present), len(d.past)) {
		for w := d.present.word(i, bucket) | d.past.word(i, bucket); w != 0; w &= w - 1 {
			f(i*slotsPerWord + bits.TrailingZeros64(w))
		}
	}
}

// turn begins a new generation if the present one has lasted its period. Being late
// with it does no harm.
func (d *directory) turn(now clock.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now.Sub(d.turned) < d.period {
		return
	}
	fresh := make(generation, 0, (d.slots+slotsPerWord-1)/slotsPerWord)
	for len(fresh) < cap(fresh) {
		fresh = append(fresh, new(row))
	}
	d.past, d.present, d.turned = d.present, fresh, now
}
