package api_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"machineid/shared/wire"
)

// client is one connection.
type client struct {
	net.Conn
	r *bufio.Reader
}

// answer is a response whose body was found to be a JSON object.
type answer struct {
	*http.Response
	t    testing.TB
	raw  string
	body map[string]any
}

// do makes a call: what is not below the API's path begins with a slash. Headers are whole lines.
func (n *node) do(method, path, body string, headers ...string) *answer {
	n.t.Helper()
	if !strings.HasPrefix(path, "/") {
		path = wire.Base + path
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: a\r\n", method, path)
	for _, h := range headers {
		b.WriteString(h + "\r\n")
	}
	if body != "" || method == "POST" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n" + body)
	a, err := n.send(b.String())
	if err != nil {
		n.t.Fatalf("%s %s: %v", method, path, err)
	}
	n.held.check(n.t, method, path, body, headers, a)
	return a
}

// with makes a call with a key.
func (n *node) with(key, method, path, body string, headers ...string) *answer {
	n.t.Helper()
	return n.do(method, path, body, append(headers, "x-org-key: "+key)...)
}

// send writes a request and reads its answer, and holds it to what holds for every answer. It is safe for concurrent use.
func (n *node) send(raw string) (*answer, error) {
	var c *client
	select {
	case c = <-n.idle:
	default:
		conn, err := n.ln.Dial()
		if err != nil {
			return nil, err
		}
		c = &client{Conn: conn, r: bufio.NewReader(conn)}
	}
	if _, err := io.WriteString(c, raw); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return nil, fmt.Errorf("no answer: %w", err)
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	_ = resp.Body.Close()
	if resp.Close {
		_ = c.Close()
	} else {
		n.idle <- c
	}
	a := &answer{Response: resp, t: n.t, raw: string(text)}
	if err := json.Unmarshal(text, &a.body); err != nil {
		return a, fmt.Errorf("HTTP %d, no JSON object: %q", resp.StatusCode, text)
	}
	h := resp.Header
	if h.Get("Cache-Control") != "no-store" || h.Get("Content-Type") != "application/json" || a.body["request_id"] != h.Get("X-Request-Id") {
		return a, fmt.Errorf("headers %v of %s", h, text)
	}
	if a.body["handler"] == nil && !strings.Contains(raw, " /api/v1/operator/") || a.body["status"] == nil {
		return a, fmt.Errorf("no handler or status in %s", text)
	}
	if resp.StatusCode == http.StatusServiceUnavailable && (h.Get("Retry-After") == "" || a.body["outcome"] == nil) {
		return a, fmt.Errorf("503 without Retry-After or outcome: %s", text)
	}
	return a, nil
}

// want holds an answer to its status and to parts of its body.
func (a *answer) want(status int, parts ...string) *answer {
	a.t.Helper()
	if a.StatusCode != status {
		a.t.Fatalf("HTTP %d, want %d: %s", a.StatusCode, status, a.raw)
	}
	for _, p := range parts {
		if !strings.Contains(a.raw, p) {
			a.t.Fatalf("no %s in %s", p, a.raw)
		}
	}
	return a
}

func (a *answer) field(name string) string {
	s, _ := a.body[name].(string)
	return s
}
