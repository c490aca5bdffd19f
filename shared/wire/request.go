package wire

import (
	"sync"
	"time"

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

	// Whole is a moment at which all of the request was there: what is decided as of it is decided after the request was sent.
	// RequestCtx.Time is none: a body that is large or comes in chunks is read after it.
	Whole time.Time

	uuid  [36]byte
	small [256]byte // holds a small body
	memo  *headMemo
	own   headMemo

	holding  holding // where no connection of ours has it
	bodiless bool    // it is HEAD, served as GET
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

// Operated tells whether an operator makes an org's call: there is no key, and a header that names the org.
func (r *Request) Operated() bool {
	return r != nil && len(Trim(r.Head.OrgKey)) == 0 && len(r.Head.Operated) > 0
}

// Repeats tells whether a request may be sent again though it may have been carried out: it reads, or whoever carries it out remembers that.
func (r *Request) Repeats(ctx *fasthttp.RequestCtx) bool {
	return ctx.IsGet() || r.Route.Repeats && len(r.Head.IdempotencyKey) > 0 && len(r.Head.OrgKey) > 0 && len(r.Head.Authorization) == 0
}

// size is how many bytes the request had on its connection, if nothing was unusual about it: else it is something else, and surely so for a chunked body.
func (r *Request) size(ctx *fasthttp.RequestCtx) int {
	if r.Head.Chunked || r.bodiless { // whose method is another now
		return -1
	}
	h := &ctx.Request.Header
	return len(h.Method()) + len(h.RequestURI()) + len(h.Protocol()) + len("  \r\n") + len(h.RawHeaders()) + r.Head.Length
}

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
