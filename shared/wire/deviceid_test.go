package wire

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// whiteSpace is what Python's str.strip cuts, and so the public package machineid-io 0.1.6. TestIDsAreTrimmedAlike (cmd/machineid) asks Python.
const whiteSpace = "\t\n\v\f\r\x1c\x1d\x1e\x1f \u0085\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"

func TestTrim(t *testing.T) {
	for r := range rune(utf8.MaxRune + 1) {
		if !utf8.ValidRune(r) {
			continue
		}
		want := "a" + string(r) + "a"
		if got := string(Trim([]byte(string(r) + want + string(r)))); (got == want) != strings.ContainsRune(whiteSpace, r) {
			t.Errorf("%U: %q", r, got)
		}
	}
	for in, want := range map[string]string{
		whiteSpace + "a" + whiteSpace: "a", whiteSpace: "", "": "", " ": "", "a": "a",
		"\xa0a": "\xa0a", "a\x85": "a\x85", "a\xc2 ": "a\xc2", "\xe3\x80a": "\xe3\x80a", "\u00a0\xff\u00a0": "\xff", // what is no UTF-8 stays
	} {
		if got := string(Trim([]byte(in))); got != want {
			t.Errorf("Trim(%q) = %q", in, got)
		}
	}
}

func TestDeviceID(t *testing.T) {
	long := strings.Repeat("x", MaxDeviceID)
	for _, c := range []struct {
		in, id string
		ok     bool
	}{
		{"agent-01", "agent-01", true},
		{"crewai:dev:runner:01", "crewai:dev:runner:01", true},
		{"worker/prod/α", "worker/prod/α", true},
		{" \t\r\nagent 01\n\r\t ", "agent 01", true},
		{`a"b\c`, `a"b\c`, true},
		{"e\u0301", "e\u0301", true}, // not normalised to é
		{"A", "A", true},
		{"\u00a0a\u00a0b\u2028", "a\u00a0b", true}, // white space stays within
		{"\va\x1f", "a", true},
		{"a\u0085", "a", true},
		{"\u00a0" + long + "\u3000", long, true},
		{"\u200ba\u180e", "\u200ba\u180e", true}, // no white space to Unicode
		{"a\u2028b", "a\u2028b", true},
		{"\ufffd", "\ufffd", true},
		{"\ufeffa", "\ufeffa", true},
		{"\U0010ffff", "\U0010ffff", true},
		{long, long, true},
		{" " + long + " ", long, true},
		{strings.Repeat("α", 128), strings.Repeat("α", 128), true},

		{"", "", false},
		{whiteSpace, "", false},
		{long + "x", "", false},
		{strings.Repeat("α", 128) + "x", "", false},
		{"a\x00b", "", false},
		{"a\tb", "", false},
		{"a\nb", "", false},
		{"a\vb", "", false},
		{"a\x1fb", "", false},
		{"a\x1b", "", false},
		{"a\x7f", "", false},
		{"a\u0080", "", false},
		{"a\u0085b", "", false},
		{"a\u009f", "", false},
		{"\xff", "", false},
		{"a\xc3", "", false},
		{"\xc0\x80", "", false},
		{"\xed\xa0\x80", "", false},
		{"\xf4\x90\x80\x80", "", false},
	} {
		id, ok := DeviceID([]byte(c.in))
		if ok != c.ok || ok && string(id) != c.id {
			t.Errorf("DeviceID(%q) = %q, %v", c.in, id, ok)
		}
	}
}

func TestDeviceIDAgreesWithItsRule(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := rapid.OneOf(
			rapid.String(),
			rapid.StringOfN(rapid.RuneFrom([]rune(whiteSpace+"a\u007f\u0080\u009fα\u200b")), 0, 300, 600),
			rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 300), func(b []byte) string { return string(b) }),
		).Draw(t, "in")
		want := strings.Trim(in, whiteSpace)
		good := len(want) >= 1 && len(want) <= 256 && utf8.ValidString(want) && !strings.ContainsFunc(want, unicode.IsControl)
		id, ok := DeviceID([]byte(in))
		if ok != good || ok && string(id) != want {
			t.Fatalf("DeviceID(%q) = %q, %v", in, id, ok)
		}
	})
}

func TestRequestID(t *testing.T) {
	var buf [36]byte
	for own, taken := range map[string]bool{
		"fbf77ff5-06ed-42eb-8e07-024c32ef1e68": true, "a": true, "A0._:/+=@-": true, strings.Repeat("x", MaxRequestID): true,
		"": false, " a": false, "a b": false, `a"b`: false, "a,b": false, "a\n": false, "α": false, "a;b": false, "a%20": false, strings.Repeat("x", MaxRequestID+1): false,
	} {
		id := string(RequestID(buf[:0], []byte(own)))
		if (id == own) != taken {
			t.Errorf("RequestID(%q) = %q", own, id)
		}
		if !ValidRequestID([]byte(id)) {
			t.Errorf("%q would not be taken back", id)
		}
	}
}

func TestUUID(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := string(AppendUUID([]byte("x")))[1:]
		if len(id) != 36 || id[14] != '4' || strings.IndexByte("89ab", id[19]) < 0 || strings.Count(id, "-") != 4 || seen[id] {
			t.Fatalf("%q", id)
		}
		for i, c := range []byte(id) {
			if (i == 8 || i == 13 || i == 18 || i == 23) != (c == '-') {
				t.Fatalf("%q", id)
			}
		}
		seen[id] = true
	}
}
