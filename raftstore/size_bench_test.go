package raftstore

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// BenchmarkStateSize tells what a larger state costs: the Go heap (Pebble's blocks and memtables lie outside it), how long the
// state machine stands still while the state is made durable and a checkpoint of it is opened and read, and a restart. One run
// of it says everything: use -benchtime 1x.
func BenchmarkStateSize(b *testing.B) {
	for _, keys := range []int{10_000, 1_000_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			dir := b.TempDir()
			options := []option{onFS(vfs.Default), inDir(dir), with(func(c *Config) { c.CacheBytes = 0 })}
			n := newNode(append(options, overTCP(b))...)
			s := must[*Store](b)(n.open())
			waitLeading(b, s)
			fillState(b, s, keys)
			n.machine.committed = nil
			b.ReportMetric(float64(liveHeap())/1e6, "heap-MB")

			gap := watchGaps(b, s, n.machine, nil)
			b.ReportMetric(gap.Seconds()*1e3, "gap-quiet-ms")
			var bytes int64
			gap = watchGaps(b, s, n.machine, func() {
				if err := s.raft.Snapshot().Error(); err != nil {
					b.Error(err)
				}
				_, r, err := s.snaps.Open(idLive)
				if err != nil {
					b.Error(err)
					return
				}
				if bytes, err = io.Copy(io.Discard, r); err != nil {
					b.Error(err)
				}
				if err := r.Close(); err != nil {
					b.Error(err)
				}
			})
			b.ReportMetric(gap.Seconds()*1e3, "gap-snapshot-ms")
			b.ReportMetric(float64(bytes)/1e6, "archive-MB")
			stop(b, s)

			n = newNode(append(options, overTCP(b))...)
			began := time.Now()
			s = must[*Store](b)(n.open())
			waitLeading(b, s)
			b.ReportMetric(time.Since(began).Seconds()*1e3, "restart-ms")
			stop(b, s)
		})
	}
}

// fillState stores keys of 24 bytes with values of 100, and writes as often whatever their number.
func fillState(b *testing.B, s *Store, keys int) {
	b.Helper()
	const callers, writes = 512, 1_000_000 // as many for each size: the ring of newest entries is full in all
	value := strings.Repeat("v", 100)
	var next atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for i := next.Add(1); i <= writes; i = next.Add(1) {
				// Scattered, so that the levels overlap as those of a real state.
				if _, err := s.Propose(b.Context(), fmt.Appendf(nil, "%024d=%s", i*7919%int64(keys), value)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// liveHeap is what the garbage collector finds in use.
func liveHeap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what finalizers freed
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// watchGaps returns the longest time between two commits of the state machine while callers keep it busy: for a second, or
// while f runs.
func watchGaps(b *testing.B, s *Store, m *machine, f func()) time.Duration {
	b.Helper()
	var last, longest atomic.Int64
	last.Store(time.Now().UnixNano())
	m.onCommit = func(Position) {
		now := time.Now().UnixNano()
		if gap := now - last.Swap(now); gap > longest.Load() {
			longest.Store(gap)
		}
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	for c := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-done:
					return
				default:
				}
				if _, err := s.Propose(b.Context(), fmt.Appendf(nil, "%024d=%d", c, i)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	if f != nil {
		f()
	} else {
		<-time.After(time.Second)
	}
	close(done)
	wg.Wait()
	return time.Duration(longest.Load())
}
