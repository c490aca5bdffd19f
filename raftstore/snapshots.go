package raftstore

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
)

const (
	idLive       = "live"
	prefixStaged = "staged-"
)

// snapshotStore is raft's snapshot store over the live state. There is one snapshot, "live": the state itself. Taking it makes
// the state durable and copies nothing; sending it streams a checkpoint made on demand. A snapshot that comes in is staged apart
// and counts for nothing until the fsm installs it: List never shows what the state has not absorbed (R6), or a crash between
// receiving and installing would skip it.
type snapshotStore struct {
	layout layout
	dbs    *databases
	fsm    *fsm
	log    *logStore
	states *stateHolder
	logger *slog.Logger
	// cluster is the name of this node's cluster, empty if it is not in one yet.
	cluster func() string
	// step is called between the steps of an install; tests stop it there. nil: nothing.
	step func(name string)

	open sync.WaitGroup // states that are open, or being removed

	mu       sync.Mutex
	seq      uint64 // makes names unique within this run; what earlier runs left, reap removed
	out      *outgoing
	staged   map[string]stateMeta
	closeErr error // of closing states
}

var _ raft.SnapshotStore = (*snapshotStore)(nil)

// List shows the state as far as it is durable, nothing if it is empty.
func (s *snapshotStore) List() ([]*raft.SnapshotMeta, error) {
	m := s.fsm.durable.Load()
	if m.applied.Index == 0 {
		return nil, nil
	}
	meta, err := m.snapshotMeta(idLive, 0)
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	return []*raft.SnapshotMeta{meta}, nil
}

// Create returns a sink. Whether it is for the live state or for one that comes in shows only later: Persist marks it local,
// the first Write makes it a staged one.
func (s *snapshotStore) Create(
	version raft.SnapshotVersion, index, term uint64, conf raft.Configuration, confIndex uint64, _ raft.Transport,
) (raft.SnapshotSink, error) {
	if version != 1 {
		return nil, fmt.Errorf("create snapshot: version %d is not one this program knows", version)
	}
	sink := &snapshotSink{
		store: s,
		meta: stateMeta{
			applied: Position{Index: index, Term: term},
			conf:    configuration{index: confIndex, encoded: raft.EncodeConfiguration(conf)},
		},
	}
	sink.watched = s.fsm.watch.begin(receivingState) // until all has come, or it turns out to be a local one
	return sink, nil
}

// Open returns the stream of the live state, or a handle through which the fsm installs a staged one. The metadata of "live" is
// that of the checkpoint, which may be newer than what List showed.
func (s *snapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	if id == idLive {
		return s.openLive(0)
	}
	s.mu.Lock()
	m, ok := s.staged[id]
	s.mu.Unlock()
	if !ok {
		return nil, nil, fmt.Errorf("open snapshot: there is no %q", id)
	}
	meta, err := m.snapshotMeta(id, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("open snapshot %s: %w", id, err)
	}
	return meta, &stagedReader{store: s, id: id, meta: m}, nil
}

func (s *snapshotStore) nextName(prefix string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.nextNameLocked(prefix)
}

func (s *snapshotStore) nextNameLocked(prefix string) string {
	s.seq++
	return fmt.Sprintf("%s%d", prefix, s.seq)
}

func (m stateMeta) snapshotMeta(id string, size int64) (*raft.SnapshotMeta, error) {
	conf, err := m.conf.decode()
	if err != nil {
		return nil, err
	}
	return &raft.SnapshotMeta{
		Version: 1, ID: id, Index: m.applied.Index, Term: m.applied.Term,
		Configuration: conf, ConfigurationIndex: m.conf.index, Size: size,
	}, nil
}

// outgoing is a checkpoint that followers are reading. They share it, and the last one removes it.
type outgoing struct {
	dir     string
	meta    stateMeta
	archive archive
	refs    int // guarded by snapshotStore.mu
}

// openLive returns the stream of a checkpoint that holds the state at index least, or a later one. Those who read at the same time share
// one if it is new enough.
func (s *snapshotStore) openLive(least uint64) (*raft.SnapshotMeta, io.ReadCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first, err := s.log.FirstIndex()
	if err != nil {
		return nil, nil, err
	}
	// A checkpoint that the log no longer reaches back to would only be followed by another.
	if s.out == nil || s.out.meta.applied.Index < least || s.out.meta.applied.Index+1 < first {
		out, err := s.checkpoint()
		if err != nil {
			return nil, nil, fmt.Errorf("open the live snapshot: %w", err)
		}
		s.out = out
	}
	out := s.out
	meta, err := out.meta.snapshotMeta(idLive, out.archive.size())
	if err != nil {
		return nil, nil, fmt.Errorf("open the live snapshot: %w", err)
	}
	out.refs++
	return meta, &outgoingReader{store: s, out: out, archiveReader: newArchiveReader(s.layout.fs, out.dir, out.archive)}, nil
}

// checkpoint links the state's files into a folder of their own. It takes no lock against Apply: a checkpoint is a prefix of
// the writes, and the position is read from the checkpoint itself. The flush before keeps small what must be copied.
func (s *snapshotStore) checkpoint() (out *outgoing, err error) {
	st, err := s.states.acquire()
	if err != nil {
		return nil, err
	}
	defer st.release()
	began := s.fsm.metrics.now()
	dir := s.layout.path(nameOut, s.nextNameLocked("out-"))
	defer func() {
		if err != nil {
			err = errors.Join(err, s.layout.fs.RemoveAll(dir))
		}
	}()
	if err := st.db.Flush(); err != nil {
		return nil, fmt.Errorf("flush the state: %w", err)
	}
	if err := st.db.Checkpoint(dir, pebble.WithFlushedWAL()); err != nil {
		return nil, fmt.Errorf("checkpoint the state: %w", err)
	}
	meta, err := s.readMeta(dir)
	if err != nil {
		return nil, err
	}
	a, err := newArchive(s.layout.fs, dir, meta)
	if err != nil {
		return nil, err
	}
	s.fsm.metrics.took(s.fsm.metrics.checkpointSeconds, began)
	return &outgoing{dir: dir, meta: meta, archive: a}, nil
}

// readMeta opens a state that is not in use, only to read what it is.
func (s *snapshotStore) readMeta(dir string) (stateMeta, error) {
	db, err := s.dbs.openState(dir, true)
	if err != nil {
		return stateMeta{}, err
	}
	m, err := readStateMeta(db)
	if err := errors.Join(err, db.Close()); err != nil {
		return stateMeta{}, err
	}
	return m, nil
}

// outgoingReader streams a shared checkpoint.
type outgoingReader struct {
	*archiveReader
	store *snapshotStore
	out   *outgoing
	once  sync.Once
	err   error
}

// Close lets go of the checkpoint.
func (r *outgoingReader) Close() error {
	r.once.Do(func() {
		r.err = errors.Join(r.archiveReader.Close(), r.store.letGo(r.out))
	})
	return r.err
}

func (s *snapshotStore) letGo(out *outgoing) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if out.refs--; out.refs > 0 {
		return nil
	}
	if s.out == out {
		s.out = nil
	}
	if err := s.layout.fs.RemoveAll(out.dir); err != nil {
		return fmt.Errorf("remove checkpoint %s: %w", out.dir, err)
	}
	return nil
}

// stagedReader names a staged snapshot to the fsm. Its data are files already, so there is nothing to read.
type stagedReader struct {
	store *snapshotStore
	id    string
	meta  stateMeta
}

// Read always fails: a staged snapshot is installed by renaming it.
func (r *stagedReader) Read([]byte) (int, error) {
	return 0, fmt.Errorf("read snapshot %s: it can only be installed", r.id)
}

// Close removes the staged files, unless they were installed.
func (r *stagedReader) Close() error { return r.store.discard(r.id) }

func (s *snapshotStore) discard(id string) error {
	s.mu.Lock()
	delete(s.staged, id)
	s.mu.Unlock()
	if !strings.HasPrefix(id, prefixStaged) {
		return nil
	}
	if err := s.layout.fs.RemoveAll(s.layout.path(nameStaging, id)); err != nil {
		return fmt.Errorf("remove snapshot %s: %w", id, err)
	}
	return nil
}
