package edge

import (
	"math/rand/v2"
	"time"

	"github.com/valyala/fasthttp"

	"machineid/shared/clock"
	"machineid/shared/decision"
	"machineid/shared/wire"
)

var (
	headerXCache = []byte("X-Cache")
	cacheHit     = []byte("hit")
	cacheMiss    = []byte("miss")
)

// validate answers "may I?". On a hit it allocates nothing, a test holds that.
func (e *Edge) validate(ctx *fasthttp.RequestCtx, r *wire.Request) {
	v, code := wire.ParseValidate(ctx)
	if v.Operated { // only the authority can judge an operator's token
		wire.Waits(ctx)
		e.proxy.pass(ctx, r)
		return
	}
	hit := true
	q := question{sum: v.Sum, device: v.DeviceID}
	if code == 0 {
		if code = e.recall(&q, r.Whole); code == 0 {
			hit = false
			wire.Waits(ctx)
			q.from = e.clientAddress(ctx)
			code = e.ask(&q)
		} else if code == decision.SystemUnavailable {
			e.metrics.unreadable.Inc()
		}
	}
	e.metrics.answered(code, hit)
	if !hit || rand.Uint32()%sampleEvery == 0 {
		e.metrics.load.answered(e.memory.Load(), &v.Sum, hit, r.Whole)
	}
	d := wire.Decision{Code: code, RequestID: r.ID, DeviceID: v.DeviceID, Fault: v.Fault}
	if q.over.wait != 0 {
		d.Reason, d.RetryAfter = wire.ReasonRateLimited, q.over.retryAfter()
	}
	wire.WriteDecision(ctx, &d)
	ctx.Response.Header.SetCanonical(headerXCache, pick(hit, cacheHit, cacheMiss))
}

// recall decides from memory, or returns 0. The order of what it reads is I3's:
// clock, lease, memory, entry, its expiry, floor. The floor must come after the
// lease: read before, it may miss an invalidation that was acknowledged under
// the lease that is then read.
//
// whole is when the server had the whole request (wire.Request.Whole), the device's
// id too: earlier than the look at the lease, and not before the question was put.
func (e *Edge) recall(q *question, whole time.Time) decision.Code {
	now := clock.At(e.clock, whole)
	if now >= clock.Time(e.lease.Load()) {
		return 0
	}
	m := e.memory.Load()
	code, _ := m.judge(q, now, e.time.at(now), nil)
	return code
}

// maxWaiting is how many validates may wait at once (I9), half of them for one party (I14).
const maxWaiting = 20_000

// retryFetch is how long a validate waits before it asks again for what the
// authority could not read.
const retryFetch = 25 * time.Millisecond

// triesMax is how often a record is fetched without a pause.
const triesMax = 2

// ask decides with what the authority says, within MaxWait (I9). q.over tells of a
// denial that a limit caused.
func (e *Edge) ask(q *question) decision.Code {
	defer e.waiting.Add(-1)
	if e.waiting.Add(1) > maxWaiting {
		e.metrics.crowded.Inc()
		return decision.SystemUnavailable
	}
	who, _ := e.partyOf(&q.sum, q.from)
	if !e.crowd.Enter(who) {
		e.metrics.crowded.Inc()
		return decision.SystemUnavailable
	}
	defer e.crowd.Leave(who)
	timeout := time.NewTimer(e.cfg.MaxWait)
	defer timeout.Stop()
	var (
		got found
		of  *memory // got is of this memory

		last  need // what was missing
		tries int  // how often it was fetched and is missing still
		place held // among those that wait for room
	)
	defer func() { place.settle(e.clock.Now(), false) }()
	for {
		q.over = over{}
		changed, lostAt := e.awake()
		now := e.clock.Now()
		if now < clock.Time(e.lease.Load()) {
			m := e.memory.Load()
			if m != of {
				got, of = found{}, m
			}
			code, missing := m.judge(q, now, e.time.at(now), &got)
			if code != 0 {
				if code == decision.SystemUnavailable {
					e.metrics.unreadable.Inc()
				}
				return code
			}
			if missing != last {
				last, tries = missing, 0
			}
			// An invalidation may have overtaken the first fetch. Whatever is missing after
			// two is not asked for again at once: an authority that lags behind its own
			// invalidations must not be asked as fast as it answers.
			if tries == triesMax {
				tries--
			} else if f := m.flights.Load().join(missing, q, now); f != nil {
				select {
				case <-f.done:
				case <-timeout.C:
					e.metrics.tooSlow.Inc()
					return decision.SystemUnavailable
				}
				if f.got != nil {
					got.add(f.got)
					tries++
					continue
				}
				// The authority could not read, or the session has ended: not again at once.
			} else if q.over.wait != 0 && (!q.over.soon || !e.limits.place(missing, q, &place, now)) {
				e.metrics.limit(missing.kind)
				return decision.SystemUnavailable
			}
		}
		if lostAt != 0 && now.Sub(lostAt) >= e.cfg.MaxWait {
			e.metrics.noLink.Inc()
			return decision.SystemUnavailable
		}
		select {
		case <-changed:
		case <-time.After(retryFetch):
		case <-timeout.C:
			if q.over.wait != 0 {
				e.metrics.limit(last.kind)
			} else {
				e.metrics.noLink.Inc()
			}
			return decision.SystemUnavailable
		}
	}
}

// add takes what another flight brought.
func (g *found) add(more *found) {
	if more == nil {
		return
	}
	g.key = pick(more.key != nil, more.key, g.key)
	g.org = pick(more.org != nil, more.org, g.org)
	g.device = pick(more.device != nil, more.device, g.device)
}
