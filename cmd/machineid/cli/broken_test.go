//go:build unix

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A rule that can be broken without a test seeing it is not tested. Each broken rule below is an edit of our own source: the go
// command compiles it in the place of the file (-overlay), so production has no switch for it, and the test that is named must fail.
// Where breaking a rule needs bad luck that virtual time does not have, as a stall between two lines, the stall alone is a broken
// rule too, marked as harmless: what is caught is then the rule and not the stall.

// broken is one rule of DESIGN.md of the project broken.
type broken struct {
	rule, name string
	edits      []edit
	// by is the test that must fail, or if harmless pass: a package's folder and the test's name. Empty: the promise over a cluster.
	by       string
	harmless bool
	short    bool // tried by every make test, not only by make torture
}

// edit replaces the one occurrence of a text in a file.
type edit struct{ file, old, new string }

const clusterTest = "cmd/machineid/cli TestThePromiseOfAClusterInVirtualTime"

// brokenSeeds is how many seeds a broken rule has to survive to count as not caught.
const brokenSeeds = 40

// TestBrokenRulesAreCaught breaks one rule of the promise after the other.
func TestBrokenRulesAreCaught(t *testing.T) {
	areCaught(t, slices.Concat(brokenRules, brokenOutside, brokenFair, brokenStrangers))
}

// TestBrokenStoreRulesAreCaught breaks one rule of raftstore after the other.
func TestBrokenStoreRulesAreCaught(t *testing.T) {
	areCaught(t, slices.Concat(brokenStoreLog, brokenStoreCluster, brokenStoreState))
}

func areCaught(t *testing.T, list []broken) {
	t.Helper()
	torture := os.Getenv("MACHINEID_TEST_TORTURE") != ""
	for _, b := range list {
		files := b.apply(t) // an edit that does not apply any more is found by every run
		if !torture && (!b.short || testing.Short()) {
			continue
		}
		t.Run(b.name, func(t *testing.T) {
			out, err := b.run(t, files)
			failed := b.failure(out)
			switch {
			case b.harmless && err != nil:
				t.Errorf("harmless, and yet: %s", out)
			case !b.harmless && (err == nil || failed == ""):
				t.Errorf("%s is not caught (%v): %.2000s", b.rule, err, out)
			case !b.harmless:
				t.Logf("%s: %s", b.rule, failed)
			}
		})
	}
}

// apply returns the edited files by their names.
func (b *broken) apply(t *testing.T) map[string]string {
	t.Helper()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range b.edits {
		name := filepath.Join(root, e.file)
		text, known := files[name]
		if !known {
			data, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			text = string(data)
		}
		if n := strings.Count(text, e.old); n != 1 {
			t.Errorf("%s: %s has %d times what is to be replaced, which must be there once: %s", b.name, e.file, n, e.old)
		}
		files[name] = strings.Replace(text, e.old, e.new, 1)
	}
	return files
}

// test is the package and the name of the test that judges.
func (b *broken) test() (folder, name string) {
	by := b.by
	if by == "" {
		by = clusterTest
	}
	folder, name, _ = strings.Cut(by, " ")
	return folder, name
}

// run runs the test over the edited files.
func (b *broken) run(t *testing.T, files map[string]string) (out string, err error) {
	t.Helper()
	dir := t.TempDir()
	overlay := map[string]map[string]string{"Replace": {}}
	for name, text := range files {
		to := filepath.Join(dir, strconv.Itoa(len(overlay["Replace"]))+".go")
		overlay["Replace"][name] = to
		if err := os.WriteFile(to, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	list, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	of := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(of, list, 0o600); err != nil {
		t.Fatal(err)
	}
	folder, name := b.test()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-vet=off", "-ldflags=-w", "-v", "-overlay", of, "-run", "^"+name+"$", "./"+folder)
	cmd.Dir, cmd.WaitDelay = "../../..", 10*time.Second
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "MACHINEID_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "CGO_ENABLED=0") // as everything else is built, so that it is built once
	if folder != "raftstore" {                 // its tests find what they find in their usual form
		cmd.Env = append(cmd.Env, "MACHINEID_TEST_TORTURE=1", fmt.Sprint("MACHINEID_TEST_SEEDS=", b.seeds()))
	}
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err = cmd.Run()
	return said.String(), err
}

// seeds is how many seeds are played. What is harmless is asked for less: the test without it plays more.
func (b *broken) seeds() int {
	if b.harmless {
		return brokenSeeds / 4
	}
	return brokenSeeds
}

var violation = regexp.MustCompile(`seed \d+, one of \d+: .*`)

// failure is the line that says that the test has failed for the reason it is there for, "" if there is none.
func (b *broken) failure(out string) string {
	if b.by == "" {
		return violation.FindString(out)
	}
	_, name := b.test()
	return regexp.MustCompile(`--- FAIL: ` + name + `.*`).FindString(out)
}
