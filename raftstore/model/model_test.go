package main

import (
	"strings"
	"testing"

	"machineid/shared/search"
	"machineid/shared/search/searchtest"
)

func TestModel(t *testing.T) { searchtest.Check(t, model, "names", "clusters") }

// TestALossIsFound: the way in which a returned revoke was lost before members were lives.
func TestALossIsFound(t *testing.T) {
	for _, in := range instances(false) {
		if in.name != "lost" {
			continue
		}
		got := strings.Join(in.space(meantLife).Trace(search.Run{Ctx: t.Context()}), "\n")
		for _, step := range []string{"writes", "is sent an entry", "loses its disk", "stands for election", "a leader was elected without an entry that was acknowledged"} {
			if !strings.Contains(got, step) {
				t.Errorf("no %q in\n%s", step, got)
			}
		}
	}
}

// TestRenamed: names exchanged there and back, and a renamed state is as good and as bad as it was.
func TestRenamed(t *testing.T) {
	s := instances(false)[0].start()
	s.stores[1].vote, s.stores[1].votes, s.stores[1].log.at[0].members = 1, 0b101, members{1, -2, 0}
	to, back := [names]int8{1, 2, 0}, [names]int8{2, 0, 1}
	n := renamed(&s, to)
	if x := n.stores[2]; x.vote != 2 || x.votes != 0b011 || x.log.at[0].members != (members{0, 1, -2}) || n.won[0][0] != 0b010 {
		t.Errorf("renamed to %+v, won by %b", x, n.won[0][0])
	}
	if renamed(&n, back) != s {
		t.Error("there and back is elsewhere")
	}
}
