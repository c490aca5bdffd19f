package wire

import (
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
)

// Options of a server. The zero value of each has a default.
type Options struct {
	// Log takes panics and the connections that end in an error. Default: nothing is logged.
	Log *slog.Logger
	// Match finds the route of a raw path. Default: Match, the shared table.
	Match func(path []byte) *Route
	// ReadTimeout is how long a request may take to arrive, head and body. Default 10 s.
	ReadTimeout time.Duration
	// WriteTimeout is how long an answer may take to leave. Default 10 s.
	WriteTimeout time.Duration
	// IdleTimeout is how long a connection may wait for its next request. Default 75 s, above the 60 s of common proxies, so
	// that they and not we end idle connections.
	IdleTimeout time.Duration
	// MaxHead is the most bytes a request line and its headers may have together. Default 8 KiB.
	MaxHead int
	// Concurrency is the most connections served at once; others are told so and closed. Default 256 Ki. A listener of shared/listener has
	// bounds of its own: the connections that it marks are told the same.
	Concurrency int
	// BodyRoom is how many bytes of bodies and large answers may be under way at once; beyond it requests get 503. Default DefaultBodyRoom.
	BodyRoom int64
	// Whose tells, from its head, for whom a request with a large body or answer is, and whether that one is known to be good. Strangers share a quarter of
	// BodyRoom among them, the others the rest, and no party has more than a quarter of either. Default: everybody is known, and nobody told apart.
	Whose func(ctx *fasthttp.RequestCtx, r *Request) (who Party, known bool)
	// Refuses judges by its head alone whom a request is from whose client waits with the body (Expect); nil lets it come. Default: nobody is refused.
	Refuses func(ctx *fasthttp.RequestCtx, r *Request) *Error
	// Registerer receives the metrics; nil means none.
	Registerer prometheus.Registerer
	// NoDate leaves out the header Date, for tests in virtual time: fasthttp keeps its clock in a goroutine that never ends.
	NoDate bool

	leaveTime time.Duration // how long a connection is read after its last answer; set by tests
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Match == nil {
		o.Match = Match
	}
	o.ReadTimeout = orDefault(o.ReadTimeout, 10*time.Second)
	o.WriteTimeout = orDefault(o.WriteTimeout, 10*time.Second)
	o.IdleTimeout = orDefault(o.IdleTimeout, 75*time.Second)
	o.MaxHead = orDefault(o.MaxHead, 8<<10)
	o.Concurrency = orDefault(o.Concurrency, fasthttp.DefaultConcurrency)
	o.BodyRoom = orDefault(o.BodyRoom, DefaultBodyRoom)
	o.leaveTime = orDefault(o.leaveTime, leaveTime)
	return o
}

func orDefault[T comparable](value, def T) T {
	var zero T
	if value == zero {
		return def
	}
	return value
}

// NewServer returns a server that calls h for every request that keeps the rules: head, method and size are judged
// before. h is also called for paths that no route has (From(ctx).Route is nil), since the authority has a console; it answers
// others with NotFound. A panic of h is logged and answered. h must be done with the context when it returns, so it must not use
// RequestCtx.TimeoutError. The caller starts the server by Serve and ends it by ShutdownWithContext.
func NewServer(h fasthttp.RequestHandler, opts Options) *Server {
	opts = opts.withDefaults()
	s := &server{Options: opts, next: h, bodies: newBodies(opts.BodyRoom, opts.Registerer)}
	// A large body must not stay with its connection for as long as that lives. The limit is one of the whole process.
	fasthttp.SetBodySizePoolLimit(MaxBody, MaxBody)
	return &Server{opts: opts, bodies: s.bodies, lame: &s.lame, Server: &fasthttp.Server{
		Handler:        s.handle,
		ErrorHandler:   s.refuse,
		HeaderReceived: s.limits,
		ExpectHandler:  s.expects,
		ConnState:      s.count,
		Logger:         serverLog{opts.Log},

		ReadBufferSize:     opts.MaxHead,
		MaxRequestBodySize: MaxBatchBody,
		StreamRequestBody:  true, // or a buffer is made by what a head announces
		// Above this fasthttp answers by itself, in plain text: it must come long after our own limit.
		Concurrency:     2 * opts.Concurrency,
		CloseOnShutdown: true,

		NoDefaultServerHeader:        true,
		NoDefaultDate:                opts.NoDate,
		DisablePreParseMultipartForm: true,
		SecureErrorLogMessage:        true,
	}}
}

type server struct {
	Options
	next   fasthttp.RequestHandler
	open   atomic.Int64 // connections
	bodies *bodies
	lame   atomic.Bool // it stops: every connection ends with its next answer
}

func (s *server) count(nc net.Conn, state fasthttp.ConnState) {
	switch state {
	case fasthttp.StateNew:
		s.open.Add(1)
	case fasthttp.StateClosed, fasthttp.StateHijacked:
		s.open.Add(-1)
		if c, ok := nc.(*conn); ok {
			c.holding.drop() // not in Close, which others may call while a request is served
		}
	case fasthttp.StateActive:
		if c, ok := nc.(*conn); ok {
			c.active()
		}
	case fasthttp.StateIdle:
	}
}

// full tells whether this is the first request of a connection that came when there were too many.
func (s *server) full(ctx *fasthttp.RequestCtx, first uint64) bool {
	if ctx.ConnRequestNum() != first {
		return false
	}
	c, ok := ctx.Conn().(*conn)
	return s.open.Load() > int64(s.Concurrency) || ok && c.surplus
}

func (s *server) handle(ctx *fasthttp.RequestCtx) {
	r, _ := requests.Get().(*Request)
	defer s.done(ctx, r)
	c, timed := ctx.Conn().(*conn)
	holds := &r.holding
	if timed {
		holds = &c.holding
		c.holding.drop() // of the request before, if no read came between
	}
	r.Whole = ctx.Time()
	e := s.admit(ctx, r, 1)
	if e == nil || !e.close {
		if fault := s.body(ctx, r, holds); fault != nil {
			if fault.close {
				ctx.SetConnectionClose()
			}
			e = orDefault(e, fault)
		}
	}
	if timed {
		c.opening.served(r.size(ctx))
		c.outbox.follows = c.opening.lost
	}
	if timed && !c.begin() {
		ctx.SetConnectionClose() // nobody is there to read an answer, so nothing may be done
		return
	}
	if r.Head.Close || s.lame.Load() {
		ctx.SetConnectionClose() // fasthttp knows only a lone `close` in lower case
	}
	if e == nil && timed && c.late {
		e = RequestTimeout()
	}
	if e != nil {
		r.Error(ctx, e)
	} else {
		s.serve(ctx, r, c)
		s.answered(ctx, r, holds)
	}
	if timed {
		s.through(ctx, c)
	}
}

// serve has the handler answer; c is nil for a connection that is not ours.
func (s *server) serve(ctx *fasthttp.RequestCtx, r *Request, c *conn) {
	if c != nil {
		c.request = r
		if r.Route == nil || !r.Route.Validate {
			Waits(ctx)
		}
	} else {
		ctx.SetUserValue(requestKey{}, r)
	}
	s.next(ctx)
}

// admit fills in r and judges head, method and announced size, in this order; then whether there is room. first is the number of the connection's first
// request.
func (s *server) admit(ctx *fasthttp.RequestCtx, r *Request, first uint64) *Error {
	fault := r.judge(ctx)
	s.identify(ctx, r)
	h := &ctx.Request.Header
	switch {
	case !h.IsHTTP11() && !knownVersion(h.Protocol()):
		fault = ErrHeadHTTPVersion
	case fault != nil:
	case !validTarget(h.Method(), h.RequestURI()):
		fault = ErrHeadTarget
	case h.IsHTTP11() && r.Head.seen&fieldHost == 0:
		fault = ErrHeadHost
	}
	if fault != nil {
		return headFault(fault)
	}
	large := r.Head.Length > limitOf(r.Route)
	switch e := s.fits(ctx, r, large); {
	case e != nil:
		e.close = e.close || large // nothing of it is read
		return e
	case r.Head.unexpected:
		return ExpectationFailed()
	case s.full(ctx, first):
		e := SystemUnavailable(OutcomeNotDone, defaultRetryAfter)
		e.close = true
		return e
	}
	return nil
}

// judge judges the head and fills it in.
func (r *Request) judge(ctx *fasthttp.RequestCtx) error {
	r.memo = memoOf(ctx, &r.own)
	fault := r.memo.judge(ctx.Request.Header.RawHeaders())
	r.Head = r.memo.head
	return fault
}

// identify fills in what answers need: the route and the id.
func (s *server) identify(ctx *fasthttp.RequestCtx, r *Request) {
	s.name(r, ctx.Request.Header.RequestURI())
}

func (s *server) name(r *Request, target []byte) {
	var path []byte
	path, r.Query = SplitTarget(target)
	r.Route = s.Match(path)
	r.ID = RequestID(r.uuid[:0], r.Head.RequestID)
}

// fits judges the method and then the size of the body. HEAD is GET whose answer has no body (RFC 9110, 9.3.2).
func (s *server) fits(ctx *fasthttp.RequestCtx, r *Request, large bool) *Error {
	if r.Route != nil && !r.Route.Allows(ctx.Method()) {
		if !ctx.IsHead() || !r.Route.Get {
			return MethodNotAllowed(r.Route)
		}
		ctx.Request.Header.SetMethod(fasthttp.MethodGet)
		r.bodiless = true
	}
	if large {
		return BodyTooLarge()
	}
	return nil
}

// done ends a request: it answers a panic, for fasthttp has no recover and the process would end.
func (s *server) done(ctx *fasthttp.RequestCtx, r *Request) {
	if cause := recover(); cause != nil {
		s.Log.Error("panic in a handler",
			slog.String("cause", fmt.Sprint(cause)),
			slog.String("request_id", string(r.ID)),
			slog.String("stack", string(debug.Stack())))
		clearResponse(&ctx.Response)
		r.Error(ctx, internalError())
	}
	if c, ok := ctx.Conn().(*conn); ok {
		c.request = nil
		if ctx.Response.ConnectionClose() || ctx.Request.Header.ConnectionClose() {
			c.leaves.Store(true)
		}
	} else {
		ctx.RemoveUserValue(requestKey{})
	}
	if r.bodiless {
		ctx.Response.SkipBody = true
	}
	r.holding.drop()
	r.Route, r.Head, r.Query, r.ID, r.memo, r.bodiless = nil, Head{}, nil, nil, nil, false
	requests.Put(r)
}

// clearResponse drops what a handler had begun to answer. Not Response.Reset, which would also drop NoDate.
func clearResponse(resp *fasthttp.Response) {
	resp.ResetBody()
	var names []string
	for name := range resp.Header.All() {
		names = append(names, string(name))
	}
	for _, name := range names {
		resp.Header.Del(name)
	}
}
