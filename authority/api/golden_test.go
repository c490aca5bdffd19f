package api_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"machineid/authority/state/statepb"
)

var update = flag.Bool("update", false, "write the golden files anew")

// elapsed is what a batch of all waited for by itself too, on the real clock.
var elapsed = regexp.MustCompile(`"elapsedMs":[0-9.]+`)

// TestAnswers keeps every call's answer, field by field and in order. A field may be added at the end of a success; none may
// go or change.
func TestAnswers(t *testing.T) {
	n := start(t)
	n.held.all = true
	var out strings.Builder
	var o org
	secrets := strings.NewReplacer()
	call := func(key, method, path, body string, headers ...string) *answer {
		t.Helper()
		headers = append(headers, "X-Request-Id: req-1")
		if key != "" {
			headers = append(headers, "x-org-key: "+key)
		}
		a := n.do(method, path, body, headers...)
		if id, err := uuid.Parse(a.field("orgId")); err == nil && a.field("agentKey") != "" {
			o = org{id: id, admin: a.field("orgApiKey"), agent: a.field("agentKey")}
			secrets = strings.NewReplacer(o.id.String(), "ORG", o.admin, "ADMIN-KEY", o.agent, "AGENT-KEY")
		}
		fmt.Fprintf(&out, "%s %s %s\n%d", method, path, body, a.StatusCode)
		for _, name := range []string{"Allow", "Retry-After", "X-Cache"} {
			if v := a.Header.Get(name); v != "" {
				fmt.Fprintf(&out, " %s: %s", name, v)
			}
		}
		fmt.Fprintf(&out, "\n%s\n\n", elapsed.ReplaceAllString(secrets.Replace(a.raw), `"elapsedMs":2.1`))
		n.now.Add(1000)
		return a
	}
	say := func(text string) { fmt.Fprintf(&out, "## %s\n\n", text) }

	say("making an org")
	call("", "POST", "org/create", `{"name":"Wörk & <sons>","externalId":"crm-17"}`, "Authorization: Bearer "+operatorToken)
	call(o.admin, "GET", "org", "")
	call(o.admin, "GET", "usage", "")
	call(o.admin, "GET", "devices/list", "")

	say("devices")
	call(o.agent, "POST", "devices/register", `{"deviceId":"agent-01"}`)
	call(o.agent, "POST", "devices/register", `{"deviceId":"agent-02","name":"the <second>","metadata":{"b":[1.10,"é"],"a":null},"ttlSeconds":86400}`)
	call(o.agent, "POST", "devices/register", `{"deviceId":"agent-01"}`)
	call(o.agent, "POST", "devices/register", `{"deviceId":"agent-01","name":"first"}`)
	call(o.agent, "POST", "devices/register", `{"deviceId":"worker/prod/α"}`)
	call(o.agent, "POST", "devices/register", `{"deviceId":"one-too-many"}`)
	call(o.agent, "POST", "devices/register", `{"deviceId":"one-too-many"}`, "MachineID-Version: 1")
	call(o.admin, "POST", "devices/revoke", `{"deviceId":"agent-02"}`)
	call(o.admin, "POST", "devices/revoke", `{"deviceId":"agent-02"}`)
	call(o.agent, "POST", "devices/register", `{"deviceId":"agent-02"}`)
	call(o.admin, "GET", "devices/get?deviceId=agent-02", "")
	call(o.admin, "GET", "devices/list", "")
	call(o.admin, "GET", "devices/list?limit=1", "")
	call(o.admin, "POST", "devices/unrevoke", `{"deviceId":"agent-02"}`)
	call(o.admin, "POST", "devices/unrevoke", `{"deviceId":"agent-02"}`)
	call(o.admin, "POST", "devices/remove", `{"deviceId":"worker/prod/α"}`)
	call(o.admin, "POST", "devices/remove", `{"deviceId":"worker/prod/α"}`)
	call(o.admin, "GET", "devices/get?deviceId=nobody", "")

	say("batches")
	call(o.admin, "POST", "devices/revoke_batch", `{"deviceIds":["agent-02"," agent-01 ","nobody","agent-01",7,"a\u0000",""]}`)
	call(o.admin, "POST", "devices/revoke_batch", `{"scope":"all_active"}`)
	call(o.admin, "POST", "devices/unrevoke_batch", `{"scope":"all_revoked"}`)
	call(o.admin, "POST", "devices/unrevoke_batch", `{"deviceIds":["agent-02","nobody"]}`)
	call(o.admin, "POST", "devices/unrevoke_batch", `{"deviceIds":["a"],"scope":"all_revoked"}`)

	say("validate")
	call(o.agent, "POST", "devices/validate", `{"deviceId":"agent-01"}`)
	call(o.agent, "GET", "devices/validate?deviceId=nobody", "")
	call(o.agent, "POST", "devices/validate", `{}`)
	call("org_no", "POST", "devices/validate", `{"deviceId":"agent-01"}`)

	call(o.agent, "POST", "devices/validate_batch", `{"deviceIds":["agent-01"," nobody\t","agent-01",7,"","a\u0000"]}`)
	call(o.agent, "POST", "devices/validate_batch", `{"deviceIds":[]}`)
	call(unknownKey, "POST", "devices/validate_batch", `{"deviceIds":["agent-01"]}`)

	say("the org's off switch")
	call(o.admin, "POST", "org/execution", `{"enabled":false}`)
	call(o.admin, "POST", "org/execution", `{"enabled":false}`)
	call(o.agent, "POST", "devices/validate", `{"deviceId":"agent-01"}`)
	call(o.admin, "GET", "usage", "")
	call(o.admin, "POST", "org/execution", `{"enabled":true}`)

	say("keys")
	secret := regexp.MustCompile(`org_\w{46}`)
	keyCall := func(path, body string) string {
		a := n.do("POST", path, body, "X-Request-Id: req-1", "x-org-key: "+o.admin)
		id := a.field("keyId")
		ids := strings.NewReplacer(idOf(o.agent), "AGENT", idOf(o.admin), "ADMIN", `"keyId":"`+id+`","o`, `"keyId":"KEY","o`)
		fmt.Fprintf(&out, "POST %s %s\n%d\n%s\n\n", path, ids.Replace(body), a.StatusCode, ids.Replace(secret.ReplaceAllString(elapsed.ReplaceAllString(a.raw, `"elapsedMs":2.1`), "SECRET")))
		n.now.Add(1000)
		return id
	}
	made := keyCall("org/keys", `{"scope":"validate","name":"probe","expiresAt":"2027-01-01T00:00:00Z"}`)
	keyCall("org/keys/rotate", `{"keyId":"`+idOf(o.agent)+`","graceSeconds":86400}`)
	n.with(o.admin, "POST", "org/keys/revoke", `{"keyId":"`+made+`"}`).want(200)
	keyCall("org/keys/revoke", `{"keyId":"`+idOf(o.admin)+`"}`)

	say("generations")
	call(o.admin, "POST", "org/settings", `{"version":1}`)
	call(o.admin, "POST", "org/settings", `{"version":1}`)
	call(o.admin, "POST", "devices/revoke", `{"deviceId":"agent-01"}`)
	call(o.agent, "POST", "devices/register", `{"deviceId":"agent-01"}`)
	call(o.admin, "POST", "devices/register", `{"deviceId":"agent-01"}`)

	say("plans")
	n.editOrg(&o, func(r *statepb.Org) {
		one := uint32(1)
		r.Limit, r.GraceUntilMs, r.AccessUntilMs, r.Version, r.Name = &one, startMs+3600_000, startMs+7200_000, 1, ""
	})
	call(o.admin, "GET", "usage", "")
	call(o.admin, "GET", "org", "")
	call(o.agent, "POST", "devices/register", `{"deviceId":"one-too-many"}`)
	call(o.agent, "POST", "devices/register", `{"deviceId":"one-too-many"}`, "MachineID-Version: 2")
	n.editOrg(&o, func(r *statepb.Org) { r.Held = true })
	call(o.admin, "GET", "usage", "")
	call(o.agent, "POST", "devices/register", `{"deviceId":"another"}`)

	say("operators")
	const operator = "Authorization: Bearer " + operatorToken
	call("", "GET", "operator/orgs", "", operator)
	call("", "GET", "operator/plans", "", operator)
	call("", "PUT", "operator/plans", `{"plans":[{"planTier":"free","limit":3},{"planTier":"max","limit":2000}],"graceDays":7}`, operator)

	say("audit")
	n.now.Store(startMs + 80_000) // whatever came before
	call("", "POST", "org/settings", `{"version":2}`, operator, "X-MachineID-Org: "+o.id.String())
	call("", "GET", "operator/audit?limit=1", "", operator)

	say("no such call")
	call(o.admin, "GET", "devices/nothing", "")
	call(o.admin, "DELETE", "devices/get?deviceId=a", "")

	n.held.mutate(t)

	file := filepath.Join("testdata", "answers.golden")
	if *update {
		if err := os.WriteFile(file, []byte(out.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), out.String()); diff != "" {
		t.Errorf("answers (-want +got; -update writes them):\n%s", diff)
	}
	n.changedMu.Lock()
	defer n.changedMu.Unlock()
	wantChanged := []string{
		"org.created ORG", "device.registered agent-01", "device.registered agent-02", "device.updated agent-01",
		"device.registered worker/prod/α", "device.revoked agent-02", "device.restored agent-02",
		"device.removed worker/prod/α", "devices.revoked ORG", "devices.restored all_revoked", "org.disabled ORG", "org.enabled ORG", "key.created KEY", "key.rotated AGENT", "key.revoked KEY",
		"org.version_changed ORG", "device.revoked agent-01", "device.restored agent-01", "plans.changed plans", "org.version_changed ORG",
	}
	for i := range n.changed {
		n.changed[i] = strings.NewReplacer(made, "KEY", idOf(o.agent), "AGENT").Replace(secrets.Replace(n.changed[i]))
	}
	if diff := cmp.Diff(wantChanged, n.changed); diff != "" {
		t.Errorf("told of changes (-want +got):\n%s", diff)
	}
}
