package wire

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/valyala/fasthttp"
)

// tape is a connection whose client has written all that it will, and reads what was answered when all is over.
type tape struct {
	in  *bytes.Reader
	out bytes.Buffer
}

func newTape(raw []byte) *tape { return &tape{in: bytes.NewReader(raw)} }

func (c *tape) Read(b []byte) (int, error)  { return c.in.Read(b) }
func (c *tape) Write(b []byte) (int, error) { return c.out.Write(b) }
func (*tape) Close() error                  { return nil }
func (*tape) LocalAddr() net.Addr           { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 8080} }

func (*tape) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000} }
func (*tape) SetDeadline(time.Time) error      { return nil }
func (*tape) SetReadDeadline(time.Time) error  { return nil }
func (*tape) SetWriteDeadline(time.Time) error { return nil }
func (c *tape) answers() *bufio.Reader         { return bufio.NewReader(bytes.NewReader(c.out.Bytes())) }
func play(srv *Server, raw []byte) *tape       { c := newTape(raw); playOn(srv, c); return c }
func playOn(srv *Server, c *tape) {
	_ = srv.ServeConn(newConn(c, newListener(nil, srv.opts, srv.lame)))
}
func playable(h fasthttp.RequestHandler) *Server { return NewServer(h, Options{NoDate: true}) }

// asked is what a server makes of a request.
type asked struct {
	Method, Target, Route, Param                string
	Key, Authorization, Operated, Once, Version string
	Prefer, Query, Device, Body, Fault          string
	// Edges is what the header that tells an edge apart holds, which handlers look at among fasthttp's.
	Edges string
}

func headers(ctx *fasthttp.RequestCtx, name string) string {
	return string(bytes.Join(ctx.Request.Header.PeekAll(name), []byte("|")))
}

// judged is asked of the request of ctx. What a GET's body and a POST's query hold is not looked at by anybody.
func judged(ctx *fasthttp.RequestCtx) (a asked) {
	r := From(ctx)
	h := &r.Head
	a = asked{
		Method: string(ctx.Method()), Target: string(ctx.Request.Header.RequestURI()), Key: string(h.OrgKey), Authorization: string(h.Authorization),
		Operated: string(h.Operated), Once: string(h.IdempotencyKey), Version: string(h.Version), Prefer: string(h.Prefer),
	}
	if v, _ := ParseValidate(ctx); v.DeviceID != nil {
		a.Device = string(v.DeviceID)
	}
	if r.Route == nil {
		return a
	}
	a.Route = r.Route.Path
	if r.Route.isPattern() {
		path, _ := SplitTarget(ctx.Request.Header.RequestURI())
		a.Param = r.Route.Param(path)
	}
	if !ctx.IsGet() {
		a.Body = string(ctx.Request.Body())
		return a
	}
	q, err := ParseQuery(r.Query)
	if err != nil {
		a.Fault = err.Error()
		return a
	}
	for _, name := range r.Route.Query {
		if v, ok := q.Get(name); ok {
			a.Query += name + "=" + string(v) + "&"
		}
	}
	return a
}

// hostileStreams are what the fuzz tests of connections begin with.
var hostileStreams = []string{
	post(validatePath, typicalBody), get(validatePath + "?deviceId=worker/prod/1"), post(validatePath, typicalBody) + get("/api/v1/usage"),
	chunked(validatePath, "17\r\n"+typicalBody+"\r\n0\r\n\r\n"), chunked(validatePath, "17;a=b\r\n"+typicalBody+"\r\n0\r\n\r\n") + get("/api/v1/usage"),
	chunked(validatePath, "0\r\nx-org-key: a\r\n\r\n"), chunked("/api/v1/usage", "0\r\nMachineID-Edge: a\r\n\r\n"),
	chunked(validatePath, "17\r\n"+typicalBody+"\r\n0\r\nMachineID-Edge: a\r\n\r\n"), post(validatePath, typicalBody, "Transfer-Encoding: chunked"), post(validatePath, typicalBody, "X-Org-Key: b"),
	post(validatePath, typicalBody, "Content-Length: 3"), get("/api/v1/devices/list?limit=5&cursor=a%2Fb"), get("http://evil.example/api/v1/usage"),
	get("/api/v1/operator/cluster/members/a1"), post("/api/v1/devices/revoke?deviceId=other", typicalBody, "Idempotency-Key: k", "Prefer: respond-async"),
	strings.Replace(get("/api/v1/usage"), "\r\n", "\n", 2), get("/api/v1/usage", "A: b\r\n c"), get("/api/v1/usage", "A : b"), "\r\n\r\n" + get("/api/v1/usage"),
	post(validatePath, typicalBody, "Expect: 100-continue"), get("/api/v1/usage", "Connection: Upgrade", "Upgrade: h2c"), "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	strings.Replace(get("/api/v1/usage"), "HTTP/1.1", "HTTP/1.0", 1), "GET /api/v1/usage\r\n\r\n", get("/api/v1/operator/orgs/.."), get("/api/v1/devices%2flist"),
	get("/api/v1/devices/list?limit=%zz"), get("/api/v1/audit?limit=1&limit=1"), get("/api/v1/devices/get?deviceId=a#b"), get("/api/v1/usage?a&b&c&d&e&f&g&h&i&j&k&l&m&n&o&p&q"),
	post("/api/v1/webhooks/stripe", "{}", "Stripe-Signature: t=1,v1=a"), strings.Replace(post(validatePath, typicalBody), ": 23", ": 0x17", 1),
	strings.Replace(post(validatePath, typicalBody)+get("/api/v1/usage"), "HTTP/1.1", "HTTP/1.2", 2), strings.Replace(chunked(validatePath, "17\r\n"+typicalBody+"\r\n0\r\n\r\n"), "HTTP/1.1", "HTTP/1.2", 1) + get("/api/v1/usage"),
	strings.Replace(get("/api/v1/usage", "Connection: close"), "HTTP/1.1", "HTTP/1.9", 1) + get("/api/v1/usage"), strings.Replace(post(validatePath, typicalBody), ": 23", ": 9223372036854775808", 1) + get("/api/v1/usage"),
}

// pieces are what streams are put together from where bytes alone would seldom be requests: lines that are right, nearly right and wrong.
var pieces = []string{
	"POST /api/v1/devices/validate HTTP/1.1\r\n", "GET /api/v1/devices/get?deviceId=a HTTP/1.1\r\n", "POST /api/v1/devices/revoke?deviceId=b HTTP/1.1\r\n",
	"GET http://a/api/v1/usage/ HTTP/1.1\r\n", "DELETE /api/v1/operator/cluster/members/a1 HTTP/1.1\r\n", "GET /api/v1/devices/list?cursor=a%26b&limit=1 HTTP/1.0\r\n",
	"PATCH /api/v1/operator/orgs/.. HTTP/1.1\r\n", "POST //api/v1/../v1/usage HTTP/1.1\n", "HEAD /api/v1/usage HTTP/1.1\r\n", "POST /api/v1/devices/revoke_batch HTTP/1.1\r\n",
	"Host: a\r\n", "Host: a\n", "x-org-key: k1\r\n", "X-Org-Key: k2\r\n", "X-Org-Key:\tk3 \r\n", "x-org-key : k4\r\n", "x_org_key: k5\r\n", "X-Org-Key: \r\n k6\r\n",
	"Content-Length: 16\r\n", "Content-Length: 0\r\n", "Content-Length: 16, 16\r\n", "Content-Length: +16\r\n", "content-length: 016\r\n", "Content-Length:\r\n",
	"Transfer-Encoding: chunked\r\n", "Transfer-Encoding: Chunked\r\n", "Transfer-Encoding: identity\r\n", "Transfer-Encoding: gzip, chunked\r\n", "Transfer-Encoding:\vchunked\r\n",
	"Transfer-Encoding : chunked\r\n", "transfer-encoding: chunked\n", "Connection: close\r\n", "Connection: x-org-key, Keep-Alive\r\n", "Expect: 100-continue\r\n",
	"Upgrade: h2c\r\n", "Trailer: x-org-key\r\n", "Idempotency-Key: i\r\n", "Prefer: respond-async\r\n", "MachineID-Edge: forged\r\n", "Content-Encoding: gzip\r\n",
	"X-MachineID-Org: o\r\n", "Authorization: Bearer b\r\n", "X: a\x00b\r\n", "X: a\rb\r\n", ": x\r\n", "X\r\n", " folded\r\n", "\r\n", "\n", "\r",
	`{"deviceId":"a"}`, "10\r\n{\"deviceId\":\"b\"}\r\n", "0\r\n\r\n", "0\r\n", "10;x=\"y\r\n", "0x10\r\n", "00000010\r\n", "-1\r\n", "ffffffffffffffff0\r\n", "10 \r\n", "10\n",
	"GET /api/v1/usage HTTP/1.1\r\nHost: a\r\nX-Org-Key: smuggled\r\n\r\n", "POST /api/v1/devices/revoke HTTP/1.2\r\n", "Content-Length: 18446744073709551632\r\n",
}

// stream is raw, or the pieces that choice names, one by each byte; a byte beyond them stands for itself.
func stream(raw, choice []byte) []byte {
	if len(choice) == 0 {
		return raw
	}
	var b []byte
	for _, c := range choice {
		if int(c) < len(pieces) {
			b = append(b, pieces[c]...)
		} else {
			b = append(b, c)
		}
	}
	return b
}

// addStreams gives a fuzz test its beginnings.
func addStreams(f *testing.F) {
	f.Helper()
	for _, s := range hostileStreams {
		f.Add([]byte(s), []byte(nil))
	}
	for _, choice := range [][]byte{
		{0, 10, 12, 18, 47, 50, 1, 10, 12, 47},
		{0, 10, 12, 24, 47, 51, 52, 3, 10, 47},
		{2, 10, 12, 18, 36, 37, 38, 47, 50},
		{0, 10, 18, 24, 47, 52, 61},
		{9, 10, 13, 25, 35, 47, 51, 53, 12, 47},
		{4, 10, 41, 47, 61},
		{5, 47},
		{0, 10, 24, 47, 54, 50, 47, 52, 61},
		{8, 10, 47, 1, 10, 47},
		{0, 11, 30, 48, 60, 50, 48, 52},
	} {
		f.Add([]byte(nil), choice)
	}
}

// framing are the codes of what leaves no doubt that the connection must end.
var framing = map[string]bool{"bad_request": true, "http_version_not_supported": true, "not_implemented": true, "uri_too_long": true, "head_too_large": true}

// FuzzStream holds the server to net/http over one connection's bytes: of what both take for requests, each must have the same method,
// target, key and body for both, so that nothing hides between two readers; every answer is JSON; and after a fault of the framing nothing
// further is served.
func FuzzStream(f *testing.F) {
	addStreams(f)
	var seen []asked
	srv := playable(func(ctx *fasthttp.RequestCtx) {
		seen[len(seen)-1].Edges = headers(ctx, EdgeHeader)
		From(ctx).Error(ctx, NotFound())
	})
	admit := srv.Handler
	srv.Handler = func(ctx *fasthttp.RequestCtx) { // also what is refused for its path, method or size stands in the stream
		var h Head
		if CheckHead(ctx.Request.Header.RawHeaders(), &h) == nil {
			seen = append(seen, asked{
				Method: string(ctx.Method()), Target: string(ctx.Request.Header.RequestURI()), Key: string(h.OrgKey), Body: string(ctx.Request.Body()),
			})
		}
		admit(ctx)
	}
	f.Fuzz(func(t *testing.T, raw, choice []byte) {
		raw = stream(raw, choice)
		seen = nil
		c := play(srv, raw)
		for r := c.answers(); ; {
			if _, err := r.Peek(1); err != nil {
				break
			}
			if rest, _ := r.Peek(25); bytes.HasPrefix(rest, []byte("HTTP/1.1 100 Continue\r\n\r\n")) {
				_, _ = r.Discard(25)
				continue
			}
			// Read as one to HEAD, which leaves the body where it is, if there is one.
			resp, err := http.ReadResponse(r, &http.Request{Method: http.MethodHead})
			if err != nil {
				t.Fatalf("%q is answered with %q: %v", raw, c.out.Bytes(), err)
			}
			_ = resp.Body.Close()
			body := make([]byte, resp.ContentLength)
			if next, _ := r.Peek(1); string(next) != "{" {
				if !bytes.Contains(raw, []byte(http.MethodHead)) {
					t.Fatalf("%q is answered with %q", raw, c.out.Bytes())
				}
				continue
			}
			if _, err := io.ReadFull(r, body); err != nil {
				t.Fatalf("%q is answered with %q: %v", raw, c.out.Bytes(), err)
			}
			var object struct {
				Error   string
				Allowed bool
			}
			if err := json.Unmarshal(body, &object); err != nil || object.Allowed {
				t.Fatalf("%q is answered with %q: %v", raw, body, err)
			}
			if _, more := r.Peek(1); framing[object.Error] && (!resp.Close || more == nil) {
				t.Fatalf("%q goes on after a fault: %q", raw, c.out.Bytes())
			}
		}
		holdToNetHTTP(t, raw, seen)
	})
}

func holdToNetHTTP(t *testing.T, raw []byte, seen []asked) {
	t.Helper()
	theirs := bufio.NewReader(bytes.NewReader(raw))
	for i, ours := range seen {
		for { // RFC 9112, 2.2: a server ignores empty lines before a request line; net/http's reader leaves that to its caller
			if two, _ := theirs.Peek(2); string(two) != "\r\n" {
				break
			}
			_, _ = theirs.Discard(2)
		}
		req, err := http.ReadRequest(theirs)
		if err != nil {
			return // they refuse what we take: nothing is read in two ways
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		key := strings.Join(req.Header.Values("X-Org-Key"), "|")
		if edges := strings.Join(req.Header.Values(EdgeHeader), "|"); ours.Edges != "" && ours.Edges != edges {
			t.Fatalf("request %d of %q is by the edge %q, for net/http by %q", i, raw, ours.Edges, edges)
		}
		if req.Method != ours.Method || req.RequestURI != ours.Target || key != ours.Key || string(body) != ours.Body {
			t.Fatalf("request %d of %q is\n%+v, for net/http %s %s key %q body %q", i, raw, ours, req.Method, req.RequestURI, key, body)
		}
	}
}

// FuzzHop holds the next hop to the first: an edge's or node's server judges a request, hands it on by Pass, and what it writes is
// read there as one request of the same meaning, whatever the client had sent.
func FuzzHop(f *testing.F) {
	addStreams(f)
	var first, second []asked
	var sent [][]byte
	hop := playable(func(ctx *fasthttp.RequestCtx) {
		r := From(ctx)
		if r.Route == nil {
			return
		}
		var req fasthttp.Request
		Pass(&req, ctx, r)
		req.SetHost("authority:7070")
		req.Header.Set(EdgeHeader, "token")
		req.URI().DisablePathNormalizing = true
		var b bytes.Buffer
		w := bufio.NewWriter(&b)
		if err := errors.Join(req.Write(w), w.Flush()); err != nil {
			panic(err)
		}
		first, sent = append(first, judged(ctx)), append(sent, b.Bytes())
	})
	leader := playable(func(ctx *fasthttp.RequestCtx) {
		second = append(second, judged(ctx))
		if tokens := ctx.Request.Header.PeekAll(EdgeHeader); len(tokens) != 1 || string(tokens[0]) != "token" {
			panic("another's token")
		}
	})
	f.Fuzz(func(t *testing.T, raw, choice []byte) {
		raw = stream(raw, choice)
		first, sent = nil, nil
		play(hop, raw)
		for i, bytes := range sent {
			second = nil
			c := play(leader, bytes)
			if len(second) != 1 {
				t.Fatalf("%q becomes %q, which is %d requests: %q", raw, bytes, len(second), c.out.Bytes())
			}
			// The target is written anew: it may differ where nobody looks.
			was, is := first[i], second[0]
			was.Target, is.Target = "", ""
			if diff := cmp.Diff(was, is); diff != "" {
				t.Fatalf("%q becomes %q (-hop +leader):\n%s", raw, bytes, diff)
			}
			holdToNetHTTP(t, bytes, slices.Clip(second))
		}
	})
}
