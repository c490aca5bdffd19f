//go:build linux

package fleet

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process is a program that runs, in a process group of its own, so that Ctrl-C
// in a terminal reaches the benchmark only, which then ends it.
type Process struct {
	cmd    *exec.Cmd
	log    string
	exited chan struct{}
}

// Start starts cmd. What it says on standard error goes to the file log, and on
// standard output too unless that is taken already.
func Start(cmd *exec.Cmd, log string) (*Process, error) {
	f, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log of %s: %w", filepath.Base(cmd.Path), err)
	}
	defer func() { _ = f.Close() }() // the process has its own
	cmd.Stderr = f
	if cmd.Stdout == nil {
		cmd.Stdout = f
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(cmd.Path), err)
	}
	p := &Process{cmd: cmd, log: log, exited: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended matters to nobody
		close(p.exited)
	}()
	return p, nil
}

// Said is the end of what the process wrote to its log: for errors.
func (p *Process) Said() string {
	const most = 2000
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b[max(0, len(b)-most):]))
}

// Kill ends the process and what it has started by SIGKILL, and waits for its end.
func (p *Process) Kill() { p.end(syscall.SIGKILL, 0) }

// Stop asks the process to end, and kills it if it has not done so within grace.
func (p *Process) Stop(grace time.Duration) { p.end(syscall.SIGTERM, grace) }

func (p *Process) end(sig syscall.Signal, grace time.Duration) {
	_ = syscall.Kill(-p.cmd.Process.Pid, sig)
	if grace > 0 {
		late := time.NewTimer(grace)
		defer late.Stop()
		select {
		case <-p.exited:
		case <-late.C:
		}
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // also those whose parent went first
	<-p.exited
}

// CPU is the processor time that the process and those of its group that still run have used so far.
func (p *Process) CPU() time.Duration { return CPU(p.cmd.Process.Pid) }

// RSS is the resident memory of the same, in bytes.
func (p *Process) RSS() (all int64) {
	visit(p.cmd.Process.Pid, func(dir string, _ []string) {
		b, err := os.ReadFile(filepath.Join(dir, "status"))
		if err != nil {
			return
		}
		_, after, _ := strings.Cut(string(b), "VmRSS:")
		if fields := strings.Fields(after); len(fields) > 0 {
			kb, _ := strconv.ParseInt(fields[0], 10, 64)
			all += kb << 10
		}
	})
	return all
}

const tick = 10 * time.Millisecond // USER_HZ of Linux

// CPU is the processor time that the processes of a group that still run have used so far.
func CPU(group int) (all time.Duration) {
	visit(group, func(_ string, stat []string) { all += ticks(stat[11:13]) }) // utime and stime, proc(5), from the state on
	return all
}

// MachineCPU is the processor time that all programs of the machine have used since it started, over all cores.
func MachineCPU() time.Duration {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(b), "\n")
	fields := strings.Fields(first) // cpu user nice system idle iowait irq softirq steal
	if len(fields) < 9 {
		return 0
	}
	return ticks(fields[1:4]) + ticks(fields[6:9])
}

// Machine says in words what is measured on, and how busy other programs keep it: it looks for a second, before anything is started.
func Machine(ctx context.Context) string {
	before, began := MachineCPU(), time.Now()
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
	}
	busy := (MachineCPU() - before).Seconds() / time.Since(began).Seconds() / float64(runtime.NumCPU())
	text := fmt.Sprintf("Measured %s on %d cores, %s; other programs took %.0f %% of the processor when it began", time.Now().UTC().Format(time.DateOnly), runtime.NumCPU(), runtime.Version(), 100*min(busy, 1))
	if busy > 0.1 {
		text += ", so **absolute figures and tails are those of a busy machine**"
	}
	return text + "."
}

func ticks(fields []string) (all time.Duration) {
	for _, f := range fields {
		n, _ := strconv.Atoi(f)
		all += time.Duration(n) * tick
	}
	return all
}

// visit calls f for every process of a group, with its folder in /proc and the fields of its stat that follow its name.
func visit(group int, f func(dir string, stat []string)) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		b, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			continue // it has ended
		}
		stat := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		if len(stat) > 12 && stat[0] != "Z" && stat[2] == strconv.Itoa(group) { // Z: ended
			f(dir, stat)
		}
	}
}

// Await asks is every 20 ms until it reports true, at most for limit. It ends early when the process does.
func (p *Process) Await(limit time.Duration, what string, is func() bool) error {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	late := time.NewTimer(limit)
	defer late.Stop()
	for !is() {
		select {
		case <-again.C:
		case <-p.exited:
			return fmt.Errorf("wait until %s: the process has ended, and said: %s", what, p.Said())
		case <-late.C:
			return fmt.Errorf("wait until %s: not within %v; the process said: %s", what, limit, p.Said())
		}
	}
	return nil
}
