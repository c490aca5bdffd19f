package raftstore

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	raftbench "github.com/hashicorp/raft/bench"
)

// openTestLog opens a log store of its own.
func openTestLog(tb testing.TB, fs vfs.FS, dir string, k knobs) *logStore {
	tb.Helper()
	cfg := newNode(onFS(fs), withKnobs(k)).cfg.withDefaults()
	f := newFault(cfg.Fatal, cfg.Logger)
	cache := pebble.NewCache(1 << 20)
	defer cache.Unref()
	dbs := &databases{
		fs: fs, caches: caches{log: cache, state: cache}, fault: f, cfg: &cfg, metrics: newStoreMetrics(nil), aside: &aside{}, lowSpace: func() {},
	}
	db := must[*pebble.DB](tb)(dbs.openLog(dir))
	tb.Cleanup(func() {
		if f.err() == nil {
			if err := db.Close(); err != nil {
				tb.Error(err)
			}
		}
	})
	return must[*logStore](tb)(openLogStore(db, f, cfg.LogCacheBytes, newStoreMetrics(nil), k))
}

// The benchmarks that come with raft, for any store.
func BenchmarkRaftSuite(b *testing.B) {
	for _, part := range []struct {
		name   string
		log    func(*testing.B, raft.LogStore)
		stable func(*testing.B, raft.StableStore)
	}{
		{name: "FirstIndex", log: raftbench.FirstIndex},
		{name: "LastIndex", log: raftbench.LastIndex},
		{name: "GetLog", log: raftbench.GetLog},
		{name: "StoreLog", log: raftbench.StoreLog},
		{name: "StoreLogs", log: raftbench.StoreLogs},
		{name: "DeleteRange", log: raftbench.DeleteRange},
		{name: "Set", stable: raftbench.Set},
		{name: "Get", stable: raftbench.Get},
		{name: "SetUint64", stable: raftbench.SetUint64},
		{name: "GetUint64", stable: raftbench.GetUint64},
	} {
		b.Run(part.name, func(b *testing.B) {
			s := openTestLog(b, vfs.Default, b.TempDir(), knobs{sparseLog: true})
			if part.log != nil {
				part.log(b, s)
			} else {
				part.stable(b, s)
			}
		})
	}
}

// BenchmarkAppend compares appends with what the disk can do: writing the same bytes and syncing, interleaved in the same run,
// so that the ratio holds on a noisy machine.
func BenchmarkAppend(b *testing.B) {
	for _, batch := range []int{1, 16, 64, 512} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			dir := b.TempDir()
			s := openTestLog(b, vfs.Default, dir, knobs{})
			raw := must[vfs.File](b)(vfs.Default.Create(dir+"/raw", vfs.WriteCategoryUnspecified))
			defer func() { _ = raw.Close() }()
			payload := make([]byte, 128)
			plain := make([]byte, batch*(len(payload)+32))
			next := uint64(1)
			var ours, disk time.Duration
			for b.Loop() {
				logs := make([]*raft.Log, batch)
				for i := range logs {
					logs[i] = &raft.Log{Index: next, Term: 1, Data: payload, AppendedAt: time.Now()}
					next++
				}
				t0 := time.Now()
				if err := s.StoreLogs(logs); err != nil {
					b.Fatal(err)
				}
				t1 := time.Now()
				if _, err := raw.Write(plain); err != nil {
					b.Fatal(err)
				}
				if err := raw.Sync(); err != nil {
					b.Fatal(err)
				}
				ours += t1.Sub(t0)
				disk += time.Since(t1)
			}
			n := float64(b.N)
			b.ReportMetric(float64(ours.Microseconds())/n, "append-µs")
			b.ReportMetric(float64(disk.Microseconds())/n, "raw-µs")
			b.ReportMetric(float64(ours)/float64(disk), "append/raw")
			b.ReportMetric(n*float64(batch)/ours.Seconds(), "entries/s")
		})
	}
}

// BenchmarkPropose is the whole path of one node on a real disk: pack, append, sync, apply, answer.
func BenchmarkPropose(b *testing.B) {
	for _, callers := range []int{1, 16, 64, 256, 1024} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			s, _ := start(b, onFS(vfs.Default), inDir(b.TempDir()), overTCP(b), with(func(c *Config) { c.CacheBytes = 0 }))
			value := make([]byte, 100)
			var n atomic.Int64
			before := s.Applied().Index
			b.ResetTimer()
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					for {
						i := n.Add(1)
						if i > int64(b.N) {
							return
						}
						if _, err := s.Propose(b.Context(), fmt.Appendf(nil, "key%08d=%s", i%100000, value)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
			b.ReportMetric(float64(b.N)/float64(s.Applied().Index-before), "commands/entry")
		})
	}
}

func BenchmarkView(b *testing.B) {
	s, _ := start(b)
	propose(b, s, "a=b")
	b.ReportAllocs()
	for b.Loop() {
		v, err := s.View()
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err := v.Get([]byte("\x02a")); err != nil {
			b.Fatal(err)
		}
		if err := v.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkConfirm(b *testing.B) {
	s, _ := start(b)
	for b.Loop() {
		if _, err := s.Confirm(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
