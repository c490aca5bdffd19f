package api

import (
	"crypto/sha256"
	"strconv"
	"strings"

	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/shared/wire"
)

const (
	replayedHeader    = "Idempotency-Replayed"
	maxIdempotencyKey = 255 // bytes
	onceSize          = 16  // bytes of a hash that name a request
)

// checkIdempotencyKey judges the form of the header, wherever it may be sent.
func (r *request) checkIdempotencyKey() error {
	key := r.in.Head.IdempotencyKey
	if r.http.IsGet() || key == nil {
		return nil
	}
	bad := len(key) == 0 || len(key) > maxIdempotencyKey // taken for none, an empty one would have its caller do things twice
	for _, c := range key {
		bad = bad || c < ' ' || c > '~'
	}
	if bad {
		return &wire.ParamError{Param: "Idempotency-Key", Message: "Idempotency-Key is malformed: send 1 to 255 printable ASCII characters"}
	}
	return nil
}

// once names the change for the state: within the key that asks, or the operator, and the call, and with what was asked. The body counts as it was
// sent: who tries again sends the same bytes, and no version of this program reads them differently.
func (r *request) once() *statepb.Once {
	if len(r.in.Head.IdempotencyKey) == 0 || r.caller == nil && !r.onBehalf() {
		return nil
	}
	// None of them can hold a zero byte. Every key has an id. The operator has none here: what its token was before a rotation it asked for all the same.
	by := r.actor.GetId()
	if r.caller == nil {
		by = ""
	}
	names := []string{by, r.in.Route.Path, string(r.in.Head.IdempotencyKey)}
	if r.part > 0 {
		names = append(names, strconv.Itoa(r.part))
	}
	id := sha256.Sum256([]byte(strings.Join(names, "\x00")))
	request := sha256.Sum256(r.http.Request.Body())
	return &statepb.Once{Id: id[:onceSize], Request: request[:onceSize], Shared: true}
}

// onBehalf reports whether the operator makes an org's call for it.
func (r *request) onBehalf() bool {
	return r.actor.GetType() == statepb.Actor_OPERATOR && r.org != (state.OrgID{}) && !strings.HasPrefix(r.in.Route.Path, "operator/")
}

// replayed tells the caller that the outcome is one of before.
func (r *request) replayed(out *state.Outcome) {
	if out.Replayed {
		r.http.Response.Header.Set(replayedHeader, "true")
	}
}
