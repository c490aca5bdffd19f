package wire

import (
	"errors"
	"math"
	"net/url"
	"strings"
	"testing"
)

func TestParseQuery(t *testing.T) {
	for _, c := range []struct {
		raw  string
		want map[string]string
	}{
		{"", nil},
		{"deviceId=agent-01", map[string]string{"deviceId": "agent-01"}},
		{"deviceId=a+b%20c%2Fd%2bd", map[string]string{"deviceId": "a b c/d+d"}},
		{"device%49d=x", map[string]string{"deviceId": "x"}},
		{"deviceId=α", map[string]string{"deviceId": "α"}},
		{"deviceId=%CE%B1", map[string]string{"deviceId": "α"}},
		{"deviceId=a=b", map[string]string{"deviceId": "a=b"}},
		{"deviceId=a;b", map[string]string{"deviceId": "a;b"}},
		{"deviceId=a?b/c:d@e", map[string]string{"deviceId": "a?b/c:d@e"}},
		{"&&limit=10&&cursor=&x&", map[string]string{"limit": "10", "cursor": "", "x": ""}},
		{"=v", map[string]string{"": "v"}},
		{"a=%00", map[string]string{"a": "\x00"}},
		{"deviceid=x&deviceId=y", map[string]string{"deviceid": "x", "deviceId": "y"}},
	} {
		q, err := ParseQuery([]byte(c.raw))
		if err != nil || q.n != len(c.want) {
			t.Errorf("%q: %d parameters, %v", c.raw, q.n, err)
		}
		for name, want := range c.want {
			if got, ok := q.Get(name); string(got) != want || !ok {
				t.Errorf("%q: %s = %q, %v", c.raw, name, got, ok)
			}
		}
		if _, ok := q.Get("other"); ok {
			t.Errorf("%q has a parameter it has not", c.raw)
		}
	}
}

func TestParseQueryRefuses(t *testing.T) {
	for _, c := range []struct {
		raw  string
		want error
	}{
		{"a=%", ErrQueryEscape},
		{"a=%2", ErrQueryEscape},
		{"a=%zz", ErrQueryEscape},
		{"a=%2g", ErrQueryEscape},
		{"a=%%20", ErrQueryEscape},
		{"%g=1", ErrQueryEscape},
		{"a=1&b=%", ErrQueryEscape},
		{"a=1&a=2", ErrQueryRepeated},
		{"a=1&a=1", ErrQueryRepeated},
		{"a=1&%61=1", ErrQueryRepeated},
		{"a+b=1&a%20b=1", ErrQueryRepeated},
		{"a&a", ErrQueryRepeated},
		{"unknown=1&unknown=1&deviceId=x", ErrQueryRepeated},
		{"a=1#b", ErrQueryByte},
		{"a=\x01", ErrQueryByte},
		{"a=\x7f", ErrQueryByte},
		{"a=b\r\nc", ErrQueryByte},
		{strings.Repeat("&a", 1) + manyParams(MaxQueryParams), ErrQueryTooMany},
	} {
		if _, err := ParseQuery([]byte(c.raw)); !errors.Is(err, c.want) {
			t.Errorf("%q: %v, want %v", c.raw, err, c.want)
		}
	}
	if _, err := ParseQuery([]byte(manyParams(MaxQueryParams))); err != nil {
		t.Errorf("%d parameters: %v", MaxQueryParams, err)
	}
}

func manyParams(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("&p" + string(rune('a'+i)) + "=1")
	}
	return b.String()
}

func FuzzParseQuery(f *testing.F) {
	for _, s := range []string{
		"deviceId=agent-01", "deviceId=a+b%20c&x=y", "a=1&%61=2", "a=%", "&&=&", "deviceId=%CE%B1", "deviceId=a;b", "deviceId=a b", "deviceId=#", "a&b&c=d=e",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		q, err := ParseQuery(raw)
		if simple, ok := simpleQuery(raw, "deviceId="); ok {
			if value, ok := q.Get("deviceId"); err != nil || !ok || string(value) != string(simple) || q.n != 1 {
				t.Fatalf("%q: simple %q, else %q, %v", raw, simple, value, err)
			}
		}
		if err != nil {
			return
		}
		theirs, err := url.ParseQuery(strings.ReplaceAll(string(raw), ";", "%3B")) // they refuse a bare semicolon
		if err != nil || len(theirs) != q.n {
			t.Fatalf("%q: net/url has %v, %v, we %d", raw, theirs, err, q.n)
		}
		for name, values := range theirs {
			if got, ok := q.Get(name); !ok || len(values) != 1 || string(got) != values[0] {
				t.Fatalf("%q: %q = %q, net/url %q", raw, name, got, values)
			}
		}
	})
}

// TestQueryNumber: a number has one form.
func TestQueryNumber(t *testing.T) {
	for _, c := range []struct {
		raw     string
		n       uint64
		present bool
		ok      bool
	}{
		{"n=0", 0, true, true},
		{"n=5", 5, true, true},
		{"n=%35", 5, true, true},
		{"n=18446744073709551615", math.MaxUint64, true, true},
		{"", 0, false, false},
		{"m=5", 0, false, false},
		{"n=", 0, true, false},
		{"n", 0, true, false},
		{"n=05", 0, true, false},
		{"n=00", 0, true, false},
		{"n=+5", 0, true, false},
		{"n=%2B5", 0, true, false},
		{"n=-5", 0, true, false},
		{"n=-0", 0, true, false},
		{"n=5.0", 0, true, false},
		{"n=5e0", 0, true, false},
		{"n=0x5", 0, true, false},
		{"n=1_000", 0, true, false},
		{"n=5+", 0, true, false},
		{"n=%d9%a5", 0, true, false},
		{"n=18446744073709551616", 0, true, false},
	} {
		q, err := ParseQuery([]byte(c.raw))
		if err != nil {
			t.Fatal(err)
		}
		n, present, ok := q.Number("n")
		if present != c.present || ok != c.ok || ok && n != c.n {
			t.Errorf("%q: %d, present %t, ok %t", c.raw, n, present, ok)
		}
	}
}

// TestUnreadableQuery: for each reason that a query is refused for there is one that is refused for the same, to be handed on in its place.
func TestUnreadableQuery(t *testing.T) {
	for _, sent := range []string{"a=%", "deviceId=%zz", "a=1&b&a=2", "x=1&%78=1", strings.Repeat("&", 3) + "a&b&c&d&e&f&g&h&i&j&k&l&m&n&o&p&q=1&r", "a#b", "a\x00", "\x7f", "%&#"} {
		_, reason := ParseQuery([]byte(sent))
		if reason == nil {
			t.Errorf("%q can be read", sent)
			continue
		}
		if _, again := ParseQuery([]byte(unreadableQuery(reason))); !errors.Is(again, reason) {
			t.Errorf("%q is refused with %v, and what is handed on for it with %v", sent, reason, again)
		}
	}
}
