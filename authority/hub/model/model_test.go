package main

import (
	"strings"
	"testing"

	"machineid/shared/search"
	"machineid/shared/search/searchtest"
)

func TestModel(t *testing.T) { searchtest.Check(t, model, "moves", "hellos") }

// TestAnEndThatIsTakenBackIsFound: the way in which a new leader, whose clock is behind, said that what had ended had not.
func TestAnEndThatIsTakenBackIsFound(t *testing.T) {
	for _, in := range instances(false) {
		if in.name != "crash" {
			continue
		}
		got := strings.Join(in.space(begunFirst).Trace(search.Run{Ctx: t.Context()}), "\n")
		for _, step := range []string{"time is reserved", "tells", "crashes", "is elected", "what was told as past is told as to come"} {
			if !strings.Contains(got, step) {
				t.Errorf("no %q in\n%s", step, got)
			}
		}
		if strings.Contains(got, "begins") {
			t.Errorf("the leader has begun in\n%s", got)
		}
	}
}

// TestWindow keeps the least of what counts, and for how long.
func TestWindow(t *testing.T) {
	var w [3]counting
	add := window(w[:]).add
	add(counting{5, 2})
	add(counting{5, 3})
	add(counting{4, 1})
	add(counting{6, 3}) // nothing beside 5, 3
	if want := ([3]counting{{4, 1}, {5, 3}}); w != want {
		t.Fatalf("%v, want %v", w, want)
	}
	window(w[:]).pass(2, 1)
	if want := ([3]counting{{6, 1}}); w != want {
		t.Errorf("%v, want %v", w, want)
	}
}

// TestSwapped: there and back is the same, and the edges are exchanged wherever they are named.
func TestSwapped(t *testing.T) {
	s := instances(false)[0].starts()[0]
	s.edges[0].lease, s.nodes[1].inherited[0], s.nodes[0].sessions[0].lease, s.rates[nodes] = 1, 2, 3, 2
	n := swapped(&s)
	if n.edges[1].lease != 1 || n.nodes[1].inherited[1] != 2 || n.nodes[0].sessions[1].lease != 3 || n.rates[nodes+1] != 2 {
		t.Errorf("swapped to %+v", n)
	}
	if swapped(&n) != s {
		t.Error("there and back is elsewhere")
	}
}
