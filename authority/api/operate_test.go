package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"machineid/shared/wire"
)

const operates = "Authorization: Bearer " + operatorToken

// operate makes an operator's call.
func (n *node) operate(method, path, body string, headers ...string) *answer {
	n.t.Helper()
	return n.do(method, "operator/"+path, body, append(headers, operates)...)
}

// TestOperatorsPlans: what an operator sets of an org is in force at the very moment, in each direction.
func TestOperatorsPlans(t *testing.T) {
	n := start(t)
	a := n.operate("POST", "orgs", `{"name":"n","externalId":"crm","planTier":"max","version":1}`).want(200, `"orgApiKey":"org_`, `"agentKey":"org_`)
	o := &org{admin: a.field("orgApiKey"), agent: a.field("agentKey")}
	path := "orgs/" + a.field("orgId")
	for _, id := range []string{"a", "b", "c", "d"} {
		n.with(o.agent, "POST", "devices/register", device(id)).want(200)
	}
	n.with(o.admin, "POST", "devices/revoke", device("d")).want(200)
	n.operate("GET", path, "").want(200, `"name":"n","externalId":"crm","version":1`, `"planTier":"max","planState":"active"`, `"limit":1000,"devicesUsed":3`,
		`"hold":false,"ownLimit":null,"executionEnabled":true`)

	// A downgrade below what is in use.
	n.operate("PATCH", path, `{"planTier":"free","limit":2,"version":2}`).want(200, `"overLimit":true`, `"ownLimit":2`, `"version":2`, `"changed":true`, `"propagation":{`)
	n.operate("PATCH", path, `{"limit":2}`).want(200, `"changed":false`)
	n.with(o.agent, "POST", "devices/register", device("new")).want(403, "device_limit_reached", `"overLimit":true`)
	n.with(o.admin, "POST", "devices/unrevoke", device("d")).want(403, "device_limit_reached")
	n.with(o.admin, "POST", "devices/unrevoke_batch", `{"scope":"all_revoked"}`).want(200, `"reason":"at_cap"`)
	n.with(o.agent, "POST", "devices/register", device("a")).want(200, `"exists"`)
	for _, id := range []string{"a", "b", "c"} {
		if code := n.validates(o.agent, id); code != "ALLOW" {
			t.Errorf("%s over the limit: %s", id, code)
		}
	}
	n.operate("PATCH", path, `{"limit":null}`).want(200, `"limit":3`, `"overLimit":false`, `"ownLimit":null`)

	// The hold, and the end of access, which comes by itself.
	n.operate("PATCH", path, `{"hold":true}`).want(200, `"planState":"frozen"`, `"hold":true`)
	if code := n.validates(o.agent, "a"); code != "PLAN_FROZEN" {
		t.Errorf("held: %s", code)
	}
	n.with(o.agent, "POST", "devices/register", device("new")).want(403, "plan_frozen")
	n.with(o.admin, "GET", "usage", "").want(200, `"isActive":false,"isGrace":false,"isFrozen":true`)
	end := time.UnixMilli(n.now.Load() + 5000).UTC().Format("2006-01-02T15:04:05.000Z")
	n.operate("PATCH", path, `{"hold":false,"accessUntil":"`+end+`"}`).want(200, `"planState":"active","accessUntil":"`+end+`"`)
	n.now.Add(4999)
	if code := n.validates(o.agent, "a"); code != "ALLOW" {
		t.Errorf("before the end: %s", code)
	}
	n.now.Add(1)
	if code := n.validates(o.agent, "a"); code != "ENTITLEMENT_EXPIRED" {
		t.Errorf("at the end: %s", code)
	}
	n.operate("PATCH", path, `{"accessUntil":null}`).want(200, `"accessUntil":null`)
	if code := n.validates(o.agent, "a"); code != "ALLOW" {
		t.Errorf("without an end: %s", code)
	}
	for body, param := range map[string]string{
		`{"planTier":"none"}`: "planTier", `{"planTier":7}`: "planTier", `{"hold":"yes"}`: "hold", `{"accessUntil":"soon"}`: "accessUntil", `{"accessUntil":7}`: "accessUntil",
		`{"limit":-1}`: "limit", `{"limit":10000001}`: "limit", `{"limit":"3"}`: "limit", `{"version":3}`: "version", `[]`: "body",
	} {
		n.operate("PATCH", path, body).want(400, `"param":"`+param+`"`)
	}
	n.operate("POST", "orgs", `{"planTier":"none"}`).want(400, `"param":"planTier"`)
	for _, id := range []string{"b2469749-4abd-45c1-946a-799ce518d2b7", "none", strings.ToUpper(a.field("orgId"))} {
		n.operate("GET", "orgs/"+id, "").want(404, "org_not_found", "no org has this id")
		n.operate("PATCH", "orgs/"+id, `{"hold":true}`).want(404, "org_not_found", "no org has this id")
	}

	// The plans themselves.
	n.operate("GET", "plans", "").want(200, `"plans":[{"planTier":"free","limit":3},{"planTier":"max","limit":1000}],"graceDays":0`)
	n.operate("PUT", "plans", `{"plans":[{"planTier":"free","limit":1},{"planTier":"max","limit":9},{"planTier":"new","limit":5}],"graceDays":7}`).want(200, `"graceDays":7`)
	n.with(o.admin, "GET", "usage", "").want(200, `"limit":1,"devicesUsed":3,"remaining":0,"overLimit":true`)
	n.operate("PATCH", path, `{"planTier":"new"}`).want(200, `"limit":5`)
	n.operate("PUT", "plans", `{"plans":[{"planTier":"free","limit":1}],"graceDays":7}`).want(409, "refused")
	for _, body := range []string{`{"graceDays":7}`, `{"plans":[]}`, `{"plans":[7],"graceDays":7}`, `{"plans":[{"planTier":"","limit":1}],"graceDays":7}`, `{"plans":[{"planTier":"free"}],"graceDays":7}`} {
		n.operate("PUT", "plans", body).want(400, "missing_params")
	}
	if got := fmt.Sprint(n.changes()); !strings.Contains(got, "plans.changed") || !strings.Contains(got, "org.plan_changed "+a.field("orgId")) {
		t.Errorf("told of %s", got)
	}
}

// TestOperatorsOrgs walks the pages of orgs.
func TestOperatorsOrgs(t *testing.T) {
	n := start(t)
	want := []string{}
	for range 7 {
		want = append(want, n.org().id.String())
	}
	slices.Sort(want)
	var got []string
	for cursor := ""; ; {
		path := "orgs?limit=3"
		if cursor != "" {
			path += "&cursor=" + cursor
		}
		var page struct {
			Orgs []struct {
				OrgID string `json:"orgId"`
			} `json:"orgs"`
			NextCursor string `json:"nextCursor"`
		}
		if err := json.Unmarshal([]byte(n.operate("GET", path, "").want(200).raw), &page); err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Orgs {
			got = append(got, o.OrgID)
		}
		if cursor = page.NextCursor; cursor == "" {
			break
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("listed %v, want %v", got, want)
	}
	n.operate("GET", "orgs?cursor=x", "").want(400, `"param":"cursor"`)
	n.operate("GET", "orgs?limit=1001", "").want(400, `"param":"limit"`)
}

// TestOperatorForAnOrg: every call of an org's admin is open to the operator, who names the org, and to nobody else.
func TestOperatorForAnOrg(t *testing.T) {
	n := start(t)
	o := n.org()
	n.with(o.agent, "POST", "devices/register", device("d")).want(200)
	forOrg := "X-MachineID-Org: " + o.id.String()
	for _, route := range wire.Routes() {
		if route.Operator || route.Validate || route.Decides || allowed[route.Path] == "" || route.Path == "org/delete" {
			continue
		}
		method, path, body := "POST", route.Path, `{"deviceId":"d","enabled":true,"deviceIds":["d"],"version":2,"plan":"max","keyId":"`+idOf(o.agent)+`"}`
		switch {
		case route.Path == "org/keys":
			body = `{"scope":"agent"}`
		case !route.Post:
			method, path, body = "GET", path+"?deviceId=d&index=1", ""
		}
		n.do(method, path, body, forOrg).want(401, "invalid_operator_token")
		n.do(method, path, body, forOrg, operates+"x").want(401, "invalid_operator_token")
		n.do(method, path, body, operates, "X-MachineID-Org: b2469749-4abd-45c1-946a-799ce518d2b7").want(404, "org_not_found", "no org has this id")
		n.do(method, path, body, operates, "X-MachineID-Org: x").want(400, `"param":"X-MachineID-Org"`)
		n.do(method, path, body, operates).want(400, `"param":"x-org-key"`)
		a := n.do(method, path, body, operates, forOrg)
		if a.StatusCode != http.StatusOK && a.field("error") != "device_not_found" { // remove comes before others
			t.Errorf("%s: HTTP %d %s", route.Path, a.StatusCode, a.raw)
		}
		n.with(o.admin, "POST", "devices/register", device("d"))
	}
	// Without a key of its own there is none that a rotation could mean; with a key, the key counts.
	n.do("POST", "org/keys/rotate", `{}`, operates, forOrg).want(400, `"param":"keyId"`)
	other := n.org()
	n.with(other.admin, "GET", "org", "", operates, forOrg).want(200, other.id.String())
	for _, route := range wire.Routes() {
		if !strings.HasPrefix(route.Path, "operator/") || strings.Contains(route.Path, "cluster") || strings.HasSuffix(route.Path, "edges") {
			continue
		}
		for _, header := range []string{"x-org-key: " + o.admin, operates + "x"} {
			method := "GET"
			if !route.Get {
				method = "POST"
			}
			n.do(method, strings.ReplaceAll(route.Path, "*", o.id.String()), "", header).want(401, "invalid_operator_token")
		}
	}
}

// TestOperatorsWait: no operator is told too early either.
func TestOperatorsWait(t *testing.T) {
	n := start(t)
	o := n.org()
	for path, want := range map[string]string{"GET orgs": "all orgs", "GET orgs/" + o.id.String(): "org", "PATCH orgs/" + o.id.String(): "index"} {
		method, path, _ := strings.Cut(path, " ")
		waiting, open := n.hub.shut()
		answered := make(chan *answer, 1)
		go func() { answered <- n.operate(method, path, `{"hold":true}`) }()
		select {
		case a := <-answered:
			t.Fatalf("%s answered before the edges knew: %s", path, a.raw)
		case what := <-waiting:
			if what != want {
				t.Errorf("%s %s waits for %s, want %s", method, path, what, want)
			}
		case <-time.After(patient):
			t.Fatal("it neither waits nor answers")
		}
		open()
		(<-answered).want(200)
	}
}

// TestDeleteOrg: by its own admin, who names it, and by the operator. Who shows one of its keys later waits for that like the one who did it.
func TestDeleteOrg(t *testing.T) {
	n := start(t)
	for _, end := range []func(*org) *answer{
		func(o *org) *answer { return n.with(o.admin, "POST", "org/delete", `{"confirm":"`+o.id.String()+`"}`) },
		func(o *org) *answer { return n.operate("DELETE", "orgs/"+o.id.String(), "") },
	} {
		o, other := n.org(), n.org()
		for _, key := range []string{o.agent, other.agent} {
			n.with(key, "POST", "devices/register", device("d")).want(200)
		}
		n.with(o.admin, "POST", "org/delete", `{"confirm":"`+other.id.String()+`"}`).want(400, `"param":"confirm"`)
		end(o).want(200, `"status":"ok"`, `"orgId":"`+o.id.String()+`","deleted":true,"propagation":{`)
		for _, key := range []string{o.admin, o.agent} {
			if code := n.validates(key, "d"); code != "ORG_NOT_FOUND" {
				t.Errorf("deleted: %s", code)
			}
			before := n.hub.settled.Load()
			n.with(key, "POST", "devices/register", device("d")).want(404, "org_not_found")
			if n.hub.settled.Load() == before {
				t.Error("it is told that the org is gone before the edges know")
			}
		}
		n.operate("GET", "orgs/"+o.id.String(), "").want(404, "org_not_found")
		n.operate("DELETE", "orgs/"+o.id.String(), "").want(404, "org_not_found")
		n.with(other.admin, "GET", "devices/get?deviceId=d", "").want(200)
		if code := n.validates(other.agent, "d"); code != "ALLOW" {
			t.Errorf("another org: %s", code)
		}
		if a := n.operate("GET", "orgs", ""); strings.Contains(a.raw, o.id.String()) || !strings.Contains(a.raw, other.id.String()) {
			t.Errorf("listed: %s", a.raw)
		}
	}
}
