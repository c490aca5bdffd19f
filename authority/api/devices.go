package api

import (
	"context"
	"encoding/json"
	"errors"

	"machineid/authority/hub"
	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/shared/wire"
)

// maxTTL is the longest a device may be registered for, ten years, in seconds.
const maxTTL = 10 * 365 * 24 * 3600

type registered struct {
	wire.Envelope
	DeviceID string `json:"deviceId"`
	plan
	CreatedAt   instant         `json:"createdAt"`
	ExpiresAt   instant         `json:"expiresAt"`
	Name        *string         `json:"name"`
	Metadata    json.RawMessage `json:"metadata"`
	Propagation hub.Propagation `json:"propagation"`
}

func register(r *request) (step, error) {
	c, err := r.registration()
	if err != nil {
		return step{}, err
	}
	return step{rejudged: true, change: func(ctx context.Context) (any, error) {
		c.OrgId, c.MayRestore = r.org[:], r.scope == statepb.Key_ADMIN
		d, err := r.commitAmong(ctx, &statepb.Command{Change: &statepb.Command_Register{Register: c}})
		if err != nil {
			return r.atCap(c.GetDeviceId(), err)
		}
		status := "ok"
		switch {
		case d.Existed:
			status = "exists"
		case d.Restored:
			status = "restored"
		}
		return registered{
			Envelope: r.in.Envelope(status), DeviceID: c.GetDeviceId(), plan: planOf(d.Plan),
			CreatedAt: instant(d.Device.GetCreatedAtMs()), ExpiresAt: instant(d.Device.GetExpiresAtMs()),
			Name: orNull(d.Device.GetName()), Metadata: d.Device.GetMetadata(), Propagation: d.propagation,
		}, nil
	}}, nil
}

// registration reads the parameters of register.
func (r *request) registration() (*statepb.Register, error) {
	id, err := r.body.DeviceID()
	if err != nil {
		return nil, err
	}
	c := &statepb.Register{DeviceId: id}
	if c.Name, err = r.text("name"); err != nil {
		return nil, err
	}
	if c.Metadata, err = r.metadata(); err != nil {
		return nil, err
	}
	ttl, present, err := r.body.Int("ttlSeconds")
	if err != nil {
		return nil, err
	}
	if present {
		if ttl < 1 || ttl > maxTTL {
			return nil, &wire.ParamError{Param: "ttlSeconds", Message: "ttlSeconds is out of range: send 1 to 315360000"}
		}
		c.TtlSeconds = &ttl
	}
	return c, nil
}

// metadata returns the optional member of that name, nil if it was not given. It is kept as it was written, so a number must be
// one that readers can take: 1e400 is JSON, but a list that holds it breaks clients that read numbers as doubles (RFC 7493, 2.2).
func (r *request) metadata() (json.RawMessage, error) {
	raw, present, err := r.body.Raw("metadata", wire.MaxMetadata)
	if err != nil || !present {
		return nil, err
	}
	var readable map[string]any
	if json.Unmarshal(raw, &readable) != nil {
		return nil, &wire.ParamError{Param: "metadata", Message: "metadata holds a number beyond a double's range: send it as a string"}
	}
	return raw, nil
}

type limitReached struct {
	wire.Envelope
	DeviceID string `json:"deviceId"`
	plan
}

// atCap answers a register at the cap in the form of the first generation, if the request is to be answered in that: not
// as an error. Other errors it returns as they are.
func (r *request) atCap(id string, err error) (any, error) {
	f, ok := errors.AsType[*refusal](err)
	if !ok || f.out.Refusal != state.LimitReached {
		return nil, err
	}
	if f.device = id; r.version(f.out.Org) != 1 {
		return nil, f
	}
	answer := limitReached{Envelope: r.in.Envelope("limit_reached"), DeviceID: id, plan: planOf(f.out.Plan)}
	answer.OverLimit = true // so its clients tell it, although used is not above limit
	return answer, nil
}

// onDevice makes a call that changes one device and needs nothing but its id.
func onDevice(commit committer, command func(org []byte, id string) *statepb.Command, answer func(*request, string, done) any) func(*request) (step, error) {
	return func(r *request) (step, error) {
		id, err := r.body.DeviceID()
		if err != nil {
			return step{}, err
		}
		return step{rejudged: true, change: func(ctx context.Context) (any, error) {
			d, err := commit(r, ctx, command(r.org[:], id))
			if f, ok := errors.AsType[*refusal](err); ok {
				f.device = id
				return nil, f
			}
			if err != nil {
				return nil, err
			}
			return answer(r, id, d), nil
		}}, nil
	}
}

func revoke(org []byte, id string) *statepb.Command {
	return &statepb.Command{Change: &statepb.Command_Revoke{Revoke: &statepb.Revoke{OrgId: org, DeviceId: id}}}
}

func unrevoke(org []byte, id string) *statepb.Command {
	return &statepb.Command{Change: &statepb.Command_Unrevoke{Unrevoke: &statepb.Unrevoke{OrgId: org, DeviceId: id}}}
}

func remove(org []byte, id string) *statepb.Command {
	return &statepb.Command{Change: &statepb.Command_Remove{Remove: &statepb.Remove{OrgId: org, DeviceId: id}}}
}

// switched answers revoke and unrevoke.
func switched(r *request, id string, d done) any {
	return struct {
		wire.Envelope
		DeviceID    string          `json:"deviceId"`
		Revoked     bool            `json:"revoked"`
		Changed     bool            `json:"changed"`
		Propagation hub.Propagation `json:"propagation"`
	}{r.in.Envelope("ok"), id, d.Device.GetRevokedAtMs() != 0, d.Changed, d.propagation}
}

func removed(r *request, id string, d done) any {
	return struct {
		wire.Envelope
		DeviceID    string          `json:"deviceId"`
		Removed     bool            `json:"removed"`
		Propagation hub.Propagation `json:"propagation"`
	}{r.in.Envelope("ok"), id, true, d.propagation}
}

func getDevice(r *request) (step, error) {
	id, err := r.queriedDevice()
	if err != nil {
		return step{}, err
	}
	return step{read: func(s *sight) (any, error) {
		d, err := s.Occupant(s.orgID, id)
		if err != nil {
			return nil, err
		}
		if !state.Stands(d, s.now) {
			return nil, wire.DeviceNotFound()
		}
		seen, err := s.LastSeen(s.orgID, id)
		if err != nil {
			return nil, err
		}
		e := r.in.Envelope("") // the status is the device's own
		return struct {
			device
			Handler   string `json:"handler"`
			RequestID string `json:"request_id"`
		}{deviceOf(d, seen), e.Handler, e.RequestID}, nil
	}}, nil
}
