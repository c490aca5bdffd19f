package edge

import (
	"bytes"
	"encoding/hex"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"machineid/shared/wire"
)

// proxy passes calls on to the node that leads. It never forwards the bytes of a
// request's head: it builds a new request from the shared route, named headers
// and the exact body (docs/api.md).
type proxy struct {
	e     *Edge
	crowd *wire.Crowd // a batch may hold its connection for as long as the authority needs

	mu       sync.Mutex
	upstream *upstream     // nil before the first session
	changed  chan struct{} // closed and replaced with each session
	left     map[*wire.Hop]*time.Timer
}

type upstream struct {
	hop   *wire.Hop
	token string // proves that the request comes from an edge
}

const (
	// answerSlack is how much later than a request's own time its answer may come: a change waits 1 s longer for the edges.
	answerSlack = 1500 * time.Millisecond
	// decisionBudget is what an operator's validate has; a tenth of its second is for the answer's way.
	decisionBudget = 900 * time.Millisecond
	// maxConns is the most connections to the authority, if the process may have as many descriptors.
	maxConns = 4096
	// nextWait is how long a call that got no answer, and may be sent again, waits for the link to name a node. It is sent again at most againMost times.
	nextWait  = time.Second
	againMost = 3
	// leftTime is what calls under way still get from a node when the link has gone to another: that one may hang, and answer nothing any more.
	leftTime = 2 * time.Second
	// crowdWait is how long a call waits for its party's others.
	crowdWait = time.Second
)

func newProxy(e *Edge) *proxy {
	return &proxy{e: e, crowd: wire.NewCrowd(e.cfg.ProxyConns, crowdWait), changed: make(chan struct{}), left: map[*wire.Hop]*time.Timer{}}
}

// use makes a session's node the one that calls go to.
func (p *proxy) use(addr, token string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.changed)
	p.changed = make(chan struct{})
	if p.upstream != nil {
		if p.upstream.hop.Addr() == addr {
			p.upstream = &upstream{p.upstream.hop, token}
			return
		}
		p.leave(p.upstream.hop)
	}
	p.upstream = &upstream{wire.NewHop(addr, wire.HopOptions{Dial: p.e.cfg.Dial, MaxConns: p.e.cfg.ProxyConns, Answer: wire.DefaultBudget + answerSlack}), token}
}

// lost tells that a session has ended: whoever is at the node's address next may be another
// process, or its host another one, and know nothing of the connections that are idle.
func (p *proxy) lost() {
	if up, _ := p.current(); up != nil {
		up.hop.Drop()
	}
}

// leave ends what is under way with a node, a little later. p.mu is held.
func (p *proxy) leave(hop *wire.Hop) {
	hop.Drop()
	p.left[hop] = time.AfterFunc(leftTime, func() {
		hop.Break()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.left, hop)
	})
}

func (p *proxy) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for hop, t := range p.left {
		t.Stop()
		hop.Drop()
	}
	if p.upstream != nil {
		p.upstream.hop.Drop()
	}
}

// current is the node that calls go to, and what tells of the next session.
func (p *proxy) current() (up *upstream, changed <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.upstream, p.changed
}

// pass forwards one call and its answer.
func (p *proxy) pass(ctx *fasthttp.RequestCtx, r *wire.Request) {
	if up, _ := p.current(); up == nil {
		r.Error(ctx, wire.SystemUnavailable(wire.OutcomeNotDone, 1))
		return
	}
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	wire.Pass(req, ctx, r)
	from := p.e.clientAddress(ctx)
	call, met, limit := p.e.limits.call(ctx, r, from)
	if met.wait != 0 {
		p.e.metrics.limited[limit].Inc()
		r.Error(ctx, wire.RateLimited(met.retryAfter()))
		return
	}
	defer call.settle(p.e.clock.Now(), false) // where no answer tells
	who, _ := p.e.whose(ctx, r)
	if !p.crowd.EnterWithin(who, leftOf(r)) {
		p.e.metrics.proxyErrors.Inc()
		r.Error(ctx, wire.Crowded())
		return
	}
	defer p.crowd.Leave(who)
	req.Header.Set(wire.ClientHeader, from.String())
	if outcome := p.send(ctx, r, req, resp); outcome != "" {
		p.e.metrics.proxyErrors.Inc()
		r.Error(ctx, wire.SystemUnavailable(outcome, 1))
		return
	}
	status := resp.StatusCode()
	if r.Route.Validate && bytes.Contains(resp.Body(), []byte(`"code":"INVALID_ORG_KEY"`)) {
		status = fasthttp.StatusUnauthorized // an operator's token that is wrong: else validate would tell of any number of them
	}
	p.e.limits.answered(&call, status, resp.Body(), keyOrg(resp))
}

// keyOrg is whose key a call came with, as its answer says; zero where it does not: of a token, and of an authority of before.
func keyOrg(resp *fasthttp.Response) (org orgID) {
	if v := resp.Header.Peek(wire.KeyOrgHeader); len(v) == hex.EncodedLen(len(org)) {
		if _, err := hex.Decode(org[:], v); err != nil {
			return orgID{}
		}
	}
	return org
}

// timeOf is what a call has in all.
func timeOf(r *wire.Request) time.Duration {
	if r.Route.Validate || r.Route.Decides {
		return decisionBudget
	}
	return wire.DefaultBudget
}

// leftOf is what a call has left of that, since all of it was there; it may be less than nothing. How long a body may take to come is the server's affair.
func leftOf(r *wire.Request) time.Duration { return timeOf(r) - time.Since(r.Whole) }

// send sends a request and relays the answer, or tells what became of it. What was
// certainly not carried out, and what may be carried out twice, is sent again: at the
// node that the link names meanwhile, or over another connection.
func (p *proxy) send(ctx *fasthttp.RequestCtx, r *wire.Request, req *fasthttp.Request, resp *fasthttp.Response) (outcome string) {
	slack := answerSlack
	if timeOf(r) == decisionBudget {
		slack = 0
	}
	doubt := false // it may have been carried out by an attempt that got no answer
	for tried := 1; ; tried++ {
		up, changed := p.current()
		left := leftOf(r)
		if left <= 0 { // fasthttp takes it for no bound
			return pick(doubt, wire.OutcomeUnknown, wire.OutcomeNotDone)
		}
		req.SetHost(up.hop.Addr())
		req.SetTimeout(left + slack)
		req.Header.Set(wire.EdgeHeader, up.token)
		req.Header.SetBytesV(wire.BudgetHeader, wire.AppendBudget(nil, left))
		err := up.hop.Do(req, resp)
		if err == nil && (!doubt || settles(resp)) && wire.Relay(ctx, resp, r) {
			return ""
		}
		doubt = doubt || wire.PassOutcome(err, ctx.IsGet()) == wire.OutcomeUnknown
		outcome = pick(doubt, wire.OutcomeUnknown, wire.OutcomeNotDone)
		left = leftOf(r)
		if tried > againMost || !wire.Again(err, r.Repeats(ctx)) || !again(err, changed, left) {
			return outcome
		}
	}
}

// settles tells whether an answer to what was sent once more says what became of the first time: a success, or what is remembered of it.
func settles(resp *fasthttp.Response) bool {
	return resp.StatusCode()/100 == 2 || len(resp.Header.Peek("Idempotency-Replayed")) > 0
}

// again reports whether to send again, once it is time: what left when the link names a
// node, the same or another. A node that hangs up for no such reason is not asked twice.
func again(err error, changed <-chan struct{}, left time.Duration) bool {
	if wire.Unsent(err) {
		return true
	}
	t := time.NewTimer(min(left, nextWait))
	defer t.Stop()
	select {
	case <-changed:
		return true
	case <-t.C:
		return false
	}
}
