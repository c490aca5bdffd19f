package main

import (
	"bytes"
	"strings"
	"testing"

	"machineid/shared/search"
	"machineid/shared/search/searchtest"
)

func TestModel(t *testing.T) {
	searchtest.Check(t, model, "return", "hellos", "packs", "empty", "request", "rollback-allowed")
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
