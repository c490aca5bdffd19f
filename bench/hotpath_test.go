package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
	"golang.org/x/sys/unix"
)

// BenchmarkHit compares validates that the edge answers from memory with a bare
// fasthttp handler that sends as many bytes and headers, in turn, from one pool
// of connections. The client writes ready-made bytes and parses next to nothing:
// what it costs would only flatter the ratio.
func BenchmarkHit(b *testing.B) {
	t := start(b)
	var registered struct{}
	t.call(b, "devices/register", `{"deviceId":"agent-0000000000000001"}`, &registered)
	request := hitRequest(t.key)
	_ = exchange(b, t.edge, request) // now it is remembered
	answer := exchange(b, t.edge, request)
	if !bytes.Contains(answer, []byte(`"ALLOW"`)) || !bytes.Contains(answer, []byte("X-Cache: hit")) {
		b.Fatalf("not a hit: %s", answer)
	}
	bare := bareServer(b, answer)
	if got := len(exchange(b, bare, request)); got != len(answer) {
		b.Fatalf("the bare handler answers %d bytes, the edge %d", got, len(answer))
	}
	for _, connections := range []int{1, 16, 64} {
		b.Run(fmt.Sprintf("connections=%d", connections), func(b *testing.B) {
			const rounds = 7
			var bareRates, edgeRates, ratios, cpus []float64
			for b.Loop() {
				for range rounds {
					x, xcpu := rate(b, bare, request, len(answer), connections)
					y, ycpu := rate(b, t.edge, request, len(answer), connections)
					bareRates, edgeRates = append(bareRates, x), append(edgeRates, y)
					ratios, cpus = append(ratios, y/x), append(cpus, xcpu/ycpu)
				}
			}
			b.ReportMetric(median(bareRates), "bare/s")
			b.ReportMetric(median(edgeRates), "edge/s")
			b.ReportMetric(median(ratios), "edge/bare")
			b.ReportMetric(median(cpus), "edge/bare-by-cpu")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func hitRequest(key string) []byte {
	body := `{"deviceId":"agent-0000000000000001"}`
	return fmt.Appendf(nil, "POST /api/v1/devices/validate HTTP/1.1\r\nHost: edge\r\nx-org-key: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		key, len(body), body)
}

// bareServer answers with the header names and the sizes of answer.
func bareServer(b *testing.B, answer []byte) string {
	b.Helper()
	var resp fasthttp.Response
	if err := resp.Read(bufio.NewReader(bytes.NewReader(answer))); err != nil {
		b.Fatal(err)
	}
	body := bytes.Clone(resp.Body())
	id, cache := resp.Header.Peek("X-Request-Id"), resp.Header.Peek("X-Cache")
	noStore, contentType := []byte("no-store"), []byte("application/json")
	names := [][]byte{[]byte("Cache-Control"), []byte("X-Request-Id"), []byte("X-Cache")}
	s := &fasthttp.Server{NoDefaultServerHeader: true, Handler: func(ctx *fasthttp.RequestCtx) {
		h := &ctx.Response.Header
		h.SetContentTypeBytes(contentType)
		h.SetCanonical(names[0], noStore)
		h.SetCanonical(names[1], id)
		ctx.Response.SetBodyRaw(body)
		h.SetCanonical(names[2], cache)
	}}
	l := listen(b)
	go func() { _ = s.Serve(l) }()
	b.Cleanup(func() { _ = s.Shutdown() })
	return l.Addr().String()
}

// rate is how many answers a second come back over some connections, and how
// many seconds of processor time one took, client and server together: what
// other processes do to this machine meanwhile shows in the first only.
func rate(b *testing.B, addr string, request []byte, size, connections int) (perSecond, cpu float64) {
	b.Helper()
	const length = 700 * time.Millisecond
	var work sync.WaitGroup
	counts := make([]int, connections)
	began, used := time.Now(), processorTime(b)
	for i := range connections {
		work.Go(func() {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				b.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			buf := make([]byte, size)
			for time.Since(began) < length {
				if _, err := conn.Write(request); err != nil {
					b.Error(err)
					return
				}
				if _, err := io.ReadFull(conn, buf); err != nil {
					b.Error(err)
					return
				}
				counts[i]++
			}
		})
	}
	work.Wait()
	n := 0
	for _, c := range counts {
		n += c
	}
	return float64(n) / time.Since(began).Seconds(), (processorTime(b) - used).Seconds() / float64(n)
}

func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// exchange sends one request and returns the whole answer.
func exchange(b *testing.B, addr string, request []byte) []byte {
	b.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write(request); err != nil {
		b.Fatal(err)
	}
	var raw bytes.Buffer
	r := bufio.NewReader(io.TeeReader(conn, &raw))
	var resp fasthttp.Response
	if err := resp.Read(r); err != nil {
		b.Fatal(err)
	}
	if n := strconv.Itoa(len(resp.Body())); string(resp.Header.Peek("Content-Length")) != n {
		b.Fatalf("Content-Length of a body of %s: %s", n, raw.Bytes())
	}
	return raw.Bytes()
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}
