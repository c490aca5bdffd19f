//go:build unix

package cli

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRestoreIsAChangeOfEverything: a cluster begun from a backup is the past, and an edge that was never restarted says so as soon as
// it has met it: nothing of what it remembered counts any more (I7). The cluster that was replaced it refuses from then on.
func TestRestoreIsAChangeOfEverything(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1, "--lease", "1s")
	a := c.nodes[0]
	e := startEdge(t, a.link, "--max-wait", "500ms")
	e.ready()
	o := newClient(t, a.http).createOrg(t)
	agent := newClient(t, e.http)
	register := func(id string) {
		newClient(t, a.http).must(t, "devices/register", o.admin, naming(id))
		if code := agent.validate(t, o.agent, id); code != "ALLOW" {
			t.Fatalf("%s: %s", id, code)
		}
	}
	register("before")
	file := filepath.Join(t.TempDir(), "backup")
	if out, code := c.operate("snapshot", "save", file); code != exitDone || !strings.Contains(out, "1 devices") {
		t.Fatalf("save: %d %s", code, out)
	}
	if out, code := c.operate("snapshot", "save", file); code != exitUsage || !strings.Contains(out, "--force") {
		t.Errorf("save over a file: %d %s", code, out)
	}
	// Where a link leads, a group may read: both stay as they were.
	linked := filepath.Join(t.TempDir(), "linked")
	if err := errors.Join(os.Symlink(file, linked), os.Chmod(file, 0o640)); err != nil {
		t.Fatal(err)
	}
	if out, code := c.operate("snapshot", "save", linked, "--force"); code != exitDone {
		t.Errorf("save where a link leads: %d %s", code, out)
	}
	if info, err := os.Lstat(file); err != nil || info.Mode() != 0o640 {
		t.Errorf("the file behind the link: %v, %v", info, err)
	}
	if to, err := os.Readlink(linked); err != nil || to != file {
		t.Errorf("the link leads to %q, %v", to, err)
	}
	register("after")

	a.kill()
	old := a.dir
	a.dir = filepath.Join(t.TempDir(), "restored")
	restore := func(args ...string) (string, int) {
		var out bytes.Buffer
		code := run(append([]string{"snapshot", "restore", file, "--data", a.dir, "--raft", a.raft}, args...), nil, &out, &out)
		return out.String(), code
	}
	if out, code := restore(); code != exitUsage || !strings.Contains(out, "--id") {
		t.Errorf("restore without --id: %d %s", code, out)
	}
	if out, code := restore("--id", a.id); code != exitDone {
		t.Fatalf("restore: %d %s", code, out)
	}
	if out, code := restore("--id", a.id); code != exitFailed || !strings.Contains(out, "another folder") {
		t.Errorf("restore over a state: %d %s", code, out)
	}
	a.begin()
	a.ready()
	eventually(t, patient, "the edge has met the restored state", func() bool {
		return agent.validate(t, o.agent, "after") == "DEVICE_NOT_FOUND"
	})
	if code := agent.validate(t, o.agent, "before"); code != "ALLOW" {
		t.Errorf("what the backup holds: %s", code)
	}
	// The first change waits for leases that may have been given since the backup.
	began := time.Now()
	newClient(t, a.http).must(t, "devices/revoke", o.admin, naming("before"))
	if took := time.Since(began); took < time.Second {
		t.Errorf("the first change took %v", took)
	}

	a.kill()
	a.dir = old
	a.begin()
	a.ready()
	for deadline := time.Now().Add(3 * time.Second); time.Now().Before(deadline); {
		for _, id := range []string{"before", "after"} {
			if code := agent.validate(t, o.agent, id); code == "ALLOW" {
				t.Fatalf("ALLOW of %s from a cluster that was replaced", id)
			}
		}
	}
}

// TestSaveWarns when nobody leads: what the node has is saved, and it is said that it may not be all.
func TestSaveWarns(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 2)
	dir := t.TempDir()
	if out, code := c.operate("snapshot", "save", filepath.Join(dir, "all")); code != exitDone || strings.Contains(out, "warning") {
		t.Errorf("with a leader: %d %s", code, out)
	}
	c.nodes[1].kill()
	eventually(t, patient, "nobody leads", func() bool { return c.view().Leader == nil })
	if out, code := c.operate("snapshot", "save", filepath.Join(dir, "some")); code != exitDone ||
		!strings.Contains(out, "may lack changes that were acknowledged before it was asked for: no leader is known") || !strings.Contains(out, "holds index ") {
		t.Errorf("without one: %d %s", code, out)
	}
	out, code := c.operate("snapshot", "save", filepath.Join(dir, "json"), "--output", "json")
	if code != exitDone || !strings.Contains(out, `"doubt": "no leader is known"`) || !strings.Contains(out, `"index": `) {
		t.Errorf("as JSON: %d %s", code, out)
	}
}

// TestOfflineToolsRefuse what is no folder or no archive, and say what to do.
func TestOfflineToolsRefuse(t *testing.T) {
	dir := t.TempDir()
	bad := filepath.Join(dir, "bad")
	if err := os.WriteFile(bad, []byte("no archive, but long enough to be looked at"), 0o600); err != nil {
		t.Fatal(err)
	}
	cut := filepath.Join(dir, "cut")
	if err := os.MkdirAll(filepath.Join(cut, "store.restoring"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		code int
		say  string
	}{
		{[]string{"snapshot", "inspect", bad}, exitFailed, "not an archive"},
		{[]string{"snapshot", "inspect", filepath.Join(dir, "none")}, exitFailed, "no such file"},
		{[]string{"snapshot", "restore", bad, "--data", filepath.Join(dir, "new"), "--id", "a1", "--raft", "127.0.0.1:7072"}, exitFailed, "not an archive"},
		{[]string{"snapshot", "restore", bad}, exitUsage, "--data"},
		{[]string{"debug", "log", "--data", dir}, exitFailed, "no data folder"},
		{[]string{"debug", "log"}, exitUsage, "--data"},
		{[]string{"recover", "--data", dir, "--id", "a1", "--raft", "127.0.0.1:7072"}, exitUsage, "--yes"},
		{[]string{"recover", "--data", dir, "--id", "a1", "--raft", "127.0.0.1:7072", "--yes"}, exitFailed, "no such folder"},
		{[]string{"recover", "--data", dir, "--id", "a1", "--yes"}, exitUsage, "is required; give the address"},
		{[]string{"recover", "--data", dir, "--id", "a/1", "--raft", "0.0.0.0:7072", "--yes"}, exitUsage, "no node's name"},
		{[]string{"recover", "--data", dir, "--id", "a1", "--raft", "0.0.0.0:7072", "--yes"}, exitUsage, "others cannot dial it"},
		{[]string{"snapshot", "restore", bad, "--data", filepath.Join(dir, "new"), "--id", "a1"}, exitUsage, "is required; give the address"},
		{[]string{"snapshot", "restore", bad, "--data", filepath.Join(dir, "new"), "--id", "a1", "--raft", "a1:0"}, exitUsage, "from 1 to 65535"},
		{[]string{"authority", "--id", "a1", "--data", cut, "--bootstrap", "--http", "127.0.0.1:0", "--link", "127.0.0.1:0", "--raft", "127.0.0.1:0", "--ops", "127.0.0.1:0"}, exitFailed, "was cut"},
		{[]string{"authority", "--id", "a1", "--data", filepath.Join(dir, "new"), "--bootstrap", "--advertise-raft", "[::]:7072"}, exitUsage, "others cannot dial it"},
		{[]string{"authority", "--id", "a1", "--data", filepath.Join(dir, "new"), "--bootstrap", "--insecure", "--raft", "0.0.0.0:7072"}, exitUsage, "set --advertise-raft"},
	} {
		var out bytes.Buffer
		if code := run(c.args, nil, &out, &out); code != c.code || !strings.Contains(out.String(), c.say) {
			t.Errorf("%v: exit %d, %s", c.args, code, out.String())
		}
	}
}
