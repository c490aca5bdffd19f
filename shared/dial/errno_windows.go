package dial

import (
	"errors"

	"golang.org/x/sys/windows"
)

// Refused reports whether nobody listens there. What syscall calls ECONNREFUSED and so on is invented on Windows: sockets have numbers of their own.
func Refused(err error) bool { return errors.Is(err, windows.WSAECONNREFUSED) }

func isReset(err error) bool {
	return errors.Is(err, windows.WSAECONNRESET) || errors.Is(err, windows.WSAECONNABORTED) || errors.Is(err, windows.WSAESHUTDOWN)
}
