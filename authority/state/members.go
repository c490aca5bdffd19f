package state

import (
	"slices"
	"strings"

	"machineid/authority/state/statepb"
)

// setMembers tells the audit how the cluster's members differ from those that it knew. Who tells first is named; who tells the same again, or tells of
// before, changes nothing.
func (t *tx) setMembers(c *statepb.SetMembers) Outcome {
	old := t.m.Cluster()
	if old == nil || c.GetMembers().GetIndex() <= old.GetMembers().GetIndex() {
		return Outcome{}
	}
	before := t.emit.audits
	next := clone(old) // others read the old one
	next.Members = toldMembers(old.GetMembers(), c)
	for _, m := range next.GetMembers().GetMembers() {
		t.auditMember(memberOf(old, m.GetId()), m)
	}
	for _, m := range old.GetMembers().GetMembers() {
		if memberOf(next, m.GetId()) == nil {
			t.audit(OrgID{}, "cluster.member_removed", m.GetId(), memberSettings(m, nil)...)
		}
	}
	t.putCluster(next)
	return Outcome{Changed: t.emit.audits > before}
}

// toldMembers is what is known once c is told. What else has changed since is still to be told, by whoever did it: the index stays.
func toldMembers(old *statepb.Members, c *statepb.SetMembers) *statepb.Members {
	if old == nil || c.GetOnly() == "" {
		return c.GetMembers()
	}
	is := func(m *statepb.Member) bool { return m.GetId() == c.GetOnly() }
	next := &statepb.Members{Index: old.GetIndex(), Members: slices.DeleteFunc(slices.Clone(old.GetMembers()), is)}
	if i := slices.IndexFunc(c.GetMembers().GetMembers(), is); i >= 0 {
		next.Members = append(next.Members, c.GetMembers().GetMembers()[i])
	}
	slices.SortFunc(next.Members, func(a, b *statepb.Member) int { return strings.Compare(a.GetId(), b.GetId()) })
	return next
}

// auditMember records how a member came to be as it is; nil is none.
func (t *tx) auditMember(old, m *statepb.Member) {
	set := memberSettings(old, m)
	switch store, address, voter := set[0], set[1], set[2]; {
	case old == nil:
		t.audit(OrgID{}, "cluster.member_added", m.GetId(), set...)
	case old.GetStore() != m.GetStore():
		t.audit(OrgID{}, "cluster.member_replaced", m.GetId(), store, address, voter)
	default:
		if old.GetAddress() != m.GetAddress() {
			t.audit(OrgID{}, "cluster.member_readdressed", m.GetId(), address)
		}
		switch {
		case m.GetVoter() && !old.GetVoter():
			t.audit(OrgID{}, "cluster.member_promoted", m.GetId(), voter)
		case !m.GetVoter() && old.GetVoter():
			t.audit(OrgID{}, "cluster.member_demoted", m.GetId(), voter)
		}
	}
}

// memberSettings are the store, the address and the vote of a member; nil is none.
func memberSettings(old, next *statepb.Member) []*statepb.Setting {
	votes := func(m *statepb.Member) *statepb.Value {
		if m == nil {
			return nil
		}
		return Flag(m.GetVoter())
	}
	return []*statepb.Setting{
		Setting("store", Text(old.GetStore()), Text(next.GetStore())),
		Setting("address", Text(old.GetAddress()), Text(next.GetAddress())),
		Setting("voter", votes(old), votes(next)),
	}
}

// memberOf finds a member, nil if there is none of the id.
func memberOf(c *statepb.Cluster, id string) *statepb.Member {
	for _, m := range c.GetMembers().GetMembers() {
		if m.GetId() == id {
			return m
		}
	}
	return nil
}
