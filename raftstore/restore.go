package raftstore

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
)

// Restoring says how a folder is made from an archive (Restore), or of the folder of a node whose cluster has lost its majority for good
// (Recover). Either begins another cluster, of this node alone: it has a name and a store of its own, and a term that the old one never reaches.
type Restoring struct {
	ID      string // of the node that the folder is for (CheckID)
	Address string // at which others will reach it (CheckAddress)
	// NewestFormat is the newest format that this program knows, as in Config: what is at a later one is refused.
	NewestFormat int
	// Edit changes the state before anybody can open it: it is not the continuation of what others have seen. from and to are the names of the
	// cluster that the state comes from, and of the one that begins. nil: nothing more changes.
	Edit   func(r pebble.Reader, w *pebble.Batch, from, to string) error
	Logger *slog.Logger // nil: none
	FS     vfs.FS       // nil: the disk
}

// Begun is the cluster that a restore or a recovery has begun: where its state is, its name, and that of the one it replaces.
type Begun struct {
	Position
	Cluster  string
	Replaces string
	Kept     string // where the folder that was recovered is now
	Damaged  string // what was broken in that folder and is lost, "" if nothing is known to be
}

func (o *Restoring) config(dir string) (Config, error) {
	err := errors.Join(CheckID(o.ID), CheckAddress(o.Address))
	return Config{ID: o.ID, Dir: dir, FS: o.FS, Logger: o.Logger, NewestFormat: o.NewestFormat}.withDefaults(), err
}

// Restore makes the folder dir, which must not exist or be empty, from an archive: the whole of it, or nothing under that name. What a restore
// before left beside it is removed.
func Restore(dir string, r io.Reader, o Restoring) (Begun, error) {
	begun, err := restore(dir, r, &o)
	if err != nil {
		return begun, fmt.Errorf("restore into %s: %w", dir, err)
	}
	return begun, nil
}

func restore(dir string, r io.Reader, o *Restoring) (Begun, error) {
	cfg, err := o.config(dir)
	if err != nil {
		return Begun{}, err
	}
	s := newSite(cfg.FS, dir)
	switch taken, err := s.taken(); {
	case err != nil:
		return Begun{}, err
	case taken:
		return Begun{}, errors.New("there is something already: name another folder, or move this one away")
	}
	if err := s.begin(origin{Operation: byRestore, Node: o.ID}); err != nil {
		return Begun{}, err
	}
	h, err := unpackArchive(cfg.FS, s.fresh.stateDir(1), r)
	if err != nil {
		return Begun{}, err
	}
	begun, err := offline(&cfg, func(dbs *databases) (Begun, error) {
		return plant(dbs, s.fresh, o, h.Cluster, Position{Index: h.Index, Term: h.Term}, h.Term)
	})
	if err != nil {
		return Begun{}, err
	}
	return begun, s.finish()
}

// plant makes a whole folder around a state that lies in state-1 at a position: another cluster of this node alone, with an empty log behind a
// boundary at that position, and a term far above the one given, which is the newest that was seen. from is the name of the cluster before, if
// the state does not know it.
func plant(dbs *databases, l layout, o *Restoring, from string, at Position, term uint64) (Begun, error) {
	if at.Index <= 1 {
		return Begun{}, fmt.Errorf("the state is at %d: there is nothing in it to begin with", at.Index)
	}
	term, err := termAfter(max(term, at.Term))
	if err != nil {
		return Begun{}, err
	}
	id := ident{Format: formatFolder, Cluster: randomID(), Node: o.ID, Store: randomID()}
	db, err := dbs.openState(l.stateDir(1), false)
	if err != nil {
		return Begun{}, err
	}
	from, err = edit(dbs.cfg, db, o, id, from, at)
	if err := errors.Join(err, db.Close()); err != nil {
		return Begun{}, err
	}
	id.Replaces = from
	err = plantLog(dbs, l, id, at, term)
	if err == nil {
		err = errors.Join(
			l.writeFile(nameIdent, id),
			l.writeFile(nameState, pointer{Format: formatFolder, Generation: 1, Index: at.Index, Term: at.Term}),
			l.syncDir(l.root),
		)
	}
	return Begun{Position: at, Cluster: id.Cluster, Replaces: from}, err
}

// termGap is how far the term of a cluster that begins is above all that were seen, at least; as much again is random, so that two which begin
// from one archive differ. An election raises the term by one, so the old cluster does not get there in years of nothing but elections.
// lastTerm leaves room for as many beginnings as anybody could make.
const (
	termGap  = 1 << 20
	lastTerm = 1 << 62
)

func termAfter(term uint64) (uint64, error) {
	if term > lastTerm {
		return 0, fmt.Errorf("the term %d is too high to begin another cluster after it", term)
	}
	return term + termGap + rand.Uint64N(termGap), nil
}

// edit makes the state one of another cluster, and returns the name of the one before.
func edit(cfg *Config, db *pebble.DB, o *Restoring, id ident, from string, at Position) (string, error) {
	got, err := readStateMeta(db)
	if err != nil {
		return "", err
	}
	if err := cfg.tooNew(got.format); err != nil { // its start would be refused
		return "", err
	}
	if got.applied != at {
		return "", fmt.Errorf("the state is at %d of term %d, and should be at %d of term %d", got.applied.Index, got.applied.Term, at.Index, at.Term)
	}
	if got.cluster != "" {
		from = got.cluster
	}
	if from == "" {
		return "", errors.New("the state is of no cluster: there is nothing in it to begin with")
	}
	alone := raft.Configuration{Servers: []raft.Server{{Suffrage: raft.Voter, ID: id.life().server(), Address: raft.ServerAddress(o.Address)}}}
	b := db.NewBatch()
	defer closeBatch(b)
	err = errors.Join(
		b.Set(keyConf, configuration{index: at.Index, encoded: raft.EncodeConfiguration(alone)}.encode(), nil),
		b.Set(keyCluster, []byte(id.Cluster), nil),
	)
	if err == nil && o.Edit != nil {
		err = o.Edit(db, b, from, id.Cluster)
	}
	if err == nil {
		err = b.Commit(pebble.Sync)
	}
	if err != nil {
		return "", fmt.Errorf("make the state another cluster's: %w", err)
	}
	return from, nil
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
