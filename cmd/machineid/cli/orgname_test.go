//go:build unix

package cli

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// TestOrgsGoByName: wherever an org is asked for, as an argument or by --org; a name that several have is refused with their ids.
func TestOrgsGoByName(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := launchDev(t, dir)
	w.ready()
	flags := operatorOf(t, w, dir)
	line := func(want int, args ...string) string {
		t.Helper()
		code, out, errs := commandLine(append(args, flags...)...)
		if code != want {
			t.Fatalf("%v: exit code %d, want %d: %s%s", args, code, want, out, errs)
		}
		return out + errs
	}
	create := func(name string) string {
		t.Helper()
		var made struct{ OrgID string }
		if out := line(exitDone, "org", "create", "--name", name, "-o", "json"); json.Unmarshal([]byte(out), &made) != nil {
			t.Fatal(out)
		}
		return made.OrgID
	}
	acme, one, two := create("acme inc"), create("twin"), create("twin")
	disguised := create(acme) // named like another's id
	for _, args := range [][]string{
		{"org", "show", "acme inc"}, {"org", "show", "--org", "acme inc"}, {"org", "show", acme}, {"org", "show", "--org", acme},
	} {
		if out := line(exitDone, args...); !strings.Contains(out, acme) || strings.Contains(out, disguised) {
			t.Errorf("%v: %s", args, out)
		}
	}
	line(exitDone, "org", "plan", "acme inc", "pro")
	line(exitDone, "org", "plan", "--org", "acme inc", "pro", "--limit", "7")
	line(exitDone, "org", "freeze", "acme inc")
	line(exitDone, "org", "unfreeze", "--org", "acme inc")
	line(exitDone, "org", "disable", "acme inc")
	line(exitDone, "org", "enable", "--org", "acme inc")
	for _, args := range [][]string{{"device", "list"}, {"key", "list"}, {"device", "revoke", "--all"}, {"device", "restore", "--all"}, {"key", "create"}, {"audit", "tail"}} {
		line(exitDone, append(args, "--org", "acme inc")...)
		if args[0] != "audit" {
			line(exitDone, append([]string{args[0], args[1], "acme inc"}, args[2:]...)...)
		}
		if out := line(exitFailed, append(args, "--org", "twin")...); !strings.Contains(out, one) || !strings.Contains(out, two) {
			t.Errorf("%v: %s", args, out)
		}
		if out := line(exitFailed, append(args, "--org", "nobody")...); !strings.Contains(out, "machineid org list") {
			t.Errorf("%v: %s", args, out)
		}
		line(exitUsage, append(args, "--org", "")...)
	}
	if out := line(exitFailed, "device", "revoke", "--org", "acme inc", "a"); !strings.Contains(out, "a: not_found") {
		t.Errorf("a device behind --org: %s", out)
	}
	// What the environment or a file says is taken where no ORG is given.
	settings := filepath.Join(dir, "settings")
	if err := os.WriteFile(settings, []byte("org = acme inc\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"device", "list"}, {"org", "disable"}, {"org", "enable"}, {"org", "show"}, {"device", "revoke", "--all"}, {"audit", "tail"}} {
		for _, from := range []struct{ args, environ []string }{{nil, []string{"MACHINEID_ORG=acme inc"}}, {[]string{"--config", settings}, nil}} {
			var out, errs strings.Builder
			if code := run(append(append(args, from.args...), flags...), append(bareEnviron(), from.environ...), &out, &errs); code != exitDone {
				t.Errorf("%v with %v: exit code %d: %s%s", args, from, code, out.String(), errs.String())
			}
		}
	}
	if out := line(exitUsage, "device", "list"); !strings.Contains(out, "ORG is missing") {
		t.Errorf("no org: %s", out)
	}
	if out := line(exitUsage, "org", "disable", "--org", "acme inc", "d1"); !strings.Contains(out, `"d1" is too much`) {
		t.Errorf("an org too many: %s", out)
	}
	// It does not make a device of an org.
	var out, errs strings.Builder
	if code := run(append([]string{"device", "revoke", "acme inc"}, flags...), append(bareEnviron(), "MACHINEID_ORG=twin"), &out, &errs); code != exitUsage {
		t.Errorf("exit code %d: %s%s", code, out.String(), errs.String())
	}
	// How much is done is typed, and nothing that the environment says for others.
	for setting, args := range map[string][]string{"MACHINEID_ALL=true": {"device", "revoke", "acme inc"}, "MACHINEID_LIMIT=1": {"org", "plan", "acme inc"}, "MACHINEID_CONFIRM=" + acme: {"org", "delete", "acme inc"}} {
		var out, errs strings.Builder
		if code := run(append(args, flags...), append(bareEnviron(), setting), &out, &errs); code != exitUsage {
			t.Errorf("%v with %s: exit code %d: %s%s", args, setting, code, out.String(), errs.String())
		}
	}
	if out := line(exitUsage, "org", "delete", "acme inc", "--confirm", "acme inc"); !strings.Contains(out, acme) {
		t.Errorf("deleted by a name: %s", out)
	}
	line(exitDone, "org", "delete", "acme inc", "--confirm", acme)
}

// TestPlanCommands: what is named is changed, the others stay.
func TestPlanCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := launchDev(t, dir)
	w.ready()
	flags := operatorOf(t, w, dir)
	line := func(want int, args ...string) string {
		t.Helper()
		code, out, errs := commandLine(append(args, flags...)...)
		if code != want {
			t.Fatalf("%v: exit code %d, want %d: %s%s", args, code, want, out, errs)
		}
		return out + errs
	}
	first := line(exitDone, "plan", "list")
	if !strings.Contains(first, "free   3\n") || !strings.Contains(first, "grace after a payment failed: 7") {
		t.Errorf("the plans are %s", first)
	}
	if out := line(exitUsage, "plan", "set", "huge=5000"); !strings.Contains(out, "--add") {
		t.Errorf("a plan that is none: %s", out)
	}
	line(exitDone, "plan", "set", "free=4", "huge=5000", "--add", "--grace-days", "3")
	if out := line(exitDone, "plan", "list"); !strings.Contains(out, "free   4\n") || !strings.Contains(out, "huge   5000\n") || !strings.Contains(out, "pro    25\n") || !strings.Contains(out, "failed: 3") {
		t.Errorf("the plans are %s", out)
	}
	line(exitDone, "plan", "set", "--grace-days", "0")
	for _, args := range [][]string{{"plan", "set"}, {"plan", "set", "free"}, {"plan", "set", "a=1", "a=2"}, {"plan", "set", "--grace-days", "91"}, {"plan", "set", "a=-1"}} {
		line(exitUsage, args...)
	}
	if out := line(exitFailed, "org", "create", "--plan", "nosuch"); !strings.Contains(out, `no plan "nosuch": there are free, `) {
		t.Errorf("a plan that is none: %s", out)
	}
}

// TestAChangeNamesWhomItWaitedFor: an edge that does not acknowledge until its lease has ended.
func TestAChangeNamesWhomItWaitedFor(t *testing.T) {
	t.Parallel()
	w := startTiers(t)
	flags := []string{"--operator-url", "http://" + w.authority.http, "--operator-token-file", filepath.Join(w.authority.dir, "operator-token")}
	a := newClient(t, w.authority.http).must(t, "org/create", "", "{}")
	newClient(t, w.authority.http).must(t, "devices/register", a.text("orgApiKey"), naming("a"))
	eventually(t, patient, "the edge remembers the device", func() bool { return newClient(t, w.edge.http).validate(t, a.text("agentKey"), "a") == codeAllow })
	w.edge.pause()
	for i, args := range [][]string{{"device", "revoke", a.text("orgId"), "a"}, {"org", "disable", a.text("orgId")}} {
		code, out, errs := commandLine(append(args, flags...)...)
		t.Logf("%s%s", out, errs)
		if i == 0 && (code != exitDone || !strings.Contains(out, "did not acknowledge until their leases had ended: e1")) {
			t.Errorf("exit code %d: %s%s", code, out, errs)
		}
	}
	w.edge.resume()
}

// TestArgumentsAreJudgedFirst: what is wrong with a command's own arguments is told at once, and not after a cluster was looked for that does not answer.
func TestArgumentsAreJudgedFirst(t *testing.T) {
	t.Parallel()
	var asked atomic.Bool
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Store(true) }))
	t.Cleanup(s.Close)
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(strings.Repeat("t", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"org plan dev --limit x", "org plan dev --limit 007", "org plan dev --access-until yesterday", "org plan dev", "key create dev --scope foo", "key create dev --expires-at soon",
		"key rotate dev x --grace 721h", "key rotate dev x --grace 1ms", "device revoke dev", "device restore dev", "device revoke dev a --all", "org delete dev", "org create --version 3",
	} {
		code, out, errs := commandLine(append(strings.Fields(line), "--operator-url", s.URL, "--operator-token-file", token)...)
		if code != exitUsage || out != "" || asked.Load() || strings.Contains(errs, "trying") {
			t.Errorf("%s: exit code %d, asked: %t\n%s%s", line, code, asked.Swap(false), out, errs)
		}
	}
	if code, _, errs := commandLine("org", "freeze", "dev", "--operator-url", s.URL, "--operator-token-file", token); code == exitUsage || !asked.Load() {
		t.Errorf("nobody was asked: exit code %d: %s", code, errs)
	}
}
