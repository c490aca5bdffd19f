//go:build unix

package listener

import "syscall"

// Descriptors is how many file descriptors this process may have. Go has raised the soft limit to the hard one by then.
func Descriptors() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return descriptorsAssumed
	}
	if l.Cur > descriptorsMost {
		return descriptorsMost
	}
	return int(l.Cur)
}
