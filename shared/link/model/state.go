package main

// Bounds of every instance. Fields of one byte only (shared/search).
const (
	maxLeaders  = 3
	maxEdges    = 2
	maxRecords  = 2
	maxVersions = 5 // of the state, the first included
	maxQueue    = 3
)

// none stands for no version, no session, no proof.
const none int8 = -1

type kind uint8

const (
	noMessage kind = iota
	renew          // a: age of when it was asked
	fetch          // a: record
	ack            // a: index, b: 1 gave the lease back
	welcome        // a: 1 reset, 2 reset and proven, b: dispatched index, c: indexes replayed (bits), d: records held (bits)
	inval          // a: index, b: records (bits), c: 1 not to be acknowledged (a mutant's)
	grant          // a: age of when it was asked, b: granted, c: index
	answer         // a: record, b: version that was read, c: index that it says
)

type message struct {
	kind       kind
	a, b, c, d int8
}

// queue is one direction of a stream.
type queue struct {
	at [maxQueue]message
	n  int8
}

// push appends m, before the last `over` messages; false if there is no room.
func (q *queue) push(m message, over, room int8) bool {
	if q.n >= room {
		return false
	}
	for i := q.n; i > q.n-over; i-- {
		q.at[i] = q.at[i-1]
	}
	q.at[q.n-over] = m
	q.n++
	return true
}

func (q *queue) pop() message {
	m := q.at[0]
	copy(q.at[:], q.at[1:])
	q.n--
	q.at[q.n] = message{}
	return m
}

// Times: what lies ahead is what is left of it on the clock of whoever keeps it, 0
// if it is over; what has passed is its age, up to where it makes no difference. So
// time has no end and the states are finite.

// session is the leader's side (authority/hub, session.go). A broken one stays to
// the end of its lease. A process that was killed is forgotten at once: the code
// waits for it, which allows less than the model does.
type session struct {
	up, broken    bool
	returned      bool              // the lease was given back
	deaf          bool              // not among those that are told yet (a mutant's)
	late          int8              // index of which the lease's end is noted and the message not queued (a mutant's)
	lease         int8              // left, as booked
	owes          [maxVersions]int8 // by index: what was left of the lease when the Invalidate was queued
	present, past uint8             // interest (bits), in two generations
	worker        worker
	down, upward  queue
}

// worker is a fetch between its two halves.
type worker struct {
	busy           bool
	record         int8
	version, index int8 // what was read, none before
}

// leader is one reign (authority/hub, reign.go) and its node's applied state and
// ring. Its number is its term.
type leader struct {
	up            bool
	proof         int8           // age of v0, or none
	round         int8           // age of the round under way, or none
	applied, sent int8           // indexes: in the state, dispatched
	since         int8           // the ring reaches back to here
	barrier       int8           // applied when it was elected
	hold          int8           // left of the hold-down
	opened        bool           // the record that leases may be out was committed in this term
	closing, free bool           // granting has ended; and what is left may be recorded, if that is known
	list          [maxEdges]int8 // who may hold a lease by then, and how long: the record to be
	resumes       int8           // hand-overs to be taken back, whose record is applied
	inherited     [maxEdges]int8 // left of what the leader before has listed
	moved         [maxEdges]bool // and is here since, with all that was done before
	turned        int8           // age of the present generation of interest
	sessions      [maxEdges]session
}

// entry is what the edge remembers of a record.
type entry struct {
	version int8 // the truth, for the check; none: no entry
	index   int8 // what the authority said
	left    int8 // of its TTL
}

// hello is what a process says when it begins a session.
type hello struct {
	said      bool
	remembers bool
	to        int8  // leader
	made      int8  // the memory's incarnation
	from      int8  // the leader whose TTL it has
	reign     int8  // the edge's
	current   int8  // as the edge's
	read      int8  // likewise
	held      uint8 // records (bits)
}

// edge is one process (package edge).
type edge struct {
	conn      int8     // the leader that it talks to, or none
	hellos    [2]hello // under way: of this session, and of the one before
	welcomed  bool
	gave      bool // it has given its lease back and ends
	lease     int8 // left
	term      int8 // of the leader accepted last, or none
	reign     int8 // that leader, or none
	accepted  int8 // the newest accepted incarnation
	met       int8 // newest incarnation accepted, whatever the rules say: for the check
	remembers bool // it has a memory
	made      int8 // the memory's incarnation
	from      int8 // the leader whose TTL it has
	current   int8 // every invalidation up to this index is in force
	read      int8 // the newest index of an answer, where there are two histories
	entries   [maxRecords]entry
	pending   [maxRecords]entry // written, not landed
	floors    [maxRecords]int8
	flights   [maxRecords]int8 // 0, or 1 + the age of when it was sent
	held      uint8            // in two generations
	heldPast  uint8
	heldAge   int8
	swap      bool             // the lease is dropped, the memory not swapped yet
	swapTo    message          // by this Welcome
	raise     [maxRecords]int8 // floors that were acknowledged and are not raised (a mutant's)
	request   request
}

// request is one validate in four steps (edge, recall).
type request struct {
	step     int8
	returned int8 // newest version that had returned when it was sent
	old      bool // its memory was swapped meanwhile
	loaded   bool
	oldEntry entry
	oldFloor int8
	entry    entry
	floor    int8
}

// state is the whole instance. Indexes are Raft's, of one incarnation; versions
// number the states of all, in the order in which they came to be.
type state struct {
	leaders   [maxLeaders]leader
	edges     [maxEdges]edge
	now       int8 // the leader of the newest term
	committed int8 // version
	returned  [maxRecords]int8
	open      bool           // the replicated record (I8)
	listed    bool           // it says who may hold a lease
	holders   [maxEdges]int8 // how long, 0 if none
	recorded  int8           // its D
	rates     [maxLeaders + maxEdges]int8
}

// noEntry is a clean slot.
var noEntry = entry{version: none}

func newEdge() edge {
	e := edge{conn: none, term: none, reign: none, request: request{oldEntry: noEntry, entry: noEntry}}
	for i := range e.entries {
		e.entries[i], e.pending[i] = noEntry, noEntry
	}
	return e
}

// tidy forgets what makes no difference any more, so that equal states look equal.
func (s *state) tidy() {
	for l := range s.leaders {
		for e := range s.leaders[l].sessions {
			s.leaders[l].moved[e] = s.leaders[l].moved[e] && s.leaders[l].inherited[e] > 0
			x := &s.leaders[l].sessions[e]
			if !x.up && x.lease == 0 {
				*x = session{} // hub: forget
			}
		}
	}
}

// swapped is the state with the two edges' names exchanged (they are alike).
func swapped(s *state) state {
	n := *s
	n.edges[0], n.edges[1] = s.edges[1], s.edges[0]
	n.holders[0], n.holders[1] = s.holders[1], s.holders[0]
	n.rates[maxLeaders], n.rates[maxLeaders+1] = s.rates[maxLeaders+1], s.rates[maxLeaders]
	for l := range n.leaders {
		x := &n.leaders[l]
		x.sessions[0], x.sessions[1] = x.sessions[1], x.sessions[0]
		x.list[0], x.list[1] = x.list[1], x.list[0]
		x.inherited[0], x.inherited[1] = x.inherited[1], x.inherited[0]
		x.moved[0], x.moved[1] = x.moved[1], x.moved[0]
	}
	return n
}
