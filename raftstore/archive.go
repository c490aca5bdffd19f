package raftstore

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// An archive is a checkpoint as one stream of exactly known size:
//
//	magic 8B | header length 4B | header, JSON | CRC32-C of the header 4B | for each file: its bytes, their CRC32-C 4B
//
// Numbers are big endian. The header names the state and lists the files with their sizes.
const (
	archiveMagic     = "MIDSNAP1"
	archiveFormat    = 1
	archivePrefixLen = len(archiveMagic) + 4
	archiveMaxHeader = 16 << 20
	crcLen           = 4
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type archiveHeader struct {
	Format    int           `json:"format"`
	Cluster   string        `json:"cluster"`
	Index     uint64        `json:"index"`
	Term      uint64        `json:"term"`
	ConfIndex uint64        `json:"conf_index"`
	Conf      []byte        `json:"conf"`
	Files     []archiveFile `json:"files"`
}

type archiveFile struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
}

func (h archiveHeader) meta() stateMeta {
	return stateMeta{
		applied: Position{Index: h.Index, Term: h.Term},
		conf:    configuration{index: h.ConfIndex, encoded: h.Conf},
		cluster: h.Cluster,
	}
}

func (h archiveHeader) check() error {
	if h.Format != archiveFormat {
		return fmt.Errorf("archive format %d is not one this program knows (newest: %d)", h.Format, archiveFormat)
	}
	names := make([]string, 0, len(h.Files))
	for _, f := range h.Files {
		// The name becomes a path: a sender must not choose the folder.
		if f.Name == "" || f.Name == "." || f.Name == ".." || strings.ContainsAny(f.Name, `/\`) || f.Size < 0 {
			return fmt.Errorf("archive names the file %q of %d bytes", f.Name, f.Size)
		}
		names = append(names, f.Name)
	}
	slices.Sort(names)
	if len(slices.Compact(names)) != len(h.Files) {
		return errors.New("archive names a file twice")
	}
	return nil
}

// archive is what there is to send: the encoded front and the files after it.
type archive struct {
	front []byte
	files []archiveFile
}

// newArchive describes the files of a checkpoint, which do not change any more.
func newArchive(fs vfs.FS, dir string, m stateMeta) (archive, error) {
	names, err := fs.List(dir)
	if err != nil {
		return archive{}, fmt.Errorf("list checkpoint: %w", err)
	}
	slices.Sort(names)
	h := archiveHeader{
		Format: archiveFormat, Cluster: m.cluster, Index: m.applied.Index, Term: m.applied.Term,
		ConfIndex: m.conf.index, Conf: m.conf.encoded, Files: make([]archiveFile, 0, len(names)),
	}
	for _, name := range names {
		if name == nameLock { // of the look inside; not a part of the state
			continue
		}
		info, err := fs.Stat(fs.PathJoin(dir, name))
		if err != nil {
			return archive{}, fmt.Errorf("measure checkpoint: %w", err)
		}
		h.Files = append(h.Files, archiveFile{Name: name, Size: info.Size()})
	}
	encoded, err := json.Marshal(h)
	if err != nil {
		return archive{}, fmt.Errorf("encode archive header: %w", err)
	}
	if len(encoded) > archiveMaxHeader {
		return archive{}, fmt.Errorf("archive header of %d files has %d bytes, too many", len(h.Files), len(encoded))
	}
	front := append(make([]byte, 0, archivePrefixLen+len(encoded)+crcLen), archiveMagic...)
	front = binary.BigEndian.AppendUint32(front, uint32(len(encoded)))
	front = append(front, encoded...)
	front = binary.BigEndian.AppendUint32(front, crc32.Checksum(encoded, castagnoli))
	return archive{front: front, files: h.Files}, nil
}

// size is the exact length of the stream; raft cuts it off there.
func (a archive) size() int64 {
	n := int64(len(a.front))
	for _, f := range a.files {
		n += f.Size + crcLen
	}
	return n
}

// archiveReader produces the stream, one open file at a time. Not safe for concurrent use.
type archiveReader struct {
	fs    vfs.FS
	dir   string
	files []archiveFile // still to send

	plain []byte // to send before anything else
	file  vfs.File
	left  int64
	crc   uint32
}

func newArchiveReader(fs vfs.FS, dir string, a archive) *archiveReader {
	return &archiveReader{fs: fs, dir: dir, files: a.files, plain: a.front}
}

// Read implements io.Reader.
func (r *archiveReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(r.plain) == 0 && r.file == nil {
		if len(r.files) == 0 {
			return 0, io.EOF
		}
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	if len(r.plain) > 0 {
		n := copy(p, r.plain)
		r.plain = r.plain[n:]
		return n, nil
	}
	n, err := r.file.Read(p[:min(int64(len(p)), r.left)])
	r.crc = crc32.Update(r.crc, castagnoli, p[:n])
	r.left -= int64(n)
	if r.left == 0 {
		return n, r.endFile()
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return n, fmt.Errorf("read checkpoint: %w", err)
	}
	return n, nil
}

func (r *archiveReader) next() error {
	f := r.files[0]
	r.files = r.files[1:]
	file, err := r.fs.Open(r.fs.PathJoin(r.dir, f.Name), vfs.SequentialReadsOption)
	if err != nil {
		return fmt.Errorf("open checkpoint file: %w", err)
	}
	r.file, r.left, r.crc = file, f.Size, 0
	if r.left == 0 {
		return r.endFile()
	}
	return nil
}

func (r *archiveReader) endFile() error {
	r.plain = binary.BigEndian.AppendUint32(nil, r.crc)
	err := r.file.Close()
	r.file = nil
	if err != nil {
		return fmt.Errorf("close checkpoint file: %w", err)
	}
	return nil
}

// Close releases the open file, if any.
func (r *archiveReader) Close() error {
	if r.file == nil {
		return nil
	}
	err := r.file.Close()
	r.file = nil
	if err != nil {
		return fmt.Errorf("close checkpoint file: %w", err)
	}
	return nil
}
