package load

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"net/url"
	"testing"
)

// FuzzAnswer holds the load generator's reader of answers to net/http's: of what both take for one, the status and the body are the same,
// and what says allowed does so in the body.
func FuzzAnswer(f *testing.F) {
	for _, s := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 37\r\nX-Cache: hit\r\n\r\n{\"allowed\":true,\"code\":\"ALLOW\",\"a\":1}", "HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 2x0 x\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}x", "hello", "",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n2\r\n{}\r\n0\r\nA: b\r\n\r\n",
	} {
		f.Add([]byte(s))
	}
	c := newConn(&Target{}, 0, false)
	f.Fuzz(func(t *testing.T, raw []byte) {
		c.r.Reset(bytes.NewReader(raw))
		a, err := c.read()
		if err != nil {
			return
		}
		if a.status < 100 || a.status > 999 || a.allowed && !bytes.Contains(a.body, []byte(`"allowed":true`)) {
			t.Fatalf("%q is %+v", raw, a)
		}
		theirs, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(raw)), nil)
		if err != nil {
			return
		}
		body, err := io.ReadAll(theirs.Body)
		_ = theirs.Body.Close()
		if err != nil || theirs.StatusCode < 200 || theirs.StatusCode == http.StatusNoContent || theirs.StatusCode == http.StatusNotModified {
			return // those without a body are no answers of the API
		}
		if theirs.StatusCode != a.status || !bytes.Equal(body, a.body) {
			t.Fatalf("%q is %d %q, for net/http %d %q", raw, a.status, a.body, theirs.StatusCode, body)
		}
	})
}

// FuzzSettings: what bench is told of rates, mixes and targets is refused, or can be used: no rate is without end, no mix empty, and a
// target is dialled where net/url says.
func FuzzSettings(f *testing.F) {
	for _, s := range []string{"5000", "1000..20000", "0", "NaN", "1e7..Inf", "-1..1", "validate=97,register=1", "validate=0", "validate=NaN", "revoke=1e6", "http://127.0.0.1:8080", "https://[::1]", "http://a:b@c", "http://a/b", "http://h:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if r, err := ParseRate(text); err == nil && !(r.From > 0 && r.From <= maxRate && r.To > 0 && r.To <= maxRate) {
			t.Fatalf("%q is the rate %+v", text, r)
		}
		if m, err := ParseMix(text); err == nil && !(m.sum() > 0 && m.sum() <= 4e6) {
			t.Fatalf("%q is the mix %+v", text, m)
		}
		to, err := ParseTarget(text)
		if err != nil {
			return
		}
		u, err := url.Parse(to.URL)
		if err != nil || u.Host != to.host || u.Hostname() == "" || (u.Scheme == "https") != (to.tls != nil) || u.Port() != "" && to.addr != u.Host {
			t.Fatalf("%q is dialled at %q, and is %q", text, to.addr, to.URL)
		}
	})
}
