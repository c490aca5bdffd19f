package edge

import (
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"machineid/shared/clock"
	"machineid/shared/decision"
)

// TestADeviceIsWhatWasPutIn: the entry says of a device what the record did, and is found under
// its own org and id and no other, also where ids are long, or are the begin of one another.
func TestADeviceIsWhatWasPutIn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ids := rapid.OneOf(
			rapid.StringMatching(`[ab\x00]{1,3}`),
			rapid.Map(rapid.IntRange(shortID-2, shortID+3), func(n int) string { return strings.Repeat("a", n) }),
			rapid.StringN(1, 256, 256),
		)
		orgs := rapid.Map(rapid.IntRange(1, 3), func(n int) orgID { return orgID{byte(n)} })
		rec := decision.Occupant{
			MinVersion: rapid.SampledFrom([]uint32{0, 1, decision.Version, decision.Version + 1, 254, 255, 256, 257, 1 << 16, math.MaxUint32}).Draw(t, "version"),
			Known:      rapid.Bool().Draw(t, "known"), Revoked: rapid.Bool().Draw(t, "revoked"),
			ExpiresAt: rapid.Int64().Draw(t, "ends"),
		}
		at := stamp{index: rapid.Uint64().Draw(t, "index"), expires: clock.Time(rapid.Int64().Draw(t, "expires")), epoch: rapid.Uint32().Draw(t, "epoch")}
		org, id := orgs.Draw(t, "org"), ids.Draw(t, "id")
		of := &owner{org: org}
		d := newDevice(at, of, id, rec)

		if gotOrg, gotID := d.name(); gotOrg != org || gotID != id {
			t.Fatalf("the name is %v %q", gotOrg, gotID)
		}
		if d.stamp() != at {
			t.Fatalf("the stamp is %+v, not %+v", d.stamp(), at)
		}
		got, want := d.rec(), rec
		if rec.MinVersion >= tooNew { // which of those it is makes no difference
			if d.rec().MinVersion <= decision.Version {
				t.Fatalf("a record of version %d reads as %d", rec.MinVersion, d.rec().MinVersion)
			}
			got.MinVersion = rec.MinVersion
		}
		if got != want {
			t.Fatalf("the record is %+v, not %+v", got, want)
		}

		otherOrg, otherID := orgs.Draw(t, "other org"), ids.Draw(t, "other id")
		same := otherOrg == org && otherID == id
		shared := &owner{org: otherOrg}
		if otherOrg == org && rapid.Bool().Draw(t, "shared") {
			shared = of
		}
		if d.is(&keyEntry{org: otherOrg, owner: shared}, []byte(otherID)) != same {
			t.Fatalf("%v %q is taken for %v %q", otherOrg, otherID, org, id)
		}
		if d.same(newDevice(stamp{}, shared, otherID, decision.Occupant{})) != same {
			t.Fatalf("%v %q is the same as %v %q", otherOrg, otherID, org, id)
		}
	})
}

// TestADeviceIsSmall: a million times whatever it grows by.
func TestADeviceIsSmall(t *testing.T) {
	if n := reflect.TypeFor[deviceEntry]().Size(); n > 80 {
		t.Errorf("a device takes %d bytes; Go allocates 80 without waste, and the next size is 96", n)
	}
}

// TestADeviceIsNotedOnceAMinute at the most, from the first second of the clock on.
func TestADeviceIsNotedOnceAMinute(t *testing.T) {
	for _, start := range []clock.Time{0, 1, clock.Time(time.Second) - 1, clock.Time(1e9 * 86400 * 365 * 20)} {
		d := newDevice(stamp{}, testOwner, "d", decision.Occupant{Known: true})
		last := clock.Time(math.MinInt64 / 2)
		for now, times := start, 0; times < 10; now = now.Add(100 * time.Millisecond) {
			if !d.note(now) {
				if since := now.Sub(last); since > noteEvery+2*time.Second {
					t.Fatalf("not noted for %v", since)
				}
				continue
			}
			if since := now.Sub(last); since < noteEvery {
				t.Fatalf("noted again after %v", since)
			}
			last = now
			times++
		}
	}
	if newDevice(stamp{}, testOwner, "d", decision.Occupant{}).note(1) {
		t.Error("what does not exist is noted")
	}
}
