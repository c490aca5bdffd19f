package billing

import (
	"errors"
	"fmt"

	"github.com/stripe/stripe-go/v76"
)

// RefusedError says why there is no page to pay on. It is an answer: Code is for programs, Message for people.
type RefusedError struct{ Code, Message string }

func (e *RefusedError) Error() string { return e.Code + ": " + e.Message }

// The codes of a RefusedError.
const (
	NotConfigured      = "not_configured"
	PriceNotConfigured = "price_not_configured"
	UnknownPlan        = "unknown_plan"
	NoSubscription     = "no_subscription"
)

// UnavailableError says that Stripe did not do what it was asked: it is slow, down or busy, or it refused.
type UnavailableError struct {
	// Refused says that Stripe answered, and that asking the same again will not help.
	Refused bool
	doing   string
	cause   error
}

func (e *UnavailableError) Error() string { return fmt.Sprintf("%s: %v", e.doing, e.cause) }
func (e *UnavailableError) Unwrap() error { return e.cause }

// ErrMoved says that the org's billing changed again and again while Stripe was asked.
var ErrMoved = errors.New("the org's billing kept changing while Stripe was asked")

// fault turns an error of Stripe's library into one of ours. The library's own text is a whole answer.
func fault(doing string, err error) error {
	if err == nil {
		return nil
	}
	e := &UnavailableError{doing: doing, cause: err}
	if said, ok := errors.AsType[*stripe.Error](err); ok {
		e.Refused = said.HTTPStatusCode >= 400 && said.HTTPStatusCode < 500 && said.HTTPStatusCode != 429 && said.HTTPStatusCode != 409
		e.cause = &saidError{status: said.HTTPStatusCode, code: string(said.Code), message: said.Msg, request: said.RequestID}
	}
	return e
}

// saidError is what Stripe said, in one line.
type saidError struct {
	status                 int
	code, message, request string
}

func (e *saidError) Error() string {
	return fmt.Sprintf("Stripe answers HTTP %d %s: %s (request %s)", e.status, e.code, e.message, e.request)
}

// unknown reports whether Stripe said that there is no such thing.
func unknown(err error) bool {
	e, ok := errors.AsType[*saidError](err)
	return ok && (e.status == 404 || e.code == string(stripe.ErrorCodeResourceMissing))
}
