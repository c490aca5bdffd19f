package raftstore

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// patient keeps the leader through moments in which a shared machine does nothing for it, and gives it the default cache.
func patient(c *Config) { c.CacheBytes, c.HeartbeatTimeout = 0, 2*time.Second }

// quantiles reports the median and the 99th percentile of latencies.
func quantiles(b *testing.B, latencies []time.Duration) {
	b.Helper()
	if len(latencies) == 0 {
		return
	}
	slices.Sort(latencies)
	b.ReportMetric(float64(latencies[len(latencies)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(latencies[len(latencies)*99/100].Microseconds()), "p99-µs")
}

// parallel calls f b.N times from a number of callers, and reports how long each call took.
func parallel(b *testing.B, callers int, f func(i int64) error) {
	b.Helper()
	var n atomic.Int64
	taken := make([][]time.Duration, callers)
	var wg sync.WaitGroup
	b.ResetTimer()
	for c := range callers {
		wg.Go(func() {
			for i := n.Add(1); i <= int64(b.N); i = n.Add(1) {
				began := time.Now()
				if err := f(i); err != nil {
					b.Error(err)
					return
				}
				taken[c] = append(taken[c], time.Since(began))
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	quantiles(b, slices.Concat(taken...))
}

// BenchmarkClusterPropose is the whole path of three nodes in one process, on a real disk and over loopback: pack, append, sync,
// replicate, sync, apply, answer.
func BenchmarkClusterPropose(b *testing.B) {
	nodes := tcpCluster(b, 3, with(patient))
	value := make([]byte, 100)
	for _, callers := range []int{1, 16, 64, 256} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			s := leaderOf(b, nodes).store
			before := s.Applied().Index
			parallel(b, callers, func(i int64) error {
				_, err := s.Propose(b.Context(), fmt.Appendf(nil, "key%08d=%s", i%100000, value))
				return err
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
			b.ReportMetric(float64(b.N)/float64(s.Applied().Index-before), "commands/entry")
		})
	}
}

// BenchmarkClusterConfirm is a confirmation round among three voters over loopback, alone and shared.
func BenchmarkClusterConfirm(b *testing.B) {
	nodes := tcpCluster(b, 3, with(patient))
	for _, callers := range []int{1, 64} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			s := leaderOf(b, nodes).store
			parallel(b, callers, func(int64) error {
				_, err := s.Confirm(b.Context())
				return err
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "confirms/s")
		})
	}
}
