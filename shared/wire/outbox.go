package wire

import (
	"sync"

	"github.com/valyala/fasthttp"
)

// outbox is answers of a connection whose client sends several requests at once: they leave together, but before anything waits. fasthttp has a buffer for
// that, which it keeps while the body of the next request does not come: so where something follows, each answer is written through that one into this.
type outbox struct {
	follows bool // something has been read behind the request that is answered, or may have been
	held    *[outboxMost]byte
	n       int
	through heldBody
}

// outboxMost is how many bytes of answers wait for each other. Since none waits for anything else, there are hardly more such buffers than processors.
const outboxMost = 16 << 10

var outboxes = sync.Pool{New: func() any { return new([outboxMost]byte) }}

// through has the answer leave fasthttp's buffer when it is written.
func (s *server) through(ctx *fasthttp.RequestCtx, c *conn) {
	resp := &ctx.Response
	switch {
	case !c.outbox.follows:
	case !resp.IsBodyStream():
		c.outbox.through.Reset(resp.Body()) // which stays where it is: the buffer of a response is kept (ReduceMemoryUsage is not set)
		resp.SetBodyStream(&c.outbox.through, c.outbox.through.Len())
		resp.ImmediateHeaderFlush = true // there may be no body to write
	default:
		if _, ok := resp.BodyStream().(*heldBody); !ok {
			ctx.SetConnectionClose() // its end would stay: what follows is to be sent again
		}
	}
}

// keep keeps an answer until the connection is read, or too many wait.
func (c *conn) keep(b []byte) (int, error) {
	o := &c.outbox
	if len(b) > outboxMost {
		return c.leaveWith(b)
	}
	if o.n+len(b) > outboxMost {
		if err := c.push(); err != nil {
			return 0, err
		}
	}
	if o.held == nil {
		o.held, _ = outboxes.Get().(*[outboxMost]byte)
	}
	o.n += copy(o.held[o.n:], b)
	return len(b), nil
}

// leaveWith writes what waits, and b.
func (c *conn) leaveWith(b []byte) (int, error) {
	o := &c.outbox
	if o.n == 0 {
		return c.write(b)
	}
	if o.n+len(b) <= outboxMost {
		o.n += copy(o.held[o.n:], b)
		return len(b), c.push()
	}
	if err := c.push(); err != nil {
		return 0, err
	}
	return c.write(b)
}

// push writes what waits.
func (c *conn) push() error {
	o := &c.outbox
	if o.n == 0 {
		return nil
	}
	_, err := c.write(o.held[:o.n])
	outboxes.Put(o.held)
	o.held, o.n = nil, 0
	return err
}

// Waits tells that the answer to a validate will take a while: what was answered before on this connection leaves now. Of all other calls the server
// assumes so.
func Waits(ctx *fasthttp.RequestCtx) {
	if c, ok := ctx.Conn().(*conn); ok {
		_ = c.push() // the next read or write fails as well
	}
}
