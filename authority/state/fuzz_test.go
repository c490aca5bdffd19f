package state

import "testing"

// FuzzParsePlace: a place has one text.
func FuzzParsePlace(f *testing.F) {
	for _, s := range []string{"1-0", "18446744073709551615-65535", "01-0", "1-", "-1", "+1-0", "1-65536", "0-0", "1-0-0", "١-0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if p, ok := ParsePlace(text); ok && (p.String() != text || p.Index == 0) {
			t.Fatalf("%q is %+v", text, p)
		}
	})
}
