package main

// time is what an edge judges by (edge/time.go).
func (x *edge) time() int8 { return max(x.latest, x.counts) }

// passEdge lets time pass on an edge's clock.
func (y *system) passEdge(x *edge, rate int8) {
	x.lease = max(0, x.lease-rate)
	if x.counts > 0 {
		x.counts += rate
	}
	if x.asked != none {
		x.asked = min(x.asked+rate, y.in.lease)
	}
	if x.lease == 0 { // what it counts decides nothing before the next grant, which keeps it
		if y.On(countedStays) {
			x.latest = x.time()
		}
		x.counts = 0
	}
}

func (f *frame) pass(rate, lease int8) {
	if f.grant {
		f.age = min(f.age+rate, lease)
	}
}

// leave ends an edge's stream with a node.
func (x *edge) leave(i int8) {
	if x.conn == i {
		x.conn, x.asked = none, none
	}
}

// live emits what an edge does, and what befalls it.
func (y *system) live(s *state, e int8) {
	x := &s.edges[e]
	if x.conn == none {
		for i := range l8(nodes) {
			if l := s.nodes[i].life; (l == leads || l == deposed) && x.reign <= 1+i && y.mayJoin(s, i, e) {
				n := *s
				n.edges[e].conn = i
				y.join(&n, i, e)
				y.Next("joins", e, i, &n)
			}
		}
	} else {
		y.receive(s, e)
		if c := &s.nodes[x.conn].sessions[e]; x.asked == none && x.reign == 1+x.conn && !c.pending.grant && !c.sent.grant && c.reading == 0 {
			n := *s
			n.edges[e].asked = 0
			if y.in.quick {
				y.give(&n, x.conn, e)
			} else {
				y.Next("asks for a lease", e, x.conn, &n)
			}
		}
		if y.in.breaks {
			n := *s
			c := &n.nodes[x.conn].sessions[e]
			*c = session{lease: c.lease, waits: c.waits}
			n.edges[e].leave(x.conn)
			y.Next("the stream breaks", e, x.conn, &n)
		}
	}
	if x.lease > 0 && x.counts > x.latest {
		n := *s
		n.edges[e].latest = x.counts
		y.Next("judges", e, x.counts, &n)
	}
}

// receive emits that a frame comes, which is put in force as session.receive does.
func (y *system) receive(s *state, e int8) {
	i := s.edges[e].conn
	n := *s
	if y.in.quick && n.nodes[i].sessions[e].pending.some {
		y.send(&n, i, e)
	}
	f := n.nodes[i].sessions[e].sent
	if !f.some {
		return
	}
	x, l := &n.edges[e], &n.nodes[i]
	c := &l.sessions[e]
	c.sent = frame{}
	before := x.latest
	if y.On(hears) {
		x.latest = max(x.latest, f.now)
	}
	if f.welcome {
		y.Saw(movedLease, x.lease > 0 && x.reign != 1+i)
		x.reign, l.inherited[e] = 1+i, 0
	}
	if f.inval {
		x.has, c.waits = true, 0
	}
	if f.grant {
		if y.On(countedStays) {
			x.latest = x.time()
		}
		x.counts = f.at + f.age
		x.lease = max(x.lease, f.granted-f.age)
		if !y.On(edgeRises) {
			x.latest = 0
		}
	}
	y.Wrong(x.time() < before, "an edge's time goes back")
	y.Next("a frame comes", e, f.now, &n)
}
