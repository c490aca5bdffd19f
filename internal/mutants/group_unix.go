//go:build unix

package main

import (
	"os/exec"
	"syscall"
)

// alone gives a command a group of processes of its own, all of which end when it is ended.
func alone(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
