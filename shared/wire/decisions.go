package wire

import (
	"github.com/valyala/fasthttp"

	"machineid/shared/decision"
	"machineid/shared/orgkey"
)

// MaxDecisions is how many devices one validate_batch may ask about.
const MaxDecisions = 500

// Question is one device of a validate_batch, as it was sent.
type Question struct {
	// Text is the element trimmed, nil if it is no string.
	Text *string
	// ID is the device's id, nil if Text is none.
	ID []byte
	// Code is the decision: InvalidDeviceID from the start if there is no id, else to be filled in.
	Code decision.Code
}

// ParseValidateBatch reads a validate_batch: the key's hash, none if an operator asks (Request.Operated), and the questions in their order. Its errors are *Error,
// in the order of checks.
func ParseValidateBatch(ctx *fasthttp.RequestCtx) (sum orgkey.Hash, list []Question, fault *Error) {
	r := From(ctx)
	sum, err := r.OrgKey()
	if err != nil && !r.Operated() {
		return sum, nil, keyFault(r, err)
	}
	const name = "deviceIds"
	o, err := ParseObject(ctx.Request.Body())
	if err != nil {
		return sum, nil, paramFault(err)
	}
	items, present, err := o.Items(name, MaxDecisions)
	switch {
	case err != nil:
		return sum, nil, paramFault(err)
	case !present || len(items) == 0:
		return sum, nil, MissingParams(name, "deviceIds is missing or empty: send an array of at least one id")
	case len(items) > MaxDecisions:
		return sum, nil, MissingParams(name, "deviceIds lists more than 500: ask in several calls")
	}
	list = make([]Question, len(items))
	for i, item := range items {
		list[i].Code = decision.InvalidDeviceID
		text, ok := item.String()
		if !ok {
			continue
		}
		trimmed := string(Trim([]byte(text)))
		list[i].Text = &trimmed
		if id, ok := DeviceID([]byte(text)); ok {
			list[i].ID, list[i].Code = id, 0
		}
	}
	return sum, list, nil
}

// paramFault is the answer to an error of the body's parsers.
func paramFault(err error) *Error {
	if p, ok := err.(*ParamError); ok { //nolint:errorlint // the parsers return nothing else
		return p.AsError()
	}
	return MissingParams(BodyParam, "the body cannot be read: send a JSON object")
}

// decided is one decision in the answer.
type decided struct {
	DeviceID *string `json:"deviceId,omitempty"`
	Index    *int    `json:"index,omitempty"`
	Allowed  bool    `json:"allowed"`
	Code     string  `json:"code"`
}

// WriteDecisions answers a validate_batch: one decision for each question, in their order. There is no allowed above them: each
// is true by itself, not all at one instant.
func WriteDecisions(ctx *fasthttp.RequestCtx, r *Request, list []Question) {
	out := make([]decided, len(list))
	unsure := false
	for i, q := range list {
		code := q.Code
		if code == 0 {
			code = decision.SystemUnavailable // no decision is never a permission
		}
		unsure = unsure || code == decision.SystemUnavailable
		out[i] = decided{DeviceID: q.Text, Allowed: code == decision.Allow, Code: code.String()}
		if q.Text == nil {
			out[i].Index = &i
		}
	}
	r.JSON(ctx, fasthttp.StatusOK, struct {
		Envelope
		Decisions []decided `json:"decisions"`
	}{r.Envelope("ok"), out})
	if unsure {
		setRetryAfter(ctx, defaultRetryAfter)
	}
}
