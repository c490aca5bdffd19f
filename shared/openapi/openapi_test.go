package openapi

import "testing"

func TestNames(t *testing.T) {
	const tag = `"a"`
	for _, c := range []struct {
		lines        []string
		weak, strong bool
	}{
		{nil, false, false},
		{[]string{`"a"`}, true, true},
		{[]string{`W/"a"`}, true, false},
		{[]string{`*`}, true, true},
		{[]string{` * `}, true, true},
		{[]string{`"b"`}, false, false},
		{[]string{`"b", "a"`}, true, true},
		{[]string{`"b",W/"a"`}, true, false},
		{[]string{`, "b" ,, "a",`}, true, true},
		{[]string{`"b"`, `"a"`}, true, true},
		{[]string{`"b"`, `W/"c"`}, false, false},
		{[]string{`"b, "a"`}, false, false},
		{[]string{`"b,\"", "a"`}, false, false},
		{[]string{`"x,y", "a"`}, true, true},
		{[]string{`a`}, false, false},
		{[]string{`w/"a"`}, false, false},
		{[]string{`"a`}, false, false},
		{[]string{`"b" "a"`}, false, false},
		{[]string{`*, "b"`}, false, false},
		{[]string{``}, false, false},
		{[]string{`W/`}, false, false},
		{[]string{`""`}, false, false},
	} {
		var lines [][]byte
		for _, l := range c.lines {
			lines = append(lines, []byte(l))
		}
		if names(lines, tag, false) != c.weak || names(lines, tag, true) != c.strong {
			t.Errorf("%q: %v for If-None-Match, %v for If-Match", c.lines, !c.weak, !c.strong)
		}
	}
}
