package main

import "machineid/shared/search"

// system is an instance under the protocol or under one mutant of it. It is used by
// one goroutine.
type system struct {
	search.Steps[state]
	in *instance
}

func (y *system) next(what string, a, b int8, n *state) {
	n.tidy()
	y.Next(what, a, b, n)
}

// Step is search.System's.
func (y *system) Step(s *state) ([]search.Successor[state], string) {
	y.Begin()
	wrong := y.step(s)
	y.Wrong(wrong != "", wrong)
	return y.Found()
}

func (y *system) step(s *state) string {
	if wrong := y.check(s); wrong != "" {
		return wrong
	}
	y.tick(s)
	y.elect(s)
	for l := range y.in.leaders {
		if s.leaders[l].up {
			y.lead(s, l)
		}
	}
	for e := range y.in.edges {
		if wrong := y.live(s, e); wrong != "" {
			return wrong
		}
	}
	return ""
}

// check judges what a validate that is sent now would be told from memory, by every
// edge of every record.
func (y *system) check(s *state) string {
	for e := range y.in.edges {
		x := &s.edges[e]
		for o := range y.in.records {
			if x.lease == 0 || !y.counts(x, o) {
				continue
			}
			v := x.entries[o].version
			if wrong := y.judge(s, x, o, v, s.returned[o]); wrong != "" {
				return "from memory: " + wrong
			}
			y.answered(s, e, o, v)
		}
	}
	return ""
}

// counts reports whether an entry may be used, but for the lease (I3, I5).
func (y *system) counts(x *edge, o int8) bool {
	e := x.entries[o]
	return e.version != none && (y.On(floors) && e.index >= x.floors[o] || !y.On(floors)) && (y.in.ttl[0] == 0 || e.left > 0)
}

// judge says what is wrong with an answer from version v to a validate that was sent
// when `returned` was the newest version that had returned: validate must be a
// regular register, and an edge that has met an incarnation answers from no older.
func (y *system) judge(s *state, x *edge, o, v, returned int8) string {
	if y.in.incarnationOf(v) < x.met {
		return "an answer from an older incarnation than one met"
	}
	if y.in.twins && x.met == 0 {
		return "" // of an edge that knows the old cluster only, nothing is promised
	}
	allow := y.in.script[v].allow >> o & 1
	for j := returned; j <= s.committed; j++ {
		if y.in.script[j].allow>>o&1 == allow {
			return ""
		}
	}
	if allow == 1 {
		return "ALLOW after a change that denies had returned"
	}
	return "a denial after a change that allows had returned"
}

// answered notes what a good answer shows.
func (y *system) answered(s *state, e, o, v int8) {
	x, in := &s.edges[e], y.in
	allow := in.script[v].allow>>o&1 == 1
	now := s.returned[o]
	y.Saw(allowedLater, allow && x.conn > 0 && x.welcomed && x.term == in.terms[x.conn])
	y.Saw(allowedByRestore, allow && now >= 2 && in.script[now-1].allow>>o&1 == 0)
	y.Saw(deniedAfter, !allow && now > 0)
	y.Saw(restored, in.incarnationOf(v) > 0)
	y.Saw(twoRates, x.conn != none && s.rates[maxLeaders+e] < s.rates[x.conn])
	y.Saw(wentOn, x.conn > 0 && x.welcomed && x.current > s.leaders[0].sent)
}

// tick lets time pass: one unit on a slow clock, two on a fast one.
func (y *system) tick(s *state) {
	in, n := y.in, *s
	for l := range in.leaders {
		x, rate, d := &n.leaders[l], n.rates[l], in.lease[l]
		if in.rounds || !y.leads(s, l) || !x.up {
			passed(&x.proof, rate, d)
		}
		if x.proof >= d {
			x.proof = none // it gives no lease any more
		}
		passed(&x.round, rate, d)
		left(&x.hold, rate)
		for e := range in.edges {
			lasted := x.inherited[e] > 0 && !x.moved[e]
			left(&x.inherited[e], rate)
			y.Saw(didNotMove, lasted && x.inherited[e] == 0 && x.hold == 0)
		}
		if in.ttl[l] > 0 {
			passed(&x.turned, rate, y.period(l))
		}
		for e := range in.edges {
			y.tickSession(&x.sessions[e], rate, n.rates[maxLeaders+e])
		}
	}
	for e := range in.edges {
		x, rate := &n.edges[e], n.rates[maxLeaders+e]
		for o := range in.records {
			if in.ttl[0] > 0 {
				lasted := x.entries[o].left > 0
				left(&x.entries[o].left, rate)
				y.Saw(expired, lasted && x.entries[o].left == 0 && x.lease > rate)
				left(&x.pending[o].left, rate)
				if x.pending[o].left == 0 {
					x.pending[o] = noEntry
				}
				if x.entries[o].left == 0 {
					x.entries[o] = noEntry
				}
				if x.flights[o] > 0 {
					x.flights[o] = min(x.flights[o]+rate, 1+y.longestTTL())
				}
			}
		}
		if in.ttl[0] > 0 {
			passed(&x.heldAge, rate, 2*y.longestTTL())
		}
		left(&x.lease, rate)
	}
	y.next("a tick", none, none, &n)
}

func (y *system) tickSession(x *session, rate, edgeRate int8) {
	left(&x.lease, rate)
	for i := range x.owes {
		owed := x.owes[i] > 0
		left(&x.owes[i], rate)
		y.Saw(paidByTime, owed && x.owes[i] == 0)
	}
	for _, q := range []*queue{&x.down, &x.upward} {
		for i := range q.n {
			if m := &q.at[i]; m.kind == renew || m.kind == grant {
				passed(&m.a, edgeRate, y.in.longest())
			}
		}
	}
}

func passed(age *int8, rate, most int8) {
	if *age != none {
		*age = min(*age+rate, most)
	}
}

func left(of *int8, rate int8) { *of = max(*of-rate, 0) }

func (y *system) longestTTL() int8 { return max(y.in.ttl[0], y.in.ttl[1], y.in.ttl[2]) }

// period of the generations of interest at a leader (I6).
func (y *system) period(l int8) int8 {
	if !y.On(stretchedInterest) {
		return y.in.ttl[l]
	}
	return y.in.stretch(y.in.ttl[l])
}

// elect begins the next term: the new leader has all that was committed (its
// barrier). Its node has dispatched that up to some index, as a follower.
func (y *system) elect(s *state) {
	in, l := y.in, s.now+1
	if l >= in.leaders {
		return
	}
	n, held, least := *s, in.longest(), int8(0)
	if in.record {
		held = s.recorded
	}
	n.now = l
	x := &n.leaders[l]
	x.up, x.opened = true, !in.record
	if !in.rounds {
		x.proof = 0
	}
	if in.begins(l) {
		if s.committed == in.last() || !in.script[s.committed+1].anew() {
			return
		}
		n.committed++
		held = in.longest()
		least = in.index(n.committed)
		if in.restoredBy == l {
			n.open = y.On(restoredOpen)
			x.since = least
		}
	}
	x.applied = in.index(n.committed)
	x.barrier = x.applied
	x.hold = y.holdDown(&n, l, held)
	n.leaders[s.now].free, n.leaders[s.now].list = false, [maxEdges]int8{} // a record of a term that is past does nothing
	if !in.lags {
		least = x.applied
	}
	for sent := least; sent <= x.applied; sent++ {
		x.sent = sent
		y.next("elected", l, sent, &n)
	}
}

// holdDown is how long a new leader returns from no change (I8).
func (y *system) holdDown(n *state, l, held int8) int8 {
	in := y.in
	own := in.stretch(in.lease[l])
	switch {
	case !y.On(holdDown):
		return 0
	case (in.record || in.restoredBy == l) && !n.open:
		y.Saw(closedTaken, n.leaders[l-1].opened)
		return 0
	case n.listed && in.restoredBy != l:
		y.inherit(n, l)
		return 0
	case !y.On(stretchedHold):
		return held
	case !y.On(holdByRecord):
		return own
	}
	y.Saw(longHeld, in.stretch(held) > own)
	return in.stretch(held)
}
