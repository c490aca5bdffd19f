package raftstore

import (
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// The parts of the data folder, as they are told.
var folderParts = []string{nameLog, partState, nameStaging, nameOut, nameBallast, partOther}

const (
	partState = "state" // of every generation
	partOther = "other"
)

// usage is what each part of the folder takes on its disk, as du tells it: what is allocated, and a file that has several names once. What snapshots
// that are being sent have in common with the state counts there. Files that go meanwhile count or not. It may wait for the disk.
func (l layout) usage() map[string]int64 {
	parts := make(map[string]int64, len(folderParts))
	for _, part := range folderParts {
		parts[part] = 0
	}
	names, _ := l.fs.List(l.root)
	seen := map[fileID]bool{}
	for _, out := range []bool{false, true} { // what is linked into it is looked at before
		for _, name := range names {
			if (name == nameOut) == out {
				parts[partOf(name)] += l.usageOf(l.path(name), seen)
			}
		}
	}
	return parts
}

func partOf(name string) string {
	switch {
	case strings.HasPrefix(name, prefixState):
		return partState
	case name == nameLog, name == nameStaging, name == nameOut, name == nameBallast:
		return name
	}
	return partOther
}

func (l layout) usageOf(path string, seen map[fileID]bool) int64 {
	info, err := l.fs.Stat(path)
	if err != nil {
		return 0
	}
	bytes, id, known := allocated(info)
	if known {
		if seen[id] {
			return 0
		}
		seen[id] = true
	}
	if info.IsDir() {
		names, _ := l.fs.List(path)
		for _, name := range names {
			bytes += l.usageOf(l.fs.PathJoin(path, name), seen)
		}
	}
	return bytes
}

// fileID names a file whatever it is called.
type fileID struct {
	device vfs.DeviceID
	inode  uint64
}
