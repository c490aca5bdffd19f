//go:build unix

package place

import (
	"io/fs"
	"os"
	"syscall"
)

// adopt gives a file the owner and the group of another, as far as this process may, and reports whether it has the group.
func adopt(made string, old fs.FileInfo) bool {
	was, ok := old.Sys().(*syscall.Stat_t)
	if !ok {
		return false
	}
	uid, gid := int(was.Uid), int(was.Gid)
	return os.Chown(made, uid, gid) == nil || os.Chown(made, -1, gid) == nil
}
