package edge

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp/fasthttputil"
	"google.golang.org/grpc"

	"machineid/internal/testkit/bubble"
	"machineid/shared/wire"
)

// mortal is an authority's HTTP that ends and comes back at its address.
type mortal struct {
	t    *testing.T
	addr string

	mu    sync.Mutex
	l     net.Listener
	conns []net.Conn
	heads int
	work  sync.WaitGroup
}

func newMortal(t *testing.T) *mortal {
	t.Helper()
	m := &mortal{t: t, addr: "127.0.0.1:0"}
	m.start()
	t.Cleanup(m.kill)
	return m
}

func (m *mortal) start() {
	m.t.Helper()
	l, err := net.Listen("tcp", m.addr)
	if err != nil {
		m.t.Fatal(err)
	}
	m.mu.Lock()
	m.l, m.addr = l, l.Addr().String()
	m.mu.Unlock()
	m.work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			m.mu.Lock()
			m.conns = append(m.conns, c)
			m.mu.Unlock()
			m.work.Go(func() { m.serve(c) })
		}
	})
}

func (m *mortal) serve(c net.Conn) {
	defer func() { _ = c.Close() }()
	for r := bufio.NewReader(c); ; {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, req.Body)
		m.mu.Lock()
		m.heads++
		m.mu.Unlock()
		_, _ = io.WriteString(c, answerTo(req, okAnswer))
	}
}

// kill ends it as the end of a process does: the listener and every connection.
func (m *mortal) kill() {
	m.mu.Lock()
	_ = m.l.Close()
	for _, c := range m.conns {
		_ = c.Close()
	}
	m.conns = nil
	m.mu.Unlock()
	m.work.Wait()
}

// TestARestartedAuthorityCostsNoCall: whatever connections an edge has to the process before, no call is answered 503 because of them; and
// each is carried out once.
func TestARestartedAuthorityCostsNoCall(t *testing.T) {
	const calls = 40
	m := newMortal(t)
	f := newFront(t, m.addr)
	each := func(when string) {
		t.Helper()
		m.mu.Lock()
		before := m.heads
		m.mu.Unlock()
		var work sync.WaitGroup
		for range calls {
			work.Go(func() {
				if status, _, body := f.raw(callWith("POST", "devices/revoke", keyOf(1).Reveal())); status != 200 {
					t.Errorf("%s: %d %v", when, status, body)
				}
			})
		}
		work.Wait()
		m.mu.Lock()
		defer m.mu.Unlock()
		if n := m.heads - before; n != calls {
			t.Errorf("%s: %d requests reached the authority, of %d", when, n, calls)
		}
	}
	each("at first")
	for range 3 {
		m.kill()
		m.start()
		each("after a restart")
	}
}

// TestAnAnswerThatNobodyAskedForIsNotTaken: it would be the answer to another's request.
func TestAnAnswerThatNobodyAskedForIsNotTaken(t *testing.T) {
	m := newMortal(t)
	f := newFront(t, m.addr)
	request := callWith("GET", "usage", keyOf(1).Reveal())
	f.raw(request)
	m.mu.Lock()
	first := m.conns[0]
	m.mu.Unlock()
	forged := strings.Replace(okAnswer, "ok", "no", 2)
	if _, err := io.WriteString(first, forged); err != nil {
		t.Fatal(err)
	}
	// What loopback has taken is there to be read.
	if status, _, body := f.raw(request); status != 200 || body["status"] != "ok" {
		t.Errorf("%d %v", status, body)
	}
}

// site is authority nodes in a bubble, each as the test wants it, and an edge's front before them.
type site struct {
	*front

	nodes map[string]*node
}

type node struct {
	l *fasthttputil.InmemoryListener

	mu   sync.Mutex
	say  []string // to each request in turn, the last to all others; "" hangs, "bye" ends the connection
	got  int
	hung []net.Conn
}

func inSite(t *testing.T, f func(s *site)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		s := &site{front: &front{t: t, l: fasthttputil.NewInmemoryListener()}, nodes: map[string]*node{}}
		var err error
		s.e, err = New(Config{
			ID: "e1", HTTP: s.l, CacheEntries: MinCacheEntries, NoDate: true, Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
			Dial: func(_ context.Context, addr string) (net.Conn, error) {
				if n := s.nodes[addr]; n != nil {
					return n.l.Dial()
				}
				return nil, io.ErrClosedPipe
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan error, 1)
		go func() { served <- s.e.server.Serve(s.l) }()
		f(s)
		for _, n := range s.nodes {
			_ = n.l.Close()
			for _, c := range n.hung {
				_ = c.Close()
			}
		}
		s.e.proxy.close()
		if err := s.e.server.Shutdown(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		s.e.caches.close()
		time.Sleep(time.Minute)
	})
}

// node adds one, which has no address before.
func (s *site) node(addr string, say ...string) *node {
	n := &node{l: fasthttputil.NewInmemoryListener(), say: say}
	s.nodes[addr] = n
	go func() {
		for {
			c, err := n.l.Accept()
			if err != nil {
				return
			}
			go n.serve(c)
		}
	}()
	return n
}

func (n *node) serve(c net.Conn) {
	for r := bufio.NewReader(c); ; {
		req, err := http.ReadRequest(r)
		if err != nil {
			_ = c.Close()
			return
		}
		_, _ = io.Copy(io.Discard, req.Body)
		n.mu.Lock()
		say := n.say[min(n.got, len(n.say)-1)]
		n.got++
		if say == "" {
			n.hung = append(n.hung, c)
		}
		n.mu.Unlock()
		switch say {
		case "":
			return
		case "bye":
			_ = c.Close()
			return
		}
		_, _ = io.WriteString(c, answerTo(req, say))
	}
}

const notDoneAnswer = "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 22\r\n\r\n" + `{"outcome":"not_done"}`

// TestWhatIsSentAgain, and what is never: a change without a key that makes it safe. What may have been carried out is never told of as if
// it surely was not.
func TestWhatIsSentAgain(t *testing.T) {
	key := keyOf(1).Reveal()
	once := strings.Replace(callWith("POST", "devices/revoke", key), "Host: x\r\n", "Host: x\r\nIdempotency-Key: i\r\n", 1)
	for name, tt := range map[string]struct {
		request string
		say     []string
		status  int
		outcome any
		got     int
	}{
		"a read":                          {callWith("GET", "usage", key), []string{"bye", okAnswer}, 200, nil, 2},
		"a read in vain":                  {callWith("GET", "usage", key), []string{"bye"}, 503, "not_done", 1 + againMost},
		"a change":                        {callWith("POST", "devices/revoke", key), []string{"bye", okAnswer}, 503, "unknown", 1},
		"a change with a key":             {once, []string{"bye", okAnswer}, 200, nil, 2},
		"a change with a key in vain":     {once, []string{"bye", notDoneAnswer}, 503, "unknown", 2},
		"a change with a key, no answer":  {once, []string{"bye"}, 503, "unknown", 1 + againMost},
		"a call that remembers none":      {strings.Replace(once, "devices/revoke", "org/create", 1), []string{"bye", okAnswer}, 503, "unknown", 1},
		"a refusal that is remembered":    {once, []string{"bye", strings.Replace(notDoneAnswer, "503 Service Unavailable", "409 Conflict\r\nIdempotency-Replayed: true", 1)}, 409, "not_done", 2},
		"a refusal that is not":           {once, []string{"bye", strings.Replace(notDoneAnswer, "503 Service Unavailable", "409 Conflict", 1)}, 503, "unknown", 2},
		"a read that nobody can answer":   {callWith("GET", "usage", key), []string{"bye", "bye", okAnswer}, 200, nil, 3},
		"an answer, whatever it says":     {callWith("GET", "usage", key), []string{notDoneAnswer}, 503, "not_done", 1},
		"a change with a key, no org key": {strings.Replace(once, "X-Org-Key", "X-Other", 1), []string{"bye", okAnswer}, 503, "unknown", 1},
	} {
		t.Run(name, func(t *testing.T) {
			inSite(t, func(s *site) {
				a := s.node("a", tt.say...)
				s.e.proxy.use("a", "token")
				for i := range againMost + 1 { // the link goes on naming it
					time.AfterFunc(time.Duration(i+1)*nextWait/2, func() { s.e.proxy.use("a", "token") })
				}
				status, _, body := s.raw(tt.request)
				if a.mu.Lock(); status != tt.status || body["outcome"] != tt.outcome || a.got != tt.got {
					t.Errorf("%d %v after %d attempts; want %d, %v, %d", status, body, a.got, tt.status, tt.outcome, tt.got)
				}
				a.mu.Unlock()
			})
		})
	}
}

// TestADoubtStays: what an attempt may have carried out is unknown, though one after it surely was not.
func TestADoubtStays(t *testing.T) {
	inSite(t, func(s *site) {
		s.node("a", "bye")
		s.e.proxy.use("a", "token")
		time.AfterFunc(nextWait/2, func() { s.e.proxy.use("b", "token") }) // where nobody is
		request := strings.Replace(callWith("POST", "devices/revoke", keyOf(1).Reveal()), "Host: x\r\n", "Host: x\r\nIdempotency-Key: i\r\n", 1)
		if status, _, body := s.raw(request); status != 503 || body["outcome"] != wire.OutcomeUnknown {
			s.t.Errorf("%d %v", status, body)
		}
	})
}

// TestAHungLeaderHoldsNoCall: when the link goes to another node, reads are answered by that one, and changes are not waited for any longer.
func TestAHungLeaderHoldsNoCall(t *testing.T) {
	inSite(t, func(s *site) {
		t := s.t
		a, b := s.node("a", ""), s.node("b", okAnswer)
		s.e.proxy.use("a", "token")
		began := time.Now()
		var work sync.WaitGroup
		work.Go(func() {
			if status, _, body := s.raw(callWith("GET", "usage", keyOf(1).Reveal())); status != 200 {
				t.Errorf("a read: %d %v", status, body)
			}
		})
		work.Go(func() {
			if status, _, body := s.raw(callWith("POST", "devices/revoke", keyOf(1).Reveal())); status != 503 || body["outcome"] != wire.OutcomeUnknown {
				t.Errorf("a change: %d %v", status, body)
			}
		})
		time.Sleep(time.Second)
		s.e.proxy.use("b", "token")
		work.Wait()
		if took := time.Since(began); took > time.Second+leftTime+100*time.Millisecond {
			t.Errorf("they were held for %v", took)
		}
		if a.mu.Lock(); a.got != 2 {
			t.Errorf("the first was asked %d times", a.got)
		}
		a.mu.Unlock()
		if b.mu.Lock(); b.got != 1 {
			t.Errorf("the second was asked %d times", b.got)
		}
		b.mu.Unlock()
	})
}

// TestACallWaitsForTheNextNode that the link names, for a moment, when nobody is at the address any more.
func TestACallWaitsForTheNextNode(t *testing.T) {
	inSite(t, func(s *site) {
		t := s.t
		s.node("b", okAnswer)
		s.e.proxy.use("a", "token")
		began := time.Now()
		if status, _, body := s.raw(callWith("POST", "devices/revoke", keyOf(1).Reveal())); status != 503 || body["outcome"] != wire.OutcomeNotDone || time.Since(began) > nextWait+time.Second {
			t.Errorf("nobody there: %d %v after %v", status, body, time.Since(began))
		}
		time.AfterFunc(nextWait/2, func() { s.e.proxy.use("b", "token") })
		if status, _, body := s.raw(callWith("POST", "devices/revoke", keyOf(1).Reveal())); status != 200 {
			t.Errorf("%d %v", status, body)
		}
	})
}

// TestNodesThatWereNamedMakeRoom: however many others were named before, one more can be connected to; those that are configured stay.
func TestNodesThatWereNamedMakeRoom(t *testing.T) {
	inWorld(t, func(w *world) {
		t := w.t
		l := w.e.link
		l.e.cfg.Authority = []string{"a1", "a2"}
		conns := map[string]*grpc.ClientConn{}
		defer func() {
			for _, c := range conns {
				_ = c.Close()
			}
		}()
		for _, addr := range l.e.cfg.Authority {
			l.connect(t.Context(), conns, addr)
		}
		for i := range 3 * connsMax {
			addr := fmt.Sprint("named", i)
			if !l.connect(t.Context(), conns, addr) || conns[addr] == nil {
				t.Fatalf("the %dth has no connection", i)
			}
		}
		if len(conns) > connsMax || conns["a1"] == nil || conns["a2"] == nil {
			t.Errorf("%d connections", len(conns))
		}
	})
}
