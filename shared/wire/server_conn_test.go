package wire

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"machineid/shared/decision"
)

func TestPipelinedRequests(t *testing.T) {
	p := serve(t, echo, Options{})
	conn := p.dial(t)
	var all strings.Builder
	for i := range 50 {
		switch i % 3 {
		case 0:
			all.WriteString(post(validatePath, fmt.Sprintf(`{"deviceId":"d%d"}`, i)))
		case 1:
			all.WriteString(get(validatePath + fmt.Sprintf("?deviceId=d%d", i)))
		case 2:
			all.WriteString(chunked(validatePath, fmt.Sprintf("%x\r\n{\"deviceId\":\"d%d\"}\r\n0\r\n\r\n", len(fmt.Sprintf(`{"deviceId":"d%d"}`, i)), i)))
		}
	}
	all.WriteString(get("/api/v1/usage", "X-A: b\r\n c")) // folded: the last to be answered
	all.WriteString(get("/api/v1/usage"))
	go func() { _, _ = io.WriteString(conn, all.String()) }()
	for i := range 50 {
		conn.read().want(t, 200, "deviceId", fmt.Sprintf("d%d", i))
	}
	conn.read().want(t, 400, "error", "bad_request")
	conn.closed()
}

func TestExpectContinue(t *testing.T) {
	p := serve(t, echo, Options{})
	conn := p.dial(t)
	conn.send("POST " + validatePath + " HTTP/1.1\r\nHost: a\r\nx-org-key: " + testKey + "\r\nExpect: 100-continue\r\nContent-Length: 16\r\n\r\n")
	line, err := conn.r.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") {
		t.Fatalf("%q, %v", line, err)
	}
	if _, err := conn.r.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	conn.send(`{"deviceId":"x"}`)
	conn.read().want(t, 200, "code", "ALLOW")
}

// A request that came with a part of the next one is answered also if the rest of that never comes.
func TestPartOfANextRequestEnds(t *testing.T) {
	addr, _ := serveTCP(t, NewServer(echo, Options{}))
	conn := dialTCP(t, addr)
	conn.send(post(validatePath, `{"deviceId":"x"}`) + get("/api/v1/usage") + chunked(validatePath, ""))
	half, ok := conn.Conn.(*net.TCPConn)
	if !ok || half.CloseWrite() != nil {
		t.Fatal("no half-close")
	}
	conn.read().want(t, 200, "code", "ALLOW")
	conn.read().want(t, 200, "handler", "usage")
	conn.read().want(t, 400, "error", "bad_request")
	conn.closed()
}

// The part keeps the connection no longer than a request may take to arrive, however slowly it goes on.
func TestPartOfANextRequestIsTimed(t *testing.T) {
	addr, _ := serveTCP(t, NewServer(echo, Options{ReadTimeout: 100 * time.Millisecond, IdleTimeout: time.Hour}))
	conn := dialTCP(t, addr)
	all := strings.Repeat(" ", 10_000)
	conn.send(post(validatePath, `{"deviceId":"x"}`) + strings.TrimRight(post(validatePath, all), " "))
	over := make(chan struct{})
	defer close(over)
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			case <-tick.C:
				if _, err := io.WriteString(conn.Conn, " "); err != nil {
					return
				}
			}
		}
	}()
	conn.read().want(t, 200, "code", "ALLOW")
	conn.read().want(t, 408, "error", "request_timeout")
}

// serveTCP serves on a real socket for the time of the test and returns its address. It hands over how Serve ended.
func serveTCP(tb testing.TB, srv *Server) (addr string, served <-chan error) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = ln.Close() })
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(ln) }()
	return ln.Addr().String(), ended
}

func dialTCP(tb testing.TB, addr string) *client {
	tb.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	return wrap(tb, c)
}

func TestTruncatedBody(t *testing.T) {
	addr, _ := serveTCP(t, NewServer(echo, Options{}))
	for name, raw := range map[string]string{
		"plain":          strings.TrimSuffix(post(validatePath, `{"deviceId":"x"}`), "}"),
		"chunked":        chunked(validatePath, "20\r\n{"),
		"before trailer": chunked(validatePath, "2\r\n{}\r\n0\r\n"),
	} {
		t.Run(name, func(t *testing.T) {
			conn := dialTCP(t, addr)
			conn.send(raw)
			half, ok := conn.Conn.(*net.TCPConn)
			if !ok || half.CloseWrite() != nil {
				t.Fatal("no half-close")
			}
			conn.read().want(t, 400, "error", "bad_request")
			conn.closed()
		})
	}
}

// A request that stops arriving is answered and its connection closed, wherever it stops.
func TestSlowClients(t *testing.T) {
	p := serve(t, echo, Options{ReadTimeout: 30 * time.Millisecond})
	for name, raw := range map[string]string{
		"nothing sent":     "",
		"within the line":  "POST /api/v1/dev",
		"within the head":  "POST " + validatePath + " HTTP/1.1\r\nHost: a\r\nx-org-key: org_",
		"within the body":  strings.TrimSuffix(post(validatePath, `{"deviceId":"x"}`), "}"),
		"within a chunk":   chunked(validatePath, "20\r\n{"),
		"between chunks":   chunked(validatePath, "2\r\n{}\r\n"),
		"before a trailer": chunked(validatePath, "2\r\n{}\r\n0\r\n"),
		"after a method":   "POST ",
		"after the line":   "POST " + validatePath + " HTTP/1.1\r\n",
		"within an end":    "POST " + validatePath + " HTTP/1.1\r",
		"within a size":    chunked(validatePath, "2"),
		"after a size":     chunked(validatePath, "2\r"),
		"after a chunk":    chunked(validatePath, "2\r\n{}"),
		"in an extension":  chunked(validatePath, "2;a"),
		"in a trailer":     chunked(validatePath, "2\r\n{}\r\n0\r\nX-A: b"),
		"in a large body":  strings.TrimSuffix(post(validatePath, strings.Repeat(" ", 20_000)), " "),
		"in the next":      strings.TrimSuffix(post(validatePath, `{"deviceId":"x"}`), "}"),
	} {
		t.Run(name, func(t *testing.T) {
			conn := p.dial(t)
			_, _ = io.WriteString(conn, raw) // on a busy machine the time may be up before
			a := conn.read()
			if a.StatusCode != fasthttp.StatusRequestTimeout || a.body["error"] != "request_timeout" || !a.Close {
				t.Errorf("HTTP %d %s", a.StatusCode, a.raw)
			}
			conn.closed()
		})
	}
}

func TestIdleConnectionsEnd(t *testing.T) {
	p := serve(t, echo, Options{IdleTimeout: 20 * time.Millisecond})
	conn := p.dial(t)
	conn.send(get("/api/v1/usage"))
	conn.read().want(t, 200, "handler", "usage")
	conn.closed()
}

func TestHTTP10(t *testing.T) {
	p := serve(t, echo, Options{})
	conn := p.dial(t)
	conn.send(strings.Replace(get("/api/v1/usage", "Connection: keep-alive"), "HTTP/1.1", "HTTP/1.0", 1))
	conn.read().want(t, 200, "handler", "usage")
	conn.send(strings.Replace(get("/api/v1/usage"), "HTTP/1.1", "HTTP/1.0", 1))
	conn.read().want(t, 200, "handler", "usage")
	conn.closed()
}

func TestConnectionClose(t *testing.T) {
	p := serve(t, echo, Options{})
	for _, value := range []string{"close", "Close", "keep-alive, close"} {
		conn := p.dial(t)
		conn.send(get("/api/v1/usage", "Connection: "+value) + get("/api/v1/usage"))
		conn.read().want(t, 200, "handler", "usage")
		conn.closed()

		conn = p.dial(t) // refused, and closed all the same
		conn.send(post("/api/v1/usage", "{}", "Connection: "+value) + get("/api/v1/usage"))
		conn.read().want(t, 405, "error", "method_not_allowed")
		conn.closed()
	}
}

// HEAD is served where GET is: the same head, and no body. Elsewhere it is 405, without a body either.
func TestHeadHasNoBody(t *testing.T) {
	p := serve(t, echo, Options{})
	conn := p.dial(t)
	for _, c := range []struct {
		target, allow string
		status        int
	}{
		{"/api/v1/usage", "", 200}, {validatePath + "?deviceId=x", "", 200}, {"/api/v1/devices/revoke", "POST", 405}, {"/nowhere", "", 404},
	} {
		conn.send(strings.Replace(get(c.target), "GET", "HEAD", 1) + get("/api/v1/org"))
		resp, err := http.ReadResponse(conn.r, &http.Request{Method: http.MethodHead})
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != c.status || resp.Header.Get("Allow") != c.allow || resp.ContentLength < 50 || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("HEAD %s: HTTP %d, %v", c.target, resp.StatusCode, resp.Header)
		}
		conn.read().want(t, 200, "handler", "org") // right after the head: there was no body
	}
}

func TestFaultsOnValidateAreDecisions(t *testing.T) {
	p := serve(t, echo, Options{})
	conn := p.dial(t)
	conn.send(post(validatePath, `{"deviceId":"x"}`, "X-Org-Key: "+testKey))
	a := conn.read()
	a.want(t, 400, "code", "INVALID_DEVICE_ID")
	if a.body["allowed"] != false || a.body["message"] != ErrHeadRepeated.Error() {
		t.Error(a.raw)
	}
	conn.closed()

	// So does what fasthttp itself refuses: its begin is known to the connection. Where that is not (what is before it was chunked), the path is lost,
	// and the answer says allowed all the same.
	for _, before := range []string{"", chunked(validatePath, "0\r\n\r\n")} {
		conn = p.dial(t)
		conn.send(before + post(validatePath, `{"deviceId":"x"}`, "Content-Length: 2", "X-Request-Id: mine"))
		if before != "" {
			conn.read()
		}
		a = conn.read()
		a.want(t, 400, "code", "INVALID_DEVICE_ID")
		if a.body["allowed"] != false || (a.body["handler"] == ValidateHandler && a.body["request_id"] == "mine") != (before == "") {
			t.Error(a.raw)
		}
	}
}

func TestPanics(t *testing.T) {
	broken := func(ctx *fasthttp.RequestCtx) {
		ctx.Response.Header.Set("X-Half", "done")
		ctx.Response.SetBodyString("half an ans")
		panic("broken on purpose")
	}
	p := serve(t, broken, Options{NoDate: true})
	conn := p.dial(t)
	conn.send(post("/api/v1/org/create", "{}"))
	a := conn.read()
	a.want(t, 500, "error", "system_unavailable")
	a.want(t, 500, "outcome", OutcomeUnknown)
	if a.Header.Get("X-Half") != "" || a.Header.Get("Date") != "" || a.Header.Get("Retry-After") == "" {
		t.Errorf("headers %v", a.Header)
	}
	conn.closed()

	conn = p.dial(t) // the process lives
	conn.send(post(validatePath, `{"deviceId":"x"}`))
	a = conn.read()
	a.want(t, 200, "code", "SYSTEM_UNAVAILABLE")
	if a.Header.Get("Retry-After") == "" || a.body["allowed"] != false {
		t.Error(a.raw)
	}
	conn.closed()
	if out := p.log.String(); !strings.Contains(out, "broken on purpose") || !strings.Contains(out, "server_conn_test.go") {
		t.Errorf("log: %s", out)
	}
}

func TestTooManyConnections(t *testing.T) {
	p := serve(t, echo, Options{Concurrency: 2})
	ask := func(c *client) answer {
		c.send(get("/api/v1/usage"))
		return c.read()
	}
	first, second := p.dial(t), p.dial(t)
	ask(first).want(t, 200, "handler", "usage")
	ask(second).want(t, 200, "handler", "usage")
	third := p.dial(t)
	a := ask(third)
	a.want(t, 503, "error", "system_unavailable")
	if a.Header.Get("Retry-After") == "" || a.body["outcome"] != OutcomeNotDone {
		t.Error(a.raw)
	}
	third.closed()
	ask(first).want(t, 200, "handler", "usage") // those that were there go on
	fourth := p.dial(t)
	fourth.send(get(validatePath + "?deviceId=x"))
	fourth.read().want(t, 200, "code", "SYSTEM_UNAVAILABLE")
	fourth.closed()
}

// A route may have a limit of its own, below or above the server's.
func TestRouteLimits(t *testing.T) {
	routes := NewTable([]Route{
		{Path: "small", Post: true, MaxBody: 10},
		{Path: "batch", Post: true, MaxBody: MaxBatchBody},
		{Path: "silent", Post: true},
	})
	p := serve(t, echo, Options{Match: routes.Match})
	for _, c := range []struct {
		path string
		size int
		want int
	}{
		{"small", 10, 200},
		{"small", 11, 413},
		{"batch", MaxBody + 1, 200},
		{"batch", MaxBatchBody, 200},
		{"batch", MaxBatchBody + 1, 413},
		{"silent", MaxBody, 200},
		{"silent", MaxBody + 1, 413},
		{"nowhere", MaxBody, 404},
		{"nowhere", MaxBody + 1, 413},
	} {
		for _, how := range []string{"plain", "chunked"} {
			t.Run(fmt.Sprintf("%s %d %s", c.path, c.size, how), func(t *testing.T) {
				body := strings.Repeat("x", c.size)
				raw := post(Base+c.path, body)
				if how == "chunked" {
					raw = chunked(Base+c.path, fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", c.size, body))
				}
				conn := p.dial(t)
				go func() { _, _ = io.WriteString(conn, raw) }()
				if a := conn.read(); a.StatusCode != c.want {
					t.Errorf("HTTP %d, want %d: %.200s", a.StatusCode, c.want, a.raw)
				}
			})
		}
	}
}

// Over real sockets: many connections, each with many requests, all of which get their own answers.
func TestLoopback(t *testing.T) {
	srv := NewServer(echo, Options{})
	addr, served := serveTCP(t, srv)

	const conns, each = 8, 100
	failed := make(chan error, conns)
	for n := range conns {
		go func() {
			c := fasthttp.HostClient{Addr: addr, MaxConns: 1, ReadTimeout: patient}
			defer c.CloseIdleConnections()
			var req fasthttp.Request
			var resp fasthttp.Response
			for i := range each {
				req.Header.SetMethod("POST")
				req.SetRequestURI("http://" + c.Addr + validatePath)
				req.Header.Set("x-org-key", testKey)
				id := fmt.Sprintf("device-%d-%d", n, i)
				req.SetBodyString(`{"deviceId":"` + id + `"}`)
				if err := c.Do(&req, &resp); err != nil {
					failed <- err
					return
				}
				if !bytes.Contains(resp.Body(), []byte(`"code":"ALLOW"`)) || !bytes.Contains(resp.Body(), []byte(`"deviceId":"`+id+`"`)) {
					failed <- fmt.Errorf("device %s got %s", id, resp.Body())
					return
				}
			}
			failed <- nil
		}()
	}
	for range conns {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
	if err := srv.Shutdown(); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestShutdownLetsRequestsFinish(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	srv := NewServer(func(ctx *fasthttp.RequestCtx) {
		close(entered)
		<-leave
		WriteDecision(ctx, &Decision{Code: decision.Allow, RequestID: From(ctx).ID})
	}, Options{})
	addr, served := serveTCP(t, srv)
	conn := dialTCP(t, addr)
	conn.send(get(validatePath + "?deviceId=x"))
	<-entered
	down := make(chan error, 1)
	go func() { down <- srv.Shutdown() }()
	if err := <-served; err != nil { // no longer accepting, so Shutdown is under way
		t.Error(err)
	}
	close(leave)
	a := conn.read()
	a.want(t, 200, "code", "ALLOW")
	if !a.Close {
		t.Error("the connection would go on")
	}
	conn.closed()
	if err := <-down; err != nil {
		t.Error(err)
	}
}
