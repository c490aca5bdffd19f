//go:build unix

package raftstore

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	pausedEnv  = "RAFTSTORE_TEST_PAUSED" // "healthy" or "mutant"
	pauseOf    = 1500 * time.Millisecond
	exitKilled = 3
)

// A real process that is stopped with a write under way, for longer than any limit, and continued: the watchdog must not end it.
// One that takes the clock's time does. Virtual time has no pauses, so this needs a process.
func TestPausedProcess(t *testing.T) {
	if mode := os.Getenv(pausedEnv); mode != "" {
		pausedChild(t, mode == "mutant")
		return
	}
	for mode, want := range map[string]int{"healthy": 0, "mutant": exitKilled} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestPausedProcess$")
			cmd.Env = append(os.Environ(), pausedEnv+"="+mode)
			cmd.Stderr = os.Stderr
			out := must[interface{ Read([]byte) (int, error) }](t)(cmd.StdoutPipe())
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(out)
			for more := true; more && lines.Text() != "held"; {
				more = lines.Scan()
			}
			if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			<-time.After(pauseOf)
			if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			var said []string
			for lines.Scan() {
				said = append(said, lines.Text())
			}
			err := cmd.Wait()
			var exit *exec.ExitError
			if err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			if got := cmd.ProcessState.ExitCode(); got != want {
				t.Errorf("it ended with %d, want %d: %s", got, want, strings.Join(said, "\n"))
			}
		})
	}
}

// pausedChild has a write that hangs until shortly after the process was paused, as a write that was with the disk does.
func pausedChild(t *testing.T, mutant bool) {
	t.Helper()
	disk := &stallingFS{}
	s, _ := start(t, onFS(disk.over(vfs.NewMem())), withKnobs(knobs{countsPauses: mutant}), with(func(c *Config) {
		c.StuckWarn, c.StuckLeader = 200*time.Millisecond, time.Second
		c.Fatal = func(err error) {
			fmt.Fprintln(os.Stdout, err)
			if strings.Contains(err.Error(), "disk hangs") {
				os.Exit(exitKilled)
			}
			runtime.Goexit()
		}
	}))
	disk.hold("data/log")
	written := make(chan error, 1)
	go func() { written <- s.log.SetUint64([]byte("x"), 1) }()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	eventually(t, "the write is under way", func() bool {
		s.watch.mu.Lock()
		defer s.watch.mu.Unlock()
		return slices.ContainsFunc(s.watch.ops, func(o operation) bool { return o.name != "" })
	})
	last := time.Now()
	fmt.Fprintln(os.Stdout, "held") // now the pause may come
	for {
		<-tick.C
		now := time.Now()
		if now.Sub(last) > pauseOf/2 {
			break
		}
		last = now
	}
	<-time.After(50 * time.Millisecond)
	disk.release()
	if err := <-written; err != nil {
		t.Fatal(err)
	}
}
