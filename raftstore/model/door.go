package main

// admit is the Greeting of a connection for raft's messages, and its judgement (door.go of raftstore). It may give the store that is called
// its cluster.
func (y *system) admit(s, n *state, from, to, meant int8) bool {
	g, x := &s.stores[from], &n.stores[to]
	switch {
	case meant != x.life && y.On(meantLife) && (y.On(emptyMeant) || x.cluster != 0):
		y.Saw(lostRefused, s.losses > 0)
		return false
	case x.life == 0:
		return false // nobody is there
	case x.cluster != 0 && x.cluster != g.cluster && y.On(oneCluster):
		y.Saw(clusterRefused, true)
		return false
	case !y.knows(g, x, from) && y.On(knowsCaller):
		y.Saw(removedRefused, x.cluster == g.cluster)
		return false
	}
	if x.cluster == 0 && y.On(keepsToOne) {
		y.Saw(pinned, true)
		x.cluster = g.cluster
	}
	return true
}

// knows is door.knows.
func (y *system) knows(g, x *store, from int8) bool {
	applied, index := x.applied()
	_, callers := g.applied()
	if index == 0 || callers > index || applied.has(from, g.life) {
		return true
	}
	latest, _ := x.latest()
	return latest.has(from, g.life)
}

// judgeCall judges what became of a call, by what is so and not by what was said.
func (y *system) judgeCall(s, n *state, from, to, meant int8, took bool) {
	g, x := &s.stores[from], &s.stores[to]
	if y.in.named {
		y.Wrong(took && meant != x.life, "a store took what was meant for another that was lost")
	}
	if y.in.strangers && *x != n.stores[to] {
		y.Wrong(stranger(g, x, from), "a stranger has moved a member")
	}
}

// stranger reports whether a caller is no member as far as is known at x, and cannot know better: it has no newer membership in its log than the
// one that is applied at x, or is of another cluster.
func stranger(g, x *store, from int8) bool {
	applied, index := x.applied()
	latest, _ := x.latest()
	_, callers := g.latest()
	if x.cluster != 0 && g.cluster != x.cluster {
		return true
	}
	return index > callers && !applied.has(from, g.life) && !latest.has(from, g.life)
}

// check judges a state.
func (y *system) check(s *state) {
	for i := range s.stores {
		x := &s.stores[i]
		for j := range x.log.n {
			y.Wrong(x.log.at[j].cluster != x.log.at[0].cluster, "a store holds entries of two clusters")
		}
	}
	y.Wrong(y.in.able && !y.able(s), "nobody can lead, though the disks of a majority are there")
}

// able reports whether somebody in the first cluster can be elected and commit. It need not be so if the disks of a majority are lost, or if a
// change of the membership has not come to all that are there: two memberships then want majorities of their own.
func (y *system) able(s *state) bool {
	settled, index := s.acked[0].membership(s.acked[0].n)
	if 2*y.working(s, settled, func(int8) bool { return true }) <= settled.voters() {
		y.Saw(majorityLost, true)
		return true
	}
	for c := range s.stores {
		if x := &s.stores[c]; settled[c] == x.life {
			if _, newest := x.latest(); newest != index {
				return true
			}
		}
	}
	return y.canLead(s)
}

func (y *system) canLead(s *state) bool {
	for c := range l8(names) {
		x := &s.stores[c]
		m, index := x.latest()
		if index == 0 || x.cluster != 1 || m[c] != x.life {
			continue
		}
		n := *s
		if 2*y.working(s, m, func(v int8) bool { return v == c || y.admit(s, &n, c, v, m[v]) && y.upToDate(x, &s.stores[v]) }) > m.voters() {
			return true
		}
	}
	return false
}

// working counts the voters whose disk is there and which are good.
func (y *system) working(s *state, m members, good func(v int8) bool) (n int8) {
	for v := range l8(names) {
		if m[v] > 0 && m[v] == s.stores[v].life && good(v) {
			n++
		}
	}
	return n
}
