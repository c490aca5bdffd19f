package load

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// The operations of revoke, in the order of its ops; those of single targets follow.
const (
	denyAny = iota
	denyLast
	revokeCall
	revokeRestore
	denyAt
)

// settled is how many validates each target gets after a revoke has returned: each of them must be denied.
const settled = 3

func buildRevoke(r *run) (func(context.Context), error) {
	ready := make(chan *Device, len(r.world.Devices))
	for i := range r.world.Devices {
		ready <- &r.world.Devices[i]
	}
	l := &lane{
		workers: min(max(r.cfg.Connections/(len(r.cfg.Targets)+1), 1), len(r.world.Devices)), op: denyAny,
		plan: plan{rate: r.cfg.Rate, warmup: r.cfg.Warmup, length: r.cfg.Duration},
	}
	l.arrive = func(w *worker, due time.Duration) {
		d := <-ready // there are at least as many as workers
		w.revokeRound(due, d)
		ready <- d
	}
	r.lanes = append(r.lanes, l)
	return nil, nil
}

// poll is one target in one round.
type poll struct {
	allowed chan struct{} // closed at the first ALLOW: the target holds the device
	denied  time.Duration // when its first denial came
	answer  answer        // that denial
}

// revokeRound revokes one device while every target is asked about it without a pause, and restores it.
func (w *worker) revokeRound(due time.Duration, d *Device) {
	r := w.run
	var returned, failed atomic.Bool
	polls := make([]poll, len(w.conns))
	var asking sync.WaitGroup
	for i, c := range w.conns {
		p := &polls[i]
		p.allowed = make(chan struct{})
		asking.Go(func() { r.pollUntilDenied(c, d, p, &returned, &failed) })
	}
	for i := range polls {
		select {
		case <-polls[i].allowed:
		case <-time.After(checkTimeout): // it is down, say: the others are measured
		}
	}
	called := r.now()
	a := w.revoke(w.conn, d)
	answered := r.now()
	if a.ok() {
		returned.Store(true)
	} else {
		failed.Store(true)
	}
	asking.Wait()
	if r.measuring(due) {
		w.book.add(revokeCall, answered-called, a.code, !a.ok(), false)
		if a.ok() {
			w.denials(polls, called)
		}
	} else {
		w.book.warmed()
	}
	for !r.over() {
		began := r.now()
		a = w.restore(w.conn, d)
		w.done(revokeRestore, began, a, !a.ok())
		if a.ok() || !w.waiter.sleep(pause) {
			return
		}
	}
}

// denials records when each target denied.
func (w *worker) denials(polls []poll, called time.Duration) {
	last, code, all := time.Duration(0), deviceRevoked, true
	for i := range polls {
		p := &polls[i]
		bad := p.answer.code != deviceRevoked
		w.book.add(denyAny, p.denied-called, p.answer.code, bad, false)
		w.book.add(denyAt+i, p.denied-called, p.answer.code, bad, false)
		last = max(last, p.denied-called)
		if bad {
			code, all = p.answer.code, false
		}
	}
	w.book.add(denyLast, last, code, !all, false)
}

// pollUntilDenied asks one target until it has denied and has been asked some times more after the revoke returned, or the revoke failed.
func (r *run) pollUntilDenied(c *Conn, d *Device, p *poll, returned, failed *atomic.Bool) {
	var once sync.Once
	held := func() { once.Do(func() { close(p.allowed) }) }
	defer held()
	for after := 0; after < settled && !failed.Load(); {
		final := returned.Load()
		b, sent := d.before(), r.now()
		a := c.validate(d.org.agent, d.id)
		r.promise.check(d, b, a, c.to, sent)
		switch {
		case a.allowed:
			held()
		case p.denied == 0:
			select {
			case <-p.allowed: // a denial before the first ALLOW is of the round before
				p.denied, p.answer = r.now(), answer{code: a.code, status: a.status}
			default:
				if final { // it never allowed
					p.denied, p.answer = r.now(), answer{code: a.code, status: a.status}
				}
			}
		}
		if a.status == 0 { // nobody is there: not as fast as the machine can
			time.Sleep(pause)
		}
		if final {
			after++
		}
	}
	if p.denied == 0 {
		p.denied, p.answer = r.now(), answer{code: allow}
	}
}
