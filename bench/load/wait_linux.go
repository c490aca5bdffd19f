package load

import (
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// waiter sleeps to within some tens of microseconds. The runtime's own timers wake an idle process by epoll's milliseconds, which would
// be charged to the server; a timerfd is woken by the kernel's high-resolution timers. It belongs to one goroutine, but for Close.
type waiter struct {
	f  *os.File
	fd int
	b  [8]byte
}

func newWaiter() (*waiter, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK|unix.TFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make a timer: %w", err)
	}
	return &waiter{f: os.NewFile(uintptr(fd), "timer"), fd: fd}, nil
}

// sleep returns true after d, or false as soon as the waiter is closed.
func (w *waiter) sleep(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(d))}
	if err := unix.TimerfdSettime(w.fd, 0, &spec, nil); err != nil {
		return false
	}
	_, err := w.f.Read(w.b[:])
	return err == nil
}

// wake ends the sleep that is under way and every later one.
func (w *waiter) wake() { _ = w.f.SetReadDeadline(time.Unix(1, 0)) }

func (w *waiter) close() { _ = w.f.Close() }
