package bench

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// BenchmarkHitAtHalfLoad compares how long hits take with what the bare handler of BenchmarkHit takes, when both are
// asked, in turn, half as often as the bare one can answer: in an open loop, each request from when it was to be
// sent, so a stall is not hidden. That the client wakes late is in both.
func BenchmarkHitAtHalfLoad(b *testing.B) {
	t := start(b)
	var registered struct{}
	t.call(b, "devices/register", `{"deviceId":"agent-0000000000000001"}`, &registered)
	request := hitRequest(t.key)
	_ = exchange(b, t.edge, request)
	answer := exchange(b, t.edge, request)
	if !bytes.Contains(answer, []byte(`"ALLOW"`)) || !bytes.Contains(answer, []byte("X-Cache: hit")) {
		b.Fatalf("not a hit: %s", answer)
	}
	bare := bareServer(b, answer)
	for _, connections := range []int{16, 64} {
		b.Run(fmt.Sprintf("connections=%d", connections), func(b *testing.B) {
			var most []float64
			for range 3 {
				perSecond, _ := rate(b, bare, request, len(answer), connections)
				most = append(most, perSecond)
			}
			half := median(most) / 2
			took := map[string][]float64{}
			for b.Loop() {
				for range 9 {
					for _, addr := range []string{bare, t.edge} {
						list := latencies(b, addr, request, len(answer), connections, half)
						for _, p := range []int{50, 99} {
							name := fmt.Sprint(addr, p)
							took[name] = append(took[name], list[len(list)*p/100].Seconds()*1e6)
						}
					}
				}
			}
			b.ReportMetric(half, "asked/s")
			for _, p := range []int{50, 99} {
				x, y := median(took[fmt.Sprint(bare, p)]), median(took[fmt.Sprint(t.edge, p)])
				b.ReportMetric(x, fmt.Sprintf("bare-p%d-µs", p))
				b.ReportMetric(y, fmt.Sprintf("edge-p%d-µs", p))
				b.ReportMetric(y/x, fmt.Sprintf("edge/bare-p%d", p))
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// latencies asks so often for a while, over some connections in turn, and returns how long each answer took from
// when its request was due, in order.
func latencies(b *testing.B, addr string, request []byte, size, connections int, perSecond float64) []time.Duration {
	b.Helper()
	const length = 700 * time.Millisecond
	every := time.Duration(float64(connections) / perSecond * float64(time.Second))
	var work sync.WaitGroup
	all := make([][]time.Duration, connections)
	began := time.Now().Add(10 * time.Millisecond)
	for i := range connections {
		work.Go(func() {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				b.Error(err)
				return
			}
			defer func() { _ = conn.Close() }()
			buf := make([]byte, size)
			for due := began.Add(every * time.Duration(i) / time.Duration(connections)); due.Sub(began) < length; due = due.Add(every) {
				time.Sleep(time.Until(due))
				if _, err := conn.Write(request); err != nil {
					b.Error(err)
					return
				}
				if _, err := io.ReadFull(conn, buf); err != nil {
					b.Error(err)
					return
				}
				all[i] = append(all[i], time.Since(due))
			}
		})
	}
	work.Wait()
	list := slices.Concat(all...)
	if len(list) == 0 {
		b.Fatal("nothing was answered")
	}
	slices.Sort(list)
	return list
}
