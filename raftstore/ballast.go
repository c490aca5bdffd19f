package raftstore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/errors/oserror"
	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	nameBallast = "ballast"
	// ballastShare is the part of a disk that a ballast may take, and ballastFree that of what is left on a disk which is low
	// already when the node starts.
	ballastShare = 64
	ballastFree  = 4
	leastBallast = 1 << 20
	ballastChunk = 1 << 20
)

// ballast is a file that holds space for the moment when a write meets a full disk: removing it gives the node enough to stop in
// order, or to carry out the commands that free space (R10). It is used through the file system below the one that watches for
// full disks, or making it would release it.
type ballast struct {
	fs   vfs.FS
	path string
	dir  string

	released atomic.Bool // asks a make that is under way to give up

	mu   sync.Mutex // held across file operations
	size atomic.Int64
}

// wanted is how large a ballast a disk gets: what is configured, but never more than a small part of it; none if that is too
// little to help.
func (b *ballast) wanted(configured int64, total uint64) int64 {
	size := min(configured, int64(min(total/ballastShare, 1<<62)))
	if size < leastBallast {
		return 0
	}
	return size
}

// find takes over the file of an earlier run. One that is larger than wanted goes.
func (b *ballast) find(wanted int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	info, err := b.fs.Stat(b.path)
	switch {
	case oserror.IsNotExist(err):
		return nil
	case err != nil:
		return fmt.Errorf("look for the ballast: %w", err)
	case info.Size() > wanted:
		return b.remove()
	}
	b.size.Store(info.Size())
	return nil
}

// make brings the file to size, on disk. Space is really taken: a file with a hole in it would be no ballast, so what exists is
// preallocated again (a copied data folder may have lost it), and where the file system cannot, it is filled.
func (b *ballast) make(size int64) (err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.released.Store(false)
	f, err := b.fs.OpenReadWrite(b.path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return fmt.Errorf("make the ballast: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("make a ballast of %d bytes: %w", size, err), b.remove())
		}
	}()
	err = f.Preallocate(0, size)
	switch {
	case isNoSpace(err):
	case err != nil:
		err = b.fill(f, size)
	default:
		_, err = f.WriteAt([]byte{1}, size-1) // preallocating leaves the size as it was
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = (layout{fs: b.fs}).syncDir(b.dir); err != nil {
		return err
	}
	b.size.Store(size)
	return nil
}

func (b *ballast) fill(f vfs.File, size int64) error {
	chunk := make([]byte, ballastChunk)
	noise := rand.NewChaCha8([32]byte{}) // neither holes nor anything that compresses
	for at := int64(0); at < size; at += int64(len(chunk)) {
		if b.released.Load() {
			return errors.New("the disk became full meanwhile")
		}
		_, _ = noise.Read(chunk) // never fails
		if _, err := f.WriteAt(chunk[:min(int64(len(chunk)), size-at)], at); err != nil {
			return err
		}
	}
	return nil
}

// release gives the space back and returns how much it was. The folder is synced because some file systems give blocks back
// only with the next commit of their journal, and the write that failed is tried again at once.
func (b *ballast) release() (int64, error) {
	b.released.Store(true)
	b.mu.Lock()
	defer b.mu.Unlock()
	had := b.size.Load()
	if had == 0 {
		return 0, nil
	}
	return had, errors.Join(b.remove(), (layout{fs: b.fs}).syncDir(b.dir))
}

func (b *ballast) remove() error {
	b.size.Store(0)
	if err := b.fs.Remove(b.path); err != nil && !oserror.IsNotExist(err) {
		return fmt.Errorf("remove the ballast: %w", err)
	}
	return nil
}
