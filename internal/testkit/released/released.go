// Package released keeps what each release writes: to disks, to other nodes and over the link. Every later program is tried on it: it reads the same
// out of it, and writes the same, so that a program of the release can read it too.
//
// A release adds its files when it is made, by `go test PACKAGE -run Released -released`. From then on they never change.
package released

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var write = flag.Bool("released", false, "write the golden files of this release: VERSION must name one, and what is there stays as it is")

// release is how a release is called (package release).
var release = regexp.MustCompile(`^v\d+\.\d+\.\d+$`)

// Each runs read for each release's folder in testdata. With -released it has writing make this program's first, which must be a release (version)
// that has not written file into its folder yet.
func Each(t *testing.T, version, file string, writing, read func(t *testing.T, dir string)) {
	t.Helper()
	if *write {
		dir, err := begin("testdata", version, file)
		if err != nil {
			t.Fatal(err)
		}
		writing(t, dir)
	}
	dirs, err := folders("testdata")
	if err != nil {
		t.Fatal(err)
	}
	if len(dirs) == 0 {
		t.Fatal("there is no release in testdata")
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) { read(t, dir) })
	}
}

// begin makes the folder of a release that has no such file yet.
func begin(testdata, version, file string) (string, error) {
	if !release.MatchString(version) {
		return "", fmt.Errorf("%s is no release: what it writes may still change", version)
	}
	dir := filepath.Join(testdata, version)
	if _, err := os.Stat(filepath.Join(dir, file)); err == nil {
		return "", fmt.Errorf("%s of %s is there: what a release has written is never written anew", file, dir)
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// folders are those of releases.
func folders(testdata string) (dirs []string, err error) {
	list, err := os.ReadDir(testdata)
	for _, e := range list {
		if e.IsDir() && release.MatchString(e.Name()) {
			dirs = append(dirs, filepath.Join(testdata, e.Name()))
		}
	}
	return dirs, err
}

// Line is a named value, as text that people can judge and as the bytes that were written.
type Line struct {
	Name, Text string
	Raw        []byte
}

// Write writes a file of lines.
func Write(t *testing.T, path string, lines []Line) {
	t.Helper()
	var b bytes.Buffer
	for _, l := range lines {
		fmt.Fprintf(&b, "== %s %x\n%s\n", l.Name, l.Raw, strings.TrimSuffix(l.Text, "\n"))
	}
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Read reads a file of lines. It holds one at least.
func Read(t *testing.T, path string) []Line {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := parse(string(text))
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return lines
}

func parse(text string) (lines []Line, err error) {
	for block := range strings.SplitSeq(strings.TrimPrefix(text, "== "), "\n== ") {
		var l Line
		head, rest, _ := strings.Cut(block, "\n")
		if _, err := fmt.Sscanf(head, "%s %x", &l.Name, &l.Raw); err != nil {
			return nil, fmt.Errorf("%q: %w", head, err)
		}
		l.Text = rest
		if slices.ContainsFunc(lines, func(other Line) bool { return other.Name == l.Name }) {
			return nil, fmt.Errorf("%s stands twice", l.Name)
		}
		lines = append(lines, l)
	}
	return lines, nil
}
