//go:build unix

package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
	c := newCluster(tb)
	for i := range n {
		c.nodes = append(c.nodes, c.newNode(fmt.Sprint("a", i+1), args...))
	}
	c.form()
	return c
}

// newCluster returns a cluster without nodes.
func newCluster(tb testing.TB) *clusterNodes {
	tb.Helper()
	c := &clusterNodes{tb: tb, tokenFile: filepath.Join(tb.TempDir(), "token")}
	if err := os.WriteFile(c.tokenFile, []byte(clusterToken+"\n"), 0o600); err != nil {
		tb.Fatal(err)
	}
	return c
}

// form starts the nodes as one cluster.
func (c *clusterNodes) form() {
	c.tb.Helper()
	c.nodes[0].begin("--bootstrap")
	c.nodes[0].ready()
	for _, node := range c.nodes[1:] {
		node.begin("--join", c.nodes[0].http)
	}
	for _, node := range c.nodes {
		node.ready()
	}
	eventually(c.tb, patient, "all have a vote", func() bool { return len(c.view().voters()) == len(c.nodes) })
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
	n.process = n.program.launch(n.tb, n.into(), 0, append(append([]string{
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

// transfer hands over to a node. On a starved machine raft's own deadline passes first, so that it is not known, or the node does not catch up in time: it is
// done again.
func (c *clusterNodes) transfer(to string) (out string) {
	c.tb.Helper()
	for began := time.Now(); ; {
		out, code := c.operate("cluster", "transfer", to)
		switch {
		case code == exitDone:
			return out
		case code != exitUnavailable && !strings.Contains(out, "has not caught up") || time.Since(began) > patient:
			c.tb.Fatalf("transfer to %s: exit %d, %s", to, code, out)
		}
	}
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
	c.listEdges("e1")

	if out := c.transfer("a2"); !strings.Contains(out, "a2 leads") {
		t.Fatalf("transfer: %s", out)
	}
	newClient(t, c.nodes[0].http).must(t, "devices/revoke", o.admin, naming("agent-1"))
	if code := agent.validate(t, o.agent, "agent-1"); code == "ALLOW" {
		t.Error("ALLOW after the revoke")
	}

	// Refusals leave everything as it was.
	for _, args := range [][]string{{"remove", "a2"}, {"demote", "a2"}, {"add", "a9", c.nodes[0].raft}, {"transfer", "a9"}} {
		if out, code := c.operate(append([]string{"cluster"}, append(args, "--timeout", "2s")...)...); code != exitFailed || !strings.Contains(out, "refused") {
			t.Errorf("cluster %v: exit %d, %s", args, code, out)
		}
	}
	for _, what := range []string{"promote", "demote", "remove"} { // at once, not after trying for --timeout
		if out, code := c.operate("cluster", what, "nobody", "--timeout", "10m"); code != exitFailed || !strings.Contains(out, "it is not a member; the members are a1, a2, a3") {
			t.Errorf("cluster %s nobody: exit %d, %s", what, code, out)
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
	if out, code := c.operate("cluster", "status"); code != exitDone || strings.Contains(out, "note:") { // it began with the newest format: nothing is to be raised
		t.Errorf("status: exit %d\n%s", code, out)
	}
	if out, code := c.operate("cluster", "raise-format", "99"); code != exitFailed || !strings.Contains(out, "newer program") {
		t.Errorf("a format that nobody knows: exit %d, %s", code, out)
	}
	if out, code := c.operate("cluster", "raise-format"); code != exitDone || !strings.Contains(out, "the format is 2, the newest that every node knows") {
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
