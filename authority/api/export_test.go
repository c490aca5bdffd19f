package api_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// TestExport: all that an org has, each device once, over pages; no secret, no hash of one, and nothing of another org's.
func TestExport(t *testing.T) {
	n := start(t)
	n.held.all = true
	a := n.do("POST", "org/create", `{"name":"mine","externalId":"crm-1"}`, "Authorization: Bearer "+operatorToken).want(200)
	o := &org{admin: a.field("orgApiKey"), agent: a.field("agentKey")}
	other := n.org()
	n.with(other.agent, "POST", "devices/register", device("theirs")).want(200)
	for _, id := range []string{"a", "b", "c"} {
		n.now.Add(10)
		n.with(o.agent, "POST", "devices/register", `{"deviceId":"`+id+`","name":"n","metadata":{"x":1}}`).want(200)
	}
	n.with(o.admin, "POST", "devices/revoke", device("b")).want(200)
	var ids []string
	for cursor, pages := "", 1; ; pages++ {
		page := n.with(o.admin, "GET", "org/export?limit=1"+cursor, "").want(200, `"externalId":"crm-1"`, `"name":"mine"`, `"limit":3,"devicesUsed":2`)
		var said struct {
			Org     struct{ OrgID string }
			Keys    []struct{ KeyID, Scope string }
			Devices []struct{ DeviceID, Status string }
		}
		if err := json.Unmarshal([]byte(page.raw), &said); err != nil || len(said.Devices) != 1 || len(said.Keys) != 2 || said.Org.OrgID != a.field("orgId") {
			t.Fatal(err, page.raw)
		}
		if strings.Contains(page.raw, "org_") || strings.Contains(page.raw, "hash") || strings.Contains(page.raw, "theirs") {
			t.Errorf("it says too much: %s", page.raw)
		}
		ids = append(ids, said.Devices[0].DeviceID+" "+said.Devices[0].Status)
		next := page.field("nextCursor")
		if next == "" {
			break
		}
		if cursor = "&cursor=" + next; pages > 3 {
			t.Fatal("it does not end")
		}
	}
	if !slices.Equal(ids, []string{"a active", "b revoked", "c active"}) {
		t.Errorf("devices: %q", ids)
	}
	n.with(o.agent, "GET", "org/export", "").want(403, "insufficient_scope")
	n.with(o.admin, "GET", "org/export?limit=0", "").want(400, `"param":"limit"`)
	n.with(o.admin, "GET", "org/export?cursor=x", "").want(400, `"param":"cursor"`)
	n.held.mutate(t)
}
