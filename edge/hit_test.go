//go:build !race

package edge

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
	"golang.org/x/sys/unix"

	"machineid/shared/orgkey"
)

// hitOrgs is how many orgs the devices of these benchmarks are of, and how many connections ask:
// each for devices of one org.
const hitOrgs = 16

// BenchmarkRecall is what memory alone takes of a hit, with few devices and with a million, which
// no processor's cache holds.
func BenchmarkRecall(b *testing.B) {
	e, _ := fleet(b, fleetDevices, hitOrgs)
	var sums [hitOrgs]orgkey.Hash
	for i := range sums {
		sums[i] = fleetKey(i).Hash()
	}
	for _, of := range []int{64, fleetDevices} {
		b.Run(fmt.Sprintf("devices=%d", of), func(b *testing.B) {
			id := []byte(fleetID(0))
			used := processorTime(b)
			for b.Loop() {
				n := rand.IntN(of)
				number(id[len("agent-"):], n)
				if code := e.recall(&question{sum: sums[n%hitOrgs], device: id}, time.Now()); code == 0 {
					b.Fatal("not a hit")
				}
			}
			b.ReportMetric(float64((processorTime(b)-used).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
}

// number writes n with as many digits as there is room for.
func number(digits []byte, n int) {
	for i := len(digits) - 1; i >= 0; i-- {
		digits[i] = byte('0' + n%10)
		n /= 10
	}
}

// BenchmarkServe is what a hit takes in this process, from the bytes of a request to those of its answer, next
// to what fasthttp's own part of that is: a handler that sets as many headers and as long a body. Sockets, which
// take most of a hit, are left out, and with them their noise.
func BenchmarkServe(b *testing.B) {
	var e *Edge
	body := []byte(`{"allowed":true,"code":"ALLOW","request_id":"00000000-0000-0000-0000-000000000000","status":"active","reason":"allow","deviceId":"agent-000000000000000000"}`)
	noStore, contentType, id := []byte("no-store"), []byte("application/json"), []byte("00000000-0000-0000-0000-000000000000")
	bare := &fasthttp.Server{NoDefaultServerHeader: true, NoDefaultDate: true, Handler: func(ctx *fasthttp.RequestCtx) {
		h := &ctx.Response.Header
		h.SetContentTypeBytes(contentType)
		h.SetCanonical([]byte("Cache-Control"), noStore)
		h.SetCanonical([]byte("X-Request-Id"), id)
		ctx.Response.SetBodyRaw(body)
		h.SetCanonical(headerXCache, cacheHit)
	}}
	for _, s := range []struct {
		name  string
		serve func(net.Listener) error
		stop  func() error
	}{
		{"bare", bare.Serve, bare.Shutdown},
		{"edge", func(l net.Listener) error { return e.server.Serve(l) }, func() error { return e.server.Shutdown() }},
	} {
		b.Run(s.name, func(b *testing.B) {
			e, _ = fleet(b, hitOrgs, hitOrgs) // one that was stopped ends each connection with its first answer
			c := &pump{request: hitRequest(0, fleetID(0)), closed: make(chan struct{})}
			c.left = b.N
			l := &oneConn{conn: make(chan net.Conn, 1), closed: make(chan struct{})}
			l.conn <- c
			served := make(chan error, 1)
			used := processorTime(b)
			b.ResetTimer()
			go func() { served <- s.serve(l) }()
			<-c.closed
			b.ReportMetric(float64((processorTime(b)-used).Nanoseconds())/float64(b.N), "cpu-ns/op")
			if err := errors.Join(s.stop(), <-served); err != nil {
				b.Error(err)
			}
			if s.name == "edge" && !bytes.Contains(c.answer, []byte("X-Cache: hit")) {
				b.Errorf("not a hit: %q", c.answer)
			}
		})
	}
}

// pump is a connection on which one request comes some times, and no answer has to be waited for.
type pump struct {
	script
	request, answer []byte
	left            int
	closed          chan struct{}
}

func (p *pump) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	p.left--
	return copy(b, p.request), nil
}

func (p *pump) Write(b []byte) (int, error) {
	p.answer = append(p.answer[:0], b...)
	return len(b), nil
}

func (p *pump) Close() error {
	close(p.closed)
	return nil
}

// hitRequest asks for a device of an org.
func hitRequest(org int, id string) []byte {
	body := `{"deviceId":"` + id + `"}`
	return fmt.Appendf(nil, "POST /api/v1/devices/validate HTTP/1.1\r\nHost: edge\r\nx-org-key: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		fleetKey(org).Reveal(), len(body), body)
}

// BenchmarkHitOfAMillion compares hits of a million devices with hits of a few, in turn, by the same
// edge over the same connections.
func BenchmarkHitOfAMillion(b *testing.B) {
	e, n := fleet(b, fleetDevices, hitOrgs)
	if n < fleetDevices*99/100 {
		b.Fatalf("%d devices are remembered", n)
	}
	var config net.ListenConfig
	l, err := config.Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- e.server.Serve(l) }()
	defer func() {
		if err := e.server.Shutdown(); err != nil {
			b.Error(err)
		}
		<-served //nolint:errcheck // Shutdown's
	}()
	var askers []*asker
	for i := range hitOrgs {
		askers = append(askers, newAsker(b, l.Addr().String(), i))
	}
	var rates, cpus []float64
	for b.Loop() {
		for range 7 {
			few, fewCPU := askAll(b, askers, 4)
			many, manyCPU := askAll(b, askers, fleetDevices/hitOrgs)
			rates, cpus = append(rates, many/few), append(cpus, fewCPU/manyCPU)
			b.ReportMetric(many, "million/s")
		}
	}
	b.ReportMetric(middle(rates), "million/few")
	b.ReportMetric(middle(cpus), "million/few-by-cpu")
	b.ReportMetric(0, "ns/op")
}

// asker is an agent's connection.
type asker struct {
	conn          net.Conn
	org           int
	request, id   []byte // id is the part of request that is the device's number
	answer        []byte
	asked, failed int
}

func newAsker(b *testing.B, addr string, org int) *asker {
	b.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	id := fleetID(org)
	request := hitRequest(org, id)
	a := &asker{conn: conn, org: org, request: request, id: request[len(request)-len(id)+len("agent-")-2 : len(request)-2], answer: make([]byte, 1024)}
	n, err := a.ask(org, 0)
	if err != nil || !bytes.Contains(a.answer[:n], []byte(`"ALLOW"`)) || !bytes.Contains(a.answer[:n], []byte(id)) {
		b.Fatalf("%q: %q %v", request, a.answer[:n], err)
	}
	a.answer = a.answer[:n]
	return a
}

// ask validates one device and reads whole bytes of answer, or what comes if that is 0.
func (a *asker) ask(device, whole int) (int, error) {
	number(a.id, device)
	if _, err := a.conn.Write(a.request); err != nil {
		return 0, err
	}
	if whole == 0 {
		return a.conn.Read(a.answer)
	}
	return io.ReadFull(a.conn, a.answer)
}

// askAll asks over all connections at once for some of their devices, and returns how many answers
// came in a second, and the seconds of processor time that one took, of both sides.
func askAll(b *testing.B, askers []*asker, some int) (perSecond, cpu float64) {
	b.Helper()
	const length = 500 * time.Millisecond
	var work sync.WaitGroup
	began, used := time.Now(), processorTime(b)
	for _, a := range askers {
		work.Go(func() {
			a.asked = 0
			for time.Since(began) < length {
				if _, err := a.ask(rand.IntN(some)*hitOrgs+a.org, len(a.answer)); err != nil || !bytes.Contains(a.answer, []byte("X-Cache: hit")) {
					a.failed++
					return
				}
				a.asked++
			}
		})
	}
	work.Wait()
	n := 0
	for _, a := range askers {
		n += a.asked
		if a.failed > 0 {
			b.Errorf("a request of org %d failed, or was no hit: %q", a.org, a.answer)
		}
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

func middle(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}
