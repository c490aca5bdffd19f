package api

import (
	"encoding/json"

	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/shared/timestamp"
	"machineid/shared/wire"
)

// instant is a time in answers: milliseconds since 1970, sent as RFC 3339 in UTC, zero as null.
type instant int64

// MarshalJSON implements json.Marshaler.
func (t instant) MarshalJSON() ([]byte, error) {
	if t == 0 {
		return []byte("null"), nil
	}
	return append(timestamp.Append([]byte{'"'}, int64(t)), '"'), nil
}

// orNull returns an optional text, empty as nil. Not a type that marshals itself: encoding/json would escape it for HTML.
func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// plan is the plan fields.
type plan struct {
	PlanTier        string  `json:"planTier"`
	PlanState       string  `json:"planState"`
	AccessUntil     instant `json:"accessUntil"`
	Limit           uint32  `json:"limit"`
	DevicesUsed     uint32  `json:"devicesUsed"`
	Remaining       uint32  `json:"remaining"`
	OverLimit       bool    `json:"overLimit"`
	SoftGraceWindow bool    `json:"softGraceWindow"`
}

func planOf(p state.Plan) plan {
	return plan{
		PlanTier: p.Tier, PlanState: p.State.String(), AccessUntil: instant(p.AccessUntil),
		Limit: p.Limit, DevicesUsed: p.Used, Remaining: p.Remaining(),
		OverLimit: p.OverLimit(), SoftGraceWindow: p.State == state.PlanGrace,
	}
}

// fields lists the plan fields for an error's answer.
func (p plan) fields() []wire.Field {
	return []wire.Field{
		{Name: "planTier", Value: p.PlanTier},
		{Name: "planState", Value: p.PlanState},
		{Name: "accessUntil", Value: p.AccessUntil},
		{Name: "limit", Value: p.Limit},
		{Name: "devicesUsed", Value: p.DevicesUsed},
		{Name: "remaining", Value: p.Remaining},
		{Name: "overLimit", Value: p.OverLimit},
		{Name: "softGraceWindow", Value: p.SoftGraceWindow},
	}
}

// device is a device in answers that show it whole. LastSeenAt is as edges have reported it (I10).
type device struct {
	DeviceID   string          `json:"deviceId"`
	Status     string          `json:"status"`
	Revoked    bool            `json:"revoked"`
	CreatedAt  instant         `json:"createdAt"`
	RevokedAt  instant         `json:"revokedAt"`
	LastSeenAt instant         `json:"lastSeenAt"`
	ExpiresAt  instant         `json:"expiresAt"`
	Name       *string         `json:"name"`
	Metadata   json.RawMessage `json:"metadata"` // null if nil
}

func deviceOf(d *statepb.Occupant, lastSeen int64) device {
	status := "active"
	if d.GetRevokedAtMs() != 0 {
		status = "revoked"
	}
	return device{
		DeviceID: d.GetId(), Status: status, Revoked: d.GetRevokedAtMs() != 0,
		CreatedAt: instant(d.GetCreatedAtMs()), RevokedAt: instant(d.GetRevokedAtMs()), ExpiresAt: instant(d.GetExpiresAtMs()),
		LastSeenAt: instant(lastSeen), Name: orNull(d.GetName()), Metadata: d.GetMetadata(),
	}
}
