package api_test

import (
	"net/http"
	"strings"
	"testing"

	"machineid/authority/api"
	"machineid/authority/state/statepb"
	"machineid/shared/orgkey"
	"machineid/shared/wire"
)

// allowed says which scopes reach to which call. A call that is missing here fails the test.
var allowed = map[string]string{
	"devices/validate":       "admin agent validate",
	"devices/validate_batch": "admin agent validate",
	"devices/register":       "admin agent",
	"devices/list":           "admin",
	"devices/get":            "admin",
	"devices/revoke":         "admin",
	"devices/unrevoke":       "admin",
	"devices/remove":         "admin",
	"devices/revoke_batch":   "admin",
	"devices/unrevoke_batch": "admin",
	"usage":                  "admin",
	"billing/summary":        "admin",
	"billing/checkout":       "admin",
	"billing/portal":         "admin",
	"webhooks/stripe":        "", // is signed
	"org/recover":            "",
	"org/recover/confirm":    "", // needs a token
	"org":                    "admin",
	"org/create":             "", // needs no key
	"org/execution":          "admin",
	"org/settings":           "admin",
	"org/delete":             "admin",
	"org/export":             "admin",
	"propagation":            "admin",
	"audit":                  "admin",
	"org/keys":               "admin",
	"org/keys/rotate":        "admin",
	"org/keys/revoke":        "admin",
}

func TestScopes(t *testing.T) {
	n := start(t)
	n.held = nil // the scope none is in no document
	o := n.org()
	keys := map[string]string{
		"admin": o.admin, "agent": o.agent,
		"validate": n.key(o, statepb.Key_VALIDATE, nil), "none": n.key(o, statepb.Key_NONE, nil),
	}
	for _, route := range wire.Routes() {
		if route.Operator {
			continue // no key reaches them: TestOperatorsCalls
		}
		scopes, known := allowed[route.Path]
		if !known {
			t.Errorf("%s: no scope is written down for it in this test", route.Path)
			continue
		}
		if scopes == "" {
			continue
		}
		for scope, key := range keys {
			method, path, body := "POST", route.Path, `{"deviceId":"d","enabled":true,"deviceIds":["d"],"version":2,"keyId":"AAAAAAAA","confirm":"x","plan":"max"}`
			if route.Path == "org/keys" {
				body = `{"scope":"agent"}`
			}
			if !route.Post {
				method, path, body = "GET", path+"?deviceId=d&index=1", ""
			}
			a := n.with(key, method, path, body)
			refused := a.StatusCode == http.StatusForbidden && a.field("error") == "insufficient_scope"
			want := !strings.Contains(scopes, scope) && !route.Validate && !route.Decides
			if refused != want || a.field("error") == "not_found" {
				t.Errorf("%s with scope %s: HTTP %d %s", route.Path, scope, a.StatusCode, a.raw)
			}
		}
	}
}

func TestSignup(t *testing.T) {
	const right, wrong = "Authorization: Bearer " + operatorToken, "Authorization: Bearer " + operatorToken + "x"
	closed, opened := start(t), start(t, openSignup)
	for i, c := range []struct {
		n      *node
		header string
		body   string
		status int
		part   string
	}{
		{closed, "", "{}", 403, `"error":"signup_closed"`},
		{closed, "", "{", 400, `"param":"body"`},
		{closed, wrong, "{", 401, `"error":"invalid_operator_token"`},
		{closed, wrong, "{}", 401, `"error":"invalid_operator_token"`},
		{closed, "Authorization: Basic " + operatorToken, "{}", 401, `"error":"invalid_operator_token"`},
		{closed, "Authorization: " + operatorToken, "{}", 401, `"error":"invalid_operator_token"`},
		{closed, "Authorization: Bearer ", "{}", 401, `"error":"invalid_operator_token"`},
		{closed, right, "{}", 200, `"handler":"org_create"`},
		{closed, right, "", 200, `"handler":"org_create"`},
		{closed, "Authorization: bearer  " + operatorToken, "{}", 200, `"status":"ok"`},
		{closed, right, `{"name":7}`, 400, `"param":"name"`},
		{closed, right, `{"name":"a\u007f"}`, 400, `"param":"name"`},
		{closed, right, `{"externalId":"` + strings.Repeat("x", 257) + `"}`, 400, `"param":"externalId"`},
		{opened, "", "{}", 200, `"status":"ok"`},
		{opened, wrong, "{}", 200, `"status":"ok"`},
		{opened, right, `{"name":""}`, 200, `"status":"ok"`},
	} {
		headers := []string{}
		if c.header != "" {
			headers = append(headers, c.header)
		}
		a := c.n.do("POST", "org/create", c.body, headers...)
		if a.StatusCode != c.status || !strings.Contains(a.raw, c.part) {
			t.Errorf("case %d: HTTP %d %s", i, a.StatusCode, a.raw)
		}
	}
}

// TestKeysOfAnOrg takes the two keys of a new org for what they are said to be.
func TestKeysOfAnOrg(t *testing.T) {
	n := start(t)
	o := n.org()
	if orgkey.Check([]byte(o.admin)) != nil || orgkey.Check([]byte(o.agent)) != nil || o.admin == o.agent {
		t.Fatalf("the keys are %q and %q", o.admin, o.agent)
	}
	cmd := n.store.lastCommand()
	keys := cmd.GetCreateOrg().GetKeys()
	if len(keys) != 2 || keys[0].GetScope() != statepb.Key_ADMIN || keys[1].GetScope() != statepb.Key_AGENT {
		t.Fatalf("the command makes the keys %v", keys)
	}
	for i, key := range []string{o.admin, o.agent} {
		if hash := orgkey.Sum([]byte(key)); [32]byte(keys[i].GetHash()) != hash || keys[i].GetKeyId() != key[4:12] {
			t.Errorf("key %d is stored as %x, id %s", i, keys[i].GetHash(), keys[i].GetKeyId())
		}
	}
	other := n.org()
	if other.id == o.id || other.admin == o.admin {
		t.Error("two orgs share an id or a key")
	}
	// A key reaches its own org only.
	n.with(o.admin, "POST", "devices/register", device("d")).want(200)
	n.with(other.admin, "GET", "devices/get?deviceId=d", "").want(404, "device_not_found")
}

// TestStamps looks at what goes into the audit.
func TestStamps(t *testing.T) {
	n := start(t, openSignup)
	type stamps struct {
		actor   statepb.Actor_Type
		id      string
		address string
		request string
		at      int64
	}
	last := func() stamps {
		c := n.store.lastCommand()
		return stamps{c.GetActor().GetType(), c.GetActor().GetId(), c.GetAddress(), c.GetRequestId(), c.GetTimeMs()}
	}
	n.do("POST", "org/create", "{}", "X-Request-Id: r1").want(200)
	if got, want := last(), (stamps{statepb.Actor_SIGNUP, "", "0.0.0.0", "r1", startMs}); got != want {
		t.Errorf("signup: %+v, want %+v", got, want)
	}
	n.do("POST", "org/create", "{}", "X-Request-Id: r2", "Authorization: Bearer "+operatorToken).want(200)
	if got, want := last(), (stamps{statepb.Actor_OPERATOR, operatorID, "0.0.0.0", "r2", startMs}); got != want {
		t.Errorf("operator: %+v, want %+v", got, want)
	}
	o := n.org()
	n.now.Add(5)
	for _, c := range []struct {
		headers []string
		address string
	}{
		{nil, "0.0.0.0"},
		{[]string{"MachineID-Client: 198.51.100.7"}, "0.0.0.0"},
		{[]string{"MachineID-Client: 198.51.100.7", "MachineID-Edge: guess"}, "0.0.0.0"},
		{[]string{"MachineID-Client: 198.51.100.7", "MachineID-Edge: " + edgeToken}, "198.51.100.7"},
		{[]string{"MachineID-Client: ::ffff:198.51.100.7", "MachineID-Edge: " + edgeToken}, "198.51.100.7"},
		{[]string{"MachineID-Client: 2001:db8::1%eth0", "MachineID-Edge: " + edgeToken}, "2001:db8::1"},
		{[]string{"MachineID-Client: nonsense", "MachineID-Edge: " + edgeToken}, "0.0.0.0"},
		{[]string{"MachineID-Client: 198.51.100.7", "MachineID-Client: 198.51.100.8", "MachineID-Edge: " + edgeToken}, "0.0.0.0"},
		{[]string{"MachineID-Client: 198.51.100.7", "MachineID-Edge: " + edgeToken, "MachineID-Edge: " + edgeToken}, "0.0.0.0"},
	} {
		n.with(o.agent, "POST", "devices/register", device("d"), append(c.headers, "X-Request-Id: r3")...).want(200)
		if got, want := last(), (stamps{statepb.Actor_KEY, o.agent[4:12], c.address, "r3", startMs + 5}); got != want {
			t.Errorf("%v: %+v, want %+v", c.headers, got, want)
		}
	}
}

// TestMaxOrgs: where there are as many orgs as may be, only an operator makes more.
func TestMaxOrgs(t *testing.T) {
	n := start(t, openSignup, func(c *api.Config) { c.MaxOrgs = 2 })
	n.do("POST", "org/create", "").want(200)
	n.do("POST", "org/create", "").want(200)
	n.do("POST", "org/create", "").want(403, `"error":"signup_closed"`, "as many orgs")
	n.do("POST", "org/create", "", "Authorization: Bearer "+operatorToken).want(200)
	n.operate("POST", "orgs", "").want(200)
	n.do("POST", "org/create", "").want(403, "signup_closed")
}
