// Package openapi holds the API's description for programs (OpenAPI 3.1) and serves it. What the handlers answer is held to it by
// tests (package contract), and the routes too, so it tells the truth about both tiers.
package openapi

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // the document
	"encoding/hex"
	"sync"

	"github.com/valyala/fasthttp"

	"machineid/shared/wire"
)

// Path is where both tiers serve the document. It is not below wire.Base: it is no call, and needs no key.
const Path = "/openapi.json"

// maxAge is for how long a copy may be kept unasked.
const maxAge = "public, max-age=3600"

//go:embed openapi.json
var document []byte

// Document returns the whole document, which must not be changed.
func Document() []byte { return document }

// Page is the document as a node serves it. It is safe for concurrent use.
type Page struct {
	made func() ([]byte, string)
}

// New returns the page of a node that answers the calls of some routes: the document has these and no others, and nothing that only others refer to.
// nil answers all. It is made when it is first asked for.
func New(answers func(*wire.Route) bool) *Page {
	return &Page{sync.OnceValues(func() ([]byte, string) {
		text := document
		if answers != nil {
			text = part(text, answers)
		}
		sum := sha256.Sum256(text)
		return text, `"` + hex.EncodeToString(sum[:8]) + `"`
	})}
}

// Text returns the page, which must not be changed.
func (p *Page) Text() []byte {
	text, _ := p.made()
	return text
}

// Serve answers a request for the page, and reports whether it was one. It is asked where there is no route.
func (p *Page) Serve(ctx *fasthttp.RequestCtx, in *wire.Request) bool {
	if path, _ := wire.SplitTarget(ctx.Request.Header.RequestURI()); string(path) != Path {
		return false
	}
	if !ctx.IsGet() && !ctx.IsHead() {
		in.Error(ctx, wire.MethodNotAllowed(&wire.Route{Get: true}))
		return true
	}
	text, etag := p.made()
	if lines := ctx.Request.Header.PeekAll("If-Match"); len(lines) > 0 && !names(lines, etag, true) {
		in.Error(ctx, wire.PreconditionFailed())
		return true
	}
	h := &ctx.Response.Header
	h.Set("Cache-Control", maxAge)
	h.Set("ETag", etag)
	h.SetBytesV("X-Request-Id", in.ID)
	if names(ctx.Request.Header.PeekAll("If-None-Match"), etag, false) {
		ctx.SetStatusCode(fasthttp.StatusNotModified)
		return true
	}
	ctx.SetContentType("application/json")
	ctx.Response.SetBodyRaw(text) // one for all
	return true
}

// names tells whether the lines of If-None-Match or If-Match name a strong entity tag, or any by `*`. strong compares as If-Match does, where a weak tag is
// another (RFC 9110, 8.8.3.2). From what is no entity tag on a line says nothing.
func names(lines [][]byte, etag string, strong bool) bool {
	for _, line := range lines {
		if string(bytes.TrimSpace(line)) == "*" {
			return len(lines) == 1
		}
		for line = bytes.Trim(line, ", \t"); len(line) > 0; line = bytes.TrimLeft(line, ", \t") {
			tag, weak := bytes.CutPrefix(line, []byte("W/"))
			if len(tag) == 0 || tag[0] != '"' {
				break
			}
			end := bytes.IndexByte(tag[1:], '"') + 2
			if end < 2 {
				break
			}
			if string(tag[:end]) == etag && (!weak || !strong) {
				return true
			}
			line = tag[end:]
			if rest := bytes.TrimLeft(line, " \t"); len(rest) > 0 && rest[0] != ',' {
				break
			}
		}
	}
	return false
}
