package main

import "machineid/shared/search"

// rule is one thing that nodes do; a mutant does not.
type rule = search.Rule

const (
	meantLife rule = iota
	emptyMeant
	oneCluster
	keepsToOne
	knowsCaller
	asksFirst

	worksAfter
	caughtUp

	keepsVotes
	knowsAsMuch
	oneChange

	allRules
)

var ruleText = [allRules]struct{ of, mutant string }{
	meantLife:   {"R14", "the store that is meant is not compared, only the name"},
	emptyMeant:  {"R14", "an empty store takes what is meant for the one that was lost"},
	oneCluster:  {"R14", "the caller's cluster is not compared"},
	keepsToOne:  {"R14", "an empty store does not keep to the cluster that took it in"},
	knowsCaller: {"R14", "who was removed is let in"},
	asksFirst:   {"R14", "a store of another cluster is taken in"},

	worksAfter: {"R13", "a member is taken out though the rest is no working quorum"},
	caughtUp:   {"R13", "a vote is given at once, to who has not caught up"},

	keepsVotes:  {"R4", "a crash takes the vote with it"},
	knowsAsMuch: {"raft", "a vote goes to who knows less"},
	oneChange:   {"raft", "a change of the membership does not wait for the one before"},
}

// witness is something that must happen in an instance, or its search shows little.
type witness = search.Witness

const (
	lostRefused    witness = iota // what was meant for a lost store is refused
	clusterRefused                // a caller of another cluster is
	removedRefused                // a caller that was removed is
	pinned                        // an empty store is taken into a cluster
	wonAfterLoss                  // a leader of the first cluster is elected after a disk was lost
	wonLater                      // ... with more than the first entry
	wonByNew                      // with the vote of a life after the first
	ackedByNew                    // an entry is acknowledged by one
	secondTook                    // the second cluster acknowledges what another store has
	returned                      // who was removed, and has its folder, is taken in again
	majorityLost                  // the disks of a majority are lost
	witnesses
)

var witnessText = [witnesses]string{
	lostRefused: "a message for a lost store refused", clusterRefused: "a caller of another cluster refused", removedRefused: "a removed caller refused",
	pinned: "an empty store taken in", wonAfterLoss: "an election after a loss", wonLater: "an election with entries", wonByNew: "the vote of another life",
	ackedByNew: "an acknowledgement by another life", secondTook: "a second cluster with two stores", returned: "a removed node taken in again",
	majorityLost: "the disks of a majority lost",
}
