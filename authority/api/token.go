package api

import (
	"context"
	"crypto/sha256"

	"machineid/authority/state/statepb"
	"machineid/shared/wire"
)

// Bounds of an operator's token, in bytes. What begins a cluster has the same least.
const (
	minToken = 32
	maxToken = 256
)

// rotateToken puts the operator's token that the caller has chosen in the place of the one that it shows. The new one is the caller's so that a
// lost answer shuts nobody out: it is tried, or sent again. The log holds hashes.
func rotateToken(r *request) (step, error) {
	token, present, err := r.body.String("token")
	if err != nil {
		return step{}, err
	}
	if !present || len(token) < minToken || len(token) > maxToken || !graphic(token) {
		return step{}, &wire.ParamError{Param: "token", Message: "token is missing or no new operator's token: send 32 to 256 printable ASCII characters without spaces"}
	}
	next := sha256.Sum256([]byte(token))
	return step{change: func(ctx context.Context) (any, error) {
		d, err := r.commit(ctx, &statepb.Command{Change: &statepb.Command_RotateToken{
			RotateToken: &statepb.RotateToken{OldHash: r.token, NewHash: next[:]},
		}})
		if err != nil {
			return nil, err
		}
		return struct {
			wire.Envelope
			Changed bool `json:"changed"`
		}{r.in.Envelope("ok"), d.Changed}, nil
	}}, nil
}

// graphic tells whether a text is of visible ASCII characters only.
func graphic(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}
