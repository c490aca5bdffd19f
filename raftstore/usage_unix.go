//go:build unix

package raftstore

import (
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// statBlock is the unit in which a file's blocks are counted, whatever the blocks of its file system are (POSIX, sys/stat.h).
const statBlock = 512

// allocated returns what a file takes on its disk, and which file it is, if its file system tells: one in memory tells its length alone.
func allocated(info vfs.FileInfo) (bytes int64, id fileID, known bool) {
	if s, ok := info.Sys().(*syscall.Stat_t); ok {
		return s.Blocks * statBlock, fileID{info.DeviceID(), s.Ino}, true
	}
	if info.IsDir() {
		return 0, fileID{}, false
	}
	return info.Size(), fileID{}, false
}
