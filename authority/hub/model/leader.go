package main

// time is the authority's time at a node (Node.time).
func (x *node) time() int8 { return max(x.newest, x.stamp, x.wall) }

// now reads it, and says it.
func (x *node) now(y *system) int8 {
	if !y.On(leaderRises) {
		return x.wall
	}
	y.Saw(steppedBack, x.wall < x.newest)
	x.newest = x.time()
	return x.newest
}

// upTo is what this node knows to be reserved.
func (x *node) upTo(y *system) int8 {
	if !y.On(isCommitted) {
		return max(x.reserved, x.reserving)
	}
	return x.reserved
}

// least is the horizon's (hub/horizon.go).
func (y *system) least(x *node) int8 {
	now := x.now(y)
	if !y.On(noted) {
		return now
	}
	at := now
	if c := x.lines[0]; c.value > 0 {
		at = min(at, c.value/2)
	}
	if c := x.points[0]; c.value > 0 {
		at = min(at, c.value)
	}
	y.Saw(heldBack, at < now)
	return at
}

// tells is Node.Told.
func (y *system) tells(x *node) int8 {
	at := y.least(x)
	if y.On(tellsReserved) {
		y.Saw(cut, at > x.upTo(y) && x.stamp < at)
		at = min(at, x.upTo(y))
	}
	return max(at, x.stamp)
}

// lead emits what a leader does by itself and for callers.
func (y *system) lead(s *state, i int8) {
	x := &s.nodes[i]
	switch x.life {
	case elected:
		if !y.On(begunFirst) {
			y.look(s, i)
		}
	case leads:
		y.reserve(s, i)
		y.look(s, i)
		y.command(s, i)
	case deposed:
		if y.in.late {
			if !x.behind || !y.On(tellsOwn) {
				y.look(s, i)
			}
			y.command(s, i)
		}
	case follows, dead:
		return
	}
	for e := range y.in.edges {
		y.serve(s, i, e)
	}
}

// reserve emits that time is reserved, in two steps: the second may never come.
func (y *system) reserve(s *state, i int8) {
	n := *s
	x := &n.nodes[i]
	switch now := x.now(y); {
	case x.reserving > 0:
		y.stampAt(&n, x, x.stamping)
		if x.reserving > n.reserved || !y.On(reservedRises) {
			n.reserved = x.reserving
		}
		x.reserved = n.reserved
		x.reserving, x.stamping = 0, 0
		y.Next("time is reserved", i, n.reserved, &n)
	case x.reserved <= now:
		x.stamping, x.reserving = y.least(x), now+y.in.ahead
		y.Next("asks for time", i, x.reserving, &n)
	}
}

// look emits a read: judged by what may be told, and returned when no lease of an earlier leader can be out (Hub.heldDown).
func (y *system) look(s *state, i int8) {
	n := *s
	x := &n.nodes[i]
	at := y.tells(x)
	y.Wrong(x.life != deposed && at < s.told, "what was told as past is told as to come")
	switch {
	case !y.waits(x):
		if at > s.told {
			y.Saw(steppedTold, at > 3+s.ticks*s.rates[0])
			y.Saw(toldAgain, i == 1 && s.told > 0)
			n.told = at
			y.Next("tells", i, at, &n)
		}
	case x.read == 0:
		x.read = at
		y.Next("a call waits", i, at, &n)
	}
	if x.read > 0 && !y.waits(x) {
		n := *s
		n.told, n.nodes[i].read = max(n.told, x.read), 0
		y.Next("a call that waited returns", i, x.read, &n)
	}
}

// waits reports whether leases of the leader before may be out.
func (y *system) waits(x *node) bool {
	return y.On(held) && (x.hold > 0 || x.inherited != [maxEdges]int8{})
}

// command emits the one command that sets an end to now, as late as may be told, and its return.
func (y *system) command(s *state, i int8) {
	x := &s.nodes[i]
	if y.in.command && s.command == 0 && x.life == leads {
		n := *s
		z := &n.nodes[i]
		n.stamped = y.least(z)
		n.command, n.by, n.end = 1, i, max(n.stamped, min(z.now(y), z.upTo(y)))
		y.stampAt(&n, z, n.stamped)
		for e := range y.in.edges {
			if c := &z.sessions[e]; c.up || c.lease > 0 {
				c.waits = c.lease
				if c.up {
					c.pending.some, c.pending.inval = true, true
				}
			}
		}
		y.Next("an end is set to now", i, n.end, &n)
	}
	if s.command != 1 || y.waits(x) || x.life == deposed && s.by != i { // who was deposed tells of what it did itself, at most
		return
	}
	for e := range y.in.edges {
		if x.sessions[e].waits > 0 {
			return
		}
	}
	n := *s
	n.command, n.ended, n.told = 2, s.end, max(s.told, s.stamped)
	for e := range y.in.edges {
		y.Saw(acknowledged, s.edges[e].has && s.edges[e].lease > 0)
		y.Saw(waitsOut, !s.edges[e].has && s.edges[e].reign > 0)
	}
	y.Next("the end is in force", i, s.end, &n)
}

// join books an edge that has come (Hub.join).
func (y *system) join(n *state, i, e int8) {
	x, z := &n.nodes[i], &n.edges[e]
	c := &x.sessions[e]
	if y.in.hellos && y.On(hellos) {
		y.Saw(afterHello, z.latest > x.time())
		x.newest = max(x.newest, z.latest)
	}
	// What the session before of this process owed passes to this one.
	*c = session{up: true, lease: max(y.in.span(), x.inherited[e]), waits: c.waits}
	if z.reign != 0 && z.reign != 1+i && y.On(points) {
		c.put = x.now(y)
		window(x.points[:]).add(counting{c.put, c.lease})
	}
	if !y.On(movesWhole) {
		x.inherited[e] = 0
	}
	c.pending = frame{some: true, welcome: true, inval: n.command > 0 && !z.has}
}

// mayJoin: a Welcome that is counted for a time needs one that may be told.
func (y *system) mayJoin(s *state, i, e int8) bool {
	x, z := &s.nodes[i], &s.edges[e]
	return z.reign == 0 || z.reign == 1+i || z.reign < 1+i && max(x.time(), z.latest) <= x.upTo(y)
}

// serve emits what a node does in one session.
func (y *system) serve(s *state, i, e int8) {
	x := &s.nodes[i]
	c := &x.sessions[e]
	if !c.up {
		return
	}
	if c.reading > 0 { // a mutant's second half
		n := *s
		y.note(&n, i, e, c.reading)
		y.Next("a grant is noted", i, e, &n)
	}
	if s.edges[e].asked != none && c.reading == 0 {
		n := *s
		y.give(&n, i, e)
	}
	if c.pending.some && !c.sent.some && !y.in.quick {
		n := *s
		y.send(&n, i, e)
		y.Next("sends", i, e, &n)
	}
}

// give emits that a question for a lease is answered, if the time may be told.
func (y *system) give(n *state, i, e int8) {
	x := &n.nodes[i]
	at := x.now(y)
	y.Saw(notReserved, at > x.upTo(y))
	switch {
	case at > x.upTo(y) && y.On(grantsReserved) || x.life == deposed && x.proof >= y.in.lease:
	case !y.On(oneStep):
		x.sessions[e].reading = at
		y.Next("reads the time for a grant", i, e, n)
	default:
		y.note(n, i, e, at)
		y.Next("gives a lease", i, e, n)
	}
}

// note is horizon.granted and session.renew.
func (y *system) note(n *state, i, e, at int8) {
	x := &n.nodes[i]
	c := &x.sessions[e]
	age := n.edges[e].asked
	n.edges[e].asked, c.reading = none, 0
	left := y.in.span()
	if !y.On(wholeSpan) {
		left = y.in.lease
	}
	if !y.On(allLeases) {
		clear(x.lines[:])
	}
	window(x.lines[:]).add(counting{2 * at, left})
	granted := y.in.lease
	if x.life == deposed {
		granted -= x.proof
		y.Saw(deposedGives, true)
		y.Saw(deposedAfter, x.behind)
	}
	y.Saw(olderLease, n.edges[e].lease > 0)
	c.lease = max(c.lease, y.in.span())
	c.pending.some, c.pending.grant, c.pending.age, c.pending.granted, c.pending.at = true, true, age, granted, at
	y.say(n, i, at)
}

// send makes a frame of what has gathered, and reads its time.
func (y *system) send(n *state, i, e int8) {
	x := &n.nodes[i]
	c := &x.sessions[e]
	f := c.pending
	if f.now = x.now(y); f.now > x.upTo(y) {
		if f.now = x.stamp; y.On(framesReserved) {
			f.now = max(x.stamp, x.upTo(y))
		}
	}
	if y.On(atItsPoint) {
		f.now = max(f.now, c.put)
	}
	c.pending, c.sent = frame{}, f
	y.say(n, i, f.now)
}

// say judges what an edge is told of the time. Who leads next begins there, or later; so who was deposed tells no more than what is reserved or carried now.
func (y *system) say(n *state, i, at int8) {
	if y.in.second {
		n.said = max(n.said, at)
	}
	for j := i + 1; j < nodes; j++ {
		y.Wrong(n.nodes[j].life == leads && at > max(n.nodes[j].reserved, n.nodes[j].stamp), "the authority's time is behind what edges were told of it")
	}
}
