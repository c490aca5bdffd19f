//go:build unix

package cli

import (
	"slices"
	"testing"
	"time"
)

// TestTheJudgeOfEndsCatches proves that the judge of ends can fail. Each history is of one device; the authority's words are
// those of any of its nodes.
func TestTheJudgeOfEndsCatches(t *testing.T) {
	d := mortal{mortalDevice, "d"}
	says := func(by string, ended bool, sent, got time.Duration) word {
		return word{mortal: d, by: by, ended: ended, sent: sent, got: got}
	}
	passing := func(w word) word { w.passing = true; return w }
	const lives, over = false, true
	ends := func(called, returned time.Duration) deed { return deed{d, true, called, returned} }
	begins := func(called, returned time.Duration) deed { return deed{d, false, called, returned} }
	tests := map[string]struct {
		words  []word
		deeds  []deed
		caught bool
	}{
		"it lives, then it ends everywhere": {words: []word{
			says("", lives, 10, 20), says("e1", lives, 15, 25), says("e1", over, 30, 35), says("", over, 32, 40), says("e1", over, 50, 51), says("e2", over, 50, 51),
		}},
		"an edge ends it early":                    {words: []word{says("e1", over, 10, 20), says("", lives, 30, 40), says("e2", lives, 30, 40)}},
		"an edge was asked before it was told":     {words: []word{says("", over, 10, 20), says("e1", lives, 20, 40)}},
		"ALLOW after the authority told":           {words: []word{says("", over, 10, 20), says("e1", lives, 21, 22)}, caught: true},
		"told by a validate, ALLOW at an edge":     {words: []word{passing(says("", over, 10, 20)), says("e1", lives, 21, 22)}, caught: true},
		"an edge takes it back":                    {words: []word{says("e1", over, 10, 20), says("e1", lives, 21, 22)}, caught: true},
		"another process at its place":             {words: []word{says("e1", over, 10, 20), says("e1 again", lives, 21, 22)}},
		"the authority takes it back":              {words: []word{says("", over, 10, 20), says("", lives, 21, 22)}, caught: true},
		"a validate at a node takes it back":       {words: []word{says("", over, 10, 20), passing(says("", lives, 21, 22))}, caught: true},
		"what a validate at a node said, a read":   {words: []word{passing(says("", over, 10, 20)), says("", lives, 21, 22)}, caught: true},
		"the authority, asked meanwhile":           {words: []word{says("", over, 10, 20), says("", lives, 15, 22)}},
		"of another":                               {words: []word{says("", over, 10, 20), {mortal: mortal{mortalKey, "d"}, sent: 21, got: 22}}},
		"found late":                               {words: []word{says("e1", lives, 21, 22), says("", over, 30, 40), says("", over, 10, 20)}, caught: true},
		"ALLOW after the call that ends it":        {words: []word{says("e1", lives, 21, 22)}, deeds: []deed{ends(10, 20)}, caught: true},
		"ALLOW during the call that ends it":       {words: []word{says("e1", lives, 20, 22)}, deeds: []deed{ends(10, 20)}},
		"ALLOW after one that is not known":        {words: []word{says("e1", lives, 21, 22)}, deeds: []deed{ends(10, forever)}},
		"it begins anew":                           {words: []word{says("", over, 10, 20), says("e1", lives, 41, 42)}, deeds: []deed{begins(30, 40)}},
		"it begins anew while it is told":          {words: []word{says("", over, 10, 20), says("e1", lives, 21, 22)}, deeds: []deed{begins(5, 15)}},
		"it had begun anew before it was told":     {words: []word{says("", over, 10, 20), says("e1", lives, 21, 22)}, deeds: []deed{begins(5, 9)}, caught: true},
		"it begins anew later":                     {words: []word{says("", over, 10, 20), says("e1", lives, 21, 22)}, deeds: []deed{begins(23, 40)}, caught: true},
		"it may have begun anew":                   {words: []word{says("", over, 10, 20), says("e1", lives, 21, 22)}, deeds: []deed{begins(15, forever)}},
		"it began anew, and ended again":           {words: []word{says("", over, 10, 20), says("", over, 50, 60), says("e1", lives, 61, 62)}, deeds: []deed{begins(30, 40)}, caught: true},
		"it began anew after the call that ends":   {words: []word{says("e1", lives, 41, 42)}, deeds: []deed{ends(10, 20), begins(30, 40)}},
		"a node knows of a call, an edge not yet":  {words: []word{passing(says("", over, 10, 20)), says("e1", lives, 21, 22)}, deeds: []deed{ends(5, 30)}},
		"a read knows of a call, an edge does not": {words: []word{says("", over, 10, 20), says("e1", lives, 21, 22)}, deeds: []deed{ends(5, 30)}, caught: true},
		"a node knows of a call, another does not": {words: []word{passing(says("", over, 10, 20)), passing(says("", lives, 21, 22))}, deeds: []deed{ends(5, 30)}, caught: true},
		"a node knew, and then the call returned":  {words: []word{passing(says("", over, 10, 20)), says("e1", lives, 31, 32)}, deeds: []deed{ends(5, 30)}, caught: true},
		"an edge knows of a call too early":        {words: []word{says("e1", over, 1, 2), says("e1", lives, 3, 4)}, deeds: []deed{ends(5, 30)}, caught: true},
		"an edge knows of a call, and forgets":     {words: []word{says("e1", over, 10, 20), says("e1", lives, 21, 22)}, deeds: []deed{ends(5, 30)}},
		"it begins anew while it is asked":         {words: []word{says("", over, 10, 20), says("e1", lives, 21, 25)}, deeds: []deed{begins(23, 40)}},
		"begun, ended by a call, known to a node":  {words: []word{passing(says("", over, 10, 20)), says("e1", lives, 31, 32)}, deeds: []deed{begins(1, 7), ends(5, 30)}, caught: true},
		"a call that came later is no excuse":      {words: []word{passing(says("", over, 10, 20)), says("e1", lives, 31, 32)}, deeds: []deed{ends(21, 40)}, caught: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			faults := (&ledger{words: tt.words, deeds: tt.deeds}).undead()
			if caught := len(faults) > 0; caught != tt.caught {
				t.Errorf("caught: %v (%v), want %v", caught, faults, tt.caught)
			}
		})
	}
}

// TestWhatACodeImplies: a code names one that has ended; what is judged before it lives, and of the rest it says nothing.
func TestWhatACodeImplies(t *testing.T) {
	all := map[string]string{mortalKey: "k", mortalHold: "o", mortalAccess: "o", mortalDevice: "d"}
	for code, want := range map[string][]string{
		codeUnknownKey: {"key over"},
		codeFrozen:     {"key lives", "hold over"},
		codeExpired:    {"key lives", "hold lives", "access over"},
		codeNotFound:   {"key lives", "hold lives", "access lives", "device over"},
		codeAllow:      {"key lives", "hold lives", "access lives", "device lives"},
		codeUnsure:     nil,
		"":             nil,
	} {
		var got []string
		for _, w := range implied(code, all) {
			got = append(got, w.kind+map[bool]string{true: " over", false: " lives"}[w.ended])
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", code, got, want)
		}
	}
	if got := implied(codeNotFound, map[string]string{mortalKey: "k"}); len(got) != 1 || got[0].ended {
		t.Errorf("who asked about a key alone is told %v", got)
	}
}
