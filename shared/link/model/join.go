package main

// connect emits the sessions that an edge may begin: its Hello, and the leader's part.
// In most instances they are one step.
func (y *system) connect(s *state, e int8) {
	x, in := &s.edges[e], y.in
	for i := range x.hellos {
		h := x.hellos[i]
		if !h.said || !y.takes(s, h.to, &h) {
			continue
		}
		n := *s
		n.edges[e].hellos[i] = hello{to: h.to}
		q, later := &n.leaders[h.to].sessions[e], x.hellos[0]
		overtaken := i == 1 && !later.said && later.to == h.to && (q.up || q.lease > 0)
		y.Saw(helloOvertaken, overtaken)
		if !overtaken || !y.On(helloInOrder) {
			y.join(&n, e, h, i == 0)
		}
		y.next("a Hello arrives", e, h.to, &n)
	}
	if x.conn != none || x.gave {
		return
	}
	for l := range in.leaders {
		if !s.leaders[l].up || y.old(x, l) && in.hellos {
			continue
		}
		n := *s
		z := &n.edges[e]
		if in.ttl[0] > 0 {
			y.turnHeld(z)
		}
		h := hello{true, z.remembers, l, z.made, z.from, z.reign, z.current, z.read, z.held | z.heldPast}
		z.conn, z.welcomed = l, false
		if !in.hellos {
			if !y.takes(s, l, &h) || y.old(x, l) && !y.judges(s, &h).proven {
				continue
			}
			y.join(&n, e, h, true)
			y.next("joins", e, l, &n)
			continue
		}
		z.hellos[1], z.hellos[0] = z.hellos[0], h // an older one was lost
		y.next("says Hello", e, l, &n)
	}
}

// takes reports whether a leader takes a session: after its record is written (I8), and
// once it has dispatched all that earlier terms committed. One that has not dispatched
// what the edge knows of is deposed, and does not know it yet (I7).
func (y *system) takes(s *state, l int8, h *hello) bool {
	x := &s.leaders[l]
	ahead := y.judges(s, h).ahead
	y.Saw(turnedAway, ahead)
	return x.up && x.opened && !x.closing && (x.sent >= x.barrier || !y.On(dispatchedFirst)) &&
		(!ahead || !y.On(aheadRefused))
}

// old reports whether the edge refuses a leader (I7) that proves nothing (I13). It is the edge that does, when
// it reads the Welcome; that it had joined so far gives nobody anything.
func (y *system) old(x *edge, l int8) bool {
	if x.term == none {
		return false
	}
	inc := y.in.incarnation(l)
	if y.On(oldIncarnation) && inc != x.accepted {
		return inc < x.accepted
	}
	return inc == x.accepted && y.On(termsRise) && y.in.terms[l] < x.term
}

// join books the process as if it had been granted a full lease (I1.2), notes what it
// holds, reads the ring and joins the dispatch in one step (I7). Nobody reads what is
// sent on a stream that is not the edge's newest.
func (y *system) join(n *state, e int8, h hello, newest bool) {
	in, l := y.in, h.to
	x, z := &n.edges[e], &n.leaders[l]
	q := &z.sessions[e]
	past := y.judges(n, &h)
	same := h.remembers && past.same
	goesOn := same && (h.current >= z.since || !y.On(ringReach)) &&
		(in.ttl[l] == in.ttl[max(0, h.from)] || !y.On(otherTTL))
	w := message{kind: welcome, a: 1, b: z.sent}
	if past.proven {
		w.a = 2
	}
	old := *q
	*q = session{up: true, broken: old.broken}
	if y.On(debtsPass) {
		q.owes = old.owes
	}
	if other := &z.sessions[1-e]; in.edges == 2 && other.broken && !other.up && !y.On(ownProcess) {
		q.owes, q.broken = other.owes, true
		*other = session{}
	}
	if y.On(helloBooked) {
		q.lease = y.stretched(l)
	}
	y.Saw(longInherited, z.inherited[e] > q.lease)
	if y.On(inheritedBooked) {
		q.lease = max(q.lease, z.inherited[e])
	}
	if !y.On(movedAtAck) {
		z.moved[e] = true
	}
	if same && y.On(heldNoted) && (goesOn || y.On(heldAtReset)) {
		q.present = h.held
	}
	if goesOn {
		w.a, w.d = 0, int8(h.held)
		for i := max(h.current, z.since) + 1; i <= z.sent; i++ {
			if in.concerns(l, i)&h.held != 0 && y.On(replays) {
				w.c |= 1 << i
			}
		}
	}
	q.deaf = !y.On(joinsAtOnce)
	if newest && x.conn == l {
		q.down.push(w, 0, in.down)
		return
	}
	// Its stream has ended already.
	q.up, q.broken, q.deaf = false, true, false
	if x.conn == l && !x.hellos[0].said { // and the leader ends the one that it replaces
		x.hangUp()
	}
}

// welcomed puts the first frame of a session in force (edge, accept and receive).
func (y *system) welcomed(n *state, l, e int8, m message) bool {
	in, x := y.in, &n.edges[e]
	inc := in.incarnation(l)
	if m.a == 2 && in.terms[l] < x.term {
		y.Saw(olderTerm, true)
	}
	x.term, x.reign, x.accepted, x.met = in.terms[l], l, inc, max(x.met, inc)
	if m.a == 0 {
		for i := range l8(maxVersions) {
			if m.c>>i&1 == 1 {
				y.raiseFloors(x, uint8(m.d)&in.concerns(l, i), i, true)
			}
		}
	} else {
		if y.On(leaseDropped) {
			x.lease = 0
		}
		if in.swaps && !x.swap {
			x.swap, x.swapTo = true, m
			return true
		}
		y.Saw(reset, x.entries[0].version != none)
		y.swapMemory(x)
		x.made, x.from = inc, l
	}
	x.remembers, x.welcomed, x.swap, x.swapTo = true, true, false, message{}
	x.flights = [maxRecords]int8{}
	return y.acknowledge(n, l, e, m.b)
}
