package wire

import (
	"errors"
	"fmt"
	"log/slog"
	"net"

	"github.com/valyala/fasthttp"

	"machineid/shared/decision"
)

// refuse answers what fasthttp could not read as a request. The connection ends with it, whatever it was. Neither the
// answer nor the log repeats bytes that were sent: there may be a key among them.
func (s *server) refuse(ctx *fasthttp.RequestCtx, cause error) {
	r, _ := requests.Get().(*Request)
	defer s.done(ctx, r)
	// What is left of the head tells the route and the caller's id; a fault of the head is the better answer too.
	fault := r.judge(ctx)
	s.identify(ctx, r)
	e := errorOf(cause)
	if fault != nil && e.HTTP == fasthttp.StatusRequestEntityTooLarge {
		e = BadRequest(fault.Error())
	}
	e.close = true
	if r.Route == nil && len(ctx.Request.Header.RawHeaders()) == 0 {
		// fasthttp has forgotten the path. It may have been validate's, whose every answer says allowed.
		e = e.With("allowed", false).With("code", decision.InvalidDeviceID.String())
	}
	r.Error(ctx, e)
}

// errorOf is the answer to an error of fasthttp.
func errorOf(cause error) *Error {
	var (
		small   *fasthttp.ErrSmallBuffer
		netErr  net.Error
		timeout = errors.Is(cause, fasthttp.ErrTimeout)
	)
	switch {
	case errors.As(cause, &small):
		return HeadTooLarge()
	case errors.Is(cause, fasthttp.ErrBodyTooLarge):
		return BodyTooLarge()
	case timeout, errors.As(cause, &netErr) && netErr.Timeout():
		return RequestTimeout()
	}
	return BadRequest("this is no HTTP/1.1 request that this server understands: check the request line, the headers and the body's length")
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
