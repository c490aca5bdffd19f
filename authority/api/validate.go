package api

import (
	"context"
	"time"

	"machineid/authority/state"
	"machineid/shared/decision"
	"machineid/shared/wire"
)

// validateBudget leaves a tenth of validate's second for the answer's way.
const validateBudget = 900 * time.Millisecond

// validate answers a validate. It does not wait for the edges: validate promises the newest state or one that is just being
// replaced, and a decision that waits for a dead edge would be no decision.
func (r *request) validate() {
	// Only an edge answers from memory.
	r.http.Response.Header.Set("X-Cache", "miss")
	v, code := wire.ParseValidate(r.http)
	if code == 0 {
		code = r.decide(v)
	}
	wire.WriteDecision(r.http, &wire.Decision{Code: code, RequestID: r.in.ID, DeviceID: v.DeviceID})
}

func (r *request) decide(v wire.ValidateRequest) (code decision.Code) {
	ctx, cancel := context.WithDeadline(context.Background(), r.validateDeadline())
	defer cancel()
	err := r.look(ctx, func(s *sight) (bool, error) {
		key, err := s.Key(v.Sum)
		if err != nil {
			return false, err
		}
		var org state.OrgID
		if key != nil {
			org = state.OrgID(key.GetOrgId())
		}
		holder, err := s.Org(org)
		if err != nil {
			return false, err
		}
		occupant, err := s.Occupant(org, string(v.DeviceID))
		if err != nil {
			return false, err
		}
		code = r.judge(s, state.KeyOf(key), state.HolderOf(holder), state.OccupantOf(occupant))
		if code != decision.OrgNotFound {
			r.api.cfg.Hub.Used(v.Sum, s.now)
		}
		if state.Stands(occupant, s.now) {
			r.api.cfg.Hub.Seen(org, string(v.DeviceID), s.now)
		}
		return false, nil
	})
	if err != nil {
		_ = r.fault(err) // logs it, if it should be
		return decision.SystemUnavailable
	}
	return code
}

// judge decides at the time of a view. It tells of no end that has come while an edge may not have heard of the time: other calls wait for that, a validate does not (I11).
// A device that is not there may be one that has ended: a command of its org sweeps those.
func (r *request) judge(s *sight, key decision.Key, holder decision.Holder, occupant decision.Occupant) decision.Code {
	const before = 1 // any end
	code := decision.Decide(key, holder, occupant, s.now)
	mayEnd := code == decision.DeviceNotFound || code != decision.Decide(key, holder, occupant, before)
	if mayEnd && r.api.cfg.Hub.EdgesMayBeBehind() {
		return decision.SystemUnavailable
	}
	return code
}

// validateDeadline is when a decision must be there.
func (r *request) validateDeadline() time.Time {
	deadline := time.Now().Add(validateBudget)
	if r.deadline.Before(deadline) {
		deadline = r.deadline
	}
	return deadline
}
