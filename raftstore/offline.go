package raftstore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

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
	cfg := Config{ID: "inspect", Dir: dir}.withDefaults()
	h, err := unpackArchive(cfg.FS, dir, r)
	if err != nil {
		return Archive{}, fmt.Errorf("inspect an archive: %w", err)
	}
	_, err = offline(&cfg, func(dbs *databases) (struct{}, error) {
		db, err := dbs.openState(dir, true)
		if err != nil {
			return struct{}{}, err
		}
		meta, err := readStateMeta(db)
		if err == nil && meta.applied != h.meta().applied {
			err = errors.New("its header does not describe its files")
		}
		if err == nil && f != nil {
			err = f(db)
		}
		return struct{}{}, errors.Join(err, db.Close())
	})
	if err != nil {
		return Archive{}, fmt.Errorf("inspect an archive: %w", err)
	}
	return h.describe(), nil
}

// offline does work on databases without a Store. A fault (R5) ends the work, and is its error: nothing is served that could be wrong now, and
// whoever repairs a cluster is to be told. What was open then stays open until the process ends, because Pebble's locks may be held.
func offline[T any](cfg *Config, work func(*databases) (T, error)) (T, error) {
	caches := newCaches(cfg)
	dbs := &databases{
		fs: cfg.FS, caches: caches, fault: newFault(func(error) { runtime.Goexit() }, cfg.Logger), cfg: cfg, metrics: newStoreMetrics(nil),
		aside: &aside{}, lowSpace: func() {},
	}
	var result T
	var err error
	done := make(chan struct{})
	go func() { // a fault ends the goroutine that meets it, which may be another
		v, werr := work(dbs)
		result, err = v, werr
		close(done)
	}()
	select {
	case <-done:
		caches.unref()
	case <-dbs.fault.tripped():
	}
	if ferr := dbs.fault.err(); ferr != nil {
		return *new(T), ferr
	}
	return result, err
}
