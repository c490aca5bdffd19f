package main

// lead emits what a leader does.
func (y *system) lead(s *state, l int8) {
	y.prove(s, l)
	if l == s.now && s.committed < y.in.last() && !y.in.script[s.committed+1].anew() {
		n := *s
		n.committed++
		n.leaders[l].applied++
		y.next("commits", l, n.leaders[l].applied, &n)
	}
	y.learn(s, l)
	y.dispatch(s, l)
	y.settle(s, l)
	if y.in.record {
		y.writeRecord(s, l)
	}
	for e := range y.in.edges {
		y.serve(s, l, e)
	}
	y.turn(s, l)
}

// leads reports whether a leader can prove that it leads.
func (y *system) leads(s *state, l int8) bool {
	return l == s.now || y.in.twins && l < y.in.restoredBy
}

// prove is the confirmation round (I1.1). One that begins when the leader is deposed
// never succeeds; one that began before may.
func (y *system) prove(s *state, l int8) {
	x := &s.leaders[l]
	if !y.in.rounds {
		return
	}
	if x.round == none && x.proof != 0 && y.leads(s, l) {
		n := *s
		n.leaders[l].round = 0
		y.next("begins a round", l, none, &n)
	}
	if x.round != none {
		n := *s
		z := &n.leaders[l]
		z.proof, z.round = x.round, none
		if !y.On(fromBegin) {
			z.proof = 0
		}
		if z.proof >= y.in.lease[l] {
			z.proof = none
		}
		y.next("ends a round", l, none, &n)
	}
}

// learn emits what comes to a node beside its leading: entries of a later leader, if it
// has been deposed and does not know, and a ring that forgets its beginning (I7).
func (y *system) learn(s *state, l int8) {
	x, in := &s.leaders[l], y.in
	if in.follows && l < s.now && in.history(l) == in.history(s.now) && x.applied < in.index(s.committed) {
		n := *s
		n.leaders[l].applied++
		y.Saw(learned, x.proof != none)
		y.next("learns of an entry", l, n.leaders[l].applied, &n)
	}
	if in.ring && x.since < x.sent {
		n := *s
		n.leaders[l].since++
		y.next("forgets an index", l, n.leaders[l].since, &n)
	}
}

// owesFor is what a session owes for a change that is told now.
func (y *system) owesFor(x *session) int8 {
	if !y.On(waits) {
		return 0
	}
	return x.lease
}

// dispatch tells the sessions that may hold what the next index concerns (I2, I6).
func (y *system) dispatch(s *state, l int8) {
	x, in := &s.leaders[l], y.in
	if x.sent == x.applied {
		return
	}
	i := x.sent + 1
	op := in.script[in.version(l, i)]
	for over := int8(0); over <= maxQueue; over++ {
		n := *s
		z := &n.leaders[l]
		z.sent = i
		ok, moved := true, false
		for e := range in.edges {
			q := &z.sessions[e]
			told := (q.present | q.past) & op.records
			y.Saw(uninterested, in.edges == 2 && told == 0 && q.up && q.lease > 0 &&
				(z.sessions[1-e].present|z.sessions[1-e].past)&op.records != 0)
			y.Saw(forgotten, in.ttl[0] > 0 && told == 0 && q.up && q.lease > 0 && s.edges[e].remembers && s.edges[e].held|s.edges[e].heldPast != 0)
			if told == 0 || q.returned || q.deaf || op.empty && !y.On(emptyEmits) || q.lease == 0 && !q.up {
				continue
			}
			q.owes[i] = y.owesFor(q)
			if !q.up {
				continue
			}
			if !y.On(bookedWhenQueued) {
				if q.late != 0 {
					ok = false
				}
				q.late = i
				continue
			}
			o := min(over, overtakes(&q.down))
			moved = moved || o == over && over > 0
			y.Saw(overtaken, o > 0 && q.down.at[q.down.n-1].kind == answer)
			ok = y.queueInval(q, i, told, o) && ok
		}
		if over > 0 && !moved {
			return
		}
		if ok {
			y.next("dispatches", l, i, &n)
		}
		if !in.overtake {
			return
		}
	}
}

// overtakes is how many messages at the end an Invalidate may go ahead of: nothing
// overtakes a Welcome or an Invalidate.
func overtakes(q *queue) int8 {
	k := int8(0)
	for k < q.n && (q.at[q.n-1-k].kind == answer || q.at[q.n-1-k].kind == grant) {
		k++
	}
	return k
}

func (y *system) queueInval(q *session, i int8, told uint8, over int8) bool {
	if !y.On(wholePacks) && told&(told-1) != 0 { // more than one
		first := told & -told
		return q.down.push(message{kind: inval, a: i, b: int8(first)}, over, y.in.down) &&
			q.down.push(message{kind: inval, a: i, b: int8(told &^ first), c: 1}, 0, y.in.down)
	}
	return q.down.push(message{kind: inval, a: i, b: int8(told)}, over, y.in.down)
}

// settle lets calls return: each whose change has been dispatched, which no session
// owes, after the hold-down. Also at a leader that does not know that it is deposed.
func (y *system) settle(s *state, l int8) {
	x, in := &s.leaders[l], y.in
	if x.hold > 0 || y.expects(x) {
		return
	}
	own := x.sent
	if in.follows && l < s.now && y.On(settlesOwn) {
		own = min(own, s.leaders[l+1].barrier) // it led no longer when it learned of more
	}
	for i := int8(0); i <= own; i++ {
		v := in.version(l, i)
		if in.historyOf(v) != in.history(l) || v == 0 {
			continue
		}
		owed, told := false, false
		for e := range in.edges {
			owed = owed || x.sessions[e].owes[i] > 0
			told = told || x.sessions[e].up && x.sessions[e].present != 0
		}
		y.Saw(emptyWaited, owed && in.script[v].empty)
		y.Saw(paidByOther, owed && in.edges == 2 && (x.sessions[0].owes[i] == 0) != (x.sessions[1].owes[i] == 0) &&
			x.sessions[0].up && x.sessions[1].up && s.edges[0].current != s.edges[1].current)
		if owed {
			continue
		}
		n, news := *s, false
		for o := range in.records {
			if in.script[v].records>>o&1 == 1 && s.returned[o] < v {
				n.returned[o], news = v, true
			}
		}
		if news {
			for e := range in.edges {
				y.Saw(returnedEarly, x.moved[e] && x.inherited[e] > 0 && s.edges[e].lease > 0)
			}
			y.next("returns", l, i, &n)
		}
	}
}

// turn begins a new generation of interest (I6). Being late does no harm.
func (y *system) turn(s *state, l int8) {
	if y.in.ttl[l] == 0 || s.leaders[l].turned < y.period(l) {
		return
	}
	n := *s
	n.leaders[l].turned = 0
	turned := false
	for e := range y.in.edges {
		q := &n.leaders[l].sessions[e]
		turned = turned || q.present|q.past != 0
		q.past, q.present = q.present, 0
		if !y.On(twoGenerations) {
			q.past = 0
		}
	}
	if turned {
		y.next("turns a generation", l, none, &n)
	}
}

// serve emits what a leader does for one session.
func (y *system) serve(s *state, l, e int8) {
	q := &s.leaders[l].sessions[e]
	if q.deaf {
		n := *s
		n.leaders[l].sessions[e].deaf = false
		y.next("joins the dispatch", l, e, &n)
	}
	if q.late != 0 {
		n := *s
		z := &n.leaders[l].sessions[e]
		told := (z.present | z.past) & y.in.concerns(l, z.late)
		z.late = 0
		if y.queueInval(z, q.late, told, 0) {
			y.next("queues the Invalidate", l, e, &n)
		}
	}
	if q.worker.busy {
		n := *s
		if y.finishFetch(&n.leaders[l], l, e) {
			y.next("answers", l, e, &n)
		}
	}
	if q.upward.n == 0 {
		return
	}
	if y.in.inFlight && !q.up {
		n := *s
		n.leaders[l].sessions[e].upward = queue{}
		y.next("loses what was sent", l, e, &n)
	}
	n := *s
	x := &n.leaders[l]
	z := &x.sessions[e]
	switch m := z.upward.pop(); m.kind {
	case renew:
		y.renewed(&n, l, e, m)
		return
	case ack:
		for i := range m.a + 1 {
			y.Saw(paidByAck, z.owes[i] > 0)
			y.Saw(paidByNext, z.owes[i] > 0 && s.edges[e].conn == l && z.broken)
			z.owes[i] = 0
		}
		if m.b == 1 {
			for i := range z.owes {
				y.Saw(paidByReturn, z.owes[i] > 0)
				z.owes[i] = 0
			}
			z.returned, z.lease = true, 0
		}
		x.moved[e] = x.inherited[e] > 0 && (x.moved[e] || m.a >= x.barrier || m.b == 1)
		y.next("reads an Ack", l, e, &n)
	case fetch:
		if z.worker.busy {
			return
		}
		y.beginFetch(x, z, l, m.a)
		if !y.in.halves && !y.finishFetch(x, l, e) {
			return
		}
		y.next("reads a Fetch", l, e, &n)
	default:
	}
}

// renewed books a lease and queues its Grant in one step (I1.2, I2).
func (y *system) renewed(n *state, l, e int8, m message) {
	g, ok := y.granted(n, l, e, m.a)
	if !ok {
		y.next("gives no lease", l, e, n)
		return
	}
	for over := int8(0); over <= maxQueue; over++ {
		w := *n
		q := &w.leaders[l].sessions[e].down
		if over > 0 && (over > q.n || q.at[q.n-over].kind != answer) {
			return
		}
		if q.push(g, over, y.in.down) {
			y.next("gives a lease", l, e, &w)
		}
		if !y.in.overtake {
			return
		}
	}
}

// granted books a lease that was asked for `asked` ago, and returns its Grant.
func (y *system) granted(n *state, l, e, asked int8) (message, bool) {
	x := &n.leaders[l]
	z := &x.sessions[e]
	if x.proof == none || !z.up || z.returned || x.closing && y.On(stopsForGood) {
		return message{}, false
	}
	if y.On(booked) {
		z.lease = max(z.lease, y.stretched(l)-x.proof)
	}
	given, index := y.in.lease[l]-x.proof, x.sent
	if !y.On(lessProof) {
		given = y.in.lease[l]
	}
	if !y.On(queuedIndex) {
		index = x.applied
	}
	return message{kind: grant, a: asked, b: given, c: index}, true
}

// stretched is S of a leader's own D.
func (y *system) stretched(l int8) int8 {
	if !y.On(stretched) {
		return y.in.lease[l]
	}
	return y.in.stretch(y.in.lease[l])
}

// beginFetch records interest, and only then may the state be read (I5).
func (y *system) beginFetch(x *leader, z *session, l, record int8) {
	z.worker = worker{busy: true, record: record, version: none, index: none}
	if y.On(interestFirst) {
		z.present |= 1 << record
	}
	if !y.On(interestFirst) || !y.On(oneSnapshot) {
		z.worker.version, z.worker.index = y.in.version(l, x.applied), x.applied
	}
}

// finishFetch reads data and index at once, and queues the answer; false if there is
// no room.
func (y *system) finishFetch(x *leader, l, e int8) bool {
	z := &x.sessions[e]
	a := y.read(x, l, z)
	// Without a session there is nobody to answer.
	return !z.up || z.down.push(a, 0, y.in.down)
}

// read ends a fetch with its Answer.
func (y *system) read(x *leader, l int8, z *session) message {
	w := z.worker
	z.worker = worker{}
	if !y.On(interestFirst) {
		z.present |= 1 << w.record
	} else if y.On(oneSnapshot) {
		w.version = y.in.version(l, x.applied)
	}
	if y.On(interestFirst) {
		w.index = x.applied
	}
	return message{kind: answer, a: w.record, b: w.version, c: w.index}
}
