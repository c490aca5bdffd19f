package edge

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttputil"

	"machineid/shared/openapi"
	"machineid/shared/wire"
)

// fakeUpstream is an authority's HTTP as the test wants it, over real sockets: what
// the proxy writes is judged byte by byte.
type fakeUpstream struct {
	net.Listener
	mu    sync.Mutex
	heads []string // as they came
	conns int
}

const jsonHead = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

// newUpstream answers each request with raw, and closes the connection if that is
// empty.
func newUpstream(t *testing.T, raw string) *fakeUpstream {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &fakeUpstream{Listener: l}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			u.mu.Lock()
			u.conns++
			u.mu.Unlock()
			work.Go(func() { u.serve(c, raw) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		work.Wait()
	})
	return u
}

func (u *fakeUpstream) serve(c net.Conn, raw string) {
	defer func() { _ = c.Close() }()
	r := bufio.NewReader(c)
	var all strings.Builder
	for {
		req, err := http.ReadRequest(bufio.NewReader(io.TeeReader(oneByte{r}, &all)))
		if err != nil {
			return
		}
		body, _ := io.ReadAll(req.Body)
		head, _, _ := strings.Cut(all.String(), "\r\n\r\n")
		all.Reset()
		u.mu.Lock()
		u.heads = append(u.heads, head+"\r\n\r\n"+string(body))
		u.mu.Unlock()
		if raw == "" {
			return
		}
		_, _ = io.WriteString(c, answerTo(req, raw))
	}
}

// answerTo is an answer to a request: it has the request's id, unless one is in it.
func answerTo(req *http.Request, raw string) string {
	line, rest, ok := strings.Cut(raw, "\r\n")
	if !ok || strings.Contains(raw, "X-Request-Id:") {
		return raw
	}
	return line + "\r\nX-Request-Id: " + req.Header.Get("X-Request-Id") + "\r\n" + rest
}

// oneByte reads no further than it is asked for, so that nothing is lost between
// two requests.
type oneByte struct{ *bufio.Reader }

func (o oneByte) Read(b []byte) (int, error) { return o.Reader.Read(b[:min(1, len(b))]) }

func (u *fakeUpstream) seen() (heads []string, conns int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]string(nil), u.heads...), u.conns
}

// front serves an edge that has no link, only a proxy, and makes raw requests.
type front struct {
	t *testing.T
	e *Edge
	l *fasthttputil.InmemoryListener
}

func newFront(t *testing.T, addr string) *front {
	t.Helper()
	f := &front{t: t, l: fasthttputil.NewInmemoryListener()}
	e, err := New(Config{
		ID: "e1", HTTP: f.l, CacheEntries: MinCacheEntries, NoDate: true, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		t.Fatal(err)
	}
	f.e = e
	if addr != "" {
		e.proxy.use(addr, "secret-token")
	}
	served := make(chan error, 1)
	go func() { served <- e.server.Serve(f.l) }()
	t.Cleanup(func() {
		if err := errors.Join(e.server.Shutdown(), <-served); err != nil {
			t.Error(err)
		}
		e.proxy.close()
		e.caches.close()
	})
	return f
}

// raw sends bytes on a connection of their own and reads one answer.
func (f *front) raw(request string) (status int, header http.Header, body map[string]any) {
	f.t.Helper()
	c, err := f.l.Dial()
	if err != nil {
		f.t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, request); err != nil {
		f.t.Fatal(err)
	}
	return f.answer(c)
}

func (f *front) answer(c net.Conn) (status int, header http.Header, body map[string]any) {
	f.t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		f.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, _ := io.ReadAll(resp.Body)
	if err := json.Unmarshal(raw, &body); err != nil {
		f.t.Errorf("the answer is no JSON object: %q", raw)
	}
	return resp.StatusCode, resp.Header, body
}

const okAnswer = jsonHead + "Content-Length: 15\r\nSet-Cookie: a=b\r\nX-Cache: hit\r\nServer: secret\r\n\r\n" + `{"status":"ok"}`

// TestOnlyWhatIsNamedIsForwarded: a new request, from the shared route and named
// headers. A mutant that forwards the head would pass on the forged proof that a
// request comes from an edge.
func TestOnlyWhatIsNamedIsForwarded(t *testing.T) {
	u := newUpstream(t, okAnswer)
	f := newFront(t, u.Addr().String())
	status, header, body := f.raw("POST http://evil.example/api/v1/devices/register/?q=1&deviceId=2 HTTP/1.1\r\nHost: evil.example\r\n" +
		"X-Org-Key: k\r\nAuthorization: Bearer b\r\nIdempotency-Key: i\r\nPrefer: respond-async\r\nMachineID-Version: 1\r\nX-MachineID-Org: o\r\n" +
		"X-Request-Id: my-id\r\nCookie: c\r\nX-Forwarded-For: 6.6.6.6\r\nMachineID-Edge: forged\r\nMachineID-Client: 6.6.6.6\r\nMachineID-Timeout-Ms: 99999999\r\n" +
		"Connection: keep-alive, X-Evil\r\nX-Evil: e\r\nUser-Agent: me\r\nAccept-Encoding: gzip\r\nContent-Length: 18\r\n\r\n" + `{"deviceId":"a 1"}`)
	heads, _ := u.seen()
	if status != 200 || body["status"] != "ok" || len(heads) != 1 {
		t.Fatalf("%d %v, %q", status, body, heads)
	}
	got := heads[0]
	head, sent, _ := strings.Cut(got, "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	if lines[0] != "POST /api/v1/devices/register HTTP/1.1" || sent != `{"deviceId":"a 1"}` {
		t.Errorf("%q with body %q", lines[0], sent)
	}
	allowed := map[string]string{
		"host": u.Addr().String(), "content-length": "18", "x-request-id": "my-id", "x-org-key": "k", "authorization": "Bearer b",
		"x-machineid-org": "o", "idempotency-key": "i", "machineid-version": "1", "prefer": "respond-async",
		"machineid-edge": "secret-token", "machineid-client": "0.0.0.0", "machineid-timeout-ms": "", "content-type": "",
	}
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ": ")
		want, ok := allowed[strings.ToLower(name)]
		if !ok || want != "" && value != want || value == "99999999" {
			t.Errorf("it forwards %q", line)
		}
		delete(allowed, strings.ToLower(name))
	}
	delete(allowed, "content-type")
	if len(allowed) != 0 {
		t.Errorf("it does not forward %v", allowed)
	}
	if header.Get("Set-Cookie") != "" || header.Get("Server") != "" || header.Get("X-Cache") != "hit" || header.Get("X-Request-Id") != "my-id" {
		t.Errorf("it answers with %v", header)
	}
}

// TestQueriesAreWrittenAnew, from the names that the route has. One that cannot be read becomes another that cannot, for the same reason: the authority says so, in its place
// among what else is wrong.
func TestQueriesAreWrittenAnew(t *testing.T) {
	u := newUpstream(t, okAnswer)
	f := newFront(t, u.Addr().String())
	for target, want := range map[string]string{
		"/api/v1/devices/list?limit=5&evil=1&cursor=a%2Fb+c": "/api/v1/devices/list?cursor=a%2Fb+c&limit=5",
		"/api/v1/devices/list?":                              "/api/v1/devices/list",
		"/api/v1/devices/list/":                              "/api/v1/devices/list",
		"/api/v1/devices/get?deviceId=%CE%B1%26x%3D1":        "/api/v1/devices/get?deviceId=%CE%B1%26x%3D1",
		"/api/v1/usage?limit=5":                              "/api/v1/usage",
		"/api/v1/devices/list?limit=1&limit=2":               "/api/v1/devices/list?a&a",
		"/api/v1/devices/list?limit=%zz":                     "/api/v1/devices/list?%",
		"/api/v1/devices/list?limit=1#/../x":                 "/api/v1/devices/list?#",
	} {
		if status, _, body := f.raw("GET " + target + " HTTP/1.1\r\nHost: x\r\nX-Org-Key: k\r\n\r\n"); status != 200 {
			t.Errorf("%s: %d %v", target, status, body)
		}
		heads, _ := u.seen()
		if first, _, _ := strings.Cut(heads[len(heads)-1], "\r\n"); first != "GET "+want+" HTTP/1.1" {
			t.Errorf("%s becomes %q", target, first)
		}
	}
	before, _ := u.seen()
	for request, want := range map[string]int{
		"GET /api/v1/operator/orgs HTTP/1.1\r\nHost: x\r\n\r\n":                                                               404,
		"GET /api/v1/devices%2Flist HTTP/1.1\r\nHost: x\r\n\r\n":                                                              404,
		"GET /api/v1/x/../devices/list HTTP/1.1\r\nHost: x\r\n\r\n":                                                           404,
		"POST /api/v1/devices/list HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n":                                          405,
		"POST /api/v1/devices/revoke HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": 400,
	} {
		if status, _, body := f.raw(request); status != want {
			t.Errorf("%q: %d %v, want %d", request, status, body, want)
		}
	}
	if after, _ := u.seen(); len(after) != len(before) {
		t.Errorf("it forwards what it should refuse: %q", after[len(before):])
	}
}

// TestTheDocumentIsOfTheEdge: what it serves at /openapi.json has the calls that it answers, and none that it answers 404.
func TestTheDocumentIsOfTheEdge(t *testing.T) {
	for _, told := range []bool{false, true} {
		f := newFront(t, newUpstream(t, okAnswer).Addr().String())
		f.e.cfg.ProxyOperator = told
		status, _, body := f.raw("GET " + openapi.Path + " HTTP/1.1\r\nHost: x\r\n\r\n")
		paths, _ := body["paths"].(map[string]any)
		if status != 200 || paths[openapi.Path] == nil {
			t.Fatalf("told %t: %d, paths %v", told, status, paths)
		}
		for _, route := range wire.Routes() {
			path := wire.Base + strings.Replace(strings.Replace(route.Path, "orgs/*", "orgs/{orgId}", 1), "*", "{id}", 1)
			if has, want := paths[path] != nil, f.e.match([]byte(strings.NewReplacer("{", "", "}", "").Replace(path))) != nil; has != want {
				t.Errorf("told %t: %s is answered %t, and in the document %t", told, path, want, has)
			}
		}
	}
}

// TestOperatorsCalls reach the authority through an edge only if it is told to pass them on, and what answers with a stream never does.
func TestOperatorsCalls(t *testing.T) {
	for _, told := range []bool{false, true} {
		u := newUpstream(t, okAnswer)
		f := newFront(t, u.Addr().String())
		f.e.cfg.ProxyOperator = told
		passed, kept := 0, 0
		for _, route := range wire.Routes() {
			if !route.Operator {
				continue
			}
			path := wire.Base + strings.ReplaceAll(route.Path, "*", "a-1")
			for method := range strings.SplitSeq(strings.Replace(route.Allow(), ", HEAD", "", 1), ", ") {
				head := method + " " + path + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer token\r\n"
				if method != "GET" {
					head += "Content-Length: 2\r\n\r\n{}"
				} else {
					head += "\r\n"
				}
				before, _ := u.seen()
				status, _, body := f.raw(head)
				heads, _ := u.seen()
				if !told || route.Stream {
					if kept++; status != 404 || body["error"] != "not_found" || len(heads) != len(before) {
						t.Errorf("told %t, %s %s: %d %v", told, method, path, status, body)
					}
					continue
				}
				if passed++; status != 200 || len(heads) != len(before)+1 {
					t.Errorf("%s %s: %d %v", method, path, status, body)
					continue
				}
				last := heads[len(heads)-1]
				if !strings.HasPrefix(last, method+" "+path+" HTTP/1.1\r\n") || !strings.Contains(last, "\r\nAuthorization: Bearer token\r\n") {
					t.Errorf("%s %s becomes %q", method, path, last)
				}
			}
		}
		if told != (passed > 15) || kept == 0 {
			t.Errorf("told %t: %d passed on, %d kept", told, passed, kept)
		}
	}
}

const (
	aGet  = "GET /api/v1/usage HTTP/1.1\r\nHost: x\r\nX-Org-Key: k\r\n\r\n"
	aPost = "POST /api/v1/devices/revoke HTTP/1.1\r\nHost: x\r\nX-Org-Key: k\r\nContent-Length: 2\r\n\r\n{}"
)

// TestFailuresOfTheUpstream: 503 that says whether a change may have been made,
// and never a second attempt.
func TestFailuresOfTheUpstream(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := gone.Addr().String()
	_ = gone.Close()
	for name, c := range map[string]struct {
		raw       string // what the upstream says; "-" is no session yet, "!" nobody listens
		get, post string // outcomes
	}{
		"no session yet":    {"-", "not_done", "not_done"},
		"nobody listens":    {"!", "not_done", "not_done"},
		"it hangs up":       {"", "not_done", "unknown"},
		"no HTTP":           {"hello\r\n\r\n", "not_done", "unknown"},
		"a page of HTML":    {"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 3\r\n\r\nhi!", "not_done", "unknown"},
		"no type":           {"HTTP/1.1 204 No Content\r\n\r\n", "not_done", "unknown"},
		"an old answer":     {jsonHead + "X-Request-Id: of-another-request\r\nContent-Length: 2\r\n\r\n{}", "not_done", "unknown"},
		"of no request":     {jsonHead + "X-Request-Id: \r\nContent-Length: 2\r\n\r\n{}", "not_done", "unknown"},
		"a cache's":         {jsonHead + "Age: 0\r\nContent-Length: 2\r\n\r\n{}", "not_done", "unknown"},
		"a redirect":        {"HTTP/1.1 302 Found\r\nLocation: http://evil.example/\r\nContent-Length: 0\r\n\r\n", "not_done", "unknown"},
		"another's gateway": {"HTTP/1.1 502 Bad Gateway\r\nContent-Type: text/plain\r\nContent-Length: 0\r\n\r\n", "not_done", "unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			var u *fakeUpstream
			addr := ""
			switch {
			case c.raw == "!":
				addr = refused
			case c.raw != "-":
				u = newUpstream(t, c.raw)
				addr = u.Addr().String()
			}
			f := newFront(t, addr)
			for request, want := range map[string]string{aGet: c.get, aPost: c.post} {
				status, header, body := f.raw(request)
				if status != 503 || body["outcome"] != want || body["error"] != "system_unavailable" || header.Get("Retry-After") == "" {
					t.Errorf("%.4s: %d %v, want %s", request, status, body, want)
				}
			}
			if u != nil {
				if heads, _ := u.seen(); len(heads) != 2 {
					t.Errorf("2 calls were sent %d times", len(heads))
				}
			}
		})
	}
}

// TestAnswersAreRelayed with their status.
func TestAnswersAreRelayed(t *testing.T) {
	u := newUpstream(t, "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nRetry-After: 7\r\nContent-Length: 13\r\n\r\n"+`{"status":"e"}`[:13])
	f := newFront(t, u.Addr().String())
	c, err := f.l.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_, _ = io.WriteString(c, aPost)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") != "7" || string(body) != `{"status":"e"` || len(resp.Header.Values("X-Request-Id")) != 1 {
		t.Errorf("%d %v %q", resp.StatusCode, resp.Header, body)
	}
}

// TestTheProxyFollowsTheSession: the newest node and token.
func TestTheProxyFollowsTheSession(t *testing.T) {
	one, two := newUpstream(t, okAnswer), newUpstream(t, okAnswer)
	f := newFront(t, one.Addr().String())
	f.raw(aGet)
	f.e.proxy.use(one.Addr().String(), "second")
	f.raw(aGet)
	f.e.proxy.use(two.Addr().String(), "third")
	f.raw(aGet)
	a, conns := one.seen()
	b, _ := two.seen()
	if len(a) != 2 || len(b) != 1 || conns != 1 {
		t.Fatalf("%d and %d calls, %d connections", len(a), len(b), conns)
	}
	for i, head := range []string{a[0], a[1], b[0]} {
		if want := []string{"secret-token", "second", "third"}[i]; !strings.Contains(strings.ToLower(head), "machineid-edge: "+want) {
			t.Errorf("call %d goes with %q", i, head)
		}
	}
}

// TestOutcomes of errors that sockets do not make at will.
func TestOutcomes(t *testing.T) {
	for _, c := range []struct {
		err   error
		reads bool
		want  string
	}{
		{fasthttp.ErrTimeout, true, "not_done"},
		{fasthttp.ErrTimeout, false, "unknown"},
		{fasthttp.ErrNoFreeConns, false, "not_done"},
		{fasthttp.ErrDialTimeout, false, "not_done"},
		{fasthttp.ErrConnectionClosed, false, "unknown"},
		{&net.OpError{Op: "dial"}, false, "not_done"},
		{&net.OpError{Op: "read"}, false, "unknown"},
		{&net.OpError{Op: "write"}, false, "unknown"},
	} {
		if got := wire.PassOutcome(c.err, c.reads); got != c.want {
			t.Errorf("%v (reads %v): %s, want %s", c.err, c.reads, got, c.want)
		}
	}
}

// TestALargeBodyForNothing: a body that takes room on a path that no route has is answered as any on it.
func TestALargeBodyForNothing(t *testing.T) {
	inWorld(t, func(w *world) {
		w.start()
		req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
		defer fasthttp.ReleaseRequest(req)
		defer fasthttp.ReleaseResponse(resp)
		for _, path := range []string{"nothing", "operator/orgs", ""} {
			req.SetRequestURI("http://edge/api/v1/" + path)
			req.Header.SetMethod("POST")
			req.SetBody(make([]byte, 20<<10))
			if err := w.client.Do(req, resp); err != nil || resp.StatusCode() != fasthttp.StatusNotFound {
				t.Errorf("%q: %v, HTTP %d", path, err, resp.StatusCode())
			}
		}
	})
}
