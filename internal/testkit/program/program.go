// Package program finds the programs of others that tests want.
package program

import (
	"os/exec"
	"testing"
)

// Find returns where the program is. Where it is not, the test is skipped and says which package of Debian has it.
func Find(t testing.TB, name, debian string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("there is no %s: apt-get install %s", name, debian)
	}
	return path
}
