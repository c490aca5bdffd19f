//go:build unix

package cli

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// startLine starts a node by the line that holds for each of its starts: it names every node, itself too.
func (c *clusterNodes) startLine(n *authorityNode, args ...string) {
	c.tb.Helper()
	all := make([]string, len(c.nodes))
	for i, other := range c.nodes {
		all[i] = other.http
	}
	n.begin(append([]string{"--join", strings.Join(all, ",")}, args...)...)
}

// lineCluster prepares nodes a1, a2, ... that are started by startLine.
func lineCluster(tb testing.TB, n int) *clusterNodes {
	tb.Helper()
	c := newCluster(tb)
	for i := range n {
		c.nodes = append(c.nodes, c.newNode(fmt.Sprint("a", i+1)))
	}
	return c
}

// says waits until a node is not ready and says why with these words.
func (n *authorityNode) says(words ...string) {
	n.tb.Helper()
	said := ""
	defer func() {
		if n.tb.Failed() {
			n.tb.Logf("%s said %s, wanted %q", n.id, said, words)
		}
	}()
	eventually(n.tb, patient, n.id+" says what it waits for", func() bool {
		resp, err := opsClient.Get("http://" + n.ops + "/readyz")
		if err != nil {
			return false
		}
		defer func() { _ = resp.Body.Close() }()
		raw, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode == http.StatusOK {
			return false
		}
		said = string(raw)
		for _, word := range words {
			if !strings.Contains(said, word) {
				return false
			}
		}
		return true
	})
}

func (c *clusterNodes) initAt(n *authorityNode, args ...string) (out string, code int) {
	c.tb.Helper()
	return c.operate(append([]string{"cluster", "init", "--at", n.http}, args...)...)
}

// begins has a node begin the cluster. On a starved machine an answer may come too late: then it is refused, or not known, and done again.
func (c *clusterNodes) begins(n *authorityNode) {
	c.tb.Helper()
	eventually(c.tb, patient, n.id+" begins the cluster", func() bool {
		out, code := c.initAt(n)
		switch {
		case code == exitDone && strings.Contains(out, "has begun"), code == exitFailed && strings.Contains(out, n.id+" is a member of cluster"):
			return true
		case code == exitUnavailable, strings.Contains(out, "does not answer"), strings.Contains(out, "asked to begin"):
			c.tb.Logf("again: exit %d, %s", code, out)
			return false
		}
		c.tb.Fatalf("init at %s: exit %d, %s", n.id, code, out)
		return false
	})
}

// oneCluster waits until every node has a vote and is ready, and returns the name that all of them know.
func (c *clusterNodes) oneCluster() string {
	c.tb.Helper()
	eventually(c.tb, patient, "every node has a vote", func() bool { return len(c.view().voters()) == len(c.nodes) })
	name := ""
	for _, n := range c.nodes {
		n.ready()
		eventually(c.tb, patient, n.id+" names its cluster", func() bool {
			out, code := c.initAt(n, "--timeout", "2s")
			_, rest, found := strings.Cut(out, "is a member of cluster ")
			if code != exitFailed || !found {
				return false
			}
			its, _, _ := strings.Cut(rest, ";")
			if name != "" && its != name {
				c.tb.Fatalf("%s is in cluster %s, another in %s", n.id, its, name)
			}
			name = its
			return true
		})
	}
	return name
}

// TestClusterInit: three nodes by one line each, none of them special. They wait and say so; one is told to begin; the others join. After that
// nobody begins another, and the same lines serve every other start.
func TestClusterInit(t *testing.T) {
	t.Parallel()
	c := lineCluster(t, 3)
	for _, n := range c.nodes[:2] {
		c.startLine(n)
	}
	first, second, third := c.nodes[0], c.nodes[1], c.nodes[2]
	first.says("join:", second.http, third.http, "machineid cluster init --at "+first.http)
	if out, code := c.operate("cluster", "status"); code != exitUnavailable || !strings.Contains(out, "cluster none yet") || !strings.Contains(out, "machineid cluster init") {
		t.Errorf("status of a node that waits: exit %d, %s", code, out)
	}
	wrong := filepath.Join(t.TempDir(), "wrong")
	if err := os.WriteFile(wrong, []byte(strings.Repeat("wrong", 8)), 0o600); err != nil {
		t.Fatal(err)
	}
	right := c.tokenFile
	c.tokenFile = wrong
	if out, code := c.initAt(first); code != exitFailed || !strings.Contains(out, "not the operator's token that it was started with") {
		t.Errorf("with a wrong token: exit %d, %s", code, out)
	}
	c.tokenFile = right
	if out, code := c.initAt(first); code != exitFailed || !strings.Contains(out, third.http+" does not answer") || !strings.Contains(out, "--ignore-unreachable") {
		t.Errorf("with one that does not answer: exit %d, %s", code, out)
	}
	c.startLine(third)
	third.says("join:")
	c.begins(first)
	name := c.oneCluster()
	o := newClient(t, third.http).createOrg(t)

	for _, n := range c.nodes {
		if out, code := c.initAt(n, "--ignore-unreachable"); code != exitFailed || !strings.Contains(out, "member of cluster "+name) {
			t.Errorf("init again at %s: exit %d, %s", n.id, code, out)
		}
	}
	for _, n := range c.nodes {
		n.kill()
	}
	for _, n := range c.nodes {
		c.startLine(n)
	}
	if again := c.oneCluster(); again != name {
		t.Errorf("cluster %s after all were killed, %s before", again, name)
	}
	eventually(t, patient, "the org is there", func() bool {
		a, err := newClient(t, first.http).get("usage", o.admin)
		return err == nil && a.StatusCode == http.StatusOK
	})
}

// TestClusterInitKilled: nodes are killed while one is told to begin, and right after it has answered. By their same lines they end as one cluster.
func TestClusterInitKilled(t *testing.T) {
	t.Parallel()
	rng := seeded(t)
	rounds := 4
	if testing.Short() {
		rounds = 2
	}
	for round := range rounds {
		c := lineCluster(t, 3)
		for _, n := range c.nodes {
			c.startLine(n)
		}
		for _, n := range c.nodes {
			n.says("join:")
		}
		at := c.nodes[rng.IntN(3)]
		began := ""
		if round%2 == 0 {
			c.begins(at)
			began = "begun"
		} else {
			done := make(chan struct{})
			go func() {
				defer close(done)
				c.initAt(at, "--timeout", "100ms")
			}()
			time.Sleep(time.Duration(rng.IntN(30)) * time.Millisecond)
			at.kill()
			<-done
			c.startLine(at)
		}
		for _, n := range c.nodes {
			n.kill()
			c.startLine(n)
		}
		// What had begun goes on by itself. If nothing had, it can begin.
		if began == "" {
			eventually(t, patient, "one of them begins", func() bool {
				out, code := c.initAt(c.nodes[rng.IntN(3)], "--timeout", "5s")
				return code == exitDone || strings.Contains(out, "is a member of cluster") || strings.Contains(out, "is in cluster")
			})
		}
		t.Logf("round %d: %s, cluster %s", round, began, c.oneCluster())
		for _, n := range c.nodes {
			n.kill()
		}
	}
}

// TestClusterInitTwiceAtOnce: two operators, two nodes, one moment.
func TestClusterInitTwiceAtOnce(t *testing.T) {
	t.Parallel()
	rounds := 3
	if testing.Short() {
		rounds = 1
	}
	for round := range rounds {
		c := lineCluster(t, 3)
		for _, n := range c.nodes {
			c.startLine(n)
		}
		for _, n := range c.nodes {
			n.says("join:")
		}
		var codes [2]int
		var outs [2]string
		var calls sync.WaitGroup
		for i := range codes {
			calls.Go(func() { outs[i], codes[i] = c.initAt(c.nodes[i]) })
		}
		calls.Wait()
		if codes[0] == exitDone && codes[1] == exitDone {
			t.Fatalf("two clusters: %q", outs)
		}
		if codes[0] != exitDone && codes[1] != exitDone {
			eventually(t, patient, "one of them begins", func() bool {
				out, code := c.initAt(c.nodes[2])
				return code == exitDone || strings.Contains(out, "is a member of cluster") || strings.Contains(out, "is in cluster")
			})
		}
		t.Logf("round %d: exits %v, cluster %s", round, codes, c.oneCluster())
		for _, n := range c.nodes {
			n.kill()
		}
	}
}

// TestLostDisk: the first node loses its disk, and comes up first, by its same line. It begins nothing. It says what it found when it meets
// the others, and is exchanged with --replace-lost, or once somebody has removed the member that it was. A living member's name is not to be had.
func TestLostDisk(t *testing.T) {
	t.Parallel()
	c := lineCluster(t, 3)
	for _, n := range c.nodes {
		c.startLine(n)
		n.says("join:")
	}
	first := c.nodes[0]
	c.begins(first)
	name := c.oneCluster()
	for _, n := range c.nodes {
		n.kill()
	}
	if err := os.RemoveAll(first.dir); err != nil {
		t.Fatal(err)
	}
	c.startLine(first)
	first.says("join: this node is in no cluster", "cluster init")
	if out, code := c.initAt(first); code != exitFailed || !strings.Contains(out, "does not answer") {
		t.Errorf("init at the node without its disk: exit %d, %s", code, out)
	}
	for _, n := range c.nodes[1:] {
		c.startLine(n)
	}
	first.says("its disk was lost", "machineid cluster remove a1", "--replace-lost")
	if out, code := c.initAt(first, "--ignore-unreachable"); code != exitFailed || !strings.Contains(out, name) {
		t.Errorf("init at the node without its disk: exit %d, %s", code, out)
	}
	logged := func() int { return strings.Count(first.out.String(), "somebody has to act") }
	eventually(t, patient, "it is logged", func() bool { return logged() > 0 })
	first.kill()
	if logged() != 1 {
		t.Errorf("logged %d times:\n%s", logged(), first.out.String())
	}
	c.startLine(first, "--replace-lost")
	if got := c.oneCluster(); got != name {
		t.Errorf("cluster %s, was %s", got, name)
	}

	// The other way: by people, while it waits.
	lost := c.nodes[1]
	lost.kill()
	if err := os.RemoveAll(lost.dir); err != nil {
		t.Fatal(err)
	}
	c.startLine(lost)
	lost.says("its disk was lost", "machineid cluster remove "+lost.id)
	eventually(t, patient, "the one that was is removed", func() bool { // another may be leading, or be elected just now
		out, code := c.operate("cluster", "remove", lost.id)
		if code != exitDone {
			t.Logf("remove: exit %d, %s", code, out)
		}
		return code == exitDone
	})
	if got := c.oneCluster(); got != name {
		t.Errorf("cluster %s, was %s", got, name)
	}

	twin := c.newNode(lost.id)
	c.startLine(twin, "--replace-lost")
	twin.says("its disk is not lost")
	twin.kill()
	c.startLine(twin)
	twin.says("two nodes have one name", lost.raft)
	if got := len(c.view().voters()); got != 3 {
		t.Errorf("%d voters", got)
	}
}

// TestReaddress: nodes are started at other addresses for Raft. They say so, and are found again when the members are told.
func TestReaddress(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 3)
	for _, leads := range []bool{false, true} {
		var n *authorityNode
		for _, other := range c.nodes {
			if (other == c.leader()) == leads {
				n = other
			}
		}
		old := n.raft
		n.interrupt()
		n.raft = freeAddress(t)
		n.begin()
		n.says("address:", old, n.raft, "machineid cluster readdress "+n.id+" "+n.raft)
		eventually(t, patient, "status tells", func() bool {
			out, _ := c.operate("cluster", "status")
			return strings.Contains(out, "cluster readdress "+n.id)
		})
		if out, code := c.operate("cluster", "readdress", n.id, freeAddress(t)); code != exitFailed {
			t.Errorf("to where nobody is: exit %d, %s", code, out)
		}
		eventually(t, patient, n.id+" is readdressed", func() bool { // what was cut in the middle is repeated, as the command says
			out, code := c.operate("cluster", "readdress", n.id, n.raft)
			if strings.Contains(out, "cluster add") {
				out, code = c.operate("cluster", "add", n.id, n.raft)
			}
			if code != exitDone {
				t.Logf("readdress: exit %d, %s", code, out)
			}
			return code == exitDone
		})
		n.ready()
		eventually(t, patient, n.id+" has its vote", func() bool { // the command may have been cut before
			if slices.Contains(c.view().voters(), n.id) {
				return true
			}
			c.operate("cluster", "promote", n.id)
			return false
		})
		back := c.leader()
		for _, to := range []string{n.id, back.id} {
			if out := c.transfer(to); !strings.Contains(out, to+" leads") {
				t.Errorf("transfer to %s: %s", to, out)
			}
		}
		if v := c.view(); len(v.voters()) != 3 {
			t.Errorf("voters %v", v.voters())
		}
	}
}

// TestReaddressAlone: a node alone takes its new address over, and who joins finds it there.
func TestReaddressAlone(t *testing.T) {
	t.Parallel()
	c := startCluster(t, 1)
	n := c.nodes[0]
	n.interrupt()
	n.raft = freeAddress(t)
	n.begin()
	n.ready()
	eventually(t, patient, "it has its new address", func() bool { v := c.view(); return len(v.Members) == 1 && v.Members[0].Raft == n.raft })
	if out, code := c.operate("cluster", "readdress", n.id, n.raft); code != exitDone {
		t.Errorf("readdress to where it is: exit %d, %s", code, out)
	}
	next := c.newNode("a2")
	c.nodes = append(c.nodes, next)
	next.begin("--join", n.http)
	next.ready()
	eventually(t, patient, "it has its vote", func() bool { return slices.Contains(c.view().voters(), "a2") })
	for _, to := range []string{"a2", "a1"} {
		if out := c.transfer(to); !strings.Contains(out, to+" leads") {
			t.Errorf("transfer to %s: %s", to, out)
		}
	}
}
