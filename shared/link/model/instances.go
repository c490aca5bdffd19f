package main

// Scripts: the state at the beginning, and what is done to it in this order. A record is
// allowed or denied; bits are records.
var (
	revoke          = []operation{{allow: 1}, {records: 1}}
	revokeRestore   = []operation{{allow: 1}, {records: 1}, {records: 1, allow: 1}}
	revokeTwice     = []operation{{allow: 1}, {records: 1}, {records: 1, empty: true}}
	pack            = []operation{{allow: 3}, {records: 3}}
	otherThenRevoke = []operation{{allow: 1}, {allow: 1}, {records: 1}} // the first concerns nothing that is followed
	// An old state comes back in which what was allowed since is denied.
	restoreOld = []operation{{}, {records: 1, allow: 1}, {records: 1, restore: true, to: 0}}
	// An older copy is put back, and lacks a change that concerned nothing that is followed; what takes its index is a revoke.
	rollback = []operation{{allow: 1}, {allow: 1}, {allow: 1, back: true, to: 0}, {records: 1}}
	// ... and two of them are lost.
	rollbackTwo = []operation{{allow: 1}, {allow: 1}, {allow: 1}, {allow: 1, back: true, to: 0}, {records: 1}}
	// ... and lacks what allowed.
	rollbackAllowed = []operation{{}, {records: 1, allow: 1}, {records: 1, back: true, to: 0}}
)

// newInstance is one leader, one edge, one record, a lease of two ticks and nothing
// that goes wrong; f adds what does.
func newInstance(name, about string, f func(in *instance)) *instance {
	in := &instance{
		name: name, about: about,
		edges: 1, leaders: 1, records: 1, script: revoke,
		lease: [maxLeaders]int8{2, 2, 2}, terms: [maxLeaders]int8{1, 2, 3}, down: 2, up: 2,
	}
	f(in)
	return in
}

// instances are all that is searched: the small ones, and with full the large ones too.
func instances(full bool) []*instance {
	list := []*instance{
		newInstance("lease", "proofs, grants and lost sessions, message by message", func(in *instance) {
			in.rounds, in.breaks, in.late, in.restarts = true, true, true, true
			in.wants = []witness{paidByAck, paidByTime, replayed, fenced}
			in.mutants = []rule{
				fromAsk, lessProof, booked, leaseForAnswers, waits, brokenCount, debtsPass, ackAfterFloors,
				floors, replays, heldNoted, joinsAtOnce,
			}
		}),
		newInstance("return", "a lease given back, message by message", func(in *instance) {
			in.breaks, in.gives = true, true
			in.wants = []witness{paidByReturn}
			in.mutants = []rule{gaveBackEnds, dropsFirst}
		}),
		newInstance("restoring", "a revoke and its taking back; leases under dispatch", func(in *instance) {
			in.script = revokeRestore
			in.breaks, in.late = true, true
			in.wants = []witness{allowedByRestore, deniedAfter}
			in.mutants = []rule{queuedIndex, bookedWhenQueued}
		}),
		newInstance("proof", "two leaders: proofs that take time, a lease under each", func(in *instance) {
			in.leaders = 2
			in.quick, in.rounds, in.breaks, in.restarts = true, true, true, true
			in.wants = []witness{allowedLater, wentOn, replayed}
			in.mutants = []rule{fromBegin, helloBooked, holdDown}
		}),
		newInstance("terms", "a deposed leader that follows and does not know", func(in *instance) {
			in.leaders = 2
			in.quick, in.breaks, in.follows, in.late = true, true, true, true
			in.wants = []witness{allowedLater, wentOn, replayed, learned}
			in.mutants = []rule{termsRise, settlesOwn}
			in.harmless = []rule{anewProven}
		}),
		newInstance("deposed", "two deposed leaders, of which one knows more", func(in *instance) {
			in.leaders = 3
			in.quick, in.breaks, in.follows = true, true, true
			in.wants = []witness{allowedLater, learned, turnedAway}
			in.mutants = []rule{historyJudged}
		}),
		newInstance("hellos", "Hellos that arrive late", func(in *instance) {
			in.quick, in.breaks, in.hellos = true, true, true
			in.wants = []witness{helloOvertaken, replayed}
			in.mutants = []rule{helloInOrder}
		}),
		newInstance("ring", "two leaders: a dispatch that lags, a ring that forgets", func(in *instance) {
			in.leaders, in.script = 2, otherThenRevoke
			in.quick, in.breaks, in.lags, in.ring = true, true, true, true
			in.wants = []witness{allowedLater, reset, replayed}
			in.mutants = []rule{ringReach, heldAtReset, dispatchedFirst}
		}),
		newInstance("edges", "two edges: who is told, who is waited for", func(in *instance) {
			in.edges = 2
			in.quick, in.breaks = true, true
			in.wants = []witness{uninterested, paidByOther, paidByNext, paidByTime}
			in.mutants = []rule{ownProcess}
		}),
		newInstance("packs", "two records changed at one index", func(in *instance) {
			in.records, in.script = 2, pack
			in.quick, in.breaks = true, true
			in.wants = []witness{packed}
			in.mutants = []rule{wholePacks}
		}),
		newInstance("empty", "a call that finds the change made already", func(in *instance) {
			in.script = revokeTwice
			in.quick, in.breaks, in.late = true, true, true
			in.wants = []witness{emptyWaited}
			in.mutants = []rule{emptyEmits}
		}),
		newInstance("fetch", "fetches in two halves, messages that overtake", func(in *instance) {
			in.halves, in.overtake, in.late, in.inFlight, in.breaks = true, true, true, true, true
			in.wants = []witness{fenced, overtaken}
			in.mutants = []rule{interestFirst, oneSnapshot}
		}),
		newInstance("request", "a validate of four steps, and resets", func(in *instance) {
			in.quick, in.request, in.breaks, in.ring, in.swaps = true, true, true, true, true
			in.wants = []witness{staleRequest, swappedUnder}
			in.mutants = []rule{leaseFirst, memoryAfterLease}
		}),
		newInstance("interest", "entries and interest that expire, message by message", func(in *instance) {
			in.ttl = [maxLeaders]int8{2, 2, 2}
			in.breaks = true
			in.wants = []witness{expired, forgotten}
			in.mutants = []rule{expiryFromSent, hitsExtendNothing, twoGenerations, twoHeld}
		}),
		newInstance("rates", "clocks that are off by the bound", func(in *instance) {
			in.ttl = [maxLeaders]int8{2, 2, 2}
			in.quick, in.rates, in.breaks = true, true, true
			in.wants = []witness{twoRates, expired}
			in.mutants = []rule{stretched, stretchedInterest}
		}),
		newInstance("rates-terms", "clocks that are off by the bound, over two terms", func(in *instance) {
			in.leaders = 2
			in.quick, in.rates, in.breaks = true, true, true
			in.wants = []witness{twoRates, allowedLater, replayed}
			in.mutants = []rule{stretchedHold}
		}),
		newInstance("times", "leaders of different TTLs", func(in *instance) {
			in.leaders = 2
			in.ttl = [maxLeaders]int8{3, 1, 1}
			in.quick, in.breaks = true, true
			in.wants = []witness{expired, forgotten}
			in.mutants = []rule{otherTTL}
		}),
		newInstance("record", "the record that no lease is out, of a leader and the next", func(in *instance) {
			in.leaders = 2
			in.lease = [maxLeaders]int8{2, 1}
			in.quick, in.record, in.breaks, in.gives = true, true, true, true
			in.wants = []witness{closedTaken, longHeld}
			in.mutants = []rule{holdByRecord, openFirst, closedIfNoLease, stopsForGood}
		}),
		newInstance("records", "the record over three terms of different leases", func(in *instance) {
			in.leaders = 3
			in.lease = [maxLeaders]int8{2, 1, 1}
			in.quick, in.record, in.breaks = true, true, true
			in.wants = []witness{closedTaken, longHeld}
			in.mutants = []rule{longerRecorded, closedAfterHold}
		}),
		newInstance("handover", "a list of who holds a lease, over three terms of different leases", func(in *instance) {
			in.leaders = 3
			in.lease = [maxLeaders]int8{2, 1, 1}
			in.quick, in.record, in.lists, in.breaks = true, true, true, true
			in.wants = []witness{returnedEarly, didNotMove, listedAgain, handedTwice, longInherited, longHeld}
			in.mutants = []rule{heirsListed, inheritedBooked, ownAfterHeirs, closedAfterHold}
		}),
		newInstance("resume", "hand-overs that are taken back", func(in *instance) {
			in.leaders = 2
			in.quick, in.record, in.lists, in.resumes, in.breaks, in.gives = true, true, true, true, true, true
			in.wants = []witness{returnedEarly, didNotMove, resumed}
			in.mutants = []rule{listedHeld, movedAtAck, stopsForGood, brokenListed, resumeRecords, listInOrder, resumeOvertaken}
		}),
		newInstance("handover-rates", "a list, and clocks that are off by the bound", func(in *instance) {
			in.leaders = 2
			in.quick, in.record, in.lists, in.rates, in.breaks = true, true, true, true, true
			in.wants = []witness{returnedEarly, didNotMove, twoRates}
			in.mutants = []rule{bookedListed}
		}),
		newInstance("restore", "an older state comes back", func(in *instance) {
			in.leaders, in.restoredBy, in.script = 2, 1, restoreOld
			in.terms = [maxLeaders]int8{2, 1}
			in.breaks, in.late, in.swaps = true, true, true
			in.wants = []witness{restored, reset}
			in.mutants = []rule{restoredOpen, incarnations, epochs, leaseDropped}
		}),
		newInstance("twins", "the old cluster goes on beside the restored one", func(in *instance) {
			in.leaders, in.restoredBy, in.script, in.twins = 2, 1, restoreOld, true
			in.terms = [maxLeaders]int8{2, 1}
			in.breaks = true
			in.wants = []witness{restored, reset}
			in.mutants = []rule{oldIncarnation}
		}),
		newInstance("rollback", "an older copy is put back, and leads an older term", func(in *instance) {
			in.leaders, in.rolledBy, in.script = 2, 1, rollback
			in.terms = [maxLeaders]int8{2, 1}
			in.breaks, in.late, in.quick = true, true, true
			in.wants = []witness{olderTerm, provenAnew, wentOn}
			in.mutants = []rule{historyJudged, indexProves, leaseDropped}
		}),
		newInstance("rollback-term", "an older copy is put back, and leads the same term again", func(in *instance) {
			in.leaders, in.rolledBy, in.script, in.early = 2, 1, rollback, true
			in.terms = [maxLeaders]int8{2, 2}
			in.breaks, in.late, in.quick = true, true, true
			in.wants = []witness{otherHistory, provenAnew}
			in.mutants = []rule{historyJudged, indexProves, reignNamed, leaseDropped}
		}),
		newInstance("rollback-allowed", "what allowed is lost with an older copy", func(in *instance) {
			in.leaders, in.rolledBy, in.script = 2, 1, rollbackAllowed
			in.terms = [maxLeaders]int8{2, 2}
			in.breaks, in.late, in.quick = true, true, true
			in.wants = []witness{otherHistory}
			in.mutants = []rule{historyJudged, readNamed}
		}),
		newInstance("rollback-deposed", "beside a leader of the older copy that is deposed", func(in *instance) {
			in.leaders, in.rolledBy, in.script, in.early = 3, 1, rollbackTwo, true
			in.terms = [maxLeaders]int8{2, 2, 3}
			in.breaks, in.quick = true, true
			in.wants = []witness{otherHistory, provenAnew, turnedAway}
			in.mutants = []rule{historyJudged, aheadRefused}
			in.harmless = []rule{provenBehind, anewProven}
		}),
	}
	if full {
		list = append(list, largeInstances()...)
	}
	return list
}

// largeInstances put together what the others search apart. Every rule's mutant is
// caught without them.
func largeInstances() []*instance {
	return []*instance{
		newInstance("whole-lease", "all of one leader and one edge, message by message", func(in *instance) {
			in.script = revokeRestore
			in.rounds, in.breaks, in.late, in.gives, in.restarts = true, true, true, true, true
			in.wants = []witness{allowedByRestore, deniedAfter, paidByAck, paidByTime, paidByReturn, replayed, fenced}
		}),
		newInstance("long-lease", "a lease of three ticks, message by message", func(in *instance) {
			in.lease = [maxLeaders]int8{3, 3, 3}
			in.rounds, in.breaks, in.late = true, true, true
			in.wants = []witness{paidByAck, paidByTime, replayed, fenced}
		}),
		newInstance("two-terms", "two leaders, message by message", func(in *instance) {
			in.leaders = 2
			in.breaks, in.late, in.restarts = true, true, true
			in.wants = []witness{allowedLater, wentOn, replayed}
		}),
		newInstance("hellos-terms", "late Hellos over two terms, a ring that forgets", func(in *instance) {
			in.leaders, in.script = 2, otherThenRevoke
			in.quick, in.breaks, in.hellos, in.ring, in.lags = true, true, true, true, true
			in.wants = []witness{helloOvertaken, replayed, reset}
		}),
		newInstance("edges-restore", "two edges; revoke and restore", func(in *instance) {
			in.edges, in.script = 2, revokeRestore
			in.quick, in.breaks = true, true
			in.wants = []witness{uninterested, paidByOther, paidByNext, allowedByRestore}
		}),
		newInstance("records-gives", "the record over three terms, and leases given back", func(in *instance) {
			in.leaders = 3
			in.lease = [maxLeaders]int8{2, 1, 1}
			in.quick, in.record, in.breaks, in.gives = true, true, true, true
			in.wants = []witness{closedTaken, longHeld, paidByReturn}
		}),
		newInstance("request-terms", "a validate of four steps over two terms, late writes", func(in *instance) {
			in.leaders, in.script = 2, otherThenRevoke
			in.quick, in.request, in.breaks, in.ring, in.swaps, in.late = true, true, true, true, true, true
			in.wants = []witness{staleRequest, swappedUnder}
		}),
	}
}
