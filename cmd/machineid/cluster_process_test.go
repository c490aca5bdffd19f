//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// clusterToken is the operator's token of the tests' clusters.
const clusterToken = "a-token-of-more-than-thirty-two-characters"

// clusterNodes are authority nodes in processes of their own.
type clusterNodes struct {
	tb        testing.TB
	tokenFile string
	nodes     []*authorityNode
}

// startCluster bootstraps one node and has the others join it.
func startCluster(tb testing.TB, n int, args ...string) *clusterNodes {
	tb.Helper()
	c := &clusterNodes{tb: tb, tokenFile: filepath.Join(tb.TempDir(), "token")}
	if err := os.WriteFile(c.tokenFile, []byte(clusterToken+"\n"), 0o600); err != nil {
		tb.Fatal(err)
	}
	for i := range n {
		c.nodes = append(c.nodes, c.newNode(fmt.Sprint("a", i+1), args...))
	}
	c.nodes[0].begin("--bootstrap")
	c.nodes[0].ready()
	for _, node := range c.nodes[1:] {
		node.begin("--join", c.nodes[0].http)
	}
	for _, node := range c.nodes {
		node.ready()
	}
	eventually(tb, patient, "all have a vote", func() bool { return len(c.view().voters()) == n })
	return c
}

func (c *clusterNodes) newNode(id string, args ...string) *authorityNode {
	c.tb.Helper()
	n := newAuthority(c.tb, append([]string{"--operator-token-file", c.tokenFile, "--open-signup"}, args...)...)
	n.id = id
	return n
}

// begin starts a node with what only its first start needs.
func (n *authorityNode) begin(args ...string) {
	n.tb.Helper()
	n.process = launch(n.tb, append(append([]string{
		"authority", "--id", n.id, "--data", n.dir, "--http", n.http, "--link", n.link, "--raft", n.raft, "--ops", n.ops,
	}, n.args...), args...)...)
}

// links lists the link addresses of all nodes.
func (c *clusterNodes) links() string {
	list := make([]string, len(c.nodes))
	for i, n := range c.nodes {
		list[i] = n.link
	}
	return strings.Join(list, ",")
}

func (v *clusterView) voters() (ids []string) {
	for _, m := range v.Members {
		if m.Voter {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

// operate runs one of the operators' commands against the nodes that live.
func (c *clusterNodes) operate(args ...string) (out string, code int) {
	var urls []string
	for _, n := range c.nodes {
		if n.process != nil && n.lives() {
			urls = append(urls, "http://"+n.http)
		}
	}
	var stdout, stderr bytes.Buffer
	args = append(args, "--operator-url", strings.Join(urls, ","), "--operator-token-file", c.tokenFile, "--timeout", "10s")
	code = run(args, nil, &stdout, &stderr)
	return stdout.String() + stderr.String(), code
}

// view is the cluster as one node sees it, nothing if none can tell.
func (c *clusterNodes) view() *clusterView {
	out, _ := c.operate("cluster", "status", "--output", "json", "--timeout", "1s")
	v := &clusterView{}
	_ = json.NewDecoder(strings.NewReader(out)).Decode(v) // nothing then
	return v
}

// leader waits until one is known and ready.
func (c *clusterNodes) leader() *authorityNode {
	c.tb.Helper()
	var leader *authorityNode
	eventually(c.tb, patient, "there is a leader", func() bool {
		v := c.view()
		for _, n := range c.nodes {
			if v.Leader != nil && *v.Leader == n.id && n.lives() && readyAt(n.ops) {
				leader = n
				return true
			}
		}
		return false
	})
	return leader
}

// lives reports whether the process has not been ended.
func (p *process) lives() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// TestClusterOfProcesses walks through the life of a cluster: joining, requests at any node, restarts without other flags, a hand-over,
// a node that is replaced at its address, and what is refused.
func TestClusterOfProcesses(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3, "--lease", "1s")
	var o org
	for i, n := range c.nodes { // every node takes every request
		client := newClient(t, n.http)
		if i == 0 {
			o = client.createOrg(t)
		}
		id := fmt.Sprint("agent-", i)
		client.must(t, "devices/register", o.admin, naming(id))
		for _, other := range c.nodes { // what one has said no other contradicts
			if code := newClient(t, other.http).validate(t, o.agent, id); code != "ALLOW" {
				t.Errorf("%s was registered at %s, and %s says %s", id, n.id, other.id, code)
			}
		}
	}
	e := startEdge(t, c.nodes[1].link, "--max-wait", "900ms") // one address, and not the leader's
	e.ready()
	agent := newClient(t, e.http)
	if code := agent.validate(t, o.agent, "agent-1"); code != "ALLOW" {
		t.Errorf("an edge that was told one node says %s", code)
	}

	if out, code := c.operate("cluster", "transfer", "a2"); code != exitDone || !strings.Contains(out, "a2 leads") {
		t.Fatalf("transfer: %d %s", code, out)
	}
	newClient(t, c.nodes[0].http).must(t, "devices/revoke", o.admin, naming("agent-1"))
	if code := agent.validate(t, o.agent, "agent-1"); code == "ALLOW" {
		t.Error("ALLOW after the revoke")
	}

	// Refusals leave everything as it was.
	for _, args := range [][]string{{"remove", "a2"}, {"demote", "a2"}, {"promote", "nobody"}, {"add", "a9", c.nodes[0].raft}, {"transfer", "a9"}} {
		if out, code := c.operate(append([]string{"cluster"}, append(args, "--timeout", "2s")...)...); code != exitFailed || !strings.Contains(out, "refused") {
			t.Errorf("cluster %v: exit %d, %s", args, code, out)
		}
	}
	if ids := c.view().voters(); len(ids) != 3 {
		t.Errorf("voters: %v", ids)
	}

	// Clean end of the leader; a restart needs no other flags.
	old := c.leader()
	old.interrupt()
	next := c.leader()
	if next == old {
		t.Error("the node that ended still leads")
	}
	old.begin()
	old.ready()

	// A node dies, and another takes its place at its addresses.
	var lost *authorityNode
	for _, n := range c.nodes {
		if n != c.leader() {
			lost = n
		}
	}
	lost.kill()
	if out, code := c.operate("cluster", "remove", lost.id); code != exitDone {
		t.Fatalf("remove %s: %d %s", lost.id, code, out)
	}
	lost.id, lost.dir = "a4", filepath.Join(t.TempDir(), "a4")
	lost.begin("--join", c.leader().http)
	lost.ready()
	eventually(t, patient, "a4 has a vote", func() bool { return len(c.view().voters()) == 3 })
	if code := newClient(t, lost.http).validate(t, o.agent, "agent-2"); code != "ALLOW" {
		t.Errorf("the node that joined says %s", code)
	}
	if out, code := c.operate("cluster", "status"); code != exitDone || !strings.Contains(out, "cluster raise-format") {
		t.Errorf("status: exit %d\n%s", code, out)
	}
	if out, code := c.operate("cluster", "raise-format", "99"); code != exitFailed || !strings.Contains(out, "newer program") {
		t.Errorf("a format that nobody knows: exit %d, %s", code, out)
	}
	if out, code := c.operate("cluster", "raise-format"); code != exitDone || !strings.Contains(out, "the format is 2") {
		t.Errorf("raise-format: exit %d, %s", code, out)
	}
	lost.interrupt()
	lost.begin()
	lost.ready()
	if out, code := c.operate("cluster", "status"); code != exitDone || strings.Contains(out, "note:") {
		t.Errorf("status: exit %d\n%s", code, out)
	}
}

// TestJoinWithAWrongTokenEnds, with a message that says what to do.
func TestJoinWithAWrongTokenEnds(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	wrong := filepath.Join(t.TempDir(), "wrong")
	if err := os.WriteFile(wrong, []byte(strings.Repeat("wrong", 8)), 0o600); err != nil {
		t.Fatal(err)
	}
	n := newAuthority(t, "--operator-token-file", wrong)
	n.id = "a2"
	n.begin("--join", c.nodes[0].http)
	n.mu.Lock()
	n.killed = true // it ends by itself, as it should
	n.mu.Unlock()
	n.await()
	if code := n.cmd.ProcessState.ExitCode(); code != exitFailed || !strings.Contains(n.out.String(), "operator's token") {
		t.Errorf("exit %d: %s", code, n.out.String())
	}
	if ids := c.view().voters(); len(ids) != 1 {
		t.Errorf("voters: %v", ids)
	}
}

// TestThePromiseOverACluster is the promise with three authority nodes and three edges as real processes, while leaders and
// edges are killed, stopped and handed over: no answer of an edge is from before a change that had returned, and nothing
// acknowledged is lost.
func TestThePromiseOverACluster(t *testing.T) {
	t.Parallel()
	rng := seeded(t)
	length := 15 * time.Second
	switch {
	case os.Getenv("MACHINEID_TEST_TORTURE") != "":
		length = tortureTime(5 * time.Minute)
	case testing.Short():
		length = 6 * time.Second
	}
	c := startCluster(t, 3, "--lease", "1s", "--cache-ttl", "5s")
	edges := make([]*edgeNode, 3)
	for i := range edges {
		edges[i] = startEdge(t, c.links(), "--max-wait", "500ms")
		edges[i].ready()
	}
	o := newClient(t, c.nodes[0].http).createOrg(t)
	h := &history{changes: make([][]changed, 3)}
	start := time.Now()
	at := func() time.Duration { return time.Since(start) }
	until := make(chan struct{})
	over := func() bool {
		select {
		case <-until:
			return true
		default:
			return false
		}
	}
	var clients sync.WaitGroup
	var mu sync.Mutex
	var unknown, refused, replays atomic.Int64
	faults := map[string]int{}

	// change repeats a call at one node after the other until it has succeeded. Whichever attempt did it, the answer is that of the
	// first: it changed something.
	change := func(r *rand.Rand, path, id string) {
		key := fmt.Sprintf("Idempotency-Key: %x", r.Uint64())
		for {
			n := c.nodes[r.IntN(len(c.nodes))]
			client := &client{addr: n.http}
			a, err := client.do(http.MethodPost, path, o.admin, naming(id), key)
			client.close()
			switch {
			case err == nil && a.StatusCode == http.StatusOK:
				if a.Header.Get("Idempotency-Replayed") != "" {
					replays.Add(1)
				}
				if strings.Contains(a.raw, `"changed":false`) {
					t.Errorf("%s of %s was done before, under the same Idempotency-Key: %s", path, id, a.raw)
				}
				return
			case err == nil && a.text("outcome") == "not_done", errors.Is(err, errNotSent):
				refused.Add(1)
			default:
				unknown.Add(1)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	for d := range h.changes {
		first := changed{active: true, called: at()}
		change(rng, "devices/register", fmt.Sprint("d", d))
		first.done = at()
		h.changes[d] = append(h.changes[d], first)
		r := rand.New(rand.NewPCG(rng.Uint64(), 1))
		clients.Go(func() {
			for active := false; !over(); active = !active {
				time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond)
				path := map[bool]string{true: "devices/unrevoke", false: "devices/revoke"}[active]
				mu.Lock()
				h.changes[d] = append(h.changes[d], changed{active: active, called: at(), done: math.MaxInt64})
				now := &h.changes[d][len(h.changes[d])-1]
				mu.Unlock()
				change(r, path, fmt.Sprint("d", d))
				done := at()
				mu.Lock()
				now.done = done
				mu.Unlock()
			}
		})
	}
	for i := range edges {
		for range 2 {
			r := rand.New(rand.NewPCG(rng.Uint64(), 2))
			clients.Go(func() {
				var conn *client
				for !over() {
					mu.Lock()
					e := edges[i]
					mu.Unlock()
					if conn == nil || conn.addr != e.http {
						conn = &client{addr: e.http}
					}
					v := validated{edge: fmt.Sprint("e", i), device: r.IntN(len(h.changes)), sent: at()}
					a, err := conn.post("devices/validate", o.agent, naming(fmt.Sprint("d", v.device)))
					if err != nil {
						conn.close()
						time.Sleep(10 * time.Millisecond)
						continue
					}
					v.code, v.answeredTime = a.code(), at()
					mu.Lock()
					h.validates = append(h.validates, v)
					mu.Unlock()
				}
				if conn != nil {
					conn.close()
				}
			})
		}
	}
	for end := time.Now().Add(length); time.Now().Before(end); {
		time.Sleep(time.Duration(200+rng.IntN(800)) * time.Millisecond)
		what := []string{"kill leader", "stop leader", "end leader", "transfer", "stop follower", "stop edge", "kill edge", "kill all"}[rng.IntN(8)]
		faults[what]++
		nap := time.Duration(100+rng.IntN(2500)) * time.Millisecond
		switch what {
		case "transfer":
			_, _ = c.operate("cluster", "transfer")
		case "stop edge":
			e := edges[rng.IntN(len(edges))]
			e.pause()
			time.Sleep(nap)
			e.resume()
		case "kill edge":
			i := rng.IntN(len(edges))
			edges[i].kill()
			fresh := startEdge(t, c.links(), "--max-wait", "500ms")
			mu.Lock()
			edges[i] = fresh
			mu.Unlock()
		case "kill all":
			for _, n := range c.nodes {
				n.kill()
			}
			for _, n := range c.nodes {
				n.begin()
			}
			c.leader()
		default:
			n := c.leader()
			if what == "stop follower" {
				for _, other := range c.nodes {
					if other != n {
						n = other
						break
					}
				}
			}
			switch what {
			case "kill leader":
				n.kill()
				n.begin()
			case "end leader":
				n.interrupt()
				n.begin()
			default:
				n.pause()
				time.Sleep(nap)
				n.resume()
			}
		}
	}
	close(until)
	clients.Wait()

	decided := 0
	for _, v := range h.validates {
		if v.code != "SYSTEM_UNAVAILABLE" {
			decided++
		}
	}
	changes := 0
	for d, list := range h.changes {
		changes += len(list)
		want := map[bool]string{true: "ALLOW", false: "DEVICE_REVOKED"}[list[len(list)-1].active]
		for _, n := range c.nodes {
			eventually(t, patient, n.id+" is ready", func() bool { return readyAt(n.ops) })
			if got := newClient(t, n.http).validate(t, o.agent, fmt.Sprint("d", d)); got != want {
				t.Errorf("at the end %s says %s of device %d, want %s", n.id, got, d, want)
			}
		}
	}
	bad := h.violations()
	t.Logf("%d validates, %d decided, %d changes (%d attempts unknown, %d not done, %d replays), faults %v: %d violations",
		len(h.validates), decided, changes, unknown.Load(), refused.Load(), replays.Load(), faults, len(bad))
	for _, v := range bad[:min(len(bad), 5)] {
		t.Error(v)
	}
	if decided < len(h.validates)/10 || changes < 10 {
		t.Error("too little was decided for the check to mean anything")
	}
}

// tortureTime is how long a long form runs: TORTURE, or its own default.
func tortureTime(usual time.Duration) time.Duration {
	if d, err := time.ParseDuration(os.Getenv("TORTURE")); err == nil {
		return d
	}
	return usual
}

// TestJoinKilled ends a node that joins at any moment: started again as before, it goes on where it was.
func TestJoinKilled(t *testing.T) {
	t.Parallel()
	rng := seeded(t)
	rounds := 3
	if testing.Short() {
		rounds = 1
	}
	c := startCluster(t, 1)
	kills := 0
	for round := range rounds {
		n := c.newNode(fmt.Sprint("b", round))
		for range 6 {
			n.begin("--join", c.nodes[0].http)
			time.Sleep(time.Duration(rng.IntN(400)) * time.Millisecond)
			n.kill()
			kills++
		}
		n.begin("--join", c.nodes[0].http)
		n.ready()
		eventually(t, patient, n.id+" has a vote", func() bool { return slices.Contains(c.view().voters(), n.id) })
		n.interrupt()
		n.begin() // by now it needs no flag
		n.ready()
		eventually(t, patient, n.id+" is removed", func() bool { // while it runs: one of two voters is no majority
			c.operate("cluster", "transfer", c.nodes[0].id) // a leader cannot be removed
			out, code := c.operate("cluster", "remove", n.id)
			t.Logf("remove %s: %d %s", n.id, code, out)
			return code == exitDone
		})
		n.interrupt()
	}
	t.Logf("%d kills in %d joins", kills, rounds)
}
