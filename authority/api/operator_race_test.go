package api_test

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"strings"
	"testing"

	"machineid/authority/api"
	"machineid/authority/state/statepb"
	"machineid/raftstore"
)

// TestARotatedTokenChangesNothing: the operator's token is rotated between the moment in which a call was let in and the one in which its command is applied. Nothing may
// come of it, whatever the call is (S12).
func TestARotatedTokenChangesNothing(t *testing.T) {
	next := sha256.Sum256([]byte(strings.Repeat("n", 40)))
	for name, call := range map[string]struct{ method, path, body string }{
		"a new org":       {"POST", "operator/orgs", `{}`},
		"a sign-up":       {"POST", "org/create", `{}`},
		"a hold":          {"PATCH", "operator/orgs/ORG", `{"hold":true}`},
		"an end":          {"DELETE", "operator/orgs/ORG", `{}`},
		"plans":           {"PUT", "operator/plans", `{"plans":[{"planTier":"free","limit":9},{"planTier":"max","limit":9}],"graceDays":1}`},
		"a register":      {"POST", "devices/register", device("b")},
		"a revoke":        {"POST", "devices/revoke", device("a")},
		"a batch":         {"POST", "devices/revoke_batch", `{"deviceIds":["a"]}`},
		"all":             {"POST", "devices/revoke_batch", `{"scope":"all_active"}`},
		"the switch":      {"POST", "org/execution", `{"enabled":false}`},
		"a key":           {"POST", "org/keys", `{"name":"k","scope":"admin"}`},
		"a key's end":     {"POST", "org/keys/revoke", `{"keyId":"KEY"}`},
		"another rotated": {"POST", "operator/token/rotate", `{"token":"` + strings.Repeat("x", 40) + `"}`},
		"a member's end":  {"DELETE", "operator/cluster/members/a2", ``},
		"a promotion":     {"POST", "operator/cluster/members/a2/promote", ``},
		"a format":        {"POST", "operator/cluster/format", ``},
	} {
		nodes := &fakeNodes{}
		n := start(t, func(c *api.Config) { c.Nodes = nodes })
		o := n.org()
		n.with(o.admin, "POST", "devices/register", device("a")).want(200)
		if call.method == "DELETE" && strings.Contains(call.path, "cluster") { // the audit knows the members: what it is told is only to have the token judged
			n.operate("POST", "cluster/members/a1/promote", "").want(200)
			nodes.asked = nil
		}
		named := strings.NewReplacer("ORG", o.id.String(), "KEY", idOf(o.agent))
		raced := false
		n.store.before(func(*statepb.Command) {
			if raced {
				return
			}
			raced = true
			n.propose(&statepb.Command{TimeMs: startMs, Change: &statepb.Command_RotateToken{RotateToken: &statepb.RotateToken{
				OldHash: n.machine.Cluster().GetOperatorTokenHash(), NewHash: next[:],
			}}})
		})
		headers := []string{operates}
		if !strings.HasPrefix(call.path, "operator/") && call.path != "org/create" {
			headers = append(headers, "X-MachineID-Org: "+o.id.String())
		}
		n.do(call.method, named.Replace("/api/v1/" + call.path)[len("/api/v1/"):], named.Replace(call.body), headers...).want(401, "invalid_operator_token")
		n.store.before(nil)
		if !raced || len(nodes.asked) > 0 || !bytes.Equal(n.machine.Cluster().GetOperatorTokenHash(), next[:]) {
			t.Errorf("%s: raced %t, the cluster was asked %q", name, raced, nodes.asked)
		}
		trail := n.trail("operator/audit", "Authorization: Bearer "+strings.Repeat("n", 40), "100")
		want := []string{"device.registered", "key.created", "key.created", "org.created"}
		if trail = slices.DeleteFunc(trail, func(s string) bool { return strings.HasPrefix(s, "cluster.member_") }); !strings.HasPrefix(trail[0], "operator.token_rotated") || len(trail) != 1+len(want) {
			t.Errorf("%s: something came of it: %q", name, trail)
		}
		if r := n.orgRecord(o); r.GetHeld() || r.GetExecutionDisabled() {
			t.Errorf("%s: %v", name, r)
		}
	}
}

// TestWhoChangedAMemberIsTold, though another call about the cluster runs between the change and its end: each tells of its own member.
func TestWhoChangedAMemberIsTold(t *testing.T) {
	nodes := &fakeNodes{}
	n := start(t, func(c *api.Config) { c.Nodes = nodes })
	n.operate("POST", "cluster/members/a1/promote", "").want(200) // from now on the audit knows the members
	member := raftstore.Member{Life: raftstore.Life{ID: "a3", Store: "s3"}, Address: "h3:7072"}
	nodes.then = func() { nodes.have(member) }
	n.do("POST", "operator/cluster/members", `{"id":"a3","address":"h3:7072"}`, operates).want(200)
	nodes.then = func() {
		nodes.have()
		nodes.then = nil
		n.do("POST", "operator/cluster/members/a1/promote", "", operates, "X-Request-Id: somebody-else").want(200)
	}
	n.do("DELETE", "operator/cluster/members/a3", "", operates, "X-Request-Id: who-removed-a3").want(200)
	n.do("GET", "operator/audit?limit=1", "", operates).want(200, `"cluster.member_removed"`, `"target":"a3"`, `"type":"operator"`, `"request_id":"who-removed-a3"`)
}
