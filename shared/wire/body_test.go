package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

func TestDeviceIDFast(t *testing.T) {
	for _, c := range []struct {
		body, id string
		ok       bool
	}{
		{`{"deviceId":"agent-01"}`, "agent-01", true},
		{"\t{ \"deviceId\" :\r\n\"agent-01\" }\n", "agent-01", true},
		{`{"deviceId":" agent-01 "}`, "agent-01", true},
		{`{"deviceId":"worker/prod/α"}`, "worker/prod/α", true},
		{`{"deviceId":"` + strings.Repeat("x", MaxDeviceID) + `"}`, strings.Repeat("x", MaxDeviceID), true},

		{``, "", false},
		{`{`, "", false},
		{`{}`, "", false},
		{`{"deviceId"`, "", false},
		{`{"deviceId":`, "", false},
		{`{"deviceId":"`, "", false},
		{`{"deviceId":"x`, "", false},
		{`{"deviceId":"x"`, "", false},
		{`{"deviceId":"x"}x`, "", false},
		{`{"deviceId":"x"}{}`, "", false},
		{`{"deviceId":"x",}`, "", false},
		{`{"deviceId":"x","a":1}`, "", false},
		{`{"a":1,"deviceId":"x"}`, "", false},
		{`{"deviceid":"x"}`, "", false},
		{`{"deviceI\u0064":"x"}`, "", false},
		{`{"deviceId":"\u0078"}`, "", false},
		{`{"deviceId":1}`, "", false},
		{`{"deviceId":null}`, "", false},
		{`{"deviceId":""}`, "", false},
		{`{"deviceId":"  "}`, "", false},
		{`["deviceId"]`, "", false},
		{`{"deviceId":"` + strings.Repeat("x", MaxDeviceID+1) + `"}`, "", false},
		{"{\"deviceId\":\"a\tb\"}", "", false},
		{"{\"deviceId\":\"\xff\"}", "", false},
		{"{\"deviceId\":\"a\u0085b\"}", "", false},
		{"{\"deviceId\":\"\u00a0a\u0085\"}", "a", true},
		{"{\"deviceId\":\"a\x7f\"}", "", false},
		{"\ufeff{\"deviceId\":\"a\"}", "", false},
		{"\v{\"deviceId\":\"a\"}", "", false},
		{"\u00a0{\"deviceId\":\"a\"}", "", false},
	} {
		id, ok := DeviceIDFast([]byte(c.body))
		if string(id) != c.id || ok != c.ok {
			t.Errorf("DeviceIDFast(%q) = %q, %v", c.body, id, ok)
		}
	}
}

func nested(n int, open, inner, end string) string {
	return strings.Repeat(open, n) + inner + strings.Repeat(end, n)
}

func TestParseObjectRefuses(t *testing.T) {
	for name, body := range map[string]string{
		"empty":                                 "",
		"white space only":                      " \r\n\t",
		"no object: null":                       "null",
		"no object: array":                      `[{"deviceId":"x"}]`,
		"no object: string":                     `"deviceId"`,
		"no object: number":                     "1",
		"unfinished":                            `{"deviceId":"x"`,
		"trailing byte":                         `{"deviceId":"x"}x`,
		"trailing object":                       `{"deviceId":"x"}{}`,
		"trailing NUL":                          "{\"deviceId\":\"x\"}\x00",
		"trailing comma":                        `{"deviceId":"x",}`,
		"leading comma":                         `{,"deviceId":"x"}`,
		"comment":                               `{"deviceId":"x"/**/}`,
		"single quotes":                         `{'deviceId':'x'}`,
		"bare name":                             `{deviceId:"x"}`,
		"byte order mark":                       "\ufeff" + `{"deviceId":"x"}`,
		"vertical tab as space":                 "\v" + `{"deviceId":"x"}`,
		"leading zero":                          `{"a":01}`,
		"NaN":                                   `{"a":NaN}`,
		"raw tab in a string":                   "{\"deviceId\":\"a\tb\"}",
		"raw LF in a string":                    "{\"deviceId\":\"a\nb\"}",
		"bad escape":                            `{"deviceId":"\x41"}`,
		"short escape":                          `{"deviceId":"\u004"}`,
		"invalid UTF-8":                         "{\"deviceId\":\"\xff\"}",
		"overlong UTF-8":                        "{\"deviceId\":\"\xc0\xaf\"}",
		"surrogate in UTF-8":                    "{\"deviceId\":\"\xed\xa0\x80\"}",
		"invalid UTF-8 in an unknown member":    "{\"deviceId\":\"x\",\"a\":\"\xff\"}",
		"invalid UTF-8 in a name":               "{\"\xff\":1}",
		"unpaired high surrogate":               `{"deviceId":"\ud800"}`,
		"unpaired low surrogate":                `{"deviceId":"\udc00"}`,
		"surrogates in the wrong order":         `{"deviceId":"\udc00\ud800"}`,
		"unpaired surrogate, unknown member":    `{"deviceId":"x","a":"\ud800"}`,
		"unpaired surrogate in a name":          `{"\ud800":1}`,
		"name twice":                            `{"deviceId":"x","deviceId":"y"}`,
		"name twice, equal values":              `{"deviceId":"x","deviceId":"x"}`,
		"name twice, second escaped":            `{"deviceId":"x","\u0064eviceId":"y"}`,
		"name twice, first escaped":             `{"device\u0049d":"x","deviceId":"y"}`,
		"name twice, both escaped":              `{"\u0064eviceId":"x","d\u0065viceId":"y"}`,
		"unknown name twice":                    `{"deviceId":"x","a":1,"a":2}`,
		"name twice, nested":                    `{"deviceId":"x","a":{"b":1,"b":2}}`,
		"name twice, nested in an array":        `{"deviceId":"x","a":[[{"b":1,"\u0062":2}]]}`,
		"name twice, deep":                      `{"x":` + nested(30, `{"a":`, `{"b":1,"b":1}`, "}") + "}",
		"empty name twice":                      `{"":1,"":2}`,
		"33 levels of objects":                  nested(33, `{"a":`, "1", "}"),
		"33 levels with arrays":                 `{"a":` + nested(32, "[", "", "]") + "}",
		"33 levels in an unknown member":        `{"deviceId":"x","a":` + nested(32, "[", "", "]") + "}",
		"a million levels":                      `{"a":` + strings.Repeat("[", 1<<20),
		"closed twice":                          `{"deviceId":"x"}}`,
		"closed by the other":                   `{"deviceId":["x"}]`,
		"depth hidden behind an escaped quote":  `{"a":"\"","b":` + nested(32, "[", "", "]") + "}",
		"depth hidden behind escaped backslash": `{"a":"\\","b":` + nested(32, "[", "", "]") + "}",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseObject([]byte(body))
			var param *ParamError
			if !errors.As(err, &param) || param.Param != BodyParam || param.Message == "" {
				t.Errorf("ParseObject(%.100q) = %v", body, err)
			}
		})
	}
}

func TestParseObjectAccepts(t *testing.T) {
	for name, body := range map[string]string{
		"plain":                  `{"deviceId":"x"}`,
		"white space":            " {\r\n\t\"deviceId\" : \"x\" } \n",
		"escaped name":           `{"device\u0049d":"x"}`,
		"escaped value":          `{"deviceId":"\u0078"}`,
		"trimmed escapes":        `{"deviceId":"\t\r\n x \u0020"}`,
		"unknown members":        `{"a":[1,{"b":null}],"deviceId":"x","c":1e999}`,
		"other case is another":  `{"deviceid":"y","DEVICEID":"z","deviceId":"x"}`,
		"32 levels":              `{"deviceId":"x","a":` + nested(31, "[", "", "]") + "}",
		"32 levels of objects":   `{"deviceId":"x","a":` + nested(31, `{"a":`, "1", "}") + "}",
		"brackets in a string":   `{"deviceId":"x","a":"` + strings.Repeat("[{", 50) + `"}`,
		"same name, other level": `{"deviceId":"x","a":{"deviceId":"y","a":{"a":1}},"b":{"deviceId":"y"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			o, err := ParseObject([]byte(body))
			if err != nil {
				t.Fatal(err)
			}
			if id, err := o.DeviceID(); id != "x" || err != nil {
				t.Errorf("deviceId %q, %v", id, err)
			}
		})
	}
	o, err := ParseObject([]byte(`{"deviceId":"\ud83d\ude00 \u03b1"}`))
	if err != nil {
		t.Fatal(err)
	}
	if id, err := o.DeviceID(); id != "😀 α" || err != nil {
		t.Errorf("%q, %v", id, err)
	}
}

func TestParseOptional(t *testing.T) {
	for _, body := range []string{"", " \n", "{}"} {
		if o, err := ParseOptional([]byte(body)); err != nil || o.Has("name") {
			t.Errorf("ParseOptional(%q) = %v, %v", body, o, err)
		}
	}
	if _, err := ParseOptional([]byte("null")); err == nil {
		t.Error("null is taken for an object")
	}
}

// member reads a member by a getter and says what came out.
func member[T any](value T, present bool, err error) string {
	if err != nil {
		var param *ParamError
		if !errors.As(err, &param) || param.Param == "" || param.AsError().HTTP != 400 || param.AsError().Param != param.Param {
			return fmt.Sprintf("not a ParamError: %v", err)
		}
		return "wrong"
	}
	if !present {
		return "absent"
	}
	return fmt.Sprint(value)
}

func TestMembers(t *testing.T) {
	o, err := ParseObject([]byte(`{"s":" a\u0062 ","e":"","i":-42,"big":9223372036854775807,"over":9223372036854775808,"f":1.0,"x":1e2,
		"t":true,"n":null,"b":false,"o":{"b":1,"a":[ 12345678901234567890 ,1.50],"\u0063":"\u00e9\/"},"l":["a",1,null,"\u0062",{"c":1}],"el":[]}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, text, integer, boolean, object, array string }{
		{"s", " ab ", "wrong", "wrong", "wrong", "wrong"},
		{"e", "", "wrong", "wrong", "wrong", "wrong"},
		{"i", "wrong", "-42", "wrong", "wrong", "wrong"},
		{"big", "wrong", "9223372036854775807", "wrong", "wrong", "wrong"},
		{"over", "wrong", "wrong", "wrong", "wrong", "wrong"},
		{"f", "wrong", "wrong", "wrong", "wrong", "wrong"},
		{"x", "wrong", "wrong", "wrong", "wrong", "wrong"},
		{"t", "wrong", "wrong", "true", "wrong", "wrong"},
		{"b", "wrong", "wrong", "false", "wrong", "wrong"},
		{"n", "absent", "absent", "absent", "absent", "absent"},
		{"missing", "absent", "absent", "absent", "absent", "absent"},
		{"o", "wrong", "wrong", "wrong", `{"a":[12345678901234567890,1.50],"b":1,"c":"é/"}`, "wrong"},
		{"l", "wrong", "wrong", "wrong", "wrong", "5"},
		{"el", "wrong", "wrong", "wrong", "wrong", "0"},
	} {
		raw, rawOK, rawErr := o.Raw(c.name, MaxMetadata)
		items, itemsOK, itemsErr := o.Items(c.name, 100)
		got := []string{
			member(o.String(c.name)), member(o.Int(c.name)), member(o.Bool(c.name)),
			member(string(raw), rawOK, rawErr), member(len(items), itemsOK, itemsErr),
		}
		if diff := cmp.Diff([]string{c.text, c.integer, c.boolean, c.object, c.array}, got); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
	items, _, _ := o.Items("l", 100)
	var texts []string
	for _, item := range items {
		s, ok := item.String()
		texts = append(texts, fmt.Sprint(s, ok))
	}
	if diff := cmp.Diff([]string{"atrue", "false", "false", "btrue", "false"}, texts); diff != "" {
		t.Error(diff)
	}
}

func TestRawHasALimit(t *testing.T) {
	for _, c := range []struct {
		fill int
		want bool
	}{{MaxMetadata - len(`{"a":""}`), true}, {MaxMetadata - len(`{"a":""}`) + 1, false}} {
		// White space does not count: what is kept is the compact form.
		body := `{"m": { "a" : "` + strings.Repeat("x", c.fill) + `" } }`
		o, err := ParseObject([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := o.Raw("m", MaxMetadata); (err == nil) != c.want {
			t.Errorf("%d: %v", c.fill, err)
		}
	}
}

func TestMissingDeviceID(t *testing.T) {
	for _, body := range []string{
		`{}`, `{"deviceId":null}`, `{"deviceId":1}`, `{"deviceId":["x"]}`, `{"deviceId":""}`, `{"deviceId":" \t"}`, `{"deviceid":"x"}`,
		`{"deviceId":"a\u0000"}`, `{"deviceId":"a\u0085b"}`, `{"deviceId":"` + strings.Repeat("x", MaxDeviceID+1) + `"}`,
	} {
		o, err := ParseObject([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		_, err = o.DeviceID()
		var param *ParamError
		if !errors.As(err, &param) || param.Param != "deviceId" {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func FuzzDeviceIDFast(f *testing.F) {
	for _, s := range []string{
		typicalBody, ` { "deviceId" : " a " } `, `{"deviceId":"α\u2028"}`, `{"deviceId":"x","deviceId":"y"}`, "{\"deviceId\":\"\xff\"}",
		"{\"deviceId\":\"\u0085\"}", `{"deviceId":"x"}}`, `{"deviceId":"\u2028"}`, `{"deviceId":""}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		fast, ok := DeviceIDFast(body)
		if !ok {
			return
		}
		o, err := ParseObject(body)
		if err != nil {
			t.Fatalf("only the fast path accepts %q: %v", body, err)
		}
		if slow, err := o.DeviceID(); err != nil || slow != string(fast) {
			t.Fatalf("%q: fast %q, slow %q, %v", body, fast, slow, err)
		}
		var v struct {
			DeviceID string `json:"deviceId"`
		}
		if err := json.Unmarshal(body, &v); err != nil || string(Trim([]byte(v.DeviceID))) != string(fast) {
			t.Fatalf("%q: fast %q, encoding/json %q, %v", body, fast, v.DeviceID, err)
		}
	})
}

func FuzzParseObject(f *testing.F) {
	for _, s := range []string{
		typicalBody, `{"deviceId":"\ud83d\ude00"}`, `{"deviceId":"\ud800"}`, `{"a":{"b":[1,2,{"c":null}]},"deviceId":"x"}`,
		`{"deviceId":"x","\u0064eviceId":"y"}`, nested(33, `{"a":`, "1", "}"), `{"a":"\"[[["}`, "{\"\xff\":1}", `{"deviceId":null}`, `{} x`, `{"deviceId":1e5}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		o, err := ParseObject(body)
		if err != nil {
			if strings.Contains(err.Error(), "\"") {
				t.Fatalf("the message may quote what was sent: %v", err)
			}
			return
		}
		if !utf8.Valid(body) {
			t.Fatalf("accepted invalid UTF-8: %q", body)
		}
		var theirs map[string]json.RawMessage
		if err := json.Unmarshal(body, &theirs); err != nil {
			t.Fatalf("encoding/json refuses %q: %v", body, err)
		}
		if len(theirs) != len(o.members) {
			t.Fatalf("%d members, encoding/json has %d: %q", len(o.members), len(theirs), body)
		}
		for name, raw := range theirs {
			if string(raw) != string(o.members[name]) {
				t.Fatalf("%q: %q, encoding/json has %q", name, o.members[name], raw)
			}
			text, present, err := o.String(name)
			var s *string
			if jsonErr := json.Unmarshal(raw, &s); (err == nil) != (jsonErr == nil) || present && err == nil && (s == nil || *s != text) {
				t.Fatalf("%q: %q, %v, %v of %q", name, text, present, err, raw)
			}
		}
	})
}

// TestItemsAreBounded: no more are taken than tell that there are too many.
func TestItemsAreBounded(t *testing.T) {
	o, err := ParseObject([]byte(`{"l":[1, "a", {"b":[]}, [2], null]}`))
	if err != nil {
		t.Fatal(err)
	}
	for most, want := range map[int]int{0: 1, 1: 2, 4: 5, 5: 5, 9: 5} {
		if items, present, err := o.Items("l", most); len(items) != want || !present || err != nil {
			t.Errorf("of at most %d: %d, %v", most, len(items), err)
		}
	}
	body := []byte(`{"l":[` + strings.Repeat("1,", 300_000) + `1]}`)
	if o, err = ParseObject(body); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(3, func() { _, _, _ = o.Items("l", 500) }); n > 2000 {
		t.Errorf("%v allocations", n)
	}
}
