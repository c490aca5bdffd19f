//go:build unix

package cli

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"machineid/shared/format"
)

// The variables of these tests.
const (
	// runMainEnv makes the test binary be machineid: so no build is needed, and -race covers the servers too.
	runMainEnv = "MACHINEID_TEST_RUN_MAIN"
	// descriptorsEnv is how many file descriptors it may have then.
	descriptorsEnv = "MACHINEID_TEST_DESCRIPTORS"
	// laterEnv has it know laterFormats as well (rolling_test.go).
	laterEnv = "MACHINEID_TEST_LATER_FORMATS"
	// seedEnv repeats a run's random choices.
	seedEnv = "MACHINEID_TEST_SEED"
)

// patient is how long anything may take that has no bound of its own, on a machine that does much else.
const patient = 30 * time.Second

func TestMain(m *testing.M) {
	if os.Getenv(runMainEnv) == "1" {
		limitDescriptors(os.Getenv(descriptorsEnv))
		if os.Getenv(laterEnv) != "" {
			format.Current = laterFormats
		}
		go endWithParent()
		os.Exit(run(os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
	}
	// What this process was told to ignore (nohup) its children would ignore, too; what it is told of they get as usual.
	for _, s := range []os.Signal{syscall.SIGHUP, syscall.SIGINT} {
		if signal.Ignored(s) {
			signal.Notify(make(chan os.Signal, 1), s)
		}
	}
	// These tests mostly wait, so more of them may run at once than there are cores. The command line overrules it.
	if err := flag.Set("test.parallel", strconv.Itoa(max(4, runtime.GOMAXPROCS(0)))); err != nil {
		panic(err)
	}
	testscript.Main(m, map[string]func(){"machineid": func() {
		OwnProcess()
		os.Exit(run(os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
	}})
}

// run runs one command line that has nothing to read.
func run(args, environ []string, stdout, stderr io.Writer) int {
	return Run(args, environ, strings.NewReader(""), stdout, stderr)
}

// limitDescriptors gives this process so many file descriptors, if text is a number above 0.
func limitDescriptors(text string) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n == 0 {
		return
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: n, Max: n}); err != nil {
		panic(err)
	}
}

// endWithParent ends this process when the test's ends, however it ended: the test holds the other end of stdin.
func endWithParent() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(99)
}

// process is one machineid process, in a group of its own. Its test ends it.
type process struct {
	tb     testing.TB
	name   string
	cmd    *exec.Cmd
	out    output // both streams
	exited chan struct{}

	mu     sync.Mutex
	killed bool // the test ended it
}

// launch starts machineid with args. A process that ends without having been told to fails the test.
func launch(tb testing.TB, args ...string) *process {
	tb.Helper()
	return launchInto(tb, nil, args...)
}

// launchInto has both streams of the process be a file, nil: they are collected.
func launchInto(tb testing.TB, stream *os.File, args ...string) *process {
	tb.Helper()
	return launchWith(tb, stream, 0, args...)
}

// launchWith is that with so many file descriptors; 0 is as many as the test has.
func launchWith(tb testing.TB, stream *os.File, descriptors int, args ...string) *process {
	tb.Helper()
	return binary{}.launch(tb, stream, descriptors, args...)
}

// binary is what runs as machineid: this test's binary, which may be told more by its environment, or another one.
type binary struct {
	path string
	env  []string
}

// untilTestEnds runs another program, which does not end by itself when the test does, however that ended: a shell beside it holds the other end of stdin.
const untilTestEnds = `exec 3<&0 </dev/null; { cat <&3; kill -KILL -$$; } >/dev/null 2>&1 & exec 3<&-; exec "$0" "$@"`

func (of binary) launch(tb testing.TB, stream *os.File, descriptors int, args ...string) *process {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	if of.path != "" {
		cmd = exec.Command("/bin/sh", append([]string{"-c", untilTestEnds, of.path}, args...)...)
	}
	p := &process{tb: tb, name: args[0], cmd: cmd, exited: make(chan struct{})}
	p.cmd.Env = append(bareEnviron(), runMainEnv+"=1", shortLeaseEnv+"=1", fmt.Sprintf("%s=%d", descriptorsEnv, descriptors))
	p.cmd.Env = append(p.cmd.Env, of.env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	if stream != nil {
		p.cmd.Stdout, p.cmd.Stderr = stream, stream
	}
	if _, err := p.cmd.StdinPipe(); err != nil {
		tb.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // its state tells
		close(p.exited)
	}()
	tb.Cleanup(p.cleanUp)
	return p
}

// bareEnviron is the environment without any setting of machineid.
func bareEnviron() []string {
	var bare []string
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "MACHINEID_") {
			bare = append(bare, kv)
		}
	}
	return bare
}

func (p *process) cleanUp() {
	select {
	case <-p.exited:
		p.mu.Lock()
		if !p.killed {
			p.tb.Errorf("%s ended by itself: %v", p.name, p.cmd.ProcessState)
		}
		p.mu.Unlock()
	default:
		p.kill()
	}
	judgeOutput(p.tb, fmt.Sprint(p.name, " ", p.cmd.Args[1:]), p.out.String())
}

// judgeOutput looks for what no process may print, and shows the end of it where a test has failed.
func judgeOutput(tb testing.TB, name, text string) {
	tb.Helper()
	for _, sign := range []string{"DATA RACE", "panic", "fatal error"} {
		if i := strings.Index(text, sign); i >= 0 {
			tb.Errorf("%s printed:\n%s", name, text[i:min(len(text), i+10_000)])
		}
	}
	if tb.Failed() {
		tb.Logf("%s printed:\n%s", name, text[max(0, len(text)-3000):])
	}
}

// kill ends the process with its group by SIGKILL, also when it is stopped, and waits for its end.
func (p *process) kill() {
	p.tb.Helper()
	p.mu.Lock()
	p.killed = true
	p.mu.Unlock()
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	p.await()
}

// interrupt is Ctrl-C. The process must end with exit code 0.
func (p *process) interrupt() {
	p.tb.Helper()
	p.end(syscall.SIGINT, exitDone)
}

// end sends a signal that ends the process, with this exit code.
func (p *process) end(s syscall.Signal, code int) {
	p.tb.Helper()
	p.mu.Lock()
	p.killed = true
	p.mu.Unlock()
	p.signal(s)
	p.await()
	if got := p.cmd.ProcessState.ExitCode(); got != code {
		p.tb.Errorf("%s after %v: exit code %d, want %d", p.name, s, got, code)
	}
}

// await waits for the process's end. Whoever does not end in time is killed.
func (p *process) await() {
	p.tb.Helper()
	select {
	case <-p.exited:
	case <-time.After(patient):
		p.tb.Errorf("%s does not end", p.name)
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-p.exited // its state is read next
	}
}

func (p *process) signal(s syscall.Signal) {
	p.tb.Helper()
	if err := syscall.Kill(p.cmd.Process.Pid, s); err != nil {
		p.tb.Fatalf("signal %v to %s: %v", s, p.name, err)
	}
}

// pause stops the process and returns when none of its threads runs.
func (p *process) pause() {
	p.tb.Helper()
	p.signal(syscall.SIGSTOP)
	stat := fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid)
	if _, err := os.Stat(stat); err != nil {
		return // no Linux: the signal was sent, which has to do
	}
	eventually(p.tb, patient, p.name+" is stopped", func() bool {
		text, _ := os.ReadFile(stat)
		_, state, _ := bytes.Cut(text, []byte(") "))
		return bytes.HasPrefix(state, []byte("T"))
	})
}

func (p *process) resume() {
	p.tb.Helper()
	p.signal(syscall.SIGCONT)
}

// authorityNode is an authority and where it is; it can be started again there.
type authorityNode struct {
	*process

	tb                         testing.TB
	id                         string
	dir, http, link, raft, ops string
	args                       []string
	limited                    int // file descriptors; 0: as the test
	program                    binary
	// stream is where it logs to at its next start; nil: what it logs is collected.
	stream func() *os.File
}

// into is the file that the next process logs to, nil if there is none.
func (n *authorityNode) into() *os.File {
	if n.stream == nil {
		return nil
	}
	return n.stream()
}

func newAuthority(tb testing.TB, args ...string) *authorityNode {
	tb.Helper()
	return &authorityNode{
		tb: tb, dir: filepath.Join(tb.TempDir(), "a1"), args: args,
		http: freeAddress(tb), link: freeAddress(tb), raft: freeAddress(tb), ops: freeAddress(tb),
	}
}

// launch starts the node and does not wait for it.
func (n *authorityNode) launch() {
	n.tb.Helper()
	n.process = n.program.launch(n.tb, n.into(), n.limited, append([]string{
		"authority", "--id", "a1", "--data", n.dir, "--bootstrap", "--open-signup",
		"--http", n.http, "--link", n.link, "--raft", n.raft, "--ops", n.ops,
	}, n.args...)...)
}

func (n *authorityNode) start() {
	n.tb.Helper()
	n.launch()
	n.ready()
}

func (n *authorityNode) ready() {
	n.tb.Helper()
	eventually(n.tb, patient, "the authority is ready", func() bool { return readyAt(n.ops) })
}

type edgeNode struct {
	*process

	http, ops string
}

// startEdge starts an edge without rate limits, which loads from one address would meet.
func startEdge(tb testing.TB, link string, args ...string) *edgeNode {
	tb.Helper()
	return startEdgeInto(tb, nil, link, args...)
}

// startEdgeInto has it log to a file, nil: what it logs is collected.
func startEdgeInto(tb testing.TB, stream *os.File, link string, args ...string) *edgeNode {
	tb.Helper()
	return binary{}.startEdge(tb, stream, link, args...)
}

func (of binary) startEdge(tb testing.TB, stream *os.File, link string, args ...string) *edgeNode {
	tb.Helper()
	e := &edgeNode{http: freeAddress(tb), ops: freeAddress(tb)}
	e.process = of.launch(tb, stream, 0, append([]string{"edge", "--id", "e1", "--http", e.http, "--ops", e.ops, "--authority", link, "--limits=false"}, args...)...)
	return e
}

func (e *edgeNode) ready() {
	e.tb.Helper()
	eventually(e.tb, patient, "the edge is ready", func() bool { return readyAt(e.ops) })
}

// tiers are an authority and an edge, in processes of their own.
type tiers struct {
	authority *authorityNode
	edge      *edgeNode
}

func startTiers(tb testing.TB, args ...string) tiers {
	tb.Helper()
	a := newAuthority(tb, args...)
	a.start()
	e := startEdge(tb, a.link)
	e.ready()
	return tiers{a, e}
}

// devNode is a `machineid dev`.
type devNode struct {
	*process

	edge, authority, authorityOps string
}

// launchDev starts a dev on addresses of its own.
func launchDev(tb testing.TB, dir string, args ...string) *devNode {
	tb.Helper()
	d := &devNode{edge: freeAddress(tb), authority: freeAddress(tb), authorityOps: freeAddress(tb)}
	d.process = launch(tb, append([]string{
		"dev", "--data", dir, "--edge-http", d.edge, "--edge-ops", freeAddress(tb), "--authority-http", d.authority,
		"--authority-link", freeAddress(tb), "--authority-raft", freeAddress(tb), "--authority-ops", d.authorityOps,
	}, args...)...)
	return d
}

// ready returns when the banner is printed: then both tiers answer.
func (d *devNode) ready() {
	d.tb.Helper()
	eventually(d.tb, patient, "dev prints what to type next", func() bool { return strings.Contains(d.out.String(), "Type next:") })
}

var opsClient = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second}

func readyAt(ops string) bool {
	resp, err := opsClient.Get("http://" + ops + "/readyz")
	if err != nil {
		return false
	}
	_ = resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

var handedOut sync.Map // addresses that a test of this run has

// freeAddress is a loopback address that nobody listens on. Its port is below those that kernels give to outgoing
// connections: one of those could be taken while the process that has it is being restarted, and who dials such a port in
// vain will one day be connected to itself.
func freeAddress(tb testing.TB) string {
	tb.Helper()
	for range 1000 {
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(10_000+rand.IntN(20_000)))
		if _, taken := handedOut.LoadOrStore(addr, true); taken {
			continue
		}
		if l, err := net.Listen("tcp", addr); err == nil {
			_ = l.Close()
			return addr
		}
	}
	tb.Fatal("no free port")
	return ""
}

// eventually waits until a condition holds.
func eventually(tb testing.TB, within time.Duration, what string, holds func() bool) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			tb.Fatalf("not within %v: %s", within, what)
		}
	}
}

// seeded returns the run's random numbers and prints how to repeat them.
func seeded(tb testing.TB) *rand.Rand {
	tb.Helper()
	seed := rand.Uint64()
	if text := os.Getenv(seedEnv); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			tb.Fatalf("%s: %v", seedEnv, err)
		}
	}
	tb.Logf("%s=%d", seedEnv, seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// output collects what a process prints. It is safe for concurrent use.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
