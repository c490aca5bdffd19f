package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestTheExitCodesAreOneTable: the documents have the table of this program, none of them names another code, and --help tells it.
func TestTheExitCodesAreOneTable(t *testing.T) {
	t.Parallel()
	read := func(path ...string) string {
		t.Helper()
		b, err := os.ReadFile(filepath.Join(append([]string{"..", "..", ".."}, path...)...))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	var table strings.Builder
	table.WriteString("| code | meaning |\n|---|---|\n")
	var known []int
	for _, e := range exitCodes {
		fmt.Fprintf(&table, "| %d | %s |\n", e.code, e.means)
		known = append(known, e.code)
	}
	if want := table.String(); !strings.Contains(read("docs", "configuration.md"), want) {
		t.Errorf("docs/configuration.md lacks this table:\n%s", want)
	}
	pages, err := filepath.Glob("../../../docs/*.md")
	if err != nil || len(pages) < 5 {
		t.Fatal(pages, err)
	}
	names := regexp.MustCompile(`(?i)exit (?:codes?|status)[^0-9|\n]{0,6}([0-9]+)`)
	for _, page := range append(pages, "../../../README.md") {
		for _, m := range names.FindAllStringSubmatch(read(strings.TrimPrefix(page, "../../../")), -1) {
			if n, _ := strconv.Atoi(m[1]); !slices.Contains(known, n) {
				t.Errorf("%s: %q is no exit code", page, m[0])
			}
		}
		if page != "../../../docs/configuration.md" && strings.Contains(read(strings.TrimPrefix(page, "../../../")), "Exit codes: 0") {
			t.Errorf("%s has a table of exit codes of its own: name configuration.md's", page)
		}
	}
	if _, out, _ := commandLine("--help"); !strings.Contains(out, exitHelp()) {
		t.Errorf("--help lacks the exit codes:\n%s", out)
	}
	if !strings.Contains(read("raftstore", "config.go"), fmt.Sprintf("exitFault = %d", exitDisk)) {
		t.Errorf("raftstore does not end with %d", exitDisk)
	}
}

// TestExitCodes: what a command's error means to a script.
func TestExitCodes(t *testing.T) {
	t.Parallel()
	no := errors.New("no")
	lost := unshownError{no}
	for code, list := range map[int][]error{
		exitDone:        {nil},
		exitFailed:      {no, fmt.Errorf("later: %w", no), errors.Join(no, lost)},
		exitUsage:       {usageError{no}, fmt.Errorf("later: %w", usageError{no})},
		exitMissed:      {missedError{no}, errors.Join(missedError{no}, lost)},
		exitUnavailable: {unavailableError{no}, unreadable(no)},
	} {
		for _, err := range list {
			if got := exitCode(butShown(err)); got != code {
				t.Errorf("%v: %d, want %d", err, got, code)
			}
		}
	}
	if got := exitCode(butShown(fmt.Errorf("print: %w", lost))); got != exitDone {
		t.Errorf("a command whose output was lost ends with %d before the door has a say", got)
	}
}
