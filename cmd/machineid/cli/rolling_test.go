//go:build unix

package cli

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"

	"machineid/internal/testkit/oldrelease"
	"machineid/shared/format"
)

// laterFormats are this program's with two more: one that brings nodes something, a call that is there already, and one that edges must understand.
var laterFormats = format.Table{
	Newest: format.Newest + 2,
	Features: append(slices.Clip(format.Current.Features),
		laterFeature("batches", 1, "machineid.state.v1.Command.revoke_batch"),
		laterFeature("frames", 2, "machineid.link.v1.ToEdge.later")), // which no frame has yet: it would not be sent before the raise
}

func laterFeature(name string, n int, field protoreflect.FullName) format.Feature {
	return format.Feature{Name: name, Format: format.Newest + n, Version: "later", Fields: []protoreflect.FullName{field}}
}

// rollingLease is the longest that there is: a hand-over, and an election on a machine that is not starved, end before it does.
const rollingLease = 5 * time.Second

// rollingPace is that of clients that ask edges for what they remember; others are slower.
const rollingPace = 2 * time.Millisecond

// route is one order in which a cluster is upgraded.
type route struct {
	leader     int  // the leader is replaced as the first, second or third of the nodes
	edgesFirst bool // before the nodes, else after them
	kill       int  // the node that is ended by SIGKILL and whose first start as the next program is too: the first, second, third; 0: none
}

// TestRollingUpgrade takes a cluster of the first release (three nodes, three edges) to this program, back, and here again, one process after
// the other, under load; then its format is raised, and there is no way back. No validate breaks the promise, no device that an edge remembers
// is denied while a leader can be had, and nothing that was acknowledged is lost.
func TestRollingUpgrade(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it builds an earlier release, and takes 20 s: run it without -short")
	}
	routes := []route{{leader: 2, kill: 3}}
	if os.Getenv("MACHINEID_TEST_TORTURE") != "" {
		routes = nil
		for leader := 1; leader <= 3; leader++ {
			for kill := range 4 {
				routes = append(routes, route{leader: leader, edgesFirst: kill%2 == 0, kill: kill})
			}
		}
	}
	before := binary{path: oldrelease.Build(t, "0.1.0").Path}
	for _, way := range routes {
		t.Run(fmt.Sprintf("%+v", way), func(t *testing.T) { rollingUpgrade(t, before, way) })
	}
}

func rollingUpgrade(t *testing.T, before binary, way route) {
	w := newRolling(t, before)
	now := binary{env: []string{laterEnv + "=1"}}
	w.upgrade(now, way)
	w.batch(http.StatusConflict, "upgrade_not_finished") // nobody could read it after a way back
	w.upgrade(before, route{leader: 1 + w.rng.IntN(3), edgesFirst: !way.edgesFirst})
	w.batch(http.StatusOK, "")
	w.upgrade(now, route{leader: 1 + w.rng.IntN(3), edgesFirst: way.edgesFirst})
	w.replaceEdge(2, before)
	w.raise(before, now)
	w.end()
	w.judge()
}

// rolling is a fleet whose programs are replaced.
type rolling struct {
	*fleet

	orgID      string
	programs   []binary     // of the edges
	denies     atomic.Bool  // the last edge may deny everything
	remembered atomic.Int64 // validates of what an edge remembers
	misses     atomic.Int64 // of what no edge can know, answered
	registered map[string]bool
	denied     []denial
	led        []time.Duration // when a node had asked the leader and got its answer
}

// denial is a SYSTEM_UNAVAILABLE for what an edge remembers.
type denial struct {
	what string
	got  time.Duration
}

func newRolling(t *testing.T, of binary) *rolling {
	t.Helper()
	w := &rolling{
		fleet:      &fleet{t: t, rng: seeded(t), cluster: newCluster(t), over: make(chan struct{}), start: time.Now(), pace: rollingPace},
		programs:   []binary{of, of, of},
		registered: map[string]bool{},
	}
	for i := range 3 {
		n := w.cluster.newNode(fmt.Sprint("a", i+1), "--lease", rollingLease.String(), "--cache-ttl", "1h")
		n.program = of
		w.cluster.nodes = append(w.cluster.nodes, n)
	}
	w.cluster.form()
	for i := range 3 {
		w.edges = append(w.edges, w.startEdge(i))
	}
	a := newClient(t, w.cluster.nodes[0].http).must(t, "org/create", "", "{}")
	w.org, w.orgID = org{a.text("orgApiKey"), a.text("agentKey")}, a.text("orgId")
	w.operated("org", "plan", w.orgID, "--limit", "100000")
	for i := range stays {
		w.change(w.rng, "devices/register", stay(i))
		if i%4 == 3 {
			w.change(w.rng, "devices/revoke", stay(i))
		}
	}
	w.load(3)
	for i := range w.edges {
		w.clients.Go(func() { w.remember(i) })
		w.clients.Go(func() { w.miss(i) })
	}
	w.clients.Go(func() { w.register(rand.New(rand.NewPCG(w.rng.Uint64(), 3))) })
	for _, n := range w.cluster.nodes {
		w.clients.Go(func() { w.look(n) })
	}
	return w
}

// Devices that nobody changes while the fleet is at work; every fourth is revoked.
const stays = 8

func stay(i int) string { return fmt.Sprint("stays-", i) }

// startEdge starts an edge that waits long for what it does not remember: one floor stands for many records, so that a change may cost a record
// that it does not concern.
func (w *rolling) startEdge(i int) *edgeNode {
	w.t.Helper()
	e := w.programs[i].startEdge(w.t, nil, w.cluster.links(), "--id", fmt.Sprint("e", i+1), "--max-wait", "900ms")
	e.ready()
	return e
}

// operated runs a command of operators, which must succeed.
func (w *rolling) operated(args ...string) (out string) {
	w.t.Helper()
	eventually(w.t, patient, strings.Join(args, " "), func() bool {
		var code int
		if out, code = w.cluster.operate(args...); code == exitFailed {
			w.t.Fatalf("%v: %s", args, out)
		}
		return code == exitDone
	})
	return out
}

// remember asks an edge for what it has told so often before that it remembers it: its cache may drop what is new.
func (w *rolling) remember(edge int) {
	const often = 10
	conn, told := &client{}, [stays]int{}
	for n := 0; !w.ended(); n++ {
		e := w.edge(edge)
		if conn.addr != e.http {
			conn.close()
			conn, told = &client{addr: e.http}, [stays]int{}
		}
		i := n % stays
		want := map[bool]string{true: "DEVICE_REVOKED", false: "ALLOW"}[i%4 == 3]
		a, err := conn.post("devices/validate", w.org.agent, naming(stay(i)))
		w.mu.Lock()
		switch {
		case err != nil:
			conn.close()
			if w.edges[edge] == e && !e.ending() {
				w.t.Errorf("e%d does not answer: %v", edge+1, err)
			}
		case a.code() == want:
			if told[i]++; told[i] > often {
				w.remembered.Add(1)
			}
		case a.code() != "SYSTEM_UNAVAILABLE":
			w.t.Errorf("e%d says %s of %s, which is %s", edge+1, a.code(), stay(i), want)
		case told[i] >= often && !(edge == 2 && w.denies.Load()):
			w.denied = append(w.denied, denial{fmt.Sprintf("e%d of %s: %s", edge+1, stay(i), a.raw), w.at()})
		}
		w.mu.Unlock()
		w.rest(rollingPace)
	}
	conn.close()
}

// ending reports whether the test ends the process.
func (p *process) ending() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.killed
}

func (w *rolling) edge(i int) *edgeNode {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.edges[i]
}

// miss asks an edge for what it cannot know: there is nothing of that name, whatever else is the case.
func (w *rolling) miss(edge int) {
	conn := &client{}
	for n := 0; !w.ended(); n++ {
		if e := w.edge(edge); conn.addr != e.http {
			conn.close()
			conn = &client{addr: e.http}
		}
		a, err := conn.post("devices/validate", w.org.agent, naming(fmt.Sprintf("nobody-%d-%d", edge, n)))
		switch {
		case err != nil:
			conn.close()
		case a.code() == "DEVICE_NOT_FOUND":
			w.misses.Add(1)
		case a.code() != "SYSTEM_UNAVAILABLE":
			w.t.Errorf("e%d says %s of a device that was never there", edge+1, a.code())
		}
		w.rest(10 * rollingPace)
	}
	conn.close()
}

// register registers one device after the other, and removes every third again.
func (w *rolling) register(r *rand.Rand) {
	for n := 0; !w.ended(); n++ {
		id := fmt.Sprint("new-", n)
		w.change(r, "devices/register", id)
		if n%3 == 2 {
			w.change(r, "devices/remove", id)
		}
		w.mu.Lock()
		w.registered[id] = n%3 != 2
		w.mu.Unlock()
		w.rest(10 * rollingPace)
	}
}

// look asks a node for what only a leader answers, and so notes when there was one.
func (w *rolling) look(n *authorityNode) {
	conn := &client{addr: n.http}
	for !w.ended() {
		if a, err := conn.get("usage", w.org.admin); err != nil {
			conn.close()
		} else if a.StatusCode == http.StatusOK {
			w.mu.Lock()
			w.led = append(w.led, w.at())
			w.mu.Unlock()
		}
		w.rest(10 * rollingPace)
	}
	conn.close()
}

// upgrade has every process be of another program, one after the other, as docs/operations.md says: each is stopped, and started again on its
// folder; the next comes when it is ready.
func (w *rolling) upgrade(to binary, way route) {
	w.t.Helper()
	if way.edgesFirst {
		w.replaceEdges(to)
	}
	left := slices.Clone(w.cluster.nodes)
	for place := 1; place <= 3; place++ {
		leader := w.cluster.leader()
		next := slices.IndexFunc(left, func(n *authorityNode) bool { return (n == leader) == (place == way.leader) })
		next = max(next, 0) // the leader has gone to one that is replaced already, or is all that is left
		w.replaceNode(left[next], to, place == way.kill)
		left = slices.Delete(left, next, next+1)
	}
	if !way.edgesFirst {
		w.replaceEdges(to)
	}
	if v := w.cluster.view(); v.Format != format.Baseline {
		w.t.Errorf("the format is %d", v.Format)
	}
}

func (w *rolling) replaceNode(n *authorityNode, to binary, killed bool) {
	w.t.Helper()
	w.t.Logf("%v: %s, killed: %t", w.at().Round(time.Millisecond), n.id, killed)
	n.program = to
	if killed { // and in the middle of its first start
		n.kill()
		n.begin()
		n.kill()
	} else {
		w.stop(n)
	}
	n.begin()
	n.ready()
	w.cluster.leader()
}

// stop ends a node by SIGINT. Requests may outlast the time that a stop gives them: the first release gives changes less than they are held for after
// a kill, and on a starved machine elections come meanwhile. Whoever made them asks again, so it is told and no fault here;
// TestAStopLetsHeldChangesEnd says what this program gives them.
func (w *rolling) stop(n *authorityNode) {
	w.t.Helper()
	n.process.mu.Lock()
	n.process.killed = true
	n.process.mu.Unlock()
	n.signal(syscall.SIGINT)
	n.await()
	switch code := n.cmd.ProcessState.ExitCode(); {
	case code == exitFailed && strings.Contains(n.out.String(), "stop HTTP: context deadline exceeded"):
		w.t.Logf("%s: requests outlasted its stop", n.id)
	case code != exitDone:
		w.t.Errorf("%s: exit code %d", n.id, code)
	}
}

func (w *rolling) replaceEdges(to binary) {
	for i := range w.edges {
		w.replaceEdge(i, to)
	}
}

// replaceEdge starts another in its place, and stops it when that is ready.
func (w *rolling) replaceEdge(i int, to binary) {
	w.t.Helper()
	w.programs[i] = to
	fresh := w.startEdge(i)
	w.mu.Lock()
	gone := w.edges[i]
	w.edges[i] = fresh
	w.mu.Unlock()
	gone.interrupt()
}

// batch makes a call that the later formats have for new. It concerns nothing that others look at.
func (w *rolling) batch(code int, outcome string) {
	w.t.Helper()
	var a *reply
	eventually(w.t, patient, "a batch is answered", func() (done bool) {
		c := &client{addr: w.cluster.leader().http}
		defer c.close()
		var err error
		a, err = c.post("devices/revoke_batch", w.org.admin, `{"deviceIds":["nobody"]}`)
		return err == nil && a.StatusCode != http.StatusServiceUnavailable
	})
	if a.StatusCode != code || a.text("error") != outcome {
		w.t.Errorf("a batch: HTTP %d, want %d %s: %s", a.StatusCode, code, outcome, a.raw)
	}
	if outcome != "" && !strings.Contains(a.raw, "'machineid cluster raise-format'") {
		w.t.Errorf("it does not say what to type: %s", a.raw)
	}
}

// raise raises the format, first to one that concerns the nodes only, then to one that edges must understand. The last edge is of the program before.
func (w *rolling) raise(before, now binary) {
	w.t.Helper()
	const nodes, edges = format.Newest + 1, format.Newest + 2
	if out := w.operated("cluster", "raise-format", fmt.Sprint(nodes)); !strings.Contains(out, fmt.Sprint("the format is ", nodes)) {
		w.t.Errorf("raise: %s", out)
	}
	w.batch(http.StatusOK, "")
	w.noWayBack(before, now)
	w.reaches(2)

	out, code := w.cluster.operate("cluster", "raise-format", fmt.Sprint(edges))
	if code != exitFailed || !strings.Contains(out, "e3 (version") || !strings.Contains(out, "--force") {
		w.t.Errorf("a raise that an edge would not understand: exit %d, %s", code, out)
	}
	w.denies.Store(true)
	w.operated("cluster", "raise-format", fmt.Sprint(edges), "--force")
	older := newClient(w.t, w.edge(2).http)
	eventually(w.t, patient, "the edge that does not understand it denies", func() bool {
		return older.validate(w.t, w.org.agent, stay(0)) == "SYSTEM_UNAVAILABLE"
	})
	for i := range 2 {
		w.reaches(i)
	}
	w.replaceEdge(2, now)
	w.denies.Store(false)
	w.reaches(2)
}

// reaches waits until a new miss is answered by an edge: it has a session.
func (w *rolling) reaches(edge int) {
	w.t.Helper()
	c := newClient(w.t, w.edge(edge).http)
	n := 0
	eventually(w.t, patient, fmt.Sprintf("e%d reaches the leader", edge+1), func() bool {
		n++
		return c.validate(w.t, w.org.agent, fmt.Sprintf("nobody-there-%d-%d", n, w.at())) == "DEVICE_NOT_FOUND"
	})
}

// noWayBack starts a node of the raised cluster by the program before: it refuses, and says why and what to do.
func (w *rolling) noWayBack(before, now binary) {
	w.t.Helper()
	n := w.follower()
	w.stop(n)
	n.program = before
	n.begin()
	n.process.mu.Lock()
	n.process.killed = true // it ends by itself
	n.process.mu.Unlock()
	n.await()
	if code := n.cmd.ProcessState.ExitCode(); code != exitFailed || !strings.Contains(n.out.String(), "install the program that the other members run") {
		w.t.Errorf("the program before on a raised folder: exit %d: %s", code, n.out.String())
	}
	n.program = now
	n.begin()
	n.ready()
}

// end stops the load; what is under way is done first.
func (w *rolling) end() {
	close(w.over)
	w.clients.Wait()
}

func (w *rolling) judge() {
	t := w.t
	decided, changes := w.kept()
	c := newClient(t, w.cluster.leader().http)
	for _, id := range slices.Sorted(maps.Keys(w.registered)) {
		want := map[bool]string{true: "ALLOW", false: "DEVICE_NOT_FOUND"}[w.registered[id]]
		if got := c.validate(t, w.org.agent, id); got != want {
			t.Errorf("at the end %s of %s, want %s", got, id, want)
		}
	}
	bad, excused := w.seen.violations(), 0
	for _, d := range w.denied {
		if w.excused(d.got) {
			excused++
		} else {
			bad = append(bad, fmt.Sprintf("denied at %v, although a leader was there: %s", d.got, d.what))
		}
	}
	t.Logf("%v: %d validates, %d decided, %d of remembered devices (%d denied while no leader was there), %d misses, %d changes and %d registers "+
		"(%d attempts unknown, %d not done, %d replays): %d violations",
		w.at().Round(time.Second), len(w.seen.validates), decided, w.remembered.Load(), excused, w.misses.Load(), changes, len(w.registered),
		w.unknown.Load(), w.refused.Load(), w.replays.Load(), len(bad))
	for _, v := range bad[:min(len(bad), 5)] {
		t.Error(v)
	}
	if decided < len(w.seen.validates)/10 || changes < 10 || w.remembered.Load() < 100 || w.misses.Load() < 10 || len(w.registered) < 10 {
		t.Error("too little was done for the check to mean anything")
	}
}

// excused reports whether an edge could have no lease then: no leader was seen for so long that a lease which was renewed a quarter of one before
// that began is over, and none is back for longer than that quarter.
func (w *rolling) excused(at time.Duration) bool {
	slices.Sort(w.led)
	before := time.Duration(0)
	for _, led := range append(slices.Clone(w.led), w.at()) {
		if before+rollingLease*3/4 < at && at < led+rollingLease/4 {
			return true
		}
		before = led
	}
	return false
}

// TestAnotherProgramEndsWithItsTest: when the test's end of stdin is closed, as by its death, the program is killed; when it ends before, nobody stays.
func TestAnotherProgramEndsWithItsTest(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		args []string
		code int
	}{"it would stay": {[]string{"/bin/sh", "-c", "exec sleep 60"}, -1}, "it has ended": {[]string{"/bin/sh", "-c", "exit 7"}, 7}} {
		cmd := exec.Command("/bin/sh", append([]string{"-c", untilTestEnds}, c.args...)...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if c.code < 0 {
			_ = stdin.Close()
		}
		_ = cmd.Wait() // its state tells
		if got := cmd.ProcessState.ExitCode(); got != c.code {
			t.Errorf("%s: %v", name, cmd.ProcessState)
		}
		_ = stdin.Close()
		eventually(t, patient, name+": nobody is left", func() bool { return errors.Is(syscall.Kill(-cmd.Process.Pid, 0), syscall.ESRCH) })
	}
}
