package raftstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/metrics"
	"github.com/hashicorp/raft-wal/verifier"

	"machineid/internal/testkit/bubble"
	"machineid/internal/testkit/injected"
)

// audit is raft-wal's verifier over one run of a node: at each checkpoint of the leader, the node reads its log back and compares it
// with what the leader and the node itself wrote.
type audit struct {
	raft.LogStore
	report func(verifier.VerificationReport)
	garble atomic.Bool // a mutant: what is written is not what was sent

	reads sync.RWMutex // held across a read of the verifier
	ended bool

	mu      sync.Mutex // held across a write
	last    uint64     // newest entry that was written here
	current *verifier.LogStore
	stale   *atomic.Bool // of current
}

var _ raft.LogStore = (*audit)(nil)

// newAudit watches a log. report gets each comparison that could be made: its Err is nil or says what differs.
func newAudit(logs raft.LogStore, report func(verifier.VerificationReport)) *audit {
	a := &audit{LogStore: logs, report: report}
	a.begin()
	return a
}

// begin starts the sums anew: the verifier adds up what is written and does not know that a conflict, or an installed snapshot,
// takes entries back. What it compared before is of no use either, because entries may have changed under it.
func (a *audit) begin() {
	if a.current != nil {
		a.stale.Store(true)
		_ = a.current.Close() // of the verifier alone: the log below is no io.Closer
	}
	stale := &atomic.Bool{}
	a.stale = stale
	a.current = verifier.NewLogStore(auditedLog{a.LogStore, a}, isCheckpoint, func(r verifier.VerificationReport) {
		switch {
		case errors.Is(r.Err, verifier.ErrRangeMismatch), errors.Is(r.Err, raft.ErrLogNotFound), stale.Load(): // truncated since
		default:
			a.report(r)
		}
	}, &metrics.NoOpCollector{})
}

// auditedLog is what the verifier reads.
type auditedLog struct {
	raft.LogStore
	a *audit
}

func (l auditedLog) GetLog(index uint64, into *raft.Log) error {
	l.a.reads.RLock()
	defer l.a.reads.RUnlock()
	if l.a.ended {
		return raft.ErrLogNotFound
	}
	return l.LogStore.GetLog(index, into)
}

// end stops the verifier's reads: nobody may read while the log is closed.
func (a *audit) end() {
	a.reads.Lock()
	defer a.reads.Unlock()
	a.ended = true
}

// isCheckpoint: an entry without data holds no command for us (pack.go).
func isCheckpoint(l *raft.Log) (bool, error) {
	return l.Type == raft.LogCommand && len(l.Data) == 0, nil
}

func (a *audit) StoreLog(l *raft.Log) error { return a.StoreLogs([]*raft.Log{l}) }

func (a *audit) StoreLogs(logs []*raft.Log) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.garble.Load() {
		logs = garbled(logs)
	}
	if a.last != 0 && logs[0].Index != a.last+1 {
		a.begin()
	}
	err := a.current.StoreLogs(logs)
	a.last = logs[len(logs)-1].Index
	return err
}

func garbled(logs []*raft.Log) []*raft.Log {
	out := make([]*raft.Log, len(logs))
	for i, l := range logs {
		changed := *l
		if len(l.Data) > 0 && l.Type == raft.LogCommand {
			changed.Data = bytes.Clone(l.Data)
			changed.Data[len(l.Data)-1] ^= 0x10
		}
		out[i] = &changed
	}
	return out
}

func (a *audit) DeleteRange(lo, hi uint64) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if hi >= a.last {
		a.begin()
	}
	return a.LogStore.DeleteRange(lo, hi)
}

func (a *audit) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stale.Store(true)
	_ = a.current.Close()
}

// auditor gathers what the nodes of a cluster report.
type auditor struct {
	mu     sync.Mutex
	audits []*audit
	ids    []string // of audits
	equal  int
	wrong  []string
}

func (o *auditor) watching() option {
	return with(func(c *Config) {
		c.wrapLog = func(logs raft.LogStore) raft.LogStore {
			a := newAudit(logs, func(r verifier.VerificationReport) { o.take(c.ID, r) })
			o.mu.Lock()
			defer o.mu.Unlock()
			o.audits, o.ids = append(o.audits, a), append(o.ids, c.ID)
			return a
		}
	})
}

func (o *auditor) take(id string, r verifier.VerificationReport) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if r.Err != nil {
		o.wrong = append(o.wrong, fmt.Sprintf("%s: %v", id, r.Err))
		return
	}
	o.equal++
}

func (o *auditor) found() (equal int, wrong []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.equal, append([]string(nil), o.wrong...)
}

// of returns the watch over the newest run of a node.
func (o *auditor) of(id string) (newest *audit) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, a := range o.audits {
		if o.ids[i] == id {
			newest = a
		}
	}
	return newest
}

// close ends what watches; the nodes are stopped before.
func (o *auditor) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, a := range o.audits {
		a.close()
	}
}

// TestVerifier runs raft-wal's verifier over the logs of a cluster that is hurt all the time: what a node reads back is what the
// leader wrote. Two mutants show that it would tell: a byte that changes in a stored entry, and one that changes on its way.
func TestVerifier(t *testing.T) {
	t.Run("faults", func(t *testing.T) {
		compared, faults := 0, &injected.Faults{}
		for _, seed := range testSeeds(t, 1, count(2, 40)) {
			o := &auditor{}
			bubble.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 7))
				// A cache of one byte: entries are read from the disk. Some logs are cut early, so that snapshots are sent.
				c := newCluster(t, 3, o.watching(), with(func(cfg *Config) {
					cfg.LogCacheBytes, cfg.SnapshotThreshold, cfg.TrailingLogs, cfg.SnapshotInterval = 1, 60, 40, time.Second
				}))
				defer o.close()
				defer c.stop()
				stop := make(chan struct{})
				var busy sync.WaitGroup
				busy.Go(func() { writeWithCheckpoints(c, stop) })
				for range 8 {
					nemesis(c, rng, true, faults)
					time.Sleep(time.Duration(50+rng.IntN(700)) * time.Millisecond)
					if rng.IntN(3) == 0 {
						repair(c, true)
					}
				}
				repair(c, true)
				c.leader()
				close(stop)
				busy.Wait()
				c.settle()
			})
			equal, wrong := o.found()
			compared += equal
			for _, w := range wrong {
				t.Errorf("seed %d: %s", seed, w)
			}
		}
		t.Logf("%d ranges of logs were compared; %v", compared, faults)
		if compared < 20 {
			t.Error("too few to mean anything")
		}
	})
	for _, mutant := range []struct {
		name  string
		spoil func(o *auditor, s *Store)
		says  string
	}{
		{"a byte flips on the disk", func(_ *auditor, s *Store) { flipNewest(t, s) }, "storage corruption"},
		{"a byte flips on the way", func(o *auditor, s *Store) { o.of(s.cfg.ID).garble.Store(true) }, "in-flight corruption"},
	} {
		t.Run(mutant.name, func(t *testing.T) {
			o := &auditor{}
			var id string
			bubble.Test(t, func(t *testing.T) {
				c := newCluster(t, 3, o.watching(), with(func(cfg *Config) { cfg.LogCacheBytes = 1 }))
				defer o.close()
				defer c.stop()
				checkpoint(c.leader().store) // from here on all have the same range
				c.settle()
				spoiled := c.followers()[0].store
				id = spoiled.cfg.ID
				propose(t, c.leader().store, "a=1")
				c.settle()
				mutant.spoil(o, spoiled)
				propose(t, c.leader().store, "b=2")
				checkpoint(c.leader().store)
				c.until("it is reported", func() bool { _, wrong := o.found(); return len(wrong) > 0 })
				c.until("the others are compared", func() bool { equal, _ := o.found(); return equal >= 5 })
			})
			if _, wrong := o.found(); len(wrong) != 1 || !strings.HasPrefix(wrong[0], id+":") || !strings.Contains(wrong[0], mutant.says) {
				t.Errorf("reported: %q, want %s of %s alone", wrong, mutant.says, id)
			}
		})
	}
}

// writeWithCheckpoints writes at whoever leads, and has it take a checkpoint now and then.
func writeWithCheckpoints(c *cluster, stop chan struct{}) {
	for n := 0; ; n++ {
		select {
		case <-stop:
			return
		case <-time.After(5 * time.Millisecond):
		}
		c.mu.Lock()
		members := append([]*member(nil), c.members...)
		c.mu.Unlock()
		for _, m := range members {
			s := c.running(m)
			if s == nil {
				continue
			}
			if _, leads := s.Leading(); !leads {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			_, _ = s.Propose(ctx, fmt.Appendf(nil, "w%d=%d", n%10, n))
			cancel()
			if n%10 == 0 {
				checkpoint(s)
			}
		}
	}
}

// checkpoint proposes an entry that holds nothing; whether it is committed does not matter.
func checkpoint(s *Store) { s.raft.Apply(nil, time.Second) }

// flipNewest changes one byte of the newest entry that a node has on its disk.
func flipNewest(tb testing.TB, s *Store) {
	tb.Helper()
	last := must[uint64](tb)(s.log.LastIndex())
	key := logKey(last)
	v := must[[]byte](tb)(s.log.read(key[:]))
	v[len(v)-1] ^= 0x10
	if err := s.logDB.Set(key[:], v, pebble.Sync); err != nil {
		tb.Fatal(err)
	}
}
