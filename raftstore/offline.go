package raftstore

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// Archive is what an archive says of itself.
type Archive struct {
	Position Position `json:"position"`
	Cluster  string   `json:"cluster"`
	Members  []Peer   `json:"members"`
	Files    int      `json:"files"`
	Bytes    int64    `json:"bytes"`
}

// Peer is one node in a configuration. The JSON names are those of hashicorp/raft's peers.json.
type Peer struct {
	ID       string `json:"id"`
	Address  string `json:"address"`
	NonVoter bool   `json:"non_voter"`
}

// Restoring says how a folder is made from an archive, or of one whose cluster has lost its majority for good.
type Restoring struct {
	ID      string // of the node that the folder is for
	Members []Peer // of the new cluster, the node among them
	// Edit changes the state before anybody can open it: a restored state is not the continuation of what others have seen.
	Edit   func(r pebble.Reader, w *pebble.Batch) error
	Logger *slog.Logger
	FS     vfs.FS // nil: the disk
	Fatal  func(error)
}

func (o *Restoring) config(dir string) Config {
	return Config{ID: o.ID, Dir: dir, FS: o.FS, Logger: o.Logger, Fatal: o.Fatal}.withDefaults()
}

func (o *Restoring) configuration(store string) (raft.Configuration, error) {
	var conf raft.Configuration
	voters, self := 0, false
	for _, p := range o.Members {
		suffrage := raft.Voter
		if p.NonVoter {
			suffrage = raft.Nonvoter
		} else {
			voters++
		}
		life := Life{ID: p.ID}
		if p.ID == o.ID {
			self, life.Store = true, store
		}
		conf.Servers = append(conf.Servers, raft.Server{Suffrage: suffrage, ID: life.server(), Address: raft.ServerAddress(p.Address)})
	}
	seen := map[string]bool{}
	for _, p := range o.Members {
		switch {
		case p.ID == "" || p.Address == "":
			return conf, fmt.Errorf("member %q at %q: both are needed", p.ID, p.Address)
		case seen["id "+p.ID] || seen["at "+p.Address]:
			return conf, fmt.Errorf("member %q at %s: the id or the address is there twice", p.ID, p.Address)
		}
		seen["id "+p.ID], seen["at "+p.Address] = true, true
	}
	switch {
	case !self:
		return conf, fmt.Errorf("the members do not name this node, %q", o.ID)
	case voters == 0:
		return conf, errors.New("none of the members has a vote")
	}
	return conf, nil
}

const (
	suffixRestoring = ".restoring"
	suffixBefore    = ".before-recovery"
)

// Restore makes the folder dir, which must not exist, from an archive: the whole of it, or nothing under that name. What an attempt
// before left beside it is removed.
func Restore(dir string, r io.Reader, o Restoring) (Archive, error) {
	a, err := restore(dir, r, &o)
	if err != nil {
		return a, fmt.Errorf("restore into %s: %w", dir, err)
	}
	return a, nil
}

func restore(dir string, r io.Reader, o *Restoring) (Archive, error) {
	cfg := o.config(dir)
	store := randomID()
	conf, err := o.configuration(store)
	if err != nil {
		return Archive{}, err
	}
	if names, err := cfg.FS.List(dir); err == nil && len(names) > 0 {
		return Archive{}, errors.New("there is something already: name another folder, or move this one away")
	} else if err != nil && !oserror.IsNotExist(err) {
		return Archive{}, err
	}
	tmp := dir + suffixRestoring
	if err := cfg.FS.RemoveAll(tmp); err != nil {
		return Archive{}, err
	}
	l := layout{fs: cfg.FS, root: tmp}
	if err := l.create(); err != nil {
		return Archive{}, err
	}
	h, err := unpackArchive(cfg.FS, l.stateDir(1), r)
	if err != nil {
		return Archive{}, err
	}
	if err := plant(&cfg, l, o, store, conf, h.meta(), h.Term); err != nil {
		return Archive{}, err
	}
	return h.describe(), putInPlace(cfg.FS, tmp, dir)
}

// putInPlace is the commit point: a folder gets its name in one step.
func putInPlace(fs vfs.FS, tmp, dir string) error {
	l := layout{fs: fs, root: fs.PathDir(dir)}
	if err := fs.Remove(dir); err != nil && !oserror.IsNotExist(err) { // it may be there, empty
		return err
	}
	if err := fs.Rename(tmp, dir); err != nil {
		return err
	}
	return l.syncDir(l.root)
}

// unpackArchive writes the files of an archive into dir and checks each.
func unpackArchive(fs vfs.FS, dir string, r io.Reader) (archiveHeader, error) {
	if err := fs.MkdirAll(dir, dirMode); err != nil {
		return archiveHeader{}, err
	}
	in := &unarchiver{fs: fs, dir: dir}
	_, err := io.Copy(unarchiving{in}, r)
	if err != nil {
		return archiveHeader{}, errors.Join(fmt.Errorf("read the archive: %w", err), in.close())
	}
	h, err := in.finish()
	if err != nil {
		return archiveHeader{}, errors.Join(fmt.Errorf("read the archive: %w", err), in.close())
	}
	return h, layout{fs: fs, root: dir}.syncDir(dir)
}

// unarchiving makes a writer of an unarchiver.
type unarchiving struct{ *unarchiver }

func (u unarchiving) Write(p []byte) (int, error) {
	if err := u.write(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (h *archiveHeader) describe() Archive {
	a := Archive{Position: Position{Index: h.Index, Term: h.Term}, Cluster: h.Cluster, Files: len(h.Files)}
	for _, f := range h.Files {
		a.Bytes += f.Size
	}
	a.Members = peersOf(h.meta().conf)
	return a
}

func peersOf(c configuration) (peers []Peer) {
	conf, err := c.decode()
	if err != nil {
		return nil
	}
	for _, server := range conf.Servers {
		peers = append(peers, Peer{ID: lifeOf(server.ID).ID, Address: string(server.Address), NonVoter: server.Suffrage != raft.Voter})
	}
	return peers
}

// Inspect reads an archive to its end and checks it. f, which may be nil, sees the state in it.
func Inspect(r io.Reader, f func(pebble.Reader) error) (_ Archive, err error) {
	dir, err := os.MkdirTemp("", "machineid-inspect-")
	if err != nil {
		return Archive{}, fmt.Errorf("inspect an archive: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	o := Restoring{ID: "inspect"}
	cfg := o.config(dir)
	h, err := unpackArchive(cfg.FS, dir, r)
	if err != nil {
		return Archive{}, fmt.Errorf("inspect an archive: %w", err)
	}
	dbs, done := offlineDatabases(&cfg)
	defer done()
	db, err := dbs.openState(dir, true)
	if err != nil {
		return Archive{}, fmt.Errorf("inspect an archive: %w", err)
	}
	meta, err := readStateMeta(db)
	if err == nil && meta.applied != h.meta().applied {
		err = errors.New("its header does not describe its files")
	}
	if err == nil && f != nil {
		err = f(db)
	}
	if err := errors.Join(err, db.Close()); err != nil {
		return Archive{}, fmt.Errorf("inspect an archive: %w", err)
	}
	return h.describe(), nil
}

// offlineDatabases opens databases without a Store.
func offlineDatabases(cfg *Config) (dbs *databases, done func()) {
	cache := pebble.NewCache(cfg.CacheBytes + memTableRoom)
	return &databases{
		fs: cfg.FS, cache: cache, fault: newFault(cfg.Fatal, cfg.Logger), cfg: cfg, metrics: newStoreMetrics(nil),
		aside: &aside{}, lowSpace: func() {},
	}, cache.Unref
}

// plant makes a whole folder around a state that lies in state-1: the members are conf, the log is empty behind a boundary at the state's
// position, and the term is at least term, so that what the node says is newer than what was said before.
func plant(cfg *Config, l layout, o *Restoring, store string, conf raft.Configuration, meta stateMeta, term uint64) error {
	at := meta.applied
	if at.Index <= 1 || meta.cluster == "" {
		return fmt.Errorf("the state is at %d of cluster %q: there is nothing in it to begin with", at.Index, meta.cluster)
	}
	dbs, done := offlineDatabases(cfg)
	defer done()
	db, err := dbs.openState(l.stateDir(1), false)
	if err != nil {
		return err
	}
	err = edit(db, o, configuration{index: at.Index, encoded: raft.EncodeConfiguration(conf)}, at)
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	id := ident{Format: formatFolder, Cluster: meta.cluster, Node: cfg.ID, Store: store}
	if err := plantLog(dbs, l, id, at, max(term, at.Term)); err != nil {
		return err
	}
	return errors.Join(
		l.writeFile(nameIdent, id),
		l.writeFile(nameState, pointer{Format: formatFolder, Generation: 1, Index: at.Index, Term: at.Term}),
		l.syncDir(l.root),
	)
}

func edit(db *pebble.DB, o *Restoring, conf configuration, at Position) error {
	got, err := readStateMeta(db)
	if err != nil {
		return err
	}
	if got.applied != at {
		return fmt.Errorf("the state is at %d of term %d, and should be at %d of term %d", got.applied.Index, got.applied.Term, at.Index, at.Term)
	}
	b := db.NewBatch()
	defer closeBatch(b)
	if err := b.Set(keyConf, conf.encode(), nil); err != nil {
		return fmt.Errorf("write the members: %w", err)
	}
	if o.Edit != nil {
		if err := o.Edit(db, b); err != nil {
			return fmt.Errorf("mark the state as restored: %w", err)
		}
	}
	if err := b.Commit(pebble.Sync); err != nil {
		return fmt.Errorf("write the state: %w", err)
	}
	return nil
}

func plantLog(dbs *databases, l layout, id ident, at Position, term uint64) error {
	raw, err := json.Marshal(id)
	if err != nil {
		return fmt.Errorf("encode the identity of the log: %w", err)
	}
	db, err := dbs.openLog(l.path(nameLog))
	if err != nil {
		return err
	}
	b := db.NewBatch()
	defer closeBatch(b)
	err = errors.Join(
		b.Set([]byte(keyLogIdent), raw, nil),
		b.Set([]byte(keyBoundary), encodePosition(at), nil),
		b.Set([]byte(keyInstalled), binary.BigEndian.AppendUint64(nil, 1), nil),
		b.Set(stableKey([]byte(keyCurrentTerm)), binary.BigEndian.AppendUint64(nil, term), nil),
	)
	if err == nil {
		err = b.Commit(pebble.Sync)
	}
	if err := errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("write the log: %w", err)
	}
	return nil
}

// Recover makes a cluster of the given members out of one node's folder: for a cluster that has lost its majority for good, as
// hashicorp/raft's RecoverCluster does. All of the node's log counts as committed. The new folder takes the place of dir in one step, and the old
// one stays beside it; an attempt that was cut off is completed, or begun anew. Nobody else may use dir.
func Recover(dir string, machine Machine, o Restoring) (Position, error) {
	at, err := recoverFolder(dir, machine, &o)
	if err != nil {
		return at, fmt.Errorf("recover %s: %w", dir, err)
	}
	return at, nil
}

func recoverFolder(dir string, machine Machine, o *Restoring) (Position, error) {
	cfg := o.config(dir)
	store := randomID()
	conf, err := o.configuration(store)
	if err != nil {
		return Position{}, err
	}
	tmp := dir + suffixRestoring
	if _, err := cfg.FS.Stat(dir); oserror.IsNotExist(err) {
		// Between the two renames of an attempt before.
		var p pointer
		if found, err := (layout{fs: cfg.FS, root: tmp}).readFile(nameState, &p); err == nil && found {
			return Position{Index: p.Index, Term: p.Term}, putInPlace(cfg.FS, tmp, dir)
		}
		return Position{}, errors.New("there is no such folder")
	}
	if err := cfg.FS.RemoveAll(tmp); err != nil {
		return Position{}, err
	}
	fresh := layout{fs: cfg.FS, root: tmp}
	if err := fresh.create(); err != nil {
		return Position{}, err
	}
	meta, term, err := replay(&cfg, fresh, machine)
	if err != nil {
		return Position{}, err
	}
	if err := plant(&cfg, fresh, o, store, conf, meta, term); err != nil {
		return Position{}, err
	}
	kept := dir + suffixBefore
	for n := 2; ; n++ {
		if _, err := cfg.FS.Stat(kept); oserror.IsNotExist(err) {
			break
		}
		kept = fmt.Sprintf("%s-%d", dir+suffixBefore, n)
	}
	if err := cfg.FS.Rename(dir, kept); err != nil {
		return Position{}, err
	}
	return meta.applied, putInPlace(cfg.FS, tmp, dir)
}

// replay copies a folder's state to fresh and applies the rest of the log to it. The folder itself stays as it is, but for what opening
// completes.
func replay(cfg *Config, fresh layout, machine Machine) (_ stateMeta, term uint64, err error) {
	s := &Store{cfg: *cfg, gone: make(chan struct{})}
	s.fault, s.metrics = newFault(cfg.Fatal, cfg.Logger), newStoreMetrics(nil)
	defer func() { err = errors.Join(err, s.release()) }()
	s.layout = layout{fs: cfg.FS, root: cfg.Dir}
	s.fs, s.space = cfg.FS, newSpace(&s.cfg, &s.aside)
	if s.lock, err = cfg.FS.Lock(s.layout.path(nameLock)); err != nil {
		return stateMeta{}, 0, fmt.Errorf("lock the data folder (is the node running? stop it): %w", err)
	}
	var p pointer
	found, err := s.layout.readFile(nameState, &p)
	if err != nil || !found {
		return stateMeta{}, 0, errors.Join(errors.New("the folder holds no state"), err)
	}
	if s.ident, err = s.layout.readIdent(cfg.ID); err != nil {
		return stateMeta{}, 0, err
	}
	s.cfg.Bootstrap = false
	if err := s.openStorage(p, machine); err != nil {
		return stateMeta{}, 0, err
	}
	defer func() {
		s.states.swap(nil)
		s.snaps.open.Wait()
	}()
	st, err := s.states.acquire()
	if err != nil {
		return stateMeta{}, 0, err
	}
	err = st.db.Checkpoint(fresh.stateDir(1), pebble.WithFlushedWAL())
	st.release()
	if err != nil {
		return stateMeta{}, 0, fmt.Errorf("copy the state: %w", err)
	}
	if term, err = s.log.GetUint64([]byte(keyCurrentTerm)); err != nil {
		return stateMeta{}, 0, err
	}
	meta, err := s.applyRest(fresh, machine)
	return meta, term, err
}

// replayBatch is how many entries are applied at a time.
const replayBatch = 256

func (s *Store) applyRest(fresh layout, machine Machine) (stateMeta, error) {
	dbs, done := offlineDatabases(&s.cfg)
	defer done()
	db, err := dbs.openState(fresh.stateDir(1), false)
	if err != nil {
		return stateMeta{}, err
	}
	var states stateHolder
	closed := make(chan error, 1)
	states.swap(&state{db: db, generation: 1, closed: func(err error) { closed <- err }})
	meta, err := readStateMeta(db)
	if err == nil {
		f := &fsm{
			machine: machine, fault: dbs.fault, states: &states, metrics: dbs.metrics, watch: newWatch(&s.cfg, &s.aside, dbs.fault),
			termSeen: make(chan struct{}), install: func(io.ReadCloser) error { return errors.New("not here") },
		}
		f.begin(meta, nil)
		if err = f.restored(db, meta.applied); err == nil {
			err = s.replayLog(f, meta.applied.Index)
		}
	}
	if err == nil {
		meta, err = readStateMeta(db)
	}
	if err == nil {
		err = db.Flush()
	}
	states.swap(nil)
	return meta, errors.Join(err, <-closed)
}

func (s *Store) replayLog(f *fsm, applied uint64) error {
	last, err := s.log.LastIndex()
	if err != nil {
		return err
	}
	for from := applied + 1; from <= last; from += replayBatch {
		var logs []*raft.Log
		for i := from; i <= min(last, from+replayBatch-1); i++ {
			l := new(raft.Log)
			if err := s.log.GetLog(i, l); err != nil {
				return fmt.Errorf("read entry %d of the log: %w", i, err)
			}
			logs = append(logs, l)
		}
		f.ApplyBatch(logs)
		if end := logs[len(logs)-1]; f.applied.Load().Index < end.Index {
			// What changes nothing leaves no trace: the position still is the end of the log.
			st, _, err := f.advance(Position{Index: end.Index, Term: end.Term})
			if err != nil {
				return err
			}
			st.release()
		}
	}
	return nil
}
