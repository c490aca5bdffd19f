package load

import (
	"net"
	"testing"
	"time"
)

// echoTarget answers whatever it reads with one ALLOW after a delay, without an allocation: what is measured beside it is the generator.
func echoTarget(tb testing.TB, delay time.Duration) *Target {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = l.Close() })
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nCache-Control: no-store\r\nX-Cache: hit\r\nContent-Length: 31\r\n\r\n" +
		`{"allowed":true,"code":"ALLOW"}`)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				buf := make([]byte, 4096)
				for {
					if _, err := c.Read(buf); err != nil { // a request is written at once, and is read at once here
						return
					}
					if delay > 0 {
						time.Sleep(delay)
					}
					if _, err := c.Write(answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	t, err := ParseTarget("http://" + l.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

// BenchmarkGenerator is how many validates a second the generator sends to a target that costs next to nothing, both in this process: in
// a closed loop, and in an open one that is due faster than it can be sent.
func BenchmarkGenerator(b *testing.B) {
	for name, closed := range map[string]bool{"closed": true, "open": false} {
		b.Run(name, func(b *testing.B) {
			var rate float64
			for b.Loop() {
				rep := generate(b, &Config{
					Targets: []*Target{echoTarget(b, 0)}, Rate: Rate{400_000, 400_000}, Closed: closed, Duration: 3 * time.Second, Timeout: time.Second, Connections: 64,
				})
				op, _ := rep.Op(rep.Main)
				rate = op.Rate
			}
			b.ReportMetric(rate, "validates/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}
