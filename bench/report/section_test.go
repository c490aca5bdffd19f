package report

import (
	"os"
	"path/filepath"
	"testing"
)

func TestInsert(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "x.md")
	const before = "head\n\n<!-- a: begin -->\nold\n<!-- a: end -->\n\n<!-- b: begin -->\n<!-- b: end -->\ntail\n"
	if err := os.WriteFile(file, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"new\n\n| x |\n", "newer"} { // twice: what was inserted is replaced
		for _, name := range []string{"a", "b"} {
			if err := Insert(file, name, text); err != nil {
				t.Fatal(err)
			}
		}
	}
	const want = "head\n\n<!-- a: begin -->\nnewer\n<!-- a: end -->\n\n<!-- b: begin -->\nnewer\n<!-- b: end -->\ntail\n"
	if got, _ := os.ReadFile(file); string(got) != want {
		t.Errorf("it says\n%s\nwant\n%s", got, want)
	}
	if err := Insert(file, "c", "text"); err == nil {
		t.Error("a document without the markers was taken")
	}
	if got, _ := os.ReadFile(file); string(got) != want {
		t.Error("a document without the markers was changed")
	}
}
