package edge

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/ristretto/v2"

	"machineid/shared/clock"
	"machineid/shared/decision"
	"machineid/shared/link"
	"machineid/shared/orgkey"
)

// orgID names an org, as on the link.
type orgID = [16]byte

// stamp says when an entry counts: in the memory it was read for, until its
// expiry, and while no invalidation of its hash is newer (I3).
type stamp struct {
	index   uint64
	expires clock.Time // the time its fetch was sent plus the TTL (I5)
	epoch   uint32
}

// The entries hold the whole key beside the record: a hit compares it, so that
// two keys of one hash cost a miss and not a wrong answer. They never change.
type (
	keyEntry struct {
		stamp
		sum           orgkey.Hash
		hash, orgHash uint64
		org           orgID
		owner         *owner // of the org's devices
		rec           decision.Key
		// lastOrg is where the org was found last: a short cut that is judged like
		// any entry.
		lastOrg atomic.Pointer[orgEntry]
		// noted is when it was last noted that the key is used (I10).
		noted atomic.Int64
	}
	orgEntry struct {
		stamp
		id    orgID
		owner *owner
		rec   decision.Holder
	}
)

func newKey(at stamp, sum orgkey.Hash, of *owner, hasher link.Hasher, rec decision.Key) *keyEntry {
	return &keyEntry{
		stamp: at, sum: sum, hash: hasher.Key((*[32]byte)(&sum)), orgHash: hasher.Org(&of.org), org: of.org, owner: of, rec: rec,
	}
}

func newOrg(at stamp, of *owner, rec decision.Holder) *orgEntry {
	return &orgEntry{stamp: at, id: of.org, owner: of, rec: rec}
}

// caches hold entries. They outlive a memory and are never trusted: ristretto
// drops and delays writes, and its Close panics under a concurrent Get, so a
// memory is dropped by its epoch, not by closing what it was kept in.
type caches struct {
	keys, refusedKeys       *ristretto.Cache[uint64, *keyEntry]
	orgs                    *ristretto.Cache[uint64, *orgEntry]
	devices, refusedDevices *ristretto.Cache[uint64, *deviceEntry]
	recent                  recent
	// overtaken counts entries that were found, and did not count because an invalidation
	// was newer.
	overtaken *atomic.Uint64
	// evicted counts entries that had to make room for others; not while all are dropped.
	evicted  *atomic.Uint64
	clearing *atomic.Bool
}

// refusedShare is the part of the room that refusals get, for their own: a flood
// of unknown keys or ids must not push out what is known (I5).
const refusedShare = 8

// Of ristretto's counters there are so many for an entry. They choose what stays when there is no
// room; what they take is memory whether or not there is any, so keys and orgs, of which an
// edge has few, get what it takes to choose at all.
const (
	countersDevice = 4
	countersOther  = 1
)

func newCaches(entries int64) (c *caches, err error) {
	c = &caches{overtaken: &atomic.Uint64{}, evicted: &atomic.Uint64{}, clearing: &atomic.Bool{}}
	few := entries / refusedShare
	if c.keys, err = newCache(entries, countersOther, func(uint64, *keyEntry) { c.gone() }); err != nil {
		return nil, err
	}
	if c.refusedKeys, err = newCache[*keyEntry](few, countersOther); err != nil {
		return nil, err
	}
	if c.orgs, err = newCache(entries, countersOther, func(uint64, *orgEntry) { c.gone() }); err != nil {
		return nil, err
	}
	c.recent = newRecent(entries)
	if c.devices, err = newCache(entries, countersDevice, c.recent.drop, func(uint64, *deviceEntry) { c.gone() }); err != nil {
		return nil, err
	}
	c.refusedDevices, err = newCache[*deviceEntry](few, countersOther)
	return c, err
}

// gone counts an entry that made room.
func (c *caches) gone() {
	if !c.clearing.Load() {
		c.evicted.Add(1)
	}
}

func newCache[V any](entries, counters int64, gone ...func(hash uint64, entry V)) (*ristretto.Cache[uint64, V], error) {
	c, err := ristretto.NewCache(&ristretto.Config[uint64, V]{
		NumCounters: counters * entries, MaxCost: entries, BufferItems: 64, IgnoreInternalCost: true,
		OnEvict: func(i *ristretto.Item[V]) {
			for _, f := range gone {
				f(i.Key, i.Value)
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("make a cache of %d entries: %w", entries, err)
	}
	return c, nil
}

func (c *caches) close() {
	c.keys.Close()
	c.refusedKeys.Close()
	c.orgs.Close()
	c.devices.Close()
	c.refusedDevices.Close()
}

// clear makes room after a reset. It may drop what is put in meanwhile, which
// costs a fetch; what it leaves is of an older epoch. Two at once would stop
// ristretto for good.
func (c *caches) clear() {
	c.clearing.Store(true)
	defer c.clearing.Store(false)
	c.keys.Clear()
	c.refusedKeys.Clear()
	c.orgs.Clear()
	c.devices.Clear() // and recent with it
	c.refusedDevices.Clear()
}

const floorBits = 20

// memory is all that the edge believes (I7). A session goes on with that of the one
// before if the authority can tell what was missed between; else it begins another,
// in which nothing counts that was read for the old one.
type memory struct {
	*caches
	epoch   uint32
	hasher  link.Hasher
	sight   *sightings              // who asks (I10)
	ttl     time.Duration           // of every entry
	flights atomic.Pointer[flights] // of the newest session
	// Of the link's receive loop: in which incarnation it was read, up to which index
	// every invalidation of it is in force, and what it may hold.
	incarnation []byte
	current     uint64
	read        uint64 // the newest index that an answer was read at
	holding     holding
	// floors[h] is the newest index that concerned a hash which ends in h; an
	// entry that was read at an older one does not count (I3). They only rise.
	floors [1 << floorBits]atomic.Uint64
	// front holds keys that were used lately, by their hash's first bits. A fleet
	// has few keys and asks with one of them every time: this saves the look-up.
	front [1 << frontBits]atomic.Pointer[keyEntry]
}

const frontBits = 12

func (m *memory) frontOf(sum *orgkey.Hash) *atomic.Pointer[keyEntry] {
	return &m.front[binary.LittleEndian.Uint16(sum[:])&(1<<frontBits-1)]
}

func (m *memory) floor(hash uint64) *atomic.Uint64 {
	return &m.floors[hash&(1<<floorBits-1)]
}

// raise puts an invalidation in force. Only the link's receive loop calls it.
func (m *memory) raise(hash, index uint64) {
	if f := m.floor(hash); f.Load() < index {
		f.Store(index)
	}
}

// counts judges expiry and then the floor; the caller has judged the lease (I3).
func (m *memory) counts(s stamp, hash uint64, now clock.Time) bool {
	if s.epoch != m.epoch || now >= s.expires {
		return false
	}
	if s.index < m.floor(hash).Load() {
		m.overtaken.Add(1)
		return false
	}
	return true
}

// question is one validate, with what is computed of it once.
type question struct {
	sum    orgkey.Hash
	device []byte

	from     netip.Addr // who asks; for what memory cannot answer
	familiar bool       // the device was known, whether or not that still counts
	over     over       // the limit that kept the newest fetch back
}

// found is what a flight brought, for those who waited for it: the caches may
// have dropped it.
type found struct {
	key    *keyEntry
	org    *orgEntry
	device *deviceEntry
}

// need names the record that is missing for a decision.
type need struct {
	kind    byte // one of needKey, needOrg, needDevice
	hash    uint64
	org     orgID
	orgHash uint64
}

const (
	needKey byte = iota + 1
	needOrg
	needDevice
)

// judge decides at now on its own clock, which the lease covers, and at, the
// authority's time; or it names what is missing. extra may be nil.
func (m *memory) judge(q *question, now clock.Time, at decision.Millis, extra *found) (decision.Code, need) {
	k := m.key(q, now, extra)
	if k == nil {
		return 0, need{kind: needKey, hash: m.hasher.Key((*[32]byte)(&q.sum))}
	}
	if !k.rec.Known {
		return decision.Decide(k.rec, decision.Holder{}, decision.Occupant{}, at), need{}
	}
	o := m.org(k, now, extra)
	if o == nil {
		return 0, need{kind: needOrg, hash: k.orgHash, org: k.org, orgHash: k.orgHash}
	}
	// What the org decides needs no device: an org that is off costs one refetch.
	if code := decision.Decide(k.rec, o.rec, decision.Occupant{}, at); code != decision.DeviceNotFound {
		m.denied(k, q, code, now, at)
		return code, need{}
	}
	deviceHash := m.hasher.Device(&k.org, q.device)
	d := m.device(k, q, deviceHash, now, extra)
	if d == nil {
		return 0, need{kind: needDevice, hash: deviceHash, org: k.org, orgHash: k.orgHash}
	}
	m.sight.used(k, now, at)
	m.sight.asked(d, now, at)
	return decision.Decide(k.rec, o.rec, d.rec(), at), need{}
}

// denied notes who asked where the org decided. An unreadable record says nothing, and
// denies for now.
func (m *memory) denied(k *keyEntry, q *question, code decision.Code, now clock.Time, at decision.Millis) {
	if code != decision.SystemUnavailable && code != decision.OrgNotFound {
		m.sight.used(k, now, at)
		m.sight.denied(k.org, q.device, m.hasher.Device(&k.org, q.device), now, at)
	}
}

func (m *memory) key(q *question, now clock.Time, extra *found) *keyEntry {
	front := m.frontOf(&q.sum)
	if k := front.Load(); k != nil && k.sum == q.sum && m.counts(k.stamp, k.hash, now) {
		return k
	}
	hash := m.hasher.Key((*[32]byte)(&q.sum))
	if k, ok := m.keys.Get(hash); ok && k.sum == q.sum && m.counts(k.stamp, hash, now) {
		front.Store(k)
		return k
	}
	if k, ok := m.refusedKeys.Get(hash); ok && k.sum == q.sum && m.counts(k.stamp, hash, now) {
		return k
	}
	if extra != nil && extra.key != nil && extra.key.sum == q.sum && m.counts(extra.key.stamp, hash, now) {
		return extra.key
	}
	return nil
}

func (m *memory) org(k *keyEntry, now clock.Time, extra *found) *orgEntry {
	if o := k.lastOrg.Load(); o != nil && m.counts(o.stamp, k.orgHash, now) {
		return o
	}
	if o, ok := m.orgs.Get(k.orgHash); ok && o.id == k.org && m.counts(o.stamp, k.orgHash, now) {
		k.lastOrg.Store(o)
		return o
	}
	if extra != nil && extra.org != nil && extra.org.id == k.org && m.counts(extra.org.stamp, k.orgHash, now) {
		return extra.org
	}
	return nil
}

func (m *memory) device(k *keyEntry, q *question, hash uint64, now clock.Time, extra *found) *deviceEntry {
	set, tag := m.recent.of(hash)
	if tags := set.tags.Load(); !sampled(hash, now) {
		for i := range set.devices {
			if tags>>(i*tagBits)&tagMask != tag {
				continue
			}
			if d := set.devices[i].Load(); d != nil && d.is(k, q.device) && m.counts(d.stamp(), hash, now) {
				return d
			}
		}
	}
	for _, c := range [...]*ristretto.Cache[uint64, *deviceEntry]{m.devices, m.refusedDevices} {
		if d, ok := c.Get(hash); ok && d.is(k, q.device) {
			if m.counts(d.stamp(), hash, now) {
				if d.known {
					set.put(tag, d)
				}
				return d
			}
			q.familiar = q.familiar || d.known
		}
	}
	if extra != nil && extra.device != nil {
		if d := extra.device; d.is(k, q.device) && m.counts(d.stamp(), hash, now) {
			return d
		}
	}
	return nil
}

// ownerOf returns what the entries of an org share, or else a new one: it saves memory and
// means nothing.
func (m *memory) ownerOf(org orgID) *owner {
	if o, ok := m.orgs.Get(m.hasher.Org(&org)); ok && o.id == org {
		return o.owner
	}
	return &owner{org: org}
}

// keep puts what a flight brought into the caches. Only the link's receive loop
// calls it.
func (m *memory) keep(got *found, now clock.Time) {
	if k := got.key; k != nil {
		m.holding.add(k.hash, now, m.ttl)
		if old, ok := m.keys.Get(k.hash); ok && old.sum == k.sum {
			k.noted.Store(old.noted.Load()) // as a device's
		}
		pick(k.rec.Known, m.keys, m.refusedKeys).Set(k.hash, k, 1)
	}
	if o := got.org; o != nil {
		hash := m.hasher.Org(&o.id)
		m.holding.add(hash, now, m.ttl)
		m.orgs.Set(hash, o, 1)
	}
	if d := got.device; d != nil {
		org, id := d.name()
		hash := m.hasher.Device(&org, []byte(id))
		m.holding.add(hash, now, m.ttl)
		if old, ok := m.devices.Get(hash); ok && old.same(d) {
			d.noted.Store(old.noted.Load()) // once a minute, however often it is fetched
		}
		pick(d.known, m.devices, m.refusedDevices).Set(hash, d, 1)
	}
}

func pick[T any](known bool, yes, no T) T {
	if known {
		return yes
	}
	return no
}
