//go:build linux

package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const anOrg = "b2469749-4abd-45c1-946a-799ce518d2b7"

// hostileAuthority answers every operators' call with what others chose in each text.
func hostileAuthority(tb testing.TB) string {
	tb.Helper()
	bad := hostile()
	org := map[string]any{
		"orgId": anOrg, "name": bad, "externalId": bad, "version": 2, "createdAt": bad, "planTier": bad, "planState": bad, "accessUntil": bad,
		"limit": 3, "devicesUsed": 1, "executionEnabled": true,
	}
	key := map[string]any{"keyId": bad, "scope": bad, "name": bad, "createdAt": bad, "expiresAt": bad, "revokedAt": bad}
	device := map[string]any{"deviceId": bad, "status": bad, "name": bad, "createdAt": bad, "revokedAt": bad, "expiresAt": bad, "metadata": map[string]any{bad: bad}}
	member := map[string]any{
		"id": bad, "store": bad, "raft": bad, "advertised": bad + "2", "http": bad, "link": bad, "voter": true, "leader": true, "reachable": true, "state": bad,
		"version": bad, "unfit": bad, "format": 1, "newestFormat": 2,
	}
	entry := map[string]any{
		"id": "7-1", "at": bad, "action": bad, "actor": map[string]any{"type": bad, "id": bad}, "address": bad, "request_id": bad, "orgId": bad, "target": bad, "count": 2,
	}
	answers := map[string]map[string]any{
		"operator/orgs":            {"orgs": []any{org}, "orgId": anOrg, "orgApiKey": bad, "agentKey": bad},
		"operator/orgs/" + anOrg:   org,
		"operator/plans":           {"plans": []any{map[string]any{"planTier": bad, "limit": 3}}, "graceDays": 7},
		"operator/audit":           {"entries": []any{entry}},
		"audit":                    {"entries": []any{entry}},
		"devices/list":             {"devices": []any{device}},
		"devices/revoke_batch":     {"results": []any{map[string]any{"deviceId": bad, "status": "ok", "changed": true}}, "revokedCount": 1},
		"devices/unrevoke_batch":   {"results": []any{map[string]any{"deviceId": bad, "status": "ok"}}, "unrevokedCount": 0},
		"org/keys":                 {"keys": []any{key}, "keyId": bad, "orgApiKey": bad, "scope": bad},
		"org/keys/rotate":          {"keyId": bad, "orgApiKey": bad, "scope": bad, "createdAt": "2026", "replaced": map[string]any{"keyId": bad, "expiresAt": "2027" + bad}},
		"operator/cluster":         {"clusterId": bad, "node": bad, "phase": "member", "leader": bad, "members": []any{member, map[string]any{"id": bad, "error": bad}}, "notReady": []any{bad}, "format": 1},
		"operator/cluster/init":    {"clusterId": bad},
		"operator/cluster/format":  {"format": 2},
		"operator/edges":           {"node": bad, "edges": []any{map[string]any{"id": bad, "address": bad, "version": bad, "state": bad, "since": "2026-11-30T00:00:00Z"}}},
		"operator/billing/sync":    {"checked": 1, "differences": []any{map[string]any{"orgId": bad, "had": bad, "has": bad, "others": []any{bad}, "error": ""}}},
		"operator/token/rotate":    {"changed": true},
		"operator/cluster/members": {},
	}
	s := httptest.NewServer(asNode(func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimPrefix(r.URL.Path, "/api/v1/")
		answer := map[string]any{"status": "ok", "request_id": "r", "changed": true, "propagation": map[string]any{"edges": 1}}
		maps.Copy(answer, answers[path])
		_ = json.NewEncoder(w).Encode(answer)
	}))
	tb.Cleanup(s.Close)
	return s.URL
}

// printing lists how each command that prints is called, but for the servers, cobra's own and load tests. What does not speak to a cluster has whole folders and
// files to work on; file makes a new path.
func printing(tb testing.TB, file func() string) map[string][]string {
	tb.Helper()
	dir := tb.TempDir()
	d := launchDev(tb, dir)
	d.ready()
	saved := file()
	token := filepath.Join(dir, "authority", "operator-token")
	if code, out, errs := commandLine("snapshot", "save", saved, "--operator-url", "http://"+d.authority, "--operator-token-file", token); code != exitDone {
		tb.Fatalf("exit code %d: %s%s", code, out, errs)
	}
	theirs := []string{"--operator-url", "http://" + d.authority, "--operator-token-file", token}
	stopped := tb.TempDir()
	if code, out, errs := commandLine("snapshot", "restore", saved, "--data", filepath.Join(stopped, "a"), "--id", "a", "--raft", "127.0.0.1:7072"); code != exitDone {
		tb.Fatalf("exit code %d: %s%s", code, out, errs)
	}
	tokenFile := file()
	if err := os.WriteFile(tokenFile, []byte(clusterToken), 0o600); err != nil {
		tb.Fatal(err)
	}
	operator := []string{"--operator-url", hostileAuthority(tb), "--operator-token-file", tokenFile}
	list := map[string][]string{
		"snapshot save":    append([]string{"FILE"}, theirs...),
		"snapshot inspect": {saved},
		"snapshot restore": {saved, "--data", "FILE", "--id", "a", "--raft", "127.0.0.1:7072"},
		"debug log":        {"--data", filepath.Join(stopped, "a")},
		"recover":          {"--data", filepath.Join(stopped, "a"), "--id", "a", "--raft", "127.0.0.1:7072", "--yes", "--again"},
		"config check":     {},
		"version":          {},
		"cluster init":     {"--at", operator[1], "--operator-token-file", tokenFile},
	}
	for command, args := range map[string]string{
		"audit tail": "--org " + anOrg, "billing sync": "", "cluster status": "", "cluster members": "", "cluster add": "a 127.0.0.1:1", "cluster promote": "a", "cluster demote": "a",
		"cluster remove": "a", "cluster readdress": "a 127.0.0.1:1", "cluster transfer": "", "cluster raise-format": "", "device list": anOrg, "device revoke": anOrg + " a",
		"device restore": anOrg + " a", "device remove": anOrg + " a", "edges": "", "key list": anOrg, "key create": anOrg, "key rotate": anOrg + " k", "key revoke": anOrg + " k",
		"org list": "", "org show": anOrg, "org create": "", "org plan": anOrg + " free", "org freeze": anOrg, "org unfreeze": anOrg, "org disable": anOrg, "org enable": anOrg,
		"org delete": anOrg + " --confirm " + anOrg, "plan list": "", "plan set": "free=3 --add", "operator token rotate": "--new-token-file FILE",
	} {
		list[command] = append(strings.Fields(args), operator...)
	}
	everyCommand(func(cmd *cobra.Command) {
		path := pathOf(cmd)
		if cmd.HasSubCommands() || slices.Contains(servers, path[0]) || slices.Contains([]string{"bench", "completion", "help"}, path[0]) {
			return
		}
		if _, ok := list[strings.Join(path, " ")]; !ok {
			tb.Errorf("%v is not among the commands that print: how is it called?", path)
		}
	})
	return list
}

// TestOutputs runs every command that prints: into a full disk and into a pipe that nobody reads it says so, and ends with the code of that, and who made a
// key is told how to take it back. And of what others chose nothing harmful reaches the terminal, and JSON is the value that was answered.
func TestOutputs(t *testing.T) {
	t.Parallel()
	folder, files := t.TempDir(), 0
	file := func() string {
		files++
		return filepath.Join(folder, "f"+string(rune('a'+files/26))+string(rune('a'+files%26)))
	}
	for command, args := range printing(t, file) {
		call := func(out io.Writer, more ...string) (int, string) {
			list := append(strings.Fields(command), args...)
			for i := range list {
				if list[i] == "FILE" {
					list[i] = file()
				}
			}
			var said bytes.Buffer
			code := run(append(list, more...), bareEnviron(), out, &said)
			return code, said.String()
		}
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		r, broken, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Close()
		forms := [][]string{nil}
		if _, ok := flagsOf(command)["output"]; ok {
			forms = append(forms, []string{"-o", "json"})
		}
		for _, form := range forms {
			for _, to := range []*os.File{full, broken} {
				code, said := call(to, form...)
				if code != exitUnshown || !strings.Contains(said, "standard output did not take") {
					t.Errorf("%s %v into %s: exit code %d: %s", command, form, to.Name(), code, said)
				}
				if secret := command == "org create" || command == "key create" || command == "key rotate"; secret != (strings.Contains(said, "shown to nobody") && strings.Contains(said, "machineid key revoke")) {
					t.Errorf("%s %v into %s: says of its secret: %s", command, form, to.Name(), said)
				}
			}
			var out bytes.Buffer
			code, said := call(&out, form...)
			if code != exitDone {
				t.Errorf("%s %v: exit code %d: %s", command, form, code, said)
			}
			if fault := faultOf(out.String() + said); fault != "" || out.Len() == 0 {
				t.Errorf("%s %v: %s", command, form, fault)
			}
			for line := range strings.Lines(out.String()) {
				if form == nil && (strings.HasPrefix(line, "id ") || strings.HasPrefix(line, "id\\")) {
					t.Errorf("%s: a name begins a line of its own: %q", command, line)
				}
			}
			if form != nil && strings.Contains(command, "list") {
				holdsHostile(t, command, out.Bytes())
			}
		}
		_ = full.Close()
		_ = broken.Close()
	}
}

// TestHelpIsToldOf: what a command takes may be lost as what it does, also that of the servers, whose streams are others.
func TestHelpIsToldOf(t *testing.T) {
	t.Parallel()
	everyCommand(func(cmd *cobra.Command) {
		full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = full.Close() }()
		var said bytes.Buffer
		if code := run(append(pathOf(cmd), "--help"), bareEnviron(), full, &said); code != exitUnshown {
			t.Errorf("%v --help into %s: exit code %d: %s", pathOf(cmd), full.Name(), code, said.String())
		}
	})
}

// TestRecoverIsNotRepeatedByMistake: a folder that was recovered makes one more cluster only for who says so.
func TestRecoverIsNotRepeatedByMistake(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	a := newAuthority(t)
	a.start()
	saved := filepath.Join(data, "saved")
	if code, out, errs := commandLine("snapshot", "save", saved, "--operator-url", "http://"+a.http, "--operator-token-file", filepath.Join(a.dir, "operator-token")); code != exitDone {
		t.Fatalf("exit code %d: %s%s", code, out, errs)
	}
	folder := []string{"--data", filepath.Join(data, "a"), "--id", "a", "--raft", "127.0.0.1:7072"}
	if code, out, errs := commandLine(append([]string{"snapshot", "restore", saved}, folder...)...); code != exitDone {
		t.Fatalf("exit code %d: %s%s", code, out, errs)
	}
	for i, want := range []int{exitDone, exitFailed, exitDone, exitFailed} {
		args := append([]string{"recover", "--yes"}, folder...)
		if i == 2 {
			args = append(args, "--again")
		}
		if code, out, errs := commandLine(args...); code != want || want == exitFailed && !strings.Contains(errs, "--again") {
			t.Errorf("attempt %d: exit code %d: %s%s", i+1, code, out, errs)
		}
	}
}

// holdsHostile looks for the name that the fake answered, in JSON.
func holdsHostile(t *testing.T, command string, raw []byte) {
	t.Helper()
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Errorf("%s: %v: %s", command, err, raw)
	}
	var holds func(reflect.Value) bool
	holds = func(v reflect.Value) bool {
		switch v.Kind() {
		case reflect.Interface:
			return holds(v.Elem())
		case reflect.String:
			return v.String() == hostile()
		case reflect.Slice:
			return slices.ContainsFunc(slices.Collect(v.Seq()), func(i reflect.Value) bool { return holds(v.Index(int(i.Int()))) })
		case reflect.Map:
			return slices.ContainsFunc(v.MapKeys(), func(k reflect.Value) bool { return holds(v.MapIndex(k)) })
		default:
			return false
		}
	}
	if !holds(reflect.ValueOf(v)) {
		t.Errorf("%s: no value is what was answered: %s", command, raw)
	}
}

// flagsOf are the flags of a command.
func flagsOf(command string) map[string]bool {
	list := map[string]bool{}
	everyCommand(func(cmd *cobra.Command) {
		if strings.Join(pathOf(cmd), " ") == command {
			cmd.Flags().VisitAll(func(f *pflag.Flag) { list[f.Name] = true })
		}
	})
	return list
}
