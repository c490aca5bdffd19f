package main

import (
	"fmt"

	"machineid/shared/search"
)

// operation is one change of the state, or a restore of an earlier one.
type operation struct {
	records uint8 // that it concerns (bits)
	allow   uint8 // the state after it: records that are allowed (bits)
	empty   bool  // it finds the state as it would make it
	restore bool  // of the state at index `to`, by another incarnation
	back    bool  // the folder is put back to its copy of index `to`: the same incarnation, and another history
	to      int8
}

// instance is what one search covers. What is off does not happen: no entry ends if
// nothing expires, no session breaks if none can.
type instance struct {
	name, about string

	edges, leaders int8
	records        int8
	script         []operation // [0]: the state at the beginning
	lease          [maxLeaders]int8
	ttl            [maxLeaders]int8 // 0: nothing expires
	terms          [maxLeaders]int8
	restoredBy     int8 // the leader that begins a new incarnation; 0: none
	rolledBy       int8 // the leader that begins another history of the same; 0: none
	twins          bool // the old incarnation goes on beside the new
	rates          bool // every clock runs slow (1) or twice as fast (2): ρ = 1/3
	down, up       int8 // room of the queues

	quick    bool // a Renew and its Grant are one step, a Fetch and its Answer too
	rounds   bool // a proof takes time; else a leader's is always fresh
	breaks   bool // sessions break
	inFlight bool // what was sent before a session broke may arrive yet
	restarts bool
	record   bool // the record of I8, and Stop; else every election holds down
	lists    bool // the record says who holds a lease, if that is known (with record)
	resumes  bool // a hand-over is taken back
	gives    bool // edges give their leases back
	hellos   bool // a Hello takes time
	ring     bool // the ring forgets
	lags     bool // a new leader's dispatch may be behind its state
	follows  bool // a deposed leader learns what its successors commit, before it learns of them
	swaps    bool // a memory is swapped in two steps
	overtake bool // an Invalidate or a Grant may overtake what is not one
	halves   bool // a fetch takes two steps
	request  bool // a validate takes four steps
	late     bool // the cache's writes land late
	early    bool // the copy is older than the reign that was met (with rolledBy)

	wants             []witness
	mutants, harmless []rule
}

// incarnation of a leader's state.
func (in *instance) incarnation(l int8) int8 {
	if in.restoredBy != 0 && l >= in.restoredBy {
		return 1
	}
	return 0
}

// history of a leader: each incarnation has its own, and so has an older copy that was put back.
func (in *instance) history(l int8) int8 {
	if in.rolledBy != 0 && l >= in.rolledBy {
		return 1
	}
	return in.incarnation(l)
}

// begins reports whether a leader begins another history.
func (in *instance) begins(l int8) bool { return l > 0 && in.history(l) != in.history(l-1) }

// anew reports whether an operation begins another history, rather than being done by a leader.
func (op *operation) anew() bool { return op.restore || op.back }

// incarnationOf a version.
func (in *instance) incarnationOf(v int8) int8 {
	for i := range v + 1 {
		if in.script[i].restore {
			return 1
		}
	}
	return 0
}

// historyOf a version.
func (in *instance) historyOf(v int8) int8 {
	for i := range v + 1 {
		if in.script[i].anew() {
			return 1
		}
	}
	return 0
}

// index of a version in its own history.
func (in *instance) index(v int8) int8 {
	for i := v; i >= 0; i-- {
		if op := in.script[i]; op.anew() {
			return op.to + v - i
		}
	}
	return v
}

// version that a leader's index stands for.
func (in *instance) version(l, index int8) int8 {
	if in.history(l) == 0 {
		return index
	}
	for i, op := range in.script {
		if op.anew() {
			return int8(i) + index - op.to
		}
	}
	return index
}

// concerns are the records of a leader's index.
func (in *instance) concerns(l, index int8) uint8 {
	return in.script[in.version(l, index)].records
}

func (in *instance) last() int8 { return int8(len(in.script)) - 1 }

// longest is the longest lease of all.
func (in *instance) longest() int8 {
	return max(in.lease[0], in.lease[1], in.lease[2])
}

// stretch is S for a lease of d, or what is asked for a TTL.
func (in *instance) stretch(d int8) int8 {
	if in.rates {
		return 2 * d // (1+ρ)/(1-ρ)
	}
	return d
}

// searched is the instance as package search takes it.
func (in *instance) searched() *search.Instance {
	return &search.Instance{
		Name: in.name, About: in.about, Row: fmt.Sprintf("%d, %d, %d", in.edges, in.leaders, in.last()), Happens: in.happens(),
		Wants: in.wants, Mutants: in.mutants, Harmless: in.harmless,
		Space: func(off rule) search.Searchable { return in.space(off) },
	}
}

func (in *instance) space(off rule) *search.Space[state] {
	sp := &search.Space[state]{System: func() search.System[state] { return &system{Steps: search.Steps[state]{Off: off}, in: in} }}
	for _, s := range in.starts() {
		s.tidy()
		sp.Starts = append(sp.Starts, s)
	}
	if in.edges == 2 {
		sp.Alike = []func(*state) state{swapped}
	}
	return sp
}

// happens names what is on in an instance.
func (in *instance) happens() (list []string) {
	for _, f := range []struct {
		on   bool
		name string
	}{
		{in.quick, "quick"},
		{in.rounds, "rounds"},
		{in.breaks, "breaks"},
		{in.inFlight, "in flight"},
		{in.restarts, "restarts"},
		{in.record, "record"},
		{in.lists, "lists"},
		{in.resumes, "resumes"},
		{in.gives, "gives"},
		{in.hellos, "hellos"},
		{in.ring, "ring"},
		{in.lags, "lags"},
		{in.follows, "follows"},
		{in.swaps, "swaps"},
		{in.overtake, "overtake"},
		{in.halves, "halves"},
		{in.request, "request"},
		{in.late, "late"},
		{in.ttl[0] > 0, "expiry"},
		{in.rates, "rates"},
		{in.restoredBy > 0, "restore"},
		{in.rolledBy > 0, "rollback"},
		{in.early, "early"},
		{in.twins, "twins"},
	} {
		if f.on {
			list = append(list, f.name)
		}
	}
	return list
}

// starts lists the states in which a search begins: one for each assignment of rates.
func (in *instance) starts() []state {
	var s state
	for l := range s.leaders {
		s.leaders[l].proof, s.leaders[l].round = none, none
	}
	for e := range s.edges {
		s.edges[e] = newEdge()
	}
	for i := range s.rates {
		s.rates[i] = 1
	}
	first := &s.leaders[0]
	first.up, first.opened = true, !in.record
	if !in.rounds {
		first.proof = 0
	}
	s.recorded = in.lease[0]
	list := []state{s}
	if !in.rates {
		return list
	}
	clocks := make([]int, 0, len(s.rates))
	for l := range in.leaders {
		clocks = append(clocks, int(l))
	}
	for e := range in.edges {
		clocks = append(clocks, maxLeaders+int(e))
	}
	for _, c := range clocks {
		for _, s := range list {
			s.rates[c] = 2
			list = append(list, s)
		}
	}
	return list
}
