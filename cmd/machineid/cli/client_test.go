//go:build unix

package cli

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// client is one connection, so that a test knows when the bytes of a request were sent. It dials when it must. It belongs
// to one goroutine.
type client struct {
	addr string
	conn net.Conn
	r    *bufio.Reader

	operators bool // a request was for a call of operators, whose answers name no handler
}

// reply is a response whose body was found to be a JSON object.
type reply struct {
	*http.Response

	raw       string
	body      map[string]any
	operators bool
}

// errNotSent says that nobody can have seen the request.
var errNotSent = errors.New("not sent")

// callTime is above the 10 s at which an edge gives up on the authority.
const callTime = 12 * time.Second

func newClient(tb testing.TB, addr string) *client {
	tb.Helper()
	c := &client{addr: addr}
	tb.Cleanup(c.close)
	return c
}

func (c *client) close() {
	if c.conn != nil {
		_ = c.conn.Close()
		c.conn = nil
	}
}

func (c *client) dial() error {
	if c.conn != nil {
		return nil
	}
	conn, err := net.DialTimeout("tcp", c.addr, callTime)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotSent, err)
	}
	c.conn, c.r = conn, bufio.NewReader(conn)
	return nil
}

// send writes a request; the answers come in the order of the requests.
func (c *client) send(raw string) error {
	if err := c.dial(); err != nil {
		return err
	}
	c.operators = c.operators || strings.Contains(raw, "/api/v1/operator/")
	_ = c.conn.SetDeadline(time.Now().Add(callTime))
	_, err := io.WriteString(c.conn, raw)
	return err
}

// read reads the next answer and holds it to what every answer keeps. After an error the connection is gone.
func (c *client) read() (*reply, error) {
	a, err := c.next(nil)
	if err != nil {
		c.close()
	}
	return a, err
}

func (c *client) next(req *http.Request) (*reply, error) {
	resp, err := http.ReadResponse(c.r, req)
	for err == nil && resp.StatusCode == http.StatusContinue {
		resp, err = http.ReadResponse(c.r, req)
	}
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if err != nil {
		return nil, err
	}
	if resp.Close {
		c.close()
	}
	a := &reply{Response: resp, raw: string(text), operators: c.operators}
	return a, a.keepsContract(req)
}

// keepsContract judges what holds for every answer of either tier (docs/api.md).
func (a *reply) keepsContract(req *http.Request) error {
	h := a.Header
	if h.Get("Content-Type") != "application/json" || h.Get("Cache-Control") != "no-store" {
		return fmt.Errorf("HTTP %d with headers %v: %q", a.StatusCode, h, a.raw)
	}
	if req != nil && req.Method == http.MethodHead {
		return nil // has no body
	}
	if err := json.Unmarshal([]byte(a.raw), &a.body); err != nil {
		return fmt.Errorf("HTTP %d is no JSON object: %w: %q", a.StatusCode, err, a.raw)
	}
	if id := a.text("request_id"); id == "" || id != h.Get("X-Request-Id") {
		return fmt.Errorf("HTTP %d with X-Request-Id %q: %s", a.StatusCode, h.Get("X-Request-Id"), a.raw)
	}
	if a.text("handler") == "" && !a.operators || a.text("status") == "" {
		return fmt.Errorf("HTTP %d without handler or status: %s", a.StatusCode, a.raw)
	}
	unavailable := a.StatusCode == http.StatusServiceUnavailable || a.code() == "SYSTEM_UNAVAILABLE"
	if unavailable && h.Get("Retry-After") == "" {
		return fmt.Errorf("HTTP %d without Retry-After: %s", a.StatusCode, a.raw)
	}
	return nil
}

func (a *reply) text(name string) string {
	s, _ := a.body[name].(string)
	return s
}

func (a *reply) number(name string) int {
	n, ok := a.body[name].(float64)
	if !ok {
		return -1
	}
	return int(n)
}

// code is a validate's.
func (a *reply) code() string { return a.text("code") }

// request is the bytes of a well-formed call. headers are whole lines.
func request(method, path, key, body string, headers ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s /api/v1/%s HTTP/1.1\r\nHost: machineid\r\n", method, path)
	if key != "" {
		b.WriteString("x-org-key: " + key + "\r\n")
	}
	for _, h := range headers {
		b.WriteString(h + "\r\n")
	}
	if method == http.MethodPost || body != "" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n" + body)
	return b.String()
}

func (c *client) do(method, path, key, body string, headers ...string) (*reply, error) {
	if err := c.send(request(method, path, key, body, headers...)); err != nil {
		// A body that is too large is refused before it is read: the answer may be there all the same.
		if c.conn != nil {
			if a, readErr := c.read(); readErr == nil {
				return a, nil
			}
		}
		c.close()
		return nil, err
	}
	return c.read()
}

func (c *client) post(path, key, body string) (*reply, error) {
	return c.do(http.MethodPost, path, key, body)
}

func (c *client) get(path, key string) (*reply, error) {
	return c.do(http.MethodGet, path, key, "")
}

// naming is the body that names a device.
func naming(id string) string {
	b, _ := json.Marshal(map[string]string{"deviceId": id}) // never fails
	return string(b)
}

// must makes a call that has to succeed.
func (c *client) must(tb testing.TB, path, key, body string) *reply {
	tb.Helper()
	a, err := c.post(path, key, body)
	if err != nil {
		tb.Fatalf("%s: %v", path, err)
	}
	if a.StatusCode != http.StatusOK {
		tb.Fatalf("%s: HTTP %d: %s", path, a.StatusCode, a.raw)
	}
	return a
}

// validate returns a decision's code.
func (c *client) validate(tb testing.TB, key, id string) string {
	tb.Helper()
	a, err := c.post("devices/validate", key, naming(id))
	if err != nil {
		tb.Fatalf("validate %s: %v", id, err)
	}
	return a.code()
}

// org is an org's two keys.
type org struct{ admin, agent string }

func (c *client) createOrg(tb testing.TB) org {
	tb.Helper()
	a := c.must(tb, "org/create", "", "{}")
	return org{a.text("orgApiKey"), a.text("agentKey")}
}
