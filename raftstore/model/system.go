package main

import "machineid/shared/search"

// system is an instance under the rules or under one mutant. It is used by one goroutine.
type system struct {
	search.Steps[state]
	in *instance
}

// Step is search.System's.
func (y *system) Step(s *state) ([]search.Successor[state], string) {
	y.Begin()
	y.check(s)
	for i := range l8(names) {
		y.befall(s, i)
		y.stand(s, i)
		for to := range l8(names) {
			if to != i {
				y.ask(s, i, to)
				y.replicate(s, i, to)
				y.command(s, i, to)
			}
		}
		y.lead(s, i)
	}
	return y.Found()
}

func l8(n int) int8 { return int8(n) }

// befall emits what happens to a node: a crash, the loss of its disk, and --bootstrap on an empty one.
func (y *system) befall(s *state, i int8) {
	x := &s.stores[i]
	if y.in.crashes && (x.does != follows || x.commit > 0) {
		n := *s
		z := &n.stores[i]
		z.does, z.votes, z.commit = follows, 0, 0 // the state is not synced (R3)
		if !y.On(keepsVotes) {
			z.vote = 0
		}
		y.Next("crashes", i, none, &n)
	}
	if s.losses < y.in.losses && x.life > 0 {
		n := *s
		n.losses++
		n.stores[i] = store{life: x.life + 1}
		y.Next("loses its disk", i, x.life, &n)
	}
	if y.in.second && x.cluster == 0 && x.life > 0 && s.acked[1].n == 0 {
		n := *s
		z := &n.stores[i]
		e := entry{term: 1, cluster: 2, change: true}
		e.members[i] = x.life
		z.log.cut(0) // nothing is in it, but under a mutant
		z.log.add(e)
		z.cluster, z.term, z.vote, z.does, z.commit = 2, 1, 1+i, rules, 1
		n.acked[1].add(e)
		n.won[1][0] = 1 << i
		y.Next("begins a cluster", i, none, &n)
	}
}

// none stands for no second name.
const none int8 = -1

// stand emits that a node's patience ends. In a term that the model has no room for, nobody stands.
func (y *system) stand(s *state, i int8) {
	if x := &s.stores[i]; x.does == rules || !y.canStand(x, i) {
		return
	}
	n := *s
	y.stood(&n, i)
	y.Next("stands for election", i, none, &n)
}

func (y *system) canStand(x *store, i int8) bool {
	m, index := x.latest()
	return index > 0 && m[i] > 0 && (m[i] == x.life || !y.On(meantLife)) && x.term < y.in.terms && x.log.n < y.in.entries
}

func (y *system) stood(n *state, i int8) {
	x := &n.stores[i]
	x.term++
	x.vote, x.votes, x.does = 1+i, 1<<i, stands
	y.elected(n, i)
}

// ask emits that a candidate asks for a vote and has the answer. That it may be late makes no difference: the vote was given, and who gave it keeps it.
func (y *system) ask(s *state, c, v int8) {
	x := &s.stores[c]
	m, _ := x.latest()
	if x.does != stands || m[v] <= 0 || x.votes>>v&1 == 1 {
		return
	}
	n := *s
	z := &n.stores[v]
	granted := y.admit(s, &n, c, v, m[v]) && y.votes(x, z, c)
	y.judgeCall(s, &n, c, v, m[v], granted)
	if granted {
		n.stores[c].votes |= 1 << v
		y.Saw(wonByNew, z.life > 1)
		y.elected(&n, c)
	}
	if n != *s {
		y.Next("asks for a vote", c, v, &n)
	}
}

// votes is raft's requestVote at z.
func (y *system) votes(x, z *store, c int8) bool {
	m, index := z.latest()
	switch {
	case index > 0 && !m.has(c, x.life) && y.On(meantLife): // not in its configuration
		return false
	case x.term < z.term:
		return false
	case x.term > z.term:
		z.term, z.vote, z.votes, z.does = x.term, 0, 0, follows
	}
	if index > 0 && m[c] <= 0 && y.On(meantLife) { // without a vote, as far as z knows
		return false
	}
	if z.vote != 0 || !y.upToDate(x, z) {
		return z.vote == 1+c
	}
	z.vote = 1 + c
	return true
}

func (y *system) upToDate(x, z *store) bool {
	if !y.On(knowsAsMuch) {
		return true
	}
	a, b := x.log.lastTerm(), z.log.lastTerm()
	return a > b || a == b && x.log.n >= z.log.n
}

// elected makes a candidate with the votes of a majority the leader, and judges that.
func (y *system) elected(n *state, c int8) {
	x := &n.stores[c]
	m, _ := x.latest()
	count := l8(0)
	for v := range l8(names) {
		if m[v] > 0 && x.votes>>v&1 == 1 {
			count++
		}
	}
	if 2*count <= m.voters() {
		return
	}
	of := x.cluster - 1
	y.Wrong(n.won[of][x.term-1] != 0, "two leaders of one term")
	n.won[of][x.term-1] |= 1 << c
	acked := &n.acked[of]
	for i := range acked.n {
		y.Wrong(i >= x.log.n || x.log.at[i] != acked.at[i], "a leader was elected without an entry that was acknowledged")
	}
	y.Saw(wonAfterLoss, n.losses > 0 && of == 0)
	y.Saw(wonLater, x.log.n > 1)
	x.does, x.votes = rules, 0
	x.log.add(entry{term: x.term, cluster: x.cluster}) // its barrier
	y.commit(n, c)
}

// replicate emits that a leader sends a member the next entry that it lacks, and how far it has committed.
func (y *system) replicate(s *state, l, f int8) {
	x := &s.stores[l]
	m, _ := x.latest()
	if x.does != rules || m[f] == 0 {
		return
	}
	n := *s
	z := &n.stores[f]
	life := max(m[f], -m[f])
	took := y.admit(s, &n, l, f, life) && z.term <= x.term
	if took {
		if z.term < x.term || z.does != follows {
			if z.term < x.term {
				z.vote = 0
			}
			z.term, z.votes, z.does = x.term, 0, follows
		}
		at := min(x.log.n, z.log.n) // raft compares terms
		for at > 0 && x.log.at[at-1].term != z.log.at[at-1].term {
			at--
		}
		if at < x.log.n {
			z.log.cut(at)
			z.log.add(x.log.at[at])
			at++
		}
		z.commit = max(z.commit, min(x.commit, at))
	}
	y.judgeCall(s, &n, l, f, life, took)
	y.commit(&n, l)
	if n != *s {
		y.Next("is sent an entry", f, l, &n)
	}
}

// commit counts who has a leader's entries, and acknowledges what a majority has. It counts at once: to count later, or never, acknowledges less.
func (y *system) commit(n *state, l int8) {
	x := &n.stores[l]
	m, _ := x.latest()
	for i := x.log.n; i > x.commit; i-- {
		e := x.log.at[i-1]
		if e.term != x.term {
			return
		}
		count, byNew := l8(0), false
		for v := range l8(names) {
			z := &n.stores[v]
			if m[v] > 0 && (m[v] == z.life || !y.On(meantLife) || !y.On(emptyMeant)) && z.log.n >= i && z.log.at[i-1].term == e.term {
				count++
				byNew = byNew || z.life > 1
			}
		}
		if 2*count <= m.voters() {
			continue
		}
		x.commit = i
		acked := &n.acked[x.cluster-1]
		for j := range i {
			y.Wrong(j < acked.n && acked.at[j] != x.log.at[j], "two entries are acknowledged at one index")
			if j >= acked.n {
				acked.add(x.log.at[j])
			}
		}
		y.Saw(ackedByNew, byNew && x.cluster == 1)
		y.Saw(secondTook, x.cluster == 2 && count > 1)
		return
	}
}

// command emits TimeoutNow: a leader has a voter stand at once.
func (y *system) command(s *state, l, v int8) {
	x := &s.stores[l]
	m, _ := x.latest()
	if !y.in.commands || x.does != rules || m[v] <= 0 {
		return
	}
	n := *s
	took := y.admit(s, &n, l, v, m[v]) && n.stores[v].does != rules && y.canStand(&n.stores[v], v)
	if took {
		y.stood(&n, v)
	}
	y.judgeCall(s, &n, l, v, m[v], took)
	if n != *s {
		y.Next("has another stand", l, v, &n)
	}
}
