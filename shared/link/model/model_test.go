package main

import (
	"bytes"
	"os"
	"reflect"
	"strings"
	"testing"
)

// short are the instances that the tests search, mutants and all; `make model` searches
// the rest.
var short = []string{"return", "hellos", "packs", "empty", "request"}

func TestModel(t *testing.T) {
	for _, name := range short {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			if !run(t.Context(), &out, options{only: name, workers: 1, limit: 1_000_000}) {
				t.Error(out.String())
			}
		})
	}
}

// TestASearchCanFail: each of the reasons for which a run must not count as a good one.
func TestASearchCanFail(t *testing.T) {
	in := find(t, "packs")
	for name, tt := range map[string]struct {
		off   rule
		limit int
		wants []witness
		fault string
	}{
		"a violation":            {wholePacks, 0, nil, "ALLOW after a change that denies had returned"},
		"a search cut short":     {rules, 10, nil, "not searched to the end"},
		"what does never happen": {rules, 0, []witness{closedTaken}, "never seen: " + witnessText[closedTaken]},
	} {
		t.Run(name, func(t *testing.T) {
			of := *in
			of.wants = tt.wants
			r := explore(t.Context(), &of, tt.off, 2, tt.limit)
			if got := strings.Join(r.faults(&of), "; "); !strings.Contains(got, tt.fault) {
				t.Errorf("faults %q, want %q", got, tt.fault)
			}
		})
	}
	t.Run("a mutant that is none", func(t *testing.T) {
		of := *in
		of.mutants = []rule{twoHeld} // nothing expires here
		var out bytes.Buffer
		if search(t.Context(), &out, options{workers: 1}, []*instance{&of}) || !strings.Contains(out.String(), "NOT CAUGHT") {
			t.Error(out.String())
		}
	})
	if run(t.Context(), &bytes.Buffer{}, options{only: "no such"}) {
		t.Error("a run of nothing is good")
	}
}

// TestEveryRuleHasItsMutant, and everything that is watched for is wanted by some search.
func TestEveryRuleHasItsMutant(t *testing.T) {
	var caught [rules]bool
	var wanted [witnesses]bool
	for _, in := range instances(true) {
		for _, m := range in.mutants {
			caught[m] = true
		}
		for _, w := range in.wants {
			wanted[w] = true
		}
		if len(in.wants) == 0 {
			t.Errorf("%s wants to see nothing: it may be empty", in.name)
		}
	}
	for r, yes := range caught {
		if !yes || ruleText[r].mutant == "" || ruleText[r].of == "" {
			t.Errorf("rule %d (%s): caught somewhere: %v", r, ruleText[r].mutant, yes)
		}
	}
	for w, yes := range wanted {
		if !yes || witnessText[w] == "" {
			t.Errorf("witness %d (%s): wanted somewhere: %v", w, witnessText[w], yes)
		}
	}
}

// TestDesignListsThem: instances and rules, as they are.
func TestDesignListsThem(t *testing.T) {
	text, err := os.ReadFile("DESIGN.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{overview(), coverage()} {
		if !strings.Contains(string(text), table) {
			t.Errorf("DESIGN.md has another table (go run ./shared/link/model -list):\n%s", table)
		}
	}
}

// TestPacking: a state comes back as it was, and a state is bytes only: with anything
// else there would be room between the fields, and equal states might look different.
func TestPacking(t *testing.T) {
	ofBytes(t, reflect.TypeFor[state]())
	in := find(t, "hellos")
	y := &system{in: in, off: rules}
	first := in.starts()[0]
	p := &packing{first.raw()}
	var packed []byte
	var want []state
	for level := []state{first}; len(want) < 2000; {
		var next []state
		for i := range level {
			y.step(&level[i])
			for j := range y.out {
				next = append(next, y.out[j].state)
			}
		}
		for i := range next {
			packed = p.append(packed, &next[i])
		}
		want, level = append(want, next...), next
	}
	for i := range want {
		var got state
		if packed = p.next(&got, packed); got != want[i] {
			t.Fatalf("state %d is\n%+v, was\n%+v", i, got, want[i])
		}
	}
	if len(packed) != 0 {
		t.Errorf("%d bytes are left", len(packed))
	}
}

func ofBytes(t *testing.T, x reflect.Type) {
	t.Helper()
	switch x.Kind() {
	case reflect.Struct:
		for f := range x.Fields() {
			ofBytes(t, f.Type)
		}
	case reflect.Array:
		ofBytes(t, x.Elem())
	default:
		if x.Size() != 1 {
			t.Errorf("%v is %d bytes long", x, x.Size())
		}
	}
}

// TestTrace tells the steps to a violation.
func TestTrace(t *testing.T) {
	steps := trace(t.Context(), find(t, "packs"), wholePacks)
	if len(steps) < 5 || !strings.Contains(strings.Join(steps, "\n"), "dispatches (0, 1)") {
		t.Errorf("%d steps: %q", len(steps), steps)
	}
}

func find(t *testing.T, name string) *instance {
	t.Helper()
	for _, in := range instances(true) {
		if in.name == name {
			return in
		}
	}
	t.Fatalf("no instance %s", name)
	return nil
}
