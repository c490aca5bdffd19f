package wire

import (
	"bufio"
	"bytes"
	"net"
	"strconv"
	"testing"

	"github.com/valyala/fasthttp"

	"machineid/shared/decision"
)

// typicalHead is what a common client sends, about 150 bytes below the request line.
const typicalHead = "Host: 127.0.0.1:8080\r\nx-org-key: " + testKey + "\r\n" +
	"User-Agent: agent/1.0\r\nAccept: */*\r\nContent-Type: application/json\r\nContent-Length: 23\r\n\r\n"

const typicalBody = `{"deviceId":"agent-01"}`

// context returns a context that has read raw the way a server does, but for the connection.
func requestContext(tb testing.TB, raw string) *fasthttp.RequestCtx {
	tb.Helper()
	ctx := new(fasthttp.RequestCtx)
	ctx.Init(new(fasthttp.Request), nil, nil)
	if err := ctx.Request.Read(bufio.NewReader(bytes.NewReader([]byte(raw)))); err != nil {
		tb.Fatal(err)
	}
	return ctx
}

// decideAtOnce is a handler that does what an edge does on a hit, but for looking.
func decideAtOnce(ctx *fasthttp.RequestCtx) {
	r := From(ctx)
	v, code := ParseValidate(ctx)
	if code == 0 {
		code = decision.Allow
	}
	WriteDecision(ctx, &Decision{Code: code, RequestID: r.ID, DeviceID: v.DeviceID})
}

// hotHandler is all that a server does for a validate between reading and writing.
func hotHandler() fasthttp.RequestHandler {
	return NewServer(decideAtOnce, Options{}).Handler
}

func TestHotPathAllocatesNothing(t *testing.T) {
	head, body := []byte(typicalHead), []byte(typicalBody)
	posted := requestContext(t, "POST "+validatePath+" HTTP/1.1\r\n"+typicalHead+typicalBody)
	got := requestContext(t, get(validatePath+"?deviceId=worker/prod/1"))
	handler := hotHandler()
	var (
		h    Head
		id   [36]byte
		dst  = make([]byte, 0, 1024)
		path = []byte(validatePath)
		// All of it is trimmed at both ends, and not at once.
		spaced = []byte(whiteSpace + "agent-01" + whiteSpace)
		d      = Decision{Code: decision.DeviceRevoked, RequestID: []byte("fbf77ff5-06ed-42eb-8e07-024c32ef1e68"), DeviceID: []byte(`a"\α` + "\u2028")}
	)
	for name, f := range map[string]func(){
		"Match":                    func() { _ = Match(path) },
		"Match, unknown":           func() { _ = Match(path[:len(path)-1]) },
		"CheckHead":                func() { _ = CheckHead(head, &h) },
		"RequestID":                func() { _ = RequestID(id[:0], nil) },
		"DeviceIDFast":             func() { _, _ = DeviceIDFast(body) },
		"DeviceID":                 func() { _, _ = DeviceID(d.DeviceID) },
		"DeviceID, trimmed":        func() { _, _ = DeviceID(spaced) },
		"ParseQuery":               func() { _, _ = ParseQuery([]byte("deviceId=agent-01&x=y")) },
		"AppendDecision":           func() { dst = AppendDecision(dst[:0], &d) },
		"WriteDecision":            func() { WriteDecision(posted, &d) },
		"ParseValidate, POST":      func() { _, _ = ParseValidate(posted) },
		"ParseValidate, GET":       func() { _, _ = ParseValidate(got) },
		"Budget":                   func() { _ = Budget([]byte("7500"), true) },
		"AppendBudget":             func() { dst = AppendBudget(dst[:0], DefaultBudget) },
		"the whole handler, POST":  func() { handler(posted) },
		"the whole handler, GET":   func() { handler(got) },
		"SYSTEM_UNAVAILABLE":       func() { WriteDecision(posted, &Decision{Code: decision.SystemUnavailable, RequestID: d.RequestID}) },
		"a request id of the user": func() { _ = RequestID(id[:0], d.RequestID) },
	} {
		if n := testing.AllocsPerRun(200, f); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

func BenchmarkCheckHead(b *testing.B) {
	head := []byte(typicalHead)
	b.SetBytes(int64(len(head)))
	var h Head
	for b.Loop() {
		if err := CheckHead(head, &h); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	for name, path := range map[string]string{"validate": validatePath, "other": "/api/v1/devices/register", "unknown": "/favicon.ico"} {
		b.Run(name, func(b *testing.B) {
			raw := []byte(path)
			for b.Loop() {
				_ = Match(raw)
			}
		})
	}
}

func BenchmarkRequestID(b *testing.B) {
	var buf [36]byte
	for b.Loop() {
		_ = RequestID(buf[:0], nil)
	}
}

func BenchmarkDeviceIDFast(b *testing.B) {
	body := []byte(typicalBody)
	for b.Loop() {
		_, _ = DeviceIDFast(body)
	}
}

func BenchmarkParseObject(b *testing.B) {
	body := []byte(typicalBody)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = ParseObject(body)
	}
}

func BenchmarkParseQuery(b *testing.B) {
	for name, raw := range map[string]string{"simple": "deviceId=agent-01", "encoded": "deviceId=agent%2F01"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			query := []byte(raw)
			for b.Loop() {
				_, _ = deviceIDInQuery(query)
			}
		})
	}
}

func BenchmarkAppendDecision(b *testing.B) {
	dst := make([]byte, 0, 1024)
	d := Decision{Code: decision.Allow, RequestID: []byte("fbf77ff5-06ed-42eb-8e07-024c32ef1e68"), DeviceID: []byte("agent-01")}
	for b.Loop() {
		dst = AppendDecision(dst[:0], &d)
	}
}

func BenchmarkParseValidate(b *testing.B) {
	ctx := requestContext(b, "POST "+validatePath+" HTTP/1.1\r\n"+typicalHead+typicalBody)
	for b.Loop() {
		_, _ = ParseValidate(ctx)
	}
}

// BenchmarkHandler is all that this package does for a validate, without fasthttp's reading and writing.
func BenchmarkHandler(b *testing.B) {
	ctx := requestContext(b, "POST "+validatePath+" HTTP/1.1\r\n"+typicalHead+typicalBody)
	handler := hotHandler()
	b.ReportAllocs()
	for b.Loop() {
		ctx.Response.Reset()
		handler(ctx)
	}
}

// BenchmarkPipelined is a validate from bytes to bytes over a socket, one at a time and several in one write.
func BenchmarkPipelined(b *testing.B) {
	addr, _ := serveTCP(b, NewServer(decideAtOnce, Options{}))
	for _, batch := range []int{1, 4, 16, 64} {
		b.Run(strconv.Itoa(batch), func(b *testing.B) {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			raw := bytes.Repeat([]byte("POST "+validatePath+" HTTP/1.1\r\n"+typicalHead+typicalBody), batch)
			r := bufio.NewReaderSize(c, 1<<16)
			var resp fasthttp.Response
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Write(raw); err != nil {
					b.Fatal(err)
				}
				for range batch {
					if err := resp.Read(r); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/request")
		})
	}
}
