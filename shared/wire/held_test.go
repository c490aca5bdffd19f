package wire

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// TestHold: the answer is whole, and left is called once: when the body has left, when the client is gone, and when it reads nothing for as long as any
// answer has.
func TestHold(t *testing.T) {
	const size = 32 << 20 // more than sockets hold
	body := []byte(`{"x":"` + strings.Repeat("y", size) + `"}`)
	left := make(chan struct{}, 8)
	answer := func(ctx *fasthttp.RequestCtx) {
		r := From(ctx)
		r.JSONBody(ctx, fasthttp.StatusOK, body)
		Hold(ctx, body, func() { left <- struct{}{} })
	}
	for name, then := range map[string]func(t *testing.T, c net.Conn){
		"read": func(t *testing.T, c net.Conn) {
			t.Helper()
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			got, err := io.ReadAll(resp.Body)
			if err != nil || !bytes.Equal(got, body) || resp.Header.Get("Content-Type") != "application/json" || resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("X-Request-Id") == "" {
				t.Errorf("%d bytes, %v, %v", len(got), err, resp.Header)
			}
		},
		"gone":     func(_ *testing.T, c net.Conn) { _ = c.Close() },
		"not read": func(*testing.T, net.Conn) {},
	} {
		t.Run(name, func(t *testing.T) {
			opts := Options{}
			if name == "not read" {
				opts.WriteTimeout = time.Second
			}
			addr, _ := serveTCP(t, NewServer(answer, opts))
			c, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			if _, err := io.WriteString(c, "GET /api/v1/org/export HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			then(t, c)
			select {
			case <-left:
			case <-time.After(4 * patient):
				t.Fatal("it was never left")
			}
			if len(left) > 0 {
				t.Error("it was left twice")
			}
		})
	}
}
