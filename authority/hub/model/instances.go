package main

import (
	"fmt"

	"machineid/shared/search"
)

// instance is what one search covers. What is off does not happen.
type instance struct {
	name, about string

	edges, lease int8 // D, on an edge's clock
	ticks        int8 // that pass, at most
	steps, step  int8 // of wall clocks, and by how much
	ahead        int8 // how far time is reserved

	quick     bool // a question and its grant are one step, and so are a frame's sending and coming
	second    bool // the first leader may die, and a second lead
	rates     bool // each clock counts one or two a tick: S = 2D
	breaks    bool
	command   bool
	deposes   bool // the first leader may be deposed and not know
	late      bool // and judge a call that was confirmed before
	handsOver bool
	hellos    bool

	wants             []witness
	mutants, harmless []rule
}

func newInstance(name, about string, f func(in *instance)) *instance {
	in := &instance{name: name, about: about, edges: 1, lease: 2, ticks: 4, step: 3, steps: 1, ahead: 2}
	f(in)
	return in
}

// instances are all that is searched: the small ones, and with full the large ones too.
func instances(full bool) []*instance {
	list := []*instance{
		newInstance("leases", "one edge, message by message", func(in *instance) {
			in.breaks, in.ticks = true, 3
			in.wants = []witness{steppedTold, steppedBack, edgeBehind, edgeAhead, olderLease, heldBack, cut, notReserved}
			in.mutants = []rule{edgeRises, noted, oneStep, allLeases, leaderRises}
		}),
		newInstance("rates", "clocks that are off by the bound", func(in *instance) {
			in.rates, in.quick, in.lease, in.ticks = true, true, 3, 3
			in.wants = []witness{edgeBehind, edgeAhead, olderLease, heldBack}
			in.mutants = []rule{wholeSpan, edgesRate}
			in.harmless = []rule{countedStays}
		}),
		newInstance("edges", "two edges", func(in *instance) {
			in.edges, in.quick, in.ticks = 2, true, 3
			in.wants = []witness{edgeBehind, olderLease, heldBack}
			in.mutants = []rule{noted, oneStep, allLeases}
		}),
		newInstance("crash", "a second leader, after a crash", func(in *instance) {
			in.second, in.quick, in.ticks = true, true, 3
			in.wants = []witness{lost, crashTold, beginsAhead, toldAgain, movedLease}
			in.mutants = []rule{leaderRises, beginsReserved, begunFirst, grantsReserved, tellsReserved, isCommitted, held}
		}),
		newInstance("moves", "a second leader that was handed over to, or came after a crash", func(in *instance) {
			in.second, in.handsOver, in.quick, in.steps = true, true, true, 0
			in.wants = []witness{crashTold, beginsAhead, toldAgain, movedLease, heldBack}
			in.mutants = []rule{hears, points, movesWhole}
			in.harmless = []rule{atItsPoint, reservedRises}
		}),
		newInstance("command", "an end that is set to now", func(in *instance) {
			in.command, in.quick, in.ticks = true, true, 3
			in.wants = []witness{waitsOut, acknowledged, cut, notReserved}
			in.mutants = []rule{hears, framesReserved}
		}),
		newInstance("deposed", "a second leader, beside the first", func(in *instance) {
			in.second, in.quick, in.deposes, in.late, in.steps, in.ticks = true, true, true, true, 0, 3
			in.wants = []witness{deposedGives, deposedAfter, toldAgain, movedLease}
			in.mutants = []rule{beginsReserved, isCommitted, held, tellsOwn}
		}),
		newInstance("hellos", "what Hellos say of the time", func(in *instance) {
			in.second, in.quick, in.hellos, in.handsOver, in.steps = true, true, true, true, 0
			in.wants = []witness{afterHello, toldAgain, movedLease}
			in.harmless = []rule{hellos}
		}),
	}
	if full {
		list = append(list, largeInstances()...)
	}
	return list
}

// largeInstances put together what the others search apart, for longer. Every rule's mutant is caught without them.
func largeInstances() []*instance {
	return []*instance{
		newInstance("leases-set", "one edge, message by message, a clock that is set twice", func(in *instance) {
			in.breaks, in.ticks, in.steps, in.step = true, 3, 2, 2
			in.wants = []witness{steppedTold, steppedBack, edgeBehind, edgeAhead, olderLease, heldBack, cut, notReserved}
		}),
		newInstance("rates-crash", "two leaders, clocks off by the bound", func(in *instance) {
			in.rates, in.quick, in.second, in.handsOver, in.steps = true, true, true, true, 0
			in.wants = []witness{crashTold, toldAgain, movedLease, heldBack}
		}),
		newInstance("crash-set", "two leaders, a clock that is set", func(in *instance) {
			in.second, in.quick, in.handsOver, in.hellos = true, true, true, true
			in.wants = []witness{lost, crashTold, beginsAhead, toldAgain, movedLease, afterHello}
		}),
		newInstance("commands", "an end that is set to now, over two leaders", func(in *instance) {
			in.second, in.quick, in.handsOver, in.command, in.steps = true, true, true, true, 0
			in.wants = []witness{waitsOut, acknowledged, crashTold, movedLease}
		}),
		newInstance("deposed-breaks", "a second leader beside the first, and streams that break", func(in *instance) {
			in.second, in.quick, in.deposes, in.late, in.breaks, in.steps, in.ticks = true, true, true, true, true, 0, 3
			in.wants = []witness{deposedGives, toldAgain, movedLease}
		}),
		newInstance("deposed-command", "an end that is set to now, by a leader that is deposed", func(in *instance) {
			in.second, in.quick, in.deposes, in.late, in.command, in.steps, in.ticks = true, true, true, true, true, 0, 3
			in.wants = []witness{deposedGives, waitsOut, acknowledged, movedLease}
		}),
		newInstance("edges-crash", "two edges, two leaders", func(in *instance) {
			in.edges, in.second, in.quick, in.handsOver, in.steps, in.ticks = 2, true, true, true, 0, 3
			in.wants = []witness{crashTold, toldAgain, movedLease, heldBack}
		}),
	}
}

// starts are the states in which a search begins: the first node leads, and nobody has joined.
func (in *instance) starts() (list []state) {
	for _, other := range []int8{2, 4} {
		var s state
		s.nodes[0] = node{life: leads, wall: 3, newest: 3, stamp: 3, reserved: 3}
		s.nodes[1].wall = other
		s.reserved, s.stamp = 3, 3
		for e := range s.edges {
			s.edges[e].conn, s.edges[e].asked = none, none
		}
		if !in.rates {
			s.rates = [nodes + maxEdges]int8{1, 1, 1, 1}
			list = append(list, s)
			continue
		}
		for bits := range int8(8) {
			s.rates = [nodes + maxEdges]int8{1 + bits&1, 1 + bits>>1&1, 1 + bits>>2&1, 1 + bits>>2&1}
			list = append(list, s)
		}
	}
	return list
}

// swapped is the state with the two edges' names exchanged.
func swapped(s *state) state {
	n := *s
	n.edges[0], n.edges[1] = s.edges[1], s.edges[0]
	n.rates[nodes], n.rates[nodes+1] = s.rates[nodes+1], s.rates[nodes]
	for i := range n.nodes {
		x := &n.nodes[i]
		x.sessions[0], x.sessions[1] = x.sessions[1], x.sessions[0]
		x.inherited[0], x.inherited[1] = x.inherited[1], x.inherited[0]
	}
	return n
}

func (in *instance) space(off rule) *search.Space[state] {
	return &search.Space[state]{
		Starts: in.starts(), Alike: []func(s *state) state{swapped},
		System: func() search.System[state] { return &system{Steps: search.Steps[state]{Off: off}, in: in} },
	}
}

// happens names what is on in an instance.
func (in *instance) happens() (list []string) {
	for _, f := range []struct {
		on   bool
		name string
	}{
		{in.quick, "quick"},
		{in.second, "crash"},
		{in.rates, "rates"},
		{in.breaks, "breaks"},
		{in.command, "command"},
		{in.deposes, "deposes"},
		{in.late, "late"},
		{in.handsOver, "hand-over"},
		{in.hellos, "Hellos"},
	} {
		if f.on {
			list = append(list, f.name)
		}
	}
	return list
}

func (in *instance) searched() *search.Instance {
	return &search.Instance{
		Name: in.name, About: in.about, Row: fmt.Sprintf("%d, %d, %d, %d", in.edges, in.lease, in.ticks, in.steps), Happens: in.happens(),
		Wants: in.wants, Mutants: in.mutants, Harmless: in.harmless,
		Space: func(off rule) search.Searchable { return in.space(off) },
	}
}
