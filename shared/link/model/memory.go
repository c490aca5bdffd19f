package main

// swapMemory begins an empty memory. What is written for the old one and lands late
// does not count: it bears the old one's epoch.
func (y *system) swapMemory(x *edge) {
	if r := &x.request; r.loaded && !r.old {
		r.old, r.oldEntry, r.oldFloor = true, x.entries[0], x.floors[0]
		y.Saw(swappedUnder, x.entries[0].version != none)
	}
	for o := range x.entries {
		x.entries[o], x.floors[o] = noEntry, 0
		if y.On(epochs) {
			x.pending[o] = noEntry
		}
	}
	x.current, x.read, x.held, x.heldPast, x.heldAge = 0, 0, 0, 0, 0
}

func l8(n int) int8 { return int8(n) }

// acknowledge says that everything up to an index is in force. It is one field at the
// edge: a later one takes the place of one that was not sent.
func (y *system) acknowledge(n *state, l, e, index int8) bool {
	x := &n.edges[e]
	x.current = max(x.current, index)
	q := &n.leaders[l].sessions[e].upward
	if q.n > 0 {
		if m := &q.at[q.n-1]; m.kind == ack && m.b == 0 {
			m.a = max(m.a, x.current)
			return true
		}
	}
	return q.push(message{kind: ack, a: x.current}, 0, y.in.up)
}

// raiseFloors puts an invalidation in force (I3).
func (y *system) raiseFloors(x *edge, records uint8, index int8, replay bool) {
	two := 0
	for o := range y.in.records {
		if records>>o&1 == 0 {
			continue
		}
		two++
		if e := x.entries[o]; e.version != none && e.index < index && e.index >= x.floors[o] {
			y.Saw(replayed, replay)
		}
		if r := &x.request; o == 0 && r.loaded && x.floors[o] < index {
			y.Saw(staleRequest, true)
		}
		x.floors[o] = max(x.floors[o], index)
	}
	y.Saw(packed, two == 2)
}

// turnHeld begins new generations of what the edge holds (edge, holding.go).
func (y *system) turnHeld(x *edge) {
	ttl := y.in.ttl[max(0, x.from)]
	switch {
	case x.heldAge >= 2*ttl:
		x.held, x.heldPast = 0, 0
	case x.heldAge >= ttl:
		x.held, x.heldPast = 0, x.held
		if !y.On(twoHeld) {
			x.heldPast = 0
		}
	default:
		return
	}
	x.heldAge = 0
}
