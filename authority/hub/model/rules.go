package main

import "machineid/shared/search"

// rule is one thing that nodes and edges do; a mutant does not.
type rule = search.Rule

const (
	hears rule = iota
	edgeRises
	countedStays

	noted
	oneStep
	allLeases
	wholeSpan
	edgesRate
	points
	atItsPoint

	leaderRises
	beginsReserved
	begunFirst
	grantsReserved
	framesReserved
	tellsReserved
	isCommitted
	reservedRises
	hellos

	held
	movesWhole
	tellsOwn

	allRules
)

var ruleText = [allRules]struct{ of, mutant string }{
	hears:        {"edge", "what a frame says of the time is not taken"},
	edgeRises:    {"edge", "an edge's time is what it counts by the newest lease, and falls with it"},
	countedStays: {"edge", "what was counted by the lease before is forgotten, if nobody was judged by it"},

	noted:      {"horizon", "the authority judges by its own time"},
	oneStep:    {"horizon", "the time is read for a grant, which is noted later"},
	allLeases:  {"horizon", "only the newest lease counts"},
	wholeSpan:  {"horizon", "leases are forgotten after D, not S"},
	edgesRate:  {"horizon", "the clocks of edges are taken for as fast as one's own"},
	points:     {"horizon", "an edge with another leader's lease is taken for current"},
	atItsPoint: {"horizon", "a Welcome may say less than what it is counted for"},

	leaderRises:    {"leader", "the time goes back with the wall clock"},
	beginsReserved: {"leader", "a new leader begins at its own clock"},
	begunFirst:     {"leader", "calls are answered before the leader has begun where time was reserved"},
	grantsReserved: {"reserved", "leases are given in a time that is not reserved"},
	framesReserved: {"reserved", "a frame says less than is reserved, where the time is beyond it"},
	tellsReserved:  {"reserved", "callers are told more than is reserved"},
	isCommitted:    {"reserved", "what is asked to be reserved counts before it is committed"},
	reservedRises:  {"reserved", "what is reserved may become less"},
	hellos:         {"leader", "what a Hello says of the time is not taken"},

	held:       {"I8", "a new leader returns while leases of the one before are out"},
	movesWhole: {"I8", "who has joined counts as moved"},
	tellsOwn:   {"I2", "a deposed leader tells the time of its successor"},
}

// witness is something that must happen in an instance, or its search shows little.
type witness = search.Witness

const (
	steppedTold  witness = iota // what is told is of a clock that was set forward
	steppedBack                 // a leader's time stands still
	edgeBehind                  // an edge under a lease is behind the leader's time
	edgeAhead                   // ... ahead of it
	olderLease                  // a grant is on its way to an edge under another lease
	heldBack                    // the authority judges by less than its time
	cut                         // ... tells less than that
	notReserved                 // no lease is given, since its time is not reserved
	lost                        // a reservation dies with its leader
	crashTold                   // a leader dies after it told an end
	beginsAhead                 // a leader begins ahead of its clock
	toldAgain                   // the second leader tells more
	movedLease                  // an edge goes on under the first leader's lease with the second
	deposedGives                // a deposed leader gives a lease
	deposedAfter                // ... in its successor's time
	waitsOut                    // a command returns after an edge's lease
	acknowledged                // ... with an edge's acknowledgement
	afterHello                  // a leader's time is an edge's
	witnesses
)

var witnessText = [witnesses]string{
	steppedTold: "an end told early by a clock set forward", steppedBack: "a time that stands still", edgeBehind: "an edge behind the leader's time",
	edgeAhead: "an edge ahead of the leader's time", olderLease: "a grant on its way to an edge under another lease", heldBack: "a judgement by less than the leader's time",
	cut: "less told than was judged by", notReserved: "no lease in a time that is not reserved", lost: "a reservation lost with its leader",
	crashTold: "an end told, and the leader dead", beginsAhead: "a leader that begins ahead of its clock", toldAgain: "more told by the second leader",
	movedLease: "a lease of the first leader under the second", deposedGives: "a lease of a deposed leader", deposedAfter: "a lease of a deposed leader in its successor's time", waitsOut: "a command that outwaited a lease",
	acknowledged: "a command that was acknowledged", afterHello: "a leader's time raised by a Hello",
}
