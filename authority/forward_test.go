package authority

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
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
					answer(req, answering{conn, req})
				}
			}()
		}
	}()
	return l.Addr().String()
}

// answering is a connection whose answer has the request's id, unless one is in it.
type answering struct {
	net.Conn

	to *http.Request
}

// Write implements net.Conn.
func (a answering) Write(p []byte) (int, error) {
	if line, rest, ok := bytes.Cut(p, []byte("\r\n")); ok && !bytes.Contains(p, []byte("X-Request-Id:")) {
		_, err := fmt.Fprintf(a.Conn, "%s\r\nX-Request-Id: %s\r\n%s", line, a.to.Header.Get("X-Request-Id"), rest)
		return len(p), err
	}
	return a.Conn.Write(p)
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
		"repeats an old answer": nextHop(t, func(_ *http.Request, c net.Conn) {
			_, _ = io.WriteString(c, hopHead+"X-Request-Id: of-another-request\r\nContent-Length: 15\r\n\r\n{\"status\":\"ok\"}")
		}),
		"hangs":   nextHop(t, func(_ *http.Request, c net.Conn) { _, _ = io.Copy(io.Discard, c) }),
		"is gone": gone,
	}
	for hop, want := range map[string]struct{ post, get, validate string }{
		"answers":               {"answered", "answered", "answered"},
		"does not lead":         {"not_done", "not_done", "not_done"},
		"breaks off":            {"unknown", "not_done", "not_done"},
		"is something else":     {"unknown", "not_done", "not_done"},
		"repeats an old answer": {"unknown", "not_done", "not_done"},
		"hangs":                 {"unknown", "not_done", "not_done"},
		"is gone":               {"not_done", "not_done", "not_done"},
	} {
		for _, c := range []struct{ method, path, want string }{
			{"POST", "devices/revoke", want.post}, {"GET", "usage", want.get}, {"POST", "devices/validate", want.validate},
		} {
			t.Run(hop+" "+c.path, func(t *testing.T) {
				t.Parallel()
				n := &Node{state: state.New(func(uint64, []state.Concern) {})}
				l := &leader{id: "a2", http: hops[hop], hop: newHop(hops[hop], dial.TCP)}
				defer l.hop.Break()
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
		n, l := &Node{state: state.New(func(uint64, []state.Concern) {})}, &leader{id: "a2", http: hop, hop: newHop(hop, dial.TCP)}
		for _, again := range []bool{false, true} {
			comes(t, "POST", "devices/revoke", key+once, func(ctx *fasthttp.RequestCtx) {
				outcome, answered := n.hand(ctx, wire.From(ctx), l, time.Now().Add(10*time.Second), again)
				if answered != (want || !again) || !answered && outcome != wire.OutcomeUnknown {
					t.Errorf("%s, a second attempt %v: %q, an answer %v", status, again, outcome, answered)
				}
			})
		}
		l.hop.Break()
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

// comesTo is comes, for what a node that may not lead does with a request: next tells who leads. Who comes to lead serves with 599.
func (n *Node) comesTo(t *testing.T, method, path, header string, next func(context.Context) (*leader, error)) (status int, body string) {
	t.Helper()
	comes(t, method, path, header, func(ctx *fasthttp.RequestCtx) {
		wait, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if !n.handOn(wait, ctx, wire.From(ctx), time.Now().Add(10*time.Second), next) {
			ctx.SetStatusCode(599)
		}
		status, body = ctx.Response.StatusCode(), string(ctx.Response.Body())
	})
	return status, body
}

// TestANodeThatComesToLead serves what nobody was asked for before. What may have been done it sends to itself, as to another: only success tells (I2). Nothing is left open by that.
func TestANodeThatComesToLead(t *testing.T) {
	const named = "x-org-key: k\r\nIdempotency-Key: i\r\n"
	for name, c := range map[string]struct {
		tried, answer string // by the leader before; what this node answers
		status        int
		outcome       string
	}{
		"nobody was asked":             {"", "200 OK", 599, ""},
		"it was done, here":            {"breaks off", "200 OK", 200, ""},
		"it is refused, the 2nd time":  {"breaks off", "404 Not Found", 503, wire.OutcomeUnknown},
		"the one before does not lead": {"does not lead", "200 OK", 599, ""},
	} {
		t.Run(name, func(t *testing.T) {
			closed := make(chan struct{})
			own, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = own.Close() }()
			go func() { // this node, as another finds it: it keeps its connections
				conn, err := own.Accept()
				if err != nil {
					return
				}
				defer close(closed)
				defer func() { _ = conn.Close() }()
				in := bufio.NewReader(conn)
				for {
					req, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, req.Body)
					_, _ = io.WriteString(answering{conn, req}, "HTTP/1.1 "+c.answer+"\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
				}
			}()
			n := New(Config{ID: "a1", HTTP: own, Link: own})
			n.state = state.New(func(uint64, []state.Concern) {})
			before := &leader{id: "a2"}
			switch c.tried {
			case "breaks off":
				before.http = nextHop(t, func(*http.Request, net.Conn) {})
			case "does not lead":
				before.http = nextHop(t, func(_ *http.Request, c net.Conn) {
					_, _ = io.WriteString(c, hopHead+wire.NotLeadHeader+": 1\r\nContent-Length: 2\r\n\r\n{}")
				})
			}
			before.hop = newHop(before.http, dial.TCP)
			defer before.hop.Break()
			asked := 0
			status, body := n.comesTo(t, "POST", "devices/revoke", named, func(context.Context) (*leader, error) {
				if asked++; asked == 1 && c.tried != "" {
					return before, nil
				}
				if asked > 2 {
					return nil, errNoLeader
				}
				return nil, nil
			})
			if status != c.status || !strings.Contains(body, c.outcome) {
				t.Errorf("%d %s, want %d and %s", status, body, c.status, c.outcome)
			}
			if c.tried != "breaks off" {
				return
			}
			select {
			case <-closed:
			case <-time.After(20 * time.Second): // it would be kept for 30
				t.Error("a connection of the node to itself is left open")
			}
		})
	}
}

// TestALeaderThatIsStartedAnew costs no caller an unknown: connections that it has ended are looked at before they are used.
func TestALeaderThatIsStartedAnew(t *testing.T) {
	served := make(chan net.Conn, 10)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				in := bufio.NewReader(conn)
				for {
					req, err := http.ReadRequest(in)
					if err != nil {
						_ = conn.Close()
						return
					}
					_, _ = io.Copy(io.Discard, req.Body)
					_, _ = io.WriteString(answering{conn, req}, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
					served <- conn
				}
			}()
		}
	}()
	n := New(Config{ID: "a1", HTTP: l, Link: l})
	n.state = state.New(func(uint64, []state.Concern) {})
	leads := &leader{id: "a2", http: l.Addr().String()}
	near := make(chan net.Conn, 10)
	leads.hop = newHop(leads.http, func(ctx context.Context, addr string) (net.Conn, error) {
		conn, err := dial.TCP(ctx, addr)
		if err == nil {
			near <- conn
		}
		return conn, err
	})
	defer leads.hop.Break()
	for range 3 {
		status, body := n.comesTo(t, "POST", "devices/revoke", "x-org-key: k\r\n", func(context.Context) (*leader, error) { return leads, nil })
		if status != 200 {
			t.Fatalf("%d %s", status, body)
		}
		_ = (<-served).Close()                                           // as it does when its process ends
		if raw, ok := (<-near).(syscall.Conn); !ok || !endSeen(t, raw) { // it has arrived here
			t.Fatal("no end has come")
		}
	}
}

// endSeen waits until the other end's close has come, and takes nothing from the connection.
func endSeen(t *testing.T, conn syscall.Conn) bool {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	over := false
	_ = raw.Read(func(fd uintptr) bool {
		n, _, err := syscall.Recvfrom(int(fd), make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		over = n == 0 && err == nil
		return over || err != syscall.EAGAIN
	})
	return over
}

// TestNoPartyTakesAllConnectionsToTheLeader: of the calls that a node hands on one org's, by whichever of its keys, are half at most, and so are those of strangers at an
// address; others' are handed on at once (I14).
func TestNoPartyTakesAllConnectionsToTheLeader(t *testing.T) {
	n, stop := runNode(t, filepath.Join(t.TempDir(), "a1"), "a1", nil)
	defer stop()
	var orgs [2]struct{ OrgAPIKey, AgentKey string }
	for i := range orgs {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+n.cfg.HTTP.Addr().String()+wire.Base+"org/create", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer a-token-of-more-than-thirty-two-characters")
		a, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(a.Body)
		_ = a.Body.Close()
		if err := json.Unmarshal(body, &orgs[i]); err != nil || orgs[i].OrgAPIKey == "" || orgs[i].AgentKey == "" {
			t.Fatalf("%s: %v", body, err)
		}
	}
	l := &leader{id: "a2", http: nextHop(t, func(_ *http.Request, c net.Conn) {
		_, _ = io.WriteString(c, hopHead+"Content-Length: 2\r\n\r\n{}")
	})}
	l.hop = newHop(l.http, dial.TCP)
	defer l.hop.Break()
	handOn := func(key string) (status int, body string) {
		return n.comesTo(t, "GET", "usage", "x-org-key: "+key+"\r\n", func(context.Context) (*leader, error) { return l, nil })
	}
	const stranger = "org_000000000000000000000000000000000000000000000000"
	var loud wire.Party
	comes(t, "GET", "usage", "x-org-key: "+orgs[0].OrgAPIKey+"\r\n", func(ctx *fasthttp.RequestCtx) { loud, _ = n.whose(ctx, wire.From(ctx)) })
	address := wire.AddressParty(netip.IPv4Unspecified())
	for range forwardConns / 2 {
		if !n.crowd.Enter(loud) || !n.crowd.Enter(address) {
			t.Fatal("less than half")
		}
	}
	for name, c := range map[string]struct {
		key    string
		status int
	}{
		"its key": {orgs[0].OrgAPIKey, 503}, "another of its keys": {orgs[0].AgentKey, 503}, "another org's": {orgs[1].AgentKey, 200}, "a stranger's": {stranger, 503},
	} {
		if status, body := handOn(c.key); status != c.status || status == 503 && !strings.Contains(body, wire.OutcomeNotDone) {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	n.crowd.Leave(loud)
	if status, body := handOn(orgs[0].OrgAPIKey); status != 200 {
		t.Errorf("when one has come back: %d %s", status, body)
	}
}

// TestAnEdgeIsToldWhoseKeyItIsByEveryNode: a node that hands on says what the leader says, and nothing where that says nothing (I14).
func TestAnEdgeIsToldWhoseKeyItIsByEveryNode(t *testing.T) {
	const org = "00112233445566778899aabbccddeeff"
	for line, want := range map[string]string{wire.KeyOrgHeader + ": " + org + "\r\n": org, "": ""} {
		hop := nextHop(t, func(_ *http.Request, c net.Conn) {
			_, _ = io.WriteString(c, hopHead+line+"Content-Length: 2\r\n\r\n{}")
		})
		n, l := &Node{state: state.New(func(uint64, []state.Concern) {})}, &leader{id: "a2", http: hop, hop: newHop(hop, dial.TCP)}
		comes(t, "GET", "usage", "x-org-key: k\r\n", func(ctx *fasthttp.RequestCtx) {
			_, answered := n.hand(ctx, wire.From(ctx), l, time.Now().Add(10*time.Second), false)
			if got := string(ctx.Response.Header.Peek(wire.KeyOrgHeader)); !answered || got != want {
				t.Errorf("%q, want %q, an answer %v", got, want, answered)
			}
		})
		l.hop.Break()
	}
}
