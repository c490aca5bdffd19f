// Package openapi holds the API's description for programs (OpenAPI 3.1) and serves it. What the handlers answer is held to it by
// tests (package contract), and the routes too, so it tells the truth about both tiers.
package openapi

import (
	"crypto/sha256"
	_ "embed" // the document
	"encoding/hex"

	"github.com/valyala/fasthttp"

	"machineid/shared/wire"
)

// Path is where both tiers serve the document. It is not below wire.Base: it is no call, and needs no key.
const Path = "/openapi.json"

// maxAge is for how long a copy may be kept unasked.
const maxAge = "public, max-age=3600"

//go:embed openapi.json
var document []byte

var etag = func() string {
	sum := sha256.Sum256(document)
	return `"` + hex.EncodeToString(sum[:8]) + `"`
}()

// Document returns the document, which must not be changed.
func Document() []byte { return document }

// Serve answers a request for the document, and reports whether it was one. It is asked where there is no route, and is safe for concurrent use.
func Serve(ctx *fasthttp.RequestCtx, in *wire.Request) bool {
	if path, _ := wire.SplitTarget(ctx.Request.Header.RequestURI()); string(path) != Path {
		return false
	}
	if !ctx.IsGet() {
		in.Error(ctx, wire.MethodNotAllowed(&wire.Route{Get: true}))
		return true
	}
	h := &ctx.Response.Header
	h.Set("Cache-Control", maxAge)
	h.Set("ETag", etag)
	h.SetBytesV("X-Request-Id", in.ID)
	if string(ctx.Request.Header.Peek("If-None-Match")) == etag {
		ctx.SetStatusCode(fasthttp.StatusNotModified)
		return true
	}
	ctx.SetContentType("application/json")
	ctx.SetBody(document)
	return true
}
