package raftstore

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	suffixRestoring = ".restoring"
	suffixBefore    = ".before-recovery"

	// nameOrigin is in a folder that is being made beside another. It is written first, and goes when the folder is opened.
	nameOrigin = "ORIGIN"

	byRestore = "restore"
	byRecover = "recover"
)

// origin says what a folder that is being made is for, so that what an attempt left is never taken for something else.
type origin struct {
	Operation string `json:"operation"` // byRestore or byRecover
	Node      string `json:"node"`
	// Of a recovery: the store that it begins from, and the name that its folder gets (not a path).
	Store string `json:"store,omitempty"`
	Kept  string `json:"kept,omitempty"`
}

// site is where a folder is made: whole and synced beside the name that it is for, and renamed last.
type site struct {
	fs    vfs.FS
	dir   string
	fresh layout // the folder that is made
}

func newSite(fs vfs.FS, dir string) site {
	return site{fs: fs, dir: dir, fresh: layout{fs: fs, root: dir + suffixRestoring}}
}

// taken reports whether there is something under the name. An empty folder is nothing.
func (s site) taken() (bool, error) {
	names, err := s.fs.List(s.dir)
	if oserror.IsNotExist(err) {
		return false, nil
	}
	return len(names) > 0, err
}

// leftover returns what an attempt before left beside the name: found says whether there is anything, and the origin is zero if that does
// not say what it is.
func (s site) leftover() (o origin, found bool, err error) {
	if _, err := s.fs.Stat(s.fresh.root); oserror.IsNotExist(err) {
		return origin{}, false, nil
	} else if err != nil {
		return origin{}, false, err
	}
	_, err = s.fresh.readFile(nameOrigin, &o)
	return o, true, err
}

// begin clears the place for a folder and says what it is for. What an attempt before left is removed if it was of the same kind: of a restore
// into the same folder, of a recovery of the same node. The rest is somebody else's.
func (s site) begin(o origin) error {
	old, found, err := s.leftover()
	if err != nil {
		return err
	}
	if found {
		if err := s.ours(old, o); err != nil {
			return err
		}
		if err := s.clear(); err != nil {
			return err
		}
	}
	if err := s.fresh.createRoot(); err != nil {
		return err
	}
	if err := s.fresh.writeFile(nameOrigin, o); err != nil {
		return err
	}
	return s.fresh.create()
}

func (s site) ours(old, now origin) error {
	switch {
	case old == origin{}:
		// An attempt that was cut before it could say what it is has written nothing else.
		names, err := s.fs.List(s.fresh.root)
		if err != nil {
			return err
		}
		for _, name := range names {
			if name != nameOrigin+suffixTmp {
				return fmt.Errorf("%s is in the way and does not say what it is: move it away, or remove it", s.fresh.root)
			}
		}
	case old.Operation != now.Operation, now.Operation == byRecover && old.Node != now.Node:
		return fmt.Errorf("%s is in the way: a %s for node %s that was cut left it; finish that, or remove it", s.fresh.root, old.Operation, old.Node)
	}
	return nil
}

// clear removes what was left. What says what it is goes last: a crash on the way must not leave what nobody may remove.
func (s site) clear() error {
	names, err := s.fs.List(s.fresh.root)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == nameOrigin {
			continue
		}
		if err := s.fs.RemoveAll(s.fresh.path(name)); err != nil {
			return fmt.Errorf("remove what an attempt before left: %w", err)
		}
	}
	if err := s.fresh.syncDir(s.fresh.root); err != nil {
		return err
	}
	if err := s.fs.RemoveAll(s.fresh.root); err != nil {
		return fmt.Errorf("remove what an attempt before left: %w", err)
	}
	return s.syncParent()
}

// finish is the commit point: the folder that was made gets the name in one step.
func (s site) finish() error {
	if err := s.fs.Remove(s.dir); err != nil && !oserror.IsNotExist(err) { // it may be there, empty
		return err
	}
	return s.rename(s.fresh.root, s.dir)
}

// rename returns when a crash cannot take it back.
func (s site) rename(from, to string) error {
	if err := s.fs.Rename(from, to); err != nil {
		return err
	}
	return s.syncParent()
}

func (s site) syncParent() error { return s.fresh.syncDir(s.fs.PathDir(s.dir)) }

// beside is the path of a name in the folder that dir is in.
func (s site) beside(name string) string { return s.fs.PathJoin(s.fs.PathDir(s.dir), name) }

// freeName is a name under which the folder that is recovered can stay.
func (s site) freeName() (string, error) {
	base := s.fs.PathBase(s.dir) + suffixBefore
	for n, name := 2, base; ; n++ {
		switch _, err := s.fs.Stat(s.beside(name)); {
		case oserror.IsNotExist(err):
			return name, nil
		case err != nil:
			return "", err
		}
		name = fmt.Sprintf("%s-%d", base, n)
	}
}

// Recovered returns the folder that an earlier recovery of the node's folder dir has kept beside it, "" if there is none. One that was cut is none: it is to be
// repeated.
func Recovered(dir string) string {
	kept := dir + suffixBefore
	for _, folder := range []string{dir, kept} {
		if _, err := vfs.Default.Stat(folder); err != nil {
			return ""
		}
	}
	return kept
}

// putBack undoes the first rename of a recovery that was cut before its second: the folder that it kept gets its name back. It fails if there
// is nothing that this node's recovery kept.
func (s site) putBack(node string) error {
	o, found, err := s.leftover()
	switch {
	case err != nil:
		return err
	case !found || o.Operation != byRecover:
		err := errors.New("there is no such folder")
		if found {
			err = fmt.Errorf("%w; %s is what something else left there (a restore that was cut?): finish that, or remove it", err, s.fresh.root)
		}
		return err
	case o.Node != node:
		return fmt.Errorf("a recovery of node %s was cut here, and this is for %s: give --id %s to finish it", o.Node, node, o.Node)
	}
	kept := s.beside(o.Kept)
	var id ident
	found, err = layout{fs: s.fs, root: kept}.readFile(nameIdent, &id)
	if err != nil {
		return err
	}
	if !found || o.Kept != s.fs.PathBase(kept) || id.Node != o.Node || id.Store != o.Store {
		return fmt.Errorf("a recovery was cut here, and %s is not the folder that it kept: rename that one to %s, and recover again", kept, s.dir)
	}
	return s.rename(kept, s.dir)
}

// refuseCut keeps a store from beginning empty in the place of one that a restore, or a recovery that was cut between its renames, is to put
// there.
func (s site) refuseCut(logger *slog.Logger) error {
	if _, err := s.fs.Stat(s.fresh.root); oserror.IsNotExist(err) {
		return nil
	}
	taken, err := s.taken()
	if err != nil {
		return err
	}
	if taken {
		logger.Warn("a restore or a recovery that was cut left a folder beside this one: it is not used, and can be removed",
			slog.String("folder", s.fresh.root))
		return nil
	}
	switch o, _, err := s.leftover(); {
	case err != nil:
		return err
	case o.Operation == byRecover:
		return fmt.Errorf("a recovery of this folder was cut: run it again ('machineid recover'); the folder of before is %s", s.beside(o.Kept))
	default:
		return fmt.Errorf("a restore into this folder was cut: run it again, or remove %s to begin with an empty folder", s.fresh.root)
	}
}

// HasFolder reports whether there is a node's folder dir, or one is to come there: by a restore or a recovery that was cut.
func HasFolder(dir string) bool {
	for _, name := range []string{dir, dir + suffixRestoring} {
		if _, err := vfs.Default.Stat(name); err == nil {
			return true
		}
	}
	return false
}
