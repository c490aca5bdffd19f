package place

import (
	"errors"

	"golang.org/x/sys/windows"
)

// SyncFolder has nothing to call: Windows flushes files alone. A loss of power may take a file's new name back (shared/system says so).
func SyncFolder(string) error { return nil }

// isNoSpace reports whether a disk, or what a user may take of it, is full.
func isNoSpace(err error) bool {
	return errors.Is(err, windows.ERROR_DISK_FULL) || errors.Is(err, windows.ERROR_HANDLE_DISK_FULL) || errors.Is(err, windows.ERROR_DISK_QUOTA_EXCEEDED)
}
