package api

import (
	"context"

	"github.com/valyala/fasthttp"

	"machineid/authority/recovery"
	"machineid/authority/state/statepb"
	"machineid/shared/wire"
)

// anyone is access without a key: to what says nothing and needs a token.
type anyone struct{}

func (anyone) present(*request) error { return nil }

func (anyone) admit(_ context.Context, r *request, _ func(*sight) (any, error)) (any, error) {
	r.actor = &statepb.Actor{Type: statepb.Actor_SYSTEM, Id: "recovery"}
	return nil, nil
}

// askRecovery takes an address and says the same of each. What there is to do is done later.
func askRecovery(r *request) (step, error) {
	address, present, err := r.body.String("email")
	if err != nil {
		return step{}, err
	}
	if !present || address == "" {
		return step{}, &wire.ParamError{Param: "email", Message: "email is missing: send the address with which the org pays"}
	}
	return step{change: func(context.Context) (any, error) {
		if r.api.cfg.Recover != nil {
			r.api.cfg.Recover(address, recovery.Asker{Address: r.address(), RequestID: string(r.in.ID)})
		}
		r.status = fasthttp.StatusAccepted
		return struct {
			wire.Envelope
			Message string `json:"message"`
		}{r.in.Envelope("ok"), "if an org pays with this address, a link is on its way there: it is good for 15 minutes"}, nil
	}}, nil
}

// confirmRecovery gives a new admin key for a token.
func confirmRecovery(r *request) (step, error) {
	token, present, err := r.body.String("token")
	if err != nil {
		return step{}, err
	}
	if !present || token == "" {
		return step{}, &wire.ParamError{Param: "token", Message: "token is missing: send what stands behind the # in the link that was mailed"}
	}
	org, hash, ok := recovery.Parse(token)
	if !ok {
		return step{}, wire.InvalidToken()
	}
	return step{change: func(ctx context.Context) (any, error) {
		r.org = org
		rec := &statepb.Key{Name: "recovered"}
		return r.makeKey(ctx, rec, &statepb.Command{Change: &statepb.Command_Recover{
			Recover: &statepb.Recover{OrgId: org[:], TokenHash: hash[:], Key: rec},
		}})
	}}, nil
}
