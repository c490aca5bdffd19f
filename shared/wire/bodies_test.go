package wire

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valyala/fasthttp"

	"machineid/internal/testkit/bubble"
)

// crowd is a server in a bubble of virtual time, and connections to it.
type crowd struct {
	*testing.T
	ln  *pipes
	srv *Server
}

// pipes is a listener whose connections hold nothing: what one side does not read the other cannot write.
type pipes struct {
	came chan net.Conn
	done chan struct{}
}

func newPipes() *pipes { return &pipes{make(chan net.Conn), make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.came:
		return c, nil
	case <-p.done:
		return nil, io.EOF // how fasthttp knows an end
	}
}

func (p *pipes) Dial() (net.Conn, error) {
	ours, theirs := net.Pipe()
	p.came <- theirs
	return ours, nil
}

func (p *pipes) Close() error   { close(p.done); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func inBubble(t *testing.T, h fasthttp.RequestHandler, opts Options, f func(c *crowd)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		opts.NoDate = true
		c := &crowd{t, newPipes(), NewServer(h, opts)}
		served := make(chan error, 1)
		go func() { served <- c.srv.Serve(c.ln) }()
		f(c)
		if err := c.srv.Shutdown(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		if held := c.srv.bodies.held(); held != 0 {
			t.Errorf("%d bytes are counted and nobody holds them", held)
		}
		time.Sleep(time.Minute) // for what fasthttp cleans up
	})
}

// open has a connection on which raw was sent, whether or not it is read.
func (c *crowd) open(raw string) net.Conn {
	c.Helper()
	conn, err := c.ln.Dial()
	if err != nil {
		c.Fatal(err)
	}
	go func() {
		const part = 4 << 10 // what is not read waits in memory: little of it
		for rest := raw; rest != ""; {
			n := min(part, len(rest))
			if _, err := io.WriteString(conn, rest[:n]); err != nil {
				return
			}
			rest = rest[n:]
		}
	}()
	return conn
}

// answered reads the one answer that has come by now; 0 is none.
func (c *crowd) answered(conn net.Conn) (status int, header http.Header, body string) {
	c.Helper()
	synctest.Wait()
	_ = conn.SetReadDeadline(time.Now().Add(time.Nanosecond))
	raw, _ := io.ReadAll(conn)
	if len(raw) == 0 {
		return 0, nil, ""
	}
	head, body, _ := strings.Cut(string(raw), "\r\n\r\n")
	header = http.Header{}
	for _, line := range strings.Split(head, "\r\n")[1:] {
		name, value, _ := strings.Cut(line, ": ")
		header.Set(name, value)
	}
	if _, err := fmt.Sscanf(head, "HTTP/1.1 %d", &status); err != nil {
		c.Errorf("%q", head)
	}
	return status, header, body
}

// announced is the head of a POST and the first so many bytes of its body.
func announced(path string, size, sent int, headers ...string) string {
	head, _, _ := strings.Cut(post(path, "", headers...), "Content-Length: ")
	return fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, size, strings.Repeat(" ", sent))
}

func heapInUse() int64 {
	runtime.GC()
	runtime.GC() // what pools have kept
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestMemoryFollowsWhatHasArrived (I14): whatever is announced, a connection takes what one takes, and what it has sent. All that is
// longer than a few KiB is within the room for bodies.
func TestMemoryFollowsWhatHasArrived(t *testing.T) {
	const (
		conns = 200
		each  = 48 << 10 // reader, context, goroutines of both sides, and a body's first part
		room  = 4 << 20
	)
	hook := Base + "webhooks/stripe"
	for name, raw := range map[string]string{
		"nothing":                      "",
		"half a head":                  "POST " + hook + " HTTP/1.1\r\nHost: a\r\nX-A: " + strings.Repeat("a", 4000),
		"a MiB announced, a byte sent": announced(hook, MaxBatchBody, 1),
		"a MiB announced, 9 KiB sent":  announced(hook, MaxBatchBody, 9<<10),
		"64 KiB but one byte":          announced(hook, MaxBody, MaxBody-1),
		"a MiB but one byte":           announced(hook, MaxBatchBody, MaxBatchBody-1),
		"a chunk of a MiB":             chunked(hook, "fffff\r\n "),
		"a chunk of a MiB, 9 KiB sent": chunked(hook, "fffff\r\n"+strings.Repeat(" ", 9<<10)),
		"beyond every limit":           announced(hook, 1<<30, 1),
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, echo, Options{BodyRoom: room}, func(c *crowd) {
				before := heapInUse()
				open := make([]net.Conn, conns)
				for i := range open {
					open[i] = c.open(raw)
				}
				synctest.Wait()
				held := c.srv.bodies.held()
				// What could not be sent waits in the test's own connections: one string for all of them.
				if grown := heapInUse() - before; grown > conns*each+2*room || held > room {
					t.Errorf("%d MiB of heap for %d connections, %d KiB each; %d of room held", grown>>20, conns, grown>>10/conns, held)
				}
				if strings.Contains(name, "9 KiB") && held != conns*bodyAtOnce {
					t.Errorf("%d of room held, %d each: a buffer grows with what has come", held, held/conns)
				}
				for _, conn := range open {
					_ = conn.Close()
				}
				synctest.Wait()
				if held := c.srv.bodies.held(); held != 0 {
					t.Errorf("%d held by nobody", held)
				}
			})
		})
	}
}

// TestBeyondTheRoomIsRefused: with 503 and a way out; and nothing of the room is lost, however a request ends.
func TestBeyondTheRoomIsRefused(t *testing.T) {
	inBubble(t, echo, Options{BodyRoom: 1 << 20}, func(c *crowd) {
		hook := Base + "webhooks/stripe"
		for name, end := range map[string]func(net.Conn){
			"its client goes": func(conn net.Conn) { _ = conn.Close() },
			"it is too late":  func(net.Conn) { time.Sleep(11 * time.Second) },
			"it is whole": func(conn net.Conn) {
				_, _ = io.WriteString(conn, strings.Repeat(" ", MaxBody-1))
				if status, _, _ := c.answered(conn); status != 200 && status != 503 {
					t.Errorf("HTTP %d", status)
				}
				_ = conn.Close()
			},
		} {
			var open, whole []net.Conn
			for range 20 { // 64 KiB each, but for the first 8
				open = append(open, c.open(announced(hook, 2*MaxBody-1, MaxBody)))
			}
			synctest.Wait()
			if held := c.srv.bodies.held(); held > 1<<20 || held < 1<<19 {
				t.Errorf("%s: %d held", name, held)
			}
			for range 20 {
				whole = append(whole, c.open(announced(hook, 2*MaxBody, 2*MaxBody)))
			}
			for _, conn := range whole {
				status, h, body := c.answered(conn)
				if status != 503 || h.Get("Retry-After") == "" || !strings.Contains(body, OutcomeNotDone) {
					t.Errorf("%d %v %s", status, h, body)
				}
				_ = conn.Close()
			}
			for _, conn := range open {
				_ = conn.SetReadDeadline(time.Time{})
				end(conn)
			}
			synctest.Wait()
			if held := c.srv.bodies.held(); held != 0 {
				t.Errorf("%s: %d are held by nobody", name, held)
			}
			for _, conn := range open {
				_ = conn.Close()
			}
		}
	})
}

// TestStrangersTakeNoRoomFromTheKnown, nor one of those from another.
func TestStrangersTakeNoRoomFromTheKnown(t *testing.T) {
	const room = 8 << 20
	const quiet = 'q' // the end of a key
	whose := func(_ *fasthttp.RequestCtx, r *Request) (who Party, known bool) {
		return sha256.Sum256(r.Head.OrgKey), strings.HasPrefix(string(r.Head.OrgKey), testKey[:4])
	}
	inBubble(t, echo, Options{BodyRoom: room, Whose: whose}, func(c *crowd) {
		var held []net.Conn
		open := func(key string) {
			for range 100 {
				held = append(held, c.open(strings.Replace(announced(Base+"webhooks/stripe", MaxBatchBody, MaxBody), testKey, key, 1)))
			}
			synctest.Wait()
		}
		open("x")
		if got, most := c.srv.bodies.strangers.now(), int64(room/strangersShare); got > most || got == 0 {
			t.Errorf("strangers hold %d", got)
		}
		open(testKey)
		if got, most := c.srv.bodies.known.now(), int64(room*(strangersShare-1)/strangersShare/partyShare); got > most || got < most/2 {
			t.Errorf("one party holds %d, of at most %d", got, most)
		}
		for range 2 {
			key := testKey[:len(testKey)-1] + string(quiet)
			conn := c.open(strings.Replace(post(Base+"webhooks/stripe", strings.Repeat(" ", MaxBatchBody)), testKey, key, 1))
			if status, _, body := c.answered(conn); status != 200 {
				t.Errorf("another one: %d %.200s", status, body)
			}
			_ = conn.Close()
		}
		for _, conn := range held {
			_ = conn.Close()
		}
	})
}

// TestAKeyIsJudgedBeforeALargeBodyIsRead: by its form, from the head, with the answer that it would get behind the body.
func TestAKeyIsJudgedBeforeALargeBodyIsRead(t *testing.T) {
	inBubble(t, echo, Options{}, func(c *crowd) {
		for _, path := range []string{"devices/validate_batch", "devices/revoke_batch", "devices/unrevoke_batch"} {
			large := announced(Base+path, MaxBatchBody, bodyAtOnce)
			for name, tt := range map[string]struct {
				raw, head string
				want      int
			}{
				"missing":             {large, "", 400},
				"malformed":           {large, "x-org-key: org_x\r\n", 401},
				"malformed, chunked":  {chunked(Base+path, fmt.Sprintf("%x\r\n%s", MaxBatchBody, strings.Repeat(" ", MaxBody))), "x-org-key: org_x\r\n", 401},
				"good":                {large, "x-org-key: " + testKey + "\r\n", 0},
				"an operator's":       {large, "X-MachineID-Org: o\r\nAuthorization: Bearer b\r\n", 0},
				"small and malformed": {announced(Base+path, MaxBody, bodyAtOnce), "x-org-key: org_x\r\n", 0},
			} {
				conn := c.open(strings.Replace(tt.raw, "x-org-key: "+testKey+"\r\n", tt.head, 1))
				status, h, _ := c.answered(conn)
				if status != tt.want || status != 0 && !strings.EqualFold(h.Get("Connection"), "close") {
					t.Errorf("%s, %s: %d %v", path, name, status, h)
				}
				_ = conn.Close()
			}
		}
	})
}

// TestSlowReadersOfLargeAnswers hold no more than the room, get no other's, and give it back when their time is over.
func TestSlowReadersOfLargeAnswers(t *testing.T) {
	large := func(ctx *fasthttp.RequestCtx) {
		From(ctx).JSON(ctx, fasthttp.StatusOK, strings.Repeat("x", 512<<10))
	}
	inBubble(t, large, Options{BodyRoom: 4 << 20}, func(c *crowd) {
		var slow []net.Conn
		for range 30 {
			slow = append(slow, c.open(get(Base+"usage")))
		}
		synctest.Wait()
		if held := c.srv.bodies.held(); held > 3<<20 || held < 2<<20 {
			t.Errorf("%d held", held)
		}
		time.Sleep(12 * time.Second)
		synctest.Wait()
		conn := c.open(get(Base + "usage"))
		if status, _, body := c.answered(conn); status != 200 || len(body) < 512<<10 {
			t.Errorf("afterwards: %d, %d bytes", status, len(body))
		}
		for _, conn := range append(slow, conn) {
			_ = conn.Close()
		}
	})
}

// TestTheDocumentTakesNoRoom: it is one for all who ask, and anybody may.
func TestTheDocumentTakesNoRoom(t *testing.T) {
	document := []byte(strings.Repeat("x", 512<<10))
	inBubble(t, func(ctx *fasthttp.RequestCtx) { ctx.Response.SetBodyRaw(document) }, Options{BodyRoom: 4 << 20}, func(c *crowd) {
		var slow []net.Conn
		for range 30 {
			slow = append(slow, c.open(get("/openapi.json")))
		}
		synctest.Wait()
		if held := c.srv.bodies.held(); held != 0 {
			t.Errorf("%d held", held)
		}
		for _, conn := range slow {
			_ = conn.Close()
		}
	})
}

// surplus is a connection that its listener has marked.
type surplus struct{ net.Conn }

func (surplus) Surplus() bool { return true }

type surplusListener struct{ *pipes }

func (l surplusListener) Accept() (net.Conn, error) {
	c, err := l.pipes.Accept()
	if err != nil {
		return nil, err
	}
	return surplus{c}, nil
}

// TestASurplusIsToldSo and ended, soon if it says nothing.
func TestASurplusIsToldSo(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := &crowd{t, newPipes(), NewServer(echo, Options{NoDate: true})}
		served := make(chan error, 1)
		go func() { served <- c.srv.Serve(surplusListener{c.ln}) }()
		conn := c.open(get(Base + "usage"))
		if status, h, body := c.answered(conn); status != 503 || h.Get("Retry-After") == "" || !strings.Contains(body, OutcomeNotDone) {
			t.Errorf("%d %v %s", status, h, body)
		}
		silent := c.open("GET ")
		began := time.Now()
		_, _ = io.ReadAll(silent)
		if took := time.Since(began); took > surplusTime+time.Second {
			t.Errorf("a silent one stays for %v", took)
		}
		if err := c.srv.Shutdown(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
	})
}
