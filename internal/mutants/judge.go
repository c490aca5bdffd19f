package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

// judge is a run of tests that a mutant has to pass to live. Its own package's come first.
type judge struct {
	folder string
	run    string // which of its tests, "" for all
	env    []string
}

// The promise in virtual time: three nodes, five edges, a few histories.
var histories = judge{
	folder: "cmd/machineid/cli", run: "^TestThePromiseOfAClusterInVirtualTime$", env: []string{"MACHINEID_TEST_TORTURE=1", "MACHINEID_TEST_SEEDS=5"},
}

// also are the judges beside a package's own tests, by its folder: who lives there is tried by these.
var also = map[string][]judge{
	"shared/clock":    {histories},
	"shared/decision": {{folder: "authority/state"}, histories},
	"edge":            {histories},
	"authority/hub":   {histories},
	"authority/state": {{folder: "authority/api"}, histories},
}

// judges are those of a package, its own tests first.
func (c *court) judges(folder string) []judge {
	own := []judge{{folder: folder}}
	if c.own {
		return own
	}
	return append(own, also[folder]...)
}

// What became of a mutant.
const (
	killed  = "killed"
	lived   = "lived"
	refused = "refused" // by the compiler: it is none
)

// court tries mutants.
type court struct {
	root    string // of the module
	memory  int    // GiB that the tests of a mutant may take
	patient time.Duration
	own     bool // only a package's own tests judge

	once sync.Mutex
	took map[string]time.Duration // by a judge's folder, without a fault
}

// begin runs a judge without a fault, once, when the first mutant comes to it: it has to pass, and a mutant is given three times as long as that took.
func (c *court) begin(ctx context.Context, j judge) (time.Duration, error) {
	c.once.Lock()
	defer c.once.Unlock()
	if took, known := c.took[j.folder+j.run]; known {
		return took, nil
	}
	began := time.Now()
	said, err := c.test(ctx, j, "", 30*time.Minute)
	if err != nil {
		return 0, fmt.Errorf("the tests of %s fail without a fault: %w\n%s", j.folder, err, said)
	}
	c.took[j.folder+j.run] = time.Since(began)
	return c.took[j.folder+j.run], nil
}

// tryOne switches a mutant on, or compiles it alone if it cannot be switched.
func (c *court) tryOne(ctx context.Context, l *loom, m *mutant) (verdict, by string, err error) {
	if n, ok := l.numbers[m.name]; ok {
		return c.switchOn(ctx, l, n)
	}
	return c.try(ctx, m)
}

// try says what becomes of a mutant, and which folder's tests have killed it.
func (c *court) try(ctx context.Context, m *mutant) (verdict, by string, err error) {
	dir, err := os.MkdirTemp("", "mutant")
	if err != nil {
		return "", "", fmt.Errorf("make room for a mutant: %w", err)
	}
	defer os.RemoveAll(dir)
	overlay, err := c.overlay(m, dir)
	if err != nil {
		return "", "", err
	}
	folder := filepath.ToSlash(filepath.Dir(m.file))
	for _, j := range c.judges(folder) {
		took, err := c.begin(ctx, j)
		if err != nil {
			return "", "", err
		}
		said, err := c.test(ctx, j, overlay, c.patient+3*took)
		switch {
		case ctx.Err() != nil:
			return "", "", ctx.Err()
		case err == nil:
		case bytes.Contains(said, []byte("[build failed]")) || bytes.Contains(said, []byte("[setup failed]")):
			return refused, compilerSaid.FindString(string(said)), nil
		default:
			return killed, j.folder + " " + failedTest.FindString(string(said)), nil
		}
	}
	return lived, "", nil
}

var (
	compilerSaid = regexp.MustCompile(`(?m)^\S+\.go:\d+:\d+: .*$`)
	failedTest   = regexp.MustCompile(`(?m)(--- FAIL: \S+|^panic: .{0,60}|^fatal error: .{0,60}|^SIGXCPU.*|signal: killed)`)
)

// overlay writes the file with the fault, and the list that puts it in the place of ours.
func (c *court) overlay(m *mutant, dir string) (string, error) {
	name := filepath.Join(c.root, filepath.FromSlash(m.file))
	src, err := os.ReadFile(name)
	if err != nil {
		return "", fmt.Errorf("read what is to be changed: %w", err)
	}
	of := filepath.Join(dir, "mutant.go")
	list, err := json.Marshal(map[string]map[string]string{"Replace": {name: of}})
	if err != nil {
		return "", fmt.Errorf("list what is replaced: %w", err)
	}
	overlay := filepath.Join(dir, "overlay.json")
	for name, text := range map[string][]byte{of: m.apply(src), overlay: list} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			return "", fmt.Errorf("write a mutant: %w", err)
		}
	}
	return overlay, nil
}

// test runs a judge's tests, compiled for that.
func (c *court) test(ctx context.Context, j judge, overlay string, within time.Duration) ([]byte, error) {
	args := []string{"go", "test", "-count=1", "-short", "-vet=off", "-ldflags=-w", "-failfast", "-skip", "^TestAlloc"}
	args = append(args, "-timeout", within.Round(time.Second).String())
	if overlay != "" {
		args = append(args, "-overlay", overlay)
	}
	if j.run != "" {
		args = append(args, "-run", j.run)
	}
	// To compile in; a test that ends itself says where it stood.
	return c.command(ctx, c.root, within+5*time.Minute, j.env, append(args, "./"+j.folder)...)
}

// command runs what tests. A fault may ask for all memory, or never end: both have bounds, and so is what they leave behind.
func (c *court) command(ctx context.Context, in string, within time.Duration, env []string, args ...string) ([]byte, error) {
	dir, err := os.MkdirTemp("", "judge")
	if err != nil {
		return nil, fmt.Errorf("make room for tests: %w", err)
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", append([]string{"-c", `ulimit -d "$0" && exec "$@"`, fmt.Sprint(c.memory << 20)}, args...)...)
	cmd.Dir, cmd.WaitDelay = in, 10*time.Second
	alone(cmd)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "MACHINEID_") && !strings.HasPrefix(v, "TMPDIR=") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "CGO_ENABLED=0", "TMPDIR="+dir)
	cmd.Env = append(cmd.Env, env...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return said.Bytes(), fmt.Errorf("%s: %w", strings.Join(args[:2], " "), err)
	}
	return said.Bytes(), nil
}
