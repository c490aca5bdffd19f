//go:build unix

package cli

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTokenRotate: the command leaves the new token where the old one was, readable by its user only; one that was cut off after the change, before
// it heard of it, is finished by the next.
func TestTokenRotate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := launchDev(t, dir)
	w.ready()
	flags := operatorOf(t, w, dir)
	file := flags[len(flags)-1]
	read := func(path string) string {
		t.Helper()
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(b))
	}
	c := newClient(t, w.authority)
	good := func(token string) bool {
		t.Helper()
		a, err := c.do(http.MethodGet, "operator/orgs", "", "", "Authorization: Bearer "+token)
		if err != nil {
			t.Fatal(err)
		}
		return a.StatusCode == http.StatusOK
	}
	line := func(want int, args ...string) string {
		t.Helper()
		code, out, errs := commandLine(append([]string{"operator", "token", "rotate"}, args...)...)
		if code != want {
			t.Fatalf("%v: exit code %d, want %d: %s%s", args, code, want, out, errs)
		}
		if strings.Contains(out+errs, read(file)) {
			t.Errorf("it shows the token: %s%s", out, errs)
		}
		return out + errs
	}
	first := read(file)
	if out := line(exitDone, flags...); !strings.Contains(out, file) {
		t.Errorf("said %s", out)
	}
	second := read(file)
	if good(first) || !good(second) {
		t.Error("the old token is good, or the new one is not")
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if _, err := os.Stat(file + ".new"); err == nil {
		t.Error("a file is left over")
	}

	// Where a link leads, a group may read: both stay as they were.
	behind := filepath.Join(filepath.Dir(file), "real-token")
	if err := errors.Join(os.Rename(file, behind), os.Symlink(filepath.Base(behind), file), os.Chmod(behind, 0o640)); err != nil {
		t.Fatal(err)
	}
	line(exitDone, flags...)
	if info, err := os.Lstat(file); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v, %v", info, err)
	}
	if info, err := os.Lstat(behind); err != nil || info.Mode() != 0o640 {
		t.Errorf("the file behind it: %v, %v", info, err)
	}
	if good(second) || !good(read(behind)) {
		t.Error("the new token is not behind the link")
	}
	second = read(file)

	// Cut off: the change is made, the file is not in its place.
	third := strings.Repeat("third-token.", 4)
	if err := os.WriteFile(behind+".new", []byte(third+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if a, err := c.do(http.MethodPost, "operator/token/rotate", "", `{"token":"`+third+`"}`, "Authorization: Bearer "+second); err != nil || a.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", a, err)
	}
	line(exitDone, flags...)
	if read(file) != third || !good(third) {
		t.Error("the token that was left is not in its place")
	}

	// Into a file of its own, which the caller may have made.
	own := filepath.Join(dir, "own")
	if out := line(exitDone, append(flags, "--new-token-file", own, "--output", "json")...); !strings.Contains(out, `"changed": true`) {
		t.Errorf("said %s", out)
	}
	if fourth := read(own); !good(fourth) || read(file) != third {
		t.Error("the new token is not in the file")
	}
	if out := line(exitFailed, flags...); !strings.Contains(out, "Nothing was changed") || strings.Contains(out, "run the same") || read(file) != third {
		t.Errorf("with a token that is none any more: %s", out)
	}
	if _, err := os.Stat(behind + ".new"); err == nil {
		t.Error("the new token that is good for nothing is left over")
	}
	if out := line(exitFailed, append(flags, "--new-token-file", behind)...); !strings.Contains(out, "Nothing was changed") || read(behind) != third {
		t.Errorf("with a file that was there: %s", out)
	}
	if code, _, errs := commandLine("operator", "token", "rotate", "--operator-token-file", own, "--new-token-file", filepath.Join(dir, "nowhere", "x")); code != exitUsage || !strings.Contains(errs, "is for the new token, and cannot be written") {
		t.Errorf("exit code %d: %s", code, errs)
	}
}

// TestReadableSecretsAreToldOf: in a line, if everybody may read them; a group is somebody's choice.
func TestReadableSecretsAreToldOf(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(strings.Repeat("t", 32)), 0o600); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(asNode(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"status":"ok","request_id":"r","orgs":[]}`)
	}))
	defer server.Close()
	for _, mode := range []os.FileMode{0o600, 0o640, 0o644, 0o604} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		_, _, errs := commandLine("org", "list", "--operator-url", server.URL, "--operator-token-file", file)
		if told := strings.Contains(errs, "everybody on this machine can read"); told != (mode&0o004 != 0) || strings.Count(errs, "\n") > 1 {
			t.Errorf("mode %o: %s", mode, errs)
		}
	}
}
