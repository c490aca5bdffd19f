package raftstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// proposalOverhead is what a waiting command costs besides its bytes; it bounds how many may wait.
const proposalOverhead = 256

// largeRest is the longest that large commands wait for others' sake: one that took long was itself kept waiting.
const largeRest = 50 * time.Millisecond

// applier is the part of raft that the packer needs.
type applier interface {
	Apply(cmd []byte, timeout time.Duration) raft.ApplyFuture
}

// packer is group commit: it packs the commands that wait together into one Raft entry and keeps a few entries in flight.
// It never waits to fill a pack: a lone command gains nothing by it. While all entries are in flight, what arrives piles up and
// becomes the next pack, so packs grow with load by themselves.
//
// There are three lanes. What leading itself depends on is urgent: it has room of its own, goes ahead of all that waits, and may be in flight
// beside entries of others. Of large commands a pack has one at most, and one is under way at a time. In each lane parties take turns, and the commands of
// one are sent in the order in which they were queued.
//
// A proposal belongs to its caller until the packer takes it from its lane, and to the packer until it is answered; state says
// which and is guarded by mu. One that is given up before leaves the lane at once. The bytes of a taken one are copied under copyMu, so that a caller who gives up can wait for the
// copy before it reuses them.
type packer struct {
	raft      applier
	fault     *fault
	metrics   *storeMetrics
	wake      chan struct{} // capacity 1: there may be something to send
	done      chan struct{} // closed when the sending goroutine ended
	abandoned chan struct{} // closed when unanswered proposals will get no answer any more

	copyMu sync.Mutex

	mu       sync.Mutex
	lanes    [lanes]line
	rooms    [rooms]room
	parties  map[Party]*party // that have room
	resting  bool             // a large command is under way, or was just now
	inFlight int
	closed   bool
	drained  chan struct{} // made by drain, closed when nothing is in flight
}

// room is what proposals take that are not answered yet, with overhead, and may take.
type room struct{ bytes, maxBytes int }

const (
	laneUrgent   = iota // ahead of
	laneLarge           // what changes many records, and
	laneOrdinary        // what else callers propose
	lanes
)

const (
	roomUrgent = iota
	roomOthers
	rooms

	// urgentBytes is how much may be under way in the urgent lane: a few of the largest commands.
	urgentBytes = 4 * (MaxPackBytes + proposalOverhead)
	// urgentInFlight is how many entries may be in flight for one with an urgent command to be sent.
	urgentInFlight = entriesInFlight + 1
)

// roomOf is whose bytes those of a lane are.
func roomOf(lane int) int {
	if lane == laneUrgent {
		return roomUrgent
	}
	return roomOthers
}

type proposalState uint8

const (
	proposalQueued proposalState = iota
	proposalTaken
	proposalCancelled
)

type proposal struct {
	ctx    context.Context
	cmd    []byte
	lane   int
	of     Party
	state  proposalState
	answer chan answer // capacity 1

	party         *party
	before, after *proposal // in the party's queue
}

type answer struct {
	result Result
	err    error
}

func newPacker(r applier, maxBytes int, f *fault, m *storeMetrics) *packer {
	return &packer{
		raft: r, fault: f, metrics: m, rooms: [rooms]room{roomUrgent: {maxBytes: urgentBytes}, roomOthers: {maxBytes: maxBytes}},
		parties: map[Party]*party{}, wake: make(chan struct{}, 1), done: make(chan struct{}), abandoned: make(chan struct{}),
	}
}

func cost(cmd []byte) int { return len(cmd) + proposalOverhead }

func (p *packer) propose(ctx context.Context, cmd []byte, lane int, of Party) (Result, error) {
	if err := ctx.Err(); err != nil {
		return Result{}, fmt.Errorf("not sent: %w", context.Cause(ctx))
	}
	pr := &proposal{ctx: ctx, cmd: cmd, lane: lane, of: of, answer: make(chan answer, 1)}
	if err := p.enqueue(pr); err != nil {
		return Result{}, err
	}
	select {
	case a := <-pr.answer:
		return a.result, a.err
	case <-ctx.Done():
		return p.giveUp(pr, context.Cause(ctx))
	case <-p.abandoned:
		return p.giveUp(pr, ErrClosed)
	case <-p.fault.tripped():
		return p.giveUp(pr, fmt.Errorf("%w: %w", ErrClosed, p.fault.err()))
	}
}

func (p *packer) enqueue(pr *proposal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	if !p.enter(pr) {
		p.metrics.refused()
		r := &p.rooms[roomOf(pr.lane)]
		return fmt.Errorf("%w: %d bytes of at most %d, or half of it for one party", ErrOverloaded, r.bytes, r.maxBytes)
	}
	p.lanes[pr.lane].add(pr)
	p.signal()
	return nil
}

func (p *packer) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// giveUp ends the wait of a proposal that has no answer yet.
func (p *packer) giveUp(pr *proposal, cause error) (Result, error) {
	p.mu.Lock()
	if pr.state == proposalQueued {
		pr.state = proposalCancelled
		p.lanes[pr.lane].remove(pr)
		p.leave(pr)
	}
	if pr.state == proposalCancelled {
		p.mu.Unlock()
		return Result{}, fmt.Errorf("not sent: %w", cause)
	}
	p.mu.Unlock()
	p.copyMu.Lock() // the packer may be copying cmd
	defer p.copyMu.Unlock()
	select {
	case a := <-pr.answer: // it came after all
		return a.result, a.err
	default:
		return Result{}, outcomeUnknown(cause)
	}
}

// run sends packs until close. It is the only goroutine that hands commands to raft, so they enter the log in the order they
// were queued.
func (p *packer) run() {
	defer close(p.done)
	for range p.wake {
		for {
			pack, bytes := p.take()
			if len(pack) == 0 {
				break
			}
			began := p.metrics.now()
			future := p.raft.Apply(p.encode(pack, bytes), 0)
			go p.await(future, pack, began)
		}
		if p.closing() {
			return
		}
	}
}

// take removes the next pack from the lanes. If there is one, copyMu is held on return, and encode releases it.
func (p *packer) take() (pack []*proposal, bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.inFlight >= urgentInFlight {
		return nil, 0
	}
	open := laneUrgent + 1
	if p.inFlight < entriesInFlight {
		open = lanes
	}
	for lane := range open {
		most := MaxPackCommands
		if lane == laneLarge { // ahead of the others, or a stream of those would keep it out
			if p.resting {
				continue
			}
			most = len(pack) + 1
		}
		had := len(pack)
		pack, bytes = p.fill(&p.lanes[lane], pack, bytes, most)
		p.resting = p.resting || lane == laneLarge && len(pack) > had
	}
	if len(pack) > 0 {
		p.inFlight++
		p.copyMu.Lock()
	}
	return pack, bytes
}

// fill moves what fits from a lane into a pack: one command of each party in its turn.
func (p *packer) fill(l *line, pack []*proposal, bytes, most int) ([]*proposal, int) {
	for pr := l.next(); pr != nil && len(pack) < min(most, MaxPackCommands) && bytes+len(pr.cmd) <= MaxPackBytes; pr = l.next() {
		l.take(pr)
		if pr.ctx.Err() != nil { // its caller gives up
			pr.state = proposalCancelled
			p.leave(pr)
			continue
		}
		pr.state = proposalTaken
		bytes += len(pr.cmd)
		pack = append(pack, pr)
	}
	return pack, bytes
}

// encode copies the commands of a pack into the data of an entry, while callers may queue more.
func (p *packer) encode(pack []*proposal, bytes int) []byte {
	defer p.copyMu.Unlock()
	data := appendPackHeader(make([]byte, 0, packSize(len(pack), bytes)), len(pack))
	for _, pr := range pack {
		data = appendPacked(data, pr.cmd)
	}
	p.metrics.packed(len(pack))
	return data
}

// await answers the proposals of one entry. raft forgets some futures at shutdown (issue 498): this goroutine then stays behind,
// but nobody waits for it, because the callers also watch abandoned.
func (p *packer) await(future raft.ApplyFuture, pack []*proposal, began time.Time) {
	err := future.Error()
	var out *packOutcome
	if err == nil {
		out, err = outcomeOf(future.Response(), len(pack))
	} else {
		err = classify(err)
	}
	large := false
	for i, pr := range pack {
		large = large || pr.lane == laneLarge
		a := answer{err: err}
		if err == nil {
			a.result = Result{Position: out.at, Outcome: out.outcomes[i]}
		}
		pr.answer <- a
	}
	p.metrics.answered(len(pack), began, err)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pr := range pack {
		p.leave(pr)
	}
	p.inFlight--
	if large {
		p.rest(time.Since(began), len(pack) > 1 || p.lanes[laneOrdinary].next() != nil || p.inFlight > 0)
	}
	if p.inFlight == 0 && p.drained != nil {
		close(p.drained)
		p.drained = nil
	}
	p.signal()
}

// rest lets the next large command go at once if nobody else is there, and else when the others have had twice the time that this one took. p.mu is held.
func (p *packer) rest(took time.Duration, others bool) {
	if !others {
		p.resting = false
		return
	}
	time.AfterFunc(min(2*took, largeRest), func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.resting = false
		p.signal()
	})
}

func outcomeOf(response any, n int) (*packOutcome, error) {
	out, ok := response.(*packOutcome)
	if !ok || len(out.outcomes) != n {
		return nil, outcomeUnknown(errors.New("the entry was applied without its outcomes"))
	}
	return out, nil
}

// pending is what the commands that have no answer yet take.
func (p *packer) pending() (bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, r := range p.rooms {
		bytes += r.bytes
	}
	return bytes
}

func (p *packer) closing() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

// close refuses new commands and answers those that were not sent yet.
func (p *packer) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.closed = true
	for i := range p.lanes {
		l := &p.lanes[i]
		for pr := l.next(); pr != nil; pr = l.next() {
			pr.state = proposalCancelled
			l.remove(pr)
			p.leave(pr)
			pr.answer <- answer{err: fmt.Errorf("not sent: %w", ErrClosed)}
		}
	}
	p.signal()
}

// drain waits until nothing is in flight. It follows close.
func (p *packer) drain(ctx context.Context) error {
	p.mu.Lock()
	drained := make(chan struct{})
	if p.inFlight == 0 {
		close(drained)
	} else {
		p.drained = drained
	}
	p.mu.Unlock()
	select {
	case <-drained:
		return nil
	case <-p.fault.tripped():
		return nil // Health and Propose tell; there is nothing to wait for
	case <-ctx.Done():
		return fmt.Errorf("wait for the commands under way: %w", context.Cause(ctx))
	}
}

// abandon ends every wait that is left.
func (p *packer) abandon() { close(p.abandoned) }
