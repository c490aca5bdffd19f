//go:build !linux && !darwin && !windows

package cli

import "io"

// isTerminal reports whether what is written is seen by somebody at once; here it is taken for a file.
func isTerminal(io.Writer) bool { return false }
