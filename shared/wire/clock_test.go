package wire

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// step is bytes that a client sends, and how long it waits before.
type step struct {
	after time.Duration
	raw   string
}

// heard is an answer by its status, and when it came. A status below zero is that of an answer to HEAD.
type heard struct {
	status int
	at     time.Duration
}

// timeline is what a client sends, and what it must hear and when. The times of these rows are seconds, and an answer may come a second later.
type timeline struct {
	steps   []step
	answers []heard
	ends    time.Duration
}

// slowly sends bytes with a second before each.
func slowly(raw string) (steps []step) {
	for i := range len(raw) {
		steps = append(steps, step{time.Second, raw[i : i+1]})
	}
	return steps
}

func timelines() map[string]timeline {
	const (
		s    = time.Second
		late = 10 * s // a request that has begun
		idle = 75 * s
	)
	var (
		hit     = post(validatePath, `{"deviceId":"x"}`)
		usage   = get("/api/v1/usage") // takes 3 s
		wait    = request("POST "+validatePath, []string{"Expect: 100-continue", "Content-Length: 16"}, "\r\n")
		version = func(raw, v string) string { return strings.Replace(raw, "HTTP/1.1", v, 1) }
		head    = func(raw string) string { return strings.Replace(raw, "GET", "HEAD", 1) }
		once    = func(raw ...string) []step { return []step{{0, strings.Join(raw, "")}} }
		all     = chunked(validatePath, "10\r\n{\"deviceId\":\"x\"}\r\n0\r\n\r\n")
	)
	rows := map[string]timeline{
		"nothing":                    {nil, []heard{{408, late}}, late},
		"line ends":                  {slowly(strings.Repeat("\r\n", 10)), []heard{{408, late}}, late},
		"one line end":               {once("\r\n"), []heard{{408, late}}, late},
		"line ends, then a request":  {[]step{{0, "\r\n"}, {s, "\r\n"}, {7 * s, hit}}, []heard{{200, 8 * s}}, 8*s + idle},
		"line ends at once":          {once("\r\n\r\n", hit), []heard{{200, 0}}, idle},
		"a head in drips":            {slowly(hit), []heard{{408, late}}, late},
		"idle, then a head in drips": {append(once(hit), append([]step{{30 * s, "P"}}, slowly("OST /api/v1/validate")...)...), []heard{{200, 0}, {408, 40 * s}}, 40 * s},
		"idle, then line ends":       {append(once(hit), append([]step{{30 * s, "\r"}}, slowly(strings.Repeat("\n\r", 10))...)...), []heard{{200, 0}, {408, 40 * s}}, 40 * s},
		"idle, then a body in drips": {append(once(hit), append([]step{{30 * s, hit[:len(hit)-12]}}, slowly(hit[len(hit)-12:])...)...), []heard{{200, 0}, {408, 40 * s}}, 40 * s},
		"idle, then in time":         {append(once(hit), append([]step{{30 * s, hit[:len(hit)-5]}}, slowly(hit[len(hit)-5:])...)...), []heard{{200, 0}, {200, 35 * s}}, 35*s + idle},
		"idle, chunked":              {once(all), []heard{{200, 0}}, idle},
		"idle, HEAD":                 {once(head(get("/api/v1/org"))), []heard{{-200, 0}}, idle},
		"idle, several":              {once(hit, all, hit), []heard{{200, 0}, {200, 0}, {200, 0}}, idle},
		"a chunk in drips":           {append(once(chunked(validatePath, "10")), slowly("\r\n{\"deviceId\":\"x\"}\r\n0\r\n\r\n")...), []heard{{408, late}}, late},
		"an extension in drips":      {append(once(chunked(validatePath, "10;")), slowly(strings.Repeat("a", 20))...), []heard{{408, late}}, late},
		"a trailer in drips":         {append(once(chunked(validatePath, "2\r\n{}\r\n0\r\n")), slowly(strings.Repeat("a", 20))...), []heard{{408, late}}, late},
		"a quick one behind":         {once(hit, usage), []heard{{200, 0}, {200, 3 * s}}, 3*s + idle},
		"several, one takes long":    {once(hit, all, usage, hit), []heard{{200, 0}, {200, 0}, {200, 3 * s}, {200, 3 * s}}, 3*s + idle},
		"one that waits behind":      {once(hit, get(validatePath+"?deviceId=waits"), hit), []heard{{200, 0}, {200, 3 * s}, {200, 3 * s}}, 3*s + idle},
		"a fault behind":             {once(hit, "hello\r\n\r\n", hit), []heard{{200, 0}, {400, 0}}, 0},
		"an answer that closes":      {once(hit, get("/api/v1/org", "Connection: close"), hit, usage), []heard{{200, 0}, {200, 0}}, 0},
		"HTTP/1.0 that closes":       {once(hit, version(hit, "HTTP/1.0"), hit), []heard{{200, 0}, {200, 0}}, 0},
		"Expect behind":              {append(once(hit, wait), step{9 * s, `{"deviceId":"x"}`}), []heard{{200, 0}, {100, 0}, {200, 9 * s}}, 9*s + idle},
		"Expect behind, in drips":    {append(once(hit, wait), slowly(`{"deviceId":"x"}`)...), []heard{{200, 0}, {100, 0}, {408, late}}, late},
		"Expect behind one slow":     {append(once(usage, wait), step{9 * s, `{"deviceId":"x"}`}), []heard{{200, 3 * s}, {100, 3 * s}, {200, 9 * s}}, 9*s + idle},
		"Expect that has its body":   {once(hit, wait, `{"deviceId":"x"}`, hit), []heard{{200, 0}, {100, 0}, {200, 0}, {200, 0}}, idle},
		"Expect that is refused":     {once(hit, strings.Replace(wait, ": 16", ": 70000", 1), hit), []heard{{200, 0}, {413, 0}}, 0},
		"Expect of nothing":          {once(hit, strings.Replace(wait, "devices", "nowhere", 1), hit), []heard{{200, 0}, {404, 0}}, 0},
		"a body that is too large":   {once(hit, strings.Replace(post("/api/v1/nowhere", ""), ": 0", ": 70000", 1), hit), []heard{{200, 0}, {413, 0}}, 0},
		"a stream, and more":         {once(get("/api/v1/audit"), hit[:20]), []heard{{200, 0}}, 0},
	}
	// Behind each kind of an answer, each kind of a request that does not come to its end: the answer leaves at once, and the request has its time.
	befores := map[string]struct {
		raw    string
		status int
	}{
		"a hit": {hit, 200}, "three": {hit + all + hit, 200}, "chunked": {all, 200}, "HEAD": {head(get("/api/v1/org")), -200},
		"HTTP/1.0": {version(post(validatePath, `{"deviceId":"x"}`, "Connection: keep-alive"), "HTTP/1.0"), 200}, "HTTP/1.2": {version(hit, "HTTP/1.2"), 200},
		"an absolute target": {strings.Replace(hit, "/api", "http://other.example/api", 1), 200}, "404": {get("/nowhere"), 404}, "405": {post("/api/v1/usage", "{}"), 405},
		"a large answer": {get("/api/v1/devices/list"), 200}, "one held": {get("/api/v1/org/export"), 200}, "line ends": {"\r\n\r\n" + hit, 200},
		"a body that is none": {post("/api/v1/devices/revoke_batch", strings.Repeat(" ", 20_000)), 200}, "too many chunks": {chunked(validatePath, fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", MaxBody+1, strings.Repeat(" ", MaxBody+1))), 413},
	}
	for name, part := range map[string]string{
		"a line end": "\r\n", "a method": "PO", "a line": "POST / HTTP/1.1\r\n", "half a head": hit[:60], "a head": strings.TrimSuffix(hit, `{"deviceId":"x"}`), "half a body": hit[:len(hit)-1],
		"half a large body": strings.TrimSuffix(post(validatePath, strings.Repeat(" ", 20_000)), " "),
		"no chunk":          chunked(validatePath, ""), "half a size": chunked(validatePath, "1"), "half an extension": chunked(validatePath, "10;a"), "half a chunk": chunked(validatePath, "10\r\n{"),
		"a chunk": chunked(validatePath, "10\r\n{\"deviceId\":\"x\"}"), "no trailer": chunked(validatePath, "10\r\n{\"deviceId\":\"x\"}\r\n0\r\n"),
		"half a trailer": chunked(validatePath, "2\r\n{}\r\n0\r\nX-A: b"), "an absolute target": strings.Replace(hit, "/api", "http://other.example/api", 1)[:90],
	} {
		for before, b := range befores {
			answers := []heard{{b.status, 0}, {408, late}}
			if before == "three" {
				answers = append([]heard{{200, 0}, {200, 0}}, answers...)
			}
			rows[before+", then "+name] = timeline{once(b.raw, part), answers, late}
		}
	}
	return rows
}

// TestClock: every answer leaves as soon as it is made, whatever has come of the next request, and that has as long as any request from then on. Who is late is told.
func TestClock(t *testing.T) {
	for name, row := range timelines() {
		t.Run(name, func(t *testing.T) {
			inBubble(t, leisurely, Options{leaveTime: time.Second / 2}, func(c *crowd) {
				began := time.Now()
				conn, err := c.ln.Dial()
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = conn.Close() }()
				go func() {
					for _, s := range row.steps {
						time.Sleep(s.after)
						if _, err := io.WriteString(conn, s.raw); err != nil {
							return
						}
					}
				}()
				within := func(at time.Duration) bool {
					return time.Since(began) >= at && time.Since(began) < at+time.Second
				}
				r := bufio.NewReader(conn)
				for _, want := range row.answers {
					status, err := hear(r, want.status)
					if err != nil {
						t.Errorf("after %v: %v, want %d at %v", time.Since(began), err, want.status, want.at)
						return
					}
					if status != max(want.status, -want.status) || !within(want.at) {
						t.Errorf("after %v HTTP %d, want %d at %v", time.Since(began), status, want.status, want.at)
					}
				}
				if rest, err := io.ReadAll(r); len(rest) != 0 || err != nil || !within(row.ends) && !within(row.ends-time.Second) {
					t.Errorf("after %v it ended with %q, %v, want %v", time.Since(began), rest, err, row.ends)
				}
			})
		})
	}
}

// hear reads one answer, also one of 1xx; want below zero is that of HEAD. It returns its status.
func hear(r *bufio.Reader, want int) (status int, err error) {
	method := http.MethodGet
	if want < 0 {
		method = http.MethodHead
	}
	a, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		return 0, err
	}
	defer func() { _ = a.Body.Close() }()
	_, err = io.Copy(io.Discard, a.Body)
	return a.StatusCode, err
}

// leisurely is echo, some calls of which take long or are answered in another way.
func leisurely(ctx *fasthttp.RequestCtx) {
	r := From(ctx)
	large := bytes.Repeat([]byte(" "), 20_000)
	switch path := string(ctx.Path()); {
	case path == "/api/v1/usage":
		time.Sleep(3 * time.Second)
	case path == "/api/v1/devices/list":
		r.JSONBody(ctx, 200, large)
		return
	case path == "/api/v1/org/export":
		r.JSONBody(ctx, 200, large)
		Hold(ctx, large, func() {})
		return
	case path == "/api/v1/audit":
		ctx.Response.SetBodyStream(bytes.NewReader(large[:1000]), 1000)
		return
	case path == validatePath && bytes.Contains(r.Query, []byte("waits")):
		Waits(ctx)
		time.Sleep(3 * time.Second)
	}
	echo(ctx)
}

// TestAnswersBehindEachOther: what several requests at once are answered with leaves in few writes, if nothing waits.
func TestAnswersBehindEachOther(t *testing.T) {
	ours, theirs := net.Pipe()
	writes := &counted{Conn: theirs}
	ln := newPipes()
	srv := NewServer(echo, Options{NoDate: true})
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	ln.came <- writes
	const n = 64
	go func() { _, _ = io.WriteString(ours, strings.Repeat(post(validatePath, `{"deviceId":"x"}`), n)) }()
	r := bufio.NewReader(ours)
	for range n {
		if status, err := hear(r, 200); err != nil || status != 200 {
			t.Fatal(status, err)
		}
	}
	_ = ours.Close()
	_ = ln.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if writes.n > n/4 {
		t.Errorf("%d answers left in %d writes", n, writes.n)
	}
}

type counted struct {
	net.Conn
	n int
}

func (c *counted) Write(b []byte) (int, error) {
	c.n++
	return c.Conn.Write(b)
}
