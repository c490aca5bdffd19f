package cli

import (
	"os"
	"syscall"
)

// wasClosed reports whether a stream was closed when the process started: the Go runtime then opens /dev/null in its place, to read and to write. Who
// throws output away opens it to write.
func wasClosed(f *os.File) (closed bool) {
	null, err := os.Stat(os.DevNull)
	here, herr := f.Stat()
	raw, rerr := f.SyscallConn()
	if err != nil || herr != nil || rerr != nil || !os.SameFile(null, here) {
		return false
	}
	_ = raw.Control(func(fd uintptr) {
		flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, fd, syscall.F_GETFL, 0)
		closed = errno == 0 && flags&syscall.O_ACCMODE == syscall.O_RDWR
	})
	return closed
}
