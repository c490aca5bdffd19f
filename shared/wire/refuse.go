package wire

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"github.com/valyala/fasthttp"

	"machineid/shared/decision"
)

// refuse answers what fasthttp could not read as a request. The connection ends with it, whatever it was. Neither the
// answer nor the log repeats bytes that were sent: there may be a key among them.
func (s *server) refuse(ctx *fasthttp.RequestCtx, cause error) {
	r, _ := requests.Get().(*Request)
	defer s.done(ctx, r)
	c, timed := ctx.Conn().(*conn)
	if timed {
		c.leaves.Store(true)
		c.answers()
	}
	// fasthttp forgets the head of most of what it cannot read. Its begin, if the connection has it, tells the route, the caller's id and what is wrong.
	var (
		fault  error
		head   begun
		kept   = timed && len(ctx.Request.Header.RawHeaders()) == 0
		target = ctx.Request.Header.RequestURI()
	)
	if kept {
		head, kept = c.opening.read()
	}
	if kept {
		r.memo, target = &r.own, head.target
		r.own.raw, r.own.keyed = r.own.raw[:0], false
		fault = head.fault(&r.own.head)
		r.Head = r.own.head
		r.bodiless = string(head.method) == fasthttp.MethodHead
	} else {
		fault = r.judge(ctx)
	}
	s.name(r, target)
	e := unread(ctx, cause)
	switch {
	case e.HTTP == fasthttp.StatusRequestTimeout:
	case e.HTTP == fasthttp.StatusRequestHeaderFieldsTooLarge:
		if kept && !head.ended {
			e = TargetTooLong()
		}
	case fault != nil:
		e = headFault(fault)
	case e.HTTP == fasthttp.StatusRequestEntityTooLarge && kept && r.Route != nil && !r.Route.Allows(head.method) && (!r.bodiless || !r.Route.Get):
		e = MethodNotAllowed(r.Route)
	}
	e.close = true
	if r.Route == nil && !kept && len(ctx.Request.Header.RawHeaders()) == 0 {
		// The path is lost. It may have been validate's, whose every answer says allowed.
		e = e.With("allowed", false).With("code", decision.InvalidDeviceID.String())
	}
	r.Error(ctx, e)
}

// unread is the answer to what could not be read. fasthttp hides some causes: the connection knows whether its time was up.
func unread(ctx *fasthttp.RequestCtx, cause error) *Error {
	if c, ok := ctx.Conn().(*conn); ok && c.late {
		return RequestTimeout()
	}
	return errorOf(cause)
}

// errorOf is the answer to an error of fasthttp.
func errorOf(cause error) *Error {
	var small *fasthttp.ErrSmallBuffer
	switch {
	case errors.As(cause, &small):
		return HeadTooLarge()
	case errors.Is(cause, fasthttp.ErrBodyTooLarge), errors.Is(cause, lengthOverflow()), errors.Is(cause, chunkOverflow()):
		return BodyTooLarge()
	case timedOut(cause):
		return RequestTimeout()
	case errors.Is(cause, ErrHeadLine):
		return BadRequest(ErrHeadLine.Error())
	}
	return BadRequest("this is no HTTP/1.1 request that this server understands: check the request line, the headers and the body's length")
}

// lengthOverflow and chunkOverflow are what fasthttp says of a Content-Length and of a chunk's size that no int holds. Neither has a name: it is asked.
var (
	lengthOverflow = sync.OnceValue(func() error { return overflow("Content-Length: 99999999999999999999\r\n\r\n") })
	chunkOverflow  = sync.OnceValue(func() error { return overflow("Transfer-Encoding: chunked\r\n\r\n99999999999999999999\r\n") })
)

func overflow(rest string) error {
	err := new(fasthttp.Request).Read(bufio.NewReader(strings.NewReader("POST / HTTP/1.1\r\nHost: a\r\n" + rest)))
	for cause := err; cause != nil; cause = errors.Unwrap(cause) {
		err = cause
	}
	return err
}

// timedOut tells whether an error is that of a time that is up. fasthttp hides some of a connection's: those the connection remembers (conn.late).
func timedOut(err error) bool {
	t, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && t.Timeout()
}

// serverLog takes what fasthttp has to say. Its errors about connections can quote what was sent, so of those only the kind
// is told, and quietly: strangers can cause as many as they like.
type serverLog struct{ log *slog.Logger }

// Printf is fasthttp's one way to log.
func (l serverLog) Printf(format string, args ...any) {
	if len(args) == 3 { // "error when serving connection %q<->%q: %v"
		if err, ok := args[2].(error); ok {
			l.log.Debug("http connection failed", slog.String("kind", errorOf(err).Code), slog.Any("peer", args[1]))
			return
		}
	}
	l.log.Warn("http server", slog.String("event", fmt.Sprintf(format, args...)))
}
