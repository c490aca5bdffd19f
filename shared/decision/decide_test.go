package decision_test

import (
	"slices"
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

// TestRecordsOfANewerVersion: version 1 is read, and a record that needs more is not, whichever of the three it is.
func TestRecordsOfANewerVersion(t *testing.T) {
	for i := range 3 {
		for version, want := range map[uint32]decision.Code{0: decision.Allow, 1: decision.Allow, 2: decision.SystemUnavailable} {
			least := [3]uint32{}
			least[i] = version
			got := decision.Decide(decision.Key{Known: true, MinVersion: least[0]}, decision.Holder{Known: true, MinVersion: least[1]},
				decision.Occupant{Known: true, MinVersion: least[2]}, 1)
			if got != want {
				t.Errorf("record %d of version %d: %v, want %v", i, version, got, want)
			}
		}
	}
}

// TestPartsAgreeWithTheWhole: what is asked of one record alone is what Decide says of it.
func TestPartsAgreeWithTheWhole(t *testing.T) {
	const now = 10
	for _, known := range []bool{true, false} {
		for end, open := range map[decision.Millis]bool{0: true, 9: false, 10: false, 11: true} {
			k, o := decision.Key{Known: known, ExpiresAt: end}, decision.Occupant{Known: known, ExpiresAt: end}
			if got, want := k.Alive(now), known && open; got != want {
				t.Errorf("a key that is known: %v, to %d, is alive: %v", known, end, got)
			}
			if got, want := o.Present(now), known && open; got != want {
				t.Errorf("a device that is known: %v, to %d, is present: %v", known, end, got)
			}
			if got := (decision.Holder{Known: known, AccessUntil: end}).Expired(now); got == open {
				t.Errorf("an org with access to %d is expired: %v", end, got)
			}
		}
	}
}

// TestWords: clients know these words, in this order.
func TestWords(t *testing.T) {
	var got []string
	for _, c := range decision.Codes() {
		got = append(got, c.String()+" "+c.Reason()+" "+c.Status())
	}
	want := []string{
		"INVALID_ORG_KEY invalid_org_key error", "INVALID_DEVICE_ID invalid_device_id error", "SYSTEM_UNAVAILABLE system_unavailable error",
		"ORG_NOT_FOUND org_not_found not_found", "ORG_DISABLED org_disabled blocked", "PLAN_FROZEN plan_frozen blocked",
		"ENTITLEMENT_EXPIRED entitlement_expired blocked", "DEVICE_NOT_FOUND device_not_found not_found", "DEVICE_REVOKED device_revoked revoked", "ALLOW allow ok",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the codes are\n%q, want\n%q", got, want)
	}
	for _, c := range []decision.Code{0, decision.Allow + 1} {
		if c.String() != "UNKNOWN" || c.Reason() != "unknown" || c.Status() != "error" {
			t.Errorf("%d: %s %s %s", c, c.String(), c.Reason(), c.Status())
		}
	}
}
