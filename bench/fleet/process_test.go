//go:build linux

package fleet

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shell runs a script until the test ends.
func shell(t *testing.T, script string) *Process {
	t.Helper()
	p, err := Start(exec.Command("sh", "-c", script), filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return p
}

const patient = 30 * time.Second

// TestKillTakesTheChildren proves that what a program started ends with it: nginx has workers.
func TestKillTakesTheChildren(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*Process){"kill": (*Process).Kill, "stop": func(p *Process) { p.Stop(patient) }} {
		child := filepath.Join(t.TempDir(), "child")
		p := shell(t, `sleep 600 & echo $! > `+child+`.new; mv `+child+`.new `+child+`; wait`)
		if err := p.Await(patient, "it has a child", func() bool { _, err := os.Stat(child); return err == nil }); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(child)
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, 0); err != nil {
			t.Fatalf("%s: the child is gone already: %v", name, err)
		}
		end(p)
		late := time.After(patient)
		for running(pid) {
			select {
			case <-late:
				t.Fatalf("%s: the child still runs", name)
			default:
			}
		}
	}
}

// running tells a process from one that has ended and that nobody has waited for.
func running(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(b), ") Z ")
}

// TestCPUCountsTheGroup proves that processor time and memory are those of the children too.
func TestCPUCountsTheGroup(t *testing.T) {
	t.Parallel()
	p := shell(t, `(while :; do :; done) & wait`)
	if err := p.Await(patient, "the child has worked", func() bool { return p.CPU() >= 50*time.Millisecond }); err != nil {
		t.Fatal(err)
	}
	if rss := p.RSS(); rss < 100_000 {
		t.Errorf("it has %d bytes", rss)
	}
	p.Kill()
	late := time.After(patient)
	for p.CPU() != 0 || p.RSS() != 0 { // the child ends a moment later
		select {
		case <-late:
			t.Fatal("what has ended still has processor time or memory")
		default:
		}
	}
}

// TestAwaitTellsWhatWasSaid proves that a program that ends at once is not waited for, and that its words are in the error.
func TestAwaitTellsWhatWasSaid(t *testing.T) {
	t.Parallel()
	p := shell(t, `echo no such luck >&2; exit 1`)
	err := p.Await(time.Hour, "it is ready", func() bool { return false })
	if err == nil || !strings.Contains(err.Error(), "no such luck") {
		t.Errorf("the error says %v", err)
	}
	if err := shell(t, "sleep 600").Await(time.Millisecond, "it is ready", func() bool { return false }); err == nil {
		t.Error("one that is never ready was waited for")
	}
}
