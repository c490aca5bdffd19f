package edge

import (
	"strconv"
	"testing"

	"machineid/shared/clock"
	"machineid/shared/decision"
	"machineid/shared/orgkey"
)

// TestRecentIsJudged: what was asked for lately answers by itself, and only if it counts: the
// whole key, the memory, the expiry and the floor (I3).
func TestRecentIsJudged(t *testing.T) {
	c, err := newCaches(100)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	m := &memory{caches: c, epoch: 1, sight: newSightings(&metrics{})}
	at := stamp{index: 5, expires: 1 << 60, epoch: 1}
	q := &question{sum: orgkey.Sum([]byte("mine")), device: []byte("mine")}
	k := newKey(at, q.sum, testOwner, m.hasher, decision.Key{Known: true})
	hash := m.hasher.Device(&testOrg, q.device)
	now := clock.Time(1)
	for sampled(hash, now) {
		now++
	}
	m.raise(hash, 5)
	device := func(at stamp, org orgID, id string) *deviceEntry {
		return newDevice(at, &owner{org: org}, id, decision.Occupant{Known: true})
	}
	for name, c := range map[string]struct {
		d     *deviceEntry
		found bool
	}{
		"as it should be":       {device(at, testOrg, "mine"), true},
		"of another org":        {device(at, orgID{9}, "mine"), false},
		"another device":        {device(at, testOrg, "mind"), false},
		"of another memory":     {device(stamp{5, 1 << 60, 2}, testOrg, "mine"), false},
		"out of date":           {device(stamp{5, now, 1}, testOrg, "mine"), false},
		"older than its floor":  {device(stamp{4, 1 << 60, 1}, testOrg, "mine"), false},
		"out of date, just not": {device(stamp{5, now + 1, 1}, testOrg, "mine"), true},
	} {
		set, tag := m.recent.of(hash)
		set.put(tag, c.d)
		if got := m.device(k, q, hash, now, nil); (got == c.d) != c.found || (got != nil) != c.found {
			t.Errorf("%s: %+v", name, got)
		}
		m.recent.drop(hash, c.d)
		if got := m.device(k, q, hash, now, nil); got != nil {
			t.Errorf("%s, dropped: %+v", name, got)
		}
	}
}

// TestRecentHoldsTheNewest of a set, and of a device its newest entry alone.
func TestRecentHoldsTheNewest(t *testing.T) {
	r := newRecent(0)
	if len(r) != 1 {
		t.Fatalf("%d sets", len(r))
	}
	hash := func(i int) uint64 { return uint64(i) << (64 - tagBits) }
	put := func(i int) *deviceEntry {
		set, tag := r.of(hash(i))
		d := newDevice(stamp{}, testOwner, strconv.Itoa(i), decision.Occupant{})
		set.put(tag, d)
		return d
	}
	holds := func(i int, d *deviceEntry) bool {
		set, tag := r.of(hash(i))
		for way := range set.devices {
			if set.tags.Load()>>(way*tagBits)&tagMask == tag && set.devices[way].Load() == d {
				return true
			}
		}
		return false
	}
	all := []*deviceEntry{nil} // a device of tag 0 is taken for the older one of an empty place
	for i := 1; i < 1000; i++ {
		all = append(all, put(i))
		for j := max(1, i-recentWays+1); j <= i; j++ {
			if !holds(j, all[j]) {
				t.Fatalf("%d was put in %d ago, and is not there", j, i-j)
			}
		}
	}
	again := put(len(all) - 2)
	for i, d := range map[int]*deviceEntry{len(all) - 1: all[len(all)-1], len(all) - 2: again, len(all) - 3: all[len(all)-3]} {
		if !holds(i, d) {
			t.Errorf("after another of one device, %d is not there", i)
		}
	}
}

// TestWhatIsDroppedIsNotHeld: what ristretto has no room for any more goes from recent too.
func TestWhatIsDroppedIsNotHeld(t *testing.T) {
	const entries = 64
	c, err := newCaches(entries)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	m := &memory{caches: c, epoch: 1, sight: newSightings(&metrics{})}
	at := stamp{index: 1, expires: 1 << 60, epoch: 1}
	k := newKey(at, orgkey.Hash{}, testOwner, m.hasher, decision.Key{})
	for i := range 50 * entries {
		id := strconv.Itoa(i)
		m.keep(&found{device: newDevice(at, testOwner, id, decision.Occupant{Known: true})}, 0)
		c.devices.Wait()
		for now := range clock.Time(3) {
			m.device(k, &question{device: []byte(id)}, m.hasher.Device(&testOrg, []byte(id)), now, nil)
		}
	}
	held := func() (n int) {
		for i := range c.recent {
			for way := range c.recent[i].devices {
				if c.recent[i].devices[way].Load() != nil {
					n++
				}
			}
		}
		return n
	}
	if n := held(); n == 0 || n > entries {
		t.Errorf("%d are held, of %d that are remembered", n, entries)
	}
	c.clear()
	if n := held(); n != 0 {
		t.Errorf("%d are held after a clear", n)
	}
}
