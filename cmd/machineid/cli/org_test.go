//go:build unix

package cli

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
)

// TestOrgCommands goes through what an operator does with orgs, devices and keys: each change is in force at the edge when the command ends.
func TestOrgCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := launchDev(t, dir)
	w.ready()
	flags := operatorOf(t, w, dir)
	line := func(want int, args ...string) string {
		t.Helper()
		code, out, errs := commandLine(append(args, flags...)...)
		if code != want || (code == exitDone) != (errs == "") {
			t.Fatalf("%v: exit code %d, want %d: %s%s", args, code, want, out, errs)
		}
		return out + errs
	}
	asJSON := func(into any, args ...string) {
		t.Helper()
		if out := line(exitDone, append(args, "--output", "json")...); json.Unmarshal([]byte(out), into) != nil {
			t.Fatalf("%v: %s", args, out)
		}
	}
	has := func(out string, parts ...string) {
		t.Helper()
		for _, p := range parts {
			if !strings.Contains(out, p) {
				t.Errorf("no %q in:\n%s", p, out)
			}
		}
	}
	var made struct{ OrgID, OrgAPIKey, AgentKey string }
	asJSON(&made, "org", "create", "--name", "acme", "--external-id", "crm-1", "--plan", "pro")
	org := made.OrgID
	c := newClient(t, w.edge)
	for _, id := range []string{"a", "b", "c"} {
		c.must(t, "devices/register", made.AgentKey, naming(id))
	}
	check := func(key, id, want string) {
		t.Helper()
		if code := c.validate(t, key, id); code != want {
			t.Errorf("%s: %s, want %s", id, code, want)
		}
	}

	var orgs []orgView
	asJSON(&orgs, "org", "list")
	has(line(exitDone, "org", "list"), "ORG ", "acme", "pro", "active")
	if len(orgs) != 2 { // dev's own too
		t.Errorf("listed %+v", orgs)
	}
	has(line(exitDone, "org", "show", org), "crm-1", "3 of 25", "pro, active")
	has(line(exitDone, "org", "freeze", org), "pro, frozen", "in force everywhere")
	check(made.AgentKey, "a", "PLAN_FROZEN")
	has(line(exitDone, "org", "unfreeze", org), "pro, active")
	check(made.AgentKey, "a", codeAllow)
	has(line(exitDone, "org", "disable", org), "is disabled; in force")
	check(made.AgentKey, "a", codeDisabled)
	has(line(exitDone, "org", "disable", org), "it was so before")
	line(exitDone, "org", "enable", org)
	check(made.AgentKey, "a", codeAllow)
	has(line(exitDone, "org", "plan", org, "free", "--limit", "2", "--access-until", "2001-01-01T00:00:00Z"), "free, access ended", "3 of 2, over the limit", "note: access has ended", "'machineid org plan "+org+" --access-until never ")
	has(line(exitDone, "org", "show", org), "free, access ended", "ENTITLEMENT_EXPIRED")
	has(line(exitDone, "org", "list"), "access ended")
	check(made.AgentKey, "a", "ENTITLEMENT_EXPIRED")
	has(line(exitDone, "org", "plan", org, "--limit", "plan", "--access-until", "never"), "3 of 3")

	has(line(exitDone, "device", "list", org), "DEVICE", "a ", "active")
	has(line(exitFailed, "device", "revoke", org, "a", "nobody"), "a: ok", "nobody: not_found", "devices changed: 1", "not every device")
	check(made.AgentKey, "a", codeRevoked)
	has(line(exitDone, "device", "revoke", org, "--all"), "devices changed: 2")
	has(line(exitDone, "device", "restore", org, "a"), "a: ok")
	check(made.AgentKey, "a", codeAllow)
	has(line(exitDone, "device", "restore", org, "--all"), "devices changed: 2")
	// Where not all find a seat, it is said why and what to type, and that works: for all, for named ones, and if none finds any.
	line(exitDone, "device", "revoke", org, "--all")
	line(exitDone, "org", "plan", org, "--limit", "1")
	some := line(exitFailed, "device", "restore", org, "--all")
	has(some, "devices changed: 1", "2 stay revoked", "of the 1 devices that may be active 1 are", "--limit 3 ")
	has(line(exitFailed, "device", "restore", org, "--all"), "devices changed: 0", "2 stay revoked", "--limit 3 ")
	has(line(exitFailed, "device", "restore", org, "--all", "--output", "json"), "at_cap", "2 stay revoked")
	has(line(exitFailed, "device", "restore", org, "a", "b", "c"), "stays revoked, no seat is free", "2 stay revoked", "--limit 3 ")
	typed := regexp.MustCompile(`'machineid (org plan [^']*)'`).FindStringSubmatch(some)
	if typed == nil {
		t.Fatal(some)
	}
	if code, out, errs := commandLine(strings.Fields(typed[1])...); code != exitDone {
		t.Errorf("%s: exit code %d: %s%s", typed[1], code, out, errs)
	}
	has(line(exitDone, "device", "restore", org, "--all"), "devices changed: 2")
	has(line(exitDone, "device", "restore", org, "--all"), "devices changed: 0")
	if said := line(exitFailed, "device", "revoke", org, "nobody"); strings.Contains(said, "in force") {
		t.Error(said)
	}
	line(exitDone, "org", "plan", org, "--limit", "plan")
	has(line(exitDone, "device", "remove", org, "c"), "device c is removed")
	has(line(exitFailed, "device", "remove", org, "c"), "no device has this id", "'machineid device list "+org+" ")
	var devices []map[string]any
	if asJSON(&devices, "device", "list", org); len(devices) != 2 || devices[0]["deviceId"] != "a" {
		t.Errorf("listed %v", devices)
	}

	var key struct{ KeyID, OrgAPIKey string }
	asJSON(&key, "key", "create", org, "--scope", "validate", "--name", "probe")
	check(key.OrgAPIKey, "a", codeAllow)
	has(line(exitDone, "key", "list", org), "KEY_ID", "probe", key.KeyID)
	out := line(exitDone, "key", "rotate", org, key.KeyID, "--grace", "0s")
	has(out, "scope   validate", "Key "+key.KeyID+" has ended.", "not shown again")
	check(key.OrgAPIKey, "a", "ORG_NOT_FOUND")
	// A key that was shown to nobody is made again by what is told to type: with its scope, name and end.
	var errs strings.Builder
	create := append([]string{"key", "create", org, "--scope", "validate", "--name", "it's \"b\"", "--expires-at", "2077-01-01T00:00:00.000Z"}, flags...)
	if code := run(create, bareEnviron(), failing{}, &errs); code != exitUnshown {
		t.Errorf("exit code %d: %s", code, errs.String())
	}
	_, told, _ := strings.Cut(errs.String(), "'machineid key create ")
	has(told, " --scope validate ", ` --name "it's \"b\""`, " --expires-at 2077-01-01T00:00:00.000Z", flags[1], flags[3])
	has(line(exitDone, "key", "revoke", org, made.AgentKey[4:12]), "is revoked; in force")
	check(made.AgentKey, "a", "ORG_NOT_FOUND")
	has(line(exitFailed, "key", "revoke", org, made.OrgAPIKey[4:12]), "last admin key", "'machineid key create "+org+" --scope admin ", "'machineid key rotate "+org+" "+made.OrgAPIKey[4:12]+" ")

	for _, args := range [][]string{
		{"org", "plan", org},
		{"org", "plan", org, "--limit", "many"},
		{"org", "delete", org},
		{"device", "revoke", org},
		{"device", "revoke", org, "a", "--all"},
		{"key", "rotate", org, "x", "--grace", "1ms"},
		{"org", "show"},
	} {
		line(exitUsage, args...)
	}
	line(exitFailed, "org", "show", "b2469749-4abd-45c1-946a-799ce518d2b7")
	line(exitFailed, "org", "plan", org, "no-such-plan")
	has(line(exitDone, "org", "delete", org, "--confirm", org), "is deleted; in force")
	check(made.OrgAPIKey, "a", "ORG_NOT_FOUND")
	line(exitFailed, "org", "disable", org)
	if code, _, _ := commandLine("org", "list", "--operator-url", "http://"+freeAddress(t), "--operator-token-file", flags[3], "--timeout", "300ms"); code != exitUnavailable {
		t.Errorf("nobody there: exit code %d", code)
	}
}
