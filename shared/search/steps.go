package search

// Steps gathers what a System finds out: embedded in one, it is half of it. The zero value goes by rule 0 as broken. It is used by one goroutine.
type Steps[S comparable] struct {
	Off Rule // the rule that is broken; one beyond all: none

	out  []Successor[S] // of the newest step
	bad  string         // likewise
	seen uint64         // of all steps
}

// On reports whether a rule is kept.
func (t *Steps[S]) On(r Rule) bool { return t.Off != r }

// Saw notes what must happen, if it did.
func (t *Steps[S]) Saw(w Witness, yes bool) {
	if yes {
		t.seen |= 1 << w
	}
}

// Seen are the witnesses of all steps so far (System).
func (t *Steps[S]) Seen() uint64 { return t.seen }

// Wrong notes what is wrong with the state or the step, if it is. The first of a step counts.
func (t *Steps[S]) Wrong(yes bool, what string) {
	if yes && t.bad == "" {
		t.bad = what
	}
}

// Next adds a state that a step leads to, and what the step is for people.
func (t *Steps[S]) Next(what string, a, b int8, n *S) {
	t.out = append(t.out, Successor[S]{By: Action{What: what, A: a, B: b}, State: *n})
}

// Begin forgets the step before.
func (t *Steps[S]) Begin() { t.out, t.bad = t.out[:0], "" }

// Found is what System.Step returns.
func (t *Steps[S]) Found() ([]Successor[S], string) { return t.out, t.bad }
