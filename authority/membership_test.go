package authority

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"machineid/authority/api"
	"machineid/authority/state"
	"machineid/authority/state/statepb"
)

// clusterTrail is what the audit says of the cluster, the oldest first: action, target, and who.
func (n *Node) clusterTrail(tb testing.TB) (said []string) {
	tb.Helper()
	view, err := n.View()
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = view.Close() }()
	list, _, err := state.NewReader(view.Reader()).Audit(state.OrgID{}, state.Place{}, 100, 0)
	if err != nil {
		tb.Fatal(err)
	}
	for _, e := range slices.Backward(list) {
		said = append(said, fmt.Sprintf("%s %s %s %t", e.GetAction(), e.GetTarget(), e.GetActor().GetType(), e.GetAddress() != ""))
	}
	return said
}

// TestWhoBeganIsTold: the audit names who began a cluster, and who was taken into it, once; what nobody has told is told by the leader.
func TestWhoBeganIsTold(t *testing.T) {
	nodes := waitingNodes(t, 3, nil)
	by := api.Asker{Actor: &statepb.Actor{Type: statepb.Actor_OPERATOR, Id: "1a2b3c4d"}, Address: "192.0.2.1", RequestID: "r"}
	if _, err := nodes[0].initCluster(t.Context(), by, false); err != nil {
		t.Fatal(err)
	}
	until(t, "every node has a vote", func() bool {
		return !slices.ContainsFunc(nodes, func(n *Node) bool { return !n.store.Votes() })
	})
	name := nodes[0].state.Cluster().GetClusterId()
	told := func(action, target string) (by []string) {
		for _, said := range nodes[0].clusterTrail(t) {
			if who, ok := strings.CutPrefix(said, action+" "+target+" "); ok {
				by = append(by, who)
			}
		}
		return by
	}
	if by := told("cluster.begun", name); !slices.Equal(by, []string{"OPERATOR true"}) {
		t.Errorf("the cluster was begun by %q", by)
	}
	for _, line := range []string{"cluster.member_added a1", "cluster.member_added a2", "cluster.member_promoted a2", "cluster.member_added a3", "cluster.member_promoted a3", "cluster.link_changed " + name} {
		action, target, _ := strings.Cut(line, " ")
		until(t, line, func() bool { return len(told(action, target)) == 1 })
	}
	// Nobody tells of this one but the leader, when it has stood for two looks.
	until(t, "a3 is removed", func() bool {
		return slices.ContainsFunc(nodes, func(n *Node) bool { return n.store.Remove(t.Context(), "a3") == nil })
	})
	until(t, "the removal is told", func() bool {
		for _, n := range nodes[:2] {
			n.tellMembers(t.Context(), n.tellMembers(t.Context(), 0))
		}
		return len(told("cluster.member_removed", "a3")) > 0
	})
	if by := told("cluster.member_removed", "a3"); !slices.Equal(by, []string{"SYSTEM false"}) {
		t.Errorf("a3 was removed by %q", by)
	}
}
