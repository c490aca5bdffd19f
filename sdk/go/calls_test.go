package machineid

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestEveryCall(t *testing.T) {
	t.Parallel()
	type run = func(*Client, context.Context) (Object, error)
	for _, row := range []struct {
		to, body string
		answer   Object
		call     run
	}{
		{"POST devices/register", `{"deviceId":"a"}`, Object{"deviceId": "a"}, func(c *Client, ctx context.Context) (Object, error) { return c.Register(ctx, "a", RegisterOptions{}) }},
		{
			"POST devices/register", `{"deviceId":"a","metadata":{"x":1},"name":"n","ttlSeconds":60}`,
			Object{"deviceId": "a"},
			func(c *Client, ctx context.Context) (Object, error) {
				return c.Register(ctx, "a", RegisterOptions{Name: "n", Metadata: Object{"x": 1}, TTLSeconds: 60})
			},
		},
		{"GET devices/list", "", nil, func(c *Client, ctx context.Context) (Object, error) { return c.ListDevices(ctx, 0, "") }},
		{"GET devices/list?cursor=c%26&limit=2", "", nil, func(c *Client, ctx context.Context) (Object, error) { return c.ListDevices(ctx, 2, "c&") }},
		{"GET devices/get?deviceId=w%2F%CE%B1", "", Object{"deviceId": "w/α"}, func(c *Client, ctx context.Context) (Object, error) { return c.GetDevice(ctx, "w/α") }},
		{"POST devices/revoke", `{"deviceId":"a"}`, Object{"deviceId": "a", "revoked": true}, func(c *Client, ctx context.Context) (Object, error) { return c.Revoke(ctx, "a") }},
		{"POST devices/unrevoke", `{"deviceId":"a"}`, Object{"deviceId": "a", "revoked": false}, func(c *Client, ctx context.Context) (Object, error) { return c.Unrevoke(ctx, "a") }},
		{"POST devices/unrevoke", `{"deviceId":"a"}`, Object{"deviceId": "a", "revoked": false}, func(c *Client, ctx context.Context) (Object, error) { return c.Restore(ctx, "a") }},
		{"POST devices/remove", `{"deviceId":"a"}`, Object{"deviceId": "a", "removed": true}, func(c *Client, ctx context.Context) (Object, error) { return c.Remove(ctx, "a") }},
		{"POST devices/revoke_batch", `{"deviceIds":["a"]}`, Object{"results": []any{Object{"deviceId": "a", "status": "ok"}}}, func(c *Client, ctx context.Context) (Object, error) {
			return c.RevokeBatch(ctx, Batch{DeviceIDs: []string{"a"}})
		}},
		{"POST devices/unrevoke_batch", `{"scope":"all_revoked"}`, nil, func(c *Client, ctx context.Context) (Object, error) {
			return c.UnrevokeBatch(ctx, Batch{Scope: "all_revoked"})
		}},
		{"GET usage", "", nil, (*Client).Usage},
		{"GET org", "", nil, (*Client).Org},
		{"POST org/execution", `{"enabled":false}`, Object{"enabled": false}, func(c *Client, ctx context.Context) (Object, error) { return c.OrgExecution(ctx, false) }},
		{"POST org/settings", `{"version":1}`, Object{"version": 1}, func(c *Client, ctx context.Context) (Object, error) { return c.OrgSettings(ctx, 1) }},
		{"POST org/delete", `{"confirm":"o"}`, Object{"orgId": "o", "deleted": true}, func(c *Client, ctx context.Context) (Object, error) { return c.OrgDelete(ctx, "o") }},
		{"GET org/export", "", nil, func(c *Client, ctx context.Context) (Object, error) { return c.OrgExport(ctx, 0, "") }},
		{"GET org/export?cursor=c&limit=2", "", nil, func(c *Client, ctx context.Context) (Object, error) { return c.OrgExport(ctx, 2, "c") }},
		{"GET org/keys", "", nil, (*Client).OrgKeys},
		{"POST org/keys", `{"name":"n","scope":"agent"}`, Object{"scope": "agent"}, func(c *Client, ctx context.Context) (Object, error) { return c.OrgKeysCreate(ctx, "n", "agent", "") }},
		{"POST org/keys/rotate", `{}`, nil, func(c *Client, ctx context.Context) (Object, error) { return c.OrgKeysRotate(ctx, "", -1) }},
		{"POST org/keys/rotate", `{"graceSeconds":0,"keyId":"k"}`, nil, func(c *Client, ctx context.Context) (Object, error) { return c.OrgKeysRotate(ctx, "k", 0) }},
		{"POST org/keys/revoke", `{"keyId":"k"}`, Object{"keyId": "k", "revoked": true}, func(c *Client, ctx context.Context) (Object, error) { return c.OrgKeysRevoke(ctx, "k") }},
		{"GET audit?limit=5", "", nil, func(c *Client, ctx context.Context) (Object, error) { return c.Audit(ctx, 5, "") }},
		{"GET propagation?index=7", "", nil, func(c *Client, ctx context.Context) (Object, error) { return c.Propagation(ctx, 7) }},
	} {
		method, target, _ := strings.Cut(row.to, " ")
		handler, _, _ := strings.Cut(target, "?")
		s := newScripted(t, say(200, with(row.answer, Object{"handler": handler, "request_id": theID, "n": 12345678901234567})))
		got, err := row.call(s.client(t, 0, 0), t.Context())
		if err != nil || got["n"] != json.Number("12345678901234567") {
			t.Errorf("%s: %v, %v", row.to, got, err)
			continue
		}
		req := s.got()[0]
		if req.Method != method || req.RequestURI != "/api/v1/"+target || req.body != row.body {
			t.Errorf("%s %s %s, want %s %s", req.Method, req.RequestURI, req.body, row.to, row.body)
		}
		if (req.Header.Get("Idempotency-Key") != "") != (method == "POST") || req.Header.Get("Cache-Control") != "no-store" || req.Header.Get("X-Org-Key") != testKey {
			t.Errorf("%s: headers %v", row.to, req.Header)
		}
	}
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	unavailable := func(outcome Outcome) reply {
		return say(503, failure("system_unavailable", Object{"outcome": string(outcome)}), "Retry-After: 0")
	}
	n, u, c := unavailable(NotDone), unavailable(Unknown), unavailable(Committed)
	notFound, noOrg := say(404, failure("device_not_found", nil)), say(404, failure("org_not_found", nil))
	for _, row := range []struct {
		replies []reply
		refused bool
		code    string
		outcome Outcome
	}{
		{[]reply{n, n, n}, false, "system_unavailable", NotDone},
		{[]reply{u, n, n}, false, "system_unavailable", Unknown}, // what the first may have done the others do not undo
		{[]reply{c, u, n}, false, "system_unavailable", Committed},
		{[]reply{thenClose(raw(502, "x")), thenClose(raw(502, "x")), thenClose(raw(502, "x"))}, false, "broken_answer", Unknown},
		{[]reply{notFound}, true, "device_not_found", NotDone},
		{[]reply{u, notFound}, true, "device_not_found", NotDone},                                                   // decided once for all attempts
		{[]reply{say(404, failure("device_not_found", nil), "Age: 1"), n, n}, false, "system_unavailable", Unknown}, // an old refusal is none
		{[]reply{u, noOrg}, true, "org_not_found", Unknown},
		{[]reply{say(409, failure("secret_already_shown", nil))}, true, "secret_already_shown", Committed},
		{[]reply{say(302, "", "Location: /")}, false, "redirected", Unknown},
		{[]reply{say(200, Object{"ok": true}), n, n}, false, "system_unavailable", Unknown}, // a proxy's page is no revoke
		{[]reply{say(200, with(revoked, Object{"handler": "devices/validate"})), n, n}, false, "system_unavailable", Unknown},
		{[]reply{say(200, with(revoked, Object{"revoked": false})), n, n}, false, "system_unavailable", Unknown},
	} {
		s := newScripted(t, row.replies...)
		_, err := s.client(t, 2, 0).Revoke(t.Context(), "a")
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Refused != row.refused || e.Code != row.code || e.Outcome != row.outcome {
			t.Errorf("%+v, want %s, %s", err, row.code, row.outcome)
		}
		keys := map[string]bool{}
		for _, req := range s.got() {
			keys[req.Header.Get("Idempotency-Key")] = true
		}
		if len(s.got()) != len(row.replies) || len(keys) != 1 {
			t.Errorf("%s: %d requests with %d keys", row.code, len(s.got()), len(keys))
		}
	}
}

func TestAChangeIsRepeatedWithItsOwnKey(t *testing.T) {
	t.Parallel()
	s := newScripted(t, thenClose(""), say(200, revoked))
	c := s.client(t, 2, 0)
	for range 2 {
		if _, err := c.Revoke(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Revoke(WithIdempotencyKey(t.Context(), "mine"), "a"); err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, req := range s.got() {
		keys = append(keys, req.Header.Get("Idempotency-Key"))
	}
	if len(keys) != 4 || keys[0] != keys[1] || keys[1] == keys[2] || keys[3] != "mine" {
		t.Errorf("keys %q", keys)
	}
}

func TestOrgCreateIsNotRepeated(t *testing.T) {
	t.Parallel()
	s := newScripted(t, say(503, failure("system_unavailable", Object{"outcome": "unknown", "handler": "org_create"})), say(200, Object{"handler": "org_create", "orgApiKey": "k", "request_id": theID}))
	_, err := OrgCreate(t.Context(), Config{BaseURL: s.url}, NewOrg{})
	if e, ok := errors.AsType[*Error](err); !ok || e.Outcome != Unknown || len(s.got()) != 1 {
		t.Errorf("%v, %d requests", err, len(s.got()))
	}
	got, err := OrgCreate(t.Context(), Config{BaseURL: s.url + "/"}, NewOrg{Name: "n", ExternalID: "e", OperatorToken: "t"})
	if err != nil || got["orgApiKey"] != "k" {
		t.Fatal(got, err)
	}
	req := s.got()[1]
	if req.Header.Get("Authorization") != "Bearer t" || req.body != `{"externalId":"e","name":"n"}` || req.Header.Get("X-Org-Key")+req.Header.Get("Idempotency-Key") != "" {
		t.Errorf("%s %v", req.body, req.Header)
	}
}

func TestPages(t *testing.T) {
	t.Parallel()
	s := newScripted(
		t, say(200, Object{"handler": "devices/list", "request_id": theID, "devices": []any{Object{"deviceId": "x"}}, "nextCursor": "c"}),
		say(200, Object{"handler": "devices/list", "request_id": theID, "devices": []any{Object{"deviceId": "y"}}}),
		say(200, Object{"handler": "devices/list", "request_id": theID, "devices": []any{}, "nextCursor": "c"}),
	)
	c := s.client(t, 0, 0)
	var ids []string
	for one, err := range c.Devices(t.Context(), 1) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, one["deviceId"].(string)) //nolint:errcheck // panics, and so fails the test
	}
	if !slices.Equal(ids, []string{"x", "y"}) {
		t.Errorf("%v", ids)
	}
	var last error
	for _, err := range c.Devices(t.Context(), 1) {
		last = err
	}
	if last == nil {
		t.Error("a page that names itself as the next is walked for ever")
	}
}

func TestConfig(t *testing.T) {
	t.Setenv(OrgKeyEnv, " org_1\n")
	t.Setenv("OTHER", "org_2")
	t.Setenv(BaseURLEnv, "")
	c, err := FromEnv("")
	if err != nil || c.baseURL != DefaultBaseURL || c.key.Load().text != "org_1" || c.timeout != 10*time.Second || c.retries != 2 {
		t.Errorf("%+v, %v", c, err)
	}
	t.Setenv(BaseURLEnv, "http://edge:1/x/")
	if c, err = FromEnv("OTHER"); err != nil || c.baseURL != "http://edge:1/x" || c.key.Load().text != "org_2" {
		t.Errorf("%+v, %v", c, err)
	}
	if c, err = New(Config{OrgKey: testKey, BaseURL: "https://b"}); err != nil || c.baseURL != "https://b" {
		t.Errorf("%+v, %v", c, err)
	}
	for _, shown := range []string{fmt.Sprint(c), fmt.Sprintf("%v %+v %#v", c, c, c), fmt.Sprintf("%v %+v %#v", c.key.Load(), c.key.Load(), c.key.Load())} {
		if strings.Contains(shown, testKey[12:]) {
			t.Errorf("shows the key: %s", shown)
		}
	}
	for _, bad := range []Config{
		{},
		{OrgKey: "org_a\r\nX: y"},
		{OrgKey: "org_ü"},
		{OrgKey: "k", BaseURL: "ftp://a"},
		{OrgKey: "k", BaseURL: "a:1"},
		{OrgKey: "k", BaseURL: "http://u:p@a"},
		{OrgKey: "k", BaseURL: "http://a?x=1"},
		{OrgKey: "k", BaseURL: "http://a?"}, // an empty query would swallow every call's path
		{OrgKey: "k", BaseURL: "http://a/#"},
		{OrgKey: "k", BaseURL: "http://@a"},
		{OrgKey: "k", BaseURL: "http://a:0"},
		{OrgKey: "k", BaseURL: "http://a:65536"},
		{OrgKey: "k", BaseURL: "http://a:"},
		{OrgKey: "k", BaseURL: "http://[::1]:"},
		{OrgKey: "k", BaseURL: "http://a:http"},
		{OrgKey: "k", BaseURL: "http://bücher.example"},
		{OrgKey: "k", BaseURL: "http://a\n"},
	} {
		if _, err := New(bad); err == nil || strings.Contains(err.Error(), "org_a") {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	for base, want := range map[string]string{
		"http://[::1]:8080//": "http://[::1]:8080", "http://[::1]": "http://[::1]", "https://a:65535/b%2Fc/": "https://a:65535/b%2Fc", "http://xn--bcher-kva.example": "http://xn--bcher-kva.example",
	} {
		if c, err := New(Config{OrgKey: "k", BaseURL: base}); err != nil || c.baseURL != want {
			t.Errorf("%s: %v, %v", base, c, err)
		}
	}
	t.Setenv(OrgKeyEnv, "")
	if _, err := FromEnv(""); err == nil {
		t.Error("no key is needed")
	}
}

// TestNothingIsSentOtherwise: what JSON or a header would carry as something else is refused before it is sent.
func TestNothingIsSentOtherwise(t *testing.T) {
	t.Parallel()
	s := newScripted(t, say(200, Object{"handler": "devices/register"}))
	c := s.client(t, 0, 0)
	const bad = "a\xff"
	for name, call := range map[string]func(context.Context) error{
		"id": func(ctx context.Context) error { _, err := c.Revoke(ctx, bad); return err },
		"ids": func(ctx context.Context) error {
			_, err := c.RevokeBatch(ctx, Batch{DeviceIDs: []string{"a", bad}})
			return err
		},
		"validate": func(ctx context.Context) error { return c.Validate(ctx, bad).Err },
		"name": func(ctx context.Context) error {
			_, err := c.Register(ctx, "a", RegisterOptions{Name: bad})
			return err
		},
		"metadata": func(ctx context.Context) error {
			_, err := c.Register(ctx, "a", RegisterOptions{Metadata: Object{"a": []any{Object{"b": bad}}}})
			return err
		},
		"metadata names": func(ctx context.Context) error {
			_, err := c.Register(ctx, "a", RegisterOptions{Metadata: Object{bad: 1}})
			return err
		},
		"a text within a struct": func(ctx context.Context) error {
			_, err := c.Register(ctx, "a", RegisterOptions{Metadata: Object{"a": struct{ B map[string]string }{map[string]string{"c": bad}}}})
			return err
		},
		"a number that JSON has not": func(ctx context.Context) error {
			_, err := c.Register(ctx, "a", RegisterOptions{Metadata: Object{"a": math.Inf(1)}})
			return err
		},
		"what holds itself": func(ctx context.Context) error {
			itself := Object{}
			itself["a"] = []any{itself}
			_, err := c.Register(ctx, "a", RegisterOptions{Metadata: itself})
			return err
		},
		"an id in a query": func(ctx context.Context) error { _, err := c.GetDevice(ctx, bad); return err },
		"a cursor":         func(ctx context.Context) error { _, err := c.Audit(ctx, 1, bad); return err },
		"an operator's token": func(ctx context.Context) error {
			_, err := OrgCreate(ctx, Config{BaseURL: s.url}, NewOrg{OperatorToken: "a\r\nX: y"})
			return err
		},
		"a base URL": func(ctx context.Context) error { _, err := OrgCreate(ctx, Config{BaseURL: "x"}, NewOrg{}); return err },
		"org": func(ctx context.Context) error {
			_, err := OrgCreate(ctx, Config{BaseURL: s.url}, NewOrg{Name: bad})
			return err
		},
		"an empty name of a change": func(ctx context.Context) error { _, err := c.Revoke(WithIdempotencyKey(ctx, ""), "a"); return err },
		"a long one": func(ctx context.Context) error {
			_, err := c.Revoke(WithIdempotencyKey(ctx, strings.Repeat("k", 256)), "a")
			return err
		},
		"one that is not ASCII":    func(ctx context.Context) error { _, err := c.Revoke(WithIdempotencyKey(ctx, "ü"), "a"); return err },
		"one that ends in a space": func(ctx context.Context) error { _, err := c.Revoke(WithIdempotencyKey(ctx, "a "), "a"); return err },
	} {
		err := call(t.Context())
		if e, ok := errors.AsType[*Error](err); !ok || !e.Refused || e.Code != "invalid_argument" || e.Outcome != NotDone || e.Message == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if n := len(s.got()); n != 0 {
		t.Errorf("%d requests", n)
	}
	good := Object{"a": "\ufffd", "b": `\ufffd`, "c": struct{ D string }{"\ufffd\\"}}
	if text, err := encode(good); err != nil || !strings.Contains(string(text), `"\\ufffd"`) {
		t.Errorf("%s, %v", text, err)
	}
}

// TestPagesThatAreNone end a walk with an error that is one of the client's.
func TestPagesThatAreNone(t *testing.T) {
	t.Parallel()
	page := Object{"handler": "audit", "request_id": theID}
	for name, fields := range map[string]Object{
		"no list": nil, "another kind": {"entries": Object{}}, "no object": {"entries": []any{7}}, "a cursor that is none": {"entries": []any{}, "nextCursor": 7},
		"itself": {"entries": []any{}, "nextCursor": ""},
	} {
		var last error
		for one, err := range newScripted(t, say(200, with(page, fields))).client(t, 0, 0).AuditEntries(t.Context(), 1) {
			if last = err; err == nil {
				t.Errorf("%s: %v", name, one)
				break
			}
		}
		if e, ok := errors.AsType[*Error](last); !ok || e.Code != "broken_answer" || e.RequestID == "" {
			t.Errorf("%s: %v", name, last)
		}
	}
}

// TestBatchesTellOfEachDevice that was named, or nothing is known of any.
func TestBatchesTellOfEachDevice(t *testing.T) {
	t.Parallel()
	ids := []string{" a", "b", "a\u00a0"}
	one := func(id string) Object { return Object{"deviceId": id, "status": "ok", "changed": true} }
	for name, row := range map[string]struct {
		results any
		good    bool
	}{
		"each": {[]any{one("a"), one("b")}, true}, "too few": {[]any{one("a")}, false}, "too many": {[]any{one("a"), one("b"), one("a")}, false},
		"another": {[]any{one("a"), one("c")}, false}, "none": {nil, false}, "no list": {Object{}, false}, "no object": {[]any{one("a"), "b"}, false},
		"no status": {[]any{one("a"), Object{"deviceId": "b"}}, false},
	} {
		s := newScripted(t, say(200, with(Object{"handler": "devices/revoke_batch", "request_id": theID, "status": "ok", "revokedCount": 2}, Object{"results": row.results})))
		_, err := s.client(t, -1, 0).RevokeBatch(t.Context(), Batch{DeviceIDs: ids})
		if e, _ := errors.AsType[*Error](err); (err == nil) != row.good || err != nil && (e.Code != "broken_answer" || e.Outcome != Unknown) {
			t.Errorf("%s: %v", name, err)
		}
		if got := s.got()[0].body; got != `{"deviceIds":["a","b","a"]}` {
			t.Error(got)
		}
	}
}

// TestBackingOff: however often is tried, the pause is one.
func TestBackingOff(t *testing.T) {
	t.Parallel()
	last := time.Duration(0)
	for attempt := 1; attempt < 200; attempt++ {
		p := backingOff(attempt)
		if p < last || p < backOff || p > mostBackOff {
			t.Fatalf("after attempt %d: %v, before that %v", attempt, p, last)
		}
		last = p
	}
	if last != mostBackOff {
		t.Errorf("at last %v", last)
	}
}

// TestAnswersBeyondTheBound are no answers, however they go on: what was cut off may have said something else.
func TestAnswersBeyondTheBound(t *testing.T) {
	t.Parallel()
	whole, err := json.Marshal(Object{"handler": "usage", "request_id": theID})
	if err != nil {
		t.Fatal(err)
	}
	for more, code := range map[int]string{0: "", 1: "broken_answer", 1 << 20: "broken_answer"} {
		s := newScripted(t, func(w io.Writer, req seen) bool {
			size := maxBody + more
			head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Request-Id: %s\r\nContent-Length: %d\r\n\r\n%s", theID, size, whole)
			if !echo(w, req, head) {
				return false
			}
			_, err := io.CopyN(w, spaces{}, int64(size-len(whole)))
			return err == nil
		})
		_, err := s.client(t, -1, time.Minute).Usage(t.Context())
		if e, _ := errors.AsType[*Error](err); (err != nil) != (code != "") || err != nil && (e == nil || e.Code != code) {
			t.Errorf("%d bytes more than may be: %v, want %q", more, err, code)
		}
	}
}

// spaces reads as spaces without end.
type spaces struct{}

func (spaces) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	return len(b), nil
}

// TestNothingIsCompressed: the client asks for no compressed answer, and takes none: a few bytes would become as many as their sender likes.
func TestNothingIsCompressed(t *testing.T) {
	t.Parallel()
	for _, encoding := range []string{"gzip", "deflate", "x-gzip"} {
		s := newScripted(t, func(w io.Writer, req seen) bool {
			if asks := req.Header.Values("Accept-Encoding"); len(asks) != 0 {
				t.Errorf("it asks for %q", asks)
			}
			var packed bytes.Buffer
			z := gzip.NewWriter(&packed)
			body, _ := json.Marshal(with(allow, Object{"request_id": req.Header.Get("X-Request-Id")}))
			_, _ = z.Write(body)
			_ = z.Close()
			return echo(w, req, text(200, packed.String(), "Content-Encoding: "+encoding))
		})
		if d := s.client(t, -1, 0).Validate(t.Context(), "a"); d.Allowed || d.Err == nil {
			t.Errorf("%s: %+v", encoding, d)
		}
	}
}

// TestARequestThatTheServerDidNotGetInTime is tried again: the server's 408 is no refusal, and says nothing of what it carried out.
func TestARequestThatTheServerDidNotGetInTime(t *testing.T) {
	t.Parallel()
	late := failure("request_timeout", nil)
	if _, err := newScripted(t, say(408, late), say(200, revoked)).client(t, 1, 0).Revoke(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	_, err := newScripted(t, say(408, late)).client(t, -1, 0).Revoke(t.Context(), "a")
	if e, ok := errors.AsType[*Error](err); !ok || e.Refused || e.Outcome != Unknown || e.Status != 408 {
		t.Errorf("%+v", err)
	}
}
