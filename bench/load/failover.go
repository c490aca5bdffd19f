package load

import (
	"context"
	"time"
)

// The operations of failover, in the order of its ops.
const (
	failChange = iota + 1 // after validate
	failAfter
)

// A tenth of the devices are changed, the others stay allowed, so that what may be answered about them is known.
const changedShare = 10

func buildFailover(r *run) (func(context.Context), error) {
	n := len(r.world.Devices)
	changed := min(max(n/changedShare, 1), n-1)
	stable := r.world.Devices[:n-changed]
	r.lanesFor(func(*lane) func(*worker, time.Duration) {
		return func(w *worker, due time.Duration) {
			w.ask(due, &stable[w.pick()%len(stable)], allow)
		}
	}, true)
	if changed == 0 {
		r.notef("with one device nothing is changed: give --devices 2 or more")
		return nil, nil
	}
	free := make(chan *Device, changed)
	for i := n - changed; i < n; i++ {
		free <- &r.world.Devices[i]
	}
	const callers = 8
	rate := Rate{r.cfg.ChangeRate, r.cfg.ChangeRate}
	l := &lane{
		workers: min(callers, changed), op: failChange, gap: &gap{},
		plan: plan{rate: rate, warmup: r.cfg.Warmup, length: r.cfg.Duration},
	}
	l.arrive = func(w *worker, due time.Duration) {
		d := <-free // there are at least as many as callers
		defer func() { free <- d }()
		w.change(due, d)
	}
	r.lanes = append(r.lanes, l)
	return nil, nil
}

// change revokes a device that runs, or restores one that does not, at the next target.
func (w *worker) change(due time.Duration, d *Device) {
	r := w.run
	n := int(r.world.control.Add(1))
	w.conn.redirect(r.cfg.Targets[n%len(r.cfg.Targets)])
	if d.busy.Load() { // it was revoked
		a := w.restore(w.conn, d)
		w.done(failChange, due, a, !a.ok())
		if a.ok() {
			d.busy.Store(false)
		}
		return
	}
	a := w.revoke(w.conn, d)
	w.done(failChange, due, a, !a.ok())
	if !a.ok() {
		return // also if it was done: it is revoked again next time
	}
	d.busy.Store(true)
	for _, c := range w.conns {
		b, sent := d.before(), r.now()
		a := c.validate(d.org.agent, d.id)
		violated := r.promise.check(d, b, a, c.to, sent)
		w.done(failAfter, sent, a, violated)
	}
}
