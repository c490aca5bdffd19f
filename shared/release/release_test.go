package release

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestVersion: the file is of the form that finding a release in the history relies on, and the changelog knows the releases.
func TestVersion(t *testing.T) {
	if !regexp.MustCompile(`^\d+\.\d+\.\d+(-dev)?\n$`).MatchString(version) {
		t.Fatalf("VERSION is %q: it is X.Y.Z or X.Y.Z-dev and a line feed", version)
	}
	log, err := os.ReadFile("../../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	want, isRelease := "\n## [Unreleased]\n", !strings.HasSuffix(Version(), "-dev")
	if isRelease {
		want = "\n## [" + Version()[1:] + "] - "
	}
	if !strings.Contains(string(log), want) {
		t.Errorf("CHANGELOG.md has no heading %q for VERSION %s", strings.TrimSpace(want), Version())
	}
}
