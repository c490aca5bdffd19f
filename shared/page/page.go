// Package page has the pages that both tiers show to people. They are whole: no script, style or font of theirs comes from elsewhere, and
// a policy holds them to that. To open one changes nothing.
package page

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // the page
	"encoding/base64"
	"fmt"

	"github.com/valyala/fasthttp"

	"machineid/shared/wire"
)

// recoverPath is where the link in a recovery's mail leads.
const recoverPath = "/recover"

// recoverPage asks org/recover/confirm for a new key when somebody presses its button. The token stands behind the # of its address, which
// no server sees; to open the page changes nothing.
//
//go:embed recover.html
var recoverPage []byte

// recoverPolicy lets the page run its own script and style, which are named by their hashes, and talk to where it came from; nothing
// else, and nobody may frame it.
var recoverPolicy = fmt.Sprintf("default-src 'none'; script-src '%s'; style-src '%s'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
	sourceHash(recoverPage, "script"), sourceHash(recoverPage, "style"))

// sourceHash names the inline element of a page for a policy (CSP level 3, 2.3.1).
func sourceHash(page []byte, element string) string {
	_, text, begun := bytes.Cut(page, []byte("<"+element+">"))
	text, _, ended := bytes.Cut(text, []byte("</"+element+">"))
	if !begun || !ended {
		panic("recover.html has no " + element)
	}
	sum := sha256.Sum256(text)
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// Serve answers a request for a page, and reports whether it was one.
func Serve(ctx *fasthttp.RequestCtx, in *wire.Request) bool {
	path, _ := wire.SplitTarget(ctx.Request.Header.RequestURI())
	if string(path) != recoverPath {
		return false
	}
	if !ctx.IsGet() && !ctx.IsHead() {
		in.Error(ctx, wire.MethodNotAllowed(&wire.Route{Get: true}))
		return true
	}
	h := &ctx.Response.Header
	for name, value := range map[string]string{
		"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store", "Content-Security-Policy": recoverPolicy, "Referrer-Policy": "no-referrer",
		"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Cross-Origin-Opener-Policy": "same-origin",
	} {
		h.Set(name, value)
	}
	h.SetBytesV("X-Request-Id", in.ID)
	ctx.Response.SetBodyRaw(recoverPage)
	return true
}
