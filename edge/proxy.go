package edge

import (
	"context"
	"net"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"machineid/shared/wire"
)

// proxy passes calls on to the node that leads. It never forwards the bytes of a
// request's head: it builds a new request from the shared route, named headers
// and the exact body (docs/api.md).
type proxy struct {
	e *Edge

	mu       sync.Mutex
	upstream *upstream // nil before the first session
}

type upstream struct {
	client *fasthttp.HostClient
	token  string // proves that the request comes from an edge
}

// Times of the proxy. A change may wait 9 s for the edges, so its answer may
// take a little longer; connections end here before the authority ends them, or
// a request would run into the end.
const (
	connectTime = time.Second // the session has just come from there

	answerTime = 9500 * time.Millisecond
	idleTime   = 30 * time.Second
	maxConns   = 4096
)

func newProxy(e *Edge) *proxy { return &proxy{e: e} }

// use makes a session's node the one that calls go to.
func (p *proxy) use(addr, token string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.upstream != nil && p.upstream.client.Addr == addr {
		p.upstream = &upstream{p.upstream.client, token}
		return
	}
	if p.upstream != nil {
		p.upstream.client.CloseIdleConnections()
	}
	client := &fasthttp.HostClient{
		Addr: addr, MaxConns: maxConns, MaxIdleConnDuration: idleTime, ReadTimeout: answerTime, WriteTimeout: answerTime,
		MaxConnWaitTimeout: time.Second, MaxIdemponentCallAttempts: 1, NoDefaultUserAgentHeader: true,
		DisablePathNormalizing: true, MaxResponseBodySize: 64 << 20,
		Dial: func(addr string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(context.Background(), connectTime)
			defer cancel()
			return p.e.cfg.Dial(ctx, addr)
		},
	}
	p.upstream = &upstream{client, token}
}

func (p *proxy) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.upstream != nil {
		p.upstream.client.CloseIdleConnections()
	}
}

func (p *proxy) current() *upstream {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.upstream
}

// pass forwards one call and its answer.
func (p *proxy) pass(ctx *fasthttp.RequestCtx, r *wire.Request) {
	up := p.current()
	if up == nil {
		r.Error(ctx, wire.SystemUnavailable(wire.OutcomeNotDone, 1))
		return
	}
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	if e := wire.Pass(req, ctx, r); e != nil {
		r.Error(ctx, e)
		return
	}
	from := p.e.clientAddress(ctx)
	call, met, limit := p.e.limits.call(ctx, r, from)
	if met.wait != 0 {
		p.e.metrics.limited[limit].Inc()
		r.Error(ctx, wire.RateLimited(met.retryAfter()))
		return
	}
	defer call.settle(p.e.clock.Now(), false) // where no answer tells
	req.SetHost(up.client.Addr)
	req.Header.Set(wire.EdgeHeader, up.token)
	req.Header.Set(wire.ClientHeader, from.String())
	req.Header.SetBytesV(wire.BudgetHeader, wire.AppendBudget(nil, wire.DefaultBudget-time.Since(ctx.Time())))
	if err := up.client.Do(req, resp); err != nil {
		p.e.metrics.proxyErrors.Inc()
		r.Error(ctx, wire.SystemUnavailable(wire.PassOutcome(err, ctx.IsGet()), 1))
		return
	}
	if !wire.Relay(ctx, resp, r) {
		r.Error(ctx, wire.SystemUnavailable(wire.PassOutcome(nil, ctx.IsGet()), 1))
		return
	}
	p.e.limits.answered(&call, resp.StatusCode(), resp.Body())
}
