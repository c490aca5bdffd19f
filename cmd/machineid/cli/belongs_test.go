//go:build unix

package cli

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// asNode answers as an authority node does: with the id of the request, in the head and in the place of request_id "r".
func asNode(answer http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Request-Id", r.Header.Get("X-Request-Id"))
		w.Header().Set("Content-Type", "application/json")
		answer(namingWriter{w, r.Header.Get("X-Request-Id")}, r)
	})
}

type namingWriter struct {
	http.ResponseWriter

	id string
}

// Write implements http.ResponseWriter.
func (w namingWriter) Write(p []byte) (int, error) {
	_, err := w.ResponseWriter.Write(bytes.ReplaceAll(p, []byte(`"request_id":"r"`), []byte(`"request_id":"`+w.id+`"`)))
	return len(p), err
}

// Unwrap is for http.ResponseController.
func (w namingWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// TestOldAnswersAreNone: what a cache, or a connection that is one answer behind, repeats is no success of a command, and no refusal: of a change it is not known
// whether it was done.
func TestOldAnswersAreNone(t *testing.T) {
	t.Parallel()
	const done = `{"status":"ok","request_id":"r","handler":"devices/revoke_batch","changed":true,"revokedCount":1,"results":[{"deviceId":"a","status":"ok","changed":true}],"propagation":{"edges":1},"orgs":[]}`
	const refused = `{"status":"not_found","error":"org_not_found","message":"no org has this id","request_id":"r","handler":"devices/revoke_batch"}`
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte(clusterToken), 0o600); err != nil {
		t.Fatal(err)
	}
	const org = "f4053160-71cb-4a2c-b4b7-1217b75300eb"
	for name, c := range map[string]struct {
		status int
		body   string
		spoil  func(http.Header)
		why    string // "": it is believed
	}{
		"the node's":                  {200, done, func(http.Header) {}, ""},
		"another request's":           {200, done, func(h http.Header) { h.Set("X-Request-Id", "another") }, "another request"},
		"nobody's":                    {200, done, func(h http.Header) { h.Del("X-Request-Id") }, "another request"},
		"two requests'":               {200, done, func(h http.Header) { h.Add("X-Request-Id", "another") }, "another request"},
		"a cache's":                   {200, done, func(h http.Header) { h.Set("Age", "0") }, "cache"},
		"an old body":                 {200, strings.Replace(done, `"r"`, `"another"`, 1), func(http.Header) {}, "another request"},
		"another handler's":           {200, strings.Replace(done, "devices/revoke_batch", "devices/revoke", 1), func(http.Header) {}, "another request"},
		"a refusal":                   {404, refused, func(http.Header) {}, "no org has this id"},
		"a refusal of another":        {404, refused, func(h http.Header) { h.Set("X-Request-Id", "another") }, "another request"},
		"of another type":             {200, done, func(h http.Header) { h.Set("Content-Type", "text/html") }, "no authority node"},
		"one that says ok and not ok": {200, strings.Replace(done, `"status":"ok"`, `"status":"error","status":"ok"`, 1), func(http.Header) {}, "no authority node"},
	} {
		s := httptest.NewServer(asNode(func(w http.ResponseWriter, _ *http.Request) {
			c.spoil(w.Header())
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.body)
		}))
		var code int
		var out, errs string
		for within := 300 * time.Millisecond; ; within *= 2 { // it asks until its time is over, so that is short: longer only where the machine is slow
			code, out, errs = commandLine("device", "revoke", org, "a", "--operator-url", s.URL, "--operator-token-file", token, "--timeout", within.String())
			if within >= patient || !strings.Contains(errs, "no answer in time") {
				break
			}
		}
		unknown := strings.Contains(c.why, "request") || strings.Contains(c.why, "cache")
		switch {
		case c.why == "" && (code != exitDone || errs != ""):
			t.Errorf("%s: exit code %d: %s%s", name, code, out, errs)
		case c.why != "" && (code == exitDone || out != "" || !strings.Contains(errs, c.why)):
			t.Errorf("%s: exit code %d: %s%s", name, code, out, errs)
		case unknown && (code != exitUnavailable || !strings.Contains(errs, "whether it was done is not known")):
			t.Errorf("%s: exit code %d: %s", name, code, errs)
		}
		s.Close()
	}
	for name, spoil := range map[string]func(http.Header){
		"a backup of before": func(h http.Header) { h.Set("X-Request-Id", "another") }, "a cache's backup": func(h http.Header) { h.Set("Age", "7") },
	} {
		s := httptest.NewServer(asNode(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/octet-stream")
			spoil(w.Header())
			w.Header().Set("Content-Length", "4")
			_, _ = io.WriteString(w, "some")
		}))
		f := &operatorFlags{urls: []string{s.URL}, token: clusterToken, timeout: patient}
		if _, err := fetchSnapshot(t.Context(), io.Discard, f, s.URL, filepath.Join(dir, "s")); err == nil || !strings.Contains(err.Error(), "ask the node itself") {
			t.Errorf("%s: %v", name, err)
		}
		s.Close()
	}
}
