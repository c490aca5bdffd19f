package api

import (
	"context"

	"machineid/authority/state"
	"machineid/shared/decision"
	"machineid/shared/wire"
)

// validateBatch answers for several devices from one view. It waits for no edge, as validate.
func (r *request) validateBatch() {
	r.http.Response.Header.Set("X-Cache", "miss")
	if r.in.Operated() {
		if err := r.operatorFor(); err != nil {
			r.in.Error(r.http, r.fault(err))
			return
		}
	}
	sum, list, fault := wire.ParseValidateBatch(r.http)
	if fault != nil {
		r.in.Error(r.http, fault)
		return
	}
	ctx, cancel := context.WithDeadline(context.Background(), r.validateDeadline())
	defer cancel()
	err := r.look(ctx, func(s *sight) (bool, error) {
		s.Reader = s.Paced(yielding())
		key, org, holder, err := r.holder(s, sum)
		if err != nil {
			return false, err
		}
		if !r.in.Operated() && key.Alive(s.now) && state.HolderOf(holder).Known {
			r.api.cfg.Hub.Used(sum, s.now)
		}
		for i := range list {
			if list[i].ID == nil {
				continue
			}
			d, err := s.Occupant(org, string(list[i].ID))
			if err != nil {
				return false, err
			}
			list[i].Code = r.judge(s, key, state.HolderOf(holder), state.OccupantOf(d))
			if state.Stands(d, s.now) {
				r.api.cfg.Hub.Seen(org, string(list[i].ID), s.now)
			}
		}
		return false, nil
	})
	if err != nil {
		_ = r.fault(err) // logs it, if it should be
		for i := range list {
			if list[i].ID != nil {
				list[i].Code = decision.SystemUnavailable
			}
		}
	}
	wire.WriteDecisions(r.http, r.in, list)
}
