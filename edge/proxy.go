package edge

import (
	"errors"
	"net"
	"net/url"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"machineid/shared/orgkey"
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
	p.upstream = &upstream{token: token, client: &fasthttp.HostClient{
		Addr: addr, MaxConns: maxConns, MaxIdleConnDuration: idleTime, ReadTimeout: answerTime, WriteTimeout: answerTime,
		MaxConnWaitTimeout: time.Second, MaxIdemponentCallAttempts: 1, NoDefaultUserAgentHeader: true,
		DisablePathNormalizing: true, MaxResponseBodySize: 64 << 20,
	}}
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
	if e := build(req, ctx, r); e != nil {
		r.Error(ctx, e)
		return
	}
	req.SetHost(up.client.Addr)
	req.Header.Set(wire.EdgeHeader, up.token)
	req.Header.Set(wire.ClientHeader, clientAddress(ctx))
	req.Header.SetBytesV(wire.BudgetHeader, wire.AppendBudget(nil, wire.DefaultBudget-time.Since(ctx.Time())))
	if err := up.client.Do(req, resp); err != nil {
		p.e.metrics.proxyErrors.Inc()
		r.Error(ctx, wire.SystemUnavailable(outcomeOf(err, ctx.IsGet()), 1))
		return
	}
	if string(resp.Header.ContentType()) != "application/json" {
		// Something else answered at the authority's address.
		r.Error(ctx, wire.SystemUnavailable(outcomeOf(nil, ctx.IsGet()), 1))
		return
	}
	relay(ctx, resp, r)
}

// build makes the request that is forwarded.
func build(req *fasthttp.Request, ctx *fasthttp.RequestCtx, r *wire.Request) *wire.Error {
	uri := wire.Base + r.Route.Path
	if ctx.IsGet() {
		query, e := canonical(r)
		if e != nil {
			return e
		}
		if query != "" {
			uri += "?" + query
		}
	} else {
		req.SetBodyRaw(ctx.Request.Body())
	}
	req.SetRequestURI(uri)
	req.Header.SetMethodBytes(ctx.Method())
	req.Header.SetBytesV("X-Request-Id", r.ID)
	for name, value := range map[string][]byte{
		"x-org-key": r.Head.OrgKey, "Authorization": r.Head.Authorization, "X-MachineID-Org": r.Head.Operated,
		"Idempotency-Key": r.Head.IdempotencyKey, "MachineID-Version": r.Head.Version, "Prefer": r.Head.Prefer,
	} {
		if value != nil {
			req.Header.SetBytesV(name, value)
		}
	}
	return nil
}

// canonical writes the query anew, from the names that the route knows. A query
// that cannot be read is refused here, in the place that the order of checks
// gives it: behind the key.
func canonical(r *wire.Request) (string, *wire.Error) {
	q, err := wire.ParseQuery(r.Query)
	if err != nil {
		if len(wire.Trim(r.Head.OrgKey)) == 0 {
			return "", wire.MissingOrgKey()
		}
		if err := orgkey.Check(wire.Trim(r.Head.OrgKey)); err != nil {
			return "", wire.InvalidOrgKey(err)
		}
		return "", wire.MissingParams("query", err.Error())
	}
	values := url.Values{}
	for _, name := range r.Route.Query {
		if v, ok := q.Get(name); ok {
			values.Set(name, string(v))
		}
	}
	return values.Encode(), nil
}

// relay copies an answer: its body and the headers that the API has.
func relay(ctx *fasthttp.RequestCtx, resp *fasthttp.Response, r *wire.Request) {
	h := &ctx.Response.Header
	h.SetStatusCode(resp.StatusCode())
	for _, name := range []string{"Content-Type", "Cache-Control", "Retry-After", "Allow", "X-Cache", "Idempotency-Replayed", "Preference-Applied"} {
		if v := resp.Header.Peek(name); len(v) > 0 {
			h.SetBytesV(name, v)
		}
	}
	h.SetBytesV("X-Request-Id", r.ID)
	ctx.Response.SetBody(resp.Body())
}

// outcomeOf says what became of a call that got no answer.
func outcomeOf(err error, reads bool) string {
	var op *net.OpError
	switch {
	case reads,
		errors.Is(err, fasthttp.ErrNoFreeConns),
		errors.Is(err, fasthttp.ErrDialTimeout),
		errors.As(err, &op) && op.Op == "dial":
		return wire.OutcomeNotDone
	}
	return wire.OutcomeUnknown
}

// clientAddress is who asked, without the port.
func clientAddress(ctx *fasthttp.RequestCtx) string { return ctx.RemoteIP().String() }
