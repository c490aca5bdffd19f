package raftstore

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Backup is an archive of the state as it was at one position, and how many bytes it has. Close gives back the checkpoint behind it.
type Backup struct {
	io.ReadCloser
	Size     int64
	Position Position
	// Doubt is nil if the archive holds every change that was acknowledged, by whichever node, before Backup was called. Else it says
	// why that is not known: the archive is what this node had, and changes may be missing.
	Doubt error
}

// Unkept has the backup count only when Store.Kept says so, not when it was read to its end: whoever sends it away does not know what became of it.
func (b *Backup) Unkept() {
	if r, ok := b.ReadCloser.(*turnReader); ok {
		r.unkept = true
	}
}

// Kept notes that the backup of a position is whole where it is kept. It returns ErrRefused for a position that this node has not come to.
func (s *Store) Kept(at Position) error {
	if here := s.Applied(); at.Index == 0 || at.Index > here.Index || at.Term > here.Term {
		return fmt.Errorf("%w: this node is at index %d of term %d, and can have sent no backup of index %d of term %d", ErrRefused, here.Index, here.Term, at.Index, at.Term)
	}
	s.noteBackup(at)
	return nil
}

const (
	// backupWait is how long a backup waits for this node to hold what was acknowledged: longer than an election takes.
	backupWait = 5 * time.Second
	// backupLook is the pause between two looks at how far this node is.
	backupLook = 20 * time.Millisecond
	// backupsAtOnce bounds the checkpoints that backups keep: each holds on to files that the state has rewritten since.
	backupsAtOnce = 4
)

// Backup opens an archive of the state with all that was acknowledged before the call. Any node can make one: one that is behind waits
// until it has caught up, 5 s at most, and then makes it all the same, for it is needed most when nobody leads; Doubt tells. It takes
// no room but that of files which the state rewrites while the archive is read. Four are open at a time, one more waits for its turn
// until ctx ends, 5 s at most, and is refused with ErrOverloaded.
func (s *Store) Backup(ctx context.Context) (*Backup, error) {
	b, err := s.backup(ctx)
	if err != nil {
		return nil, fmt.Errorf("back up the state: %w", err)
	}
	return b, nil
}

func (s *Store) backup(ctx context.Context) (*Backup, error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	wait, cancel := context.WithTimeout(ctx, backupWait)
	defer cancel()
	select {
	case s.backups <- struct{}{}:
	case <-wait.Done():
		return nil, fmt.Errorf("%w: %d backups are being read already; let one end, or end it", ErrOverloaded, backupsAtOnce)
	}
	doubt := s.catchUp(wait)
	meta, r, err := s.openBackup(ctx)
	if err != nil {
		<-s.backups
		return nil, err
	}
	at := Position{Index: meta.Index, Term: meta.Term}
	end := func(read int64) {
		<-s.backups
		if read == meta.Size && doubt == nil {
			s.noteBackup(at)
		}
	}
	return &Backup{ReadCloser: &turnReader{ReadCloser: r, end: end}, Size: meta.Size, Position: at, Doubt: doubt}, nil
}

func (s *Store) openBackup(ctx context.Context) (*raft.SnapshotMeta, io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, context.Cause(ctx) // nobody waits for it any more
	}
	if err := s.fault.err(); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return s.snaps.openLive(s.Applied().Index)
}

// catchUp waits until this node has applied all that was acknowledged before the call. An error says why that is not known when ctx ends.
func (s *Store) catchUp(ctx context.Context) error {
	for {
		err := s.current(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-time.After(backupLook):
		case <-ctx.Done():
			return err
		case <-s.gone:
			return ErrClosed
		}
	}
}

// current returns nil if this node has applied all that was acknowledged before the call. The leader of a term has in its log whatever
// was committed before it; that nobody led a newer term when it was asked is what a quorum of voters vouches for, as for Confirm.
func (s *Store) current(ctx context.Context) error {
	leader, err := s.LeaderStatus(ctx)
	if err != nil {
		return err
	}
	if leader.State != raft.Leader.String() {
		return fmt.Errorf("%w: %s is %s", ErrNoLeader, leader.ID, leader.State)
	}
	for s.Applied().Index < leader.LastIndex {
		select {
		case <-time.After(backupLook):
		case <-ctx.Done():
			return fmt.Errorf("this node has applied index %d, and the leader %s is at %d", s.Applied().Index, leader.ID, leader.LastIndex)
		case <-s.gone:
			return ErrClosed
		}
		if s.raft.CurrentTerm() != leader.Term {
			break // what that one had in its log may never be committed: ask the next
		}
	}
	conf := s.raft.GetConfiguration()
	if err := conf.Error(); err != nil {
		return fmt.Errorf("read the voters: %w", err)
	}
	if err := s.askQuorum(votersOf(conf.Configuration()), leader.Term); err != nil {
		return err
	}
	if now := s.raft.CurrentTerm(); now != leader.Term {
		return fmt.Errorf("%w: term %d is over", ErrNoLeader, leader.Term)
	}
	return nil
}

// backedUp is the BACKUP file: the newest backup that was read to its end here, and held all that was acknowledged before it.
type backedUp struct {
	At    time.Time `json:"at"`
	Index uint64    `json:"index"`
	Term  uint64    `json:"term"`
}

// noteBackup notes that a backup was read to its end, or kept. Nothing depends on it but who asks how old the newest is.
func (s *Store) noteBackup(at Position) {
	b := backedUp{At: s.cfg.Wall().UTC(), Index: at.Index, Term: at.Term}
	s.backupMu.Lock()
	defer s.backupMu.Unlock()
	s.lastBackup.Store(&b)
	if err := s.layout.writeFile(nameBackup, b); err != nil {
		s.cfg.Logger.Warn("when the last backup was made will not be known after a restart", slog.Any("cause", err))
	}
}

// findBackup reads when the last backup was made.
func (s *Store) findBackup() {
	var b backedUp
	switch found, err := s.layout.readFile(nameBackup, &b); {
	case err != nil:
		s.cfg.Logger.Warn("when the last backup was made is not known", slog.Any("cause", err))
	case found:
		s.lastBackup.Store(&b)
	}
}

// turnReader is a backup's stream, which has a turn of its own. One goroutine reads it.
type turnReader struct {
	io.ReadCloser
	read int64
	// unkept: that it was read tells nothing.
	unkept bool
	once   sync.Once
	end    func(read int64)
}

// Read counts what was read.
func (r *turnReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.read += int64(n)
	return n, err
}

// Close gives back the checkpoint and the turn.
func (r *turnReader) Close() error {
	err := r.ReadCloser.Close()
	r.once.Do(func() {
		if r.unkept {
			r.read = -1
		}
		r.end(r.read)
	})
	return err
}
