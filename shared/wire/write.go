package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/valyala/fasthttp"

	"machineid/shared/decision"
)

// Names of headers in the form in which fasthttp keeps them.
var (
	headerRequestID  = []byte("X-Request-Id")
	headerCache      = []byte("Cache-Control")
	headerRetryAfter = []byte("Retry-After")
	headerAllow      = []byte("Allow")
	headerChallenge  = []byte("Www-Authenticate")
	noStore          = []byte("no-store")
	contentTypeJSON  = []byte("application/json")
)

// Envelope holds the fields of every answer. Embed it in the values given to WriteJSON.
type Envelope struct {
	Status    string `json:"status"`
	Handler   string `json:"handler,omitempty"`
	RequestID string `json:"request_id"`
}

// setHeaders sets the status and the headers of every answer.
func setHeaders(ctx *fasthttp.RequestCtx, status int, requestID []byte) {
	h := &ctx.Response.Header
	h.SetStatusCode(status)
	h.SetContentTypeBytes(contentTypeJSON)
	h.SetCanonical(headerCache, noStore)
	h.SetCanonical(headerRequestID, requestID)
}

func setRetryAfter(ctx *fasthttp.RequestCtx, seconds int) {
	var buf [20]byte
	ctx.Response.Header.SetCanonical(headerRetryAfter, strconv.AppendInt(buf[:0], int64(max(seconds, defaultRetryAfter)), 10))
}

// WriteJSON answers with a value, encoded by encoding/json without escaping for HTML, and the headers of every answer. The value
// should embed an Envelope. It panics if the value cannot be encoded, which is a mistake of the program; a server of this
// package answers that with 500.
func WriteJSON(ctx *fasthttp.RequestCtx, status int, requestID []byte, value any) {
	buf := bytes.NewBuffer(ctx.Response.SwapBody(nil)[:0]) // no copy, and its room is used again
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		panic(fmt.Errorf("encode an answer of type %T: %w", value, err))
	}
	setHeaders(ctx, status, requestID)
	ctx.Response.SwapBody(bytes.TrimSuffix(buf.Bytes(), []byte("\n")))
}

// WriteError answers with an error: status, error, message, handler (UnknownHandler if route is nil, none if the route names none),
// request_id, then param, outcome and the extra fields where there are any; with Retry-After and Allow where due.
//
// On the validate route every answer is a decision: 405, 413 and the other faults of a request keep their HTTP status and say
// INVALID_DEVICE_ID; all else is HTTP 200 and SYSTEM_UNAVAILABLE.
func WriteError(ctx *fasthttp.RequestCtx, route *Route, requestID []byte, e *Error) {
	if e.close {
		ctx.SetConnectionClose()
	}
	if route != nil && route.Validate {
		writeErrorAsDecision(ctx, requestID, e)
		return
	}
	body := ctx.Response.SwapBody(nil)
	body = appendError(body[:0], route, requestID, e)
	ctx.Response.SwapBody(body)
	setErrorHeaders(ctx, requestID, e)
}

func setErrorHeaders(ctx *fasthttp.RequestCtx, requestID []byte, e *Error) {
	setHeaders(ctx, e.HTTP, requestID)
	if e.RetryAfter > 0 {
		setRetryAfter(ctx, e.RetryAfter)
	}
	if e.Allow != "" {
		ctx.Response.Header.SetCanonical(headerAllow, []byte(e.Allow))
	}
	if e.Challenge != "" {
		ctx.Response.Header.SetCanonical(headerChallenge, []byte(e.Challenge))
	}
}

func appendError(dst []byte, route *Route, requestID []byte, e *Error) []byte {
	dst = append(dst, `{"status":`...)
	dst = appendString(dst, e.Status)
	dst = append(dst, `,"error":`...)
	dst = appendString(dst, e.Code)
	dst = append(dst, `,"message":`...)
	dst = appendString(dst, e.Message)
	handler := UnknownHandler
	if route != nil {
		handler = route.Handler
	}
	if handler != "" {
		dst = append(dst, `,"handler":`...)
		dst = appendString(dst, handler)
	}
	dst = append(dst, `,"request_id":`...)
	dst = appendString(dst, requestID)
	if e.Param != "" {
		dst = append(dst, `,"param":`...)
		dst = appendString(dst, e.Param)
	}
	if e.Outcome != "" {
		dst = append(dst, `,"outcome":`...)
		dst = appendString(dst, e.Outcome)
	}
	for _, f := range e.Extra {
		dst = append(dst, ',')
		dst = appendString(dst, f.Name)
		dst = append(dst, ':')
		dst = appendValue(dst, f.Value)
	}
	if route != nil && route.OK {
		dst = append(dst, `,"ok":false`...)
	}
	return append(dst, '}')
}

// appendValue appends what encoding/json makes of a value, or null if it cannot: an answer must stay JSON.
func appendValue(dst []byte, value any) []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if enc.Encode(value) != nil {
		return append(dst, "null"...)
	}
	return append(dst, bytes.TrimSuffix(buf.Bytes(), []byte("\n"))...)
}

// writeErrorAsDecision keeps the promise that every answer of validate says allowed.
func writeErrorAsDecision(ctx *fasthttp.RequestCtx, requestID []byte, e *Error) {
	d := Decision{Code: decision.InvalidDeviceID, RequestID: requestID}
	switch e.HTTP {
	case fasthttp.StatusMethodNotAllowed, fasthttp.StatusRequestEntityTooLarge:
		writeDecision(ctx, e.HTTP, &d)
		setErrorHeaders(ctx, requestID, e)
		return
	case fasthttp.StatusBadRequest, fasthttp.StatusRequestTimeout, fasthttp.StatusRequestURITooLong, fasthttp.StatusExpectationFailed,
		fasthttp.StatusRequestHeaderFieldsTooLarge, fasthttp.StatusNotImplemented, fasthttp.StatusHTTPVersionNotSupported:
		d.Fault = e // the contract says nothing about these, and the code alone would not tell what is wrong
		writeDecision(ctx, e.HTTP, &d)
		setErrorHeaders(ctx, requestID, e)
		return
	case fasthttp.StatusTooManyRequests:
		d.Reason = ReasonRateLimited
	}
	d.Code = decision.SystemUnavailable
	d.RetryAfter = e.RetryAfter
	WriteDecision(ctx, &d)
}
