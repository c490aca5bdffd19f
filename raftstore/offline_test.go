package raftstore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// backup returns an archive of a node's state.
func backup(tb testing.TB, s *Store) []byte {
	tb.Helper()
	b := must[*Backup](tb)(s.Backup(tb.Context()))
	raw := must[[]byte](tb)(io.ReadAll(b))
	if err := b.Close(); err != nil {
		tb.Error(err)
	}
	if int64(len(raw)) != b.Size {
		tb.Errorf("%d bytes, announced %d", len(raw), b.Size)
	}
	return raw
}

// mark is an Edit that leaves a trace.
func mark(_ pebble.Reader, w *pebble.Batch, from, to string) error {
	return errors.Join(w.Set([]byte("\x02restored"), []byte("yes"), nil), w.Set([]byte("\x02from"), []byte(from), nil), w.Set([]byte("\x02to"), []byte(to), nil))
}

func restoring(fs vfs.FS, id string) Restoring {
	return Restoring{ID: id, Address: "127.0.0.1:1", Edit: mark, FS: fs}
}

// full is a node with some data, and an archive of it.
func full(tb testing.TB) ([]byte, Position) {
	tb.Helper()
	s, _ := start(tb)
	for i := range 300 {
		propose(tb, s, fmt.Sprintf("key%d=%s", i, strings.Repeat("v", 100)))
	}
	return backup(tb, s), s.Applied()
}

// reopened opens a restored folder: it must lead, hold everything, and take commands, in a term that the one before never gets to.
func reopened(tb testing.TB, fs vfs.FS, dir, id string, at Position) {
	tb.Helper()
	s, m := start(tb, onFS(fs), inDir(dir), named(id), notBootstrapped())
	defer stop(tb, s)
	for key, want := range map[string]string{"key0": strings.Repeat("v", 100), "key299": strings.Repeat("v", 100), "restored": "yes", "to": s.Cluster()} {
		if got, ok := valueOf(tb, s, key); !ok || got != want {
			tb.Errorf("%s: %.10q, %v", key, got, ok)
		}
	}
	if got := m.restoredAt(); !slices.Equal(got, []Position{at}) {
		tb.Errorf("restored at %v, want %v", got, at)
	}
	res := propose(tb, s, "new=1")
	if res.Index <= at.Index || res.Term <= at.Term+termGap {
		tb.Errorf("the first command is at %v, the archive's position is %v", res.Position, at)
	}
	if term, err := s.Confirm(tb.Context()); err != nil || term != res.Term {
		tb.Errorf("confirm: %d, %v", term, err)
	}
	if _, err := fs.Stat(dir + "/" + nameOrigin); !oserror.IsNotExist(err) {
		tb.Errorf("%s is still there: %v", nameOrigin, err)
	}
}

func TestRestoreMakesAFolderThatGoesOn(t *testing.T) {
	raw, at := full(t)
	a := must[Archive](t)(Inspect(bytes.NewReader(slices.Clone(raw)), func(r pebble.Reader) error {
		_, err := getCopy(r, []byte("\x02key0"))
		return err
	}))
	if a.Position != at || a.Cluster == "" || len(a.Members) != 1 || a.Members[0].ID != "n1" {
		t.Fatalf("%+v", a)
	}
	fs := vfs.NewMem()
	begun, err := Restore("a/new", bytes.NewReader(slices.Clone(raw)), restoring(fs, "n9"))
	if err != nil || begun.Position != at || begun.Replaces != a.Cluster || begun.Cluster == "" || begun.Cluster == a.Cluster {
		t.Fatalf("%+v, %v", begun, err)
	}
	reopened(t, fs, "a/new", "n9", at)
	if _, err := Restore("a/new", bytes.NewReader(slices.Clone(raw)), restoring(fs, "n9")); err == nil {
		t.Error("a folder in use was overwritten")
	}
}

// TestRestoreRefuses what is no whole archive, and leaves nothing under the name.
func TestRestoreRefuses(t *testing.T) {
	raw, _ := full(t)
	flip := func(at int) []byte {
		b := slices.Clone(raw)
		b[at] ^= 1
		return b
	}
	bad := map[string][]byte{
		"nothing": nil, "garbage": bytes.Repeat([]byte("x"), 1000), "with a tail": append(slices.Clone(raw), 0),
		"half": raw[:len(raw)/2], "less one byte": raw[:len(raw)-1],
	}
	for at := 0; at < len(raw); at += max(1, len(raw)/60) {
		bad[fmt.Sprintf("a bit at %d of %d", at, len(raw))] = flip(at)
	}
	for name, b := range bad {
		fs := vfs.NewMem()
		if _, err := Restore("new", bytes.NewReader(slices.Clone(b)), restoring(fs, "n1")); err == nil {
			t.Errorf("%s: it was taken", name)
		}
		if _, err := fs.Stat("new"); !oserror.IsNotExist(err) {
			t.Errorf("%s: it left a folder (%v)", name, err)
		}
		if _, err := Inspect(bytes.NewReader(b), nil); err == nil {
			t.Errorf("%s: inspect found nothing", name)
		}
	}
	for name, o := range map[string]Restoring{
		"no name": {Address: "127.0.0.1:1"}, "what is no name": {ID: "a/b", Address: "127.0.0.1:1"},
		"no address": {ID: "n1"}, "an address that nobody can dial": {ID: "n1", Address: "0.0.0.0:7072"},
	} {
		o.FS = vfs.NewMem()
		if _, err := Restore("new", bytes.NewReader(raw), o); err == nil {
			t.Errorf("%s: it was taken", name)
		}
		if names, err := o.FS.List(""); err != nil || len(names) > 0 {
			t.Errorf("%s: it left %v, %v", name, names, err)
		}
	}
}
