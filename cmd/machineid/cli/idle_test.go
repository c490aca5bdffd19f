package cli

import (
	"slices"
	"testing"
)

// TestFlagsThatDoNothingAreNamed: where the folder holds the node's state, those for a start without one are told.
func TestFlagsThatDoNothingAreNamed(t *testing.T) {
	all := authorityFlags{bootstrap: true, replaceLost: true, join: []string{"a:1"}}
	for _, c := range []struct {
		fresh, joins bool
		want         []string
	}{
		{fresh: true},
		{want: []string{"--bootstrap", "--join", "--replace-lost"}},
		{joins: true, want: []string{"--bootstrap"}},
	} {
		if got := all.idle(c.fresh, c.joins); !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v", c, got)
		}
	}
	if got := (&authorityFlags{}).idle(false, false); len(got) > 0 {
		t.Errorf("nothing was given: %v", got)
	}
}
