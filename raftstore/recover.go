package raftstore

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// Recover makes another cluster out of the folder of one node, for a cluster that has lost its majority for good. All of the node's log counts
// as committed. The new folder takes the place of dir, and the old one stays beside it (Begun.Kept). It can be repeated whatever cut it: until
// the folder is moved aside, dir is as it was for an ordinary start, and from then on until the new one is in its place no node starts there.
// A repetition begins anew, with what it is given. Nobody else may use dir, and others of the old cluster that come back stay what they were.
func Recover(dir string, machine Machine, o Restoring) (Begun, error) {
	begun, err := recoverFolder(dir, machine, &o)
	if err != nil {
		return begun, fmt.Errorf("recover %s: %w", dir, err)
	}
	return begun, nil
}

func recoverFolder(dir string, machine Machine, o *Restoring) (_ Begun, err error) {
	cfg, err := o.config(dir)
	if err != nil {
		return Begun{}, err
	}
	s, old := newSite(cfg.FS, dir), layout{fs: cfg.FS, root: dir}
	switch taken, err := s.taken(); {
	case err != nil:
		return Begun{}, err
	case !taken:
		if err := s.putBack(o.ID); err != nil {
			return Begun{}, err
		}
	}
	// Held until the new folder is in its place: nobody must write to what is copied.
	lock, err := cfg.FS.Lock(old.path(nameLock))
	if err != nil {
		return Begun{}, fmt.Errorf("lock the data folder (is the node running? stop it): %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	id, p, err := whoseState(old, o.ID)
	if err != nil {
		return Begun{}, err
	}
	if damage := checkWAL(cfg.FS, old.path(nameLog)); damage != nil && id.Damaged == "" {
		// To open the log cuts off what stands behind the damage, and nobody would see it any more: so it is written down first.
		id.Damaged = damage.Error()
		if err := old.writeFile(nameIdent, id); err != nil {
			return Begun{}, err
		}
	}
	kept, err := s.freeName()
	if err != nil {
		return Begun{}, err
	}
	if err := s.begin(origin{Operation: byRecover, Node: id.Node, Store: id.Store, Kept: kept}); err != nil {
		return Begun{}, err
	}
	begun, err := offline(&cfg, func(dbs *databases) (Begun, error) {
		at, term, err := replay(dbs, id, p, s.fresh, machine)
		if err != nil {
			return Begun{}, err
		}
		return plant(dbs, s.fresh, o, id.Cluster, at, term)
	})
	if err != nil {
		return Begun{}, err
	}
	begun.Kept, begun.Damaged = s.beside(kept), id.Damaged
	if err := s.rename(dir, begun.Kept); err != nil {
		return Begun{}, err
	}
	return begun, s.finish()
}

// whoseState reads whose folder it is and which state counts in it. Folders that were made before stores had ids are taken too.
func whoseState(l layout, node string) (id ident, p pointer, err error) {
	found, err := l.readFile(nameIdent, &id)
	switch {
	case err != nil:
		return id, p, err
	case !found:
		return id, p, fmt.Errorf("it is no data folder: it has no %s", nameIdent)
	}
	if err := id.check(node); err != nil && !errors.Is(err, errNoStore) {
		return id, p, err
	}
	found, err = l.readFile(nameState, &p)
	switch {
	case err != nil:
		return id, p, err
	case !found || p.Generation == 0:
		return id, p, errors.New("it holds no state")
	case p.Format > formatFolder:
		return id, p, fmt.Errorf("%s: format %d is not one this program knows (newest: %d)", nameState, p.Format, formatFolder)
	}
	return id, p, nil
}

// replay copies the state of a folder to fresh and applies the rest of the log to it. It returns where that ends, and the newest term that was
// seen. The folder itself stays as it is, but for what opening completes.
func replay(dbs *databases, id ident, p pointer, fresh layout, machine Machine) (at Position, term uint64, err error) {
	s := &Store{cfg: *dbs.cfg, gone: make(chan struct{}), fault: dbs.fault, metrics: dbs.metrics, ident: id, fs: dbs.fs}
	s.layout, s.space = layout{fs: s.fs, root: s.cfg.Dir}, newSpace(&s.cfg, &s.aside)
	defer func() {
		if s.fault.err() != nil {
			return // what is open stays so: nothing more is to be written
		}
		if s.states.current != nil {
			s.states.swap(nil)
			s.snaps.open.Wait()
			err = errors.Join(err, s.snaps.closeError())
		}
		err = errors.Join(err, s.release())
	}()
	if err := s.openStorage(p, machine); err != nil {
		return Position{}, 0, err
	}
	s.states.swap(nil)
	s.snaps.open.Wait()
	if err := errors.Join(s.snaps.closeError(), copyState(fresh, s.layout.stateDir(p.Generation))); err != nil {
		return Position{}, 0, fmt.Errorf("copy the state: %w", err)
	}
	if term, err = s.log.GetUint64([]byte(keyCurrentTerm)); err != nil {
		return Position{}, 0, err
	}
	at, err = s.applyRest(dbs, fresh, machine)
	return at, term, err
}

// copyState copies the files of a state that is closed. Its tables never change, so a second name will do for them. (Pebble's checkpoint has no
// manifest if nothing has changed since the database was opened, v2.1.7, and a flush that is to change that ends the process on a full disk.)
func copyState(fresh layout, dir string) error {
	names, err := fresh.fs.List(dir)
	if err == nil {
		err = fresh.fs.MkdirAll(fresh.stateDir(1), dirMode)
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == nameLock {
			continue
		}
		do := vfs.Copy // and syncs
		if strings.HasSuffix(name, ".sst") || strings.HasSuffix(name, ".blob") {
			do = vfs.LinkOrCopy
		}
		if err := do(fresh.fs, fresh.fs.PathJoin(dir, name), fresh.fs.PathJoin(fresh.stateDir(1), name)); err != nil {
			return err
		}
	}
	return errors.Join(fresh.syncDir(fresh.stateDir(1)), fresh.syncDir(fresh.root))
}

// replayBatch is how many entries are applied at a time.
const replayBatch = 256

func (s *Store) applyRest(dbs *databases, fresh layout, machine Machine) (Position, error) {
	db, err := dbs.openState(fresh.stateDir(1), false)
	if err != nil {
		return Position{}, err
	}
	var states stateHolder
	closed := make(chan error, 1)
	states.swap(&state{db: db, generation: 1, closed: func(err error) { closed <- err }})
	meta, err := readStateMeta(db)
	if err == nil {
		f := &fsm{
			machine: machine, fault: dbs.fault, states: &states, metrics: dbs.metrics, watch: newWatch(&s.cfg, &s.aside, dbs.fault),
			termSeen: make(chan struct{}), install: func(io.ReadCloser) error { return errors.New("not here") },
			raise: func(format int) error { return dbs.raise(db, format) }, // the log's database is yet to be made, and raised when it is opened
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
		err = db.LogData(nil, pebble.Sync) // not a flush: Pebble ends the process where that fails
	}
	states.swap(nil)
	return meta.applied, errors.Join(err, <-closed)
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
