//go:build linux

package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// logReader is a pipe into which processes log, and who reads it: one that may stall, go on, and die.
type logReader struct {
	tb   testing.TB
	r, w *os.File
	gate sync.Mutex // held while it stalls
	dead bool
}

// newLogReader makes a pipe that holds a page, and that nobody reads yet.
func newLogReader(tb testing.TB) *logReader {
	tb.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		tb.Fatal(err)
	}
	l := &logReader{tb: tb, r: r, w: w}
	tb.Cleanup(func() {
		_ = w.Close()
		l.die()
	})
	const setPipeSize = 1031 // F_SETPIPE_SZ; a larger pipe does as well
	l.control(func(fd uintptr) { _, _, _ = syscall.Syscall(syscall.SYS_FCNTL, fd, setPipeSize, 4096) })
	return l
}

// control calls f with the descriptor of the end that is read.
func (l *logReader) control(f func(fd uintptr)) {
	l.tb.Helper()
	raw, err := l.r.SyscallConn()
	if err != nil {
		l.tb.Fatal(err)
	}
	if err := raw.Control(f); err != nil {
		l.tb.Fatal(err)
	}
}

// fill leaves no room in the pipe, which nobody reads.
func (l *logReader) fill() {
	l.tb.Helper()
	var own int
	var err error
	l.control(func(fd uintptr) {
		own, err = syscall.Open(fmt.Sprintf("/proc/self/fd/%d", fd), syscall.O_WRONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	})
	if err != nil {
		l.tb.Fatal(err)
	}
	defer func() { _ = syscall.Close(own) }()
	line := []byte(strings.Repeat("x", 4095) + "\n")
	for wrote := true; wrote; time.Sleep(5 * time.Millisecond) { // a reader that just stalled may take a last piece
		wrote = false
		for size := len(line); size > 0; {
			switch _, err := syscall.Write(own, line[len(line)-size:]); err {
			case nil:
				wrote = true
			case syscall.EAGAIN:
				size /= 2
			case syscall.EINTR:
			default:
				l.tb.Fatal(err)
			}
		}
	}
}

// read reads on until the pipe ends or the reader dies.
func (l *logReader) read(to io.Writer) {
	for b := make([]byte, 4096); ; {
		n, err := l.r.Read(b)
		_, _ = to.Write(b[:n])
		if err != nil {
			return
		}
		l.gate.Lock()
		//lint:ignore SA2001 it only waits
		l.gate.Unlock()
	}
}

func (l *logReader) die() {
	l.dead = true
	_ = l.r.Close()
}

// full is a pipe without room that nobody reads.
func full(tb testing.TB) *os.File {
	tb.Helper()
	l := newLogReader(tb)
	l.fill()
	return l.w
}

// works proves that a cluster and its edge do what they are for.
func works(t *testing.T, c *clusterNodes, e *edgeNode, o org, id string) {
	t.Helper()
	agent := newClient(t, e.http)
	for _, n := range c.nodes {
		if n.process == nil || !n.lives() {
			continue
		}
		admin := newClient(t, n.http)
		admin.must(t, "devices/register", o.admin, naming(id+n.id))
		eventually(t, patient, "the edge allows", func() bool { return agent.validate(t, o.agent, id+n.id) == "ALLOW" })
		admin.must(t, "devices/revoke", o.admin, naming(id+n.id))
		if code := agent.validate(t, o.agent, id+n.id); code == "ALLOW" {
			t.Errorf("%s revoked %s, and the edge says ALLOW", n.id, id+n.id)
		}
	}
}

// TestALogReaderThatStalls stops nothing: changes, a hand-over, the end; whether nobody reads from the start, or from some moment on. It is told in
// /readyz and by a metric. Where the runtime itself prints, it ends too.
func TestALogReaderThatStalls(t *testing.T) {
	t.Parallel()
	for _, when := range []string{"from the start", "later"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			var readers []*logReader
			open := func() *os.File {
				l := newLogReader(t)
				readers = append(readers, l)
				if when == "from the start" {
					l.fill()
				}
				return l.w
			}
			for i := range 3 {
				n := c.newNode(fmt.Sprint("a", i+1), "--lease", "1s")
				n.stream = open
				c.nodes = append(c.nodes, n)
			}
			c.form()
			e := startEdgeInto(t, open(), c.links())
			e.ready()
			if when == "later" {
				for _, l := range readers {
					l.fill()
				}
			}
			o := newClient(t, c.nodes[0].http).createOrg(t)
			works(t, c, e, o, "first-")
			old := c.leader()
			to := c.nodes[0]
			if to == old {
				to = c.nodes[1]
			}
			c.transfer(to.id)
			works(t, c, e, o, "second-")
			eventually(t, patient, "the edge says that nobody reads its log", func() bool {
				body := get(t, e.ops, "/readyz")
				return strings.Contains(body, `"status":"ready"`) && strings.Contains(body, "log: stderr has taken nothing for")
			})
			if text := get(t, to.ops, "/metrics"); !strings.Contains(text, `machineid_log_stuck_seconds{stream="stderr"} `) ||
				strings.Contains(text, `machineid_log_stuck_seconds{stream="stderr"} 0`+"\n") {
				t.Error("no metric tells that the log is stuck")
			}
			began := time.Now()
			to.end(syscall.SIGTERM, exitDone) // the leader
			t.Logf("the leader ended after %v", time.Since(began).Round(time.Millisecond))
			c.leader()
			works(t, c, e, o, "third-")
			to.begin()
			to.ready()
			old.end(syscall.SIGQUIT, exitUsage) // Go's own exit code, after it has printed all stacks
			e.end(syscall.SIGTERM, exitDone)
			for _, n := range c.nodes {
				if n.lives() {
					n.end(syscall.SIGTERM, exitDone)
				}
			}
		})
	}
}

// get reads a page of the operators'.
func get(t *testing.T, ops, path string) string {
	t.Helper()
	resp, err := opsClient.Get("http://" + ops + path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// TestALogReaderThatDies, a full disk under the log, and SIGHUP, end no server.
func TestALogReaderThatDies(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"dies", "full disk", "SIGHUP"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			l := newLogReader(t)
			stream := l.w
			if kind == "full disk" {
				f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
				if err != nil {
					t.Skip(err)
				}
				defer func() { _ = f.Close() }()
				stream = f
			}
			var out output
			var reading sync.WaitGroup
			reading.Go(func() { l.read(&out) })
			a := newAuthority(t, "--lease", "1s")
			a.stream = func() *os.File { return stream }
			a.start()
			e := startEdgeInto(t, stream, a.link)
			e.ready()
			switch kind {
			case "dies":
				l.die()
			case "SIGHUP":
				a.signal(syscall.SIGHUP)
				e.signal(syscall.SIGHUP)
				eventually(t, patient, "both say so", func() bool { return strings.Count(out.String(), "SIGHUP changes nothing") == 2 })
			}
			o := newClient(t, a.http).createOrg(t)
			c := &clusterNodes{tb: t, nodes: []*authorityNode{a}}
			a.id = "a1"
			works(t, c, e, o, "first-")
			e.end(syscall.SIGTERM, exitDone) // the authority logs that it left
			e = startEdgeInto(t, stream, a.link)
			e.ready()
			works(t, c, e, o, "second-")
			if kind != "SIGHUP" {
				body := get(t, a.ops, "/readyz")
				if !strings.Contains(body, `"status":"ready"`) || !strings.Contains(body, "log: stderr takes nothing: write ") {
					t.Errorf("readyz: %s", body)
				}
			}
			e.end(syscall.SIGTERM, exitDone)
			a.end(syscall.SIGTERM, exitDone)
			if kind != "SIGHUP" {
				return
			}
			_ = l.w.Close()
			reading.Wait()
			for _, line := range []string{"msg=stopping", "msg=stopped"} {
				if strings.Count(out.String(), line) != 3 {
					t.Errorf("the log of both has not three times %q:\n%s", line, out.String())
				}
			}
		})
	}
}

// TestDevEndsWithItsTerminal: SIGHUP is Ctrl-C for it.
func TestDevEndsWithItsTerminal(t *testing.T) {
	t.Parallel()
	d := launchDev(t, t.TempDir())
	d.ready()
	d.end(syscall.SIGHUP, exitDone)
	if !strings.Contains(d.out.String(), "stopped cleanly") {
		t.Error("it does not stop cleanly")
	}
}

// TestCommandsEndWithTheirReader: what is no server has no log, and ends by SIGPIPE as everywhere.
func TestCommandsEndWithTheirReader(t *testing.T) {
	t.Parallel()
	l := newLogReader(t)
	l.die()
	p := launchInto(t, l.w, "version")
	p.mu.Lock()
	p.killed = true
	p.mu.Unlock()
	p.await()
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() || status.Signal() != syscall.SIGPIPE {
		t.Errorf("machineid version | true: %v", p.cmd.ProcessState)
	}
}

// TestAStopThatHangs ends after --stop-timeout, and says so, whatever it is that hangs: here what is read at the first start.
func TestAStopThatHangs(t *testing.T) {
	t.Parallel()
	for name, again := range map[string]bool{"once": false, "twice": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAuthority(t, "--stop-timeout", "1s")
			if err := os.MkdirAll(a.dir, 0o700); err != nil {
				t.Fatal(err)
			}
			token := filepath.Join(a.dir, "operator-token")
			if err := syscall.Mkfifo(token, 0o600); err != nil {
				t.Fatal(err)
			}
			a.launch()
			// A write end can be opened without waiting when somebody opens the other. Nothing is ever written.
			eventually(t, patient, "it reads the token", func() bool {
				fd, err := syscall.Open(token, syscall.O_WRONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
				if err == nil {
					t.Cleanup(func() { _ = syscall.Close(fd) })
				}
				return err == nil
			})
			if again {
				a.mu.Lock()
				a.killed = true
				a.mu.Unlock()
				a.signal(syscall.SIGTERM)
				eventually(t, patient, "it says that it stops", func() bool { return strings.Contains(a.out.String(), "msg=stopping") })
				a.signal(syscall.SIGTERM)
				a.await()
				return
			}
			a.end(syscall.SIGTERM, exitStuck)
			if !strings.Contains(a.out.String(), "the stop does not come to its end") {
				t.Error("it does not say why")
			}
		})
	}
}

// TestAFaultIsTold: the last words of a process that ends by itself come through, also those about its configuration.
func TestAFaultIsTold(t *testing.T) {
	t.Parallel()
	p := launch(t, "edge")
	p.mu.Lock()
	p.killed = true
	p.mu.Unlock()
	p.await()
	if code := p.cmd.ProcessState.ExitCode(); code != exitUsage || !strings.Contains(p.out.String(), "--authority (not set): is required") {
		t.Errorf("exit code %d: %s", code, p.out.String())
	}
	began := time.Now()
	p = launchInto(t, full(t), "edge")
	p.mu.Lock()
	p.killed = true
	p.mu.Unlock()
	p.await()
	if code := p.cmd.ProcessState.ExitCode(); code != exitUsage {
		t.Errorf("nobody reads: exit code %d after %v", code, time.Since(began))
	}
}

// listen has a node of a fleet log into a pipe, from its next start on.
func (w *fleet) listen(n *authorityNode) {
	said := &output{}
	n.stream = func() *os.File {
		l := newLogReader(w.t)
		w.readers[n] = l
		go l.read(said)
		return l.w
	}
	w.t.Cleanup(func() { judgeOutput(w.t, n.id, said.String()) })
}

// stall has nobody read for a while, and returns at once.
func (l *logReader) stall(nap time.Duration) {
	if l.dead || !l.gate.TryLock() {
		return
	}
	l.fill()
	time.AfterFunc(nap, l.gate.Unlock)
}
