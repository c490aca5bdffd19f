//go:build linux

package raftstore

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// process is one node through its runs, each a real process.
type process struct {
	group *processes
	cfg   nodeConfig
	gate  *gate
	log   string // file of its standard error, all runs

	mu      sync.Mutex
	control string // where it is called; empty while it is down
	cmd     *exec.Cmd
	stdin   io.Closer
	done    chan struct{} // closed when this run ended
	paused  bool
	asked   syscall.Signal // to end; 0: it was not
	filled  bool           // its disk has, or had, no room: it may end
}

// settled is how long a cluster that was put right may take to be level, and a node to be ready: far more than on any machine that is not starved.
const settled = 4 * time.Minute

// processes is a cluster of node processes.
type processes struct {
	tb     testing.TB
	wires  *wires
	mutant nodeConfig // the mutants of each node but those of wobbles, which only the second has
	size   int        // voters there should be
	home   string     // the cluster's name
	made   int

	began time.Time

	mu     sync.Mutex
	nodes  []*process // in the cluster, or about to be
	faults []string   // what no node may do
	recent []string   // what was done to them since the last repair
	past   []string   // all that was done to them, and when
}

// startProcesses starts a cluster of n voters. It ends, and its faults are the test's, when the test does.
func startProcesses(tb testing.TB, n int, mutant nodeConfig) *processes {
	tb.Helper()
	tb.TempDir() // is removed after the cleanup below
	c := &processes{tb: tb, wires: newWires(), mutant: mutant, size: n, began: time.Now()}
	tb.Cleanup(func() {
		for _, p := range c.all() {
			p.kill()
			p.gate.close()
		}
		c.wires.mend(true)
		c.wires.running.Wait()
	})
	first := c.newProcess()
	first.cfg.Bootstrap = true
	first.begin()
	c.home = must[nodeState](tb)(first.state(noHashes)).Cluster
	c.settle(settled)
	return c
}

// newProcess prepares a node with an empty disk and a name that was never used.
func (c *processes) newProcess() *process {
	c.tb.Helper()
	c.made++
	p := &process{group: c, cfg: c.mutant, log: filepath.Join(c.tb.TempDir(), "stderr")}
	p.cfg.ID, p.cfg.From = fmt.Sprintf("n%d", c.made), fmt.Sprintf("127.1.%d.%d", c.made/250, 1+c.made%250)
	p.cfg.Wobbles = c.mutant.Wobbles && c.made == 2
	p.cfg.Dir = filepath.Join(c.tb.TempDir(), "data")
	p.gate = c.wires.newGate(c.tb, p.cfg.From)
	p.cfg.Advertise = p.gate.addr()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes = append(c.nodes, p)
	return p
}

func (c *processes) all() []*process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.nodes)
}

func (c *processes) find(id string) *process {
	for _, p := range c.all() {
		if p.cfg.ID == id {
			return p
		}
	}
	return nil
}

// faultf records what no node may do.
func (c *processes) faultf(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.faults = append(c.faults, fmt.Sprintf(format, args...))
}

func (c *processes) faultsFound() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.faults)
}

func (c *processes) recently() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.recent)
}

// struck notes what is about to be done to the cluster; nothing: all is well again.
func (c *processes) struck(names ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if names == nil {
		c.recent = nil
		names = []string{"all is well"}
	} else {
		c.recent = append(c.recent, names...)
	}
	for _, name := range names {
		c.past = append(c.past, fmt.Sprintf("%8.3f s %s", time.Since(c.began).Seconds(), name))
	}
}

// retire ends a node that is no member any more, for good.
func (c *processes) retire(p *process) {
	p.kill()
	p.gate.close()
	c.mu.Lock()
	c.nodes = slices.DeleteFunc(c.nodes, func(other *process) bool { return other == p })
	c.mu.Unlock()
	if err := os.RemoveAll(p.cfg.Dir); err != nil {
		c.tb.Error(err)
	}
}

// begin starts a run of the node and waits until it can be called.
func (p *process) begin() {
	c := p.group
	p.cfg.Home = c.home
	raw := must[[]byte](c.tb)(json.Marshal(p.cfg))
	stderr := must[*os.File](c.tb)(os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600))
	defer func() { _ = stderr.Close() }()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), nodeEnv+"="+string(raw), "GORACE=halt_on_error=1", "GOMAXPROCS=2")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // also one that is stopped
	cmd.Stderr = stderr
	stdin := must[io.WriteCloser](c.tb)(cmd.StdinPipe())
	stdout := must[io.ReadCloser](c.tb)(cmd.StdoutPipe())
	if err := cmd.Start(); err != nil {
		c.tb.Fatal(err)
	}
	done := make(chan struct{})
	p.mu.Lock()
	p.cmd, p.stdin, p.done, p.paused, p.asked, p.filled = cmd, stdin, done, false, 0, false
	p.mu.Unlock()
	lines := bufio.NewScanner(stdout)
	late := time.AfterFunc(settled, func() {
		c.faultf("%s was not ready in time: %s", p.cfg.ID, p.lastWords())
		_ = cmd.Process.Kill()
	})
	ready := lines.Scan()
	late.Stop()
	if ready {
		where := strings.Fields(lines.Text())
		p.gate.aim(where[1])
		p.mu.Lock()
		p.control = where[2]
		p.mu.Unlock()
	}
	go func() {
		defer close(done)
		for lines.Scan() { // until its end
		}
		err := cmd.Wait()
		p.gate.aim("")
		p.mu.Lock()
		p.control = ""
		fine := p.mayEnd(cmd.ProcessState.ExitCode())
		p.mu.Unlock()
		if !fine {
			c.faultf("%s ended by itself (%v): %s", p.cfg.ID, err, p.lastWords())
		}
	}()
}

// mayEnd returns whether an end with this code, -1 for a signal, is no fault of the node's own; mu is held.
func (p *process) mayEnd(code int) bool {
	if code == exitDiffers || code == exitRace {
		return false
	}
	return p.asked == syscall.SIGKILL || p.filled || (p.asked == syscall.SIGTERM && code == 0)
}

// lastWords is the end of what a node said, or what it said when it came to harm.
func (p *process) lastWords() string {
	raw, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	for _, harm := range []string{"WARNING: DATA RACE", "panic: ", "fatal error: "} {
		if at := bytes.LastIndex(raw, []byte(harm)); at >= 0 {
			return string(raw[at:min(at+8000, len(raw))])
		}
	}
	return string(raw[max(0, len(raw)-4000):])
}

// kill ends a node without a word, also if it is stopped.
func (p *process) kill() { p.end(syscall.SIGKILL) }

func (p *process) end(how syscall.Signal) {
	p.mu.Lock()
	cmd, done, stdin := p.cmd, p.done, p.stdin
	p.asked = how
	p.mu.Unlock()
	if cmd == nil {
		return
	}
	_ = cmd.Process.Signal(how) // it may have ended
	select {
	case <-done:
	case <-time.After(15 * time.Second):
		p.group.faultf("%s did not end: %s", p.cfg.ID, p.lastWords())
		_ = cmd.Process.Kill()
		<-done
	}
	_ = stdin.Close()
}

func (p *process) pause() { p.freeze(syscall.SIGSTOP, true) }

func (p *process) resume() { p.freeze(syscall.SIGCONT, false) }

func (p *process) freeze(how syscall.Signal, paused bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.cmd.Process.Signal(how)
	p.paused = paused
}

func (p *process) up() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.control != ""
}

// setFilled says that the node's disk is being filled, or that it came through that.
func (p *process) setFilled(filled bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.filled = filled
}

// noHashes asks for a node's state alone.
const noHashes = 1 << 62

// errNotSent: the node is down, so that it cannot have got the call.
var errNotSent = errors.New("the node is down")

// callers keeps no connection idle for long: nodes come and go.
var callers = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 16, IdleConnTimeout: 5 * time.Second}}

// call asks the node within a time-out, and decodes its answer into out.
func (p *process) call(within time.Duration, path string, body []byte, out any) error {
	p.mu.Lock()
	control := p.control
	p.mu.Unlock()
	if control == "" {
		return errNotSent
	}
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+control+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	a, err := callers.Do(q)
	if err != nil {
		return err
	}
	defer func() { _ = a.Body.Close() }()
	raw, err := io.ReadAll(a.Body)
	if err != nil {
		return err
	}
	if a.StatusCode != http.StatusOK {
		return errors.New(strings.TrimSpace(string(raw)))
	}
	return json.Unmarshal(raw, out)
}

// do has the node obey; at is what the order is about.
func (p *process) do(within time.Duration, what, id, at string) error {
	var ok string
	return p.call(within, "/do?"+url.Values{"what": {what}, "id": {id}, "at": {at}}.Encode(), nil, &ok)
}

// errForeign: the node is of another cluster, so what it says is not about this one.
var errForeign = errors.New("the node is of another cluster")

func (p *process) state(since uint64) (s nodeState, err error) {
	err = p.call(500*time.Millisecond, fmt.Sprintf("/state?since=%d", since), nil, &s)
	if home := p.group.home; err == nil && home != "" && s.Cluster != "" && s.Cluster != home {
		err = errForeign
	}
	return s, err
}

// wipe leaves a node that is down without its disk: its next start is another life.
func (p *process) wipe() {
	if err := os.RemoveAll(p.cfg.Dir); err != nil {
		p.group.tb.Error(err)
	}
}

// leader returns the node that leads the newest term and is ready, nil if there is none.
func (c *processes) leader() *process {
	nodes := c.all()
	states := make([]nodeState, len(nodes))
	var asked sync.WaitGroup
	for i, p := range nodes {
		p.mu.Lock()
		paused := p.paused
		p.mu.Unlock()
		if paused {
			continue
		}
		asked.Go(func() { states[i], _ = p.state(noHashes) })
	}
	asked.Wait()
	var found *process
	var newest uint64
	for i, s := range states {
		if s.Leads && s.Term > newest {
			found, newest = nodes[i], s.Term
		}
	}
	return found
}

// awaitLeader returns a leader, or nil when the time is over.
func (c *processes) awaitLeader(within time.Duration) *process {
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for end := time.Now().Add(within); time.Now().Before(end); <-poll.C {
		if l := c.leader(); l != nil {
			return l
		}
	}
	return nil
}

// settle starts nodes and changes the membership until there are as many voters as there should be, nobody else is a member, and each
// of them runs and has applied what one of them had when the members were right. Links and disks must be sound.
func (c *processes) settle(within time.Duration) {
	c.tb.Helper()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	var why error
	var goal uint64
	for end := time.Now().Add(within); time.Now().Before(end); <-poll.C {
		for _, p := range c.all() {
			if !p.up() {
				p.begin()
			}
		}
		l := c.leader()
		if l == nil {
			why = errors.New("no node leads")
			continue
		}
		if why = c.mend(l); why != nil {
			continue
		}
		if goal == 0 {
			var s nodeState
			if s, why = l.state(noHashes); why != nil {
				continue
			}
			goal = s.Applied
		}
		if why = c.reached(goal); why == nil {
			return
		}
	}
	c.faultf("the cluster did not settle within %s: %v", within, why)
	for _, p := range c.all() {
		s, err := p.state(noHashes)
		c.faultf("%s: %+v %v: %s", p.cfg.ID, s.NodeStatus, err, p.lastWords())
	}
}

// mend does one thing that is missing, and returns nil if nothing is. What it goes by is committed: a node whose removal could be
// taken back must not be wiped.
func (c *processes) mend(l *process) error {
	const patience = 10 * time.Second
	var members []raft.Server
	if err := l.call(patience, "/members", nil, &members); err != nil {
		return err
	}
	voters := 0
	for _, m := range members {
		if c.find(lifeOf(m.ID).ID) == nil {
			return cmp.Or(l.do(patience, "remove", lifeOf(m.ID).ID, ""), errors.New("a member was removed that is gone"))
		}
		if m.Suffrage == raft.Voter {
			voters++
		}
	}
	nodes := c.all()
	for _, p := range nodes {
		i := slices.IndexFunc(members, func(m raft.Server) bool { return lifeOf(m.ID).ID == p.cfg.ID })
		if i >= 0 {
			if s, err := p.state(noHashes); err == nil && s.Store != lifeOf(members[i].ID).Store {
				return cmp.Or(l.do(patience, "replace", p.cfg.ID, p.cfg.Advertise), errors.New("a lost disk was exchanged"))
			}
		}
		switch {
		case i < 0: // it was removed, and must not come back with what it has; or never came in
			c.retire(p)
			return errors.New("a node was retired")
		case members[i].Suffrage != raft.Voter && voters < c.size:
			return cmp.Or(l.do(patience, "promote", p.cfg.ID, ""), errors.New("a voter was made"))
		}
	}
	if len(nodes) < c.size {
		p := c.newProcess()
		p.begin()
		return cmp.Or(l.do(patience, "add", p.cfg.ID, p.cfg.Advertise), errors.New("a node was added"))
	}
	for _, p := range nodes {
		if len(nodes) > c.size && p != l {
			if err := l.do(patience, "remove", p.cfg.ID, ""); err != nil {
				return err
			}
			c.retire(p)
			return errors.New("a node was removed")
		}
	}
	if voters != c.size || len(members) != c.size {
		return fmt.Errorf("%d voters, %d members", voters, len(members))
	}
	return nil
}

// reached returns nil if all nodes have applied so much.
func (c *processes) reached(goal uint64) error {
	for _, p := range c.all() {
		s, err := p.state(noHashes)
		if err != nil {
			return fmt.Errorf("%s: %w", p.cfg.ID, err)
		}
		if s.Applied < goal {
			return fmt.Errorf("%s has applied %d, not %d", p.cfg.ID, s.Applied, goal)
		}
	}
	return nil
}
