package raftstore

import (
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
)

// LogView is what a data folder holds, read while no node uses it.
type LogView struct {
	Node     string     `json:"node"`
	Cluster  string     `json:"cluster"`
	First    uint64     `json:"first"`
	Last     uint64     `json:"last"`
	Term     uint64     `json:"term"`
	Boundary Position   `json:"boundary"` // where an installed state took the log's place
	Applied  Position   `json:"applied"`  // of the state
	Members  []Peer     `json:"members"`  // as the state has them
	Entries  []LogEntry `json:"entries"`
}

// LogEntry is one entry. Commands is what describe made of each, or of none.
type LogEntry struct {
	Index uint64    `json:"index"`
	Term  uint64    `json:"term"`
	Time  time.Time `json:"time,omitzero"`
	Bytes int       `json:"bytes"`
	What  string    `json:"what"`
}

// ReadLog reads entries from to to of the folder dir, at most limit; from 0 is as early as limit allows, to 0 the newest. describe says
// what a pack of commands is. Nothing in the folder is changed. It fails if a node uses the folder.
func ReadLog(dir string, from, to uint64, limit int, describe func(commands [][]byte) string) (_ LogView, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("read the log in %s: %w", dir, err)
		}
	}()
	cfg := Config{ID: "reader", Dir: dir}.withDefaults()
	l := layout{fs: cfg.FS, root: dir}
	var id ident
	var p pointer
	if found, err := l.readFile(nameIdent, &id); err != nil || !found {
		return LogView{}, errors.Join(errors.New("it is no data folder"), err)
	}
	if found, err := l.readFile(nameState, &p); err != nil || !found {
		return LogView{}, errors.Join(errors.New("it holds no state"), err)
	}
	lock, err := cfg.FS.Lock(l.path(nameLock))
	if err != nil {
		return LogView{}, fmt.Errorf("a node uses it (stop it, or copy the folder): %w", err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	return offline(&cfg, func(dbs *databases) (LogView, error) {
		v := LogView{Node: id.Node, Cluster: id.Cluster}
		if err := v.readState(dbs, l.stateDir(p.Generation)); err != nil {
			return v, err
		}
		return v, v.readLog(dbs, l.path(nameLog), from, to, limit, describe)
	})
}

func (v *LogView) readLog(dbs *databases, dir string, from, to uint64, limit int, describe func([][]byte) string) (err error) {
	o := dbs.options(nameLog, dbs.caches.log)
	o.ReadOnly, o.ErrorIfNotExists = true, true
	o.EventListener = &pebble.EventListener{}
	db, err := pebble.Open(dir, o)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	log, err := openLogStore(db, dbs.fault, 1, dbs.metrics, knobs{})
	if err != nil {
		return err
	}
	v.First, v.Last, v.Boundary = log.first, log.last, log.boundary
	if v.Term, err = log.GetUint64([]byte(keyCurrentTerm)); err != nil {
		return err
	}
	v.entries(log, from, to, limit, describe)
	return nil
}

func (v *LogView) readState(dbs *databases, dir string) error {
	db, err := dbs.openState(dir, true)
	if err != nil {
		return err
	}
	meta, err := readStateMeta(db)
	v.Applied, v.Members = meta.applied, peersOf(meta.conf)
	return errors.Join(err, db.Close())
}

func (v *LogView) entries(log *logStore, from, to uint64, limit int, describe func([][]byte) string) {
	if v.Last == 0 || limit <= 0 {
		return
	}
	if to == 0 || to > v.Last {
		to = v.Last
	}
	n := uint64(limit)
	if from == 0 {
		from = to - min(to, n) + 1
	}
	from = max(from, v.First)
	for i := from; i <= to && i-from < n; i++ {
		var l raft.Log
		if err := log.GetLog(i, &l); err != nil {
			v.Entries = append(v.Entries, LogEntry{Index: i, What: "DAMAGED: " + err.Error()})
			continue
		}
		v.Entries = append(v.Entries, LogEntry{Index: i, Term: l.Term, Time: l.AppendedAt, Bytes: len(l.Data), What: whatIs(&l, describe)})
	}
}

func whatIs(l *raft.Log, describe func([][]byte) string) string {
	switch l.Type {
	case raft.LogCommand:
	case raft.LogConfiguration:
		return fmt.Sprintf("members: %+v", peersOf(configuration{index: l.Index, encoded: l.Data}))
	case raft.LogNoop, raft.LogBarrier, raft.LogAddPeerDeprecated, raft.LogRemovePeerDeprecated:
		return l.Type.String()
	}
	var commands [][]byte
	n, err := unpack(l.Data, func(cmd []byte) { commands = append(commands, cmd) })
	switch {
	case err != nil:
		return "DAMAGED: " + err.Error()
	case n == 0 && len(l.Data) > 0 && l.Data[0] == packFormat:
		format, err := raisedFormat(l.Data)
		if err != nil {
			return "DAMAGED: " + err.Error()
		}
		return fmt.Sprintf("raises the format to %d", format)
	case n == 0 && len(l.Data) > 0 && (l.Data[0] == packBarrier || l.Data[0] == packName):
		return "barrier of the term"
	case n == 0:
		return "nothing"
	}
	return describe(commands)
}
