package cli

import (
	"fmt"
	"io"
	"os"
	"syscall"
)

// ownPipe returns what a server writes standard error to. A pipe it opens anew, and has standard error itself be that: it then blocks nobody, not
// even the Go runtime, which would else never come to its end in a panic while nobody reads, and is as it was for the others who have it. What
// cannot be opened stays as it is.
func ownPipe(stderr io.Writer) io.Writer {
	f, isFile := stderr.(*os.File)
	if !isFile {
		return stderr
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		return stderr
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return stderr
	}
	own := stderr
	_ = raw.Control(func(fd uintptr) { // its error is that of a closed file
		anew, err := syscall.Open(fmt.Sprintf("/proc/self/fd/%d", fd), syscall.O_WRONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
		if err != nil {
			return
		}
		_ = syscall.Dup3(anew, int(fd), 0) // without it only the runtime's words block
		own = os.NewFile(uintptr(anew), f.Name())
	})
	return own
}
