package api_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

type auditPage struct {
	Entries []struct {
		ID, Action, Address, OrgID, Target string
		RequestID                          string `json:"request_id"`
		Actor                              struct{ Type, ID string }
		Count                              int
	}
	NextCursor string
}

// trail walks the audit and tells what it says, the newest first.
func (n *node) trail(path, header, limit string) (said []string) {
	n.t.Helper()
	for cursor := ""; ; {
		target := path + "?limit=" + limit
		if cursor != "" {
			target += "&cursor=" + cursor
		}
		var page auditPage
		if err := json.Unmarshal([]byte(n.do("GET", target, "", header).want(200).raw), &page); err != nil {
			n.t.Fatal(err)
		}
		for _, e := range page.Entries {
			said = append(said, strings.Join([]string{e.Action, e.Actor.Type, e.Actor.ID, e.Target, e.RequestID, e.OrgID}, " "))
		}
		if cursor = page.NextCursor; cursor == "" {
			return said
		}
	}
}

// TestAudit: each change has one entry, with who made it; what changed nothing has none, and nobody reads another org's.
func TestAudit(t *testing.T) {
	n := start(t)
	o, other := n.org(), n.org()
	id := o.id.String()
	mine := func(path, body string) { n.with(o.admin, "POST", path, body, "X-Request-Id: r-"+path).want(200) }
	n.with(o.agent, "POST", "devices/register", device("d"), "X-Request-Id: first").want(200)
	mine("devices/revoke", device("d"))
	mine("devices/revoke", device("d"))
	mine("devices/unrevoke_batch", `{"deviceIds":["d","nobody"]}`)
	n.with(other.agent, "POST", "devices/register", device("x")).want(200)
	n.operate("PATCH", "orgs/"+id, `{"hold":true}`, "X-Request-Id: op").want(200)
	n.operate("PUT", "plans", `{"plans":[{"planTier":"free","limit":3},{"planTier":"max","limit":9}],"graceDays":1}`).want(200)
	n.do("POST", "devices/remove", device("d"), operates, "X-MachineID-Org: "+id, "X-Request-Id: for").want(200)
	op := "operator " + operatorID + " "
	want := []string{
		"device.removed " + op + "d for ", "org.frozen " + op + id + " op ",
		"devices.restored key " + idOf(o.admin) + " d r-devices/unrevoke_batch ", "device.revoked key " + idOf(o.admin) + " d r-devices/revoke ",
		"device.registered key " + idOf(o.agent) + " d first ",
	}
	for _, limit := range []string{"1", "2", "1000"} {
		got := n.trail("audit", "x-org-key: "+o.admin, limit)
		if len(got) != len(want)+3 || !slices.Equal(got[:len(want)], want) || !strings.HasPrefix(got[len(want)], "key.created "+op+idOf(o.agent)) ||
			!strings.HasPrefix(got[len(want)+1], "key.created "+op+idOf(o.admin)) || !strings.HasPrefix(got[len(want)+2], "org.created "+op) {
			t.Errorf("pages of %s: %q, want %q, the keys and org.created", limit, got, want)
		}
	}
	all := n.trail("operator/audit", operates, "2")
	if len(all) != 13 || !strings.HasSuffix(all[0], " "+id) || !strings.HasPrefix(all[1], "plans.changed "+op+"plans") ||
		!slices.ContainsFunc(all, func(s string) bool { return strings.HasSuffix(s, other.id.String()) }) {
		t.Errorf("the operators' trail: %q", all)
	}
	for _, query := range []string{"cursor=x", "cursor=0-0", "limit=0", "limit=1001", "cursor="} {
		n.with(o.admin, "GET", "audit?"+query, "").want(400, "missing_params")
	}
	n.with(o.agent, "GET", "audit", "").want(403, "insufficient_scope")
	n.do("GET", "operator/audit", "", "x-org-key: "+o.admin).want(401, "invalid_operator_token")
	// After 90 days nothing is told, cleared away or not.
	n.now.Add(90 * 24 * 3600 * 1000)
	n.now.Add(1)
	if got := n.trail("audit", "x-org-key: "+o.admin, "10"); len(got) != 0 {
		t.Errorf("after 90 days: %q", got)
	}
}
