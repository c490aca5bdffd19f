package load

import (
	"bufio"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// scripted serves one connection after the other: for each request it writes the next answer, in pieces if the answer holds "|", and
// closes where the answer ends with "!".
func scripted(t *testing.T, answers ...string) *Target {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() {
		_ = l.Close()
		<-ended
	})
	go func() {
		defer close(ended)
		for len(answers) > 0 {
			c, err := l.Accept()
			if err != nil {
				return
			}
			answers = serveScript(c, answers)
			_ = c.Close()
		}
	}()
	target, err := ParseTarget("http://" + l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func serveScript(c net.Conn, answers []string) []string {
	r := bufio.NewReader(c)
	for len(answers) > 0 {
		req, err := http.ReadRequest(r)
		if err != nil {
			return answers
		}
		_, _ = io.Copy(io.Discard, req.Body)
		text, end := strings.CutSuffix(answers[0], "!")
		answers = answers[1:]
		for piece := range strings.SplitSeq(text, "|") {
			_, _ = io.WriteString(c, strings.ReplaceAll(piece, "\n", "\r\n"))
		}
		if end {
			return answers
		}
	}
	_, _ = r.ReadByte() // until the client closes
	return nil
}

func TestConn(t *testing.T) {
	t.Parallel()
	const allowed = `{"allowed":true,"code":"ALLOW"}`
	of := func(body string) string {
		return fmt.Sprintf("HTTP/1.1 200 OK\nContent-Length: %d\n\n%s", len(body), body)
	}
	long := strings.Repeat("x", readBuffer)
	for name, c := range map[string]struct {
		answer string
		want   answer
	}{
		"plain":                        {"HTTP/1.1 200 OK\nContent-Length: 31\nX-Cache: hit\n\n" + allowed, answer{status: 200, code: allow, allowed: true, cached: true}},
		"miss":                         {"HTTP/1.1 200 OK\nX-Cache: miss\nContent-Length: 31\n\n" + allowed, answer{status: 200, code: allow, allowed: true}},
		"in pieces":                    {"HTTP/1.1 2|00 OK\nContent-Len|gth: 31\n|\n" + allowed[:5] + "|" + allowed[5:], answer{status: 200, code: allow, allowed: true}},
		"other case":                   {"HTTP/1.1 200 OK\ncontent-LENGTH:31\nx-CACHE:hit\n\n" + allowed, answer{status: 200, code: allow, allowed: true, cached: true}},
		"chunked":                      {"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n1f\n" + allowed + "\n0\n\n", answer{status: 200, code: allow, allowed: true}},
		"long":                         {of(`{"a":"` + long + `","error":"z"}`), answer{status: 200, code: codeOK}},
		"an id that looks like a code": {of(`{"deviceId":"\"code\":\"ALLOW\"","allowed":false,"code":"DEVICE_REVOKED"}`), answer{status: 200, code: deviceRevoked}},
		"an error":                     {"HTTP/1.1 503 Sorry\nContent-Length: 30\n\n" + `{"error":"system_unavailable"}`, answer{status: 503, code: named([]byte("system_unavailable"))}},
		"a bare error":                 {"HTTP/1.1 502 Bad\nContent-Length: 4\n\nnope", answer{status: 502, code: named([]byte("http_502"))}},
		"cut off":                      {"HTTP/1.1 200 OK\nContent-Length: 31\n\n{!", answer{code: codeLost}},
		"nothing":                      {"!", answer{code: codeLost}},
		"no HTTP":                      {"hello, who are you?\n!", answer{code: codeNoAnswer}},
		"without length":               {"HTTP/1.1 200 OK\n\n" + allowed + "!", answer{code: codeNoAnswer}},
		"silent":                       {"", answer{code: codeTimeout}},
		"half an answer":               {"HTTP/1.1 200 OK\nContent-Length: 31\n\n{", answer{code: codeTimeout}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := newConn(scripted(t, c.answer), 300*time.Millisecond, false)
			defer conn.Close()
			got := conn.validate("key", []byte("id"))
			got.body = nil
			if got.status != c.want.status || got.code != c.want.code || got.allowed != c.want.allowed || got.cached != c.want.cached {
				t.Errorf("%+v (%v, %v), want %+v", got, got.code, conn.last, c.want)
			}
		})
	}
}

// TestConnIsKeptAndRenewed proves that one connection serves many requests, that one that the server closes is replaced, and that bytes of
// one answer never become part of the next.
func TestConnIsKeptAndRenewed(t *testing.T) {
	t.Parallel()
	const a = "HTTP/1.1 200 OK\nContent-Length: 16\n\n{\"code\":\"ALLOW\"}"
	const b = "HTTP/1.1 200 OK\nContent-Length: 27\n\n{\"code\":\"DEVICE_NOT_FOUND\"}"
	last := "HTTP/1.1 200 OK\nConnection: close\nContent-Length: 16\n\n{\"code\":\"ALLOW\"}!"
	conn := newConn(scripted(t, a, b, last, b, a), time.Second, false)
	defer conn.Close()
	for i, want := range []Code{allow, deviceNotFound, allow, deviceNotFound, allow} {
		if got := conn.validate("key", []byte("id")); got.code != want {
			t.Fatalf("answer %d: %v (%v), want %v", i, got.code, conn.last, want)
		}
	}
}

// TestConnTLS proves that an https target is spoken to under TLS, and that one whose certificate nobody vouches for is not spoken to.
func TestConnTLS(t *testing.T) {
	t.Parallel()
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"allowed":true,"code":"ALLOW"}`)
	}))
	defer s.Close()
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	target, err := ParseTarget(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	conn := newConn(target, 5*time.Second, false)
	if a := conn.validate("key", []byte("id")); a.status != 0 || a.code != codeNoDial || !strings.Contains(conn.last.Error(), "certificate") {
		t.Errorf("a certificate that nobody knows: %+v, %v", a, conn.last)
	}
	pool := x509.NewCertPool()
	pool.AddCert(s.Certificate())
	target.tls.RootCAs = pool
	defer conn.Close()
	for range 2 {
		if a := conn.validate("key", []byte("id")); a.code != allow {
			t.Errorf("%+v, %v", a, conn.last)
		}
	}
}

func TestParseTarget(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"http://127.0.0.1:8080": "127.0.0.1:8080", "http://edge/": "edge:80", "https://edge": "edge:443", "http://[::1]": "[::1]:80",
		"edge:8080": "", "http://": "", "ftp://edge": "", "http://edge/api/v1": "", "http://user@edge": "", "": "",
	} {
		got, err := ParseTarget(text)
		if (err == nil) != (want != "") || (err == nil && got.addr != want) {
			t.Errorf("%q: %+v, %v, want %s", text, got, err, want)
		}
	}
}
