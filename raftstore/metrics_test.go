package raftstore

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"machineid/internal/testkit/bubble"
)

// gather returns the sum of each metric's series (of a histogram: how much it counted), and the list of all with labels and help.
func gather(tb testing.TB, reg *prometheus.Registry) (values map[string]float64, list string) {
	tb.Helper()
	families, err := reg.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	values = map[string]float64{}
	var out strings.Builder
	for _, f := range families {
		series := map[string]bool{}
		for _, m := range f.GetMetric() {
			values[f.GetName()] += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			series["{"+strings.Join(labels, ",")+"}"] = true
		}
		fmt.Fprintf(&out, "%s %s: %s\n", f.GetName(), strings.ToLower(f.GetType().String()), f.GetHelp())
		for _, l := range slices.Sorted(func(yield func(string) bool) {
			for l := range series {
				if l != "{}" && !yield(l) {
					return
				}
			}
		}) {
			fmt.Fprintf(&out, "  %s\n", l)
		}
	}
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		tb.Fatal(err)
	}
	for _, p := range problems {
		tb.Errorf("%s: %s", p.Metric, p.Text)
	}
	return values, out.String()
}

// The metrics are those of the golden file, keep Prometheus' conventions, count, and go away with the store, so that the next one
// can register.
func TestMetrics(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	for range 2 {
		s, _ := start(t, onFS(newQuotaFS(vfs.NewMem(), disk)), with(smallBallast), with(func(c *Config) { c.Registerer = reg }))
		propose(t, s, "a=b")
		if err := snapshot(s); err != nil {
			t.Fatal(err)
		}
		_, rc, err := s.snaps.Open(idLive)
		if err != nil {
			t.Fatal(err)
		}
		_ = rc.Close()
		eventually(t, "the leader is counted", func() bool {
			got, _ := gather(t, reg)
			return got["raftstore_leader_changes_total"] > 0
		})
		got, list := gather(t, reg)
		for name, want := range map[string]float64{
			"raftstore_proposals_total": 1, "raftstore_apply_commands_total": 1, "raftstore_commit_seconds": 1, "raftstore_leading": 1,
			"raftstore_ready": 1, "raftstore_raft_voters": 1, "raftstore_snapshot_seconds": 1, "raftstore_checkpoint_seconds": 1,
			"raftstore_ballast_bytes": 2 * mib, "raftstore_disk_full": 0, "raftstore_applied_lag_entries": 0,
		} {
			if got[name] != want {
				t.Errorf("%s is %v, want %v", name, got[name], want)
			}
		}
		for _, name := range []string{
			"raftstore_log_fsync_seconds", "raftstore_pebble_wal_written_bytes_total", "raftstore_pebble_flushes_total",
			"raftstore_disk_left_bytes", "raftstore_raft_commit_index", "raftstore_applied_index",
		} {
			if got[name] == 0 {
				t.Errorf("%s is 0", name)
			}
		}
		goldenText(t, "metrics.txt", list)
		stop(t, s)
	}
	if families, err := reg.Gather(); err != nil || len(families) != 0 {
		t.Errorf("left behind: %d families, %v", len(families), err)
	}
}

// goldenText compares with a file that may change: dashboards and alerts depend on it, so whoever changes it sees it in a diff.
func goldenText(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *updateFlag {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s changed (-want +got), run with -update if so meant:\n%s", path, diff)
	}
}

// A scrape does not wait for a database that waits for a disk: it tells the figures of before, and Close is told to wait.
func TestScrapeOfStuckDatabase(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		close(gate)
		p := newPebbleStats(newCaches(&Config{}), func() *pebble.Metrics { <-gate; return &pebble.Metrics{} }, func() *pebble.Metrics { return nil },
			func() map[string]int64 { return nil })
		reg := prometheus.NewPedanticRegistry()
		reg.MustRegister(p)
		_, healthy := gather(t, reg)
		gate = make(chan struct{})
		for range 3 {
			began := time.Now()
			_, stuck := gather(t, reg)
			if took := time.Since(began); took != scrapeWait || stuck != healthy || healthy == "" {
				t.Errorf("after %s:\n%s", took, stuck)
			}
		}
		go close(gate)
		p.stop()
		if p.refresh() != nil {
			t.Error("it reads a closed database")
		}
	})
}

// lines is a log that may be written to from anywhere.
type lines struct {
	mu  sync.Mutex
	out bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.String()
}

// A slow operation is told while it is under way, by log and metric, whichever file system is below.
func TestSlowDisk(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var out lines
		disk := &stallingFS{}
		reg := prometheus.NewPedanticRegistry()
		s, _ := start(t, onFS(disk.over(vfs.NewMem())), with(func(c *Config) {
			c.DiskSlowAfter, c.Registerer, c.StuckLeader = time.Second, reg, time.Minute
			c.Logger = slog.New(slog.NewTextHandler(&out, nil))
		}))
		disk.hold("data/log")
		go func() { _, _ = s.Propose(context.Background(), []byte("a=1")) }()
		time.Sleep(6 * time.Second)
		got, _ := gather(t, reg)
		if got["raftstore_disk_slow_total"] == 0 || got["raftstore_stuck_write_seconds"] < 5 || got["raftstore_ready"] != 0 {
			t.Errorf("slow %v, stuck %v, ready %v", got["raftstore_disk_slow_total"], got["raftstore_stuck_write_seconds"],
				got["raftstore_ready"])
		}
		for _, want := range []string{`msg="the disk is slow"`, `msg="a write hangs" write="appending to the log"`} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s is missing in\n%s", want, out.String())
			}
		}
		disk.release()
	})
}

// What Pebble reports is counted and logged, without waiting; a background error ends the process.
func TestPebbleEvents(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var out lines
		m, looked := newStoreMetrics(nil), 0
		ended := make(chan error, 1)
		logger := slog.New(slog.NewTextHandler(&out, nil))
		f := newFault(func(err error) { ended <- err; runtime.Goexit() }, logger)
		l := (&events{
			log: pebbleLogger{fault: f, logger: logger, name: "state"}, metrics: m, aside: &aside{}, lowSpace: func() { looked++ },
		}).listener()
		l.WriteStallBegin(pebble.WriteStallBeginInfo{Reason: "memtables"})
		time.Sleep(3 * time.Second)
		l.WriteStallEnd()
		l.LowDiskSpace(pebble.LowDiskSpaceInfo{AvailBytes: 5, TotalBytes: 100, PercentThreshold: 5})
		l.BackgroundError(errInjected)
		l.BackgroundError(errInjected)
		if err := <-ended; !strings.Contains(err.Error(), "background work failed") {
			t.Error(err)
		}
		synctest.Wait()
		reg := prometheus.NewPedanticRegistry()
		reg.MustRegister(m.collectors...)
		got, _ := gather(t, reg)
		if got["raftstore_write_stalls_total"] != 1 || got["raftstore_write_stall_seconds_total"] != 3 ||
			got["raftstore_background_errors_total"] != 2 || looked != 1 {
			t.Errorf("counted %v, looked %d", got, looked)
		}
		for _, want := range []string{"writes stall", "writes go on", "after=3s", "disk space runs low"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s is missing in\n%s", want, out.String())
			}
		}
	})
}
