package raftstore

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// TestRestoreAtEachCrash: whenever the power goes, the folder is there whole, or not at all, and another attempt gets through. No store begins where
// one was cut.
func TestRestoreAtEachCrash(t *testing.T) {
	raw, at := full(t) // a file in memory scribbles over what it was given, hence the clones
	disk := vfs.NewCrashableMem()
	o := newOutages(disk, newRand(t))
	o.kills = true
	if _, err := Restore("a/new", bytes.NewReader(slices.Clone(raw)), restoring(o.fs(), "n9")); err != nil {
		t.Fatal(err)
	}
	reopened(t, disk.CrashClone(vfs.CrashCloneCfg{}), "a/new", "n9", at) // nothing that was not synced
	whole := 0
	for i, c := range o.stop(t, 40) {
		if _, err := c.fs.Stat("a/new"); oserror.IsNotExist(err) {
			if _, err := c.fs.Stat("a/new" + suffixRestoring); err == nil {
				if _, err := newNode(onFS(c.again()), inDir("a/new"), named("n9")).open(); err == nil || !strings.Contains(err.Error(), "was cut") {
					t.Errorf("crash %s: a start: %v", c.what, err)
				}
			}
			if _, err := Restore("a/new", bytes.NewReader(slices.Clone(raw)), restoring(c.fs, "n9")); err != nil {
				t.Errorf("crash %s: the next attempt: %v", c.what, err)
				continue
			}
			if i%8 != 0 {
				continue
			}
		} else {
			whole++
		}
		reopened(t, c.fs, "a/new", "n9", at)
	}
	t.Logf("it was there already after %d of them", whole)
}

// TestRecoverAtEachCrash: whenever the power goes, an ordinary start works as if nothing had been, or refuses to begin empty; and another recovery
// gets through, with everything, as it is asked for then. A second crash changes nothing of that.
func TestRecoverAtEachCrash(t *testing.T) {
	base, commands, last := worn(t)
	rng := newRand(t)
	attempt := func(fs *vfs.MemFS, address string) []outage {
		t.Helper()
		o := newOutages(fs, rng)
		o.kills = true
		if _, err := Recover("data", &machine{}, recovering(o.fs(), address)); err != nil {
			t.Fatal(err)
		}
		recovered(t, fs.CrashClone(vfs.CrashCloneCfg{}), address, commands, last)
		return o.stop(t, 40)
	}
	between := 0
	for i, c := range attempt(base, "127.0.0.1:1") {
		if _, err := c.fs.Stat("data"); oserror.IsNotExist(err) {
			between++
			if _, err := newNode(onFS(c.again())).open(); err == nil || !strings.Contains(err.Error(), "a recovery of this folder was cut") {
				t.Errorf("crash %s: a start: %v", c.what, err)
			}
			if between == 1 {
				for j, d := range attempt(c.again(), "127.0.0.1:3") {
					if _, err := Recover("data", &machine{}, recovering(d.fs, "127.0.0.1:2")); err != nil {
						t.Errorf("crash %s, and then %s: %v", c.what, d.what, err)
					} else if j%40 == 0 {
						recovered(t, d.fs, "127.0.0.1:2", commands, last)
					}
				}
			}
		} else if i%6 == 0 {
			s, _ := start(t, onFS(c.again()), notBootstrapped())
			if got := countOf(t, s); got != commands {
				t.Errorf("crash %s: a start: %d commands took effect, want %d", c.what, got, commands)
			}
			stop(t, s)
		}
		if _, err := Recover("data", &machine{}, recovering(c.fs, "127.0.0.1:2")); err != nil {
			t.Errorf("crash %s: again: %v", c.what, err)
		} else if i%10 == 0 {
			recovered(t, c.fs, "127.0.0.1:2", commands, last)
		}
	}
	if between == 0 {
		t.Log("no crash fell between the renames")
	}
}

// TestClearSaysToTheEndWhatItRemoves: killed at any removal, what is left still says what it is.
func TestClearSaysToTheEndWhatItRemoves(t *testing.T) {
	disk := vfs.NewMem()
	plain := newSite(disk, "data")
	if err := plain.begin(origin{Operation: byRestore, Node: "n1"}); err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		if err := plain.fresh.writeFile(fmt.Sprintf("x%d", i), i); err != nil {
			t.Fatal(err)
		}
	}
	removals := 0
	watched := newSite(errorfs.Wrap(disk, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpRemoveAll {
			removals++
			if o, found, err := plain.leftover(); err != nil || !found || o.Operation != byRestore {
				t.Errorf("before the removal of %s it is %+v, %v, %v", op.Path, o, found, err)
			}
		}
		return nil
	})), "data")
	if err := watched.clear(); err != nil || removals < 30 {
		t.Errorf("%d removals, %v", removals, err)
	}
	if _, found, err := plain.leftover(); found || err != nil {
		t.Errorf("it is still there: %v", err)
	}
}
