package wire

import (
	"bytes"
	"strings"

	"github.com/valyala/fasthttp"
)

// hasTrailer tells whether a chunked body came with trailer fields. fasthttp merges them into the header, where an x-org-key
// among them would count as one of the head, which RFC 9110, 6.5.1 forbids. They can only be told by counting: the raw head
// (which must have passed CheckHead) does not hold them. It is asked for chunked bodies only, which few clients send.
func hasTrailer(h *fasthttp.RequestHeader) bool {
	merged := 0
	for name := range h.All() {
		if keptApart(name) {
			continue
		}
		merged++
	}
	for line := range bytes.Lines(h.RawHeaders()) {
		if name, _, ok := bytes.Cut(line, []byte{':'}); ok && !keptApart(name) {
			merged--
		}
	}
	return merged > 0
}

// keptApart tells the headers that fasthttp keeps in fields of their own, where several lines of a head become one or none.
func keptApart(name []byte) bool {
	switch strings.ToLower(string(name)) {
	case "host", "content-length", "content-type", "user-agent", "trailer", "cookie", "connection", "transfer-encoding":
		return true
	}
	return false
}
