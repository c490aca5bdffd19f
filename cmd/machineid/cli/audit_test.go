//go:build unix

package cli

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
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
	if len(lines) != 5 || !strings.Contains(lines[0], "org.created") || !strings.Contains(lines[3], `device.registered 'the "first"'  by key `+admin[4:12]+" at 127.0.0.1") ||
		!strings.Contains(lines[1], `key.created `+admin[4:12]+`  `) || !strings.Contains(lines[1], `scope null -> "admin"`) || !strings.Contains(lines[4], "device.revoked") {
		t.Errorf("the org's: %q", lines)
	}
	if out := tail("-n", "2"); strings.Count(out, "\n") != 2 || !strings.Contains(out, `$'another\'s'`) || !strings.Contains(out, "org "+id) {
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
	if out := tail("-n", "2"); !strings.Contains(out, `devices.restored 'the "first"'  by operator `) || !strings.Contains(out, `org.unfrozen `+id+`  hold true -> false  by operator `) {
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

	// What came after an entry, or since a time, is all of it, in order, and begins there.
	ids := func(more ...string) (list []string) {
		for line := range strings.Lines(tail(append(more, "-o", "json")...)) {
			var e auditView
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatal(err)
			}
			list = append(list, e.ID)
		}
		return list
	}
	all := ids("-n", "1000")
	for name, got := range map[string][]string{
		"--after the 20th":             ids("--after", all[19]),
		"--after one before the first": append(all[:20:20], ids("--after", "0-0")[20:]...)[20:],
		"-n 3 of those":                append(all[20:len(all)-3:len(all)-3], ids("--after", all[19], "-n", "3")...),
		"--since an hour":              ids("--since", "1h")[20:],
		"--since a time":               ids("--since", time.Now().Add(-time.Hour).UTC().Format(time.RFC3339))[20:],
	} {
		if !slices.Equal(got, all[20:]) {
			t.Errorf("%s: %v, want %v", name, got, all[20:])
		}
	}
	for _, none := range [][]string{{"--after", all[len(all)-1]}, {"--since", "0s"}, {"--since", "2099-01-01T00:00:00Z"}} {
		if got := ids(none...); len(got) > 0 {
			t.Errorf("%v: %v", none, got)
		}
	}
	if out := tail("-n", "1"); !strings.HasSuffix(out, "  entry "+all[len(all)-1]+"\n") {
		t.Errorf("a line does not tell its entry: %s", out)
	}
	for _, bad := range [][]string{{"--since", "yesterday"}, {"--since", "-1h"}, {"--after", "812"}, {"--after", "1-0", "--since", "1h"}} {
		if code, _, errs := commandLine(append(append([]string{"audit", "tail"}, flags...), bad...)...); code != exitUsage || !strings.Contains(errs, bad[0]) {
			t.Errorf("%v: exit code %d: %s", bad, code, errs)
		}
	}
	resumed := launch(t, append(append([]string{"audit", "tail"}, flags...), "--follow", "--after", all[len(all)-2])...)
	eventually(t, patient, "following begins after an entry", func() bool { return strings.Contains(resumed.out.String(), "entry "+all[len(all)-1]) })

	p := launch(t, append(append([]string{"audit", "tail"}, flags...), "--follow", "--lines", "0")...)
	eventually(t, patient, "what comes is shown", func() bool {
		c.must(t, "devices/register", admin, `{"deviceId":"late","name":"`+time.Now().Format(time.RFC3339Nano)+`"}`)
		return strings.Contains(p.out.String(), " late ")
	})
	if strings.Contains(p.out.String(), "revoked") {
		t.Errorf("what was before is shown: %s", p.out.String())
	}
	p.interrupt()
	eventually(t, patient, "following goes on", func() bool { return strings.Contains(resumed.out.String(), " late ") })
	if out := resumed.out.String(); strings.Count(out, "entry "+all[len(all)-1]) != 1 || strings.Contains(out, "entry "+all[len(all)-2]+"\n") {
		t.Errorf("followed: %s", out)
	}
	resumed.interrupt()
}
