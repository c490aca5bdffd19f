// Package searchtest holds what the tests of every model want of it. It is for tests alone.
package searchtest

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"machineid/shared/search"
)

// limit bounds the states of one search: those of tests are far below.
const limit = 1_000_000

// Check searches the instances of short, mutants and all, each under its name and beside the others; `make model` searches the rest. Every rule must have its mutant, everything
// that is watched for be wanted by some search, and the DESIGN.md of the test's folder list instances and rules as they are.
func Check(t *testing.T, model func() *search.Model, short ...string) {
	t.Helper()
	for _, name := range short {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			if !model().Search(t.Context(), &out, search.Options{Only: name, Workers: 1, Limit: limit}) {
				t.Error(out.String())
			}
		})
	}
	for _, gap := range model().Gaps() {
		t.Error(gap)
	}
	text, err := os.ReadFile("DESIGN.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{model().Overview(), model().Coverage()} {
		if !strings.Contains(string(text), table) {
			t.Errorf("DESIGN.md has another table (go run . -list):\n%s", table)
		}
	}
}
