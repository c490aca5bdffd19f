package raftstore

import (
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
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
