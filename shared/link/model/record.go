package main

// writeRecord emits what a leader does to the replicated record of open leases (I8). A
// record of a term that is past does nothing.
func (y *system) writeRecord(s *state, l int8) {
	x, in := &s.leaders[l], y.in
	own := in.lease[l]
	current := l == s.now
	if !x.opened && (current || !y.On(openFirst)) {
		n := *s
		n.leaders[l].opened = true
		if y.On(openFirst) {
			if !s.open || !y.On(longerRecorded) {
				n.recorded = own
			} else {
				n.recorded = max(own, s.recorded)
			}
			n.recordOpen()
		}
		y.next("records that leases are out", l, none, &n)
	}
	if x.opened && !x.closing && y.free(x) && current && s.open && s.recorded != own {
		n := *s
		n.recorded = own
		y.next("records its own times", l, none, &n)
	}
	if x.opened && (!x.closing || x.resumes > 0) && current {
		// A deposed one may stop too, but it can record nothing, and nothing obliges it to give
		// a lease or take a session: whatever comes of it is searched anyhow.
		n := *s
		y.lastRecord(&n, l)
		y.next("stops", l, none, &n)
	}
	if x.free && current {
		n := *s
		z := &n.leaders[l]
		n.holders, n.listed = x.list, x.list != [maxEdges]int8{}
		n.open = n.listed
		z.free, z.list = false, [maxEdges]int8{}
		y.next("records who may hold a lease", l, none, &n)
	}
	if in.resumes {
		y.resume(s, l)
	}
}

func (s *state) recordOpen() {
	s.open, s.listed, s.holders = true, false, [maxEdges]int8{}
}

// lastRecord ends granting and looks who may hold a lease, in one step (hub, lastRecord).
// Where nothing is listed, it may be said only that nobody does.
func (y *system) lastRecord(n *state, l int8) {
	in, x := y.in, &n.leaders[l]
	x.closing, x.list = true, [maxEdges]int8{}
	if y.On(resumeOvertaken) {
		x.resumes = 0
	}
	x.free = x.hold == 0 || !y.On(closedAfterHold)
	for e := range in.edges {
		q := &x.sessions[e]
		if !q.returned && (q.up || y.On(brokenListed)) {
			x.list[e] = q.lease
			if !y.On(bookedListed) {
				x.list[e] = max(0, q.lease-(in.stretch(in.lease[l])-in.lease[l]))
			}
		}
		if !x.moved[e] && y.On(heirsListed) {
			y.Saw(listedAgain, in.lists && x.inherited[e] > x.list[e])
			x.list[e] = max(x.list[e], x.inherited[e])
		}
	}
	if !in.lists {
		x.free = x.free && (x.list == [maxEdges]int8{} || !y.On(closedIfNoLease))
		x.list = [maxEdges]int8{}
	}
	if !x.free {
		x.list = [maxEdges]int8{}
	}
}

// resume takes a hand-over back (hub, Resume): first the record, then the grants. What was
// proposed before it in this term comes into force before it, or never.
func (y *system) resume(s *state, l int8) {
	x := &s.leaders[l]
	if x.closing && x.resumes < 2 && l == s.now {
		n := *s
		z := &n.leaders[l]
		z.resumes++
		if y.On(resumeRecords) {
			n.recordOpen()
			n.recorded = max(n.recorded, y.in.lease[l])
		}
		if y.On(listInOrder) {
			z.free, z.list = false, [maxEdges]int8{}
		}
		y.next("records again that leases are out", l, none, &n)
	}
	if x.resumes > 0 {
		n := *s
		z := &n.leaders[l]
		z.closing = false
		z.resumes--
		y.Saw(resumed, x.closing)
		y.next("gives leases again", l, none, &n)
	}
}

// inherit takes over a list (hub, heirs). The code stretches what it says, and waits longer.
func (y *system) inherit(n *state, l int8) {
	y.Saw(handedTwice, l > 1 && n.leaders[l-1].inherited != [maxEdges]int8{})
	if y.On(listedHeld) {
		n.leaders[l].inherited = n.holders
	}
}

// expects reports whether a listed process has not moved, and its lease may not be over.
func (y *system) expects(x *leader) bool {
	for e := range y.in.edges {
		if x.inherited[e] > 0 && !x.moved[e] {
			return true
		}
	}
	return false
}

// free reports whether no lease of an earlier leader can be out.
func (y *system) free(x *leader) bool {
	return x.hold == 0 && (x.inherited == [maxEdges]int8{} || !y.On(ownAfterHeirs) && !y.expects(x))
}
