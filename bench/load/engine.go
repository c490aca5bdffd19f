package load

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"machineid/bench/report"
)

// lane is one stream of requests: its own schedule, and the connections that share it. Any of them takes the next that is due, so one slow
// answer delays nobody else's request. What concerns one target is a lane of its own: a target that fails fast must not eat up what is due
// at the others.
type lane struct {
	plan    plan
	closed  bool // requests are due as soon as a connection is free
	workers int
	target  *Target
	op      int // what is not sent is counted as
	gap     *gap
	// arrive makes the request that is due at a time.
	arrive func(w *worker, due time.Duration)

	next  atomic.Int64
	spent atomic.Bool // there is nothing left to ask
}

// worker is one connection of a lane, and what goes with it. It belongs to one goroutine.
type worker struct {
	run   *run
	lane  *lane
	conn  *Conn
	conns []*Conn // to every target, of scenarios that need that
	book  *book
	rng   *rand.Rand
	pick  func() int // the device to ask about

	waiter *waiter
}

// run is one run of a scenario, from its preparation to its report.
type run struct {
	cfg     *Config
	world   *World
	ops     []op
	lanes   []*lane
	books   []*book
	promise promise

	began    time.Time
	deadline time.Duration // when the last request is due
	stopped  atomic.Bool

	mu     sync.Mutex
	totals []*tally
	series []report.Point
	events []report.Event
	notes  []string
}

// op is a kind of request.
type op struct{ name, about string }

// checkTimeout is enough for a validate, which is answered within a second, and short enough for a target that is being killed.
const checkTimeout = 2 * time.Second

// drain is how long requests that are due may still be sent after the end: what a healthy target has not got to is sent, what an overloaded
// one has not is counted.
const drain = time.Second

// now is the run's clock.
func (r *run) now() time.Duration { return time.Since(r.began) }

// over reports whether nothing more shall be sent: what is tried again must not go on for ever.
func (r *run) over() bool { return r.stopped.Load() || r.now() >= r.deadline+drain }

func (r *run) measuring(due time.Duration) bool { return due >= r.cfg.Warmup }

func (r *run) eventf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, report.Event{At: (r.now() - r.cfg.Warmup).Seconds(), Text: fmt.Sprintf(format, args...)})
}

func (r *run) notef(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

// done records a request that was due at a time and is answered now.
func (w *worker) done(op int, due time.Duration, a answer, bad bool) {
	now := w.run.now()
	if !w.run.measuring(due) {
		w.book.warmed()
		return
	}
	w.book.add(op, now-due, a.code, bad, a.cached)
	if w.lane.gap != nil && op == w.lane.op { // what follows from it is another operation
		w.lane.gap.add(now, !bad)
	}
}

// load runs the lanes to their end, or until ctx ends, and background beside them.
func (r *run) load(ctx context.Context, background func(context.Context)) (took time.Duration, err error) {
	r.deadline = r.cfg.Warmup + r.cfg.Duration
	r.totals = make([]*tally, len(r.ops))
	var workers []*worker
	defer func() {
		for _, w := range workers {
			w.close()
		}
	}()
	for _, l := range r.lanes {
		for range l.workers {
			w, err := r.newWorker(l, len(workers))
			if err != nil {
				return 0, err
			}
			workers = append(workers, w)
		}
	}
	r.connect(workers)
	r.began = time.Now()
	for _, l := range r.lanes {
		if l.gap != nil {
			l.gap.last = r.cfg.Warmup
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	halt := context.AfterFunc(ctx, func() {
		r.stopped.Store(true)
		for _, w := range workers {
			w.waiter.wake()
		}
	})
	defer halt()

	var sending, beside sync.WaitGroup
	for _, w := range workers {
		sending.Go(w.work)
	}
	if background != nil {
		beside.Go(func() { background(ctx) })
	}
	ended := make(chan struct{})
	var end time.Duration
	go func() {
		sending.Wait()
		end = r.now()
		close(ended)
	}()
	r.watch(ended)
	interrupted := ctx.Err() != nil
	cancel()
	beside.Wait()
	if !interrupted {
		r.countUnsent(end)
	}
	r.tick(r.now())
	for _, l := range r.lanes {
		if l.gap != nil {
			l.gap.until(min(end, r.deadline))
		}
	}
	// A request that hangs may end long after the last was sent. It is counted, and does not make the measurement longer.
	return max(min(end, r.deadline+drain)-r.cfg.Warmup, 0), nil
}

// connect opens the connections that are to be kept, so that the first requests do not pay for it. One that cannot be opened is left to
// its first request.
func (r *run) connect(workers []*worker) {
	down := map[*Target]bool{}
	for _, w := range workers {
		if t := w.conn.to; !r.cfg.NewConnections && !down[t] {
			down[t] = w.conn.open() != nil
		}
	}
}

func (r *run) newWorker(l *lane, n int) (*worker, error) {
	waiter, err := newWaiter()
	if err != nil {
		return nil, fmt.Errorf("prepare connection %d: %w", n, err)
	}
	w := &worker{
		run: r, lane: l, book: r.books[n%len(r.books)], waiter: waiter,
		rng: rand.New(rand.NewPCG(r.cfg.Seed, uint64(n))),
	}
	if l.target != nil {
		w.conn = newConn(l.target, r.cfg.Timeout, r.cfg.NewConnections)
	} else {
		for _, t := range r.cfg.Targets {
			w.conns = append(w.conns, newConn(t, min(r.cfg.Timeout, checkTimeout), r.cfg.NewConnections))
		}
		w.conn = newConn(r.cfg.Targets[n%len(r.cfg.Targets)], r.cfg.Timeout, r.cfg.NewConnections)
	}
	w.pick = r.cfg.chooser(w.rng, len(r.world.Devices))
	return w, nil
}

func (w *worker) close() {
	w.waiter.close()
	w.conn.Close()
	for _, c := range w.conns {
		c.Close()
	}
}

// work sends what is due, one after the other, until the end.
func (w *worker) work() {
	r, l := w.run, w.lane
	for !r.stopped.Load() && !l.spent.Load() {
		if l.closed {
			due := r.now()
			if due >= r.deadline {
				return
			}
			l.arrive(w, due)
			continue
		}
		now := r.now()
		if now >= r.deadline+drain {
			return
		}
		due := l.plan.due(l.next.Load()) // looked at before it is taken: what nobody takes is counted
		if due >= r.deadline {
			return
		}
		i := l.next.Add(1) - 1
		if due = l.plan.due(i); due >= r.deadline {
			return
		}
		if !w.waiter.sleep(due - now) {
			return
		}
		l.arrive(w, due)
	}
}

// countUnsent counts what was due and never sent, with the time that it had waited when the run ended: a lower bound.
func (r *run) countUnsent(end time.Duration) {
	for _, l := range r.lanes {
		if l.closed || l.spent.Load() {
			continue
		}
		n := int64(0)
		for i, total := l.next.Load(), l.plan.total(); i < total; i++ {
			due := l.plan.due(i)
			if !r.measuring(due) {
				continue
			}
			n++
			r.books[0].add(l.op, end-due, codeNotSent, true, false)
			if l.gap != nil {
				l.gap.add(end, false)
			}
		}
		if n > 0 && l.target != nil {
			r.notef("%d requests that were due at %s were never sent: too few connections, or the target or this machine is overloaded", n, l.target.URL)
		}
	}
}

// watch adds up each second's figures until the load has ended.
func (r *run) watch(ended <-chan struct{}) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.tick(r.now())
		case <-ended:
			return
		}
	}
}

// tick reads the books and adds one second to the series.
func (r *run) tick(now time.Duration) {
	sum := make([]*tally, len(r.ops))
	warm := int64(0)
	for _, b := range r.books {
		warm += b.take(sum)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, t := range sum {
		switch {
		case t == nil:
		case r.totals[i] == nil:
			r.totals[i] = newTally()
			r.totals[i].merge(t)
		default:
			r.totals[i].merge(t)
		}
	}
	at := (now - r.cfg.Warmup).Seconds()
	p := report.Point{At: at, Length: at}
	if n := len(r.series); n > 0 {
		p.Length -= r.series[n-1].At
	}
	if t := sum[0]; t != nil {
		l := report.NewLatency(t.hist)
		p.Count, p.Errors, p.P50, p.P99, p.P999, p.Codes = t.count(), t.failed(), l.P50, l.P99, l.P999, byName(&t.errors)
	}
	if at > 0 {
		r.series = report.Append(r.series, p)
	}
	if r.cfg.Watch != nil {
		r.cfg.Watch(Second{Point: p, Warm: warm, Violations: r.promise.broken.Load(), Left: max(r.deadline-now, 0), Ops: r.sofar()})
	}
}

// sofar returns the operations other than the main one, with their counts until now. r.mu is held.
func (r *run) sofar() (ops []report.Op) {
	for i, t := range r.totals[1:] {
		if t != nil {
			ops = append(ops, report.Op{Name: r.ops[i+1].name, Count: t.count(), Errors: t.failed(), LatencyMs: report.NewLatency(t.hist)})
		}
	}
	return ops
}

// Second is what a live screen shows.
type Second struct {
	report.Point

	Warm       int64 // requests of the warm-up in this second
	Violations int64
	Left       time.Duration
	Ops        []report.Op
}
