package bench

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"
)

// BenchmarkRevoke compares a revoke that three edges have to acknowledge with one of
// which no edge has to be told, in turn: what the promise costs.
func BenchmarkRevoke(b *testing.B) {
	held, link := startAuthority(b, usualLease)
	alone, _ := startAuthority(b, usualLease)
	var edges []string
	for i := range 3 {
		edges = append(edges, startEdge(b, fmt.Sprint("e", i), link))
	}
	var done struct{}
	for _, t := range []*tiers{held, alone} {
		t.call(b, "devices/register", `{"deviceId":"agent-01"}`, &done)
	}
	request := []byte("GET /api/v1/devices/validate?deviceId=agent-01 HTTP/1.1\r\nHost: edge\r\nx-org-key: " + held.key + "\r\n\r\n")
	var with, without []float64
	for b.Loop() {
		for range 300 {
			for _, e := range edges {
				if a := exchange(b, e, request); !bytes.Contains(a, []byte(`"ALLOW"`)) {
					b.Fatalf("not allowed: %s", a)
				}
			}
			with = append(with, took(func() { held.call(b, "devices/revoke", `{"deviceId":"agent-01"}`, &done) }))
			for _, e := range edges {
				if a := exchange(b, e, request); !bytes.Contains(a, []byte(`"DEVICE_REVOKED"`)) {
					b.Fatalf("allowed after the revoke: %s", a)
				}
			}
			without = append(without, took(func() { alone.call(b, "devices/revoke", `{"deviceId":"agent-01"}`, &done) }))
			for _, t := range []*tiers{held, alone} {
				t.call(b, "devices/unrevoke", `{"deviceId":"agent-01"}`, &done)
			}
		}
	}
	slices.Sort(with)
	slices.Sort(without)
	b.ReportMetric(with[len(with)/2], "p50-ms")
	b.ReportMetric(with[len(with)*99/100], "p99-ms")
	b.ReportMetric(without[len(without)/2], "p50-ms-no-edge")
	b.ReportMetric(without[len(without)*99/100], "p99-ms-no-edge")
	b.ReportMetric(with[len(with)/2]/without[len(without)/2], "ratio")
	b.ReportMetric(0, "ns/op")
}

func took(call func()) float64 {
	began := time.Now()
	call()
	return float64(time.Since(began).Microseconds()) / 1000
}
