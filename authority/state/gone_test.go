package state

import (
	"slices"
	"testing"

	"machineid/authority/state/statepb"
)

// A deleted org is gone at once for every decision; what it leaves behind is cleared away by the commands that follow, whatever they are, also
// after a restart, and what is another org's stays.
func TestDeleteOrg(t *testing.T) {
	n, ids := many(t, 600)
	n.do(from(0, 1, revoke(0, ids[0])))
	n.do(register(1, "a"))
	n.do(registerFor(0, ids[1], 60))
	later := start + 1000
	if out := n.do(at(later, deleteOrg(0))); !out.Changed {
		t.Fatalf("%+v", out)
	}
	gone := func() (keys int) {
		for _, prefix := range slices.Concat(orgDebris, []byte{prefixOrg, prefixOrgAudit}) {
			keys += len(n.r(t, prefix, orgs[0]))
		}
		return keys
	}
	if gone() == 0 {
		t.Fatal("600 devices are gone with one command: it is too large")
	}
	// A report that was under way finds devices that are not cleared away yet: what it leaves goes with them.
	seen := &statepb.Seen{OrgId: orgs[0][:], DeviceIds: ids, AtMs: slices.Repeat([]int64{later}, len(ids))}
	if out := n.do(at(later, &statepb.Command{Change: &statepb.Command_SetSeen{SetSeen: &statepb.SetSeen{Orgs: []*statepb.Seen{seen}}}})); !out.Changed {
		t.Error("no device is left to be seen: the test proves nothing")
	}
	for key, want := range map[int]Refusal{0: OrgNotFound, 1: Granted} {
		c := revoke(key, "a")
		hash := hashOf(key, 0)
		c.Caller = &statepb.Caller{KeyHash: hash[:], Scopes: []statepb.Key_Scope{statepb.Key_ADMIN}}
		if out := n.do(at(later, c)); out.Refusal != want {
			t.Errorf("org %d: %v, want %v", key, out.Refusal, want)
		}
	}
	if out := n.do(at(later, deleteOrg(0))); out.Refusal != OrgNotFound {
		t.Errorf("deleted twice: %v", out.Refusal)
	}
	for i := 0; gone() > 1; i++ { // org.deleted stays in the trail
		if i > 200 {
			t.Fatalf("%d records are left after %d commands", gone(), i)
		}
		n.do(at(later, revoke(1, "nobody")))
		if i%20 == 0 {
			n.restart()
		}
		if err := check(n.reader()); err != nil {
			t.Fatal(err)
		}
	}
	if n.m.tidyAt != later+keepDeadKeys || len(n.r(t, prefixOrgKey, orgs[0])) == 0 {
		t.Errorf("tidied until %d, and %d keys", n.m.tidyAt-later, len(n.r(t, prefixOrgKey, orgs[0])))
	}
	n.do(at(later+keepDeadKeys-1, revoke(1, "nobody")))
	if len(n.r(t, prefixOrgKey, orgs[0])) == 0 {
		t.Error("the keys are forgotten too early")
	}
	n.do(at(later+keepDeadKeys, revoke(1, "nobody")))
	if len(n.r(t, prefixOrgKey, orgs[0])) != 0 || must(n.reader().Key(hashOf(0, 0)))(t) != nil || must(n.reader().Key(hashOf(1, 0)))(t) == nil {
		t.Error("the keys are not forgotten, or another's are")
	}
	if must(n.reader().Occupant(orgs[1], "a"))(t) == nil || len(must(keysOf(n.reader(), prefixGoneKeys))(t)) != 0 {
		t.Error("what is another org's is gone, or the mark is not")
	}
}

// r lists the keys of one org with a prefix.
func (n *node) r(t *testing.T, prefix byte, org OrgID) (keys [][]byte) {
	t.Helper()
	for _, k := range must(keysOf(n.reader(), prefix))(t) {
		if len(k) >= 17 && OrgID(k[1:17]) == org {
			keys = append(keys, k)
		}
	}
	return keys
}
