package main

// live emits what an edge does, and what befalls it.
func (y *system) live(s *state, e int8) string {
	in, x := y.in, &s.edges[e]
	y.connect(s, e)
	if x.conn != none {
		if wrong := y.receive(s, e); wrong != "" {
			return wrong
		}
		if x.welcomed && !x.gave {
			if wrong := y.ask(s, e); wrong != "" {
				return wrong
			}
		}
		if in.breaks {
			n := *s
			y.breakOff(&n, e)
			y.next("session breaks", e, x.conn, &n)
		}
	}
	for o := range in.records {
		if x.pending[o].version != none { // ristretto's write lands
			n := *s
			z := &n.edges[e]
			z.entries[o], z.pending[o] = x.pending[o], noEntry
			y.Saw(fenced, z.entries[o].index < z.floors[o])
			y.next("a write lands", e, o, &n)
		}
		if x.raise[o] != 0 {
			n := *s
			z := &n.edges[e]
			z.floors[o], z.raise[o] = max(z.floors[o], x.raise[o]), 0
			y.next("raises a floor", e, o, &n)
		}
		if !y.On(hitsExtendNothing) && x.entries[o].left > 0 && x.lease > 0 {
			n := *s
			n.edges[e].entries[o].left = in.ttl[max(0, x.from)]
			y.next("a hit", e, o, &n)
		}
	}
	if in.restarts && x.term != none {
		n := *s
		n.edges[e] = newEdge()
		for l := range in.leaders {
			x := &n.leaders[l]
			x.sessions[e], x.inherited[e], x.list[e] = session{}, 0, 0
		}
		n.holders[e] = 0
		y.next("restarts", e, none, &n)
	}
	if in.request {
		return y.validate(s, e)
	}
	return ""
}

// ask emits what an edge sends of its own: Renew, Fetch, and the lease given back.
func (y *system) ask(s *state, e int8) string {
	in, x := y.in, &s.edges[e]
	q, dup := &s.leaders[x.conn].sessions[e].upward, false
	for i := range q.n {
		dup = dup || q.at[i].kind == renew && q.at[i].a == 0
	}
	if in.quick {
		if wrong := y.askQuickly(s, e); wrong != "" {
			return wrong
		}
	} else if !dup && !x.swap {
		for over := range q.n + 1 {
			n := *s
			if n.leaders[x.conn].sessions[e].upward.push(message{kind: renew}, over, in.up) {
				y.next("asks for a lease", e, none, &n)
			}
			if !in.overtake {
				break
			}
		}
	}
	for o := range in.records {
		if in.quick || x.flights[o] != 0 || x.swap || x.lease == 0 {
			continue
		}
		n := *s
		n.edges[e].flights[o] = 1
		if n.leaders[x.conn].sessions[e].upward.push(message{kind: fetch, a: o}, 0, in.up) {
			y.next("fetches", e, o, &n)
		}
	}
	if in.gives && !x.swap {
		n := *s
		z := &n.edges[e]
		z.gave = true
		if y.On(dropsFirst) {
			z.lease = 0
		}
		if n.leaders[x.conn].sessions[e].upward.push(message{kind: ack, a: x.current, b: 1}, 0, in.up) {
			y.next("gives its lease back", e, none, &n)
		}
	}
	return ""
}

// askQuickly asks and has the answer in one step (quick), if nothing is under way
// to the edge that an answer could not overtake.
func (y *system) askQuickly(s *state, e int8) string {
	x := &s.edges[e]
	l := x.conn
	if q := &s.leaders[l].sessions[e]; !q.up || q.down.n > 0 || x.swap {
		return ""
	}
	n := *s
	if g, ok := y.granted(&n, l, e, 0); ok {
		y.leased(&n.edges[e], g)
		y.next("asks for a lease and has it", e, l, &n)
	}
	for o := range y.in.records {
		if x.lease == 0 {
			break
		}
		n := *s
		from := &n.leaders[l]
		y.beginFetch(from, &from.sessions[e], l, o)
		n.edges[e].flights[o] = 1
		if wrong := y.landed(s, &n, e, y.read(from, l, &from.sessions[e])); wrong != "" {
			return wrong
		}
	}
	return ""
}

// leased extends the lease, counted from when it was asked for (I1.3).
func (y *system) leased(z *edge, g message) {
	until := g.b - g.a
	if !y.On(fromAsk) {
		until = g.b
	}
	z.lease = max(z.lease, until)
	z.current = max(z.current, g.c)
}

// receive takes the next message, if the edge can.
func (y *system) receive(s *state, e int8) string {
	in, x := y.in, &s.edges[e]
	l := x.conn
	n := *s
	z := &n.edges[e]
	if x.swap { // the second half of a reset
		if y.welcomed(&n, l, e, x.swapTo) {
			y.next("swaps its memory", e, l, &n)
		}
		return ""
	}
	q := &n.leaders[l].sessions[e].down
	if q.n == 0 {
		return ""
	}
	switch m := q.pop(); m.kind {
	case welcome:
		if y.welcomed(&n, l, e, m) {
			y.next("is welcomed", e, l, &n)
		}
	case grant:
		if z.gave && y.On(gaveBackEnds) {
			y.next("ignores a lease", e, l, &n)
			return ""
		}
		y.leased(z, m)
		y.next("has a lease", e, l, &n)
	case inval:
		told := uint8(m.b)
		if y.On(ackAfterFloors) {
			y.raiseFloors(z, told, m.a, false)
		} else {
			for o := range in.records {
				if told>>o&1 == 1 {
					z.raise[o] = m.a
				}
			}
		}
		if m.c == 1 || y.acknowledge(&n, l, e, m.a) {
			y.next("is told", e, m.a, &n)
		}
	case answer:
		return y.landed(s, &n, e, m)
	default:
	}
	return ""
}

// landed puts an answer where those that wait for it see it, and where the cache may
// some time.
func (y *system) landed(s, n *state, e int8, m message) string {
	in, z, o := y.in, &n.edges[e], m.a
	x := entry{version: m.b, index: m.c}
	if in.ttl[0] > 0 {
		ttl := in.ttl[max(0, z.from)]
		x.left = ttl
		if y.On(expiryFromSent) {
			x.left = max(ttl-(z.flights[o]-1), 0)
		}
	}
	z.flights[o] = 0
	if in.rolledBy != 0 {
		z.read = max(z.read, m.c)
	}
	if in.ttl[0] > 0 && x.left == 0 {
		y.next("an answer comes too late", e, o, n)
		return ""
	}
	if !y.On(leaseForAnswers) && x.index >= z.floors[o] {
		if wrong := y.judge(s, z, o, x.version, s.returned[o]); wrong != "" {
			return "from a fetch: " + wrong
		}
	}
	if in.ttl[0] > 0 {
		y.turnHeld(z)
	}
	z.held |= 1 << o
	if in.late {
		z.pending[o] = x
	} else {
		z.entries[o] = x
	}
	y.next("has an answer", e, o, n)
	return ""
}

// breakOff ends a session. The leader keeps it to its lease's end (I2).
func (y *system) breakOff(n *state, e int8) {
	x := &n.edges[e]
	q := &n.leaders[x.conn].sessions[e]
	q.up, q.broken, q.down, q.worker, q.deaf, q.late = false, true, queue{}, worker{}, false, 0
	if !y.in.inFlight {
		q.upward = queue{}
	}
	if !y.On(brokenCount) {
		*q = session{}
	}
	x.hangUp()
}

// hangUp ends the edge's side of a session: lease and memory stay in force.
func (x *edge) hangUp() {
	x.conn, x.welcomed, x.swap, x.swapTo = none, false, false, message{}
	x.flights = [maxRecords]int8{}
}
