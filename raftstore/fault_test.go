package raftstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"machineid/internal/testkit/injected"
)

var errInjected = errors.New("injected by the test")

// The kinds of faults of a faulty life.
const (
	writeFailed = "a write that fails"
	writeSpared = "a write that is spared" // since Pebble would end the process of the test
)

// faultyLife opens a node on a disk whose write number `at` fails, uses it, and returns the commands that were acknowledged,
// how many writes there were, and what the node said: nil if it never noticed.
func faultyLife(t *testing.T, disk *vfs.MemFS, at int64, faults *injected.Faults) (acked []string, writes int64, said error) {
	t.Helper()
	var n atomic.Int64
	var closing atomic.Bool
	fs := errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind.ReadOrWrite() == errorfs.OpIsRead || n.Add(1) != at {
			return nil
		}
		if closing.Load() && rotatesWAL(op) {
			faults.Did(writeSpared)
			return nil
		}
		faults.Did(writeFailed)
		return errInjected
	}))
	nd := newNode(onFS(fs))
	done := make(chan struct{})
	var opened *Store
	go func() { // a fault ends this goroutine wherever it is
		defer close(done)
		s, err := nd.open()
		if err != nil {
			said = err
			return
		}
		opened = s
		for i := range 6 {
			cmd := fmt.Sprintf("k%d", i)
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			_, err := retryPropose(ctx, s, cmd+"=v")
			cancel()
			if err != nil {
				return
			}
			acked = append(acked, cmd)
			if i == 3 {
				_ = snapshot(s) // may fail, and then the fault says so
			}
		}
	}()
	<-done
	closing.Store(true)
	if opened != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := opened.Close(ctx); err != nil && said == nil {
			said = err
		}
	}
	select {
	case err := <-nd.fatal:
		said = err
	default:
	}
	return acked, n.Load(), said
}

// rotatesWAL says whether op belongs to Pebble's change to a new WAL. When that fails, Pebble panics (db.go, rotateWAL) with its
// mutex unlocked, and its callers' deferred Unlock then ends the process: fail-stop, but nothing that a test can survive.
func rotatesWAL(op errorfs.Op) bool {
	return strings.HasSuffix(op.Path, ".log") || strings.HasSuffix(op.Path, nameLog) || strings.HasSuffix(op.Path, stateName(1))
}

// snapshot makes raft take a snapshot. A fault on raft's own goroutine leaves nobody to answer.
func snapshot(s *Store) error {
	done := make(chan error, 1)
	future := s.raft.Snapshot()
	go func() { done <- future.Error() }()
	select {
	case err := <-done:
		return err
	case <-s.fault.tripped():
		return s.fault.err()
	}
}

// retryPropose proposes until the node leads.
func retryPropose(ctx context.Context, s *Store, cmd string) (Result, error) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		res, err := s.Propose(ctx, []byte(cmd))
		if err == nil || Unknown(err) || !errors.Is(err, ErrNotLeader) {
			return res, err
		}
		select {
		case <-tick.C:
		case <-s.fault.tripped():
			return Result{}, s.fault.err()
		case <-ctx.Done():
			return Result{}, ctx.Err()
		}
	}
}

// Whichever write fails, the node either goes on unharmed or stops for good and says why; what it acknowledged is there after
// the next start on the repaired disk, also if the machine crashed meanwhile (R5).
func TestFaultAtEveryWrite(t *testing.T) {
	faults := injected.Needed(t, writeFailed)
	_, writes, said := faultyLife(t, vfs.NewCrashableMem(), -1, faults)
	if said != nil {
		t.Fatalf("without a fault: %v", said)
	}
	step := stride(5)
	tried, stopped := 0, 0
	for at := 1 + rand.Int64N(step); at <= writes+5; at += step {
		disk := vfs.NewCrashableMem()
		before := faults.Count(writeFailed) + faults.Count(writeSpared)
		acked, n, said := faultyLife(t, disk, at, faults)
		tried++
		if met := faults.Count(writeFailed) + faults.Count(writeSpared) - before; met != 1 && at <= n {
			t.Errorf("write %d of %d was to fail, and %d did", at, n, met)
		}
		if said != nil {
			stopped++
			if !strings.Contains(said.Error(), errInjected.Error()) {
				t.Errorf("write %d: it says %v", at, said)
			}
		} else if len(acked) != 6 {
			t.Errorf("write %d: only %d commands were acknowledged, and nothing was said", at, len(acked))
		}
		after, _ := start(t, onFS(disk.CrashClone(vfs.CrashCloneCfg{})))
		for _, key := range acked {
			if v, ok := valueOf(t, after, key); !ok || v != "v" {
				t.Errorf("write %d: %s was acknowledged and is %q, %v", at, key, v, ok)
			}
		}
		stop(t, after)
	}
	failed := faults.Count(writeFailed)
	t.Logf("%d of %d writes made to fail one at a time, of %d tries; %d of them stopped the node", failed, writes, tried, stopped)
	if failed < tried/2 || stopped < failed/2 {
		t.Error("too few failed, or stopped the node, for the check to mean anything")
	}
}

// A machine that panics stops the node, and nobody is told that the command took effect.
func TestUnreadableCommand(t *testing.T) {
	n := newNode()
	s := must[*Store](t)(n.open())
	waitLeading(t, s)
	_, err := s.Propose(t.Context(), []byte("?"))
	if !Unknown(err) {
		t.Errorf("propose: %v", err)
	}
	if fault := <-n.fatal; !strings.Contains(fault.Error(), "unreadable command") {
		t.Errorf("fault: %v", fault)
	}
	if err := s.Health(); err == nil || !strings.Contains(err.Error(), "fault") {
		t.Errorf("health: %v", err)
	}
	if _, ok := s.Leading(); ok {
		t.Error("it still says that it leads")
	}
	if _, err := s.View(); err == nil {
		t.Error("it still shows its state")
	}
	stop(t, s)
}

// Whoever comes to a fault goes no further, the first and all others (R5).
func TestNobodyGoesOnAfterAFault(t *testing.T) {
	f := newFault(func(error) { runtime.Goexit() }, nil)
	for i := range 3 {
		ended, went := make(chan struct{}), false
		go func() {
			defer close(ended)
			if i == 2 {
				f.halt()
			} else {
				f.fail(errInjected)
			}
			went = true
		}()
		<-ended
		if went {
			t.Errorf("number %d went on", i)
		}
	}
}

// A Fatal hook that returns is a bug that must not pass unseen.
func TestFatalHookMustNotReturn(t *testing.T) {
	f := newFault(func(error) {}, newNode().cfg.withDefaults().Logger)
	defer func() {
		if p := recover(); p == nil {
			t.Error("no panic")
		}
	}()
	f.fail(errInjected)
}

// A commit that fails ends the process, whichever way Pebble says so (R5): as a rule through Fatalf, and as an error of a database that takes no writes.
func TestACommitThatFailsIsAFault(t *testing.T) {
	for name, write := range map[string]func(s *logStore) error{
		"append": store(4, 6, 1), "truncate": del(3, 3), "install": install(2, Position{Index: 3, Term: 1}),
		"vote":     func(s *logStore) error { return s.SetUint64([]byte(keyCurrentTerm), 7) },
		"identity": func(s *logStore) error { return s.setIdent([]byte("{}")) },
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode()
			whole := follower(t, n.cfg.FS, 3, 1)
			dir := whole.layout.path(nameLog)
			if err := closeParts(whole); err != nil {
				t.Fatal(err)
			}
			f := newFault(n.cfg.Fatal, nil)
			db := must[*pebble.DB](t)(pebble.Open(dir, &pebble.Options{FS: n.cfg.FS, ReadOnly: true, Logger: pebbleLogger{fault: f, logger: n.cfg.withDefaults().Logger}}))
			s := must[*logStore](t)(openLogStore(db, f, 0, newStoreMetrics(nil), knobs{}))
			ended, acknowledged := make(chan struct{}), false
			go func() {
				defer close(ended) // a fault ends this goroutine
				acknowledged = write(s) == nil
			}()
			<-ended
			if err := f.err(); acknowledged || !errors.Is(err, pebble.ErrReadOnly) {
				t.Errorf("acknowledged %v, fault: %v", acknowledged, err)
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestAFaultIsSaidBeforeTheEnd: the process ends when what it says of the fault is written, and in any case.
func TestAFaultIsSaidBeforeTheEnd(t *testing.T) {
	const how = "RAFTSTORE_TEST_FATAL"
	if hangs := os.Getenv(how); hangs != "" {
		var said bytes.Buffer
		Config{Logger: slog.New(slog.NewTextHandler(&said, nil)), Flush: func() {
			_, _ = os.Stdout.Write(said.Bytes())
			if hangs == "hangs" {
				select {}
			}
		}}.withDefaults().Fatal(errors.New("the disk is gone"))
	}
	for _, flush := range []string{"returns", "hangs"} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), how+"="+flush)
		out, err := cmd.Output()
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok || exit.ExitCode() != exitFault || !strings.Contains(string(out), "the disk is gone") {
			t.Errorf("a flush that %s: %v, %q", flush, err, out)
		}
	}
}
