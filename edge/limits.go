package edge

import (
	"crypto/sha256"
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"machineid/shared/budget"
	"machineid/shared/clock"
	"machineid/shared/orgkey"
	"machineid/shared/wire"
)

// Limits of an edge. 0 is no limit. What memory answers is never limited.
type Limits struct {
	Changes            int // Changes a second, by key.
	Reads              int // Reads passed on to the authority a second, by key.
	FailedKeys         int // FailedKeys are calls passed on whose key or token failed, a second, by address.
	Signups            int // Signups are calls of org/create a minute, by address.
	Recoveries         int // Recoveries are calls of org/recover and org/recover/confirm a minute, by address.
	Webhooks           int // Webhooks that are not signed as they must be, a second, by address.
	UnknownKeys        int // UnknownKeys that the authority is asked about, a second.
	UnknownKeysAddress int // UnknownKeysAddress is the same by address.
	UnknownDevices     int // UnknownDevices that the authority is asked about, a second, by key.
}

// DefaultLimits are those of `machineid edge`.
func DefaultLimits() Limits {
	return Limits{Changes: 200, Reads: 200, FailedKeys: 20, Signups: 10, Recoveries: 10, Webhooks: 50, UnknownKeys: 200, UnknownKeysAddress: 20, UnknownDevices: 1000}
}

// limits are the budgets of an edge. Safe for concurrent use.
type limits struct {
	clock clock.Clock
	seed  maphash.Seed // so that nobody can choose with whom to share a place

	changes, reads, unknownKeys, unknownDevices                   *budget.Table
	failedKeys, signups, recoveries, webhooks, unknownKeysAddress budget.Addresses
	// Places to wait in for room that others hold (place).
	keysWait        *budget.Table
	keysWaitAddress budget.Addresses

	// proven holds keys and tokens that were good when the authority was asked
	// last. They need no budget of those that may be unknown, so a flood takes
	// nothing from them.
	proven [provenMost]atomic.Pointer[proof]
}

const (
	provenMost = 1 << 17 // a MiB of places, beside 32 bytes for each that is taken
	provenSet  = 4       // places that a credential may take
)

// proof is a credential that was good. It never changes.
type proof struct {
	sign uint64 // its first bytes
	org  orgID  // whose key it is; zero of a token, and where the authority does not say it
}

// Of the validates that may wait (maxWaiting), so many may wait for others' keys to be answered, in all and of one address.
const (
	keysWaitMost        = maxWaiting / 4
	keysWaitAddressMost = keysWaitMost / 4
)

// cleanAddress is how many times its burst more an address that has wasted nothing may ask about at once. By default what it can waste so is less
// than the edge's own burst: it does not empty that for others.
const cleanAddress = 7

func newLimits(l Limits, c clock.Clock) *limits {
	n := &limits{
		clock: c, seed: maphash.MakeSeed(),
		changes:            budget.New(l.Changes, time.Second, budget.Sets),
		reads:              budget.New(l.Reads, time.Second, budget.Sets),
		failedKeys:         budget.ByAddress(l.FailedKeys, time.Second),
		signups:            budget.ByAddress(l.Signups, time.Minute),
		recoveries:         budget.ByAddress(l.Recoveries, time.Minute),
		webhooks:           budget.ByAddress(l.Webhooks, time.Second),
		unknownKeys:        budget.New(l.UnknownKeys, time.Second, 1),
		unknownKeysAddress: budget.ByAddress(l.UnknownKeysAddress, time.Second),
		unknownDevices:     budget.New(l.UnknownDevices, time.Second, budget.Sets),
		keysWait:           budget.New(keysWaitMost, time.Second, 1),
		keysWaitAddress:    budget.ByAddress(keysWaitAddressMost, time.Second),
	}
	n.unknownKeysAddress.Clean(cleanAddress)
	return n
}

// credential is what a call shows: the hash of its key, or of an operator's token.
type credential = orgkey.Hash

func (l *limits) tag(c *credential) uint64 { return maphash.Bytes(l.seed, c[:]) | 1 }

// places are those in which a credential may stand.
func (l *limits) places(c *credential) (places []atomic.Pointer[proof], sign uint64) {
	at := binary.LittleEndian.Uint64(c[8:]) % (provenMost / provenSet) * provenSet
	return l.proven[at : at+provenSet], binary.LittleEndian.Uint64(c[:])
}

// proof is that of a credential, nil if it has none.
func (l *limits) proof(c *credential) *proof {
	places, sign := l.places(c)
	for i := range places {
		if p := places[i].Load(); p != nil && p.sign == sign {
			return p
		}
	}
	return nil
}

func (l *limits) isProven(c *credential) bool { return l.proof(c) != nil }

// prove notes what the authority said of a credential, and whose key it is, if it said that. A key never goes to another org.
func (l *limits) prove(c *credential, good bool, org orgID) {
	places, sign := l.places(c)
	known, free := false, int(sign%provenSet) // whose place is taken if none is free
	for i := range places {
		was := places[i].Load()
		switch {
		case was == nil:
			free = i
		case was.sign != sign:
		case !good:
			places[i].CompareAndSwap(was, nil)
		default:
			if known = true; was.org == (orgID{}) && org != (orgID{}) {
				places[i].CompareAndSwap(was, &proof{sign, org})
			}
		}
	}
	if good && !known {
		places[free].Store(&proof{sign, org})
	}
}

// held is what waits to be settled: one use of up to two budgets, the first of which may be an address's.
type held struct {
	of   *budget.Table
	tag  uint64
	by   budget.Addresses
	from netip.Addr // whose use of by is held, if it is valid
}

func (h *held) add(b *budget.Table, tag uint64, now clock.Time) (wait time.Duration, onlyHeld bool) {
	if wait, onlyHeld = b.Hold(tag, now); wait == 0 {
		h.of, h.tag = b, tag
	}
	return wait, onlyHeld
}

func (h *held) address(b budget.Addresses, from netip.Addr, now clock.Time) (wait time.Duration, onlyHeld bool) {
	if wait, onlyHeld = b.Hold(from, now); wait == 0 {
		h.by, h.from = b, from
	}
	return wait, onlyHeld
}

// settle ends the holds: used up, or given back. The second time does nothing.
func (h *held) settle(now clock.Time, spend bool) {
	h.of.Settle(h.tag, now, spend)
	if h.from.IsValid() {
		h.by.Settle(h.from, now, spend)
	}
	*h = held{}
}

// over says that a limit was met.
type over struct {
	wait time.Duration // how long it will take, at least; 0: the limit was not met
	// soon tells that room is only held: it may come at any time, so who asks can wait
	// for it.
	soon bool
}

// retryAfter in whole seconds, at least 1.
func (o over) retryAfter() int { return max(int((o.wait+time.Second-1)/time.Second), 1) }

// flight takes room for a fetch of what the authority may not know. Where room is
// only held, by what may yet turn out to exist, it may be waited for; where it is
// spent it is not.
func (l *limits) flight(n need, q *question, now clock.Time) (h held, o over) {
	switch {
	case l == nil || n.kind == needOrg:
	case n.kind == needKey && !l.isProven(&q.sum):
		if o.wait, o.soon = h.address(l.unknownKeysAddress, q.from, now); o.wait == 0 {
			if o.wait, o.soon = h.add(l.unknownKeys, 1, now); o.wait != 0 {
				h.settle(now, false)
			}
		}
	case n.kind == needDevice && !q.familiar:
		o.wait, o.soon = h.add(l.unknownDevices, l.tag(&q.sum), now)
	}
	return h, o
}

// place takes one to wait in for room that others hold, unless the question has it
// already. Devices are of a key that is known, and need none. For keys there are few,
// and few for one address: a flood of them leaves the rest of the places to those who
// are known (I9).
func (l *limits) place(n need, q *question, h *held, now clock.Time) bool {
	if n.kind != needKey || h.of != nil || h.from.IsValid() {
		return true
	}
	if wait, _ := h.address(l.keysWaitAddress, q.from, now); wait != 0 {
		return false
	}
	if wait, _ := h.add(l.keysWait, 1, now); wait != 0 {
		h.settle(now, false)
		return false
	}
	return true
}

// landed settles what a flight held: it is free if what was asked for exists. got
// is nil if nothing was learnt.
func (l *limits) landed(fl *flight, got *found) {
	if l == nil {
		return
	}
	exists := got != nil && got.device != nil && got.device.known
	if fl.key.kind == needKey {
		exists = got != nil && got.key != nil && got.key.rec.Known
		if got != nil && got.key != nil {
			l.prove(&got.key.sum, exists, got.key.org)
		}
	}
	fl.held.settle(l.clock.Now(), !exists)
}

// pass is a call on its way to the authority.
type pass struct {
	held

	route  *wire.Route
	shown  credential
	judged bool // something was shown that the authority judges
	// operator tells that it was a token, which is judged before the org is looked for.
	operator bool
}

// shows is what a call shows that the authority, or the memory, judges before all else, and whether that is an operator's token; ok is false if there is nothing:
// what comes with anybody's call may be anything.
func shows(r *wire.Request) (shown credential, operator, ok bool) {
	if r.Route.Proves == wire.ProvesNothing && !r.Route.Validate && !r.Route.Decides {
		return shown, false, false
	}
	sum, err := r.OrgKey()
	switch {
	case !r.Route.Operator && err == nil:
		return sum, false, true
	case r.Route.Operator, r.Operated():
		// The token counts where the authority looks at it, and nowhere else: beside a key it
		// may be anything, and each would have a budget of its own.
		return sha256.Sum256(r.Head.Authorization), true, true
	}
	return shown, false, false
}

// strangers is the budget of those who have shown nothing that was good before: of their addresses. always says that each call is a use, else those are that fail.
func (l *limits) strangers(route *wire.Route) (b budget.Addresses, name string, always bool) {
	switch route.Path {
	case "org/create":
		return l.signups, "signups", true
	case "org/recover", "org/recover/confirm":
		return l.recoveries, "recoveries", true
	case "webhooks/stripe": // all come from a few addresses
		return l.webhooks, "webhooks", false
	}
	return l.failedKeys, "failed_keys", false
}

// call takes room for a call that is passed on, or names the limit that was met.
func (l *limits) call(ctx *fasthttp.RequestCtx, r *wire.Request, from netip.Addr) (p pass, o over, name string) {
	now := l.clock.Now()
	p.route = r.Route
	p.shown, p.operator, p.judged = shows(r)
	if !p.judged || !l.isProven(&p.shown) {
		b, name, always := l.strangers(r.Route)
		if o.wait, _ = p.address(b, from, now); o.wait != 0 {
			return p, o, name
		}
		if always {
			p.settle(now, true)
		}
	}
	switch {
	case p.judged && !ctx.IsGet():
		o.wait, name = l.changes.Take(l.tag(&p.shown), now), "changes"
	case p.judged:
		o.wait, name = l.reads.Take(l.tag(&p.shown), now), "reads"
	}
	if o.wait != 0 {
		p.settle(now, false)
	}
	return p, o, name
}

// answered settles a call by its answer. Without one it is free, and so is what fails for other reasons than its credential: nothing was said of that.
func (l *limits) answered(p *pass, status int, body []byte, org orgID) {
	failed := status/100 != 2 // of a call that shows nothing which could be judged
	if p.judged {
		said := p.route.Judges(status, body, p.operator)
		if said != wire.Unjudged {
			l.prove(&p.shown, said == wire.Good, org)
		}
		failed = said == wire.Bad || said == wire.Unjudged && status/100 == 4 && status != fasthttp.StatusTooManyRequests
	}
	p.settle(l.clock.Now(), failed)
}

// limitNames are the values of the label `limit`.
var limitNames = []string{"changes", "reads", "failed_keys", "signups", "recoveries", "webhooks", "unknown_keys", "unknown_devices"}

func limitCounters(v *prometheus.CounterVec) map[string]prometheus.Counter {
	m := map[string]prometheus.Counter{}
	for _, name := range limitNames {
		m[name] = v.WithLabelValues(name)
	}
	return m
}
