package main

// Bounds of every instance. Fields of one byte only (shared/search).
const (
	nodes     = 2
	maxEdges  = 2
	maxLines  = 6
	maxPoints = 3
)

// none stands for no node, no second name, no question under way.
const none int8 = -1

// Times of day are counted from a moment before all; 0 is none. What lies ahead is what is left of it on the clock of whoever keeps it.

// counting is a value of a window, and for how long it counts on (hub/horizon.go).
type counting struct{ value, left int8 }

// frame is what one message says to an edge; pending, its time is not read yet.
type frame struct {
	some    bool
	welcome bool
	inval   bool // of the one command
	grant   bool
	age     int8 // of the question for the lease, on the edge's clock
	granted int8
	at      int8 // the authority's time in the grant
	now     int8 // ... in the frame
}

// session is the leader's side of a stream (hub/session.go). One that broke stays to the end of its lease.
type session struct {
	up      bool
	lease   int8  // left, as booked
	put     int8  // the time that its Welcome put the edge at, if that counts
	waits   int8  // left of the lease as it was booked when the Invalidate was queued, 0: not waited for
	reading int8  // the time that was read for a grant which is not noted yet (a mutant's)
	pending frame // gathered
	sent    frame // on its way
}

// life is what a node does.
type life uint8

const (
	follows life = iota
	elected      // takes calls (a mutant's), and has not begun its reign
	leads
	deposed // and does not know
	dead
)

// node is one of the authority.
type node struct {
	life      life
	wall      int8
	newest    int8 // the latest of what it said (clock.Rising)
	stamp     int8 // the state's time, as it has applied it
	reserved  int8 // likewise
	reserving int8 // proposed, 0: nothing
	stamping  int8 // the time of that command
	read      int8 // what a call has judged by that waits, 0: none
	hold      int8 // left of the hold-down
	proof     int8 // its age, of a deposed leader
	behind    bool // that has applied what its successor wrote
	inherited [maxEdges]int8
	lines     [maxLines]counting // in halves
	points    [maxPoints]counting
	sessions  [maxEdges]session
}

// edge is one process (package edge).
type edge struct {
	conn   int8 // the node that it has a stream with
	reign  int8 // 1 + the node whose Welcome it has put in force last
	asked  int8 // age of the question that is not answered, or none
	lease  int8 // left
	counts int8 // the authority's time, counted on from the newest lease
	latest int8 // that it was told or judged by
	has    bool // the command is in force here
}

// state is the whole instance.
type state struct {
	nodes    [nodes]node
	edges    [maxEdges]edge
	rates    [nodes + maxEdges]int8
	reserved int8 // replicated
	stamp    int8
	ticks    int8 // that have passed
	steps    int8 // of wall clocks
	command  int8 // 0: not called, 1: under way, 2: it has returned
	by       int8 // which node's
	end      int8 // that it sets
	stamped  int8 // its time

	// For the judge:
	told  int8 // what has ended by then is told as ended
	ended int8 // by a command that has returned
	said  int8 // the latest time that was told to an edge
}

// window is a list of the values that count, the least first; a value of 0 is none.
type window []counting

// add puts a value in, unless one that is in makes it no difference.
func (w window) add(c counting) {
	n := 0
	for _, old := range w {
		if old.value > 0 && old.value <= c.value && old.left >= c.left {
			return
		}
	}
	for _, old := range w {
		if old.value > 0 && (old.value < c.value || old.left > c.left) {
			w[n] = old
			n++
		}
	}
	if n == len(w) {
		panic("the window is full")
	}
	clear(w[n:])
	for ; n > 0 && w[n-1].value > c.value; n-- {
		w[n] = w[n-1]
	}
	w[n] = c
}

// pass lets time pass: by rate on the clock that the values are kept by, and by counted in what they say.
func (w window) pass(rate, counted int8) {
	n := 0
	for _, c := range w {
		if c.value > 0 && c.left >= rate {
			w[n] = counting{c.value + counted, c.left - rate}
			n++
		}
	}
	clear(w[n:])
}
