package authority

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"machineid/shared/dial"
)

// TestJoinBeginsAnew: a node that was taken out between its two steps is added again, rather than ask for its vote for ever.
func TestJoinBeginsAnew(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var asked []string
	answers := []string{"200 ", "404 member_not_found", "503 system_unavailable", "200 ", "409 refused", "404 not_found", "200 "}
	at := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, strings.TrimPrefix(r.URL.Path, "/api/v1/operator/cluster/"))
		if len(answers) == 0 {
			t.Error("it asks for more")
			return
		}
		var status int
		var code string
		_, _ = fmt.Sscanf(answers[0], "%d %s", &status, &code)
		answers = answers[1:]
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, `{"error":%q,"message":"what is in the way"}`, code)
	}))
	defer at.Close()
	dir := t.TempDir()
	mark := filepath.Join(dir, joiningFile)
	if err := os.WriteFile(mark, nil, joinFileMode); err != nil {
		t.Fatal(err)
	}
	n := &Node{log: slog.New(slog.DiscardHandler), cfg: Config{Dial: dial.TCP, ID: "a2", Dir: dir, AdvertiseRaft: "h2:7072", Join: []string{strings.TrimPrefix(at.URL, "http://")}}}
	var err error
	if n.cfg.HTTP, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = n.cfg.HTTP.Close() }()
	if err := n.join(t.Context(), func() bool { return false }); err != nil {
		t.Fatal(err)
	}
	want := []string{"members", "members/a2/promote", "members", "members", "members/a2/promote", "members/a2/promote", "members/a2/promote"}
	if !slices.Equal(asked, want) {
		t.Errorf("it asked %q, want %q", asked, want)
	}
	if _, err := os.Stat(mark); !os.IsNotExist(err) || n.joining.Load() != nil {
		t.Errorf("it is still joining: %v, %v", err, n.joining.Load())
	}
}

// TestAStrangerDoesNotEndAJoin: one of the addresses may be another cluster's by now, which takes another token. Only if all do is the token wrong.
func TestAStrangerDoesNotEndAJoin(t *testing.T) {
	t.Parallel()
	serve := func(status int) string {
		at := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			_, _ = fmt.Fprint(w, `{"error":"invalid_operator_token"}`)
		}))
		t.Cleanup(at.Close)
		return strings.TrimPrefix(at.URL, "http://")
	}
	stranger, other, own := serve(http.StatusUnauthorized), serve(http.StatusUnauthorized), serve(http.StatusOK)
	for _, c := range []struct {
		peers []string
		ends  bool
	}{{[]string{stranger, own}, false}, {[]string{stranger, other}, true}, {[]string{stranger}, true}} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, joiningFile), nil, joinFileMode); err != nil {
			t.Fatal(err)
		}
		n := &Node{log: slog.New(slog.DiscardHandler), cfg: Config{Dial: dial.TCP, ID: "a2", Dir: dir, AdvertiseRaft: "h2:7072", Join: c.peers}}
		var err error
		if n.cfg.HTTP, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = n.cfg.HTTP.Close() }()
		if err := n.join(t.Context(), func() bool { return false }); errors.Is(err, errWrongToken) != c.ends || err != nil != c.ends {
			t.Errorf("%v: %v", c.peers, err)
		}
	}
}
