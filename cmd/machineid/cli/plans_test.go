//go:build unix

package cli

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPlans: a new cluster begins with the plans of the flag, and one that there is keeps its own.
func TestPlans(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := launchDev(t, dir, "--plans", "free=1,team=7", "--grace-days", "3")
	w.ready()
	const want = `"plans":[{"planTier":"free","limit":1},{"planTier":"team","limit":7}],"graceDays":3`
	has := func() {
		t.Helper()
		token, err := os.ReadFile(filepath.Join(dir, "authority", "operator-token"))
		if err != nil {
			t.Fatal(err)
		}
		r, err := newClient(t, w.authority).do(http.MethodGet, "operator/plans", "", "", "Authorization: Bearer "+strings.TrimSpace(string(token)))
		if err != nil || !strings.Contains(r.raw, want) {
			t.Errorf("%v: %+v", err, r)
		}
	}
	has()
	c := newClient(t, w.edge)
	o := c.createOrg(t)
	c.must(t, "devices/register", o.agent, naming("a"))
	if r, err := c.post("devices/register", o.agent, naming("b")); err != nil || r.text("error") != "device_limit_reached" {
		t.Errorf("%v: %+v", err, r)
	}
	flags := operatorOf(t, w, dir)
	for name, meant := range map[string]string{"TEAM": "mean team?", "teem": "mean team?", "other": "no plan"} {
		if code, _, errs := commandLine(append([]string{"plan", "set", name + "=3"}, flags...)...); code != exitUsage || !strings.Contains(errs, meant) || !strings.Contains(errs, "--add") {
			t.Errorf("%s: exit code %d: %s", name, code, errs)
		}
	}
	for _, args := range [][]string{{"org", "create", "--plan", "taem"}, {"org", "plan", "dev", "taem"}} {
		if code, _, errs := commandLine(append(args, flags...)...); code != exitFailed || !strings.Contains(errs, `no plan "taem": did you mean team?`) {
			t.Errorf("%v: exit code %d: %s", args, code, errs)
		}
	}
	if code, _, errs := commandLine(append([]string{"plan", "set", "free=-1"}, flags...)...); code != exitUsage || strings.Contains(errs, "--plans") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	has()
	w.interrupt()
	w = launchDev(t, dir, "--plans", "free=2")
	w.ready()
	has()
	if code, out, errs := commandLine(append([]string{"plan", "set", "other=3", "--add"}, operatorOf(t, w, dir)...)...); code != exitDone || !strings.Contains(out, "other") {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
}
