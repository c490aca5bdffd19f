package raftstore

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"machineid/internal/testkit/bubble"
)

// The ballast is what the disk can bear.
func TestBallastSize(t *testing.T) {
	for name, c := range map[string]struct {
		total, left, configured, want int64
	}{
		"large disk":             {64 << 20 * mib, 32 << 20 * mib, 8 * mib, 8 * mib},
		"small disk":             {192 * mib, 192 * mib, 256 * mib, 3 * mib},
		"too small for any":      {63 * mib, 63 * mib, 256 * mib, 0},
		"nearly full at start":   {1 << 30, 12 * mib, 256 * mib, 3 * mib},
		"full at start":          {1 << 30, mib, 256 * mib, 0},
		"none is wanted":         {1 << 30, 1 << 30, -1, 0},
		"larger than configured": {1 << 30, 1 << 30, 2 * mib, 2 * mib},
	} {
		t.Run(name, func(t *testing.T) {
			q := newQuotaFS(vfs.NewMem(), c.total)
			n := newNode(onFS(q), with(func(cfg *Config) { cfg.BallastBytes = c.configured }))
			if name == "larger than configured" {
				before := newNode(onFS(q), with(func(cfg *Config) { cfg.BallastBytes = 4 * mib }))
				s := must[*Store](t)(before.open())
				waitLeading(t, s)
				stop(t, s)
			}
			q.leave(c.left)
			s := must[*Store](t)(n.open())
			defer stop(t, s)
			waitLeading(t, s)
			if got := ballastSize(q); got != c.want || s.space.ballast.size.Load() != c.want {
				t.Errorf("%d bytes, want %d", got, c.want)
			}
		})
	}
}

// A node that starts on a full disk takes essential commands alone from the first moment.
func TestFullAtStart(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		q := newQuotaFS(vfs.NewMem(), disk)
		q.leave(40 * mib)
		parts := must[*Store](t)(openParts(newNode(onFS(q), with(smallBallast)).cfg, &machine{}))
		if parts.space.refuse() == nil {
			t.Error("it is open before the first look")
		}
		if err := closeParts(parts); err != nil {
			t.Error(err)
		}
		s, _ := start(t, onFS(q), with(smallBallast), with(func(c *Config) { c.DiskCheckInterval = time.Hour }))
		if _, err := s.Propose(t.Context(), []byte("a=1")); !errors.Is(err, ErrNoSpace) {
			t.Errorf("at once: %v", err)
		}
		if err := essential(t.Context(), s, "off=1"); err != nil {
			t.Error(err)
		}
	})
}

// A look that has found room opens nothing if a write met a full disk since.
func TestAFullDiskCountsMoreThanALook(t *testing.T) {
	cfg := newNode().cfg.withDefaults()
	s := newSpace(&cfg, &aside{})
	s.fullDisk()
	s.reopen(0, 0, 0, slog.Uint64("disk_left", disk))
	if s.refuse() == nil {
		t.Error("it is open")
	}
	s.reopen(0, 0, 1, slog.Uint64("disk_left", disk))
	if err := s.refuse(); err != nil {
		t.Error(err)
	}
}

// The ballast is on the disk when it is made, and gone from it when it is released, whatever a crash takes.
func TestBallastIsSynced(t *testing.T) {
	for name, wrap := range map[string]func(vfs.FS) vfs.FS{
		"preallocated": func(fs vfs.FS) vfs.FS { return fs }, "filled": func(fs vfs.FS) vfs.FS { return noPreallocation{fs} },
	} {
		t.Run(name, func(t *testing.T) {
			mem := vfs.NewCrashableMem()
			if err := errors.Join(mem.MkdirAll("data", dirMode), (layout{fs: mem}).syncDir("")); err != nil {
				t.Fatal(err)
			}
			b := &ballast{fs: wrap(mem), dir: "data", path: mem.PathJoin("data", nameBallast)}
			if err := b.make(2 * mib); err != nil {
				t.Fatal(err)
			}
			if n := ballastSize(mem.CrashClone(vfs.CrashCloneCfg{})); n != 2*mib {
				t.Errorf("a crash leaves %d bytes of it", n)
			}
			if _, err := b.release(); err != nil {
				t.Error(err)
			}
			if n := ballastSize(mem.CrashClone(vfs.CrashCloneCfg{})); n != 0 {
				t.Errorf("a crash brings back %d bytes", n)
			}
		})
	}
}

// Filling gives up when a write met the full disk, for that one waits for the room.
func TestFillingTheBallastGivesUp(t *testing.T) {
	mem := vfs.NewMem()
	if err := mem.MkdirAll("data", dirMode); err != nil {
		t.Fatal(err)
	}
	hooked := newHookedFS(mem, nameBallast)
	b := &ballast{fs: noPreallocation{hooked}, dir: "data", path: mem.PathJoin("data", nameBallast)}
	writes := 0
	hooked.during(t, "make", func() {
		if err := b.make(16 * mib); err == nil {
			t.Error("it was made")
		}
	}, func(op errorfs.Op) {
		if op.Kind == errorfs.OpFileWriteAt {
			writes++
			b.released.Store(true)
		}
	})
	if writes != 1 || ballastSize(mem) != 0 {
		t.Errorf("%d writes, and %d bytes are left", writes, ballastSize(mem))
	}
}

// noPreallocation is a file system that cannot reserve space.
type noPreallocation struct{ vfs.FS }

func (n noPreallocation) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := n.FS.OpenReadWrite(name, c, o...)
	return notPreallocated{f}, err
}

type notPreallocated struct{ vfs.File }

func (notPreallocated) Preallocate(int64, int64) error { return errors.ErrUnsupported }

// Where space cannot be reserved, the ballast is written out; one that is released meanwhile is given up.
func TestBallastIsFilled(t *testing.T) {
	mem := vfs.NewMem()
	if err := mem.MkdirAll("data", dirMode); err != nil {
		t.Fatal(err)
	}
	b := &ballast{fs: noPreallocation{mem}, dir: "data", path: mem.PathJoin("data", nameBallast)}
	if err := b.make(2*mib + 5); err != nil || ballastSize(mem) != 2*mib+5 {
		t.Errorf("%v, %d bytes", err, ballastSize(mem))
	}
	file := must[vfs.File](t)(mem.Open(b.path))
	content := must[[]byte](t)(io.ReadAll(file))
	for at := 0; at < len(content); at += 4096 {
		if block := content[at:min(at+4096, len(content))]; len(bytes.Trim(block, "\x00")) == 0 {
			t.Fatalf("a hole at %d", at)
		}
	}
	if err := file.Close(); err != nil {
		t.Error(err)
	}
	if n, err := b.release(); n != 2*mib+5 || err != nil || ballastSize(mem) != 0 {
		t.Errorf("release: %d, %v", n, err)
	}
	if n, err := b.release(); n != 0 || err != nil {
		t.Errorf("release again: %d, %v", n, err)
	}
}
