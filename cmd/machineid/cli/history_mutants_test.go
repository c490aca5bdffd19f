//go:build unix

package cli

import (
	"encoding/json"
	"testing"
	"time"
)

// TestCompareCatches proves that the crash test's comparison can fail: each mutant is a state after a restart that lost, kept or
// halved what it must not, and the good ones are those that unknown outcomes allow.
func TestCompareCatches(t *testing.T) {
	at := "2026-11-20T12:00:00.000Z"
	good := func(id string) seenDevice {
		return seenDevice{DeviceID: id, Status: "active", CreatedAt: &at, Name: "v7", Metadata: json.RawMessage(`{"v":7}`)}
	}
	off := func(d seenDevice) seenDevice {
		d.Status, d.Revoked, d.RevokedAt = "revoked", true, &at
		return d
	}
	with := func(d seenDevice, change func(*seenDevice)) seenDevice {
		change(&d)
		return d
	}
	var (
		isActive  = records{{active, 7}}
		isRevoked = records{{revoked, 7}}
		isAbsent  = records{{absent, 0}}
		maybe     = isAbsent.unknown(register, 7)
	)
	tests := map[string]struct {
		may      records
		got      []seenDevice
		used     int
		usage    int
		disabled bool
		caught   bool
	}{
		"as acknowledged":             {may: isActive, got: []seenDevice{good("d")}, used: 1, usage: 1},
		"unknown and done":            {may: maybe, got: []seenDevice{good("d")}, used: 1, usage: 1},
		"unknown and not done":        {may: maybe},
		"unknown revoke and done":     {may: isActive.unknown(revoke, 0), got: []seenDevice{off(good("d"))}},
		"lost registration":           {may: isActive, caught: true},
		"lost revoke":                 {may: isRevoked, got: []seenDevice{good("d")}, used: 1, usage: 1, caught: true},
		"lost unrevoke":               {may: isActive, got: []seenDevice{off(good("d"))}, caught: true},
		"lost removal":                {may: isAbsent, got: []seenDevice{good("d")}, used: 1, usage: 1, caught: true},
		"lost update":                 {may: records{{active, 8}}, got: []seenDevice{good("d")}, used: 1, usage: 1, caught: true},
		"nobody's device":             {may: isActive, got: []seenDevice{good("d"), good("x")}, used: 2, usage: 2, caught: true},
		"listed twice":                {may: isActive, got: []seenDevice{good("d"), good("d")}, used: 2, usage: 2, caught: true},
		"device without its count":    {may: maybe, got: []seenDevice{good("d")}, caught: true},
		"count without its device":    {may: maybe, used: 1, usage: 1, caught: true},
		"list and usage differ":       {may: isActive, got: []seenDevice{good("d")}, used: 1, caught: true},
		"lost switch of the org":      {may: isAbsent, disabled: true, caught: true},
		"name without its metadata":   {may: isActive, got: []seenDevice{with(good("d"), func(d *seenDevice) { d.Metadata = nil })}, used: 1, usage: 1, caught: true},
		"name of another version":     {may: isActive, got: []seenDevice{with(good("d"), func(d *seenDevice) { d.Name = "v6" })}, used: 1, usage: 1, caught: true},
		"revoked without its moment":  {may: isRevoked, got: []seenDevice{with(off(good("d")), func(d *seenDevice) { d.RevokedAt = nil })}, caught: true},
		"moment without being so":     {may: isActive, got: []seenDevice{with(good("d"), func(d *seenDevice) { d.RevokedAt = &at })}, used: 1, usage: 1, caught: true},
		"registered without a moment": {may: isActive, got: []seenDevice{with(good("d"), func(d *seenDevice) { d.CreatedAt = nil })}, used: 1, usage: 1, caught: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			_, faults := compare(map[string]records{"d": tt.may}, []bool{true},
				seen{devices: tt.got, used: tt.used, usageUsed: tt.usage, limit: 3, executionEnabled: !tt.disabled})
			if caught := len(faults) > 0; caught != tt.caught {
				t.Errorf("caught: %v (%v), want %v", caught, faults, tt.caught)
			}
		})
	}
}

// TestJudgeCatches proves that the crash test's judge of validates can fail. The device is registered in [10, 20], revoked in
// [30, 40], restored in [50, 60] with an unknown outcome, and looked at in [70, 80], when it turned out to be revoked; the org was
// off from [100, 110] to [120, 130].
func TestJudgeCatches(t *testing.T) {
	history := map[[2]string][]step{
		{"o", "d"}: {
			{10, 20, []string{codeAllow}},
			{30, 40, []string{codeRevoked}},
			{50, 60, []string{codeRevoked, codeAllow}},
			{70, 80, []string{codeRevoked}},
		},
		{"o", ""}: {{100, 110, []string{codeDisabled}}, {120, 130, []string{enabled}}},
	}
	tests := map[string]struct {
		device    string
		sent, got time.Duration
		code      string
		caught    bool
	}{
		"not yet registered":                   {sent: 1, got: 5, code: codeNotFound},
		"ALLOW before the registration":        {sent: 1, got: 5, code: codeAllow, caught: true},
		"ALLOW while it is registered":         {sent: 1, got: 11, code: codeAllow},
		"registered":                           {sent: 21, got: 25, code: codeAllow},
		"not found after the registration":     {sent: 21, got: 25, code: codeNotFound, caught: true},
		"ALLOW while it is revoked":            {sent: 35, got: 45, code: codeAllow},
		"revoked while it is revoked":          {sent: 29, got: 31, code: codeRevoked},
		"ALLOW after the revoke":               {sent: 41, got: 45, code: codeAllow, caught: true},
		"revoked":                              {sent: 41, got: 45, code: codeRevoked},
		"ALLOW, answered after the restore":    {sent: 41, got: 51, code: codeAllow},
		"ALLOW after an unknown restore":       {sent: 61, got: 65, code: codeAllow},
		"revoked after an unknown restore":     {sent: 61, got: 65, code: codeRevoked},
		"ALLOW after it was seen to be off":    {sent: 81, got: 85, code: codeAllow, caught: true},
		"unsure":                               {sent: 81, got: 85, code: codeUnsure},
		"another's ALLOW":                      {device: "x", sent: 21, got: 25, code: codeAllow, caught: true},
		"unknown key":                          {sent: 21, got: 25, code: "ORG_NOT_FOUND", caught: true},
		"the org is off":                       {sent: 111, got: 115, code: codeDisabled},
		"the device's code while the org is":   {sent: 111, got: 115, code: codeRevoked, caught: true},
		"the org is off before it is":          {sent: 81, got: 85, code: codeDisabled, caught: true},
		"the device's code as the org goes on": {sent: 111, got: 125, code: codeRevoked},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if tt.device == "" {
				tt.device = "d"
			}
			faults := judge(history, []sighting{{"o", tt.device, tt.sent, tt.got, tt.code}})
			if caught := len(faults) > 0; caught != tt.caught {
				t.Errorf("caught: %v (%v), want %v", caught, faults, tt.caught)
			}
		})
	}
}
