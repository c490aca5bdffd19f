//go:build !unix

package place

import "io/fs"

// adopt has nothing to do: there are no groups in a mode.
func adopt(string, fs.FileInfo) bool { return true }
