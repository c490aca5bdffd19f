package raftstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// layout is the data folder:
//
//	LOCK             held while a process uses the folder
//	IDENT            which node of which cluster this is, and the format of the folder
//	STATE            which state folder counts; replacing it is the one commit point of an install (R6)
//	log/             Pebble: raft's log, term and vote
//	state-<gen>/     Pebble: the state
//	staging/         snapshots coming in; emptied at open
//	ckpt/            snapshots going out; emptied at open
//	BACKUP           when a backup was last sent whole; missing: never
//	ORIGIN           what a folder that was just restored or recovered was made for (origin.go); gone at open
type layout struct {
	fs   vfs.FS
	root string
}

const (
	formatFolder = 2
	// formatNoStore is the format of folders that were made before stores had ids.
	formatNoStore = 1

	nameLock    = "LOCK"
	nameIdent   = "IDENT"
	nameState   = "STATE"
	nameLog     = "log"
	nameBackup  = "BACKUP"
	nameStaging = "staging"
	nameOut     = "ckpt"
	prefixState = "state-"
	suffixTmp   = ".tmp"

	dirMode = 0o750
)

// ident is the IDENT file. Cluster is empty on a node that has not joined one yet. Began says that the cluster began in this folder: what a
// crash cut off of that, the next start does. Store is made with the folder and never changes.
type ident struct {
	Format  int    `json:"format"`
	Cluster string `json:"cluster"`
	Began   bool   `json:"began,omitempty"`
	Node    string `json:"node"`
	Store   string `json:"store"`
	// Replaces is the cluster that this one was restored or recovered from, in the folder with which it began.
	Replaces string `json:"replaces,omitempty"`
	// Damaged says what a recovery found broken in this folder, and read past: an ordinary start must not take what is left for all there was.
	Damaged string `json:"damaged,omitempty"`
}

func (i ident) life() Life { return Life{ID: i.Node, Store: i.Store} }

// pointer is the STATE file: the generation that counts, and the position at which it was installed (zero for the first).
type pointer struct {
	Format     int    `json:"format"`
	Generation uint64 `json:"generation"`
	Index      uint64 `json:"index"`
	Term       uint64 `json:"term"`
}

func (l layout) path(elem ...string) string {
	return l.fs.PathJoin(append([]string{l.root}, elem...)...)
}

func stateName(generation uint64) string { return prefixState + strconv.FormatUint(generation, 10) }

func (l layout) stateDir(generation uint64) string { return l.path(stateName(generation)) }

// createRoot makes the folder and syncs each name on the way to it: a folder whose parent was not synced can vanish with all it
// holds.
func (l layout) createRoot() error {
	var made []string
	for dir := l.root; ; dir = l.fs.PathDir(dir) {
		made = append(made, l.fs.PathDir(dir))
		if _, err := l.fs.Stat(dir); err == nil || l.fs.PathDir(dir) == dir {
			break
		}
	}
	if err := l.fs.MkdirAll(l.root, dirMode); err != nil {
		return fmt.Errorf("create %s: %w", l.root, err)
	}
	for _, dir := range made {
		if err := l.syncDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// create makes the folder and what is always in it.
func (l layout) create() error {
	if err := l.createRoot(); err != nil {
		return err
	}
	for _, dir := range []string{l.path(nameStaging), l.path(nameOut)} {
		if err := l.fs.MkdirAll(dir, dirMode); err != nil {
			return fmt.Errorf("create %s: %w", dir, err)
		}
	}
	return l.syncDir(l.root)
}

// reap removes what an earlier run left half done: incoming and outgoing snapshots, states that STATE does not name, what the folder was made for.
func (l layout) reap(generation uint64) error {
	for _, dir := range []string{nameStaging, nameOut} {
		names, err := l.fs.List(l.path(dir))
		if err != nil {
			return fmt.Errorf("list %s: %w", dir, err)
		}
		for _, name := range names {
			if err := l.fs.RemoveAll(l.path(dir, name)); err != nil {
				return fmt.Errorf("remove %s/%s: %w", dir, name, err)
			}
		}
	}
	names, err := l.fs.List(l.root)
	if err != nil {
		return fmt.Errorf("list the data folder: %w", err)
	}
	for _, name := range names {
		stale := strings.HasPrefix(name, prefixState) && name != stateName(generation)
		if stale || strings.HasSuffix(name, suffixTmp) || name == nameOrigin {
			if err := l.fs.RemoveAll(l.path(name)); err != nil {
				return fmt.Errorf("remove %s: %w", name, err)
			}
		}
	}
	return nil
}

// readIdent returns the IDENT file, and writes it at the first start. A folder of another node is refused.
func (l layout) readIdent(node string) (ident, error) {
	var id ident
	found, err := l.readFile(nameIdent, &id)
	switch {
	case err != nil:
		return ident{}, err
	case !found:
		if err := l.refuseOrphans(nameIdent, nameState, nameLog); err != nil {
			return ident{}, err
		}
		id = ident{Format: formatFolder, Node: node, Store: randomID()}
		return id, l.writeFile(nameIdent, id)
	}
	return id, id.check(node)
}

// errNoStore is what is wrong with a folder that was made before stores had ids.
var errNoStore = errors.New("the data folder was made before stores had ids: 'machineid recover' makes one of it that this program takes")

// check says what is wrong with an IDENT file, as one of the node.
func (i ident) check(node string) error {
	switch {
	case i.Format != formatFolder && i.Format != formatNoStore:
		return fmt.Errorf("%s: format %d is not one this program knows (newest: %d)", nameIdent, i.Format, formatFolder)
	case i.Node != node:
		return fmt.Errorf("%s: the data folder belongs to node %q, not to %q", nameIdent, i.Node, node)
	case i.Format == formatNoStore:
		return fmt.Errorf("%s: %w", nameIdent, errNoStore)
	case i.Store == "":
		return fmt.Errorf("%s: it names no store: restore the file, or wipe the folder and join again", nameIdent)
	}
	return nil
}

// refuseOrphans keeps a folder that lost a file from being taken for an empty one: what is made after the file is not there
// without it.
func (l layout) refuseOrphans(missing string, later ...string) error {
	for _, name := range later {
		if _, err := l.fs.Stat(l.path(name)); err == nil {
			return fmt.Errorf("the data folder holds %s but no %s: restore the file, or wipe the folder and join again", name, missing)
		} else if !oserror.IsNotExist(err) {
			return fmt.Errorf("look for %s: %w", name, err)
		}
	}
	return nil
}

// readPointer returns the STATE file, and writes the first one of an empty folder.
func (l layout) readPointer() (pointer, error) {
	var p pointer
	found, err := l.readFile(nameState, &p)
	switch {
	case err != nil:
		return pointer{}, err
	case !found:
		if err := l.refuseOrphans(nameState, nameLog, stateName(1)); err != nil {
			return pointer{}, err
		}
		p = pointer{Format: formatFolder, Generation: 1}
		return p, l.writeFile(nameState, p)
	case p.Format != formatFolder:
		return pointer{}, fmt.Errorf("%s: format %d is not one this program knows (newest: %d)", nameState, p.Format, formatFolder)
	case p.Generation == 0:
		return pointer{}, fmt.Errorf("%s: names no generation", nameState)
	}
	return p, nil
}

func (l layout) readFile(name string, v any) (found bool, err error) {
	f, err := l.fs.Open(l.path(name))
	if oserror.IsNotExist(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("open %s: %w", name, err)
	}
	data, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return false, fmt.Errorf("read %s: %w", name, err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return false, fmt.Errorf("read %s: %w", name, err)
	}
	return true, nil
}

// writeFile replaces a file in one step: written and synced under another name, renamed, and the folder synced. When it
// returns, the new content is what a crash leaves; if it fails, either one is.
func (l layout) writeFile(name string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	tmp := l.path(name + suffixTmp)
	f, err := l.fs.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("create %s: %w", name, err)
	}
	_, err = f.Write(append(data, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := l.fs.Rename(tmp, l.path(name)); err != nil {
		return fmt.Errorf("replace %s: %w", name, err)
	}
	return l.syncDir(l.root)
}

func (l layout) syncDir(dir string) error {
	d, err := l.fs.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("open folder %s: %w", dir, err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("sync folder %s: %w", dir, err)
	}
	return nil
}
