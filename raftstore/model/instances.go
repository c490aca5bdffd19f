package main

import (
	"fmt"

	"machineid/shared/search"
)

// instance is what one search covers. What is off does not happen.
type instance struct {
	name, about string

	voters         int8 // members at the beginning; the stores of the other names are empty
	terms, entries int8 // bounds of terms, and of logs
	writes         int8 // beside its barrier a leader writes only up to this index
	losses         int8 // disks that are lost, at most

	crashes   bool
	exchanges bool // a member whose disk was lost is taken out, and its name taken in again
	removes   bool // any member is taken out, and may be taken in again
	promotes  bool // and gets its vote
	commands  bool // TimeoutNow
	second    bool // an empty store begins a second cluster
	spare     bool // an empty store is there from the beginning

	named     bool // judged too: what is meant for a lost store
	strangers bool // ... what strangers do
	able      bool // ... whether somebody can lead

	wants             []witness
	mutants, harmless []rule
}

func newInstance(name, about string, f func(in *instance)) *instance {
	in := &instance{name: name, about: about, voters: names, terms: 3, entries: 4}
	f(in)
	return in
}

// instances are all that is searched: the small ones, and with full the large ones too.
func instances(full bool) []*instance {
	list := []*instance{
		newInstance("lost", "disks are lost, and empty stores start under the old names", func(in *instance) {
			in.writes, in.losses, in.crashes = 2, 2, true
			in.wants = []witness{lostRefused, wonAfterLoss, wonLater}
			in.mutants = []rule{meantLife, emptyMeant, keepsVotes, knowsAsMuch}
		}),
		newInstance("names", "what is meant for a lost store", func(in *instance) {
			in.writes, in.losses, in.exchanges, in.named = 2, 1, true, true
			in.wants = []witness{lostRefused, pinned}
			in.mutants = []rule{meantLife, emptyMeant}
		}),
		newInstance("exchange", "lost members are taken out, and taken in again as others", func(in *instance) {
			in.terms, in.entries, in.losses, in.exchanges, in.promotes = 3, 7, 3, true, true
			in.wants = []witness{lostRefused, wonAfterLoss, wonByNew, ackedByNew, pinned}
			in.harmless = []rule{caughtUp}
		}),
		newInstance("able", "any member is taken out, and taken in: somebody can lead", func(in *instance) {
			in.terms, in.entries, in.losses, in.removes, in.promotes, in.able = 3, 6, 2, true, true, true
			in.wants = []witness{lostRefused, majorityLost, wonByNew}
			in.mutants = []rule{worksAfter, caughtUp}
			in.harmless = []rule{knowsCaller}
		}),
		newInstance("removed", "who was removed comes back with its folder, and commands", func(in *instance) {
			in.terms, in.entries, in.removes, in.promotes, in.commands, in.strangers, in.crashes = 3, 5, true, true, true, true, true
			in.wants = []witness{removedRefused, returned}
			in.mutants = []rule{knowsCaller, oneChange}
		}),
		newInstance("clusters", "a node with a lost disk begins another cluster; both want one store", func(in *instance) {
			in.terms, in.entries, in.losses, in.exchanges, in.promotes, in.second = 3, 4, 2, true, true, true
			in.wants = []witness{clusterRefused, pinned, secondTook}
			in.mutants = []rule{oneCluster, keepsToOne}
			in.harmless = []rule{asksFirst}
		}),
	}
	if full {
		list = append(list, largeInstances()...)
	}
	return list
}

// largeInstances put together what the others search apart. Every rule's mutant is caught without them.
func largeInstances() []*instance {
	return []*instance{
		newInstance("lost-terms", "more disks, over more terms", func(in *instance) {
			in.terms, in.entries, in.writes, in.losses, in.crashes = 4, 5, 3, 3, true
			in.wants = []witness{lostRefused, wonAfterLoss, wonLater}
		}),
		newInstance("whole", "lost disks, exchanges, removals, commands and crashes at once", func(in *instance) {
			in.terms, in.entries, in.losses, in.removes, in.promotes, in.commands, in.crashes = 3, 6, 2, true, true, true, true
			in.strangers, in.able = true, true
			in.wants = []witness{lostRefused, wonByNew, ackedByNew, removedRefused, returned, majorityLost}
		}),
		newInstance("two-clusters", "a second cluster, and members that come and go in both", func(in *instance) {
			in.terms, in.entries, in.losses, in.removes, in.promotes, in.second, in.strangers = 3, 5, 2, true, true, true, true
			in.wants = []witness{clusterRefused, secondTook, removedRefused, returned}
		}),
		newInstance("spare", "two members and an empty store", func(in *instance) {
			in.voters, in.spare = 2, true
			in.terms, in.entries, in.losses, in.removes, in.promotes, in.able = 3, 6, 2, true, true, true
			in.wants = []witness{lostRefused, pinned, majorityLost}
		}),
	}
}

// start is the state in which a search begins: the first name leads the first term.
func (in *instance) start() (s state) {
	first := entry{term: 1, cluster: 1, change: true}
	for i := range in.voters {
		first.members[i] = 1
	}
	for i := range s.stores {
		x := &s.stores[i]
		if l8(i) < in.voters {
			*x = store{life: 1, cluster: 1, term: 1, vote: 1, commit: 1}
			x.log.add(first)
		} else if in.spare {
			x.life = 1
		}
	}
	s.stores[0].does = rules
	s.acked[0].add(first)
	s.won[0][0] = 1
	return s
}

func (in *instance) space(off rule) *search.Space[state] {
	return &search.Space[state]{
		Starts: []state{in.start()}, Alike: alike(),
		System: func() search.System[state] { return &system{Steps: search.Steps[state]{Off: off}, in: in} },
	}
}

// happens names what is on in an instance.
func (in *instance) happens() (list []string) {
	for _, f := range []struct {
		on   bool
		name string
	}{
		{in.crashes, "crashes"},
		{in.exchanges, "exchanges"},
		{in.removes, "removes"},
		{in.promotes, "promotes"},
		{in.commands, "commands"},
		{in.second, "second cluster"},
		{in.spare, "spare"},
		{in.named, "names judged"},
		{in.strangers, "strangers judged"},
		{in.able, "able"},
	} {
		if f.on {
			list = append(list, f.name)
		}
	}
	return list
}

func (in *instance) searched() *search.Instance {
	return &search.Instance{
		Name: in.name, About: in.about, Row: fmt.Sprintf("%d, %d, %d, %d", in.voters, in.losses, in.terms, in.entries), Happens: in.happens(),
		Wants: in.wants, Mutants: in.mutants, Harmless: in.harmless,
		Space: func(off rule) search.Searchable { return in.space(off) },
	}
}
