package authority

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttputil"

	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/shared/dial"
	"machineid/shared/wire"
)

// nextHop is a node's HTTP as the test wants it: answer writes what comes after one request, and the connection ends.
func nextHop(t *testing.T, answer func(*http.Request, net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = conn.Close() }()
				if req, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					body, _ := io.ReadAll(req.Body)
					req.Header.Set("Test-Body", string(body))
					answer(req, conn)
				}
			}()
		}
	}()
	return l.Addr().String()
}

// comes has a request come to handle.
func comes(t *testing.T, method, path, header string, handle fasthttp.RequestHandler) {
	t.Helper()
	server := wire.NewServer(handle, wire.Options{})
	ln := fasthttputil.NewInmemoryListener()
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	conn, err := ln.Dial()
	if err != nil {
		t.Fatal(err)
	}
	body := `{"deviceId":"d"}`
	if method == "GET" {
		body = ""
	}
	_, _ = io.WriteString(conn, method+" /api/v1/"+path+" HTTP/1.1\r\nHost: a\r\n"+header+"Connection: close\r\nContent-Length: "+strconv.Itoa(len(body))+"\r\n\r\n"+body)
	_, _ = io.Copy(io.Discard, conn)
	_ = conn.Close()
	if err := server.Shutdown(); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

const hopHead = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"

// TestHandingOn: what becomes of a request that is handed to the leader, by what happens there.
func TestHandingOn(t *testing.T) {
	cluster := &statepb.Cluster{ClusterId: "c", OperatorTokenHash: make([]byte, 32)}
	var seen atomic.Pointer[http.Header]
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := nobody.Addr().String()
	_ = nobody.Close()
	hops := map[string]string{
		"answers": nextHop(t, func(r *http.Request, c net.Conn) {
			seen.Store(&r.Header)
			_, _ = io.WriteString(c, hopHead+"Content-Length: 15\r\n\r\n{\"status\":\"ok\"}")
		}),
		"does not lead": nextHop(t, func(_ *http.Request, c net.Conn) {
			_, _ = io.WriteString(c, hopHead+wire.NotLeadHeader+": 1\r\nContent-Length: 2\r\n\r\n{}")
		}),
		"breaks off": nextHop(t, func(*http.Request, net.Conn) {}),
		"is something else": nextHop(t, func(_ *http.Request, c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi")
		}),
		"hangs":   nextHop(t, func(_ *http.Request, c net.Conn) { _, _ = io.Copy(io.Discard, c) }),
		"is gone": gone,
	}
	for hop, want := range map[string]struct{ post, get, validate string }{
		"answers":           {"answered", "answered", "answered"},
		"does not lead":     {"not_done", "not_done", "not_done"},
		"breaks off":        {"unknown", "not_done", "not_done"},
		"is something else": {"unknown", "not_done", "not_done"},
		"hangs":             {"unknown", "not_done", "not_done"},
		"is gone":           {"not_done", "not_done", "not_done"},
	} {
		for _, c := range []struct{ method, path, want string }{
			{"POST", "devices/revoke", want.post}, {"GET", "usage", want.get}, {"POST", "devices/validate", want.validate},
		} {
			t.Run(hop+" "+c.path, func(t *testing.T) {
				t.Parallel()
				n := &Node{state: state.New(func(uint64, []state.Concern) {})}
				l := &leader{id: "a2", http: hops[hop]}
				l.client, l.end = newForwardClient(l.http, dial.TCP)
				defer l.end()
				got := ""
				comes(t, c.method, c.path, "x-org-key: k\r\nX-Evil: 1\r\n", func(ctx *fasthttp.RequestCtx) {
					outcome, answered := n.hand(ctx, wire.From(ctx), l, time.Now().Add(200*time.Millisecond), false)
					if got = outcome; answered {
						got = "answered"
					}
				})
				if got != c.want {
					t.Errorf("%q, want %q", got, c.want)
				}
			})
		}
	}
	t.Cleanup(func() {
		seen := *seen.Load()
		left, err := strconv.Atoi(seen.Get(wire.BudgetHeader))
		if err != nil || left <= 0 || left > 200 || seen.Get("X-Evil") != "" || seen.Get("X-Org-Key") != "k" || seen.Get(wire.PeerHeader) == "" {
			t.Errorf("handed on with %v", seen)
		}
	})
	a, b := nodeToken(cluster), nodeToken(&statepb.Cluster{ClusterId: "d", OperatorTokenHash: make([]byte, 32)})
	if a == "" || a == b || nodeToken(nil) != "" {
		t.Errorf("tokens %q and %q, and %q of a node that knows no cluster", a, b, nodeToken(nil))
	}
}

// TestWhatIsSentAgain: a change that may have been done goes to another leader only where the state knows it again, and only success is then an answer.
func TestWhatIsSentAgain(t *testing.T) {
	const once, key = "Idempotency-Key: i\r\n", "x-org-key: k\r\n"
	for name, c := range map[string]struct {
		method, path, header string
		want                 bool
	}{
		"with a key":             {"POST", "devices/revoke", key + once, true},
		"without":                {"POST", "devices/revoke", key, false},
		"nobody's":               {"POST", "devices/revoke", once, false},
		"an operator's":          {"POST", "devices/revoke", "Authorization: Bearer t\r\nX-MachineID-Org: o\r\n" + once, false},
		"what ends its own key":  {"POST", "org/keys/revoke", key + once, false},
		"what makes a secret":    {"POST", "org/keys", key + once, false},
		"what knows no such key": {"POST", "org/create", key + once, false},
		"a payment":              {"POST", "billing/checkout", key + once, false},
		"all at once":            {"POST", "devices/revoke_batch", key + once, true},
	} {
		comes(t, c.method, c.path, c.header, func(ctx *fasthttp.RequestCtx) {
			if got := repeats(ctx, wire.From(ctx)); got != c.want {
				t.Errorf("%s is sent again: %v", name, got)
			}
		})
	}
	for status, want := range map[string]bool{"200 OK": true, "202 Accepted": true, "401 Unauthorized": false, "404 Not Found": false, "503 Service Unavailable": false} {
		hop := nextHop(t, func(_ *http.Request, c net.Conn) {
			_, _ = io.WriteString(c, strings.Replace(hopHead, "200 OK", status, 1)+"Content-Length: 2\r\n\r\n{}")
		})
		n, l := &Node{state: state.New(func(uint64, []state.Concern) {})}, &leader{id: "a2", http: hop}
		l.client, l.end = newForwardClient(hop, dial.TCP)
		for _, again := range []bool{false, true} {
			comes(t, "POST", "devices/revoke", key+once, func(ctx *fasthttp.RequestCtx) {
				outcome, answered := n.hand(ctx, wire.From(ctx), l, time.Now().Add(10*time.Second), again)
				if answered != (want || !again) || !answered && outcome != wire.OutcomeUnknown {
					t.Errorf("%s, a second attempt %v: %q, an answer %v", status, again, outcome, answered)
				}
			})
		}
		l.end()
	}
}

// TestAForeignHopIsRefused: what a node of another cluster hands on was meant for who had this address before, and is not answered from this cluster's state (I12).
func TestAForeignHopIsRefused(t *testing.T) {
	n, stop := runNode(t, filepath.Join(t.TempDir(), "a1"), "a1", nil)
	defer stop()
	for token, want := range map[string]int{
		nodeToken(n.state.Cluster()):                           http.StatusBadRequest, // no key
		strings.Repeat("0", len(nodeToken(n.state.Cluster()))): http.StatusServiceUnavailable,
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+n.cfg.HTTP.Addr().String()+wire.Base+"org", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(wire.NodeHeader, token)
		a, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = a.Body.Close()
		if a.StatusCode != want || (want == http.StatusServiceUnavailable) != (a.Header.Get(wire.NotLeadHeader) != "") {
			t.Errorf("%s: %d, %v", token, a.StatusCode, a.Header)
		}
	}
}
