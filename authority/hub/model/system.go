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
	y.judge(s)
	y.pass(s)
	for i := range l8(nodes) {
		y.befall(s, i)
		y.lead(s, i)
	}
	for e := range y.in.edges {
		y.live(s, e)
	}
	return y.Found()
}

func l8(n int) int8 { return int8(n) }

// judge looks at every edge that may answer to a validate which is sent now.
func (y *system) judge(s *state) {
	for e := range y.in.edges {
		x := &s.edges[e]
		if x.lease == 0 {
			continue
		}
		y.Wrong(x.time() < s.told, "an edge judges by less than what was told as past")
		y.Wrong(x.time() < s.ended, "an edge judges by less than an end that was set to now, and has returned")
		if l := s.leader(); l != none && x.reign == 1+l {
			now := s.nodes[l].time()
			y.Saw(edgeBehind, x.time() < now)
			y.Saw(edgeAhead, x.time() > now)
		}
	}
}

// leader is the node that leads, and none that was deposed.
func (s *state) leader() int8 {
	for i := range l8(nodes) {
		if s.nodes[i].life == leads {
			return i
		}
	}
	return none
}

// pass emits that time passes, on all clocks at once, and that a wall clock is set.
func (y *system) pass(s *state) {
	if s.ticks < y.in.ticks {
		n := *s
		n.ticks++
		for i := range n.nodes {
			y.passNode(&n, l8(i))
		}
		for e := range y.in.edges {
			y.passEdge(&n.edges[e], n.rates[nodes+e])
		}
		y.Next("time passes", none, none, &n)
	}
	for i := range l8(nodes) {
		if s.steps >= y.in.steps || s.nodes[i].life == dead || s.nodes[i].life == deposed || i > 0 && !y.in.second {
			continue
		}
		for _, by := range []int8{y.in.step, -y.in.step} {
			n := *s
			n.steps++
			if n.nodes[i].wall += by; n.nodes[i].wall > 0 {
				y.Next("the wall clock is set", i, by, &n)
			}
		}
	}
}

func (y *system) passNode(n *state, i int8) {
	x := &n.nodes[i]
	if x.life == dead {
		return
	}
	r := n.rates[i]
	x.wall += r
	x.hold = max(0, x.hold-r)
	if x.life == deposed {
		x.proof = min(x.proof+r, y.in.lease)
	}
	window(x.lines[:]).pass(r, y.counted(r))
	window(x.points[:]).pass(r, 0)
	for e := range y.in.edges {
		x.inherited[e] = max(0, x.inherited[e]-r)
		z := &x.sessions[e]
		z.lease, z.waits = max(0, z.lease-r), max(0, z.waits-r)
		z.pending.pass(n.rates[nodes+e], y.in.lease)
		z.sent.pass(n.rates[nodes+e], y.in.lease)
	}
}

// counted is what the slowest edge counts, in halves, while this node's clock counts r.
func (y *system) counted(r int8) int8 {
	if y.in.rates && y.On(edgesRate) {
		return r // k = 1/2
	}
	return 2 * r
}

// span is S.
func (in *instance) span() int8 {
	if in.rates {
		return 2 * in.lease
	}
	return in.lease
}

// befall emits what happens to a node.
func (y *system) befall(s *state, i int8) {
	x := &s.nodes[i]
	switch {
	case x.life == leads && i == 0 && y.in.second:
		n := *s
		y.die(&n, 0)
		y.Next("crashes", 0, none, &n)
		if y.in.handsOver {
			n := *s
			y.handOver(&n)
			y.Next("hands over to", 1, none, &n)
		}
		if y.in.deposes {
			n := *s
			n.nodes[0].life = deposed
			y.lose(&n.nodes[0])
			y.elect(&n)
			y.Next("is elected, and the first does not know", 1, none, &n)
		}
	case x.life == deposed:
		n := *s
		y.die(&n, i)
		y.Next("learns that it is deposed", i, none, &n)
		if x.stamp != s.stamp || x.reserved != s.reserved {
			n := *s
			z := &n.nodes[i]
			z.behind, z.stamp, z.reserved = true, s.stamp, s.reserved
			y.Next("applies what its successor wrote", i, none, &n)
		}
	case x.life == follows && i == 1 && s.nodes[0].life == dead:
		n := *s
		y.elect(&n)
		y.Next("is elected", 1, none, &n)
	case x.life == elected:
		n := *s
		y.begin(&n)
		y.Next("begins", i, none, &n)
	}
}

func (y *system) lose(x *node) {
	y.Saw(lost, x.reserving > x.reserved)
	x.reserving, x.stamping, x.read = 0, 0, 0
}

func (y *system) die(n *state, i int8) {
	y.Saw(crashTold, n.told > 0)
	y.lose(&n.nodes[i])
	n.nodes[i] = node{life: dead}
	for e := range n.edges {
		n.edges[e].leave(i)
	}
}

// handOver lists who may hold a lease (hub/handover.go).
func (y *system) handOver(n *state) {
	var left [maxEdges]int8
	for e := range left {
		left[e] = n.nodes[0].sessions[e].lease
		if y.in.rates {
			left[e] = min(2*left[e], y.in.span())
		}
	}
	held := n.nodes[0].hold
	y.die(n, 0)
	y.elect(n)
	if held == 0 {
		n.nodes[1].hold, n.nodes[1].inherited = 0, left
	}
}

// elect has a node lead, and take calls. What waits for it has not begun.
func (y *system) elect(n *state) {
	x := &n.nodes[1]
	x.life, x.stamp, x.reserved, x.hold = elected, n.stamp, n.reserved, y.in.span()
	if y.On(begunFirst) {
		y.begin(n)
	}
}

// begin is Node.lead, and Hub.Lead up to the record that leases are open.
func (y *system) begin(n *state) {
	x := &n.nodes[1]
	x.life = leads
	own := x.wall
	x.now(y)
	if y.On(beginsReserved) {
		x.newest = max(x.newest, x.stamp, x.reserved)
	}
	y.Saw(beginsAhead, x.newest > own)
	now := x.now(y)
	y.Wrong(now < n.said, "the authority's time is behind what edges were told of it")
	y.stampAt(n, x, y.least(x))
}

// stampAt commits a command of this time (tx.stamp).
func (y *system) stampAt(n *state, x *node, at int8) {
	n.stamp = max(n.stamp, at)
	x.stamp = n.stamp
}
