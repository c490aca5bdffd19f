package raftstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"machineid/internal/testkit/bubble"
)

// inBackup reads a backup to its end, and reports whether a key is in it.
func inBackup(tb testing.TB, b *Backup, key string) (found bool) {
	tb.Helper()
	raw := must[[]byte](tb)(io.ReadAll(b))
	_, err := Inspect(bytes.NewReader(raw), func(r pebble.Reader) error {
		v, err := getCopy(r, append([]byte{2}, key...))
		found = v != nil
		return err
	})
	if err := errors.Join(err, b.Close()); err != nil {
		tb.Fatal(err)
	}
	return found
}

// A backup holds what was acknowledged before it began, also while an older one is being read.
func TestBackupHoldsWhatWasAcknowledged(t *testing.T) {
	s, _ := start(t)
	first := propose(t, s, "first=1")
	slow := must[*Backup](t)(s.Backup(t.Context()))
	for i := range 20 {
		last := propose(t, s, fmt.Sprintf("revoke%d=1", i))
		b := must[*Backup](t)(s.Backup(t.Context()))
		if b.Position.Index < last.Index || b.Doubt != nil {
			t.Fatalf("index %d was acknowledged, the backup is of %d (%v)", last.Index, b.Position.Index, b.Doubt)
		}
		if !inBackup(t, b, fmt.Sprintf("revoke%d", i)) {
			t.Fatalf("revoke%d is not in it", i)
		}
	}
	if inBackup(t, slow, "revoke0") || slow.Position.Index > first.Index+1 {
		t.Errorf("the slow one changed while it was read: %+v", slow.Position)
	}
}

// Backups that nobody reads to their end do not pile up: those that are open at a time are few, and share what is the same.
func TestBackupsAreBounded(t *testing.T) {
	s, _ := start(t)
	checkpoints := func() int { return len(must[[]string](t)(s.fs.List(s.layout.path(nameOut)))) }
	var open []*Backup
	for i := range backupsAtOnce {
		if i%2 == 0 {
			propose(t, s, "k=1")
		}
		open = append(open, must[*Backup](t)(s.Backup(t.Context())))
	}
	if n := checkpoints(); n != backupsAtOnce/2 {
		t.Errorf("%d checkpoints for %d backups, of which each two are of the same index", n, backupsAtOnce)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := s.Backup(ctx); !errors.Is(err, ErrOverloaded) || !strings.Contains(err.Error(), "4 backups are being read already") {
		t.Errorf("one more: %v", err)
	}
	next := make(chan error, 1)
	go func() {
		b, err := s.Backup(t.Context())
		if err == nil {
			err = b.Close()
		}
		next <- err
	}()
	for range 2 { // closing again gives no second turn
		if err := open[0].Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-next; err != nil {
		t.Errorf("the one that waited for its turn: %v", err)
	}
	for _, b := range open[1:] {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	if len(s.backups) != 0 || checkpoints() != 0 {
		t.Errorf("%d turns and %d checkpoints are left", len(s.backups), checkpoints())
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Backup(gone); !errors.Is(err, context.Canceled) || len(s.backups) != 0 {
		t.Errorf("for nobody: %v, %d turns are taken", err, len(s.backups))
	}
}

// A node that is behind waits, and says what it could not wait for.
func TestBackupOfANodeThatIsBehind(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.stop()
		l, f := c.leader(), c.followers()[0]
		wedge := func(on bool) {
			c.net.mu.Lock()
			c.net.wedged[route{l.addr, f.addr}] = on
			c.net.mu.Unlock()
		}
		acknowledged := propose(t, l.store, "first=1")
		b := must[*Backup](t)(f.store.Backup(t.Context()))
		if b.Position.Index < acknowledged.Index || b.Doubt != nil || !inBackup(t, b, "first") {
			t.Errorf("at once: %d, %v", b.Position.Index, b.Doubt)
		}
		wedge(true)
		acknowledged = propose(t, l.store, "revoke=1")
		go func() {
			time.Sleep(backupWait / 3)
			wedge(false)
		}()
		b = must[*Backup](t)(f.store.Backup(t.Context()))
		if b.Position.Index < acknowledged.Index || b.Doubt != nil || !inBackup(t, b, "revoke") {
			t.Errorf("behind for a moment: %d of %d, %v", b.Position.Index, acknowledged.Index, b.Doubt)
		}
		wedge(true)
		acknowledged = propose(t, l.store, "another=1")
		began, at := time.Now(), f.store.Applied().Index
		b = must[*Backup](t)(f.store.Backup(t.Context()))
		if took := time.Since(began); took > backupWait+time.Second {
			t.Errorf("it took %s", took)
		}
		want := fmt.Sprintf("this node has applied index %d, and the leader %s is at %d", at, l.name, acknowledged.Index)
		if b.Doubt == nil || b.Doubt.Error() != want || b.Position.Index != at || !inBackup(t, b, "revoke") {
			t.Errorf("behind for good: %+v, want %s", b, want)
		}
		// Nobody leads: it is needed most then.
		for _, m := range slices.Concat(c.followers(), []*member{l}) {
			if m != f {
				c.down(m)
			}
		}
		time.Sleep(10 * time.Second)
		b = must[*Backup](t)(f.store.Backup(t.Context()))
		if !errors.Is(b.Doubt, ErrNoLeader) || !inBackup(t, b, "revoke") {
			t.Errorf("nobody leads: %+v", b)
		}
	})
}

// A leader that was deposed and does not know it yet vouches for nothing: others have acknowledged meanwhile.
func TestBackupOfADeposedLeader(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.stop()
		l, o := c.leader(), c.followers()[0]
		propose(t, l.store, "first=1")
		c.settle()
		c.isolate(l, true, true)
		q := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}}
		if err := c.followers()[1].end.InmemTransport.TimeoutNow("x", o.addr, q, new(raft.TimeoutNowResponse)); err != nil {
			t.Fatal(err)
		}
		for leads := false; !leads; _, leads = o.store.Leading() {
			time.Sleep(time.Millisecond)
		}
		acknowledged := propose(t, o.store, "revoke=1")
		if _, ok := l.store.Leading(); !ok {
			t.Fatal("the deposed leader knows it already: this shows nothing")
		}
		b := must[*Backup](t)(l.store.Backup(t.Context()))
		if b.Position.Index >= acknowledged.Index || b.Doubt == nil {
			t.Errorf("index %d of another leader was acknowledged, this one's backup is of %d and says %v", acknowledged.Index, b.Position.Index, b.Doubt)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A leader that is new has in its log what it has not applied yet: who backs up behind it waits for that, or says that it lacks it.
func TestBackupBehindANewLeader(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.stop()
		l, next, last := c.leader(), c.followers()[0], c.followers()[1]
		wedge := func(from, to *member, on bool) {
			c.net.mu.Lock()
			defer c.net.mu.Unlock()
			c.net.wedged[route{from.addr, to.addr}] = on
		}
		wedge(l, last, true)
		wedge(next, last, true)
		acknowledged := propose(t, l.store, "revoke=1")
		c.isolate(l, true, true)
		c.until("the one that has it is elected", func() bool { return next.store.raft.State() == raft.Leader })
		if next.store.raft.LastIndex() < acknowledged.Index {
			t.Fatal("it lacks it: this shows nothing")
		}
		b := must[*Backup](t)(last.store.Backup(t.Context()))
		if b.Position.Index < acknowledged.Index && b.Doubt == nil {
			t.Errorf("index %d was acknowledged, the backup is of %d and says nothing", acknowledged.Index, b.Position.Index)
		}
		if b.Doubt == nil {
			t.Error("no doubt: this shows nothing")
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		wedge(next, last, false)
		c.net.mend()
	})
}

// Only a leader's log holds what was acknowledged, and only while its term lasts.
func TestBackupTrustsALeader(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.stop()
		l, f := c.leader(), c.followers()[0]
		if err := f.store.current(within(t, time.Second)); err != nil {
			t.Error(err)
		}
		l.says(func(s *NodeStatus) { s.State = raft.Follower.String() })
		if err := f.store.current(within(t, time.Second)); !errors.Is(err, ErrNoLeader) {
			t.Errorf("one that does not lead is trusted: %v", err)
		}
		l.says(func(*NodeStatus) {})
		for _, m := range c.members {
			c.net.slow(m.addr, f.addr, 100*time.Millisecond)
		}
		result := make(chan error)
		go func() { result <- f.store.current(within(t, time.Second)) }()
		time.Sleep(150 * time.Millisecond) // the leader has answered, and the voters' answers are under way
		q := &raft.AppendEntriesRequest{
			RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte("n9"), Addr: []byte("at-n9")}, Term: f.store.raft.CurrentTerm() + 1,
		}
		if err := c.followers()[1].end.InmemTransport.AppendEntries("x", f.addr, q, new(raft.AppendEntriesResponse)); err != nil {
			t.Fatal(err)
		}
		if err := <-result; err == nil {
			t.Error("a term that was over is trusted")
		}
	})
}

// The newest backup that was read to its end, and that is known to lack nothing, has its time, also after a restart; no other has.
func TestBackupsAreDated(t *testing.T) {
	fs, wall := vfs.NewMem(), time.Unix(1_700_000_000, 0)
	reg := prometheus.NewPedanticRegistry()
	n := newNode(onFS(fs), with(func(c *Config) { c.Registerer, c.Wall = reg, func() time.Time { return wall } }))
	s := must[*Store](t)(n.open())
	waitLeading(t, s)
	dated := func(want int64) {
		t.Helper()
		if got, _ := gather(t, reg); got["raftstore_backup_timestamp_seconds"] != float64(want) {
			t.Errorf("the last backup is of %v, want %d", got["raftstore_backup_timestamp_seconds"], want)
		}
	}
	dated(0)
	b := must[*Backup](t)(s.Backup(t.Context()))
	if _, err := io.CopyN(io.Discard, b, b.Size-1); err != nil {
		t.Fatal(err)
	}
	must[struct{}](t)(struct{}{}, b.Close())
	dated(0) // it was not read to its end
	b = must[*Backup](t)(s.Backup(t.Context()))
	must[[]byte](t)(io.ReadAll(b))
	must[struct{}](t)(struct{}{}, b.Close())
	dated(wall.Unix())
	first := wall.Unix()
	wall = wall.Add(time.Hour)
	b = must[*Backup](t)(s.Backup(t.Context()))
	b.Unkept()
	must[[]byte](t)(io.ReadAll(b))
	must[struct{}](t)(struct{}{}, b.Close())
	dated(first) // whoever it was sent to may have thrown it away
	if err := s.Kept(Position{Index: s.Applied().Index + 1, Term: b.Position.Term}); !errors.Is(err, ErrRefused) {
		t.Errorf("a backup of what is to come is kept: %v", err)
	}
	dated(first)
	must[struct{}](t)(struct{}{}, s.Kept(b.Position))
	dated(wall.Unix())
	stop(t, s)
	again := must[*Store](t)(newNode(onFS(fs), with(func(c *Config) { c.Registerer = reg })).open())
	defer stop(t, again)
	dated(wall.Unix())
}
