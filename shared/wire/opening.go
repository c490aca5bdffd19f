package wire

import (
	"bytes"
	"errors"
	"slices"
)

// openingMax is how much of a request's begin a connection keeps, in bytes: for the answer to one that fasthttp cannot read, and then forgets.
const openingMax = 1 << 10

// opening is the begin of the request that a connection is reading, as it came.
type opening struct {
	raw []byte
	// line says that the request line has ended, also behind what is kept.
	line bool
	// unread is how many bytes have been read that belong to no request which was served. Only where it is known that there were none does what is
	// read begin a request.
	unread int
	lost   bool
}

// add takes what has been read.
func (o *opening) add(b []byte) {
	o.unread += len(b)
	if o.lost {
		return
	}
	took := min(openingMax-len(o.raw), len(b))
	o.raw = append(o.raw, b[:took]...)
	if took < len(b) && !o.line {
		o.line = bytes.IndexByte(b, '\n') >= 0
	}
}

// begin tells that all that was read has been served.
func (o *opening) begin() { *o = opening{raw: o.raw[:0]} }

// served takes off a request of n bytes, of which the handler knows.
func (o *opening) served(n int) {
	o.unread -= n
	o.lost = o.unread != 0
	o.raw, o.line = o.raw[:0], false
}

// hopeless tells that no byte more can make a request of what has come: it begins with what no method does (TLS, binary), or a line of its head ends without CR.
// The rest need not be waited for.
func (o *opening) hopeless() error {
	if o.lost {
		return nil
	}
	raw := bytes.TrimLeft(o.raw, "\r\n") // RFC 9112, 2.2
	if len(raw) > 0 && !tokenByte[raw[0]] {
		return errNoRequest
	}
	for {
		i := bytes.IndexByte(raw, '\n')
		switch {
		case i < 0:
			return nil
		case i == 0 || raw[i-1] != '\r':
			return ErrHeadLine
		case i == 1:
			return nil // the head is whole, and what follows is the body
		}
		raw = raw[i+1:]
	}
}

// errNoRequest is what a connection says that brings no HTTP.
var errNoRequest = errors.New("what was sent is no HTTP")

// begun is what could be read of a request's begin.
type begun struct {
	method, target, version []byte
	ended                   bool // the request line is whole
	fields                  []byte
}

// read takes the begin apart. ok is false if there is no target in it.
func (o *opening) read() (b begun, ok bool) {
	if o.lost {
		return b, false
	}
	raw := o.raw
	for len(raw) > 0 && (raw[0] == '\r' || raw[0] == '\n') { // RFC 9112, 2.2
		raw = raw[1:]
	}
	line := raw
	if i := bytes.IndexByte(raw, '\n'); i >= 0 {
		line, b.fields, b.ended = bytes.TrimSuffix(raw[:i], []byte{'\r'}), raw[i+1:], true
	}
	b.ended = b.ended || o.line
	b.method, line = cutByte(line, ' ')
	b.target, b.version = cutByte(line, ' ')
	for _, c := range b.target {
		if c <= ' ' || c == 0x7f {
			return b, false
		}
	}
	return b, len(b.method) > 0 && len(b.target) > 0
}

// fault judges the begin of a request that was refused, as far as its lines are whole, and fills in h. nil: there is nothing wrong with it.
func (b *begun) fault(h *Head) error {
	all := slices.Concat(crlf, b.fields)
	end := bytes.Index(all, []byte("\r\n\r\n"))
	whole := end >= 0
	if !whole {
		end = bytes.LastIndex(all, crlf)
	}
	fault := CheckHead(slices.Concat(all[len(crlf):end+len(crlf)], crlf), h)
	switch {
	case b.ended && isVersion(b.version) && !knownVersion(b.version):
		return ErrHeadHTTPVersion
	case fault != nil:
		return fault
	case b.ended && !validTarget(b.method, b.target):
		return ErrHeadTarget
	case whole && string(b.version) != "HTTP/1.0" && h.seen&fieldHost == 0:
		return ErrHeadHost
	case h.Chunked && knownVersion(b.version) && string(b.version) > "HTTP/1.1":
		return ErrHeadChunkedLater
	}
	return nil
}

var crlf = []byte("\r\n")

// knownVersion tells whether the server has a version of HTTP. Any 1.x with x above 1 is served as 1.1 (RFC 9110, 2.5).
func knownVersion(v []byte) bool { return isVersion(v) && v[5] == '1' }

// isVersion tells whether a text names a version of HTTP (RFC 9112, 2.3).
func isVersion(v []byte) bool {
	return len(v) == 8 && string(v[:5]) == "HTTP/" && v[6] == '.' && '0' <= v[5] && v[5] <= '9' && '0' <= v[7] && v[7] <= '9'
}
