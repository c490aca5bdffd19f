package raftstore

import (
	"io/fs"
	"sync"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// quotaFS is a disk with a byte budget: what is written is taken from it, what is removed is given back, and a write beyond it is
// cut and fails with ENOSPC.
type quotaFS struct {
	vfs.FS
	total int64

	mu      sync.Mutex
	left    int64
	charged map[string]int64
	hits    int  // how often a write met the end of the budget
	mute    bool // it does not say what is left
}

func newQuotaFS(under vfs.FS, total int64) *quotaFS {
	return &quotaFS{FS: under, total: total, left: total, charged: map[string]int64{}}
}

func (q *quotaFS) Unwrap() vfs.FS { return q.FS }

// leave sets what is left, as if others on the same disk had used or freed the rest.
func (q *quotaFS) leave(n int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.left = n
}

func (q *quotaFS) setMute(mute bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.mute = mute
}

func (q *quotaFS) remaining() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.left
}

// take returns how much of n bytes there is room for.
func (q *quotaFS) take(name string, n int64) int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.left < n {
		q.hits++
		n = q.left
	}
	q.left -= n
	q.charged[name] += n
	return n
}

func (q *quotaFS) giveBack(name string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.left += q.charged[name]
	delete(q.charged, name)
}

func (q *quotaFS) GetDiskUsage(string) (vfs.DiskUsage, error) {
	q.mu.Lock()
	left, mute := q.left, q.mute
	q.mu.Unlock()
	if mute {
		return vfs.DiskUsage{}, &fs.PathError{Op: "statfs", Path: "data", Err: syscall.EIO}
	}
	return vfs.DiskUsage{AvailBytes: uint64(left), TotalBytes: uint64(q.total), UsedBytes: uint64(q.total - left)}, nil
}

func (q *quotaFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := q.FS.Create(name, c)
	if err != nil {
		return nil, err
	}
	q.giveBack(name)
	return &quotaFile{File: f, fs: q, name: name}, nil
}

func (q *quotaFS) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := q.FS.OpenReadWrite(name, c, o...)
	if err != nil {
		return nil, err
	}
	return &quotaFile{File: f, fs: q, name: name}, nil
}

func (q *quotaFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := q.FS.ReuseForWrite(oldname, newname, c)
	if err != nil {
		return nil, err
	}
	q.giveBack(oldname)
	return &quotaFile{File: f, fs: q, name: newname}, nil
}

func (q *quotaFS) Remove(name string) error {
	err := q.FS.Remove(name)
	if err == nil {
		q.giveBack(name)
	}
	return err
}

func (q *quotaFS) Rename(oldname, newname string) error {
	err := q.FS.Rename(oldname, newname)
	if err == nil {
		q.giveBack(newname)
		q.mu.Lock()
		defer q.mu.Unlock()
		q.charged[newname] = q.charged[oldname]
		delete(q.charged, oldname)
	}
	return err
}

type quotaFile struct {
	vfs.File
	fs   *quotaFS
	name string
}

func (f *quotaFile) full(op string) error {
	return &fs.PathError{Op: op, Path: f.name, Err: syscall.ENOSPC}
}

func (f *quotaFile) Write(p []byte) (int, error) {
	n := f.fs.take(f.name, int64(len(p)))
	done, err := f.File.Write(append([]byte(nil), p[:n]...))
	if err == nil && done < len(p) {
		err = f.full("write")
	}
	return done, err
}

// WriteAt is used on the ballast only, after Preallocate has paid for it.
func (f *quotaFile) WriteAt(p []byte, at int64) (int, error) { return f.File.WriteAt(p, at) }

func (f *quotaFile) Preallocate(at, n int64) error {
	f.fs.mu.Lock()
	grow := at + n - f.fs.charged[f.name]
	f.fs.mu.Unlock()
	if grow > 0 && f.fs.take(f.name, grow) < grow {
		return f.full("fallocate")
	}
	return nil
}
