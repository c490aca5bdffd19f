package wire

import (
	"slices"
	"strconv"

	"github.com/valyala/fasthttp"

	"machineid/shared/decision"
)

// ReasonRateLimited is the reason of a SYSTEM_UNAVAILABLE that a limit caused.
const ReasonRateLimited = "rate_limited"

// defaultRetryAfter is what callers that are told to come back later wait at least, in seconds.
const defaultRetryAfter = 1

// Decision is the answer to one validate.
type Decision struct {
	Code       decision.Code
	Reason     string // Reason replaces the code's own if it is not empty.
	RequestID  []byte
	DeviceID   []byte // DeviceID is nil if it was invalid; the answer then has none.
	RetryAfter int    // RetryAfter in seconds goes with SYSTEM_UNAVAILABLE; 0 means 1.
	Fault      *Error // Fault, if there is one, says what is wrong with the request: error, message and param.
}

// answerParts are the bytes of an answer that depend on the code alone.
type answerParts struct{ head, status, tail string }

// answers is indexed by code.
var answers = func() []answerParts {
	t := make([]answerParts, slices.Max(decision.Codes())+1)
	for _, code := range decision.Codes() {
		allowed := strconv.FormatBool(code == decision.Allow)
		t[code] = answerParts{
			head:   `{"allowed":` + allowed + `,"code":"` + code.String() + `","request_id":`,
			status: `,"handler":"` + ValidateHandler + `","status":"` + code.Status() + `","reason":`,
			tail:   `,"valid":` + allowed + `,"revoked":` + strconv.FormatBool(code == decision.DeviceRevoked) + `}`,
		}
	}
	return t
}()

// sent is the code that goes out: what is no code is no decision, hence SYSTEM_UNAVAILABLE.
func sent(c decision.Code) decision.Code {
	if int(c) >= len(answers) || answers[c].head == "" {
		return decision.SystemUnavailable
	}
	return c
}

// AppendDecision appends the body that answers a validate, the same for both generations of clients. It is valid JSON for
// any bytes in d. It allocates only to grow dst. A Code that is none answers as SYSTEM_UNAVAILABLE.
func AppendDecision(dst []byte, d *Decision) []byte {
	code := sent(d.Code)
	parts := &answers[code]
	reason := d.Reason
	if reason == "" {
		reason = code.Reason()
	}
	dst = append(dst, parts.head...)
	dst = appendString(dst, d.RequestID)
	dst = append(dst, parts.status...)
	dst = appendString(dst, reason)
	if d.DeviceID != nil {
		dst = append(dst, `,"deviceId":`...)
		dst = appendString(dst, d.DeviceID)
	}
	dst = append(dst, parts.tail...)
	if d.Fault == nil {
		return dst
	}
	dst = append(dst[:len(dst)-1], `,"error":`...)
	dst = appendString(dst, d.Fault.Code)
	dst = append(dst, `,"message":`...)
	dst = appendString(dst, d.Fault.Message)
	if d.Fault.Param != "" {
		dst = append(dst, `,"param":`...)
		dst = appendString(dst, d.Fault.Param)
	}
	return append(dst, '}')
}

// WriteDecision answers a validate with d: HTTP 200 whatever it is, the headers of every answer, and Retry-After
// if it is no decision. It allocates nothing once the response's buffers have grown.
func WriteDecision(ctx *fasthttp.RequestCtx, d *Decision) {
	writeDecision(ctx, fasthttp.StatusOK, d)
}

func writeDecision(ctx *fasthttp.RequestCtx, status int, d *Decision) {
	setHeaders(ctx, status, d.RequestID)
	if sent(d.Code) == decision.SystemUnavailable {
		setRetryAfter(ctx, d.RetryAfter)
	}
	// The response's own buffer is borrowed for the time of writing, which saves a copy.
	body := ctx.Response.SwapBody(nil)
	ctx.Response.SwapBody(AppendDecision(body[:0], d))
}
