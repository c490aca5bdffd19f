package state

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"machineid/authority/state/statepb"
)

// settingMax is how many bytes of a JSON object an audit entry keeps; of a larger one it tells the size and a digest.
const (
	settingMax = 512
	digestSize = 8 // bytes
)

// Setting is what is set, before and after a change, by the name that it has in the API. Nil is none.
func Setting(name string, before, after *statepb.Value) *statepb.Setting {
	return &statepb.Setting{Name: name, Before: before, After: after}
}

// Flag is the value of what is on or off.
func Flag(on bool) *statepb.Value { return &statepb.Value{Value: &statepb.Value_Flag{Flag: on}} }

// Number is the value of a number.
func Number(n int64) *statepb.Value { return &statepb.Value{Value: &statepb.Value_Number{Number: n}} }

// Text is the value of a text; an empty one is none.
func Text(s string) *statepb.Value {
	if s == "" {
		return nil
	}
	return &statepb.Value{Value: &statepb.Value_Text{Text: s}}
}

// moment is the value of a time, in milliseconds since 1970; 0 is none.
func moment(ms int64) *statepb.Value {
	if ms == 0 {
		return nil
	}
	return &statepb.Value{Value: &statepb.Value_TimeMs{TimeMs: ms}}
}

// object is the value of a JSON object.
func object(raw []byte) *statepb.Value {
	switch {
	case len(raw) == 0:
		return nil
	case len(raw) > settingMax:
		sum := sha256.Sum256(raw)
		return &statepb.Value{Value: &statepb.Value_Digest{Digest: fmt.Sprintf("%d bytes, SHA-256 %x", len(raw), sum[:digestSize])}}
	}
	return &statepb.Value{Value: &statepb.Value_Json{Json: raw}}
}

// differing are the settings that a change has set otherwise.
func differing(list []*statepb.Setting) []*statepb.Setting {
	return slices.DeleteFunc(list, func(s *statepb.Setting) bool { return proto.Equal(s.GetBefore(), s.GetAfter()) })
}

// orgSettings are what admins and operators set of an org; nil is none.
func orgSettings(old, next *statepb.Org) []*statepb.Setting {
	of := func(o *statepb.Org, v *statepb.Value) *statepb.Value {
		if o == nil {
			return nil
		}
		return v
	}
	limit := func(o *statepb.Org) *statepb.Value {
		if o == nil || o.Limit == nil {
			return nil
		}
		return Number(int64(o.GetLimit()))
	}
	return []*statepb.Setting{
		Setting("name", Text(old.GetName()), Text(next.GetName())),
		Setting("externalId", Text(old.GetExternalId()), Text(next.GetExternalId())),
		Setting("executionEnabled", of(old, Flag(!old.GetExecutionDisabled())), of(next, Flag(!next.GetExecutionDisabled()))),
		Setting("hold", of(old, Flag(old.GetHeld())), of(next, Flag(next.GetHeld()))),
		Setting("planTier", Text(old.GetPlanTier()), Text(next.GetPlanTier())),
		Setting("limit", limit(old), limit(next)),
		Setting("accessUntil", moment(old.GetAccessUntilMs()), moment(next.GetAccessUntilMs())),
		Setting("version", of(old, Number(int64(old.GetVersion()))), of(next, Number(int64(next.GetVersion())))),
	}
}

// deviceSettings are those of a device; nil is none.
func deviceSettings(old, next *statepb.Occupant) []*statepb.Setting {
	return []*statepb.Setting{
		Setting("name", Text(old.GetName()), Text(next.GetName())),
		Setting("metadata", object(old.GetMetadata()), object(next.GetMetadata())),
		Setting("expiresAt", moment(old.GetExpiresAtMs()), moment(next.GetExpiresAtMs())),
	}
}

// keySettings are those of a key; nil is none.
func keySettings(old, next *statepb.Key) []*statepb.Setting {
	return []*statepb.Setting{
		Setting("name", Text(old.GetName()), Text(next.GetName())),
		Setting("scope", Text(scopeOf(old)), Text(scopeOf(next))),
		Setting("expiresAt", moment(old.GetExpiresAtMs()), moment(next.GetExpiresAtMs())),
	}
}

// scopeOf names a key's scope as the API does.
func scopeOf(k *statepb.Key) string {
	switch k.GetScope() {
	case statepb.Key_ADMIN:
		return "admin"
	case statepb.Key_AGENT:
		return "agent"
	case statepb.Key_VALIDATE:
		return "validate"
	case statepb.Key_NONE:
	}
	return ""
}

// planSettings are the tiers; nil is none.
func planSettings(old, next *statepb.Plans) []*statepb.Setting {
	tiers := func(p *statepb.Plans) *statepb.Value {
		if p == nil {
			return nil
		}
		return &statepb.Value{Value: &statepb.Value_Plans{Plans: &statepb.Plans{Plans: p.GetPlans()}}}
	}
	days := func(p *statepb.Plans) *statepb.Value {
		if p == nil {
			return nil
		}
		return Number(int64(p.GetGraceDays()))
	}
	return []*statepb.Setting{Setting("plans", tiers(old), tiers(next)), Setting("graceDays", days(old), days(next))}
}

// linkSettings are the times of leases; nil is none. Whether leases are out is no setting.
func linkSettings(old, next *statepb.LinkRecord) []*statepb.Setting {
	span := func(r *statepb.LinkRecord, ns int64) *statepb.Value {
		if r == nil {
			return nil
		}
		return Text(time.Duration(ns).String())
	}
	ppm := func(r *statepb.LinkRecord) *statepb.Value {
		if r == nil {
			return nil
		}
		return Number(int64(r.GetClockBoundPpm()))
	}
	return []*statepb.Setting{
		Setting("lease", span(old, old.GetLeaseNs()), span(next, next.GetLeaseNs())),
		Setting("cacheTtl", span(old, old.GetCacheTtlNs()), span(next, next.GetCacheTtlNs())),
		Setting("clockBoundPpm", ppm(old), ppm(next)),
	}
}

// billingSettings are what Stripe says of an org, and what its plan comes to by that.
func billingSettings(oldOrg, org *statepb.Org, old, next *statepb.Billing) []*statepb.Setting {
	status := func(s *statepb.Subscription) *statepb.Value {
		if s == nil {
			return nil
		}
		return Text(s.GetStatus().String())
	}
	return []*statepb.Setting{
		Setting("customer", Text(old.GetCustomerId()), Text(next.GetCustomerId())),
		Setting("subscription", Text(old.GetSubscription().GetId()), Text(next.GetSubscription().GetId())),
		Setting("subscriptionStatus", status(old.GetSubscription()), status(next.GetSubscription())),
		Setting("paidTier", Text(oldOrg.GetPaidTier()), Text(org.GetPaidTier())),
		Setting("endsAt", moment(oldOrg.GetPaidUntilMs()), moment(org.GetPaidUntilMs())),
		Setting("graceUntil", moment(oldOrg.GetGraceUntilMs()), moment(org.GetGraceUntilMs())),
		Setting("unpaid", Flag(oldOrg.GetUnpaid()), Flag(org.GetUnpaid())),
	}
}

// TokenID names an operator's token, by its SHA-256, in the audit. It tells nothing of the token, and is none of the bytes by which it is known.
func TokenID(hash []byte) string {
	const size = 4 // bytes
	if len(hash) == 0 {
		return ""
	}
	sum := sha256.Sum256(append([]byte("machineid operator's token "), hash...))
	return hex.EncodeToString(sum[:size])
}
