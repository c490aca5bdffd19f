package wire

import (
	"errors"
	"net"
	"net/url"

	"github.com/valyala/fasthttp"
)

// Pass makes the request that hands r on to another hop: an edge to the authority, a node to the one that leads. No byte of the head
// that came is forwarded, so nothing can be smuggled: it is built from the route, the canonical path, the headers that the API
// reads and the exact body. It judges nothing: whoever answers does, who knows the caller. The caller sets the host, and what it vouches for itself.
func Pass(req *fasthttp.Request, ctx *fasthttp.RequestCtx, r *Request) {
	uri := Base + r.Route.Path
	if r.Route.isPattern() {
		path, _ := SplitTarget(ctx.Request.Header.RequestURI())
		uri = r.Route.with(r.Route.Param(path))
	}
	req.SetRequestURI(uri)
	if ctx.IsGet() {
		req.URI().SetQueryString(canonicalQuery(r))
	} else {
		req.SetBodyRaw(ctx.Request.Body())
	}
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
	for _, name := range r.Route.Headers {
		if values := ctx.Request.Header.PeekAll(name); len(values) == 1 { // what is repeated is none
			req.Header.SetBytesV(name, values[0])
		}
	}
}

// canonicalQuery writes the query anew, from the names that the route knows. One that cannot be read becomes one that nobody can, for the same reason: where the order
// of checks has that fault depends on who asks.
func canonicalQuery(r *Request) string {
	q, err := ParseQuery(r.Query)
	if err != nil {
		return unreadableQuery(err)
	}
	values := url.Values{}
	for _, name := range r.Route.Query {
		if v, ok := q.Get(name); ok {
			values.Set(name, string(v))
		}
	}
	return values.Encode()
}

// Relay copies an answer of the next hop: its body and the headers that the API has. It reports false, and does nothing, if that
// is no answer of the API to this very request: something else answered at its address, or something between repeats an old one. The
// client could not tell, for it gets the id of its own request in the head.
func Relay(ctx *fasthttp.RequestCtx, resp *fasthttp.Response, r *Request) bool {
	if string(resp.Header.ContentType()) != "application/json" || string(resp.Header.Peek("X-Request-Id")) != string(r.ID) || resp.Header.Peek("Age") != nil {
		return false
	}
	h := &ctx.Response.Header
	h.SetStatusCode(resp.StatusCode())
	for _, name := range []string{"Content-Type", "Cache-Control", "Retry-After", "Allow", "WWW-Authenticate", "X-Cache", "Idempotency-Replayed", "Preference-Applied"} {
		if v := resp.Header.Peek(name); len(v) > 0 {
			h.SetBytesV(name, v)
		}
	}
	h.SetBytesV("X-Request-Id", r.ID)
	ctx.Response.SetBody(resp.Body())
	return true
}

// PassOutcome says what became of a request that was handed on and got no answer: err is what the client said, nil for an answer that was none.
func PassOutcome(err error, reads bool) string {
	op, ok := errors.AsType[*net.OpError](err)
	switch {
	case reads,
		Unsent(err),
		errors.Is(err, fasthttp.ErrNoFreeConns),
		errors.Is(err, fasthttp.ErrDialTimeout),
		ok && op.Op == "dial":
		return OutcomeNotDone
	}
	return OutcomeUnknown
}

// Unsent tells that a connection had ended before all of a request had left.
func Unsent(err error) bool { return errors.Is(err, errGone) || errors.Is(err, errUnsent) }

// Again tells whether a request that failed so may be sent again, and whether that may help. repeats says that it may be carried out twice.
func Again(err error, repeats bool) bool {
	return err != nil && !errors.Is(err, fasthttp.ErrNoFreeConns) && PassOutcome(err, repeats) == OutcomeNotDone
}
