package decision_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"machineid/shared/decision"
)

// TestOrder switches the causes on one by one from the last to the first: each
// must win over all those that come after it.
func TestOrder(t *testing.T) {
	const now = 1000
	key := decision.Key{Known: true}
	org := decision.Holder{Known: true}
	dev := decision.Occupant{Known: true}
	steps := []struct {
		name string
		set  func()
		want decision.Code
	}{
		{"nothing", func() {}, decision.Allow},
		{"revoked", func() { dev.Revoked = true }, decision.DeviceRevoked},
		{"device expired", func() { dev.ExpiresAt = now }, decision.DeviceNotFound},
		{"device unknown", func() { dev.Known = false }, decision.DeviceNotFound},
		{"entitlement ended", func() { org.AccessUntil = now }, decision.EntitlementExpired},
		{"grace ended", func() { org.GraceUntil = now }, decision.PlanFrozen},
		{"frozen", func() { org.Frozen = true }, decision.PlanFrozen},
		{"disabled", func() { org.Disabled = true }, decision.OrgDisabled},
		{"org unknown", func() { org.Known = false }, decision.OrgNotFound},
		{"key expired", func() { key.ExpiresAt = now }, decision.OrgNotFound},
		{"key unknown", func() { key.Known = false }, decision.OrgNotFound},
		{"newer record", func() { dev.MinVersion = decision.Version + 1 }, decision.SystemUnavailable},
	}
	for _, s := range steps {
		s.set()
		if got := decision.Decide(key, org, dev, now); got != s.want {
			t.Errorf("%s: got %v, want %v", s.name, got, s.want)
		}
	}
}

func TestEndsAreExclusive(t *testing.T) {
	k, h := decision.Key{Known: true, ExpiresAt: 10}, decision.Holder{Known: true, AccessUntil: 20, GraceUntil: 30}
	o := decision.Occupant{Known: true, ExpiresAt: 5}
	for now, want := range map[decision.Millis]decision.Code{
		4: decision.Allow, 5: decision.DeviceNotFound, 9: decision.DeviceNotFound, 10: decision.OrgNotFound,
	} {
		if got := decision.Decide(k, h, o, now); got != want {
			t.Errorf("at %d: got %v, want %v", now, got, want)
		}
	}
}

// TestAllowNeedsEverything checks Decide against its meaning said the other way
// round: ALLOW if and only if no single cause against it holds.
func TestAllowNeedsEverything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		end := rapid.Int64Range(0, 3)
		version := rapid.Uint32Range(0, decision.Version+1)
		b := rapid.Bool()
		k := decision.Key{MinVersion: version.Draw(t, "kv"), Known: b.Draw(t, "k"), ExpiresAt: end.Draw(t, "ke")}
		h := decision.Holder{
			MinVersion: version.Draw(t, "hv"), Known: b.Draw(t, "h"), Disabled: b.Draw(t, "dis"), Frozen: b.Draw(t, "frz"),
			GraceUntil: end.Draw(t, "grace"), AccessUntil: end.Draw(t, "access"),
		}
		o := decision.Occupant{MinVersion: version.Draw(t, "ov"), Known: b.Draw(t, "o"), Revoked: b.Draw(t, "rev"), ExpiresAt: end.Draw(t, "oe")}
		now := rapid.Int64Range(1, 3).Draw(t, "now")
		open := func(end decision.Millis) bool { return end == 0 || now < end }
		readable := k.MinVersion <= decision.Version && h.MinVersion <= decision.Version && o.MinVersion <= decision.Version
		want := readable && k.Known && open(k.ExpiresAt) && h.Known && !h.Disabled && !h.Frozen && open(h.GraceUntil) &&
			open(h.AccessUntil) && o.Known && open(o.ExpiresAt) && !o.Revoked
		if got := decision.Decide(k, h, o, now) == decision.Allow; got != want {
			t.Fatalf("allow = %v, want %v", got, want)
		}
	})
}

func TestTexts(t *testing.T) {
	for _, c := range decision.Codes() {
		if c.Reason() != strings.ToLower(c.String()) {
			t.Errorf("%v: reason %q", c, c.Reason())
		}
		if c.Status() == "" {
			t.Errorf("%v has no status", c)
		}
	}
	if got := decision.Code(0).String(); got != "UNKNOWN" {
		t.Errorf("zero code prints %q", got)
	}
}
