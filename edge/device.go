package edge

import (
	"sync/atomic"
	"time"

	"machineid/shared/clock"
	"machineid/shared/decision"
)

// shortID is the longest device id, in bytes, that stands in its entry: a UUID does. With
// it an entry has 80 bytes, which is a size that Go allocates without waste.
const shortID = 36

// owner is whose a device is. An id that is too long for the entry stands here, so then the
// owner is the device's alone; the others of an org share one, mostly (memory.ownerOf).
type owner struct {
	org orgID
	id  string
}

// deviceEntry is one device in memory. There may be millions: its fields are no wider than they
// must be, and it is one object. It holds what stamp and decision.Occupant do, and the whole key.
type deviceEntry struct {
	index   uint64
	expires clock.Time
	ends    decision.Millis
	owner   *owner
	epoch   uint32
	// noted is when it was last noted that the device asked (I10), in seconds, rounded up;
	// 0 for never.
	noted          atomic.Uint32
	version        uint8
	known, revoked bool
	size           uint8 // of the id, if that is short
	id             [shortID]byte
}

// newDevice makes the entry of a device whose id is of 1 to 256 bytes; of is its org's owner.
func newDevice(at stamp, of *owner, id string, rec decision.Occupant) *deviceEntry {
	d := &deviceEntry{
		index: at.index, expires: at.expires, epoch: at.epoch, owner: of,
		ends: rec.ExpiresAt, known: rec.Known, revoked: rec.Revoked,
		version: uint8(min(rec.MinVersion, tooNew)),
	}
	if len(id) > shortID {
		d.owner = &owner{of.org, id}
	} else {
		d.size = uint8(copy(d.id[:], id))
	}
	return d
}

// tooNew stands for every record version that it is less than: no Decide of this build can
// read them, and what they are does not matter.
const tooNew = 1<<8 - 1

const _ = uint(tooNew - 1 - decision.Version) // does not compile once Decide reads so many

func (d *deviceEntry) stamp() stamp { return stamp{d.index, d.expires, d.epoch} }

func (d *deviceEntry) rec() decision.Occupant {
	return decision.Occupant{MinVersion: uint32(d.version), Known: d.known, Revoked: d.revoked, ExpiresAt: d.ends}
}

// is compares the whole key: the org of k and the id.
func (d *deviceEntry) is(k *keyEntry, id []byte) bool {
	if d.owner == k.owner { // so the id is short
		return string(d.id[:d.size]) == string(id)
	}
	if o := d.owner; o.id != "" {
		return o.org == k.org && o.id == string(id)
	}
	return d.owner.org == k.org && string(d.id[:d.size]) == string(id)
}

// name is whose the device is, and its id.
func (d *deviceEntry) name() (orgID, string) {
	if o := d.owner; o.id != "" {
		return o.org, o.id
	}
	return d.owner.org, string(d.id[:d.size])
}

// same tells whether two entries are of one device.
func (d *deviceEntry) same(e *deviceEntry) bool {
	return d.size == e.size && d.id == e.id && *d.owner == *e.owner
}

// note reports whether it is to be noted now that the device asked, and notes that.
func (d *deviceEntry) note(now clock.Time) bool {
	const every = uint32(noteEvery / time.Second)
	last, second := d.noted.Load(), uint32(now/clock.Time(time.Second))
	return (last == 0 || second >= last+every) && d.known && d.noted.CompareAndSwap(last, second+1)
}
