package edge

import (
	"time"

	"machineid/shared/clock"
	"machineid/shared/link"
)

// holding are the buckets that the memory may hold something of (I7), in two
// generations of a TTL each: no entry outlives the second. Only the link's receive
// loop uses it.
type holding struct {
	turned        clock.Time
	present, past []byte // of link.HeldBytes each; nil: nothing
}

// add notes what is about to be put into the caches.
func (h *holding) add(hash uint64, now clock.Time, ttl time.Duration) {
	h.turn(now, ttl)
	if h.present == nil {
		h.present = make([]byte, link.HeldBytes)
	}
	b := link.BucketOf(hash)
	h.present[b/8] |= 1 << (b % 8)
}

// turn begins new generations as time has passed.
func (h *holding) turn(now clock.Time, ttl time.Duration) {
	switch since := now.Sub(h.turned); {
	case since >= 2*ttl:
		h.present, h.past = nil, nil
	case since >= ttl:
		h.present, h.past = nil, h.present
	default:
		return
	}
	h.turned = now
}

// all is Hello's held.
func (h *holding) all(now clock.Time, ttl time.Duration) []byte {
	h.turn(now, ttl)
	held := make([]byte, link.HeldBytes)
	copy(held, h.present)
	for i, b := range h.past {
		held[i] |= b
	}
	return held
}
