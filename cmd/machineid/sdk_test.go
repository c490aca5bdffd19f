//go:build unix

package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// ranTests is unittest's closing lines: how many tests ran, and that none failed and none was skipped.
var ranTests = regexp.MustCompile(`(?m)^Ran (\d+) tests? in [\d.]+s\n\nOK$`)

// TestPythonClient runs the tests of sdk/python, which start this test binary as their servers.
func TestPythonClient(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skipf("the Python client is tested by Python 3.9 or newer: apt-get install python3 (%v)", err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const most = 4 * time.Minute // it takes half a minute
	ctx, cancel := context.WithTimeout(t.Context(), most)
	defer cancel()
	cmd := exec.CommandContext(ctx, python, "-B", "-W", "error::ResourceWarning", "-m", "unittest", "discover", "--start-directory", "tests", "--top-level-directory", ".")
	cmd.Dir = filepath.Join("..", "..", "sdk", "python")
	cmd.Env = append(bareEnviron(), "MACHINEID_TEST_SERVER="+self)
	cmd.WaitDelay = patient
	said, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("python3 -m unittest: %v\n%s", err, said)
	}
	const least = 100 // a discovery that finds nothing succeeds too
	if found := ranTests.FindSubmatch(said); found == nil {
		t.Errorf("tests were skipped, or none ran:\n%s", said)
	} else if n, err := strconv.Atoi(string(found[1])); err != nil || n < least {
		t.Errorf("only %d tests ran, want at least %d (%v)", n, least, err)
	}
}
