//go:build !windows

package dial

import (
	"errors"
	"syscall"
)

// Refused reports whether nobody listens there.
func Refused(err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
