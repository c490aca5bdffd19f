package page

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttputil"

	"machineid/shared/wire"
)

// TestServe: the page is there at its one address, by methods that change nothing, with the headers that hold it to itself; all else is not
// its affair.
func TestServe(t *testing.T) {
	ln := fasthttputil.NewInmemoryListener()
	server := wire.NewServer(func(ctx *fasthttp.RequestCtx) {
		if in := wire.From(ctx); !Serve(ctx, in) {
			in.Error(ctx, wire.NotFound())
		}
	}, wire.Options{NoDate: true})
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	defer func() {
		_ = ln.Close()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}()
	ask := func(method, path string) (status int, header http.Header, text string) {
		t.Helper()
		conn, err := ln.Dial()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }, DisableKeepAlives: true}
		defer transport.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), method, "http://a"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, resp.Header, string(body)
	}
	for _, c := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/recover", 200},
		{"GET", "/recover?x=1", 200},
		{"HEAD", "/recover", 200},
		{"POST", "/recover", 405},
		{"DELETE", "/recover", 405},
		{"GET", "/recover/", 404},
		{"GET", "/Recover", 404},
		{"GET", "/recover/x", 404},
		{"GET", "/%72ecover", 404},
		{"GET", "/", 404},
		{"GET", "/api/v1/recover", 404},
	} {
		status, header, body := ask(c.method, c.path)
		isPage := status == http.StatusOK && strings.HasPrefix(header.Get("Content-Type"), "text/html")
		if status != c.status || isPage != (c.status == http.StatusOK) || header.Get("X-Request-Id") == "" || header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s %s: HTTP %d, %v", c.method, c.path, status, header)
		}
		if c.method == "GET" && isPage && body != string(recoverPage) {
			t.Errorf("%s: another page", c.path)
		}
	}
	_, header, _ := ask("GET", "/recover")
	for name, want := range map[string]string{
		"Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY",
	} {
		if got := header.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
	policy := header.Get("Content-Security-Policy")
	for _, part := range []string{"default-src 'none'", "connect-src 'self'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"} {
		if !strings.Contains(policy, part) {
			t.Errorf("no %s in %s", part, policy)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "http") {
		t.Error(policy)
	}
	for _, element := range []string{"script", "style"} {
		found := regexp.MustCompile(`(?s)<`+element+`[^>]*>(.*?)</`+element+`>`).FindAllSubmatch(recoverPage, -1)
		if len(found) != 1 {
			t.Fatalf("%d elements %s", len(found), element)
		}
		sum := sha256.Sum256(found[0][1])
		if want := element + "-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"; !strings.Contains(policy, want) {
			t.Errorf("the policy does not name the %s: a browser would not take it", element)
		}
	}
}

// TestThePageIsWhole: it names nothing from elsewhere, nothing that its policy forbids, and calls what there is.
func TestThePageIsWhole(t *testing.T) {
	text := string(recoverPage)
	for _, bad := range []string{`https?://`, `(?i)\bsrc\s*=`, `(?i)\bhref\s*=`, `(?i)\bon\w+\s*=\s*["']`, `(?i)\bstyle\s*=`, `innerHTML`, `\beval\b`, `localStorage|sessionStorage|cookie`} {
		if found := regexp.MustCompile(bad).FindString(text); found != "" {
			t.Errorf("the page has %q", found)
		}
	}
	calls := regexp.MustCompile(`call\("([^"]+)", \{ (\w+)`).FindAllStringSubmatch(text, -1)
	if len(calls) != 2 {
		t.Fatalf("calls: %v", calls)
	}
	for _, c := range calls {
		if r := wire.Match([]byte(wire.Base + c[1])); r == nil || !r.Post || c[1] == "org/recover" != (c[2] == "email") || c[1] == "org/recover/confirm" != (c[2] == "token") {
			t.Errorf("it calls %v", c)
		}
	}
	for _, id := range regexp.MustCompile(`at\("(\w+)"\)`).FindAllStringSubmatch(text, -1) {
		if !strings.Contains(text, `id="`+id[1]+`"`) {
			t.Errorf("its script looks for %s", id[1])
		}
	}
}
