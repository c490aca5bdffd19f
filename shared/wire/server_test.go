package wire

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttputil"

	"machineid/shared/decision"
)

const (
	testKey = "org_Zz09Aa1bMachineIDisTheOffSwitchForFleets1CzegJ"
	patient = 5 * time.Second // what a test waits at most for what should come at once
)

// echo is a handler that answers validate with ALLOW and tells about every other request what reached it.
func echo(ctx *fasthttp.RequestCtx) {
	r := From(ctx)
	switch {
	case r.Route == nil:
		r.Error(ctx, NotFound())
	case r.Route.Validate:
		v, code := ParseValidate(ctx)
		if code == 0 {
			code = decision.Allow
		}
		WriteDecision(ctx, &Decision{Code: code, RequestID: r.ID, DeviceID: v.DeviceID})
	default:
		r.JSON(ctx, fasthttp.StatusOK, struct {
			Envelope
			Key   string `json:"key"`
			Body  string `json:"body"`
			Query string `json:"query"`
		}{r.Envelope("ok"), string(r.Head.OrgKey), string(ctx.Request.Body()), string(r.Query)})
	}
}

// peer is a server and the way to it.
type peer struct {
	ln  *fasthttputil.InmemoryListener
	log *syncBuffer
}

// serve starts a server for the time of the test.
func serve(tb testing.TB, h fasthttp.RequestHandler, opts Options) *peer {
	tb.Helper()
	p := &peer{ln: fasthttputil.NewInmemoryListener(), log: &syncBuffer{}}
	opts.Log = slog.New(slog.NewTextHandler(p.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	srv := NewServer(h, opts)
	done := make(chan error, 1)
	go func() { done <- srv.Serve(p.ln) }()
	tb.Cleanup(func() {
		_ = p.ln.Close()
		if err := <-done; err != nil {
			tb.Errorf("Serve: %v", err)
		}
	})
	return p
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// client is a connection on which raw bytes are sent.
type client struct {
	net.Conn
	r *bufio.Reader
	t testing.TB
}

func (p *peer) dial(tb testing.TB) *client {
	tb.Helper()
	c, err := p.ln.Dial()
	if err != nil {
		tb.Fatal(err)
	}
	return wrap(tb, c)
}

func wrap(tb testing.TB, c net.Conn) *client {
	tb.Helper()
	tb.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(patient)); err != nil {
		tb.Fatal(err)
	}
	return &client{Conn: c, r: bufio.NewReader(c), t: tb}
}

func (c *client) send(raw string) {
	c.t.Helper()
	if _, err := io.WriteString(c, raw); err != nil {
		c.t.Fatal(err)
	}
}

// answer is a response whose body was found to be a JSON object.
type answer struct {
	*http.Response
	body map[string]any
	raw  string
}

// read reads one answer and holds it to what holds for every answer.
func (c *client) read() answer {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatalf("no answer: %v", err)
	}
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("read the answer's body: %v", err)
	}
	_ = resp.Body.Close()
	a := answer{Response: resp, raw: string(raw)}
	if err := json.Unmarshal(raw, &a.body); err != nil {
		c.t.Fatalf("HTTP %d, no JSON object: %q", resp.StatusCode, raw)
	}
	h := resp.Header
	if h.Get("Content-Type") != "application/json" || h.Get("Cache-Control") != "no-store" || h.Get("Server") != "" {
		c.t.Errorf("wrong headers: %v", h)
	}
	if id := h.Get("X-Request-Id"); id == "" || id != a.body["request_id"] {
		c.t.Errorf("X-Request-Id %q, request_id %v", id, a.body["request_id"])
	}
	if a.body["handler"] == nil && a.body["error"] != "invalid_operator_token" { // operators' calls name none
		c.t.Errorf("no handler in %s", raw)
	}
	return a
}

// closed waits for the server to end the connection without a further byte.
func (c *client) closed() {
	c.t.Helper()
	rest, err := io.ReadAll(c.r)
	if len(rest) > 0 || err != nil {
		c.t.Errorf("after the answer came %q, %v", rest, err)
	}
}

func (a answer) want(tb testing.TB, status int, field, value string) {
	tb.Helper()
	if a.StatusCode != status || a.body[field] != value {
		tb.Errorf("HTTP %d %s, want %d with %s %q", a.StatusCode, a.raw, status, field, value)
	}
}

// request is a head with a key, and what follows it.
func request(line string, headers []string, rest string) string {
	lines := append([]string{line + " HTTP/1.1", "Host: a", "x-org-key: " + testKey}, headers...)
	return strings.Join(lines, "\r\n") + "\r\n" + rest
}

func post(path, body string, headers ...string) string {
	return request("POST "+path, headers, fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body))
}

func get(target string, headers ...string) string {
	return request("GET "+target, headers, "\r\n")
}

func chunked(path, body string, headers ...string) string {
	return request("POST "+path, append([]string{"Transfer-Encoding: chunked"}, headers...), "\r\n"+body)
}

const validatePath = "/api/v1/devices/validate"

func TestServerAnswers(t *testing.T) {
	p := serve(t, echo, Options{})
	for _, c := range []struct {
		name, raw    string
		status       int
		field, value string
	}{
		{"validate by POST", post(validatePath, `{"deviceId":"agent-01"}`), 200, "code", "ALLOW"},
		{"validate by GET", get(validatePath + "?deviceId=agent-01"), 200, "deviceId", "agent-01"},
		{"validate by GET, encoded", get(validatePath + "?deviceId=a%20b%2fc+d"), 200, "deviceId", "a b/c d"},
		{"validate by GET, raw UTF-8", get(validatePath + "?deviceId=α"), 200, "deviceId", "α"},
		{"trailing slash", post(validatePath+"/", `{"deviceId":"agent-01"}`), 200, "code", "ALLOW"},
		{"trailing slash and query", get(validatePath + "/?deviceId=x"), 200, "code", "ALLOW"},
		{"absolute form", get("http://a" + validatePath + "?deviceId=x"), 200, "code", "ALLOW"},
		{"POST ignores the query", post(validatePath+"?deviceId=x", `{}`), 200, "code", "INVALID_DEVICE_ID"},
		{"GET ignores the body", "GET " + validatePath + " HTTP/1.1\r\nHost: a\r\nx-org-key: " + testKey + "\r\nContent-Length: 16\r\n\r\n" + `{"deviceId":"x"}`, 200, "code", "INVALID_DEVICE_ID"},
		{"chunked body", chunked(validatePath, "5\r\n{\"dev\r\n12\r\niceId\":\"agent-01\"}\r\n0\r\n\r\n"), 200, "deviceId", "agent-01"},
		{"no key", "POST " + validatePath + " HTTP/1.1\r\nHost: a\r\nContent-Length: 16\r\n\r\n" + `{"deviceId":"x"}`, 200, "code", "INVALID_ORG_KEY"},
		{"HTTP/1.0 without headers", "POST " + validatePath + " HTTP/1.0\r\n\r\n", 200, "code", "INVALID_ORG_KEY"},
		{"validate by PUT", strings.Replace(post(validatePath, `{"deviceId":"x"}`), "POST", "PUT", 1), 405, "code", "INVALID_DEVICE_ID"},
		{"validate by OPTIONS", strings.Replace(get(validatePath), "GET", "OPTIONS", 1), 405, "code", "INVALID_DEVICE_ID"},
		{"validate by post in lower case", strings.Replace(post(validatePath, `{"deviceId":"x"}`), "POST", "post", 1), 405, "code", "INVALID_DEVICE_ID"},
		{"validate, chunked and too large", chunked(validatePath, fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", MaxBody+1, strings.Repeat(" ", MaxBody+1))), 413, "code", "INVALID_DEVICE_ID"},
		{"validate at the limit", post(validatePath, `{"deviceId":"x"}`+strings.Repeat(" ", MaxBody-16)), 200, "code", "ALLOW"},
		{"register", post("/api/v1/devices/register", `{"deviceId":"x"}`), 200, "handler", "devices/register"},
		{"org/create has a name of its own", post("/api/v1/org/create", `{}`), 200, "handler", "org_create"},
		{"usage", get("/api/v1/usage"), 200, "handler", "usage"},
		{"usage by POST", post("/api/v1/usage", `{}`), 405, "error", "method_not_allowed"},
		{"unknown path", get("/api/v1/nothing"), 404, "handler", "unknown"},
		{"root", get("/"), 404, "error", "not_found"},
		{"asterisk form", strings.Replace(get("*"), "GET", "OPTIONS", 1), 404, "error", "not_found"},
		{"encoded slash", get("/api/v1/devices%2fvalidate?deviceId=x"), 404, "status", "not_found"},
		{"encoded letter", get("/api/v1/%75sage"), 404, "status", "not_found"},
		{"doubled slash", get("/api/v1//usage"), 404, "status", "not_found"},
		{"dots", get("/api/v1/devices/../usage"), 404, "status", "not_found"},
		{"fragment", get("/api/v1/usage#x"), 404, "status", "not_found"},
		{"other case", get("/API/v1/usage"), 404, "status", "not_found"},
		{"two trailing slashes", get("/api/v1/usage//"), 404, "status", "not_found"},
		{"own request id", get("/api/v1/usage", "X-Request-ID: a/b:c@1"), 200, "request_id", "a/b:c@1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := p.dial(t)
			conn.send(c.raw)
			conn.read().want(t, c.status, c.field, c.value)
			if !strings.Contains(c.raw, "HTTP/1.0") {
				conn.send(get("/api/v1/usage")) // the connection goes on
				conn.read().want(t, 200, "handler", "usage")
			}
		})
	}
}

func TestServerRefusesAndCloses(t *testing.T) {
	p := serve(t, echo, Options{})
	smuggled := get("/api/v1/usage")
	for _, c := range []struct {
		name, raw string
		status    int
		code      string
	}{
		{"garbage", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, "bad_request"},
		{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "http_version_not_supported"},
		{"HTTP/0.9", "GET /api/v1/usage\r\n\r\n", 400, "bad_request"},
		{"no Host", "GET /api/v1/usage HTTP/1.1\r\n\r\n", 400, "bad_request"},
		{"two Hosts", get("/api/v1/usage", "Host: b"), 400, "bad_request"},
		{"length and chunked", chunked("/api/v1/org/create", "0\r\n\r\n", "Content-Length: 5") + smuggled, 400, "bad_request"},
		{"chunked and length", post("/api/v1/org/create", "0\r\n\r\n", "Transfer-Encoding: chunked") + smuggled, 400, "bad_request"},
		{"two chunked", chunked("/api/v1/org/create", "0\r\n\r\n", "Transfer-Encoding: chunked") + smuggled, 400, "bad_request"},
		{"chunked, identity", chunked("/api/v1/org/create", "0\r\n\r\n", "Transfer-Encoding: identity") + smuggled, 400, "bad_request"},
		{"identity alone", post("/api/v1/org/create", "{}", "Transfer-Encoding: identity") + smuggled, 400, "bad_request"},
		{"xchunked", post("/api/v1/org/create", "0\r\n\r\n", "Transfer-Encoding: xchunked") + smuggled, 400, "bad_request"},
		{"gzip, chunked", post("/api/v1/org/create", "0\r\n\r\n", "Transfer-Encoding: gzip, chunked") + smuggled, 501, "not_implemented"},
		{"chunked after a tab in the name", post("/api/v1/org/create", "0\r\n\r\n", "Transfer-Encoding\t: chunked") + smuggled, 400, "bad_request"},
		{"two equal lengths", post("/api/v1/org/create", "{}", "Content-Length: 2") + smuggled, 400, "bad_request"},
		{"two lengths", post("/api/v1/org/create", "{}", "Content-Length: 0") + smuggled, 400, "bad_request"},
		{"list of lengths", "POST /api/v1/org/create HTTP/1.1\r\nHost: a\r\nContent-Length: 2, 2\r\n\r\n{}" + smuggled, 400, "bad_request"},
		{"signed length", "POST /api/v1/org/create HTTP/1.1\r\nHost: a\r\nContent-Length: +2\r\n\r\n{}" + smuggled, 400, "bad_request"},
		{"huge length", "POST /api/v1/org/create HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n{}" + smuggled, 413, "body_too_large"},
		{"length of 2^63", request("POST /api/v1/org/create", []string{"Content-Length: 9223372036854775808"}, "\r\n{}") + smuggled, 413, "body_too_large"},
		{"length of 2^63-1", request("POST /api/v1/org/create", []string{"Content-Length: 9223372036854775807"}, "\r\n{}") + smuggled, 413, "body_too_large"},
		{"length of thousands of digits", request("POST /api/v1/org/create", []string{"Content-Length: " + strings.Repeat("7", 7000)}, "\r\n{}") + smuggled, 413, "body_too_large"},
		{"huge length behind others", get("/api/v1/usage", "X-A: "+strings.Repeat("a", 5000), "Content-Length: 99999999999999999999") + smuggled, 413, "body_too_large"},
		{"huge length, wrong method", request("POST /api/v1/usage", []string{"Content-Length: 99999999999999999999"}, "\r\n{}") + smuggled, 405, "method_not_allowed"},
		{"huge length, nowhere", request("POST /api/v1/nowhere", []string{"Content-Length: 99999999999999999999"}, "\r\n{}") + smuggled, 413, "body_too_large"},
		{"huge length that is none", request("POST /api/v1/org/create", []string{"Content-Length: 99999999999999999999x"}, "\r\n{}") + smuggled, 400, "bad_request"},
		{"huge length, chunked", request("POST /api/v1/org/create", []string{"Content-Length: 99999999999999999999", "Transfer-Encoding: chunked"}, "\r\n0\r\n\r\n") + smuggled, 400, "bad_request"},
		{"two huge lengths", request("POST /api/v1/org/create", []string{"Content-Length: 99999999999999999999", "Content-Length: 1"}, "\r\n") + smuggled, 400, "bad_request"},
		{"space before colon", post("/api/v1/org/create", "{}", "X-A : b") + smuggled, 400, "bad_request"},
		{"space before colon of the length", "POST /api/v1/org/create HTTP/1.1\r\nHost: a\r\nContent-Length : 2\r\n\r\n{}" + smuggled, 400, "bad_request"},
		{"space within a name", post("/api/v1/org/create", "{}", "X A: b") + smuggled, 400, "bad_request"},
		{"folded", post("/api/v1/org/create", "{}", "X-A: b\r\n c") + smuggled, 400, "bad_request"},
		{"folded with a tab", post("/api/v1/org/create", "{}", "X-A: b\r\n\tc") + smuggled, 400, "bad_request"},
		{"folded before the first", "POST /api/v1/org/create HTTP/1.1\r\n Host: a\r\nContent-Length: 2\r\n\r\n{}", 400, "bad_request"},
		{"line of white space", post("/api/v1/org/create", "{}", "X-A: b\r\n ") + smuggled, 400, "bad_request"},
		{"bare LF", post("/api/v1/org/create", "{}", "X-A: b\nX-B: c") + smuggled, 400, "bad_request"},
		{"bare CR", post("/api/v1/org/create", "{}", "X-A: b\rX-B: c") + smuggled, 400, "bad_request"},
		{"no colon", post("/api/v1/org/create", "{}", "X-A") + smuggled, 400, "bad_request"},
		{"NUL in a value", post("/api/v1/org/create", "{}", "X-A: b\x00c") + smuggled, 400, "bad_request"},
		{"NUL in a name", post("/api/v1/org/create", "{}", "X-A\x00: b") + smuggled, 400, "bad_request"},
		{"DEL in a value", post("/api/v1/org/create", "{}", "X-A: \x7f") + smuggled, 400, "bad_request"},
		{"two keys", post("/api/v1/org/create", "{}", "X-ORG-KEY: "+testKey) + smuggled, 400, "bad_request"},
		{"two tokens", post("/api/v1/org/create", "{}", "Authorization: a", "authorization: b") + smuggled, 400, "bad_request"},
		{"compressed", post("/api/v1/org/create", "{}", "Content-Encoding: gzip") + smuggled, 400, "bad_request"},
		{"trailer with a key", chunked("/api/v1/org/create", "2\r\n{}\r\n0\r\nX-Org-Key: b\r\n\r\n") + smuggled, 400, "bad_request"},
		{"trailer with a token", chunked("/api/v1/org/create", "2\r\n{}\r\n0\r\nAuthorization: b\r\n\r\n") + smuggled, 400, "bad_request"},
		{"trailer with anything", chunked("/api/v1/org/create", "2\r\n{}\r\n0\r\nX-A: b\r\n\r\n") + smuggled, 400, "bad_request"},
		{"chunk size is no number", chunked("/api/v1/org/create", "xyz\r\n{}\r\n0\r\n\r\n") + smuggled, 400, "bad_request"},
		{"chunk longer than its size", chunked("/api/v1/org/create", "1\r\n{}\r\n0\r\n\r\n") + smuggled, 400, "bad_request"},
		{"chunk size beyond 64 bits", chunked("/api/v1/org/create", "fffffffffffffffff\r\n{}\r\n0\r\n\r\n") + smuggled, 413, "body_too_large"},
		{"second chunk beyond 64 bits", chunked("/api/v1/org/create", "2\r\n{}\r\n8000000000000000\r\n0\r\n\r\n") + smuggled, 413, "body_too_large"},
		{"chunk beyond 64 bits of another method", strings.Replace(chunked("/api/v1/org/create", "fffffffffffffffff\r\n{}\r\n0\r\n\r\n"), "POST", "PUT", 1) + smuggled, 405, "method_not_allowed"},
		{"chunk size below zero", chunked("/api/v1/org/create", "-1\r\n{}\r\n0\r\n\r\n") + smuggled, 400, "bad_request"},
		{"chunked in HTTP/1.2", strings.Replace(chunked("/api/v1/org/create", "2\r\n{}\r\n0\r\n\r\n"), "HTTP/1.1", "HTTP/1.2", 1) + smuggled, 501, "not_implemented"},
		{"HTTP/1.2 without Host", strings.Replace(get("/api/v1/usage"), "HTTP/1.1\r\nHost: a", "HTTP/1.2", 1) + smuggled, 400, "bad_request"},
		{"both lengths in HTTP/1.2", strings.Replace(chunked("/api/v1/org/create", "0\r\n\r\n", "Content-Length: 5"), "HTTP/1.1", "HTTP/1.2", 1) + smuggled, 400, "bad_request"},
		{"LF after the chunk size", chunked("/api/v1/org/create", "2\n{}\r\n0\r\n\r\n") + smuggled, 400, "bad_request"},
		{"body too large", post("/api/v1/org/create", strings.Repeat(" ", MaxBody+1)), 413, "body_too_large"},
		{"chunked body beyond every limit", chunked("/api/v1/org/create", "200000\r\n"+strings.Repeat(" ", MaxBatchBody+MaxBody+1)), 413, "body_too_large"},
		{"too large, but the method comes first", post("/api/v1/usage", strings.Repeat(" ", MaxBody+1)), 405, "method_not_allowed"},
		{"head too large", get("/api/v1/usage", "X-A: "+strings.Repeat("a", 9000)), 431, "head_too_large"},
		{"target too large", get("/api/v1/usage?x=" + strings.Repeat("a", 9000)), 414, "uri_too_long"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := p.dial(t)
			go func() { _, _ = io.WriteString(conn, c.raw) }() // the server may close before all is sent
			a := conn.read()
			a.want(t, c.status, "error", c.code)
			if !a.Close {
				t.Error("the answer does not announce the connection's end")
			}
			conn.closed()
		})
	}
	if out := p.log.String(); strings.Contains(out, "org_") {
		t.Errorf("the log shows a key: %s", out)
	}
}
