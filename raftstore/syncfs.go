package raftstore

import (
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// timedFS measures the syncs of the log's WAL: the one figure that bounds every commit. Pebble's own histogram of them cannot be
// registered (it has no name) and counts nanoseconds.
type timedFS struct {
	vfs.FS
	observe func(time.Duration)
}

// Unwrap returns the file system below.
func (t timedFS) Unwrap() vfs.FS { return t.FS }

// Create wraps a WAL.
func (t timedFS) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := t.FS.Create(name, c)
	return t.wrap(name, f), err
}

// ReuseForWrite wraps a WAL, most of which are made so.
func (t timedFS) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := t.FS.ReuseForWrite(oldname, newname, c)
	return t.wrap(newname, f), err
}

// GetDiskUsage hides why there is no answer. Pebble, which only paces its work by it, takes any error but this one for a failed write, and that
// ends the process; space asks by itself.
func (t timedFS) GetDiskUsage(path string) (vfs.DiskUsage, error) {
	usage, err := t.FS.GetDiskUsage(path)
	if err != nil {
		return vfs.DiskUsage{}, vfs.ErrUnsupported
	}
	return usage, nil
}

func (t timedFS) wrap(name string, f vfs.File) vfs.File {
	if f == nil || !strings.HasSuffix(name, ".log") || t.PathBase(t.PathDir(name)) != nameLog {
		return f
	}
	return &timedFile{File: f, observe: t.observe}
}

type timedFile struct {
	vfs.File
	observe func(time.Duration)
}

// Sync is timed.
func (f *timedFile) Sync() error {
	began := time.Now()
	err := f.File.Sync()
	f.observe(time.Since(began))
	return err
}

// SyncData is timed.
func (f *timedFile) SyncData() error {
	began := time.Now()
	err := f.File.SyncData()
	f.observe(time.Since(began))
	return err
}

// SyncTo is timed where it syncs.
func (f *timedFile) SyncTo(length int64) (bool, error) {
	began := time.Now()
	full, err := f.File.SyncTo(length)
	if full {
		f.observe(time.Since(began))
	}
	return full, err
}
