package raftstore

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
)

// sample makes a folder of files, one of them empty, and its archive.
func sample(tb testing.TB) (vfs.FS, archive) {
	tb.Helper()
	fs := vfs.NewMem()
	if err := fs.MkdirAll("from", dirMode); err != nil {
		tb.Fatal(err)
	}
	for name, content := range map[string]string{"a": "first", "b": "", "c": "third", nameLock: "not sent"} {
		f := must[vfs.File](tb)(fs.Create("from/"+name, vfs.WriteCategoryUnspecified))
		_, err := f.Write([]byte(content))
		if err := errors.Join(err, f.Close()); err != nil {
			tb.Fatal(err)
		}
	}
	return fs, must[archive](tb)(newArchive(fs, "from", stateMeta{
		applied: Position{Index: 7, Term: 3}, conf: configuration{index: 2, encoded: []byte("conf")}, cluster: "cluster",
	}))
}

func TestArchiveGolden(t *testing.T) {
	fs, a := sample(t)
	stream := must[[]byte](t)(io.ReadAll(newArchiveReader(fs, "from", a)))
	golden(t, "archive_v1", stream)
	if int64(len(stream)) != a.size() {
		t.Errorf("announced %d bytes, sent %d", a.size(), len(stream))
	}
}

func TestFolderGolden(t *testing.T) {
	l := layout{fs: vfs.NewMem(), root: "data"}
	if err := errors.Join(
		l.create(),
		l.writeFile(nameIdent, ident{Format: formatFolder, Cluster: "c", Node: "n", Store: "s"}),
		l.writeFile(nameState, pointer{Format: formatFolder, Generation: 2, Index: 3, Term: 4}),
	); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{nameIdent, nameState} {
		f := must[vfs.File](t)(l.fs.Open(l.path(name)))
		golden(t, name+"_v2", must[[]byte](t)(io.ReadAll(f)))
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

// An archive arrives the same in whatever pieces it is read and written.
func TestArchiveInPieces(t *testing.T) {
	fs, a := sample(t)
	for name, pieces := range map[string]func(io.Reader) io.Reader{
		"bytes": iotest.OneByteReader, "halves": iotest.HalfReader, "with errors": iotest.DataErrReader,
	} {
		t.Run(name, func(t *testing.T) {
			dir := "to " + name
			if err := fs.MkdirAll(dir, dirMode); err != nil {
				t.Fatal(err)
			}
			u := &unarchiver{fs: fs, dir: dir}
			r := pieces(newArchiveReader(fs, "from", a))
			buf := make([]byte, 7)
			for {
				n, err := r.Read(buf)
				if werr := u.write(buf[:n]); werr != nil {
					t.Fatal(werr)
				}
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			h, err := u.finish()
			if err != nil {
				t.Fatal(err)
			}
			want := []archiveFile{{"a", 5}, {"b", 0}, {"c", 5}}
			if diff := cmp.Diff(want, h.Files); diff != "" {
				t.Error(diff)
			}
			f := must[vfs.File](t)(fs.Open(dir + "/c"))
			if got := must[[]byte](t)(io.ReadAll(f)); !bytes.Equal(got, []byte("third")) {
				t.Errorf("c is %q", got)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// No stream makes the receiving end panic, write outside its folder, or accept what is not whole.
func FuzzUnarchive(f *testing.F) {
	fs, a := sample(f)
	f.Add(must[[]byte](f)(io.ReadAll(newArchiveReader(fs, "from", a))))
	f.Add([]byte(archiveMagic + "\x00\x00\x00\x02{}"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		to := vfs.NewMem()
		if err := to.MkdirAll("in/to", dirMode); err != nil {
			t.Fatal(err)
		}
		u := &unarchiver{fs: to, dir: "in/to"}
		err := u.write(stream)
		if err == nil {
			_, err = u.finish()
		}
		_ = u.close()
		names := must[[]string](t)(to.List("in/to"))
		if outside := must[[]string](t)(to.List("in")); len(outside) != 1 {
			t.Fatalf("wrote %v", outside)
		}
		if err == nil && len(names) != len(u.header.Files) {
			t.Fatalf("accepted with files %v of %v", names, u.header.Files)
		}
	})
}
