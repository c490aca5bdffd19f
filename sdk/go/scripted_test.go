package machineid

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

const testKey = "org_ABCDEFGHs3crets3crets3cret"

// seen is a request that a scripted server got.
type seen struct {
	*http.Request

	body string
	conn int
}

// reply writes the answer to a request; false ends the connection.
type reply func(w io.Writer, req seen) bool

// scripted gives one answer to each request, in order, and the last one again and again.
type scripted struct {
	url     string
	replies []reply
	over    chan struct{}

	mu       sync.Mutex
	requests []seen
	conns    []net.Conn
	changed  *sync.Cond
}

func newScripted(t *testing.T, replies ...reply) *scripted {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &scripted{url: "http://" + l.Addr().String(), replies: replies, over: make(chan struct{})}
	s.changed = sync.NewCond(&s.mu)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns = append(s.conns, conn)
			n := len(s.conns) - 1
			s.mu.Unlock()
			all.Go(func() { s.serve(conn, n) })
		}
	})
	t.Cleanup(func() {
		close(s.over)
		_ = l.Close()
		s.mu.Lock()
		for _, conn := range s.conns {
			_ = conn.Close()
		}
		s.mu.Unlock()
		all.Wait()
	})
	return s
}

func (s *scripted) serve(conn net.Conn, n int) {
	defer func() { _ = conn.Close() }()
	r := bufio.NewReader(conn)
	for {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		s.mu.Lock()
		answer := s.replies[min(len(s.requests), len(s.replies)-1)]
		one := seen{Request: req, body: string(body), conn: n}
		s.requests = append(s.requests, one)
		s.changed.Broadcast()
		s.mu.Unlock()
		if !answer(conn, one) {
			return
		}
	}
}

func (s *scripted) got() []seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]seen(nil), s.requests...)
}

// await waits until n requests have come.
func (s *scripted) await(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.requests) < n {
		s.changed.Wait()
	}
}

// client is a client of s; retries as in Config.
func (s *scripted) client(t *testing.T, retries int, timeout time.Duration) *Client {
	t.Helper()
	c, err := New(Config{OrgKey: testKey, BaseURL: s.url, Retries: retries, Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// theID stands for a request's id in an answer to it. It is as long as those are, so that no length changes.
const theID = "WHAT-THE-REQUEST-HAD-AS-ID"

// echo writes an answer to a request.
func echo(w io.Writer, req seen, data string) bool {
	id := req.Header.Get("X-Request-Id")
	if len(id) != len(theID) {
		panic("a request with the id " + id)
	}
	_, err := io.WriteString(w, strings.ReplaceAll(data, theID, id))
	return err == nil
}

func say(status int, body any, headers ...string) reply {
	return func(w io.Writer, req seen) bool { return echo(w, req, text(status, body, headers...)) }
}

// text is a whole answer with the head that the server's have, and headers; a string is its body as it is.
func text(status int, body any, headers ...string) string {
	return raw(status, body, append([]string{"Content-Type: application/json", "Cache-Control: no-store", "X-Request-Id: " + theID}, headers...)...)
}

// raw is a whole answer with just these headers.
func raw(status int, body any, headers ...string) string {
	b, ok := body.(string)
	if !ok {
		encoded, err := json.Marshal(body)
		if err != nil {
			panic(err)
		}
		b = string(encoded)
	}
	head := append([]string{fmt.Sprintf("HTTP/1.1 %d X", status), fmt.Sprintf("Content-Length: %d", len(b))}, headers...)
	return strings.Join(head, "\r\n") + "\r\n\r\n" + b
}

// thenClose writes bytes and closes.
func thenClose(data string) reply {
	return func(w io.Writer, req seen) bool {
		echo(w, req, data)
		return false
	}
}

func (s *scripted) hang(io.Writer, seen) bool {
	<-s.over
	return false
}

// with is a copy of an object with other fields; a nil value takes one away.
func with(o Object, fields Object) Object {
	made := Object{}
	for _, from := range []Object{o, fields} {
		for k, v := range from {
			made[k] = v
			if v == nil {
				delete(made, k)
			}
		}
	}
	return made
}

var (
	allow   = Object{"allowed": true, "code": "ALLOW", "handler": "devices/validate", "deviceId": "a", "request_id": theID}
	deny    = Object{"allowed": false, "code": "DEVICE_REVOKED", "handler": "devices/validate", "deviceId": "a", "request_id": theID}
	revoked = Object{"handler": "devices/revoke", "deviceId": "a", "revoked": true, "request_id": theID}
)

func failure(code string, fields Object) Object {
	return with(Object{"status": "error", "error": code, "message": "said by the test", "handler": "devices/revoke", "request_id": theID}, fields)
}
