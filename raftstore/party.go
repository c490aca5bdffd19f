package raftstore

import "container/list"

// Party is who a command is for, by whatever tells one from another. The zero value is nobody in particular: the program itself.
type Party [16]byte

// partyShare is the part of a room that one party may have.
const partyShare = 2

// party is one of those for whom commands wait or are under way. It is guarded by packer.mu.
type party struct {
	of     Party
	bytes  [rooms]int // of commands that are not answered yet, with overhead
	queues [lanes]queue
}

// queue is what waits of one party in a lane, in the order of the calls.
type queue struct {
	first, last *proposal
	turn        *list.Element // of the line's turns; nil: nothing waits
}

// line is the queues in which something waits. They take turns, so that who has much to wait for makes nobody else wait for all of it (I14).
type line struct{ turns list.List }

func (l *line) add(pr *proposal) {
	q := &pr.party.queues[pr.lane]
	if pr.before = q.last; q.last == nil {
		q.first = pr
		q.turn = l.turns.PushBack(q)
	} else {
		q.last.after = pr
	}
	q.last = pr
}

// next is the command whose turn it is, nil if nothing waits.
func (l *line) next() *proposal {
	if e := l.turns.Front(); e != nil {
		return e.Value.(*queue).first //nolint:errcheck // there is nothing else in it
	}
	return nil
}

// take takes out the command whose turn it is. The turn goes to the next party.
func (l *line) take(pr *proposal) {
	l.turns.MoveToBack(pr.party.queues[pr.lane].turn)
	l.remove(pr)
}

// remove takes a command out.
func (l *line) remove(pr *proposal) {
	q := &pr.party.queues[pr.lane]
	if pr.before == nil {
		q.first = pr.after
	} else {
		pr.before.after = pr.after
	}
	if pr.after == nil {
		q.last = pr.before
	} else {
		pr.after.before = pr.before
	}
	pr.before, pr.after = nil, nil
	if q.first == nil {
		l.turns.Remove(q.turn)
		q.turn = nil
	}
}

// enter takes room for a command, and finds its party. It reports false if there is no room.
func (p *packer) enter(pr *proposal) bool {
	at, n := roomOf(pr.lane), cost(pr.cmd)
	r, of := &p.rooms[at], p.parties[pr.of]
	if of == nil {
		of = &party{of: pr.of}
	}
	if r.bytes+n > r.maxBytes || pr.of != (Party{}) && of.bytes[at]+n > r.maxBytes/partyShare {
		return false
	}
	p.parties[pr.of] = of
	pr.party = of
	r.bytes += n
	of.bytes[at] += n
	return true
}

// leave gives back the room of a command that is answered.
func (p *packer) leave(pr *proposal) {
	at, n := roomOf(pr.lane), cost(pr.cmd)
	p.rooms[at].bytes -= n
	if pr.party.bytes[at] -= n; pr.party.bytes == ([rooms]int{}) {
		delete(p.parties, pr.of)
	}
}
