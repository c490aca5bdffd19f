//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// operatorOf is the flags by which commands reach a dev as its operator.
func operatorOf(tb testing.TB, d *devNode, dir string) []string {
	tb.Helper()
	file := filepath.Join(dir, "authority", "operator-token")
	if _, err := os.Stat(file); err != nil {
		tb.Fatal(err)
	}
	return []string{"--operator-url", "http://" + d.authority, "--operator-token-file", file}
}

// commandLine runs a command in this process.
func commandLine(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(args, bareEnviron(), &out, &errs)
	return code, out.String(), errs.String()
}

// TestAuditTail shows the newest changes in the order of time, of everybody or of one org, and goes on with what comes.
func TestAuditTail(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := launchDev(t, dir)
	w.ready()
	flags := operatorOf(t, w, dir)
	c := newClient(t, w.edge)
	a := c.must(t, "org/create", "", "{}")
	admin, id := a.text("orgApiKey"), a.text("orgId")
	c.must(t, "devices/register", admin, naming("the \"first\""))
	c.must(t, "devices/register", c.createOrg(t).admin, naming("another's"))
	c.must(t, "devices/revoke", admin, naming("the \"first\""))

	tail := func(more ...string) string {
		t.Helper()
		code, out, errs := commandLine(append(append([]string{"audit", "tail"}, flags...), more...)...)
		if code != exitDone {
			t.Fatalf("exit code %d: %s", code, errs)
		}
		return out
	}
	lines := strings.Split(strings.TrimSpace(tail("--org", id)), "\n")
	if len(lines) != 5 || !strings.Contains(lines[0], "org.created") || !strings.Contains(lines[3], `device.registered "the \"first\""  by key `+admin[4:12]+" at 127.0.0.1") ||
		!strings.Contains(lines[1], `key.created "`+admin[4:12]+`"  `) || !strings.Contains(lines[1], `scope null -> "admin"`) || !strings.Contains(lines[4], "device.revoked") {
		t.Errorf("the org's: %q", lines)
	}
	if out := tail("-n", "2"); strings.Count(out, "\n") != 2 || !strings.Contains(out, "another's") || !strings.Contains(out, "org "+id) {
		t.Errorf("the newest two: %s", out)
	}
	var e auditView
	if out := tail("-n", "1", "--output", "json"); json.Unmarshal([]byte(out), &e) != nil || e.Action != "device.revoked" || e.RequestID == nil {
		t.Errorf("as JSON: %s", out)
	}
	for want, args := range map[int][]string{exitUsage: {"--lines", "-1"}, exitFailed: {"--org", "x"}} {
		if code, _, errs := commandLine(append(append([]string{"audit", "tail"}, flags...), args...)...); code != want || errs == "" {
			t.Errorf("%v: exit code %d, want %d: %s", args, code, want, errs)
		}
	}

	// Operators see by name what was done, to whom, and to the cluster.
	for _, args := range [][]string{{"org", "freeze", id}, {"org", "unfreeze", id}, {"device", "restore", id, `the "first"`}} {
		if code, _, errs := commandLine(append(args, flags...)...); code != exitDone {
			t.Errorf("%v: exit code %d: %s", args, code, errs)
		}
	}
	if out := tail("-n", "2"); !strings.Contains(out, `devices.restored "the \"first\""  by operator `) || !strings.Contains(out, `org.unfrozen "`+id+`"  hold true -> false  by operator `) {
		t.Errorf("a hold: %s", out)
	}
	if out := tail("-n", "1000"); !strings.Contains(out, "cluster.begun") || !strings.Contains(out, "cluster.link_changed") {
		t.Errorf("the cluster: %s", out)
	}

	// That there is more is said, but not to who has chosen how many.
	for i := range 25 {
		c.must(t, "devices/register", c.createOrg(t).admin, naming("of-"+strconv.Itoa(i)))
	}
	for said, args := range map[bool][]string{true: {"audit", "tail"}, false: {"audit", "tail", "-n", "3"}} {
		if _, _, errs := commandLine(append(args, flags...)...); strings.Contains(errs, "older changes are not shown") != said {
			t.Errorf("%v says %s", args, errs)
		}
	}

	p := launch(t, append(append([]string{"audit", "tail"}, flags...), "--follow", "--lines", "0")...)
	eventually(t, patient, "what comes is shown", func() bool {
		c.must(t, "devices/register", admin, `{"deviceId":"late","name":"`+time.Now().Format(time.RFC3339Nano)+`"}`)
		return strings.Contains(p.out.String(), `"late"`)
	})
	if strings.Contains(p.out.String(), "revoked") {
		t.Errorf("what was before is shown: %s", p.out.String())
	}
	p.interrupt()
}
