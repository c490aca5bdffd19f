//go:build !unix

package raftstore

import "github.com/cockroachdb/pebble/v2/vfs"

// allocated returns a file's length: what it takes on its disk is not asked here.
func allocated(info vfs.FileInfo) (bytes int64, id fileID, known bool) {
	if info.IsDir() {
		return 0, fileID{}, false
	}
	return info.Size(), fileID{}, false
}
