package raftstore

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// snapshotSink takes one snapshot: either Persist marks it local and nothing is written, or an archive is written to it and
// unpacked into the staging folder. One goroutine uses it.
type snapshotSink struct {
	store *snapshotStore
	meta  stateMeta // what raft says is coming
	local bool
	id    string
	in    *unarchiver
	// watched is its place with the watchdog while more is to come.
	watched int
	over    bool
}

var _ raft.SnapshotSink = (*snapshotSink)(nil)

// ID names the snapshot; raft asks for it after Close.
func (s *snapshotSink) ID() string {
	if s.id == "" {
		return idLive
	}
	return s.id
}

// Write takes the next part of an archive.
func (s *snapshotSink) Write(p []byte) (int, error) {
	if s.local {
		return 0, errors.New("write snapshot: it is the live one")
	}
	w := s.store.fsm.watch
	w.progress(s.watched)
	defer w.end(w.begin("writing a received state"))
	if s.in == nil {
		s.id = s.store.nextName(prefixStaged)
		dir := s.tmpDir()
		if err := s.store.layout.fs.MkdirAll(dir, dirMode); err != nil {
			return 0, fmt.Errorf("create %s: %w", dir, err)
		}
		s.in = &unarchiver{fs: s.store.layout.fs, dir: dir}
	}
	if err := s.in.write(p); err != nil {
		return 0, fmt.Errorf("receive snapshot %s: %w", s.id, err)
	}
	return len(p), nil
}

// all says that no more is to come.
func (s *snapshotSink) all() {
	if !s.over {
		s.over = true
		s.store.fsm.watch.end(s.watched)
	}
}

func (s *snapshotSink) tmpDir() string { return s.store.layout.path(nameStaging, s.id+suffixTmp) }

// Close completes the snapshot. A staged one is then whole, synced and checked, but not installed.
func (s *snapshotSink) Close() error {
	s.all()
	if s.local {
		return nil
	}
	defer s.store.fsm.watch.end(s.store.fsm.watch.begin(installingState))
	if s.in == nil {
		return errors.New("complete snapshot: nothing was written")
	}
	if err := s.stage(); err != nil {
		return errors.Join(fmt.Errorf("complete snapshot %s: %w", s.id, err), s.Cancel())
	}
	return nil
}

func (s *snapshotSink) stage() error {
	header, err := s.in.finish()
	if err != nil {
		return err
	}
	l := s.store.layout
	if err := l.syncDir(s.tmpDir()); err != nil {
		return err
	}
	if err := s.check(header); err != nil {
		return err
	}
	if err := l.fs.Rename(s.tmpDir(), l.path(nameStaging, s.id)); err != nil {
		return fmt.Errorf("rename: %w", err)
	}
	if err := l.syncDir(l.path(nameStaging)); err != nil {
		return err
	}
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	s.store.staged[s.id] = header.meta()
	return nil
}

// check opens what arrived and compares it with what raft and the archive say it is.
func (s *snapshotSink) check(h archiveHeader) error {
	got, err := s.store.readMeta(s.tmpDir())
	if err != nil {
		return err
	}
	cluster := s.store.cluster()
	switch {
	case got.applied != s.meta.applied:
		return fmt.Errorf("the state is at %d of term %d, announced at %d of term %d",
			got.applied.Index, got.applied.Term, s.meta.applied.Index, s.meta.applied.Term)
	case got.conf.index != s.meta.conf.index:
		return fmt.Errorf("its configuration is of index %d, announced %d", got.conf.index, s.meta.conf.index)
	case h.meta().applied != got.applied || h.ConfIndex != got.conf.index || h.Cluster != got.cluster:
		return errors.New("the archive's header does not describe its files")
	case cluster != "" && got.cluster != cluster:
		return fmt.Errorf("it is of cluster %q, and this node is of %q", got.cluster, cluster)
	}
	return nil
}

// Cancel removes what was received.
func (s *snapshotSink) Cancel() error {
	s.all()
	if s.in == nil {
		return nil
	}
	err := s.in.close()
	l := s.store.layout
	return errors.Join(err, l.fs.RemoveAll(s.tmpDir()), l.fs.RemoveAll(l.path(nameStaging, s.id)))
}

// unarchiver unpacks an archive that arrives in pieces.
type unarchiver struct {
	fs  vfs.FS
	dir string

	need   int    // bytes to gather before the next step; 0: a file's content
	held   []byte // gathered so far
	header *archiveHeader
	front  bool // prefix seen, header gathering
	n      int  // files completed
	file   vfs.File
	left   int64
	crc    uint32
}

func (u *unarchiver) write(p []byte) error {
	for len(p) > 0 {
		if u.file != nil && u.left > 0 {
			n := min(int64(len(p)), u.left)
			u.crc = crc32.Update(u.crc, castagnoli, p[:n]) // before: a vfs.File may keep and change what it is given
			if _, err := u.file.Write(p[:n]); err != nil {
				return fmt.Errorf("write file: %w", err)
			}
			u.left -= n
			p = p[n:]
			continue
		}
		if u.done() {
			return errors.New("there are bytes after the last file")
		}
		if u.need == 0 {
			u.need = u.nextNeed()
		}
		n := min(len(p), u.need-len(u.held))
		u.held = append(u.held, p[:n]...)
		p = p[n:]
		if len(u.held) < u.need {
			return nil
		}
		held := u.held
		u.held, u.need = nil, 0
		if err := u.step(held); err != nil {
			return err
		}
	}
	return nil
}

func (u *unarchiver) nextNeed() int {
	if u.header == nil {
		return archivePrefixLen
	}
	return crcLen
}

func (u *unarchiver) done() bool { return u.header != nil && u.n == len(u.header.Files) }

// step takes the prefix, the header, or the checksum of a file.
func (u *unarchiver) step(b []byte) error {
	switch {
	case u.header == nil && !u.front:
		if string(b[:len(archiveMagic)]) != archiveMagic {
			return errors.New("it is not an archive of a state")
		}
		size := binary.BigEndian.Uint32(b[len(archiveMagic):])
		if size > archiveMaxHeader {
			return fmt.Errorf("its header has %d bytes", size)
		}
		u.front, u.need = true, int(size)+crcLen
		return nil
	case u.header == nil:
		body := b[:len(b)-crcLen]
		if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(b[len(body):]) {
			return errors.New("checksum of the header differs")
		}
		h := new(archiveHeader)
		if err := json.Unmarshal(body, h); err != nil {
			return fmt.Errorf("decode header: %w", err)
		}
		if err := h.check(); err != nil {
			return err
		}
		u.header = h
		return u.openNext()
	default:
		f := u.header.Files[u.n]
		if u.crc != binary.BigEndian.Uint32(b) {
			return fmt.Errorf("checksum of %s differs", f.Name)
		}
		if err := u.file.Sync(); err != nil {
			return fmt.Errorf("sync %s: %w", f.Name, err)
		}
		if err := u.close(); err != nil {
			return err
		}
		u.n++
		return u.openNext()
	}
}

func (u *unarchiver) openNext() error {
	if u.done() {
		return nil
	}
	f := u.header.Files[u.n]
	file, err := u.fs.Create(u.fs.PathJoin(u.dir, f.Name), vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("create %s: %w", f.Name, err)
	}
	u.file, u.left, u.crc = file, f.Size, 0
	return nil
}

func (u *unarchiver) finish() (archiveHeader, error) {
	if !u.done() {
		return archiveHeader{}, errors.New("it is cut short")
	}
	return *u.header, nil
}

func (u *unarchiver) close() error {
	if u.file == nil {
		return nil
	}
	err := u.file.Close()
	u.file = nil
	if err != nil {
		return fmt.Errorf("close file: %w", err)
	}
	return nil
}
