package main

import "machineid/shared/search"

// rule is one thing that the protocol does; a mutant does not.
type rule = search.Rule

const (
	fromAsk rule = iota
	fromBegin
	lessProof
	booked
	helloBooked
	stretched
	leaseForAnswers

	waits
	bookedWhenQueued
	brokenCount
	debtsPass
	ownProcess
	ackAfterFloors
	wholePacks
	emptyEmits
	gaveBackEnds
	dropsFirst
	settlesOwn

	floors
	leaseFirst
	memoryAfterLease

	interestFirst
	oneSnapshot
	expiryFromSent
	hitsExtendNothing

	twoGenerations
	twoHeld
	stretchedInterest
	queuedIndex

	replays
	ringReach
	heldNoted
	heldAtReset
	helloInOrder
	aheadRefused
	joinsAtOnce
	dispatchedFirst
	termsRise
	leaseDropped
	epochs
	incarnations
	oldIncarnation
	otherTTL

	historyJudged
	indexProves
	reignNamed
	readNamed
	provenBehind
	anewProven

	holdDown
	stretchedHold
	holdByRecord
	longerRecorded
	openFirst
	closedIfNoLease
	closedAfterHold
	stopsForGood
	restoredOpen
	listedHeld
	movedAtAck
	bookedListed
	brokenListed
	heirsListed
	inheritedBooked
	ownAfterHeirs
	resumeRecords
	listInOrder
	resumeOvertaken

	rules
)

// ruleText says for each rule the invariant it belongs to (docs/guarantee.md) and
// what its mutant does.
var ruleText = [rules]struct{ of, mutant string }{
	fromAsk:         {"I1", "a lease is counted from the Grant's receipt"},
	fromBegin:       {"I1", "a proof is counted from the round's end"},
	lessProof:       {"I1", "a grant is a full D, however old the proof"},
	booked:          {"I1", "a grant is not booked"},
	helloBooked:     {"I1", "a Hello is not booked as a grant"},
	stretched:       {"I1", "a lease is booked for D, not S"},
	leaseForAnswers: {"I1", "a fetched answer is used without a lease"},

	waits:            {"I2", "a change does not wait"},
	bookedWhenQueued: {"I2", "the lease's end is noted, then a lease given, then the Invalidate queued"},
	brokenCount:      {"I2", "a broken session is forgotten"},
	debtsPass:        {"I2", "a process's next session pays its debts by joining"},
	ownProcess:       {"I2", "another process's session takes over a broken one"},
	ackAfterFloors:   {"I2", "an Invalidate is acknowledged before its floors are raised"},
	wholePacks:       {"I2", "a pack goes in two messages, acknowledged at the first"},
	emptyEmits:       {"I2", "a call that changes nothing returns at once"},
	gaveBackEnds:     {"I2", "a Grant that comes after the lease was given back counts"},
	dropsFirst:       {"I2", "the lease is given back and not dropped"},
	settlesOwn:       {"I2", "a deposed leader vouches for what its successor committed"},

	floors:           {"I3", "no floors"},
	leaseFirst:       {"I3", "the floor is read before the lease"},
	memoryAfterLease: {"I3", "the memory is read before the lease"},

	interestFirst:     {"I5", "interest is recorded after the read"},
	oneSnapshot:       {"I5", "the index is read after the data"},
	expiryFromSent:    {"I5", "an entry's expiry counts from its arrival"},
	hitsExtendNothing: {"I5", "a hit prolongs an entry"},

	twoGenerations:    {"I6", "the leader keeps one generation of interest"},
	twoHeld:           {"I6", "the edge keeps one generation of what it holds"},
	stretchedInterest: {"I6", "generations turn over every TTL, not stretched"},
	queuedIndex:       {"I6", "a Grant carries the applied index"},

	replays:         {"I7", "nothing is replayed"},
	ringReach:       {"I7", "an edge goes on from before the ring's beginning"},
	heldNoted:       {"I7", "what an edge says it holds is not noted"},
	heldAtReset:     {"I7", "what an edge says it holds is not noted if its memory is to be reset"},
	helloInOrder:    {"I7", "a Hello that a later one of its process has overtaken takes its place"},
	aheadRefused:    {"I7", "a leader takes an edge that knows of more than it does"},
	joinsAtOnce:     {"I7", "the ring is read, and the dispatch joined later"},
	dispatchedFirst: {"I7", "a new leader takes sessions before it has dispatched what earlier terms committed"},
	termsRise:       {"I7", "an older term is accepted"},
	leaseDropped:    {"I7", "a reset drops the memory and not the lease"},
	epochs:          {"I7", "a write of before a reset lands after it"},
	incarnations:    {"I7", "a memory of another incarnation goes on"},
	oldIncarnation:  {"I7", "an older incarnation is accepted"},
	otherTTL:        {"I7", "a memory of another TTL goes on"},

	historyJudged: {"I13", "a memory of another history goes on"},
	indexProves:   {"I13", "the index alone tells whether it is one history"},
	reignNamed:    {"I13", "index and term tell it, and not the reign"},
	readNamed:     {"I13", "what was fetched is not named, only what was told"},
	provenBehind:  {"I13", "a proof of before the Hello counts"},
	anewProven:    {"I13", "an older term is accepted with a reset, without a proof"},

	holdDown:        {"I8", "no hold-down after an election"},
	stretchedHold:   {"I8", "the hold-down is D, not S"},
	holdByRecord:    {"I8", "the hold-down is by the leader's own D"},
	longerRecorded:  {"I8", "a shorter D is recorded at once"},
	openFirst:       {"I8", "leases are given before the record says open"},
	closedIfNoLease: {"I8", "closed is recorded with leases out"},
	closedAfterHold: {"I8", "closed, or a list, is recorded within the hold-down"},
	stopsForGood:    {"I8", "leases are given after granting has ended"},
	restoredOpen:    {"I8", "a restored state counts as closed"},
	listedHeld:      {"I8", "who is listed is not waited for"},
	movedAtAck:      {"I8", "a listed process has moved when it has joined"},
	bookedListed:    {"I8", "a lease is listed for D, not S"},
	brokenListed:    {"I8", "a session that broke is left off the list"},
	heirsListed:     {"I8", "who was listed and has not moved is left off the next list"},
	inheritedBooked: {"I8", "a process that moves is booked for the new leader's S, its lease being longer"},
	ownAfterHeirs:   {"I8", "a shorter D is recorded when all have moved, with longer leases out"},
	resumeRecords:   {"I8", "a hand-over is taken back without a record"},
	listInOrder:     {"I8", "a list that was thought lost is recorded after the hand-over was taken back"},
	resumeOvertaken: {"I8", "a hand-over is taken back after a later list was made"},
}

// witness is something that must happen in an instance, or its search shows little.
type witness = search.Witness

const (
	allowedLater     witness = iota // ALLOW from memory, under a lease of a second leader
	allowedByRestore                // ALLOW again under a lease, after a revoke had returned
	deniedAfter                     // a denial from memory, under a lease, after the revoke had returned
	paidByAck                       // a session's debt ended by its acknowledgement
	paidByTime                      // ... by its lease's end
	paidByNext                      // ... by the acknowledgement of the process's next session
	paidByReturn                    // ... by the lease's return
	replayed                        // a replay that made an entry not count
	wentOn                          // a session that went on with an entry that counts
	reset                           // a reset of a memory with an entry
	fenced                          // a write that landed below its floor
	expired                         // an entry ended by its TTL, under a lease
	uninterested                    // a change told to one edge and not to another that has a lease
	forgotten                       // a change not told to a session with a lease, whose interest had expired
	overtaken                       // an Invalidate ahead of an Answer
	packed                          // a pack that raised two floors
	emptyWaited                     // a call that changes nothing waited for a lease
	closedTaken                     // a leader that found the record closed and held nothing
	longHeld                        // a leader that held longer than its own S
	restored                        // an entry read after a restore counts under a lease
	twoRates                        // a lease at an edge whose clock is slower than the leader's
	staleRequest                    // a request that ended after the floor it would have met had risen
	swappedUnder                    // a request whose memory was swapped under it
	helloOvertaken                  // a Hello that arrived after a later one
	turnedAway                      // an edge that knows of more than a leader to which it says Hello
	learned                         // a deposed leader that gave a lease knowing what its successor committed
	returnedEarly                   // a change returned before the listed end of the lease of an edge that had moved
	didNotMove                      // a listed edge that did not move, to its lease's end
	listedAgain                     // a listed edge that had not moved, on the next list
	handedTwice                     // two hand-overs in a row
	resumed                         // leases given again after a hand-over that failed
	longInherited                   // an edge that moved with a longer lease than the new leader's
	paidByOther                     // one edge has acknowledged a change that another still owes
	olderTerm                       // an edge that took an older term, on a proof
	otherHistory                    // a memory of another history that a leader could tell by itself
	provenAnew                      // ... and one that it could not
	witnesses
)

var witnessText = [witnesses]string{
	allowedLater: "ALLOW under a lease of a second leader", allowedByRestore: "ALLOW after a restoring that followed a returned revoke",
	deniedAfter: "a denial from memory", paidByAck: "a debt paid by an acknowledgement", paidByTime: "a debt ended by time",
	paidByNext: "a debt paid in the next session", paidByReturn: "a debt ended by a lease given back", replayed: "a replay that carried something",
	wentOn: "a session that went on with its memory", reset: "a reset", fenced: "a late write below its floor", expired: "an entry that expired under a lease",
	uninterested: "an edge not told, for it holds nothing", forgotten: "interest that expired before the change", overtaken: "an Invalidate ahead of an Answer",
	packed: "a pack that raised two floors", emptyWaited: "a call that changes nothing and waits", closedTaken: "a leader that took over from a closed record",
	longHeld: "a leader that held longer than its own S", restored: "an answer from a restored state", twoRates: "a lease across clocks of different rates",
	helloOvertaken: "a Hello that arrived after a later one", turnedAway: "an edge that knew of more than a leader", learned: "a deposed leader that learned what its successor committed",
	returnedEarly: "a change that returned before the end of a listed lease", didNotMove: "a listed edge that did not move",
	listedAgain: "a listed edge on the next list", handedTwice: "two hand-overs in a row", resumed: "a hand-over taken back",
	longInherited: "an edge that moved with a longer lease than the new leader's",
	olderTerm:     "an older term taken on a proof", otherHistory: "a memory of another history", provenAnew: "a past that was proven to be over",
	staleRequest: "a request overtaken by an invalidation", swappedUnder: "a request whose memory was swapped", paidByOther: "a change that one edge has and another owes",
}
