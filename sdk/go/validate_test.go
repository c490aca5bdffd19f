package machineid

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// broken are answers that are no permission, though most look like one.
func broken() map[string]reply {
	whole := text(200, allow)
	_, body, _ := strings.Cut(whole, "\r\n\r\n")
	head, _, _ := strings.Cut(raw(200, "", "Content-Type: application/json", "X-Request-Id: "+theID), "\r\n\r\n")
	head = strings.Replace(head, "Content-Length: 0\r\n", "", 1)
	chunks := fmt.Sprintf(head+"\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(body), body)
	return map[string]reply{
		"html":                      say(200, "<html>welcome</html>"),
		"html of a proxy":           say(502, "<html>bad gateway</html>"),
		"nothing":                   say(200, ""),
		"null":                      say(200, "null"),
		"a list":                    say(200, "["+body+"]"),
		"allowed is 1":              say(200, with(allow, Object{"allowed": 1})),
		"allowed is a string":       say(200, with(allow, Object{"allowed": "true"})),
		"no allowed":                say(200, with(allow, Object{"allowed": nil})),
		"no code":                   say(200, with(allow, Object{"code": nil})),
		"another code":              say(200, with(allow, Object{"code": "DEVICE_REVOKED"})),
		"ALLOW that is not allowed": say(200, with(deny, Object{"code": "ALLOW"})),
		"another device":            say(200, with(allow, Object{"deviceId": "b"})),
		"no device":                 say(200, with(allow, Object{"deviceId": nil})),
		"another handler":           say(200, with(allow, Object{"handler": "usage"})),
		"ALLOW with 201":            say(201, allow),
		"ALLOW with 403":            say(403, allow),
		"ALLOW with 503":            say(503, allow),
		"a denial with 500":         say(500, deny),
		"a redirect":                say(307, deny, "Location: /api/v1/usage"),
		"allowed given twice":       say(200, body[:len(body)-1]+`,"allowed":true}`),
		"bytes behind":              say(200, body+"{}"),
		"broken UTF-8":              say(200, body[:len(body)-1]+",\"x\":\"\xff\"}"),
		"too deep":                  say(200, body[:len(body)-1]+`,"x":`+strings.Repeat("[", 10_000)+strings.Repeat("]", 10_000)+"}"),
		"half a body":               thenClose(whole[:len(whole)-20]),
		"ends early, looks whole":   thenClose(head + "\r\nContent-Length: 4000\r\n\r\n" + body),
		"chunks without their end":  thenClose(chunks),
		"no HTTP":                   thenClose("SSH-2.0-OpenSSH\r\n"),
		"a closed connection":       thenClose(""),
		"another protocol":          say(101, "", "Upgrade: x", "Connection: Upgrade"),
	}
}

func TestBrokenAnswersDeny(t *testing.T) {
	t.Parallel()
	for name, answer := range broken() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScripted(t, answer)
			d := s.client(t, -1, 5*time.Second).Validate(t.Context(), "a")
			if d.Allowed || d.Code != CodeSystemUnavailable || d.Err == nil {
				t.Errorf("%+v", d)
			}
			if n := len(s.got()); n != 1 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

func TestWholeAnswers(t *testing.T) {
	t.Parallel()
	s := newScripted(t, say(200, allow), say(200, deny), say(413, deny), say(200, with(deny, Object{"code": "SOMETHING_NEW"})))
	c := s.client(t, 0, 0)
	for _, want := range []string{"ALLOW", "DEVICE_REVOKED", "DEVICE_REVOKED", "SOMETHING_NEW"} {
		d := c.Validate(t.Context(), "\u2003a\n")
		if d.Allowed != (want == CodeAllow) || d.Code != want || d.Err != nil || d.DeviceID != "a" || d.Body["request_id"] == "" {
			t.Errorf("%+v, want %s", d, want)
		}
	}
	for _, req := range s.got() {
		if req.conn != 0 || req.body != `{"deviceId":"a"}` || req.Header.Get("X-Org-Key") != testKey || req.Header.Values("X-Idempotency-Key") != nil {
			t.Errorf("connection %d, %s, %v", req.conn, req.body, req.Header)
		}
	}
}

func TestRetries(t *testing.T) {
	t.Parallel()
	unavailable := with(deny, Object{"code": CodeSystemUnavailable})
	for name, first := range map[string]reply{
		"close": thenClose(""), "html": thenClose(raw(502, "x")), "unavailable": say(200, unavailable), "429": say(429, failure("rate_limited", Object{"handler": "devices/validate"})),
	} {
		s := newScripted(t, first, first, say(200, allow))
		if d := s.client(t, 2, 0).Validate(t.Context(), "a"); !d.Allowed {
			t.Errorf("%s: %+v", name, d)
		}
	}
	s := newScripted(t, say(200, unavailable, "Retry-After: 60"))
	began := time.Now()
	d := s.client(t, 2, 5*time.Second).Validate(t.Context(), "a")
	if d.Allowed || d.Body["code"] != CodeSystemUnavailable || time.Since(began) > 3*time.Second || len(s.got()) != 1 {
		t.Errorf("%+v after %v and %d requests", d, time.Since(began), len(s.got()))
	}
	s = newScripted(t, say(200, unavailable, "Retry-After: 1"), say(200, allow))
	began = time.Now()
	if d := s.client(t, 1, 0).Validate(t.Context(), "a"); !d.Allowed || time.Since(began) < time.Second {
		t.Errorf("%+v after %v", d, time.Since(began))
	}
}

func TestTheTimeoutIsForTheWholeCall(t *testing.T) {
	t.Parallel()
	s := newScripted(t, thenClose(""))
	s.replies = append(s.replies, s.hang)
	began := time.Now()
	d := s.client(t, 5, 500*time.Millisecond).Validate(t.Context(), "a")
	e, ok := errors.AsType[*Error](d.Err)
	if took := time.Since(began); d.Allowed || !ok || e.Code != "timeout" || took < 400*time.Millisecond || took > 5*time.Second {
		t.Errorf("%+v after %v", d, took)
	}
}

func TestCancelledCallsDeny(t *testing.T) {
	t.Parallel()
	s := newScripted(t)
	s.replies = []reply{s.hang}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		s.await(1)
		cancel()
	}()
	d := s.client(t, 2, time.Minute).Validate(ctx, "a")
	if e, ok := errors.AsType[*Error](d.Err); d.Allowed || !ok || e.Code != "cancelled" || !errors.Is(d.Err, context.Canceled) {
		t.Errorf("%+v", d)
	}
}

func TestNobodyListens(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	c, err := New(Config{OrgKey: testKey, BaseURL: "http://" + l.Addr().String(), Retries: -1})
	if err != nil {
		t.Fatal(err)
	}
	if d := c.Validate(t.Context(), "a"); d.Allowed {
		t.Errorf("%+v", d)
	}
	_, err = c.Revoke(t.Context(), "a")
	if e, ok := errors.AsType[*Error](err); !ok || e.Outcome != NotDone || e.Code != "connection_failed" {
		t.Errorf("%+v", err)
	}
}

func TestIdsThatAreNoUTF8(t *testing.T) {
	t.Parallel()
	s := newScripted(t, say(200, with(allow, Object{"deviceId": "\ufffd"})))
	c := s.client(t, 0, 0)
	if d := c.Validate(t.Context(), "\xff"); d.Allowed || d.Err == nil {
		t.Errorf("%+v", d)
	}
	if _, err := c.Revoke(t.Context(), "\xff"); err == nil {
		t.Error("revoked")
	}
	if n := len(s.got()); n != 0 {
		t.Errorf("%d requests", n)
	}
}

func TestBatchesFailClosed(t *testing.T) {
	t.Parallel()
	yes, no := Object{"deviceId": "a", "allowed": true, "code": "ALLOW"}, Object{"deviceId": "b", "allowed": false, "code": "DEVICE_REVOKED"}
	batch := func(items ...any) Object {
		return Object{"handler": "devices/validate_batch", "request_id": theID, "decisions": items}
	}
	s := newScripted(t, say(200, batch(yes, no)))
	got := s.client(t, -1, 0).ValidateBatch(t.Context(), []string{"a", " b"})
	if len(got) != 2 || !got[0].Allowed || got[1].Allowed || got[1].Code != "DEVICE_REVOKED" {
		t.Errorf("%+v", got)
	}
	for name, answer := range map[string]reply{
		"too few": say(200, batch(yes)), "too many": say(200, batch(yes, no, no)), "the other order": say(200, batch(no, yes)),
		"allowed is 1": say(200, batch(with(yes, Object{"allowed": 1}), no)), "no object": say(200, batch(yes, nil)), "500": say(500, batch(yes, no)),
		"another handler": say(200, with(batch(yes, no), Object{"handler": "x"})), "html": say(200, "<html>"), "gone": thenClose(""),
	} {
		s := newScripted(t, answer)
		for _, d := range s.client(t, -1, 0).ValidateBatch(t.Context(), []string{"a", "b"}) {
			if d.Allowed || d.Code != CodeSystemUnavailable || d.Err == nil {
				t.Errorf("%s: %+v", name, d)
			}
		}
	}
}
