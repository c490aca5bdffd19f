package wire

import (
	"errors"

	"github.com/valyala/fasthttp"
)

// These answer what is wrong with a request before it has reached a call. The contract's table names the first two; the others are
// ours, for every answer is a JSON object.

// MethodNotAllowed answers a method that the route does not serve.
func MethodNotAllowed(route *Route) *Error {
	return &Error{
		HTTP: fasthttp.StatusMethodNotAllowed, Status: StatusError, Code: "method_not_allowed",
		Message: "this path does not serve this method: use " + route.Allow(), Allow: route.Allow(),
	}
}

// BodyTooLarge answers a body beyond the route's limit.
func BodyTooLarge() *Error {
	return &Error{
		HTTP: fasthttp.StatusRequestEntityTooLarge, Status: StatusError, Code: "body_too_large",
		Message: "the body is too large: send at most 64 KiB, or 1 MiB to batches",
	}
}

// BadRequest answers bytes that are no HTTP request, or a head that breaks a rule. The connection ends with it.
func BadRequest(message string) *Error {
	return &Error{
		HTTP: fasthttp.StatusBadRequest, Status: StatusError, Code: "bad_request", Message: message, close: true,
	}
}

// PreconditionFailed answers an If-Match that names another copy.
func PreconditionFailed() *Error {
	return &Error{
		HTTP: fasthttp.StatusPreconditionFailed, Status: StatusError, Code: "precondition_failed",
		Message: "If-Match names another copy than the one there is: ask again without it",
	}
}

// headFault answers a fault of a head. The connection ends with it, whatever it was (W4).
func headFault(fault error) *Error {
	switch {
	case errors.Is(fault, ErrHeadHTTPVersion):
		return &Error{
			HTTP: fasthttp.StatusHTTPVersionNotSupported, Status: StatusError, Code: "http_version_not_supported", Message: fault.Error(), close: true,
		}
	case errors.Is(fault, ErrHeadCoding), errors.Is(fault, ErrHeadChunkedLater):
		return &Error{HTTP: fasthttp.StatusNotImplemented, Status: StatusError, Code: "not_implemented", Message: fault.Error(), close: true}
	}
	return BadRequest(fault.Error())
}

// ExpectationFailed answers an Expect other than 100-continue.
func ExpectationFailed() *Error {
	return &Error{
		HTTP: fasthttp.StatusExpectationFailed, Status: StatusError, Code: "expectation_failed", Message: ErrHeadExpect.Error(),
	}
}

// TargetTooLong answers a request line beyond the server's limit. The connection ends with it.
func TargetTooLong() *Error {
	return &Error{
		HTTP: fasthttp.StatusRequestURITooLong, Status: StatusError, Code: "uri_too_long",
		Message: "the request's URL is too long: send a shorter query, or POST", close: true,
	}
}

// HeadTooLarge answers a head beyond the server's limit. The connection ends with it.
func HeadTooLarge() *Error {
	return &Error{
		HTTP: fasthttp.StatusRequestHeaderFieldsTooLarge, Status: StatusError, Code: "head_too_large",
		Message: "the request's head is too large: send fewer or shorter headers and a shorter URL", close: true,
	}
}

// RequestTimeout answers a request that did not arrive in time. The connection ends with it.
func RequestTimeout() *Error {
	return &Error{
		HTTP: fasthttp.StatusRequestTimeout, Status: StatusError, Code: "request_timeout",
		Message: "the request did not arrive in time: send it again", close: true,
	}
}

// internalError answers a panic. The change may have been made before it.
func internalError() *Error {
	e := SystemUnavailable(OutcomeUnknown, defaultRetryAfter)
	e.HTTP = fasthttp.StatusInternalServerError
	e.Message = "the system failed on this request and the change may or may not have been made: report its request_id"
	e.close = true
	return e
}
