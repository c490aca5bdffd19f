package load

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// The operations of storm, in the order of its ops.
const (
	stormOff = iota + 1 // after validate
	stormOn
	stormRevokeAll
	stormRestoreAll
	stormRevoke
	stormRestore
)

// calm is how long a storm lets each state last.
const calm = time.Second

func buildStorm(r *run) (func(context.Context), error) {
	r.lanesFor(func(*lane) func(*worker, time.Duration) {
		return func(w *worker, due time.Duration) {
			w.ask(due, &r.world.Devices[w.pick()], allow, deviceRevoked, orgDisabled)
		}
	}, false)
	s := &storm{run: r, byOrg: map[*Org][]*Device{}}
	for i := range r.world.Devices {
		d := &r.world.Devices[i]
		s.byOrg[d.org] = append(s.byOrg[d.org], d)
	}
	return s.rage, nil
}

// storm switches everything off and on again, all orgs at once.
type storm struct {
	run    *run
	byOrg  map[*Org][]*Device
	single atomic.Bool // the server has no call for all devices of an org
}

// rage goes through its phases until the run ends, and leaves everything on.
func (s *storm) rage(ctx context.Context) {
	r := s.run
	wait := func(d time.Duration) bool {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(d):
			return true
		}
	}
	if !wait(max(r.cfg.Warmup-r.now(), 0) + calm) {
		return
	}
	for {
		for _, phase := range []struct {
			name string
			f    func(*Conn, *Org)
		}{
			{"off", s.off}, {"on", s.on}, {"revoked", s.revokeAll}, {"restored", s.restoreAll},
		} {
			began := r.now()
			s.everywhere(phase.f)
			r.eventf("%d orgs %s in %v", len(r.world.Orgs), phase.name, (r.now() - began).Round(100*time.Microsecond))
			if !wait(calm) {
				return
			}
		}
	}
}

const stormCallers = 16

// everywhere calls f for each org, some at once.
func (s *storm) everywhere(f func(*Conn, *Org)) {
	orgs := s.run.world.Orgs
	var next atomic.Int64
	var wg sync.WaitGroup
	for k := range min(stormCallers, len(orgs)) {
		wg.Go(func() {
			c := newConn(s.run.cfg.Targets[k%len(s.run.cfg.Targets)], s.run.cfg.Timeout, s.run.cfg.NewConnections)
			defer c.Close()
			for i := next.Add(1) - 1; i < int64(len(orgs)) && !s.run.over(); i = next.Add(1) - 1 {
				f(c, orgs[i])
			}
		})
	}
	wg.Wait()
}

// call makes a change of an org and records it. What is not known to be done it makes again some times; doubt is true if that was so for
// any of them.
func (s *storm) call(c *Conn, op int, path, key, body string) (a answer, doubt bool) {
	const tries = 3
	for range tries {
		if s.run.over() {
			return a, doubt
		}
		began := s.run.now()
		a = c.call(http.MethodPost, path, orgKey(key), []byte(body))
		if (op == stormRevokeAll || op == stormRestoreAll) && noSuchCall(a) {
			return a, doubt
		}
		if s.run.measuring(began) {
			s.run.books[0].add(op, s.run.now()-began, a.code, !a.ok(), false)
		}
		if a.ok() {
			break
		}
		doubt = doubt || unknown(a)
	}
	return a, doubt
}

func (s *storm) off(c *Conn, o *Org) {
	if a, _ := s.call(c, stormOff, "org/execution", o.admin, `{"enabled":false}`); a.ok() {
		o.right.gone(s.run.now())
	}
}

func (s *storm) on(c *Conn, o *Org) {
	o.right.unsure()
	if _, doubt := s.call(c, stormOn, "org/execution", o.admin, `{"enabled":true}`); doubt {
		o.right.doubtful(s.run.now())
	}
}

func (s *storm) revokeAll(c *Conn, o *Org) {
	if !s.single.Load() {
		a, _ := s.call(c, stormRevokeAll, "devices/revoke_batch", o.admin, `{"scope":"all_active"}`)
		if a.ok() {
			for _, d := range s.byOrg[o] {
				d.right.gone(s.run.now())
			}
		}
		if !noSuchCall(a) {
			return
		}
		if !s.single.Swap(true) {
			s.run.notef("%s has no revoke_batch (404): devices are revoked and restored one by one", c.to.URL)
		}
	}
	for _, d := range s.byOrg[o] {
		if a, _ := s.call(c, stormRevoke, "devices/revoke", o.admin, string(device(d.id))); a.ok() {
			d.right.gone(s.run.now())
		}
	}
}

func (s *storm) restoreAll(c *Conn, o *Org) {
	for _, d := range s.byOrg[o] {
		d.right.unsure()
	}
	if !s.single.Load() {
		if _, doubt := s.call(c, stormRestoreAll, "devices/unrevoke_batch", o.admin, `{"scope":"all_revoked"}`); doubt {
			for _, d := range s.byOrg[o] {
				d.right.doubtful(s.run.now())
			}
		}
		return
	}
	for _, d := range s.byOrg[o] {
		if _, doubt := s.call(c, stormRestore, "devices/unrevoke", o.admin, string(device(d.id))); doubt {
			d.right.doubtful(s.run.now())
		}
	}
}
