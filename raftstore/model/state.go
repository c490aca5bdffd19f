package main

// Bounds of every instance. Fields of one byte only (shared/search).
const (
	names    = 3
	maxLog   = 7
	maxTerm  = 4
	clusters = 2
)

// members is a membership: a seat for each name, 0 if it is no member. A seat is the life that has it, counted from 1 for each name, and
// negative without a vote.
type members [names]int8

func (m *members) voters() (n int8) {
	for _, seat := range m {
		if seat > 0 {
			n++
		}
	}
	return n
}

// has reports whether a life is a member.
func (m *members) has(name, life int8) bool { return life > 0 && (m[name] == life || m[name] == -life) }

// entry of a log.
type entry struct {
	term    int8
	cluster int8 // whose leader wrote it, for the check
	change  bool // of the membership
	members members
}

// list is a log: what is synced is not lost but with the disk (R1, R4).
type list struct {
	n  int8
	at [maxLog]entry
}

func (l *list) add(e entry) {
	l.at[l.n] = e
	l.n++
}

func (l *list) cut(to int8) {
	for ; l.n > to; l.n-- {
		l.at[l.n-1] = entry{}
	}
}

// lastTerm is that of the newest entry, 0 if there is none.
func (l *list) lastTerm() int8 {
	if l.n == 0 {
		return 0
	}
	return l.at[l.n-1].term
}

// membership is the newest up to an index, and the index (from 1) of its entry, 0 if there is none.
func (l *list) membership(upTo int8) (m members, index int8) {
	for i := upTo; i > 0; i-- {
		if l.at[i-1].change {
			return l.at[i-1].members, i
		}
	}
	return members{}, 0
}

// leads is what a store does in its term.
type leads uint8

const (
	follows leads = iota
	stands
	rules // leads
)

// store is what runs under a name: one store at a time, of one life.
type store struct {
	life    int8
	cluster int8 // the one that it keeps to, 0: none yet
	term    int8
	vote    int8  // in this term: 1 + the name, since raft keeps the candidate's address
	does    leads // the rest of this line is gone after a crash
	votes   uint8 // of names, as a candidate
	commit  int8  // applied up to here
	log     list
}

// latest is the membership that raft goes by; applied is the one that the door and people go by (fsm.configuration).
func (x *store) latest() (members, int8)  { return x.log.membership(x.log.n) }
func (x *store) applied() (members, int8) { return x.log.membership(x.commit) }

// state is the whole instance.
type state struct {
	stores [names]store
	acked  [clusters]list           // what was acknowledged, for the check
	won    [clusters][maxTerm]uint8 // who has won a term: names (bits)
	losses int8                     // disks lost
}

// renamed is the state with names exchanged: name i becomes to[i]. The names make no difference.
func renamed(s *state, to [names]int8) state {
	n := *s
	for i := range s.stores {
		x := s.stores[i]
		if x.vote > 0 {
			x.vote = 1 + to[x.vote-1]
		}
		x.votes = bitsRenamed(x.votes, to)
		x.log.rename(to)
		n.stores[to[i]] = x
	}
	for c := range s.won {
		n.acked[c].rename(to)
		for t := range s.won[c] {
			n.won[c][t] = bitsRenamed(s.won[c][t], to)
		}
	}
	return n
}

func bitsRenamed(b uint8, to [names]int8) (n uint8) {
	for i := range to {
		n |= b >> i & 1 << to[i]
	}
	return n
}

func (l *list) rename(to [names]int8) {
	for i := range l.n {
		old := l.at[i].members
		for name, seat := range old {
			l.at[i].members[to[name]] = seat
		}
	}
}

// alike are all ways to exchange the names.
func alike() (list []func(s *state) state) {
	for _, to := range [][names]int8{{0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		list = append(list, func(s *state) state { return renamed(s, to) })
	}
	return list
}
