package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"machineid/shared/search"
)

// short are the instances that the tests search, mutants and all; `make model` searches
// the rest.
var short = []string{"return", "hellos", "packs", "empty", "request", "rollback-allowed"}

func TestModel(t *testing.T) {
	for _, name := range short {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			if !model().Search(t.Context(), &out, search.Options{Only: name, Workers: 1, Limit: 1_000_000}) {
				t.Error(out.String())
			}
		})
	}
}

// TestEveryRuleHasItsMutant, and everything that is watched for is wanted by some search.
func TestEveryRuleHasItsMutant(t *testing.T) {
	for _, gap := range model().Gaps() {
		t.Error(gap)
	}
}

// TestDesignListsThem: instances and rules, as they are.
func TestDesignListsThem(t *testing.T) {
	text, err := os.ReadFile("DESIGN.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{model().Overview(), model().Coverage()} {
		if !strings.Contains(string(text), table) {
			t.Errorf("DESIGN.md has another table (go run ./shared/link/model -list):\n%s", table)
		}
	}
}

// TestAMutantThatIsNone is not taken for one that is caught.
func TestAMutantThatIsNone(t *testing.T) {
	m := model()
	for _, in := range instances(false) {
		if in.name != "packs" {
			continue
		}
		in.mutants = []rule{twoHeld} // nothing expires there
		m.Instances = func(bool) []*search.Instance { return []*search.Instance{in.searched()} }
	}
	var out bytes.Buffer
	if m.Search(t.Context(), &out, search.Options{Workers: 1}) || !strings.Contains(out.String(), "NOT CAUGHT") {
		t.Error(out.String())
	}
}

// TestTrace tells the steps to a violation.
func TestTrace(t *testing.T) {
	for _, in := range instances(false) {
		if in.name == "packs" {
			steps := in.space(wholePacks).Trace(search.Run{Ctx: t.Context()})
			if len(steps) < 5 || !strings.Contains(strings.Join(steps, "\n"), "dispatches (0, 1)") {
				t.Errorf("%d steps: %q", len(steps), steps)
			}
		}
	}
}
