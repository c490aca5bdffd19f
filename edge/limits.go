package edge

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

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
	UnknownKeys        int // UnknownKeys that the authority is asked about, a second.
	UnknownKeysAddress int // UnknownKeysAddress is the same by address.
	UnknownDevices     int // UnknownDevices that the authority is asked about, a second, by key.
}

// DefaultLimits are those of `machineid edge`.
func DefaultLimits() Limits {
	return Limits{Changes: 200, Reads: 200, FailedKeys: 20, Signups: 10, UnknownKeys: 200, UnknownKeysAddress: 20, UnknownDevices: 1000}
}

// limits are the budgets of an edge. Safe for concurrent use.
type limits struct {
	clock clock.Clock
	seed  maphash.Seed // so that nobody can choose with whom to share a place

	changes, reads, failedKeys, signups, unknownKeys, unknownKeysAddress, unknownDevices *budgets
	// Places to wait in for room that others hold (place).
	keysWait, keysWaitAddress *budgets

	// proven holds first bytes of keys and tokens that were good when the authority was asked
	// last. They need no budget of those that may be unknown, so a flood takes
	// nothing from them.
	proven [1 << 14]atomic.Uint64
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
		changes:            newBudgets(l.Changes, time.Second, budgetSets),
		reads:              newBudgets(l.Reads, time.Second, budgetSets),
		failedKeys:         newBudgets(l.FailedKeys, time.Second, budgetSets),
		signups:            newBudgets(l.Signups, time.Minute, budgetSets),
		unknownKeys:        newBudgets(l.UnknownKeys, time.Second, 1),
		unknownKeysAddress: newBudgets(l.UnknownKeysAddress, time.Second, budgetSets),
		unknownDevices:     newBudgets(l.UnknownDevices, time.Second, budgetSets),
		keysWait:           newBudgets(keysWaitMost, time.Second, 1),
		keysWaitAddress:    newBudgets(keysWaitAddressMost, time.Second, budgetSets),
	}
	if n.unknownKeysAddress != nil {
		n.unknownKeysAddress.clean = cleanAddress * n.unknownKeysAddress.burst
	}
	return n
}

// credential is what a call shows: the hash of its key, or of an operator's token.
type credential = orgkey.Hash

func (l *limits) addressTag(addr netip.Addr) uint64 {
	return maphash.Comparable(l.seed, limited(addr)) | 1
}
func (l *limits) tag(c *credential) uint64 { return maphash.Bytes(l.seed, c[:]) | 1 }

func (l *limits) slot(c *credential) (slot *atomic.Uint64, sign uint64) {
	at := binary.LittleEndian.Uint64(c[8:])
	return &l.proven[at%uint64(len(l.proven))], binary.LittleEndian.Uint64(c[:]) | 1
}

func (l *limits) isProven(c *credential) bool {
	slot, sign := l.slot(c)
	return slot.Load() == sign
}

// prove notes what the authority said of a credential.
func (l *limits) prove(c *credential, good bool) {
	slot, sign := l.slot(c)
	if good {
		slot.Store(sign)
	} else {
		slot.CompareAndSwap(sign, 0)
	}
}

// held is what waits to be settled: up to two budgets of one use.
type held struct {
	of  [2]*budgets
	tag [2]uint64
}

func (h *held) add(b *budgets, tag uint64, now clock.Time) (wait time.Duration, onlyHeld bool) {
	if b == nil {
		return 0, false
	}
	if wait, onlyHeld = b.hold(tag, now); wait == 0 {
		i := 0
		if h.of[0] != nil {
			i = 1
		}
		h.of[i], h.tag[i] = b, tag
	}
	return wait, onlyHeld
}

// settle ends the holds: used up, or given back. The second time does nothing.
func (h *held) settle(now clock.Time, spend bool) {
	for i, b := range h.of {
		b.settle(h.tag[i], now, spend)
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
		if o.wait, o.soon = h.add(l.unknownKeysAddress, l.addressTag(q.from), now); o.wait == 0 {
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
	if n.kind != needKey || h.of[0] != nil {
		return true
	}
	if wait, _ := h.add(l.keysWaitAddress, l.addressTag(q.from), now); wait != 0 {
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
			l.prove(&got.key.sum, exists)
		}
	}
	fl.held.settle(l.clock.Now(), !exists)
}

// pass is a call on its way to the authority.
type pass struct {
	held
	shown  credential
	proves bool // an answer may tell that what was shown is good
	// operator tells that it was a token, which is judged before the org is looked for.
	operator bool
}

// shows is what a call shows, and whether that is an operator's token; ok is false if it is nothing that could be judged.
func shows(r *wire.Request) (shown credential, operator, ok bool) {
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

// call takes room for a call that is passed on, or names the limit that was met.
func (l *limits) call(ctx *fasthttp.RequestCtx, r *wire.Request, from netip.Addr) (p pass, o over, name string) {
	now := l.clock.Now()
	signup := r.Route.Path == "org/create"
	if shown, operator, ok := shows(r); ok {
		p.shown, p.operator, p.proves = shown, operator, !signup
	}
	webhook := r.Route.Path == "webhooks/stripe" // all come from a few addresses, and show a signature, no key
	if !webhook && (!p.proves || !l.isProven(&p.shown)) {
		if o.wait, _ = p.add(l.failedKeys, l.addressTag(from), now); o.wait != 0 {
			return p, o, "failed_keys"
		}
	}
	switch {
	case signup:
		o.wait, name = l.signups.take(l.addressTag(from), now), "signups"
	case p.proves && !ctx.IsGet():
		o.wait, name = l.changes.take(l.tag(&p.shown), now), "changes"
	case p.proves:
		o.wait, name = l.reads.take(l.tag(&p.shown), now), "reads"
	}
	if o.wait != 0 {
		p.settle(now, false)
	}
	return p, o, name
}

// answered settles a call by its answer. Without one, or with one of 5xx, it is free:
// nothing was said of the key.
func (l *limits) answered(p *pass, status int, body []byte) {
	failed := status/100 == 4
	switch status {
	case fasthttp.StatusForbidden, fasthttp.StatusConflict, fasthttp.StatusTooManyRequests:
		failed = false // judged behind the key
	case fasthttp.StatusNotFound:
		var said struct {
			Error string `json:"error"`
		}
		failed = json.Unmarshal(body, &said) != nil || said.Error == "org_not_found" && !p.operator
	}
	good := !failed && status/100 != 5 && status != fasthttp.StatusTooManyRequests && status != 0
	if p.proves && (good || status == fasthttp.StatusUnauthorized || status == fasthttp.StatusNotFound) {
		l.prove(&p.shown, good)
	}
	p.settle(l.clock.Now(), failed)
}

// limitNames are the values of the label `limit`.
var limitNames = []string{"changes", "reads", "failed_keys", "signups", "unknown_keys", "unknown_devices"}

func limitCounters(v *prometheus.CounterVec) map[string]prometheus.Counter {
	m := map[string]prometheus.Counter{}
	for _, name := range limitNames {
		m[name] = v.WithLabelValues(name)
	}
	return m
}
