package main

// writeRecord emits what a leader does to the replicated record of open leases, and
// Stop (I8). A record of a term that is past does nothing.
func (y *system) writeRecord(s *state, l int8) {
	x, in := &s.leaders[l], y.in
	own := in.lease[l]
	current := l == s.now
	if !x.opened && (current || !y.on(openFirst)) {
		n := *s
		n.leaders[l].opened = true
		if y.on(openFirst) {
			if !s.open || !y.on(longerRecorded) {
				n.recorded = own
			} else {
				n.recorded = max(own, s.recorded)
			}
			n.open = true
		}
		y.next("records that leases are out", l, none, &n)
	}
	if x.opened && !x.closing && x.hold == 0 && current && s.open && s.recorded != own {
		n := *s
		n.recorded = own
		y.next("records its own times", l, none, &n)
	}
	if x.opened && !x.closing {
		n := *s
		z := &n.leaders[l]
		z.closing = true
		z.free = x.hold == 0 || !y.on(closedAfterHold)
		for e := range in.edges {
			q := &x.sessions[e]
			z.free = z.free && (q.lease == 0 || q.returned || !y.on(closedIfNoLease))
		}
		y.next("stops", l, none, &n)
	}
	if x.free && current {
		n := *s
		n.leaders[l].free = false
		n.open = false
		y.next("records that no lease is out", l, none, &n)
	}
}
