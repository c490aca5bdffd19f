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

	mu      sync.RWMutex // held for writing to turn or grow; bits are set under a read lock, so that none is set in a generation that is past
	turned  clock.Time
	present generation
	past    generation
}

// generation is [slot/64][bucket], a bit for each slot of 64.
type generation [][]atomic.Uint64

const slotsPerWord = 64

// newDirectory returns one whose entries are forgotten one period at the least
// after they were noted.
func newDirectory(period time.Duration, now clock.Time) *directory {
	return &directory{period: period, turned: now}
}

// grow makes room for a slot.
func (d *directory) grow(slot int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(d.present) <= slot/slotsPerWord {
		d.present = append(d.present, make([]atomic.Uint64, link.Buckets))
		d.past = append(d.past, make([]atomic.Uint64, link.Buckets))
	}
}

// note records that a slot is about to read what these hashes stand for. It must
// come before the reading (I5).
func (d *directory) note(slot int, hashes ...uint64) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	row, bit := d.present[slot/slotsPerWord], uint64(1)<<(slot%slotsPerWord)
	for _, h := range hashes {
		row[link.BucketOf(h)].Or(bit)
	}
}

// hold records all that an edge says it may hold (I7). held has link.HeldBytes.
func (d *directory) hold(slot int, held []byte) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	row, bit := d.present[slot/slotsPerWord], uint64(1)<<(slot%slotsPerWord)
	for i := 0; i < len(held); i += 8 {
		for w := binary.LittleEndian.Uint64(held[i:]); w != 0; w &= w - 1 {
			row[i*8+bits.TrailingZeros64(w)].Or(bit)
		}
	}
}

// holders calls f with each slot that may hold what a hash stands for.
func (d *directory) holders(hash uint64, f func(slot int)) {
	d.mu.RLock()
	defer d.mu.RUnlock()
	bucket := link.BucketOf(hash)
	for i := range d.present {
		for w := d.present[i][bucket].Load() | d.past[i][bucket].Load(); w != 0; w &= w - 1 {
			f(i*slotsPerWord + bits.TrailingZeros64(w))
		}
	}
}

// turn begins a new generation if the present one has lasted its period. Being late
// with it does no harm.
func (d *directory) turn(now clock.Time) {
	d.mu.RLock()
	due, words := now.Sub(d.turned) >= d.period, len(d.present)
	d.mu.RUnlock()
	if !due {
		return
	}
	fresh := make(generation, 0, words)
	for range words {
		fresh = append(fresh, make([]atomic.Uint64, link.Buckets))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for len(fresh) < len(d.present) { // it grew meanwhile
		fresh = append(fresh, make([]atomic.Uint64, link.Buckets))
	}
	d.past, d.present, d.turned = d.present, fresh, now
}
