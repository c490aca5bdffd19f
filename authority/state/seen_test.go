package state

import (
	"testing"

	"machineid/authority/state/statepb"
)

func setSeen(ms int64, org int, at int64, ids ...string) *statepb.Command {
	s := &statepb.Seen{OrgId: orgs[org][:], DeviceIds: ids}
	for range ids {
		s.AtMs = append(s.AtMs, at)
	}
	return &statepb.Command{TimeMs: ms, Change: &statepb.Command_SetSeen{SetSeen: &statepb.SetSeen{Orgs: []*statepb.Seen{s}}}}
}

// TestSeen: times are those of devices that stand, never go back, are never ahead of
// the state's, end with the device, and concern nobody.
func TestSeen(t *testing.T) {
	n := newNode(t, openDB(t))
	seen := func(id string, want int64) {
		t.Helper()
		if got := must(n.reader().LastSeen(orgs[0], id))(t); got != want {
			t.Errorf("%q was seen at %d, want %d", id, got, want)
		}
	}
	n.do(seed())
	n.do(createOrg(0))
	n.do(at(start, register(0, "a")))
	n.do(at(start, registerFor(0, "b", 5)))
	seen("a", 0)
	out := n.do(setSeen(start+1000, 0, start+900, "a", "nobody"))
	if !out.Changed || len(n.heard[len(n.heard)-1].concerns) != 0 {
		t.Errorf("changed %v, concerns %v", out.Changed, n.heard[len(n.heard)-1].concerns)
	}
	seen("a", start+900)
	seen("nobody", 0)
	n.do(setSeen(start+1000, 0, start+5000, "b"))
	seen("b", start+1000) // no later than now
	if n.do(setSeen(start+1000, 0, start+100, "a")).Changed {
		t.Error("it went back")
	}
	seen("a", start+900)
	n.do(setSeen(start+1000, neverMade, start+900, "a"))
	if keys := must(keysOf(n.reader(), prefixSeen))(t); len(keys) != 2 {
		t.Errorf("%d records of two devices", len(keys))
	}
	n.do(at(start+1000, revoke(0, "a")))
	n.do(setSeen(start+2000, 0, start+2000, "a")) // a revoked one still asks
	seen("a", start+2000)
	n.do(at(start+2000, remove(0, "a")))
	seen("a", 0)
	n.do(at(start+6000, register(0, "b"))) // the old one has ended
	seen("b", 0)
	n.do(setSeen(start+6000, 0, start+5000, "b"))
	seen("b", 0) // that was the one before
	// Lists of unequal length, as no version of ours makes them.
	n.do(&statepb.Command{TimeMs: start + 7000, Change: &statepb.Command_SetSeen{SetSeen: &statepb.SetSeen{Orgs: []*statepb.Seen{
		{OrgId: orgs[0][:], DeviceIds: []string{"b", "b"}, AtMs: []int64{start + 6500}}, {OrgId: []byte{1}, DeviceIds: []string{"b"}, AtMs: []int64{-1}},
	}}}})
	seen("b", start+6500)
	before := n.dump()
	n.restart()
	if n.dump() != before {
		t.Error("a restart changed it")
	}
}

func setUsed(ms, at int64, hashes ...[32]byte) *statepb.Command {
	c := &statepb.SetSeen{}
	for _, hash := range hashes {
		c.Keys = append(c.Keys, &statepb.Used{KeyHash: hash[:], AtMs: at})
	}
	return &statepb.Command{TimeMs: ms, Change: &statepb.Command_SetSeen{SetSeen: c}}
}

// TestUsed: a key's last use is of a time at which it was in force, never goes back, is never ahead of the state's time, goes with the key,
// and concerns nobody.
func TestUsed(t *testing.T) {
	n := newNode(t, openDB(t))
	used := func(hash [32]byte, want int64) {
		t.Helper()
		if got := must(n.reader().LastUsed(hash))(t); got != want {
			t.Errorf("used at %d, want %d", got, want)
		}
	}
	n.do(seed())
	n.do(createOrg(0))
	one, ending := hashOf(0, 5), hashOf(0, 6)
	n.do(addKey(0, 5, statepb.Key_AGENT))
	c := addKey(0, 6, statepb.Key_AGENT)
	c.GetAddKey().Key.ExpiresAtMs = start + 2000
	n.do(c)
	out := n.do(setUsed(start+1000, start+900, one, hashOf(0, 9)))
	if !out.Changed || len(n.heard[len(n.heard)-1].concerns) != 0 {
		t.Errorf("changed %v, concerns %v", out.Changed, n.heard[len(n.heard)-1].concerns)
	}
	used(one, start+900)
	used(hashOf(0, 9), 0)
	if n.do(setUsed(start+1000, start+100, one)).Changed || n.do(setUsed(start+1000, start-1, ending)).Changed {
		t.Error("it went back, or before the key")
	}
	n.do(setUsed(start+1000, start+9000, one))
	used(one, start+1000) // no later than now
	n.do(setUsed(start+3000, start+1999, ending))
	n.do(setUsed(start+3000, start+2000, ending))
	used(ending, start+1999) // in force until then
	n.do(at(start+4000, revokeKey(0, 5)))
	n.do(setUsed(start+5000, start+4000, one)) // was denied
	used(one, start+1000)
	n.do(setUsed(start+5000, start+3999, one)) // reported late
	used(one, start+3999)
	n.do(&statepb.Command{TimeMs: start + 5000, Change: &statepb.Command_SetSeen{SetSeen: &statepb.SetSeen{Keys: []*statepb.Used{{KeyHash: []byte{1}, AtMs: start}, {}}}}})
	before := n.dump()
	n.restart()
	if n.dump() != before {
		t.Error("a restart changed it")
	}
	n.do(at(start+6000, deleteOrg(0)))
	for range 5 { // what is left goes a day later
		n.do(at(start+6000+2*keepDeadKeys, createOrg(1)))
	}
	if keys := must(keysOf(n.reader(), prefixUsed))(t); len(keys) != 0 {
		t.Errorf("%d records of keys that are gone", len(keys))
	}
}
