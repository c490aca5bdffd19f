//go:build !linux

package cli

import "io"

// ownPipe returns what a server writes standard error to.
func ownPipe(stderr io.Writer) io.Writer { return stderr }
