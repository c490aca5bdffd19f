//go:build !linux

package main

import "io"

// ownPipe returns what a server writes standard error to.
func ownPipe(stderr io.Writer) io.Writer { return stderr }
