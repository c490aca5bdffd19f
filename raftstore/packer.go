package raftstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
// becomes the next pack, so packs grow with load by themselves. Large commands have a queue of their own, and a pack begins with one at most.
//
// A proposal belongs to its caller until the packer takes it from the queue, and to the packer until it is answered; state says
// which and is guarded by mu. The bytes of a taken one are copied under copyMu, so that a caller who gives up can wait for the
// copy before it reuses them.
type packer struct {
	raft      applier
	maxBytes  int
	fault     *fault
	metrics   *storeMetrics
	wake      chan struct{} // capacity 1: there may be something to send
	done      chan struct{} // closed when the sending goroutine ended
	abandoned chan struct{} // closed when unanswered proposals will get no answer any more

	copyMu sync.Mutex

	mu       sync.Mutex
	queue    []*proposal
	large    []*proposal // likewise, of which one is under way at a time
	resting  bool        // one is, or was just now
	bytes    int         // of all proposals not answered yet, with overhead
	inFlight int
	closed   bool
	drained  chan struct{} // made by drain, closed when nothing is in flight
}

type proposalState uint8

const (
	proposalQueued proposalState = iota
	proposalTaken
	proposalCancelled
)

type proposal struct {
	ctx    context.Context //nolint:containedctx // asked once more, when the packer takes the command
	cmd    []byte
	large  bool
	state  proposalState
	answer chan answer // capacity 1
}

type answer struct {
	result Result
	err    error
}

func newPacker(r applier, maxBytes int, f *fault, m *storeMetrics) *packer {
	return &packer{
		raft: r, maxBytes: maxBytes, fault: f, metrics: m,
		wake: make(chan struct{}, 1), done: make(chan struct{}), abandoned: make(chan struct{}),
	}
}

func cost(cmd []byte) int { return len(cmd) + proposalOverhead }

func (p *packer) propose(ctx context.Context, cmd []byte, large bool) (Result, error) {
	if err := ctx.Err(); err != nil {
		return Result{}, fmt.Errorf("not sent: %w", context.Cause(ctx))
	}
	pr := &proposal{ctx: ctx, cmd: cmd, large: large, answer: make(chan answer, 1)}
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
	switch {
	case p.closed:
		return ErrClosed
	case p.bytes+cost(pr.cmd) > p.maxBytes:
		p.metrics.refused()
		return fmt.Errorf("%w: %d bytes of at most %d", ErrOverloaded, p.bytes, p.maxBytes)
	}
	p.bytes += cost(pr.cmd)
	if pr.large {
		p.large = append(p.large, pr)
	} else {
		p.queue = append(p.queue, pr)
	}
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
		p.bytes -= cost(pr.cmd)
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
// were queued, large ones and others each for themselves.
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

// take removes the next pack from the queue. If there is one, copyMu is held on return, and encode releases it.
func (p *packer) take() (pack []*proposal, bytes int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.inFlight >= entriesInFlight || p.closed {
		return nil, 0
	}
	if !p.resting { // first, or a stream of others would keep it out
		p.large, pack, bytes = taken(p.large, nil, 0, 1)
		p.resting = len(pack) > 0
	}
	p.queue, pack, bytes = taken(p.queue, pack, bytes, MaxPackCommands)
	if len(pack) > 0 {
		p.inFlight++
		p.copyMu.Lock()
	}
	return pack, bytes
}

// taken moves what fits from the beginning of a queue into a pack.
func taken(queue, pack []*proposal, bytes, most int) (left, full []*proposal, size int) {
	seen := 0
	for _, pr := range queue {
		// One whose ctx is done stays out: its caller gives up, or did, and giveUp gives its bytes back.
		if pr.state == proposalQueued && pr.ctx.Err() == nil {
			if len(pack) == most || bytes+len(pr.cmd) > MaxPackBytes {
				break
			}
			pr.state = proposalTaken
			bytes += len(pr.cmd)
			pack = append(pack, pr)
		}
		seen++
	}
	clear(queue[:seen])
	if queue = queue[seen:]; len(queue) == 0 {
		queue = nil // let the array go
	}
	return queue, pack, bytes
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
	bytes := 0
	for i, pr := range pack {
		bytes += cost(pr.cmd)
		a := answer{err: err}
		if err == nil {
			a.result = Result{Position: out.at, Outcome: out.outcomes[i]}
		}
		pr.answer <- a
	}
	p.metrics.answered(len(pack), began, err)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bytes -= bytes
	p.inFlight--
	if pack[0].large {
		p.rest(time.Since(began), len(pack) > 1 || len(p.queue) > 0 || p.inFlight > 0)
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
	for _, pr := range slices.Concat(p.large, p.queue) {
		if pr.state == proposalQueued {
			pr.state = proposalCancelled
			p.bytes -= cost(pr.cmd)
			pr.answer <- answer{err: fmt.Errorf("not sent: %w", ErrClosed)}
		}
	}
	p.queue, p.large = nil, nil
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
