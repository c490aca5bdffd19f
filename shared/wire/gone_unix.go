//go:build unix

package wire

import (
	"errors"
	"net"
	"syscall"
)

// gone tells whether an idle connection cannot be used again: the other side has ended it, or has said something that nobody asked for, which
// would be taken for the answer to the next request. It does not wait.
func gone(c net.Conn) bool {
	s, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return true
	}
	quiet := false
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
		quiet = errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EINTR)
	})
	return err != nil || !quiet
}
