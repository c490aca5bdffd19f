package wire

import (
	"sync"

	"github.com/valyala/fasthttp"

	"machineid/shared/orgkey"
)

// Request is what the server found out about a request before it called the handler. It belongs to the handler's call: nothing of
// it may be kept after that, and no other goroutine may use it.
type Request struct {
	Route *Route // Route is nil if no route has the path.
	Head  Head   // Head holds the headers that the API reads. Prefer it to fasthttp's own.
	Query []byte // Query is the raw query string, for ParseQuery.
	ID    []byte // ID is the request id that every answer carries.

	uuid [36]byte
	memo *headMemo
	own  headMemo
}

var requests = sync.Pool{New: func() any { return new(Request) }}

// requestKey is the user value under which a context carries its Request, if it is served without a listener of ours. Else the
// connection does, which saves a hit 80 ns.
type requestKey struct{}

// From returns the Request of a context that a Server of this package serves, else nil.
func From(ctx *fasthttp.RequestCtx) *Request {
	if c, ok := ctx.Conn().(*conn); ok {
		return c.request
	}
	r, _ := ctx.UserValue(requestKey{}).(*Request)
	return r
}

// OrgKey returns the hash of the org key in the head, or orgkey's error if its form is wrong; a key that is missing is
// orgkey.ErrLength.
func (r *Request) OrgKey() (orgkey.Hash, error) { return r.memo.key() }

// Error answers with e for this request's route and id.
func (r *Request) Error(ctx *fasthttp.RequestCtx, e *Error) { WriteError(ctx, r.Route, r.ID, e) }

// JSON answers with a value. See WriteJSON.
func (r *Request) JSON(ctx *fasthttp.RequestCtx, status int, value any) {
	WriteJSON(ctx, status, r.ID, value)
}

// JSONBody answers with a body that is JSON already, and is not changed any more.
func (r *Request) JSONBody(ctx *fasthttp.RequestCtx, status int, body []byte) {
	setHeaders(ctx, status, r.ID)
	ctx.Response.SetBodyRaw(body)
}

// Envelope returns the fields of every answer, filled in.
func (r *Request) Envelope(status string) Envelope {
	e := Envelope{Status: status, Handler: UnknownHandler, RequestID: string(r.ID)}
	if r.Route != nil {
		e.Handler = r.Route.Handler
	}
	return e
}
