package recovery

import (
	"encoding/base64"
	"strings"
	"testing"

	"machineid/authority/state"
)

// FuzzParse: a token has one text, but for the space around it, and names an org.
func FuzzParse(f *testing.F) {
	for _, s := range []string{strings.Repeat("A", 64), strings.Repeat("B", 64), " " + strings.Repeat("_-", 32) + "\n", strings.Repeat("B", 63) + "=", "", strings.Repeat("B", 65), strings.Repeat("B", 32) + "\n" + strings.Repeat("B", 32)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, token string) {
		org, _, ok := Parse(token)
		if !ok {
			if org != (state.OrgID{}) {
				t.Fatalf("%q is none, and has the org %v", token, org)
			}
			return
		}
		raw, err := base64.RawURLEncoding.DecodeString(strings.TrimSpace(token))
		if err != nil || base64.RawURLEncoding.EncodeToString(raw) != strings.TrimSpace(token) || org != state.OrgID(raw[:16]) || org == (state.OrgID{}) {
			t.Fatalf("%q is of the org %v: %x, %v", token, org, raw, err)
		}
	})
}
