package wire

import (
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// pollFD is WSAPOLLFD.
type pollFD struct {
	socket windows.Handle
	events int16
	got    int16
}

const pollRead = 0x100 | 0x200 // POLLRDNORM and POLLRDBAND; that the other side has ended it comes unasked

var wsaPoll = windows.NewLazySystemDLL("ws2_32.dll").NewProc("WSAPoll")

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
		p := pollFD{socket: windows.Handle(fd), events: pollRead}
		n, _, _ := wsaPoll.Call(uintptr(unsafe.Pointer(&p)), 1, 0) // its error is that of n
		quiet = n == 0
	})
	return err != nil || !quiet
}
