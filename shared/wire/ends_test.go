package wire

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"machineid/internal/testkit/bubble"
)

// How connections end, and what that leaves undone.

// doomed is a connection that a stop ends at the worst moment: the last byte of a request has been read, and the handler does not know yet.
type doomed struct {
	net.Conn
	left int // bytes, until then
	cut  func() bool
	did  bool
}

func (d *doomed) Read(b []byte) (int, error) {
	n, err := d.Conn.Read(b)
	if d.left -= n; d.left == 0 {
		d.did = d.cut()
	}
	return n, err
}

// cutNow does to a connection what listener.cut does.
func (s *Server) cutNow() bool {
	s.mu.Lock()
	l := s.serving
	s.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		return c.state.CompareAndSwap(connWaits, connCut)
	}
	return false
}

// TestWhatIsCutIsNotServed: a request on a connection that a stop has ended is not carried out, for nobody would hear of it. Its caller finds the connection
// ended, without an answer.
func TestWhatIsCutIsNotServed(t *testing.T) {
	change := post("/api/v1/devices/revoke", `{"deviceId":"x"}`)
	for name, parts := range map[string][]string{
		"a change":                     {change},
		"in two parts":                 {change[:len(change)-1], change[len(change)-1:]},
		"within its head":              {change[:40], change[40:]},
		"chunked":                      {chunked("/api/v1/devices/revoke", "10\r\n{\"deviceId\":\"x\"}\r\n0\r\n\r\n")},
		"large":                        {post("/api/v1/devices/revoke_batch", strings.Repeat(" ", 20_000))},
		"one that is refused":          {post("/api/v1/usage", "{}")},
		"one with a fault":             {get("/api/v1/usage", "Connection: close", "Host: b")},
		"a validate":                   {post(validatePath, `{"deviceId":"x"}`)},
		"the second of its connection": {get("/api/v1/usage"), change[:30], change[30:]},
	} {
		t.Run(name, func(t *testing.T) {
			all := strings.Join(parts, "")
			var calls atomic.Int64
			srv := NewServer(func(ctx *fasthttp.RequestCtx) { calls.Add(1); echo(ctx) }, Options{NoDate: true})
			ours, theirs := net.Pipe()
			d := &doomed{Conn: theirs, left: len(all), cut: srv.cutNow}
			ln := newPipes()
			served := make(chan error, 1)
			go func() { served <- srv.Serve(ln) }()
			ln.came <- d
			c, before := wrap(t, ours), int64(0)
			for i, part := range parts[:len(parts)-1] {
				c.send(part) // returns when all of it has been read
				if i == 0 && len(parts) == 3 {
					c.read().want(t, 200, "handler", "usage")
					before = 1
				}
			}
			go func() { _, _ = io.WriteString(ours, parts[len(parts)-1]) }()
			rest, _ := io.ReadAll(c.r)
			_ = ours.Close()
			if err := srv.Shutdown(); err != nil { // waits for the connection
				t.Error(err)
			}
			if err := <-served; err != nil {
				t.Error(err)
			}
			if !d.did {
				t.Fatal("the connection was not cut, so this proves nothing")
			}
			if n := calls.Load(); n != before {
				t.Errorf("it was carried out: %d calls, want %d", n, before)
			}
			if bytes.Contains(rest, []byte(`"status":"ok"`)) || bytes.Contains(rest, []byte(`"allowed":true`)) {
				t.Errorf("and answered: %q", rest)
			}
		})
	}
}

// halfway is a pipe that can end one half of itself; the other end does not notice.
type halfway struct {
	net.Conn
	surplus bool
}

func (halfway) CloseWrite() error { return nil }
func (h halfway) Surplus() bool   { return h.surplus }

// TestASurplusLeavesSoon: a connection beyond the bounds is read after its answer for a shorter time than others, for it has no place.
func TestASurplusLeavesSoon(t *testing.T) {
	for _, surplus := range []bool{false, true} {
		bubble.Test(t, func(t *testing.T) {
			srv, ln := NewServer(echo, Options{NoDate: true}), newPipes()
			served := make(chan error, 1)
			go func() { served <- srv.Serve(ln) }()
			ours, theirs := net.Pipe()
			ln.came <- halfway{theirs, surplus}
			began, want, stays := time.Now(), 200, leaveTime
			if surplus {
				want, stays = 503, lameTime
			}
			go func() { _, _ = io.WriteString(ours, get("/api/v1/usage", "Connection: close")) }()
			r := bufio.NewReader(ours)
			if status, err := hear(r, want); err != nil || status != want {
				t.Fatal(status, err)
			}
			_, _ = io.ReadAll(r)
			if took := time.Since(began); took != stays { // the times are virtual
				t.Errorf("surplus %t: it is left after %v, want %v", surplus, took, stays)
			}
			_ = ours.Close()
			if err := srv.Shutdown(); err != nil {
				t.Error(err)
			}
			if err := <-served; err != nil {
				t.Error(err)
			}
			time.Sleep(time.Minute)
		})
	}
}

// TestARestBehindAnAnswerThatLeavesSlowly: what has come of a next request has its time from when the answer before has left, however long its client takes to
// read that.
func TestARestBehindAnAnswerThatLeavesSlowly(t *testing.T) {
	all := post(validatePath, `{"deviceId":"x"}`)
	for pause, status := range map[time.Duration]int{8 * time.Second: 200, 12 * time.Second: 408} {
		inBubble(t, echo, Options{ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute}, func(c *crowd) {
			conn := c.open(all + all[:len(all)-1])
			defer func() { _ = conn.Close() }()
			time.Sleep(9 * time.Second) // it does not read
			r := bufio.NewReader(conn)
			if got, err := hear(r, 200); err != nil || got != 200 {
				t.Fatal(got, err)
			}
			go func() {
				time.Sleep(pause)
				_, _ = io.WriteString(conn, all[len(all)-1:])
			}()
			if got, err := hear(r, status); err != nil || got != status {
				t.Errorf("the rest %v later: HTTP %d, %v, want %d", pause, got, err, status)
			}
		})
	}
}

// TestAStopKeepsNoAnswer: an answer that is made while the server stops leaves, also where a part of a next request has come, for nobody would have it leave later.
func TestAStopKeepsNoAnswer(t *testing.T) {
	for _, next := range []string{"", "GET ", get("/api/v1/org")} {
		inBubble(t, leisurely, Options{}, func(c *crowd) {
			conn := c.open(get("/api/v1/usage") + next) // takes 3 s
			defer func() { _ = conn.Close() }()
			time.Sleep(time.Second)
			stopped := make(chan error, 1)
			go func() { stopped <- c.srv.ShutdownWithContext(context.Background()) }()
			a, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatalf("with %q behind it: no answer: %v", next, err)
			}
			body, err := io.ReadAll(a.Body)
			_ = a.Body.Close()
			if a.StatusCode != http.StatusOK || err != nil || !bytes.Contains(body, []byte(`"handler":"usage"`)) || !a.Close {
				t.Errorf("with %q behind it: HTTP %d %s, %v, close %t", next, a.StatusCode, body, err, a.Close)
			}
			_ = conn.Close()
			if err := <-stopped; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestATruncatedBodyIsNoBody: less than was announced is no request, however long, and by whatever listener it came: a list cut short would be another list.
func TestATruncatedBodyIsNoBody(t *testing.T) {
	for name, serve := range map[string]func(*Server, net.Listener) error{
		"ours":       func(s *Server, l net.Listener) error { return s.Serve(l) },
		"fasthttp's": func(s *Server, l net.Listener) error { return s.Server.Serve(l) },
	} {
		for _, size := range []int{100, bodyAtOnce, bodyAtOnce + 1, 2*bodyAtOnce + 1, MaxBody} {
			for _, missing := range []int{1, size / 2, size - 1} {
				t.Run(fmt.Sprintf("%s %d of %d", name, size-missing, size), func(t *testing.T) {
					var calls atomic.Int64
					srv := NewServer(func(ctx *fasthttp.RequestCtx) { calls.Add(1); echo(ctx) }, Options{})
					ln, err := net.Listen("tcp", "127.0.0.1:0")
					if err != nil {
						t.Fatal(err)
					}
					served := make(chan error, 1)
					go func() { served <- serve(srv, ln) }()
					conn := dialTCP(t, ln.Addr().String())
					all := post("/api/v1/org/create", strings.Repeat(" ", size))
					conn.send(all[:len(all)-missing])
					half, ok := conn.Conn.(*net.TCPConn)
					if !ok || half.CloseWrite() != nil {
						t.Fatal("no half-close")
					}
					if answers, _ := io.ReadAll(conn.r); bytes.Contains(answers, []byte(`"status":"ok"`)) {
						t.Errorf("it is answered: %q", answers)
					} else if ours := name == "ours"; ours && !bytes.HasPrefix(answers, []byte("HTTP/1.1 400 ")) {
						t.Errorf("it is answered: %q", answers)
					}
					_ = conn.Close()
					if err := srv.Shutdown(); err != nil {
						t.Error(err)
					}
					if err := <-served; err != nil {
						t.Error(err)
					}
					if n := calls.Load(); n != 0 {
						t.Error("it is carried out")
					}
				})
			}
		}
	}
}

// TestPassTakesWhatIsSingle: of the headers that only some routes have, the one that was sent once goes on, and of one that is repeated none: the next hop would have to
// choose.
func TestPassTakesWhatIsSingle(t *testing.T) {
	const name = "Stripe-Signature"
	for _, sent := range [][]string{nil, {""}, {"t=1,v1=a"}, {"t=1,v1=a", "t=1,v1=a"}, {"t=1,v1=a", "t=2,v1=b"}, {"t=1,v1=a", ""}, {"", "t=1,v1=a"}, {"a", "b", "c"}} {
		for _, as := range []string{name, strings.ToUpper(name)} {
			var passed [][]byte
			did := false
			srv := playable(func(ctx *fasthttp.RequestCtx) {
				var req fasthttp.Request
				Pass(&req, ctx, From(ctx))
				for _, v := range req.Header.PeekAll(name) {
					passed = append(passed, bytes.Clone(v))
				}
				did = true
			})
			var headers []string
			for _, value := range sent {
				headers = append(headers, as+": "+value)
			}
			play(srv, []byte(post("/api/v1/webhooks/stripe", "{}", headers...)))
			var want []string
			if len(sent) == 1 {
				want = sent
			}
			got := make([]string, 0, 1)
			for _, v := range passed {
				got = append(got, string(v))
			}
			if !did || !slices.Equal(got, want) {
				t.Errorf("of %q is handed on %q, want %q", sent, got, want)
			}
		}
	}
}
