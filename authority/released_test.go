package authority

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/internal/testkit/released"
	"machineid/raftstore"
	"machineid/shared/format"
	"machineid/shared/release"
)

// then is when the releases' nodes have their clocks, a little before their commands.
var then = time.UnixMilli(1_699_999_990_000)

// past has a node's clock begin then.
func past() func(*Config) {
	began := time.Now()
	return func(c *Config) { c.Wall = func() time.Time { return then.Add(time.Since(began)) } }
}

// TestReleasedFolders: the data folder and the backup of a node of each release, to which every kind of command was proposed. This program reads
// the log as it was meant; the commands in it come to the same records, byte for byte, as the release came to; the backup holds them; a node goes
// on from the folder, and leaves the small files and the databases' formats as they were, so that the release can go on from it too; and the backup
// can be restored.
func TestReleasedFolders(t *testing.T) {
	released.Each(t, release.Version(), "log.txt", writeReleased, func(t *testing.T, dir string) {
		folder := unpacked(t, filepath.Join(dir, "folder.tar.gz"))
		want := released.Read(t, filepath.Join(dir, "log.txt"))
		records := string(must(os.ReadFile(filepath.Join(dir, "state.txt")))(t))
		backup := unzipped(t, filepath.Join(dir, "backup.gz"))

		got := commandsOf(t, folder)
		names := func(l released.Line) string { return fmt.Sprintf("%s %x", l.Name, l.Raw) }
		if diff := cmp.Diff(mapped(want, names), mapped(got, names)); diff != "" {
			t.Errorf("the log (-as it was +as it is read):\n%s", diff)
		}
		for _, l := range want {
			for _, fault := range l.Faults(&statepb.Command{}, proto.Marshal, proto.Unmarshal) {
				t.Error(fault)
			}
		}

		var held string
		a, err := raftstore.Inspect(bytes.NewReader(backup), func(r pebble.Reader) (err error) {
			held, err = dump(r)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(records, held); diff != "" {
			t.Errorf("the backup (-as it was +as it is read):\n%s", diff)
		}
		if diff := cmp.Diff(records, replayed(t, want, a.Position.Index)); diff != "" {
			t.Errorf("the state (-as it was +as this program makes it of the log):\n%s", diff)
		}

		before := smallFiles(t, folder)
		n, stop := runNode(t, folder, "a1", past())
		if n.store.Format() != format.Baseline {
			t.Errorf("the node is at format %d", n.store.Format())
		}
		view := must(n.store.Read(t.Context()))(t)
		now := must(dump(view.Reader()))(t)
		for line := range strings.Lines(records) {
			kind := must(hex.DecodeString(line[:2]))(t)[0]
			if strings.IndexByte("okdbQ", kind) >= 0 && !strings.Contains(now, line) { // orgs, keys, devices, payments, what is asked again
				t.Errorf("the node has lost or changed %s", line)
			}
		}
		_ = view.Close()
		stop()
		if diff := cmp.Diff(before, smallFiles(t, folder)); diff != "" {
			t.Errorf("files that the release must be able to read (-before +after):\n%s", diff)
		}

		begun, err := RestoreBackup(filepath.Join(t.TempDir(), "a9"), bytes.NewReader(backup), "a9", "127.0.0.1:7072")
		if err != nil {
			t.Errorf("restore: %+v, %v", begun, err)
		}
	})
}

func writeReleased(t *testing.T, dir string) {
	folder := filepath.Join(t.TempDir(), "a1")
	n, stop := runNode(t, folder, "a1", past())
	files := must(filepath.Glob(filepath.Join("state", "testdata", "v1", "commands", "*.txtpb")))(t)
	for _, file := range files {
		_, line, _ := strings.Cut(string(must(os.ReadFile(file))(t)), "# hex: ")
		raw := must(hex.DecodeString(strings.TrimSpace(line)))(t)
		if _, err := n.store.ProposeWith(t.Context(), raw, raftstore.ProposeOptions{}); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
	}
	b := must(n.store.Backup(t.Context()))(t)
	backup := must(io.ReadAll(b))(t)
	if err := errors.Join(b.Doubt, b.Close()); err != nil {
		t.Fatal(err)
	}
	stop()
	var held string
	if _, err := raftstore.Inspect(bytes.NewReader(backup), func(r pebble.Reader) (err error) {
		held, err = dump(r)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	released.Write(t, filepath.Join(dir, "log.txt"), commandsOf(t, folder))
	for name, data := range map[string][]byte{"state.txt": []byte(held), "backup.gz": zipped(t, backup), "folder.tar.gz": packed(t, folder)} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// must is for calls that may only succeed.
func must[T any](v T, err error) func(tb testing.TB) T {
	return func(tb testing.TB) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

func mapped[T, U any](list []T, f func(T) U) (out []U) {
	for _, v := range list {
		out = append(out, f(v))
	}
	return out
}

// commandsOf reads the log of a folder: each command by its entry, its term and its place in the entry.
func commandsOf(t *testing.T, folder string) (lines []released.Line) {
	t.Helper()
	var list [][]string
	view := must(raftstore.ReadLog(filepath.Join(folder, storeDir), 1, 0, 1<<20, func(commands [][]byte) string {
		var raws []string
		for _, raw := range commands {
			raws = append(raws, string(raw))
		}
		list = append(list, raws)
		return "commands"
	}))(t)
	for _, e := range view.Entries {
		if strings.Contains(e.What, "DAMAGED") {
			t.Errorf("entry %d: %s", e.Index, e.What)
		}
		if e.What != "commands" {
			continue
		}
		for i, raw := range list[0] {
			cmd := &statepb.Command{}
			if err := proto.Unmarshal([]byte(raw), cmd); err != nil {
				t.Errorf("entry %d: %v", e.Index, err)
			}
			l := released.LineOf(t, fmt.Sprintf("%d.%d.%d", e.Index, e.Term, i), cmd, proto.Marshal)
			l.Raw = []byte(raw)
			lines = append(lines, l)
		}
		list = list[1:]
	}
	return lines
}

// replayed is what a state machine of this program makes of commands up to an entry.
func replayed(t *testing.T, lines []released.Line, until uint64) string {
	t.Helper()
	db := must(pebble.Open("", &pebble.Options{FS: vfs.NewMem(), Logger: silent{}}))(t)
	defer func() { _ = db.Close() }()
	m := state.New(func(uint64, []state.Concern) {})
	if err := m.Restored(db, raftstore.Position{}); err != nil {
		t.Fatal(err)
	}
	for _, l := range lines {
		parts := strings.Split(l.Name, ".")
		at := raftstore.Position{Index: must(strconv.ParseUint(parts[0], 10, 64))(t), Term: must(strconv.ParseUint(parts[1], 10, 64))(t)}
		if at.Index > until {
			break
		}
		w := db.NewIndexedBatch()
		m.Apply(w, at, l.Raw)
		if err := errors.Join(w.Commit(pebble.NoSync), w.Close()); err != nil {
			t.Fatal(err)
		}
		m.Committed(at)
	}
	return must(dump(db))(t)
}

// silent is a logger of Pebble's.
type silent struct{ pebble.Logger }

func (silent) Infof(string, ...any) {}

// dump lists the records of a state, without those of raftstore.
func dump(r pebble.Reader) (string, error) {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: []byte{1}})
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for it.First(); it.Valid(); it.Next() {
		fmt.Fprintf(&b, "%x %x\n", it.Key(), it.Value())
	}
	return b.String(), it.Close()
}

// smallFiles are those by which a program tells whether it can read a folder: their contents, or their names where these say it.
func smallFiles(t *testing.T, folder string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel := must(filepath.Rel(folder, path))(t)
		switch name := d.Name(); {
		case name == "IDENT" || name == "STATE":
			out[rel] = string(must(os.ReadFile(path))(t))
		case strings.HasPrefix(name, "marker.format-version."): // its number counts writes
			out[filepath.Join(filepath.Dir(rel), "format")] = filepath.Ext(name)
		}
		return nil
	})
	if err != nil || len(out) != 4 {
		t.Fatalf("%v (%v)", out, err)
	}
	return out
}

func zipped(t *testing.T, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := must(gzip.NewWriterLevel(&b, gzip.BestCompression))(t)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func unzipped(t *testing.T, path string) []byte {
	t.Helper()
	return must(io.ReadAll(must(gzip.NewReader(bytes.NewReader(must(os.ReadFile(path))(t))))(t)))(t)
}

// packed are the files of a folder. The ballast is only room.
func packed(t *testing.T, folder string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	var names []string
	if err := fs.WalkDir(os.DirFS(folder), ".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && d.Name() != "ballast" {
			names = append(names, path)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	for _, name := range names {
		data := must(os.ReadFile(filepath.Join(folder, filepath.FromSlash(name))))(t)
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(data)), ModTime: then}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return zipped(t, b.Bytes())
}

func unpacked(t *testing.T, path string) (folder string) {
	t.Helper()
	folder = filepath.Join(t.TempDir(), "a1")
	for r := tar.NewReader(bytes.NewReader(unzipped(t, path))); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return folder
		}
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(folder, filepath.FromSlash(h.Name))
		data := must(io.ReadAll(r))(t)
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o700), os.WriteFile(to, data, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}
