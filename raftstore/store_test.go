package raftstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/go-hclog"

	"machineid/internal/testkit/bubble"
)

// A lone node forms a cluster, leads, applies, shows what it applied, and has all of it after a restart, without applying
// anything again.
func TestOneNode(t *testing.T) {
	noLeaks(t)
	fs := vfs.NewMem()
	var at Position
	t.Run("first run", func(t *testing.T) {
		s, m := start(t, onFS(fs))
		for i := range 10 {
			res := propose(t, s, fmt.Sprintf("k%d=v%d", i, i))
			if res.Outcome != uint64(i+1) {
				t.Errorf("outcome %v, want %d", res.Outcome, i+1)
			}
			if got := s.Applied(); got != res.Position {
				t.Errorf("applied %v after the answer for %v", got, res.Position)
			}
			at = res.Position
		}
		if v, ok := valueOf(t, s, "k7"); !ok || v != "v7" {
			t.Errorf("k7 is %q, %v", v, ok)
		}
		if err := s.Health(); err != nil {
			t.Errorf("health: %v", err)
		}
		if id, _ := s.Leader(); id != "n1" {
			t.Errorf("leader is %q", id)
		}
		if n := len(m.committed); n != 10 {
			t.Errorf("Committed was called %d times, want 10", n)
		}
	})
	t.Run("second run", func(t *testing.T) {
		s, m := start(t, onFS(fs))
		if len(m.restored) != 1 || m.restored[0] != at {
			t.Errorf("restored at %v, want once at %v", m.restored, at)
		}
		if n := m.applies.Load(); n != 0 {
			t.Errorf("%d commands were applied again", n)
		}
		if res := propose(t, s, "k0=again"); res.Outcome != uint64(11) || res.Index <= at.Index {
			t.Errorf("result %+v after %v", res, at)
		}
		if v, _ := valueOf(t, s, "k9"); v != "v9" {
			t.Errorf("k9 is %q", v)
		}
	})
}

func TestOneNodeOverTCP(t *testing.T) {
	noLeaks(t)
	t.Run("run", func(t *testing.T) {
		s, _ := start(t, onFS(vfs.Default), inDir(t.TempDir()+"/deep/down"), overTCP(t))
		if res := propose(t, s, "a=b"); res.Outcome != uint64(1) {
			t.Errorf("outcome %v", res.Outcome)
		}
	})
}

func TestProposeRefuses(t *testing.T) {
	s, m := start(t)
	if _, err := s.Propose(t.Context(), make([]byte, MaxPackBytes+1)); !errors.Is(err, ErrTooLarge) || Unknown(err) {
		t.Errorf("too large: %v", err)
	}
	big := make([]byte, MaxPackBytes)
	if _, err := s.Propose(t.Context(), big); err != nil {
		t.Errorf("the largest command: %v", err)
	}
	if res := propose(t, s, "!no"); res.Outcome != "refused" {
		t.Errorf("a refusal is %v", res.Outcome)
	}
	if n := m.applies.Load(); n != 2 {
		t.Errorf("%d applied, want 2", n)
	}
	stop(t, s)
	if _, err := s.Propose(t.Context(), []byte("x")); !errors.Is(err, ErrClosed) || Unknown(err) {
		t.Errorf("closed: %v", err)
	}
	if _, err := s.View(); !errors.Is(err, ErrClosed) {
		t.Errorf("view of a closed store: %v", err)
	}
}

// Closing in the middle of everything answers everyone, and each answer is true: what was acknowledged is there, what was
// refused is not (R9).
func TestCloseUnderLoad(t *testing.T) {
	noLeaks(t)
	t.Run("run", func(t *testing.T) {
		fs := vfs.NewMem()
		s, _ := start(t, onFS(fs))
		results := make([]error, 64)
		begun := make(chan struct{}, len(results))
		var callers sync.WaitGroup
		for i := range results {
			callers.Go(func() {
				for n := 0; ; n++ {
					_, err := s.Propose(t.Context(), fmt.Appendf(nil, "%d.%d=v", i, n))
					if n == 0 {
						begun <- struct{}{}
					}
					if err != nil {
						results[i] = fmt.Errorf("%d.%d: %w", i, n, err)
						return
					}
				}
			})
		}
		for range results {
			<-begun
		}
		stop(t, s)
		callers.Wait()
		after, _ := start(t, onFS(fs))
		for _, err := range results {
			key, _, _ := strings.Cut(err.Error(), ":")
			if _, there := valueOf(t, after, key); there && !Unknown(err) {
				t.Errorf("%v, but it took effect", err)
			}
			var i, n int
			if _, err := fmt.Sscanf(key, "%d.%d", &i, &n); err != nil {
				t.Fatal(err)
			}
			if n > 0 {
				if _, there := valueOf(t, after, fmt.Sprintf("%d.%d", i, n-1)); !there {
					t.Errorf("%d.%d was acknowledged and is lost", i, n-1)
				}
			}
		}
	})
}

// Close does not wait for ever for a View that nobody closes.
func TestCloseWithOpenView(t *testing.T) {
	s := must[*Store](t)(newNode().open())
	v := must[*View](t)(s.View())
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := s.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("close: %v", err)
	}
	if err := v.Close(); err != nil {
		t.Error(err)
	}
}

// What raft and Pebble log arrives as attributes under static messages.
func TestLogging(t *testing.T) {
	var out bytes.Buffer
	l := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	newRaftLogger(l).Named("x").With("a-b", 1).Warn("something", "fmt", hclog.Fmt("%d/%d", 1, 2))
	pebbleLogger{logger: l, name: "log"}.Errorf("flush %d failed", 7)
	newRaftLogger(l).StandardLogger(nil).Print("plain")
	for _, want := range []string{
		`level=WARN msg=raft event=something a_b=1 fmt=1/2`,
		`level=ERROR msg=pebble db=log event="flush 7 failed"`,
		`level=WARN msg=raft event=plain`,
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, &out)
		}
	}
}

// Closing waits for what is under way: a command that others have got is answered with what became of it (R9).
func TestCloseWaitsForWhatIsUnderWay(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 3)
		defer c.stop()
		l := c.leader()
		for _, f := range c.followers() {
			c.net.slow(f.addr, l.addr, 100*time.Millisecond)
		}
		before, answered := l.store.raft.LastIndex(), make(chan error, 1)
		go func() {
			_, err := l.store.Propose(t.Context(), []byte("a=1"))
			answered <- err
		}()
		for l.store.raft.LastIndex() == before {
			time.Sleep(time.Millisecond)
		}
		if err := l.store.Close(within(t, 10*time.Second)); err != nil {
			t.Error(err)
		}
		if err := <-answered; err != nil {
			t.Errorf("the command under way: %v", err)
		}
	})
}
