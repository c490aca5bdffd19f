package wire

import (
	"bytes"

	"github.com/valyala/fasthttp"
)

// interim is the end of what fasthttp writes to have a body come.
var interim = []byte("HTTP/1.1 100 Continue\r\n\r\n")

var (
	headerExpect = []byte("Expect")
	expectUpper  = []byte("XPECT")
	continues    = []byte("100-continue")
)

// expectation makes Expect what fasthttp knows, which compares it byte by byte. Who sends HTTP/1.0 gets no 100 (RFC 9110, 10.1.1), and who sends no body
// waits for none. What else it may hold is judged with the head (Head.unexpected).
func expectation(h *fasthttp.RequestHeader) {
	// To look into the raw head is a quarter of the price of asking fasthttp, for each request that has none.
	if raw := h.RawHeaders(); !bytes.Contains(raw, headerExpect[1:]) && !bytes.Contains(raw, expectUpper) || len(h.PeekBytes(headerExpect)) == 0 {
		return
	}
	if h.IsHTTP11() && (h.ContentLength() > 0 || h.ContentLength() == chunkedLength) {
		h.SetCanonical(headerExpect, continues)
		return
	}
	h.DelBytes(headerExpect)
}

// expects answers a request whose client waits with the body, if its head decides the answer: then nothing of the body is asked for, and the
// connection ends, for what a client that does not wait has sent is no request. Else it returns 100.
func (s *server) expects(ctx *fasthttp.RequestCtx) (status int) {
	r, _ := requests.Get().(*Request)
	defer s.done(ctx, r)
	c, _ := ctx.Conn().(*conn)
	Waits(ctx) // who the caller is may take a while to tell
	// fasthttp counts the request only when it has all of it.
	e := s.admit(ctx, r, 0)
	switch {
	case e != nil:
	case r.Route == nil: // nothing there reads a body
		c.answers()
		s.serve(ctx, r, c)
		ctx.SetConnectionClose()
		return ctx.Response.StatusCode()
	default:
		if e = shown(r); e == nil && s.Refuses != nil {
			e = s.Refuses(ctx, r)
		}
	}
	if e == nil {
		if r.bodiless {
			ctx.Request.Header.SetMethod(fasthttp.MethodHead) // as it came: it is judged again with its body
		}
		return fasthttp.StatusContinue
	}
	c.answers()
	e.close = true
	r.Error(ctx, e)
	return ctx.Response.StatusCode()
}
