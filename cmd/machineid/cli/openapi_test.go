//go:build unix

package cli

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"

	"machineid/shared/openapi"
	"machineid/shared/openapi/contract"
	"machineid/shared/wire"
)

// TestOpenAPIIsServed: by both tiers, each with the calls that it answers, to anyone, to be kept.
func TestOpenAPIIsServed(t *testing.T) {
	t.Parallel()
	w := launchDev(t, t.TempDir())
	w.ready()
	document, err := contract.New()
	if err != nil {
		t.Fatal(err)
	}
	served := map[string]*openapi.Page{"edge": openapi.New(func(r *wire.Route) bool { return !r.Operator }), "authority": openapi.New(nil)}
	for tier, addr := range map[string]string{"edge": w.edge, "authority": w.authority} {
		ask := func(method, target, etag string) (int, http.Header, []byte) {
			t.Helper()
			req, err := http.NewRequestWithContext(context.Background(), method, "http://"+addr+target, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			if etag != "" {
				req.Header.Set("If-None-Match", etag)
			}
			resp, err := http.DefaultTransport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = resp.Body.Close() }()
			text, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != http.StatusNotModified { // of which the validator judges nothing
				if err := document.Check(&contract.Exchange{
					Method: method, Target: target, Header: req.Header, Status: resp.StatusCode, AnswerHeader: resp.Header, Answer: string(text),
				}); err != nil {
					t.Errorf("%s: %s %s: not as openapi.json says: %v", tier, method, target, err)
				}
			}
			return resp.StatusCode, resp.Header, text
		}
		status, header, text := ask("GET", "/openapi.json", "")
		etag := header.Get("ETag")
		if status != http.StatusOK || !bytes.Equal(text, served[tier].Text()) || !strings.HasPrefix(header.Get("Cache-Control"), "public, max-age=") {
			t.Errorf("%s: HTTP %d with %v, %d bytes", tier, status, header, len(text))
		}
		if status, header, text = ask("GET", "/openapi.json?v=1", etag); status != http.StatusNotModified || len(text) != 0 || header.Get("ETag") != etag {
			t.Errorf("%s: with its ETag HTTP %d with %v, %d bytes", tier, status, header, len(text))
		}
		if status, _, _ = ask("GET", "/openapi.json", `"another"`); status != http.StatusOK {
			t.Errorf("%s: with another ETag HTTP %d", tier, status)
		}
		if status, header, _ = ask("POST", "/openapi.json", ""); status != http.StatusMethodNotAllowed || header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: POST: HTTP %d, Allow %q", tier, status, header.Get("Allow"))
		}
		if status, _, _ = ask("GET", "/openapi.json/", ""); status != http.StatusNotFound {
			t.Errorf("%s: with a slash HTTP %d", tier, status)
		}
	}
}
