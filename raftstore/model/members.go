package main

// lead emits what a leader does by itself: writing, and the changes of the membership that people ask for, one after the other.
func (y *system) lead(s *state, l int8) {
	x := &s.stores[l]
	if x.does != rules || x.log.n >= y.in.entries {
		return
	}
	if x.log.n < y.in.writes {
		n := *s
		n.stores[l].log.add(entry{term: x.term, cluster: x.cluster})
		y.commit(&n, l)
		y.Next("writes", l, none, &n)
	}
	m, index := x.latest()
	// raft begins no change before the one before is committed, and an entry of this term is.
	if index > x.commit && y.On(oneChange) || x.commit == 0 || x.log.at[x.commit-1].term != x.term {
		return
	}
	for v := range l8(names) {
		z := &s.stores[v]
		switch {
		case v == l:
		case m[v] != 0 && (y.in.removes || y.in.exchanges && y.lost(x, z, m[v])) && y.mayLeave(s, l, v, m):
			y.change(s, l, v, m, 0, "removes")
		case m[v] == 0 && z.life > 0 && (z.cluster == 0 || z.cluster == x.cluster || !y.On(asksFirst)):
			y.Saw(returned, z.log.n > 0 && z.cluster == x.cluster)
			y.change(s, l, v, m, -z.life, "takes in")
		}
		if m[v] < 0 && y.in.promotes && y.mayVote(s, l, v, m) {
			y.change(s, l, v, m, -m[v], "gives a vote to")
		}
	}
}

func (y *system) change(s *state, l, v int8, m members, seat int8, what string) {
	n := *s
	x := &n.stores[l]
	m[v] = seat
	x.log.add(entry{term: x.term, cluster: x.cluster, change: true, members: m})
	y.Wrong(y.in.able && y.canLead(s) && !y.canLead(&n), "the membership is changed, and now nobody can lead")
	y.commit(&n, l)
	y.Next(what, l, v, &n)
}

// lost is what Replace goes by: another store waits under the name of a member, and the member does not answer.
func (y *system) lost(x, z *store, seat int8) bool {
	return z.life != max(seat, -seat) && (z.cluster == 0 || z.cluster == x.cluster)
}

// mayLeave: the voters that are left must be a working quorum (R13).
func (y *system) mayLeave(s *state, l, v int8, m members) bool {
	if m[v] < 0 {
		return true
	}
	m[v] = 0
	return y.worksWith(s, l, m)
}

// mayVote: a vote is given to who has caught up, if the voters are then a working quorum (R13).
func (y *system) mayVote(s *state, l, v int8, m members) bool {
	if !y.On(caughtUp) {
		return true
	}
	m[v] = -m[v]
	return m[v] == s.stores[v].life && y.reaches(s, l, v) && y.worksWith(s, l, m)
}

// worksWith: a majority answers, is in this term, and has all of the leader's log.
func (y *system) worksWith(s *state, l int8, m members) bool {
	return !y.On(worksAfter) || 2*y.working(s, m, func(v int8) bool { return y.reaches(s, l, v) }) > m.voters()
}

func (y *system) reaches(s *state, l, v int8) bool {
	x, z := &s.stores[l], &s.stores[v]
	return z.cluster == x.cluster && z.term == x.term && z.log.n >= x.log.n
}
