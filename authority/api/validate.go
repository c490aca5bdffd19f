package api

import (
	"context"
	"time"

	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/shared/decision"
	"machineid/shared/orgkey"
	"machineid/shared/wire"
)

// validateBudget leaves a tenth of validate's second for the answer's way.
const validateBudget = 900 * time.Millisecond

// validate answers a validate. It does not wait for the edges: validate promises the newest state or one that is just being
// replaced, and a decision that waits for a dead edge would be no decision.
func (r *request) validate() {
	// Only an edge answers from memory.
	r.http.Response.Header.Set("X-Cache", "miss")
	wire.Waits(r.http)
	v, code := wire.ParseValidate(r.http)
	if v.Operated {
		if err := r.operatorFor(); err != nil {
			v.Fault = r.fault(err)
			code = decision.InvalidOrgKey
			if v.Fault.HTTP/100 == 5 {
				code, v.Fault = decision.SystemUnavailable, nil
			}
		}
	}
	if code == 0 {
		code = r.decide(v)
	}
	wire.WriteDecision(r.http, &wire.Decision{Code: code, RequestID: r.in.ID, DeviceID: v.DeviceID, Fault: v.Fault})
}

// holder finds the key and the org that a decision is for. An operator's token stands for a key of the org that it names.
func (r *request) holder(s *sight, sum orgkey.Hash) (key decision.Key, org state.OrgID, holder *statepb.Org, err error) {
	if r.scope != statepb.Key_NONE {
		holder, err = s.Org(r.org)
		return decision.Key{Known: true}, r.org, holder, err
	}
	rec, err := s.Key(sum)
	if err != nil {
		return key, org, nil, err
	}
	if rec != nil {
		org = state.OrgID(rec.GetOrgId())
	}
	holder, err = s.Org(org)
	return state.KeyOf(rec), org, holder, err
}

func (r *request) decide(v wire.ValidateRequest) (code decision.Code) {
	ctx, cancel := context.WithDeadline(context.Background(), r.validateDeadline())
	defer cancel()
	err := r.look(ctx, func(s *sight) (bool, error) {
		key, org, holder, err := r.holder(s, v.Sum)
		if err != nil {
			return false, err
		}
		occupant, err := s.Occupant(org, string(v.DeviceID))
		if err != nil {
			return false, err
		}
		code = r.judge(s, key, state.HolderOf(holder), state.OccupantOf(occupant))
		if code != decision.OrgNotFound && !v.Operated {
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
