package raftstore

import (
	"context"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"machineid/internal/testkit/program"
)

// What the folder takes is what du tells: allocated blocks, each file once, and all of it.
func TestFolderUsageIsWhatDuTells(t *testing.T) {
	du := program.Find(t, "du", "coreutils")
	dir := t.TempDir()
	s, _ := start(t, onFS(vfs.Default), inDir(dir), with(func(c *Config) { c.BallastBytes = 4 * mib }))
	for i := range 200 {
		propose(t, s, "k"+strconv.Itoa(i)+"="+strings.Repeat("v", 10_000))
	}
	b := must[*Backup](t)(s.Backup(t.Context())) // links the state's files
	defer func() { _ = b.Close() }()
	ask := func(names ...string) map[string]int64 {
		args := []string{"-s", "-B1"}
		for _, name := range names {
			args = append(args, filepath.Join(dir, name))
		}
		out, err := exec.CommandContext(context.WithoutCancel(t.Context()), du, args...).Output()
		if err != nil {
			t.Log(err) // a file went meanwhile
		}
		told := map[string]int64{}
		for line := range strings.Lines(string(out)) {
			size, path, _ := strings.Cut(strings.TrimSpace(line), "\t")
			told[strings.TrimSuffix(filepath.Base(path), "-1")] = must[int64](t)(strconv.ParseInt(size, 10, 64))
		}
		return told
	}
	var told, want map[string]int64
	same := func() bool {
		told, want = layout{fs: s.cfg.FS, root: dir}.usage(), ask(nameLog, stateName(1), nameOut, nameStaging, nameBallast)
		for part, bytes := range want {
			if told[part] != bytes {
				return false
			}
		}
		return len(want) == 5
	}
	defer func() { t.Logf("told %v, du %v", told, want) }()
	eventually(t, "each part takes what du tells", same)
	if told[nameBallast] < 4*mib || told[nameLog] < 2_000_000 {
		t.Errorf("told %v", told)
	}
	eventually(t, "they come to the whole", func() bool {
		sum := int64(0)
		for _, bytes := range (layout{fs: s.cfg.FS, root: dir}).usage() {
			sum += bytes
		}
		whole := ask("")[filepath.Base(dir)]
		return whole > 0 && whole-sum >= 0 && whole-sum <= 4096 // the folder itself
	})
}

// In memory there are no blocks: lengths are told, and a folder that is not there takes nothing.
func TestFolderUsageInMemory(t *testing.T) {
	s, _ := start(t)
	if got := s.layout.usage(); len(got) != len(folderParts) || got[nameLog] == 0 || got[partState] == 0 || got[partOther] == 0 {
		t.Errorf("told %v", got)
	}
	for part, bytes := range (layout{fs: vfs.NewMem(), root: "nowhere"}).usage() {
		if bytes != 0 {
			t.Errorf("%s takes %d bytes of nothing", part, bytes)
		}
	}
}
