package api

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"machineid/authority/state"
	"machineid/shared/wire"
)

// Bounds of long reads.
const (
	// readFree is how many records a call reads at once, half a millisecond's worth. One that needs more begins anew, in turn.
	readFree = 256
	// A turn ends after so many records or so long.
	sliceRecords = 256
	sliceTime    = 500 * time.Microsecond
	// restShare is how many times as long as it was had a turn rests: all long reads together take a third of a core.
	restShare = 2
	// readsOfOne is how many of one org there are, from asking for a turn until the answer has left. One of them reads or is answered; the others wait for it.
	readsOfOne = 4
	// readsOpen is how many have a view open, which keeps old data in memory and on disk.
	readsOpen = 4
	readsAll  = 1024
	// readsUnsent is how many bytes of answers wait to leave before another read begins.
	readsUnsent = 128 << 20
	// restMost is the longest rest: who stood still for longer did not use the processor.
	restMost = 50 * time.Millisecond
	// turnWait is how long a read waits for its first turn.
	turnWait = 2 * time.Second
	// coresATurn is how many cores there are for each turn that can be had at once, at least one.
	coresATurn = 4
)

// errLong says that a call needs more records than it may read at once.
var errLong = errors.New("the read is a long one")

// reader is on whose behalf something is read.
type reader struct {
	org      state.OrgID // zero: about all of them
	operator bool
}

// turns lets long reads go on one slice after the other, so that what they take of the processor is bounded, however many there are:
// fetches, heartbeats, leases and commits share it with them, and Go knows no priorities. Who reads is asked in turn, so that one with much to read makes
// nobody else wait for more than a slice. It is safe for concurrent use.
type turns struct {
	metrics turnMetrics

	mu      sync.Mutex
	free    int // turns that nobody has
	open    int // reads that have had one, and read on
	unsent  int // bytes
	all     int // in lines
	lines   map[reader]*line
	door    []*reading // the first of each line that has not begun
	waiting []*reading // those that have begun, for their next turn
}

// line is the long reads of one reader.
type line struct {
	of     reader
	inside int
	first  *reading // at the door, or further
	behind []*reading
}

// reading is one long read. It belongs to the goroutine of its request, but for the fields that turns guards.
type reading struct {
	t    *turns
	line *line
	turn chan struct{} // told of each turn

	stage   stage // guarded by turns.mu
	size    int   // of the answer, guarded likewise
	began   time.Time
	records int
	failed  error // of the wait for a turn: whoever reads on gets it again
}

// stage is how far a reading is.
type stage uint8

const (
	stageBehind  stage = iota // others of its reader come first
	stageDoor                 // it waits for its first turn
	stageWaiting              // it has begun, and waits for the next
	stageTurn                 // it has one
	stageRead                 // it has read all
	stageLeft
)

func newTurns(reg prometheus.Registerer) *turns {
	return &turns{metrics: newTurnMetrics(reg), free: max(1, runtime.GOMAXPROCS(0)/coresATurn), lines: map[reader]*line{}}
}

// begin waits for a first turn. The reading must be left.
func (t *turns) begin(ctx context.Context, of reader) (*reading, error) {
	rd, cause := t.enter(of)
	if rd == nil {
		t.metrics.refused[cause].Inc()
		return nil, busy()
	}
	wait, cancel := context.WithTimeout(ctx, turnWait)
	defer cancel()
	err := rd.wait(wait)
	if err == nil {
		return rd, nil
	}
	rd.leave()
	if ctx.Err() != nil {
		return nil, &unavailable{outcome: wire.OutcomeNotDone, cause: err}
	}
	t.metrics.refused[refusedLate].Inc()
	return nil, busy()
}

// busy refuses a long read.
func busy() *wire.Error {
	e := wire.RateLimited(retryAfter)
	e.Message = "too many long reads at once: wait for as long as Retry-After says, and send the next when the one before is answered, or ask for smaller pages (limit)"
	return e
}

// enter takes a place in the reader's line. Without one it says why.
func (t *turns) enter(of reader) (rd *reading, refused refusedFor) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.lines[of]
	switch {
	case l != nil && l.inside >= readsOfOne:
		return nil, refusedOwn
	case t.all >= readsAll:
		return nil, refusedAll
	case l == nil:
		l = &line{of: of}
		t.lines[of] = l
	}
	l.inside++
	t.all++
	rd = &reading{t: t, line: l, turn: make(chan struct{}, 1)}
	if l.behind = append(l.behind, rd); l.first == nil {
		t.advance(l)
	}
	t.give()
	return rd, ""
}

// advance has the next of a line wait at the door.
func (t *turns) advance(l *line) {
	l.first = nil
	if len(l.behind) > 0 {
		l.first, l.behind = l.behind[0], l.behind[1:]
		l.first.stage = stageDoor
		t.door = append(t.door, l.first)
	}
}

// give gives the turns that are free.
func (t *turns) give() {
	for len(t.door) > 0 && t.open < readsOpen && t.unsent < readsUnsent {
		t.open++
		t.metrics.begun.Inc()
		t.door[0].stage = stageWaiting
		t.waiting, t.door = append(t.waiting, t.door[0]), t.door[1:]
	}
	for ; t.free > 0 && len(t.waiting) > 0; t.waiting = t.waiting[1:] {
		rd := t.waiting[0]
		t.free--
		rd.stage, rd.began, rd.records = stageTurn, time.Now(), 0
		rd.turn <- struct{}{}
	}
	t.metrics.open.Set(float64(t.open))
	t.metrics.waiting.Set(float64(t.all - t.open))
	t.metrics.unsent.Set(float64(t.unsent))
}

// rest gives a turn back that was had for so long, after its rest.
func (t *turns) rest(had time.Duration) {
	time.AfterFunc(min(restShare*had, restMost), func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.free++
		t.give()
	})
}

func (rd *reading) wait(ctx context.Context) error {
	select {
	case <-rd.turn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// step is called before each record. At the end of a turn it waits for the next.
func (rd *reading) step(ctx context.Context) error {
	const look = 16 // records between looks at the clock
	if rd.failed != nil {
		return rd.failed // the turn is given back
	}
	rd.records++
	if rd.records%look != 0 {
		return nil
	}
	had := time.Since(rd.began)
	if had < sliceTime && rd.records < sliceRecords {
		return nil
	}
	rd.t.mu.Lock()
	rd.stage = stageWaiting
	rd.t.waiting = append(rd.t.waiting, rd)
	rd.t.rest(had)
	rd.t.mu.Unlock()
	rd.failed = rd.wait(ctx)
	return rd.failed
}

// read ends a reading's turns: its view is closed. It may be called again.
func (rd *reading) read() {
	rd.t.mu.Lock()
	defer rd.t.mu.Unlock()
	rd.stop()
	rd.t.give()
}

// stop takes a reading that has begun out of the turns.
func (rd *reading) stop() {
	t := rd.t
	switch rd.stage {
	case stageTurn:
		t.rest(time.Since(rd.began))
	case stageWaiting:
		t.waiting = without(t.waiting, rd)
	case stageBehind, stageDoor, stageRead, stageLeft:
		return
	}
	rd.stage = stageRead
	t.open--
}

// sends tells how long the answer is.
func (rd *reading) sends(size int) {
	rd.t.mu.Lock()
	defer rd.t.mu.Unlock()
	rd.t.unsent += size - rd.size
	rd.size = size
}

// leave gives back all that a reading has: its answer has left, or there is none. It may be called again.
func (rd *reading) leave() {
	t, l := rd.t, rd.line
	t.mu.Lock()
	defer t.mu.Unlock()
	if rd.stage == stageLeft {
		return
	}
	rd.stop()
	rd.stage = stageLeft
	t.door, l.behind = without(t.door, rd), without(l.behind, rd)
	if l.first == rd {
		t.advance(l)
	}
	t.all--
	t.unsent -= rd.size
	if l.inside--; l.inside == 0 {
		delete(t.lines, l.of)
	}
	t.give()
}

func without(list []*reading, rd *reading) []*reading {
	return slices.DeleteFunc(list, func(other *reading) bool { return other == rd })
}
