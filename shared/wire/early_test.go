package wire

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// TestExpect: who waits with the body is told at once what the head decides, and only else to go on (RFC 9110, 10.1.1). Nobody with HTTP/1.0 is.
func TestExpect(t *testing.T) {
	wrong := func(_ *fasthttp.RequestCtx, r *Request) *Error {
		if string(r.Head.Authorization) == "Bearer wrong" {
			return InvalidOperatorToken()
		}
		return nil
	}
	p := serve(t, echo, Options{Refuses: wrong})
	const revoke = "/api/v1/devices/revoke"
	head := func(line string, headers ...string) string { // without the body
		return request(line, append(headers, "Content-Length: 16"), "\r\n")
	}
	keyless := func(s string) string { return strings.Replace(s, "x-org-key: "+testKey+"\r\n", "", 1) }
	wait := "Expect: 100-continue"
	for name, c := range map[string]struct {
		raw    string
		status int
		code   string
	}{
		"goes on":                 {head("POST "+revoke, wait), 100, ""},
		"another case":            {head("POST "+revoke, "expect: 100-Continue"), 100, ""},
		"capitals":                {head("POST "+revoke, "EXPECT: 100-CONTINUE"), 100, ""},
		"a list":                  {head("POST "+revoke, "Expect: , 100-continue ,"), 100, ""},
		"twice":                   {head("POST "+revoke, wait, wait), 100, ""},
		"chunked":                 {request("POST "+revoke, []string{wait, "Transfer-Encoding: chunked"}, "\r\n"), 100, ""},
		"validate":                {head("POST "+validatePath, wait), 100, ""},
		"validate, a bad key":     {keyless(head("POST "+validatePath, wait)), 100, ""},
		"unknown":                 {head("POST "+revoke, "Expect: tea"), 417, "expectation_failed"},
		"unknown, beside":         {head("POST "+revoke, "Expect: 100-continue, tea"), 417, "expectation_failed"},
		"unknown, another line":   {head("POST "+revoke, wait, "Expect: tea=1"), 417, "expectation_failed"},
		"unknown, on validate":    {head("POST "+validatePath, "Expect: tea"), 417, "expectation_failed"},
		"too large":               {request("POST "+revoke, []string{wait, "Content-Length: 70000"}, "\r\n"), 413, "body_too_large"},
		"too large, validate":     {request("POST "+validatePath, []string{wait, "Content-Length: 70000"}, "\r\n"), 413, ""},
		"a batch may be larger":   {request("POST "+revoke+"_batch", []string{wait, "Content-Length: 70000"}, "\r\n"), 100, ""},
		"no such path":            {head("POST /api/v1/nowhere", wait), 404, "not_found"},
		"no such method":          {head("DELETE "+revoke, wait), 405, "method_not_allowed"},
		"no key":                  {keyless(head("POST "+revoke, wait)), 400, "missing_params"},
		"a bad key":               {strings.Replace(head("POST "+revoke, wait), testKey, "org_x", 1), 401, "invalid_org_key"},
		"no token":                {head("POST /api/v1/operator/orgs", wait), 401, "invalid_operator_token"},
		"a wrong token":           {head("POST /api/v1/operator/orgs", wait, "Authorization: Bearer wrong"), 401, "invalid_operator_token"},
		"a token":                 {head("POST /api/v1/operator/orgs", wait, "Authorization: Bearer right"), 100, ""},
		"none needed":             {keyless(head("POST /api/v1/org/create", wait)), 100, ""},
		"a fault of the head":     {head("POST "+revoke, wait, "X-Org-Key: b"), 400, "bad_request"},
		"without a body":          {get("/api/v1/usage", wait), 200, ""},
		"with an empty body":      {post(revoke, "", wait), 200, ""},
		"HTTP/1.0, with the body": {strings.Replace(post(revoke, `{"deviceId":"x"}`, wait), "HTTP/1.1", "HTTP/1.0", 1), 200, ""},
	} {
		t.Run(name, func(t *testing.T) {
			conn := p.dial(t)
			conn.send(c.raw)
			line, err := conn.r.ReadString('\n')
			if err != nil || !strings.HasPrefix(line, fmt.Sprintf("HTTP/1.1 %d ", c.status)) {
				t.Fatalf("%q, %v, want %d", line, err, c.status)
			}
			if c.status == http.StatusContinue {
				if line, err = conn.r.ReadString('\n'); err != nil || line != "\r\n" {
					t.Fatalf("%q, %v", line, err)
				}
				return
			}
			conn.r = bufio.NewReader(io.MultiReader(strings.NewReader(line), conn.r))
			a := conn.read()
			if c.code != "" {
				a.want(t, c.status, "error", c.code)
			}
			if c.status/100 == 4 {
				if !a.Close {
					t.Error("the connection goes on, and what the client did not wait with would be a request")
				}
				conn.closed()
			}
		})
	}
}

// A client that is told to go on has as long for its body as for any request, and may be slow or leave.
func TestAfterContinue(t *testing.T) {
	wait := request("POST "+validatePath, []string{"Expect: 100-continue", "Content-Length: 16"}, "\r\n")
	goesOn := func(conn *client, before, rest string) {
		t.Helper()
		if before != "" {
			conn.read().want(t, 200, "deviceId", "y")
		}
		interim, err := http.ReadResponse(conn.r, nil)
		if err != nil || interim.StatusCode != http.StatusContinue {
			t.Fatalf("%v, %v", interim, err)
		}
		_ = interim.Body.Close()
		if rest != "" { // to a pipe nothing is something
			conn.send(rest)
		}
	}
	addr, _ := serveTCP(t, NewServer(echo, Options{}))
	for _, before := range []string{"", get(validatePath + "?deviceId=y")} {
		for rest, status := range map[string]int{`{"deviceId":"x"}`: 200, `{"device`: 400, "": 400} {
			conn := dialTCP(t, addr)
			conn.send(before + wait)
			goesOn(conn, before, rest)
			if half, ok := conn.Conn.(*net.TCPConn); status == 400 && (!ok || half.CloseWrite() != nil) {
				t.Fatal("no half-close")
			}
			if a := conn.read(); a.StatusCode != status {
				t.Errorf("%q behind %q: HTTP %d %s", rest, before, a.StatusCode, a.raw)
			}
		}
		inBubble(t, echo, Options{ReadTimeout: time.Second, IdleTimeout: time.Hour}, func(c *crowd) {
			for _, rest := range []string{"", `{"device`} {
				conn := wrap(c, c.open(before+wait))
				goesOn(conn, before, rest)
				if a := conn.read(); a.StatusCode != http.StatusRequestTimeout || !a.Close {
					t.Errorf("%q behind %q: HTTP %d %s", rest, before, a.StatusCode, a.raw)
				}
				_ = conn.Close()
			}
		})
	}
}

// The time for a body that is asked for counts from then, also behind an answer that took long and of which a part has left before.
func TestAfterContinueBehindALargeAnswer(t *testing.T) {
	slow := func(ctx *fasthttp.RequestCtx) {
		if !ctx.IsGet() {
			echo(ctx)
			return
		}
		time.Sleep(3 * time.Second)
		From(ctx).JSONBody(ctx, 200, bytes.Repeat([]byte(" "), 20_000))
	}
	wait := request("POST "+validatePath, []string{"Expect: 100-continue", "Content-Length: 16"}, "\r\n")
	inBubble(t, slow, Options{ReadTimeout: time.Second, IdleTimeout: time.Hour}, func(c *crowd) {
		for end, status := range map[string]int{`{"deviceId":"x"}`: 200, "": 408} {
			conn := wrap(c, c.open(get("/api/v1/usage")+wait))
			for _, want := range []int{200, 100} {
				a, err := http.ReadResponse(conn.r, nil)
				if err != nil || a.StatusCode != want {
					t.Fatalf("%v, %v, want %d", a, err, want)
				}
				_, _ = io.Copy(io.Discard, a.Body)
				_ = a.Body.Close()
			}
			time.Sleep(time.Second / 2)
			if end != "" {
				conn.send(end)
			}
			if a := conn.read(); a.StatusCode != status {
				t.Errorf("%q: HTTP %d %s", end, a.StatusCode, a.raw)
			}
			_ = conn.Close()
		}
	})
	addr, _ := serveTCP(t, NewServer(func(ctx *fasthttp.RequestCtx) {
		if ctx.IsGet() {
			From(ctx).JSONBody(ctx, 200, bytes.Repeat([]byte(" "), 20_000))
		}
	}, Options{}))
	conn := dialTCP(t, addr)
	conn.send(get("/api/v1/usage") + wait)
	first, err := http.ReadResponse(conn.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, first.Body)
	_ = first.Body.Close()
	half, ok := conn.Conn.(*net.TCPConn)
	if !ok || half.CloseWrite() != nil {
		t.Fatal("no half-close")
	}
	if a, err := http.ReadResponse(conn.r, nil); err != nil || a.StatusCode != http.StatusContinue {
		t.Fatalf("%v, %v", a, err)
	}
	conn.read().want(t, 400, "error", "bad_request")
}

// The same of a request of which a part came with the one before: the rest has its own time.
func TestARestBehindASlowAnswer(t *testing.T) {
	slow := func(ctx *fasthttp.RequestCtx) {
		if ctx.IsGet() {
			time.Sleep(3 * time.Second)
		}
		echo(ctx)
	}
	all := post(validatePath, `{"deviceId":"x"}`)
	inBubble(t, slow, Options{ReadTimeout: time.Second, IdleTimeout: time.Hour}, func(c *crowd) {
		conn := wrap(c, c.open(get("/api/v1/usage")+all[:len(all)-1]))
		conn.read().want(t, 200, "handler", "usage")
		time.Sleep(time.Second / 2)
		conn.send(all[len(all)-1:])
		conn.read().want(t, 200, "code", "ALLOW")
		_ = conn.Close()
	})
}

// TestAnEarlyAnswerArrives: whoever sends all before it reads gets the answer, however early it was decided, and never a reset.
func TestAnEarlyAnswerArrives(t *testing.T) {
	addr, _ := serveTCP(t, NewServer(echo, Options{leaveTime: time.Minute}))
	const size = 2 << 20
	announced := fmt.Sprintf("Content-Length: %d", size)
	body := bytes.Repeat([]byte{' '}, size)
	for name, c := range map[string]struct {
		head   string
		status int
	}{
		"too large":           {request("POST "+validatePath, []string{announced}, "\r\n"), 413},
		"too large, a batch":  {request("POST /api/v1/devices/revoke_batch", []string{announced}, "\r\n"), 413},
		"chunked":             {chunked("/api/v1/org/create", fmt.Sprintf("%x\r\n", size)), 413},
		"wrong method":        {request("PUT "+validatePath, []string{announced}, "\r\n"), 405},
		"no such path":        {request("POST /api/v1/nowhere", []string{announced}, "\r\n"), 413},
		"no key for a batch":  {strings.Replace(request("POST /api/v1/devices/revoke_batch", []string{"Content-Length: 1000000"}, "\r\n"), "x-org-key", "x-a", 1), 400},
		"a head that is none": {"POST / HTTP/1.1\r\nHost : a\r\n\r\n", 400},
		"a head too large":    {"POST / HTTP/1.1\r\nX-A: ", 431},
		"a target too long":   {"POST /", 414},
		"no HTTP":             {"hello\r\n", 400},
		"HTTP/2":              {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
		"expects tea":         {request("POST "+validatePath, []string{announced, "Expect: tea"}, "\r\n"), 413},
		"closed":              {get("/api/v1/usage", "Connection: close"), 200},
	} {
		t.Run(name, func(t *testing.T) {
			for range 5 {
				conn := dialTCP(t, addr)
				if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
					t.Fatal(err)
				}
				// A server that has read enough may reset the connection. It may not before.
				if _, err := conn.Write(append([]byte(c.head), body...)); err != nil {
					t.Fatalf("the body does not leave: %v", err)
				}
				if a := conn.read(); a.StatusCode != c.status || !a.Close {
					t.Fatalf("HTTP %d %s", a.StatusCode, a.raw)
				}
				conn.closed()
				_ = conn.Close()
			}
		})
	}
}

// What is read of a connection that is left has an end: its client may go on to send for ever.
func TestLeavingHasAnEnd(t *testing.T) {
	addr, _ := serveTCP(t, NewServer(echo, Options{}))
	conn := dialTCP(t, addr)
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	conn.send("hello\r\n")
	conn.read().want(t, 400, "error", "bad_request")
	conn.closed()
	for sent, chunk := 0, make([]byte, 1<<20); ; sent++ {
		if _, err := conn.Write(chunk); err != nil {
			return
		}
		if sent > 2*leaveMost>>20 {
			t.Fatalf("%d MiB were read after the last answer", sent)
		}
	}
}
