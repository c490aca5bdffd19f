package api_test

import (
	"fmt"
	"strings"
	"testing"

	"machineid/authority/state/statepb"
)

const (
	unknownKey   = "org_Zz09Aa1bMachineIDisTheOffSwitchForFleets1CzegJ" // well-formed, but nobody's
	malformedKey = "org_Zz09Aa1bMachineIDisTheOffSwitchForFleets1CzegK"
)

// TestErrors is the contract's table of errors, one row or more for each of its rows.
func TestErrors(t *testing.T) {
	n := start(t)
	o := n.sized(1)
	for _, id := range []string{"off", "on"} {
		n.with(o.admin, "POST", "devices/register", device(id)).want(200)
		n.with(o.admin, "POST", "devices/revoke", device("off")).want(200)
	}
	frozen, expired, overdue := n.org(), n.org(), n.org()
	for _, other := range []*org{frozen, expired, overdue} {
		n.with(other.admin, "POST", "devices/register", device("off")).want(200)
		n.with(other.admin, "POST", "devices/register", device("on")).want(200)
		n.with(other.admin, "POST", "devices/revoke", device("off")).want(200)
	}
	n.editOrg(frozen, func(r *statepb.Org) { r.Held = true })
	n.editOrg(expired, func(r *statepb.Org) { r.AccessUntilMs = startMs })
	n.editOrg(overdue, func(r *statepb.Org) { r.GraceUntilMs = startMs })
	revoked := n.key(o, statepb.Key_ADMIN, func(k *statepb.Key) { k.RevokedAtMs = startMs })
	ended := n.key(o, statepb.Key_ADMIN, func(k *statepb.Key) { k.ExpiresAtMs = startMs })
	orphan := n.key(&org{id: [16]byte{1}}, statepb.Key_ADMIN, nil)
	scopeless := n.key(o, statepb.Key_NONE, nil)

	const missing = `"status":"error","error":"missing_params"`
	param := func(name string) string { return `"param":"` + name + `"` }
	for i, c := range []struct {
		key, method, path, body string
		status                  int
		parts                   []string
	}{
		{"", "POST", "devices/revoke", device("on"), 400, []string{missing, param("x-org-key")}},
		{"   ", "POST", "devices/revoke", device("on"), 400, []string{missing, param("x-org-key")}},
		{o.admin, "POST", "devices/revoke", "", 400, []string{missing, param("body")}},
		{o.admin, "POST", "devices/revoke", "[]", 400, []string{missing, param("body")}},
		{o.admin, "POST", "devices/revoke", `{"deviceId":"on"} x`, 400, []string{missing, param("body")}},
		{o.admin, "POST", "devices/revoke", `{"deviceId":"on","deviceId":"off"}`, 400, []string{missing, param("body")}},
		{o.admin, "POST", "devices/revoke", `{}`, 400, []string{missing, param("deviceId")}},
		{o.admin, "POST", "devices/revoke", `{"deviceid":"on"}`, 400, []string{missing, param("deviceId")}},
		{o.admin, "POST", "devices/unrevoke", `{"deviceId":" "}`, 400, []string{missing, param("deviceId")}},
		{o.admin, "POST", "devices/remove", `{"deviceId":7}`, 400, []string{missing, param("deviceId")}},
		{o.admin, "POST", "devices/register", `{"deviceId":"` + strings.Repeat("x", 257) + `"}`, 400, []string{missing, param("deviceId")}},
		{o.admin, "POST", "devices/register?deviceId=on", `{}`, 400, []string{missing, param("deviceId")}},
		{o.admin, "POST", "devices/register", `{"deviceId":"a","name":"` + strings.Repeat("ü", 129) + `"}`, 400, []string{missing, param("name")}},
		{o.admin, "POST", "devices/register", `{"deviceId":"a","name":"a\u0000"}`, 400, []string{missing, param("name")}},
		{o.admin, "POST", "devices/register", `{"deviceId":"a","name":"a\u0085"}`, 400, []string{missing, param("name")}},
		{o.admin, "POST", "devices/register", `{"deviceId":"a","name":[]}`, 400, []string{missing, param("name")}},
		{o.admin, "POST", "devices/register", `{"deviceId":"a","metadata":[]}`, 400, []string{missing, param("metadata")}},
		{o.admin, "POST", "devices/register", `{"deviceId":"a","metadata":{"x":"` + strings.Repeat("x", 4096) + `"}}`, 400, []string{missing, param("metadata")}},
		{o.admin, "POST", "devices/register", `{"deviceId":"a","metadata":{"x":[1e400]}}`, 400, []string{missing, param("metadata")}},
		{o.admin, "POST", "devices/register", `{"deviceId":"a","ttlSeconds":0}`, 400, []string{missing, param("ttlSeconds")}},
		{o.admin, "POST", "devices/register", `{"deviceId":"a","ttlSeconds":315360001}`, 400, []string{missing, param("ttlSeconds")}},
		{o.admin, "POST", "devices/register", `{"deviceId":"a","ttlSeconds":1.5}`, 400, []string{missing, param("ttlSeconds")}},
		{o.admin, "POST", "devices/register", `{"deviceId":"a","ttlSeconds":"60"}`, 400, []string{missing, param("ttlSeconds")}},
		{o.admin, "POST", "org/execution", `{}`, 400, []string{missing, param("enabled")}},
		{o.admin, "POST", "org/execution", `{"enabled":1}`, 400, []string{missing, param("enabled")}},
		{o.admin, "POST", "org/settings", `{}`, 400, []string{missing, param("version")}},
		{o.admin, "POST", "org/settings", `{"version":3}`, 400, []string{missing, param("version")}},
		{o.admin, "POST", "org/settings", `{"version":"1"}`, 400, []string{missing, param("version")}},
		{o.admin, "POST", "org/delete", `{}`, 400, []string{missing, param("confirm")}},
		{o.admin, "POST", "org/delete", `{"confirm":"yes"}`, 400, []string{missing, param("confirm")}},
		{o.agent, "POST", "org/delete", `{"confirm":"yes"}`, 403, []string{`"insufficient_scope"`}},
		{o.admin, "POST", "org/keys", `{}`, 400, []string{missing, param("scope")}},
		{o.admin, "POST", "org/keys", `{"scope":"none"}`, 400, []string{missing, param("scope")}},
		{o.admin, "POST", "org/keys", `{"scope":7}`, 400, []string{missing, param("scope")}},
		{o.admin, "POST", "org/keys", `{"scope":"agent","name":7}`, 400, []string{missing, param("name")}},
		{o.admin, "POST", "org/keys", `{"scope":"agent","expiresAt":"2020-01-01T00:00:00Z"}`, 400, []string{missing, param("expiresAt")}},
		{o.admin, "POST", "org/keys", `{"scope":"agent","expiresAt":"tomorrow"}`, 400, []string{missing, param("expiresAt")}},
		{o.admin, "POST", "org/keys/rotate", `{"graceSeconds":-1}`, 400, []string{missing, param("graceSeconds")}},
		{o.admin, "POST", "org/keys/rotate", `{"graceSeconds":2592001}`, 400, []string{missing, param("graceSeconds")}},
		{o.admin, "POST", "org/keys/rotate", `{"keyId":"short"}`, 400, []string{missing, param("keyId")}},
		{o.admin, "POST", "org/keys/rotate", `{"keyId":"AAAAAAAA"}`, 404, []string{`"status":"not_found","error":"key_not_found"`}},
		{o.admin, "POST", "org/keys/revoke", `{}`, 400, []string{missing, param("keyId")}},
		{o.admin, "POST", "org/keys/revoke", `{"keyId":"AAAAAAAA"}`, 404, []string{`"error":"key_not_found"`}},
		{o.admin, "GET", "devices/get", "", 400, []string{missing, param("deviceId")}},
		{o.admin, "GET", "devices/get?deviceId=", "", 400, []string{missing, param("deviceId")}},
		{o.admin, "GET", "devices/get?deviceId=a&deviceId=a", "", 400, []string{missing, param("query")}},
		{o.admin, "GET", "devices/get?deviceId=%zz", "", 400, []string{missing, param("query")}},
		{o.admin, "GET", "usage?a=1&a=2", "", 400, []string{missing, param("query")}},
		{o.admin, "GET", "devices/list?limit=0", "", 400, []string{missing, param("limit")}},
		{o.admin, "GET", "devices/list?limit=1001", "", 400, []string{missing, param("limit")}},
		{o.admin, "GET", "devices/list?limit=", "", 400, []string{missing, param("limit")}},
		{o.admin, "GET", "devices/list?limit=-1", "", 400, []string{missing, param("limit")}},
		{o.admin, "GET", "devices/list?limit=1e1", "", 400, []string{missing, param("limit")}},
		{o.admin, "GET", "devices/list?cursor=", "", 400, []string{missing, param("cursor")}},
		{o.admin, "GET", "devices/list?cursor=AAAA", "", 400, []string{missing, param("cursor")}},

		{"org_short", "POST", "devices/revoke", device("on"), 401, []string{`"error":"invalid_org_key"`}},
		{malformedKey, "POST", "devices/revoke", device("on"), 401, []string{`"error":"invalid_org_key"`}},

		{unknownKey, "POST", "devices/revoke", device("on"), 404, []string{`"status":"not_found","error":"org_not_found"`}},
		{unknownKey, "GET", "usage", "", 404, []string{`"error":"org_not_found"`}},
		{revoked, "POST", "devices/revoke", device("on"), 404, []string{`"error":"org_not_found"`}},
		{ended, "GET", "org", "", 404, []string{`"error":"org_not_found"`}},
		{orphan, "GET", "org", "", 404, []string{`"error":"org_not_found"`}},
		{o.admin, "POST", "devices/revoke", device("nobody"), 404, []string{`"status":"not_found","error":"device_not_found"`}},
		{o.admin, "POST", "devices/unrevoke", device("nobody"), 404, []string{`"error":"device_not_found"`}},
		{o.admin, "POST", "devices/remove", device("nobody"), 404, []string{`"error":"device_not_found"`}},
		{o.admin, "GET", "devices/get?deviceId=nobody", "", 404, []string{`"error":"device_not_found"`}},
		{o.admin, "GET", "nothing", "", 404, []string{`"status":"not_found","error":"not_found"`, `"handler":"unknown"`}},
		{o.admin, "GET", "/console", "", 404, []string{`"error":"not_found"`, `"handler":"unknown"`}},

		{o.agent, "POST", "devices/revoke", device("on"), 403, []string{`"status":"error","error":"insufficient_scope"`}},
		{scopeless, "GET", "org", "", 403, []string{`"error":"insufficient_scope"`}},
		{o.agent, "POST", "devices/register", device("new"), 403, []string{
			`"status":"blocked","error":"device_limit_reached"`,
			`"planTier":"free","planState":"active","accessUntil":null,"limit":1,"devicesUsed":1,"remaining":0,"overLimit":false,"softGraceWindow":false`,
		}},
		{o.admin, "POST", "devices/unrevoke", device("off"), 403, []string{`"status":"blocked","error":"device_limit_reached"`, `"limit":1`}},
		{o.agent, "POST", "devices/register", device("off"), 403, []string{`"status":"revoked","error":"device_revoked"`}},
		{frozen.agent, "POST", "devices/register", device("new"), 403, []string{`"status":"blocked","error":"plan_frozen"`}},
		{frozen.admin, "POST", "devices/unrevoke", device("off"), 403, []string{`"error":"plan_frozen"`}},
		{overdue.agent, "POST", "devices/register", device("new"), 403, []string{`"error":"plan_frozen"`}},
		{expired.agent, "POST", "devices/register", device("new"), 403, []string{`"status":"blocked","error":"entitlement_expired"`}},
		{expired.admin, "POST", "devices/unrevoke", device("off"), 403, []string{`"error":"entitlement_expired"`}},
		// Everything else works.
		{frozen.agent, "POST", "devices/register", device("on"), 200, []string{`"status":"exists"`}},
		{expired.admin, "POST", "devices/revoke", device("on"), 200, []string{`"changed":true`}},
		{frozen.admin, "POST", "devices/remove", device("off"), 200, []string{`"removed":true`}},
		{expired.admin, "GET", "devices/list", "", 200, []string{`"deviceId":"on"`}},

		{o.admin, "GET", "devices/revoke", "", 405, []string{`"error":"method_not_allowed"`}},
		{o.admin, "POST", "usage", "{}", 405, []string{`"error":"method_not_allowed"`}},
		{o.admin, "POST", "devices/revoke", strings.Repeat(" ", 65<<10), 413, []string{`"error":"body_too_large"`}},
		// What is not looked at.
		{o.admin, "GET", "devices/get?deviceId=%20on%09&x=1", "{", 200, []string{`"deviceId":"on"`}},
		{" " + o.admin + "\t", "POST", "devices/revoke?a=%zz&a", device("off"), 200, []string{`"changed":false`}},
		{o.admin, "GET", "devices/get/?deviceId=on", "", 200, nil},
		{o.admin, "POST", "devices/register", `{"deviceId":"on","name":null,"metadata":null,"ttlSeconds":null,"x":1}`, 200, []string{`"exists"`}},
	} {
		t.Run(fmt.Sprintf("%d %s %s", i, c.method, strings.ReplaceAll(c.path, "/", ":")), func(t *testing.T) {
			headers := []string{"x-org-key: " + c.key}
			if c.key == "" {
				headers = nil
			}
			a := n.do(c.method, c.path, c.body, headers...)
			a.t = t
			a.want(c.status, c.parts...)
			if strings.Contains(a.raw, "org_Zz") || strings.Contains(a.raw, o.admin) {
				t.Errorf("the answer holds a key: %s", a.raw)
			}
		})
	}
}

// TestOrderOfChecks commits all the faults of a request at once and takes them back one by one: the answers must come in the
// contract's order.
func TestOrderOfChecks(t *testing.T) {
	n := start(t)
	o := n.org()
	n.with(o.admin, "POST", "devices/register", device("d")).want(200)
	n.with(o.admin, "POST", "devices/revoke", device("d")).want(200)
	large := strings.Repeat(" ", 65<<10)
	validateOnly := n.key(o, statepb.Key_VALIDATE, nil)
	for i, c := range []struct {
		method, key, body string
		status            int
		code              string
	}{
		{"PUT", "", large, 405, "method_not_allowed"},
		{"POST", "", large, 413, "body_too_large"},
		{"POST", "", "{", 400, `missing_params`},
		{"POST", "short", "{", 401, "invalid_org_key"},
		{"POST", unknownKey, "{", 400, "missing_params"},
		{"POST", unknownKey, "{}", 400, "missing_params"},
		{"POST", unknownKey, device("d"), 404, "org_not_found"},
		{"POST", validateOnly, device("d"), 403, "insufficient_scope"},
		{"POST", o.agent, device("d"), 403, "device_revoked"},
	} {
		a := n.do(c.method, "devices/register", c.body, headersOf(c.key)...)
		if a.StatusCode != c.status || a.field("error") != c.code {
			t.Errorf("step %d: HTTP %d %s, want %d %s", i, a.StatusCode, a.raw, c.status, c.code)
		}
	}
	n.do("POST", "devices/register", "{").want(400, `"param":"x-org-key"`)

	// The last of them must not have been looked at when an earlier one was at fault.
	before := n.hub.settled.Load()
	n.with("short", "POST", "devices/register", device("d")).want(401)
	n.with(unknownKey, "POST", "devices/register", device("d")).want(404)
	if after := n.hub.settled.Load(); after != before {
		t.Errorf("%d waits for edges on a stranger's behalf", after-before)
	}
}

func headersOf(key string) []string {
	if key == "" {
		return nil
	}
	return []string{"x-org-key: " + key}
}
