//go:build unix

package cli

import (
	"testing"
	"time"
)

// TestTheJudgeCatches proves that the virtual cluster's judge of validates can fail. The device is registered in [10, 20], looked at in
// [15, 55] (active), revoked in [30, 40], restored in [50, 60] with an unknown outcome, and found revoked in [70, 80]; the
// org is off from [100, 110] to [120, 130]. At the end it is restored and removed at the same time, and the authority alone says
// that it is active.
func TestTheJudgeCatches(t *testing.T) {
	d, o := subject{"o", "d"}, subject{"o", ""}
	h := annals{accesses: []access{
		{subject: d, what: sight, after: revoked, called: 70, returned: 80},
		{subject: d, what: register, after: active, called: 10, returned: 20, changed: true},
		{subject: d, what: sight, after: active, called: 15, returned: 55},
		{subject: d, what: revoke, after: revoked, called: 30, returned: 40, changed: true},
		{subject: d, what: unrevoke, after: active, called: 50, returned: forever},
		{subject: o, what: switchOut, after: switchOff, called: 100, returned: 110, changed: true},
		{subject: o, what: switchIt, after: switchOn, called: 120, returned: 130, changed: true},
		{subject: d, what: unrevoke, after: active, called: 200, returned: 210, changed: true},
		{subject: d, what: remove, after: absent, called: 205, returned: 220, changed: true},
		{subject: d, what: sight, after: absent, called: 300, returned: 310},
		{subject: d, what: sight, after: active, called: 400, returned: 410, passing: true},
	}, keys: []access{
		{subject: subject{"o", "k"}, what: makeKey, after: active, called: 21, returned: 22},
		{subject: subject{"o", "k"}, what: dropKey, after: absent, called: 24, returned: 26},
		{subject: subject{"o", "lost"}, what: makeKey, after: active, called: 21, returned: 22},
		{subject: subject{"o", "lost"}, what: dropKey, after: absent, called: 23, returned: forever},
	}}
	tests := map[string]struct {
		device    string
		key       string
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
		"not found after an unknown restore":   {sent: 61, got: 65, code: codeNotFound, caught: true},
		"an unknown restore that is made late": {sent: 81, got: 85, code: codeAllow},
		"unsure":                               {sent: 81, got: 85, code: codeUnsure},
		"another's ALLOW":                      {device: "x", sent: 21, got: 25, code: codeAllow, caught: true},
		"a key that is made":                   {key: "k", sent: 20, got: 21, code: codeUnknownKey},
		"ALLOW to a key in force":              {key: "k", sent: 23, got: 23, code: codeAllow},
		"a key in force is unknown":            {key: "k", sent: 23, got: 23, code: codeUnknownKey, caught: true},
		"ALLOW to a key that is revoked":       {key: "k", sent: 25, got: 27, code: codeAllow},
		"ALLOW to a key that was revoked":      {key: "k", sent: 27, got: 28, code: codeAllow, caught: true},
		"a denial to a key that was revoked":   {key: "k", sent: 41, got: 45, code: codeRevoked, caught: true},
		"a key that was revoked":               {key: "k", sent: 27, got: 28, code: codeUnknownKey},
		"ALLOW after an unknown revocation":    {key: "lost", sent: 27, got: 28, code: codeAllow},
		"unknown after an unknown revocation":  {key: "lost", sent: 27, got: 28, code: codeUnknownKey},
		"unknown key":                          {sent: 21, got: 25, code: "ORG_NOT_FOUND", caught: true},
		"the org is off":                       {sent: 111, got: 115, code: codeDisabled},
		"the device's code while the org is":   {sent: 111, got: 115, code: codeRevoked, caught: true},
		"the org is off before it is":          {sent: 81, got: 85, code: codeDisabled, caught: true},
		"the device's code as the org goes on": {sent: 111, got: 125, code: codeRevoked},
		"two changes at once, the one":         {sent: 221, got: 225, code: codeAllow},
		"two changes at once, the other":       {sent: 221, got: 225, code: codeNotFound},
		"two changes at once, neither":         {sent: 221, got: 225, code: codeRevoked, caught: true},
		"what was found after them":            {sent: 311, got: 315, code: codeNotFound},
		"the unknown restore, even then":       {sent: 411, got: 415, code: codeAllow},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			if tt.device == "" {
				tt.device = "d"
			}
			h := h
			h.glances = []glance{{org: "o", device: tt.device, by: "e", key: tt.key, sent: tt.sent, got: tt.got, code: tt.code}}
			faults := h.irregular()
			if caught := len(faults) > 0; caught != tt.caught {
				t.Errorf("caught: %v (%v), want %v", caught, faults, tt.caught)
			}
		})
	}
}

// TestALookRulesOut: what a look has found rules out what was before it, unless that is the same.
func TestALookRulesOut(t *testing.T) {
	d := subject{"o", "d"}
	h := annals{accesses: []access{
		{subject: d, what: register, after: active, called: 10, returned: 40},
		{subject: d, what: revoke, after: revoked, called: 20, returned: 40},
		{subject: d, what: sight, after: revoked, called: 50, returned: 60},
	}}
	for code, caught := range map[string]bool{codeAllow: true, codeRevoked: false, codeNotFound: true} {
		h.glances = []glance{{org: "o", device: "d", by: "e", sent: 61, got: 62, code: code}}
		if got := len(h.irregular()) > 0; got != caught {
			t.Errorf("%s is caught: %v", code, got)
		}
	}
}

// TestTheObjectsCatch proves that the check of what the authority says by itself can fail.
func TestTheObjectsCatch(t *testing.T) {
	a := func(what action, is condition, called, returned time.Duration) access {
		return access{subject: subject{"o", "d"}, what: what, after: is, called: called, returned: returned, changed: what != sight}
	}
	still := func(x access) access { x.changed = false; return x }
	refused := func(x access) access { x.refused, x.changed = true, false; return x }
	tests := map[string]struct {
		list   []access
		caught bool
	}{
		"in order":                     {list: []access{a(register, active, 1, 2), a(revoke, revoked, 3, 4), a(sight, revoked, 5, 6)}},
		"stale look":                   {list: []access{a(register, active, 1, 2), a(revoke, revoked, 3, 4), a(sight, active, 5, 6)}, caught: true},
		"look during the change":       {list: []access{a(register, active, 1, 2), a(revoke, revoked, 3, 8), a(sight, active, 5, 6)}},
		"new, then old":                {list: []access{a(register, active, 1, 2), a(revoke, revoked, 3, 9), a(sight, revoked, 4, 5), a(sight, active, 6, 7)}, caught: true},
		"lost change":                  {list: []access{a(register, active, 1, 2), a(sight, absent, 3, 4)}, caught: true},
		"a change that was none":       {list: []access{a(register, active, 1, 2), still(a(register, active, 3, 4))}},
		"made twice":                   {list: []access{a(register, active, 1, 2), a(register, active, 3, 4)}, caught: true},
		"did nothing where it must":    {list: []access{still(a(register, active, 1, 2))}, caught: true},
		"refused rightly":              {list: []access{refused(a(revoke, absent, 1, 2))}},
		"refused wrongly":              {list: []access{a(register, active, 1, 2), refused(a(revoke, absent, 3, 4))}, caught: true},
		"registered though revoked":    {list: []access{a(register, active, 1, 2), a(revoke, revoked, 3, 4), a(register, active, 5, 6)}, caught: true},
		"unknown and made":             {list: []access{a(register, active, 1, forever), a(sight, active, 3, 4)}},
		"unknown and not made":         {list: []access{a(register, active, 1, forever), a(sight, absent, 3, 4)}},
		"unknown, made and gone again": {list: []access{a(register, active, 1, forever), a(sight, active, 3, 4), a(sight, absent, 5, 6)}, caught: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			for i := range tt.list {
				tt.list[i].client = i
			}
			faults := (&annals{accesses: tt.list}).nonlinear()
			if caught := len(faults) > 0; caught != tt.caught {
				t.Errorf("caught: %v (%v), want %v", caught, faults, tt.caught)
			}
		})
	}
}
