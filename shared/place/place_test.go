//go:build unix

package place_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"machineid/shared/place"
)

// put writes text beside where path leads, and puts it there.
func put(t *testing.T, path, text string) {
	t.Helper()
	at, err := place.Of(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(at+".tmp", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := place.Take(at+".tmp", at, place.All); err != nil {
		t.Fatal(err)
	}
}

func TestTakeKeepsLinksAndModes(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	link := func(to, name string) {
		if err := os.Symlink(to, in(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(in("real/deep"), 0o700); err != nil {
		t.Fatal(err)
	}
	old := in("real/deep/old")
	if err := os.WriteFile(old, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(old, 0o640); err != nil {
		t.Fatal(err)
	}
	link("real/deep", "folder")     // a folder that is a link
	link("old", "real/deep/second") // in it, a link beside its file
	link("folder/second", "first")  // and a link to that
	link("../none", "real/deep/up") // to what is not there yet, seen from the real folder
	link(in("loop"), "loop")

	put(t, in("first"), "new")
	put(t, in("folder/up"), "made")
	put(t, in("plain"), "plain")
	for name, want := range map[string]string{"real/deep/old": "new", "first": "new", "real/none": "made", "plain": "plain"} {
		if got, err := os.ReadFile(in(name)); err != nil || string(got) != want {
			t.Errorf("%s holds %q, %v, want %q", name, got, err, want)
		}
	}
	for name, linked := range map[string]bool{"first": true, "real/deep/second": true, "real/deep/up": true, "real/deep/old": false} {
		if info, err := os.Lstat(in(name)); err != nil || (info.Mode()&os.ModeSymlink != 0) != linked {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	for name, want := range map[string]os.FileMode{"real/deep/old": 0o640, "real/none": 0o600, "plain": 0o600} {
		if info, err := os.Stat(in(name)); err != nil || info.Mode() != want {
			t.Errorf("%s has the mode %v, %v, want %v", name, info.Mode(), err, want)
		}
	}
	if err := os.Chmod(in("plain"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(in("made"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := place.Take(in("made"), in("plain"), place.Secret); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(in("plain")); err != nil || info.Mode() != 0o640 {
		t.Errorf("a secret has the mode %v, %v", info.Mode(), err)
	}
	if err := syscall.Mkfifo(in("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"loop", "real", "pipe", "nowhere/x", "plain/x"} {
		if at, err := place.Of(in(name)); err == nil {
			t.Errorf("%s is at %s", name, at)
		}
	}
}
