package raftstore

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/hashicorp/raft"
)

// A format is what the files of a cluster's nodes may contain. It is pinned: a program does not write what the one before it cannot
// read, until an entry of the log says that every member can (CockroachDB's cluster versions, etcd's cluster version). Formats are
// never lowered.
const (
	formatFirst  = 1
	formatNewest = 2 // the newest that means something to Pebble
)

// pebbleFormats are what the formats mean to Pebble; those after the last mean the same as that. All are at or above FormatWALSyncChunks, by which Pebble tells some damage in a WAL from
// its torn end: not what is in the newest block, nor anything in a new database's first WAL, nor, reliably, behind full blocks. wal.go does.
var pebbleFormats = [formatNewest + 1]pebble.FormatMajorVersion{
	formatFirst: pebble.FormatTableFormatV6,
	2:           pebble.FormatValueSeparation,
}

// pebbleFormat is what a format means to Pebble.
func pebbleFormat(format int) pebble.FormatMajorVersion {
	return pebbleFormats[min(format, formatNewest)]
}

// newestFormat is the newest that this program knows.
func (c *Config) newestFormat() int {
	if c.NewestFormat > 0 {
		return c.NewestFormat
	}
	return formatNewest
}

// tooNew says what is wrong with a format that this program does not know.
func (c *Config) tooNew(format int) error {
	if format > c.newestFormat() {
		return fmt.Errorf("format %d is not one this program knows (newest: %d): install the program that the other members run", format, c.newestFormat())
	}
	return nil
}

// raise lets a database contain what the format allows. Repeating it does nothing.
func (d *databases) raise(db *pebble.DB, format int) error {
	if err := d.cfg.tooNew(format); err != nil {
		return err
	}
	if v := pebbleFormat(format); db.FormatMajorVersion() < v {
		if err := db.RatchetFormatMajorVersion(v); err != nil {
			return fmt.Errorf("raise the database to format %d: %w", format, err)
		}
	}
	return nil
}

// raiseAll brings both databases of this node to a format that the state has. It runs at start, and where entries are applied.
func (s *snapshotStore) raiseAll(format int) error {
	if err := s.dbs.cfg.tooNew(format); err != nil { // said once, not of each database
		return err
	}
	st, err := s.states.acquire()
	if err != nil {
		return err
	}
	defer st.release()
	return errors.Join(s.dbs.raise(st.db, format), s.dbs.raise(s.log.db, format))
}

func encodeFormat(format int) []byte {
	return binary.AppendUvarint([]byte{packFormat}, uint64(format))
}

// raisedFormat returns the format that an entry raises the cluster to, 0 if it does not.
func raisedFormat(data []byte) (int, error) {
	if len(data) == 0 || data[0] != packFormat {
		return 0, nil
	}
	format, n := binary.Uvarint(data[1:])
	if n <= 0 || n != len(data)-1 || format < formatFirst || format > 1<<20 {
		return 0, errPackTruncated
	}
	return int(format), nil
}

// Format is the one that the cluster is at, as far as this node has applied.
func (s *Store) Format() int { return int(s.fsm.format.Load()) }

// RaiseFormat lets every node write what format `to` allows, from one index of the log on; 0 is the newest that every member knows. It
// is refused unless every member answers and knows it, because a node that does not could not go on. It cannot be undone: programs
// that do not know the format cannot be members any more, nor restore backups. Raising to where the cluster is does nothing. It returns
// the format reached. For the outcomes see AddNonvoter.
func (s *Store) RaiseFormat(ctx context.Context, to int) (int, error) {
	at, err := s.raiseFormat(ctx, to)
	if err != nil {
		return 0, fmt.Errorf("raise the format: %w", err)
	}
	return at, nil
}

func (s *Store) raiseFormat(ctx context.Context, to int) (int, error) {
	s.admitting.Lock() // nobody who does not know it becomes a member meanwhile
	defer s.admitting.Unlock()
	if _, leads := s.Leading(); !leads {
		return 0, ErrNotLeader
	}
	members, err := s.Members(ctx)
	if err != nil {
		return 0, err
	}
	for _, m := range members {
		if m.Err != nil {
			return 0, fmt.Errorf("%w: every member must answer, and know the format: %w", ErrRefused, m.Err)
		}
	}
	last := slices.MinFunc(members, func(a, b Member) int { return a.Status.newestFormat() - b.Status.newestFormat() })
	newest := last.Status.newestFormat()
	now := s.Format()
	switch {
	case to == 0:
		to = newest
	case to < now:
		return 0, fmt.Errorf("%w: it is %d, and is never lowered", ErrRefused, now)
	case to > newest:
		return 0, fmt.Errorf("%w: %s (version %s) knows formats up to %d: install a newer program there first", ErrRefused, last.ID, last.Status.Version, newest)
	}
	if to <= now {
		return now, nil
	}
	s.cfg.Logger.Warn("raising the format for good", slog.Int("from", now), slog.Int("to", to))
	return to, s.await(ctx, func() raft.Future { return s.raft.Apply(encodeFormat(to), s.cfg.RPCTimeout) })
}

// newestFormat is what a node says that it knows. One that says nothing knows the first.
func (n *NodeStatus) newestFormat() int { return max(n.NewestFormat, formatFirst) }
