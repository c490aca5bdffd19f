package bench

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"machineid/edge"
)

// missClients is how many agents ask at once in BenchmarkMiss.
const missClients = 32

// BenchmarkMiss compares validates of devices that the edge has never seen, each of
// which is a fetch from the authority, with validates of the same devices a moment
// later, from memory. Each round begins an edge of its own, so that every device is
// cold once. Authority, edge and client share this process and its processors.
func BenchmarkMiss(b *testing.B) {
	const devices, rounds = 20_000, 5
	t, link := startAuthority(b, 5*time.Second) // the longest: a busy machine must not end it
	t.lift(b, devices)
	requests := t.fleet(b, devices)
	var misses, hits, ratios, cpus []float64
	for b.Loop() {
		for range rounds {
			addr, stop := briefEdge(b, link)
			warm(b, addr, t.key)
			x, xcpu := pass(b, addr, requests, "miss")
			y, ycpu := pass(b, addr, requests, "hit")
			stop()
			misses, hits = append(misses, x), append(hits, y)
			ratios, cpus = append(ratios, x/y), append(cpus, ycpu/xcpu)
		}
	}
	b.ReportMetric(median(misses), "miss/s")
	b.ReportMetric(median(hits), "hit/s")
	b.ReportMetric(median(ratios), "miss/hit")
	b.ReportMetric(median(cpus), "miss/hit-by-cpu")
	b.ReportMetric(0, "ns/op")
}

// fleet registers devices and returns the validate of each.
func (t *tiers) fleet(b *testing.B, devices int) [][]byte {
	b.Helper()
	requests := make([][]byte, devices)
	var next atomic.Int64
	var work sync.WaitGroup
	for range missClients {
		work.Go(func() {
			conn, err := net.Dial("tcp", t.authority)
			if err != nil {
				b.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			buf := make([]byte, 4<<10)
			for i := int(next.Add(1)) - 1; i < devices; i = int(next.Add(1)) - 1 {
				body := fmt.Sprintf(`{"deviceId":"agent-%016d"}`, i)
				if _, err := conn.Write(post("devices/register", t.key, body)); err != nil {
					b.Error(err)
					return
				}
				// Head and body leave in one write, and are smaller than the buffer.
				n, err := conn.Read(buf)
				if err != nil || !bytes.HasPrefix(buf[:n], []byte("HTTP/1.1 200")) {
					b.Errorf("register device %d: %v %s", i, err, buf[:n])
					return
				}
				requests[i] = post("devices/validate", t.key, body)
			}
		})
	}
	work.Wait()
	if b.Failed() {
		b.FailNow()
	}
	return requests
}

func post(path, key, body string) []byte {
	return fmt.Appendf(nil, "POST /api/v1/%s HTTP/1.1\r\nHost: edge\r\nx-org-key: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		path, key, len(body), body)
}

// briefEdge runs an edge until stop.
func briefEdge(b *testing.B, link string) (addr string, stop func()) {
	b.Helper()
	agents := listen(b)
	e, err := edge.New(edge.Config{ID: "e1", Authority: []string{link}, HTTP: agents, MaxWait: 5 * time.Second, Limits: benchLimits, Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	ready(b, e.Ready)
	return agents.Addr().String(), func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	}
}

// warm has the edge remember key and org, which are not what is measured.
func warm(b *testing.B, addr, key string) {
	b.Helper()
	_ = exchange(b, addr, post("devices/validate", key, `{"deviceId":"agent-nobody"}`))
}

// pass sends each request once and returns how many were answered a second, and how
// much processor time one took, client and both tiers together. All must be allowed,
// and nearly all from where cache says: ristretto may drop what it was given.
func pass(b *testing.B, addr string, requests [][]byte, cache string) (perSecond, cpu float64) {
	b.Helper()
	from := []byte("X-Cache: " + cache + "\r\n")
	var next, other atomic.Int64
	var work sync.WaitGroup
	began, used := time.Now(), processorTime(b)
	for range missClients {
		work.Go(func() {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				b.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			buf := make([]byte, 4<<10)
			for i := int(next.Add(1)) - 1; i < len(requests); i = int(next.Add(1)) - 1 {
				if _, err := conn.Write(requests[i]); err != nil {
					b.Error(err)
					return
				}
				n, err := conn.Read(buf)
				if err != nil || !bytes.Contains(buf[:n], []byte(`"allowed":true`)) {
					b.Errorf("validate device %d: %v %s", i, err, buf[:n])
					return
				}
				if !bytes.Contains(buf[:n], from) {
					other.Add(1)
				}
			}
		})
	}
	work.Wait()
	if n := int(other.Load()); n > len(requests)/10 {
		b.Fatalf("%d of %d were no %s", n, len(requests), cache)
	}
	n := float64(len(requests))
	return n / time.Since(began).Seconds(), (processorTime(b) - used).Seconds() / n
}

// BenchmarkRegister has 256 callers register devices at the edge, which hands them on to an authority of one node: what the way
// there and back costs, in processor time of all three. The least of the rounds is what other processes on this machine disturbed
// least. For three nodes, beside etcd: bench/peers.
func BenchmarkRegister(b *testing.B) {
	const callers, each, rounds = 256, 16, 12
	t := start(b)
	t.lift(b, 1_000_000)
	_ = exchange(b, t.edge, post("devices/register", t.key, `{"deviceId":"first"}`)) // from here on the edge knows that the key is good
	serial := 0
	var cpus, rates []float64
	for b.Loop() {
		for range rounds {
			rate, cpu := t.registers(b, callers, each, serial)
			serial += callers * each
			rates, cpus = append(rates, rate), append(cpus, cpu*1e6)
		}
	}
	b.ReportMetric(slices.Min(cpus), "least-cpu-µs/register")
	b.ReportMetric(median(cpus), "cpu-µs/register")
	b.ReportMetric(median(rates), "register/s")
	b.ReportMetric(0, "ns/op")
}

// registers registers new devices at the edge, numbered from serial, and returns how many were registered a second and what
// processor time one took, in seconds.
func (t *tiers) registers(b *testing.B, callers, each, serial int) (perSecond, cpu float64) {
	b.Helper()
	var work sync.WaitGroup
	began, used := time.Now(), processorTime(b)
	for c := range callers {
		work.Go(func() {
			conn, err := net.Dial("tcp", t.edge)
			if err != nil {
				b.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			buf := make([]byte, 4<<10)
			for i := range each {
				if _, err := conn.Write(post("devices/register", t.key, fmt.Sprintf(`{"deviceId":"agent-%016d"}`, serial+c*each+i))); err != nil {
					b.Error(err)
					return
				}
				if n, err := conn.Read(buf); err != nil || !bytes.HasPrefix(buf[:n], []byte("HTTP/1.1 200")) {
					b.Errorf("register: %v %s", err, buf[:n])
					return
				}
			}
		})
	}
	work.Wait()
	n := float64(callers * each)
	return n / time.Since(began).Seconds(), (processorTime(b) - used).Seconds() / n
}
