//go:build linux

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// blackHole is an address that neither takes nor refuses a connection: its listener's queue is full, and what comes then is dropped.
func blackHole(tb testing.TB) string {
	tb.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = syscall.Close(fd) })
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(fd, 0)); err != nil {
		tb.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		tb.Fatal(err)
	}
	at, ok := name.(*syscall.SockaddrInet4)
	if !ok {
		tb.Fatalf("bound to %T", name)
	}
	addr := fmt.Sprint("127.0.0.1:", at.Port)
	for {
		c, err := net.DialTimeout("tcp", addr, 300*time.Millisecond)
		if err != nil {
			return addr // full
		}
		tb.Cleanup(func() { _ = c.Close() })
	}
}

// hungServer is an address that takes connections and never answers.
func hungServer(tb testing.TB) string {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

// TestOperatorsReachWhoeverIsThere: of the addresses of --operator-url each has a share of the time. One that is dead, hangs or is another cluster's does not stand
// before one that answers.
func TestOperatorsReachWhoeverIsThere(t *testing.T) {
	t.Parallel()
	const off, on = "org disable", "org enable"
	var calls atomic.Int64
	serve := func(status int, body string) string {
		s := httptest.NewServer(asNode(func(w http.ResponseWriter, _ *http.Request) {
			calls.Add(1)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	good := serve(http.StatusOK, `{"status":"ok"}`)
	foreign := serve(http.StatusUnauthorized, `{"error":"invalid_operator_token","message":"that token is not ours"}`)
	other := serve(http.StatusUnauthorized, `{"error":"invalid_operator_token","message":"nor ours"}`)
	refuses := serve(http.StatusConflict, `{"error":"refused","message":"no"}`)
	hole, hung, closed := "http://"+blackHole(t), "http://"+hungServer(t), "http://"+freeAddress(t)
	for name, tt := range map[string]struct {
		urls   []string
		method string
		want   string // in the error; "": none
		code   int
	}{
		"behind black holes, a read":                      {[]string{hole, hole, good}, http.MethodGet, "", exitDone},
		"behind black holes, a change":                    {[]string{hole, hole, good}, http.MethodPost, "", exitDone},
		"behind one that hangs":                           {[]string{hung, good}, http.MethodGet, "", exitDone},
		"behind one that is not there":                    {[]string{closed, good}, http.MethodPost, "", exitDone},
		"behind another cluster":                          {[]string{foreign, good}, http.MethodPost, "", exitDone},
		"others' alone":                                   {[]string{foreign, other}, http.MethodPost, "that token is not ours; " + other + ": nor ours", exitFailed},
		"another's and nobody":                            {[]string{closed, foreign}, http.MethodGet, "connection refused; " + foreign + ": that token is not ours", exitFailed},
		"the only one is another's":                       {[]string{foreign}, http.MethodGet, "that token is not ours", exitFailed},
		"a refusal is an answer":                          {[]string{refuses, good}, http.MethodPost, "no", exitFailed},
		"an off switch behind one that hangs":             {[]string{hung, good}, off, "", exitDone},
		"an off switch that hangs beside another cluster": {[]string{hung, foreign}, off, "whether it was done is not known", exitUnavailable},
		"what gives rights behind one that hangs":         {[]string{hung, good}, on, "whether it was done is not known", exitUnavailable},
		"an off switch that hangs":                        {[]string{hung, closed}, off, "whether it was done is not known", exitUnavailable},
		"a change that hangs":                             {[]string{hung}, http.MethodPost, "whether it was done is not known", exitUnavailable},
		"nobody":                                          {[]string{hole, hole}, http.MethodPost, "not done", exitUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limit := 20 * time.Second
			if tt.code == exitUnavailable {
				limit = 2 * time.Second
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			method, path, body := tt.method, "operator/orgs", any(nil)
			if method == off || method == on {
				method, path, body = http.MethodPost, "org/execution", map[string]any{"enabled": tt.method == on}
			}
			err := (&operatorFlags{urls: tt.urls, token: clusterToken}).client().call(ctx, method, path, body, nil)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if _, unavailable := errors.AsType[unavailableError](err); unavailable != (tt.code == exitUnavailable) {
				t.Errorf("exit code %d is expected of %v", tt.code, err)
			}
		})
	}
}

// TestASnapshotThatStopsComingEnds: --timeout is for a silence, wherever in the transfer.
func TestASnapshotThatStopsComingEnds(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(asNode(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, "some")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(s.Close)
	for _, base := range []string{s.URL, "http://" + hungServer(t)} {
		f := &operatorFlags{urls: []string{base}, token: clusterToken, timeout: 200 * time.Millisecond}
		if _, err := fetchSnapshot(t.Context(), io.Discard, f, base, t.TempDir()+"/s"); err == nil || !strings.Contains(err.Error(), "nothing has come for 200ms") {
			t.Errorf("%s: %v", base, err)
		}
	}
}
