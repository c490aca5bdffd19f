//go:build unix

package place_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

const nobody = 65534

// takesAs names the file that a process of this test puts in another's place, as nobody.
const takesAs = "MACHINEID_TEST_PLACE"

// TestAGroupThatCannotBeKept: whoever may not give the new file the old one's group gives it no group's rights, for it would be a group that could not read the old one.
func TestAGroupThatCannotBeKept(t *testing.T) {
	if at := os.Getenv(takesAs); at != "" {
		for _, f := range []func() error{func() error { return syscall.Setgroups(nil) }, func() error { return syscall.Setgid(nobody) }, func() error { return syscall.Setuid(nobody) }} {
			if err := f(); err != nil {
				t.Fatal(err)
			}
		}
		put(t, at, "new")
		return
	}
	if os.Getuid() != 0 {
		t.Skip("only root can make files of a group that it is not in, and then be another")
	}
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil { // nobody goes through it
		t.Fatal(err)
	}
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		gid        int
		mode, want os.FileMode
	}{
		{0, 0o660, 0o600}, {0, 0o664, 0o600}, {0, 0o640, 0o600}, {0, 0o777, 0o700}, {nobody, 0o660, 0o660}, {nobody, 0o644, 0o644},
	} {
		at := filepath.Join(dir, fmt.Sprintf("of-%d-%o", c.gid, c.mode))
		if err := os.WriteFile(at, []byte("old"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(at, nobody, c.gid); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(at, c.mode); err != nil {
			t.Fatal(err)
		}
		other := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAGroupThatCannotBeKept$")
		other.Env = append(os.Environ(), takesAs+"="+at)
		if out, err := other.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		info, err := os.Stat(at)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := os.ReadFile(at); err != nil || string(text) != "new" || info.Mode() != c.want {
			t.Errorf("of group %d, mode %v: holds %q, %v, mode %v, want %v", c.gid, c.mode, text, err, info.Mode(), c.want)
		}
	}
}
