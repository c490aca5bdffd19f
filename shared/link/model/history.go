package main

// past is what a leader makes of what an edge has met (hub, judges).
type past struct {
	same   bool // it is of this leader's history
	proven bool // it is in no history any more: a round that began behind the Hello found a quorum that knows of no other term
	ahead  bool // it may be a later leader's, for this one cannot prove that it leads: the edge is turned away
}

// verdict of a history about an index and the reign that wrote it (raftstore, Judge).
type verdict uint8

const (
	unknown verdict = iota
	same
	other
)

// judges says what is to become of an edge's memory (I13).
func (y *system) judges(s *state, h *hello) past {
	in, l := y.in, h.to
	if h.reign == none || h.remembers && h.made != in.incarnation(l) && y.On(incarnations) {
		return past{}
	}
	if !y.On(historyJudged) {
		return past{same: true}
	}
	newest := h.current
	if y.On(readNamed) {
		newest = max(newest, h.read)
	}
	v := y.verdict(s, l, newest, h.reign)
	if !h.remembers || h.made != in.incarnation(l) {
		v = same // there is nothing to judge, or a mutant does not
	}
	newer := in.terms[h.reign] > in.terms[l] && in.incarnation(h.reign) == in.incarnation(l)
	if !y.On(termsRise) && h.reign > l && in.history(h.reign) == in.history(l) {
		v, newer = same, false
	}
	if !y.On(anewProven) && (v == unknown || newer) {
		return past{proven: true}
	}
	if v != unknown && !newer {
		y.Saw(otherHistory, v == other)
		return past{same: v == same}
	}
	proves := y.leads(s, l)
	if !y.On(provenBehind) {
		proves = s.leaders[l].proof != none
	}
	y.Saw(provenAnew, proves)
	return past{proven: proves, ahead: !proves, same: !proves && !y.On(aheadRefused)}
}

// verdict of a leader's node on an index and the reign that is said to have written it. In the code each reign begins with an entry of its
// own, which the model has not: it stands where the reign's barrier says.
func (y *system) verdict(s *state, l, index, reign int8) verdict {
	in, x := y.in, &s.leaders[l]
	if !y.On(indexProves) {
		if index > x.applied {
			return unknown
		}
		return same
	}
	if !y.On(reignNamed) {
		for g := l; g >= 0; g-- {
			if y.knows(s, l, g) && in.terms[g] == in.terms[reign] {
				reign = g
				break
			}
		}
	}
	end, over := y.ends(s, l, reign)
	switch {
	case !y.knows(s, l, reign) && (index > x.applied || in.history(reign) == in.history(l)):
		return unknown
	case !y.knows(s, l, reign), over && index > end:
		return other
	case index > x.applied:
		return unknown
	}
	return same
}

// knows reports whether a reign is in a leader's history.
func (y *system) knows(s *state, l, reign int8) bool {
	in := y.in
	switch {
	case in.history(reign) != in.history(l):
		return in.history(reign) < in.history(l) && in.restoredBy == 0 && !in.early
	case reign > l:
		return s.leaders[l].applied > s.leaders[reign].barrier // a deposed leader that has learned of it
	}
	return true
}

// ends is the last index of a reign in a leader's history, if it is over there.
func (y *system) ends(s *state, l, reign int8) (end int8, over bool) {
	for g := reign + 1; g < y.in.leaders && g <= s.now; g++ {
		if y.in.history(g) == y.in.history(l) && y.knows(s, l, g) {
			return s.leaders[g].barrier, true
		}
	}
	return 0, false
}
