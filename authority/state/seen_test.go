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
