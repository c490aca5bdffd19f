package wire

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/big"
	"net/url"
	"path"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/valyala/fasthttp"

	"machineid/shared/decision"
)

// FuzzDeviceID holds DeviceID to its rule in the words of docs/api.md.
func FuzzDeviceID(f *testing.F) {
	for _, s := range []string{"agent-01", " a\n", "worker/prod/α", "a\u0085", "\xff", strings.Repeat("x", 257), "\u00a0", "\u3000a\x1f", "e\u0301", "\ufeff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		want := strings.Trim(string(raw), whiteSpace)
		good := len(want) >= 1 && len(want) <= 256 && utf8.ValidString(want) && !strings.ContainsFunc(want, unicode.IsControl)
		id, ok := DeviceID(raw)
		if ok != good || ok && string(id) != want {
			t.Fatalf("DeviceID(%q) = %q, %v", raw, id, ok)
		}
		if again, ok := DeviceID(id); good && (!ok || !bytes.Equal(again, id)) {
			t.Fatalf("%q is not itself when it is read again: %q", id, again)
		}
	})
}

var requestIDForm = regexp.MustCompile(`^[A-Za-z0-9._:/+=@-]{1,128}$`)

func FuzzRequestID(f *testing.F) {
	for _, s := range []string{"", "fbf77ff5-06ed-42eb-8e07-024c32ef1e68", "a b", "a\n", strings.Repeat("x", 129), "a=b@c/d+e:f._-"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, own []byte) {
		var buf [36]byte
		id := RequestID(buf[:0], own)
		taken := requestIDForm.Match(own) && own[len(own)-1] != '\n'
		if !requestIDForm.Match(id) || taken != bytes.Equal(id, own) {
			t.Fatalf("RequestID(%q) = %q", own, id)
		}
	})
}

// FuzzBudget: nobody gets more than there is, who is not trusted gets no say, and what one hop writes the next one reads.
func FuzzBudget(f *testing.F) {
	for _, s := range []string{"", "0", "7500", "8000", "99999999999999999999999", "-1", "1e3", " 1"} {
		f.Add([]byte(s), true)
	}
	f.Fuzz(func(t *testing.T, value []byte, trusted bool) {
		got := Budget(value, trusted)
		want := DefaultBudget
		if trusted && value != nil {
			n, ok := new(big.Int).SetString(string(value), 10)
			if !ok || strings.ContainsAny(string(value), "+-_") {
				n = new(big.Int)
			}
			if n.IsInt64() && n.Int64() < DefaultBudget.Milliseconds() {
				want = time.Duration(n.Int64()) * time.Millisecond
			}
		}
		if got != want {
			t.Fatalf("Budget(%q, %v) = %v, want %v", value, trusted, got, want)
		}
		if again := Budget(AppendBudget(nil, got), true); again != got {
			t.Fatalf("%v is handed on as %v", got, again)
		}
	})
}

// FuzzTarget holds the routes to net/url: a target that has a route is the same path for both, and one that no proxy on the way makes
// another of by resolving dots or merging slashes.
func FuzzTarget(f *testing.F) {
	for _, s := range []string{
		"/api/v1/usage", "/api/v1/usage/?a=b", "http://a/api/v1/usage", "/api/v1/operator/orgs/x", "/api/v1/operator/orgs/..", "/api/v1/operator/cluster/members/./promote",
		"/api/v1/../v1/usage", "/api/v1/devices%2flist", "//api/v1/usage", "/api/v1/usage//", "*", "a:80", "https://a?b/api/v1/usage", "http:///api/v1/usage",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, target []byte) {
		raw, query := SplitTarget(target)
		route := Match(raw)
		if route == nil {
			return
		}
		u, err := url.ParseRequestURI(string(target))
		if err != nil {
			// Theirs also judges the host of the absolute form, which nobody looks at here.
			if target[0] == '/' && !bytes.ContainsFunc(query, unicode.IsControl) {
				t.Fatalf("%q has the route %s, and net/url says %v", target, route.Path, err)
			}
			return
		}
		if u.Path != string(raw) || u.RawQuery != string(query) {
			t.Fatalf("%q: path %q and query %q, for net/url %q and %q", target, raw, query, u.Path, u.RawQuery)
		}
		if clean := path.Clean(u.Path); clean != strings.TrimSuffix(u.Path, "/") {
			t.Fatalf("%q has the route %s, and others take it for %q", target, route.Path, clean)
		}
		if !route.isPattern() {
			return
		}
		again := []byte(route.with(route.Param(raw)))
		if Match(again) != route || route.Param(again) != route.Param(raw) {
			t.Fatalf("%q is handed on as %q", target, again)
		}
	})
}

// FuzzMetadata: the form in which an object is kept says the same as what was sent, and is one form.
func FuzzMetadata(f *testing.F) {
	for _, s := range []string{`{}`, `{"b":1,"a":[1,2,{"c":null}]}`, `{"a":1.0,"b":1e400,"c":"\u0041\/"}`, `{"a":12345678901234567890}`, `[]`, `{"a":" "}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		read := func(value []byte) (json.RawMessage, bool) {
			o, err := ParseObject([]byte(`{"m":` + string(value) + `}`))
			if err != nil {
				return nil, false
			}
			raw, present, err := o.Raw("m", MaxMetadata)
			return raw, present && err == nil
		}
		raw, ok := read(value)
		if !ok {
			return
		}
		if again, ok := read(raw); !ok || !bytes.Equal(raw, again) || len(raw) > MaxMetadata {
			t.Fatalf("%q is kept as %q, and that as %q", value, raw, again)
		}
		if was, is := decoded(t, value), decoded(t, raw); !reflect.DeepEqual(was, is) {
			t.Fatalf("%q is kept as %q", value, raw)
		}
	})
}

func decoded(t *testing.T, raw []byte) (v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%q: %v", raw, err)
	}
	return v
}

// FuzzValidateBatch: there is one decision for each element, in order, about the device that it names; and none that is no id has one that
// could allow.
func FuzzValidateBatch(f *testing.F) {
	for _, s := range []string{
		`{"deviceIds":["a"," b\n",7,null,["c"],"\ud83d\ude00","","a"]}`, `{"deviceIds":[]}`, `{"deviceIds":"a"}`, `{"deviceIds":["a"],"deviceIds":["b"]}`,
		`{"device\u0049ds":["a\u0062"]}`, `{"deviceIds":["\u0000","\ud800"]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		ctx := new(fasthttp.RequestCtx)
		ctx.Init(new(fasthttp.Request), nil, nil)
		ctx.Request.SetBodyRaw(body)
		r := &Request{ID: []byte("r"), Route: Match([]byte(Base + "devices/validate_batch"))}
		r.memo = &r.own
		if err := r.memo.judge([]byte("x-org-key: " + testKey + "\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		r.Head = r.memo.head
		ctx.SetUserValue(requestKey{}, r)
		_, list, fault := ParseValidateBatch(ctx)
		if fault != nil {
			if fault.HTTP != 400 || fault.Param == "" {
				t.Fatalf("%q: %+v", body, fault)
			}
			return
		}
		var members map[string]json.RawMessage // a struct would take names in any case
		var theirs []json.RawMessage
		if err := errors.Join(json.Unmarshal(body, &members), json.Unmarshal(members["deviceIds"], &theirs)); err != nil || len(theirs) != len(list) || len(list) > MaxDecisions {
			t.Fatalf("%q: %d questions, encoding/json has %d, %v", body, len(list), len(theirs), err)
		}
		for i := range list {
			q := &list[i]
			var text *string
			if json.Unmarshal(theirs[i], &text) != nil {
				text = nil
			}
			if (q.Text != nil) != (text != nil) || text != nil && *q.Text != string(Trim([]byte(*text))) || (q.ID != nil) != (q.Code == 0) || q.ID != nil && string(q.ID) != *q.Text {
				t.Fatalf("%q: question %d is %+v, encoding/json has %q", body, i, q, theirs[i])
			}
			if q.Code == 0 {
				q.Code = decision.Allow
			}
		}
		WriteDecisions(ctx, r, list)
		var said struct{ Decisions []decided }
		if err := json.Unmarshal(ctx.Response.Body(), &said); err != nil || len(said.Decisions) != len(list) {
			t.Fatalf("%q is answered with %q: %v", body, ctx.Response.Body(), err)
		}
		for i, d := range said.Decisions {
			if d.Allowed != (list[i].ID != nil) || d.Allowed && (d.DeviceID == nil || *d.DeviceID != string(list[i].ID)) {
				t.Fatalf("%q: decision %d is %+v", body, i, d)
			}
		}
	})
}
