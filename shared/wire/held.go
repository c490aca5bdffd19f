package wire

import (
	"bytes"
	"io"

	"github.com/valyala/fasthttp"
)

// Hold has left called, once, when the answer's body has left or its connection has ended: for what is kept until then. body must not be
// changed any more. It leaves in one write, so it has no longer than any answer.
func Hold(ctx *fasthttp.RequestCtx, body []byte, left func()) {
	h := &heldBody{left: left}
	h.Reset(body)
	ctx.Response.SetBodyStream(h, len(body))
}

// heldBody is a body that leaves fasthttp's buffer as soon as it is written.
type heldBody struct {
	bytes.Reader
	left func()
}

// SupportsBodyWriteTo implements fasthttp.BodyWriterTo: else the body leaves in pieces, each of which may take as long as an answer.
func (*heldBody) SupportsBodyWriteTo() bool { return true }

// WriteTo implements io.WriterTo.
func (b *heldBody) WriteTo(w io.Writer) (int64, error) {
	n, err := b.Reader.WriteTo(w)
	if f, ok := w.(interface{ Flush() error }); ok && err == nil {
		err = f.Flush()
	}
	return n, err
}

// Close implements io.Closer, which fasthttp calls whatever became of the answer.
func (b *heldBody) Close() error {
	b.Reset(nil)
	if b.left != nil {
		b.left()
		b.left = nil
	}
	return nil
}
