package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"machineid/authority/api"
	"machineid/authority/hub"
	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/raftstore"
)

func devicesOf(ids ...string) string {
	b, _ := json.Marshal(map[string]any{"deviceIds": ids})
	return string(b)
}

func numbered(from, count int) (ids []string) {
	for i := range count {
		ids = append(ids, fmt.Sprintf("d%04d", from+i))
	}
	return ids
}

// TestBatches goes through what a batch may name and what comes of it.
func TestBatches(t *testing.T) {
	n := start(t)
	o := n.sized(2)
	for _, id := range []string{"a", "b"} {
		n.with(o.admin, "POST", "devices/register", device(id)).want(200)
	}
	const missing, both = `"error":"missing_params"`, `"param":"deviceIds"`
	revoke := func(body string, status int, parts ...string) {
		t.Helper()
		n.with(o.admin, "POST", "devices/revoke_batch", body).want(status, parts...)
	}
	unrevoke := func(body string, status int, parts ...string) {
		t.Helper()
		n.with(o.admin, "POST", "devices/unrevoke_batch", body).want(status, parts...)
	}
	for _, body := range []string{`{}`, `{"deviceIds":null}`, `{"deviceIds":[],"scope":"all_active"}`, `{"deviceIds":["a"],"scope":"all_active"}`, `{"deviceIds":[]}`, `{"deviceIds":"a"}`, `{"deviceIds":{}}`} {
		revoke(body, 400, missing, both)
	}
	for _, body := range []string{`{"scope":"all_revoked"}`, `{"scope":""}`, `{"scope":7}`} {
		revoke(body, 400, missing, `"param":"scope"`)
	}
	unrevoke(`{"scope":"all_active"}`, 400, missing, `"param":"scope"`)
	revoke(devicesOf(numbered(0, 501)...), 400, missing, both)
	revoke(`{"deviceIds":[`+strings.Repeat("7,", 10_000)+`7]}`, 400, missing, both)
	revoke(devicesOf(append(numbered(0, 500), numbered(0, 500)...)...), 200, `"revokedCount":0`, `{"deviceId":"d0499","status":"not_found","changed":false}]`)
	revoke(`{"deviceIds":[" a\t","b","a",7,"\u0000",""]}`, 200, `"revokedCount":2,"results":[{"deviceId":"a","status":"ok","changed":true},{"deviceId":"b","status":"ok","changed":true},`+
		`{"index":3,"status":"invalid","changed":false},{"deviceId":"\u0000","status":"invalid","changed":false},{"deviceId":"","status":"invalid","changed":false}],"propagation":{`)
	revoke(`{"deviceIds":["a"]}`, 200, `"revokedCount":0,"results":[{"deviceId":"a","status":"ok","changed":false}]`)
	revoke(`{"deviceIds":[[]]}`, 200, `"revokedCount":0,"results":[{"index":0,"status":"invalid","changed":false}]`)

	n.with(o.admin, "POST", "devices/register", device("c")).want(200)
	unrevoke(devicesOf("nobody", "b", "a", "c"), 200, `"unrevokedCount":1,"unrevokedSample":["b"],"results":[{"deviceId":"nobody","status":"not_found","changed":false},`+
		`{"deviceId":"b","status":"ok","changed":true},{"deviceId":"a","status":"blocked","error":"device_limit_reached","changed":false},{"deviceId":"c","status":"ok","changed":false}]`)
	unrevoke(devicesOf("a"), 200, `"unrevokedCount":0,"unrevokedSample":[],"reason":"at_cap"`)
	unrevoke(`{"scope":"all_revoked"}`, 200, `"unrevokedCount":0,"unrevokedSample":[],"reason":"at_cap","propagation"`)
	revoke(`{"scope":"all_active"}`, 200, `"revokedCount":2,"propagation"`)
	n.now.Add(10)
	n.with(o.admin, "POST", "devices/register", device("d")).want(200)
	n.with(o.admin, "POST", "devices/revoke", device("d")).want(200)
	unrevoke(`{"scope":"all_revoked"}`, 200, `"unrevokedCount":2,"unrevokedSample":["d","a"]`)
	n.with(o.admin, "POST", "devices/remove", device("b")).want(200)
	n.with(o.admin, "POST", "devices/remove", device("c")).want(200)
	unrevoke(`{"scope":"all_revoked"}`, 200, `"unrevokedCount":0,"unrevokedSample":[],"reason":"none_revoked"`)

	n.with(o.admin, "POST", "devices/revoke", device("d")).want(200)
	n.editOrg(o, func(r *statepb.Org) { r.Held = true })
	unrevoke(devicesOf("d"), 403, `"status":"blocked","error":"plan_frozen"`)
	unrevoke(`{"scope":"all_revoked"}`, 403, `"error":"plan_frozen"`)
	revoke(`{"scope":"all_active"}`, 200, `"revokedCount":1`)
}

// TestBatchOfMany holds that all of a large org are reached, that nothing is told before the edges know, and that what was remembered of
// each of its commands is one answer again.
func TestBatchOfMany(t *testing.T) {
	n := start(t)
	o := n.sized(2000)
	for _, id := range numbered(0, 1010) {
		n.propose(&statepb.Command{TimeMs: startMs, Change: &statepb.Command_Register{Register: &statepb.Register{OrgId: o.id[:], DeviceId: id}}})
	}
	first := n.with(o.admin, "POST", "devices/revoke_batch", `{"scope":"all_active"}`, once("all"))
	first.want(200, `"revokedCount":1010`)
	n.with(o.admin, "GET", "usage", "").want(200, `"devicesUsed":0`)
	n.editOrg(o, func(r *statepb.Org) { r.Limit = new(uint32(700)) })
	n.with(o.admin, "POST", "devices/unrevoke_batch", `{"scope":"all_revoked"}`).want(200, `"unrevokedCount":700`)
	if again := n.with(o.admin, "POST", "devices/revoke_batch", `{"scope":"all_active"}`, once("all")); same(again) != same(first) || !replayed(again) {
		t.Errorf("again %s, the first was %s", again.raw, first.raw)
	}
	n.with(o.admin, "GET", "usage", "").want(200, `"devicesUsed":700`)

	// The first of three commands is done and the others are not: what is left is done by the same call.
	n.hub.fail(hub.ErrPending)
	a := n.with(o.admin, "POST", "devices/revoke_batch", `{"scope":"all_active"}`, once("again"))
	a.want(503, `"outcome":"unknown"`, "some of the devices were changed")
	n.hub.fail(nil)
	n.with(o.admin, "POST", "devices/revoke_batch", `{"scope":"all_active"}`, once("again")).want(200, `"revokedCount":700`)
	n.with(o.admin, "GET", "usage", "").want(200, `"devicesUsed":0`)

	// A caller that would not wait, and whose second command fails, is not told that its preference was kept to.
	n.store.before(func(*statepb.Command) {
		n.store.fail(func(context.Context) (state.Outcome, error) { return state.Outcome{}, raftstore.ErrOverloaded }, nil)
	})
	a = n.with(o.admin, "POST", "devices/unrevoke_batch", `{"scope":"all_revoked"}`, "Prefer: respond-async")
	if a.want(503, `"outcome":"unknown"`); a.Header.Get("Preference-Applied") != "" {
		t.Errorf("HTTP %d with Preference-Applied %q", a.StatusCode, a.Header.Get("Preference-Applied"))
	}
}

// TestFirstGeneration: an org of version 1 restores by registering, with an admin key, and answers the cap without an error.
func TestFirstGeneration(t *testing.T) {
	n := start(t, func(c *api.Config) { c.DefaultVersion = 1 })
	o := n.sized(1)
	n.with(o.admin, "GET", "org", "").want(200, `"version":1`)
	n.with(o.admin, "POST", "devices/register", device("a")).want(200, `"status":"ok"`)
	n.with(o.admin, "POST", "devices/revoke", device("a")).want(200)
	n.with(o.agent, "POST", "devices/register", device("a")).want(403, `"status":"revoked","error":"device_revoked"`)
	n.with(o.admin, "POST", "devices/register", device("a"), "MachineID-Version: 2", once("r")).want(200, `"status":"restored"`, `"devicesUsed":1`)
	n.with(o.admin, "POST", "devices/revoke", device("a")).want(200)
	n.with(o.admin, "POST", "devices/register", device("a"), once("r")).want(200, `"status":"restored"`)
	n.with(o.agent, "POST", "devices/validate", device("a")).want(200, "DEVICE_REVOKED")
	n.with(o.admin, "POST", "devices/register", device("b")).want(200, `"status":"ok"`)
	n.with(o.admin, "POST", "devices/register", device("a")).want(200, `"status":"limit_reached"`, `"overLimit":true`)
	n.with(o.admin, "POST", "devices/register", device("a"), "MachineID-Version: 2").want(403, `"error":"device_limit_reached"`)
}
