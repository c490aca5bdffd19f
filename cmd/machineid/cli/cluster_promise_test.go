//go:build unix

package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestThePromiseOverACluster is the promise with three authority nodes and three edges as real processes, while leaders and edges
// are killed, stopped, cut off and handed over, and disks fill up: no answer of an edge is from before a change that had returned,
// nothing acknowledged is lost, and what was told as ended stays so.
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
	w := newFleet(t, rng)
	began := time.Now()
	w.work(3)
	for time.Since(began) < length {
		time.Sleep(time.Duration(200+rng.IntN(800)) * time.Millisecond)
		w.fault()
	}
	w.end()
	w.judge()
}

// fleet is a cluster and edges, each address of the cluster behind a valve, with clients that write down what they see.
type fleet struct {
	t       *testing.T
	rng     *rand.Rand
	cluster *clusterNodes
	valves  map[*authorityNode][]*valve
	disks   bool                      // each node has a small disk of its own
	readers map[*authorityNode]reader // of the nodes' logs; none where there is no listen
	faults  map[string]int
	org     org
	start   time.Time
	over    chan struct{}
	clients sync.WaitGroup
	mortals *mortals
	pace    time.Duration           // between two validates of a client
	foreign map[string]*atomic.Bool // nodes that are of another cluster for a while

	unknown, refused, replays atomic.Int64

	mu    sync.Mutex
	edges []*edgeNode
	seen  history
}

func newFleet(t *testing.T, rng *rand.Rand) *fleet {
	t.Helper()
	w := &fleet{t: t, rng: rng, valves: map[*authorityNode][]*valve{}, readers: map[*authorityNode]reader{}, disks: true, faults: map[string]int{}, over: make(chan struct{}), foreign: map[string]*atomic.Bool{}}
	w.cluster = newCluster(t)
	for i := range 3 {
		n := w.cluster.newNode(fmt.Sprint("a", i+1), "--lease", "1s", "--cache-ttl", "5s", "--disk-reserve", "64MiB")
		for name, address := range map[string]string{"raft": n.raft, "link": n.link, "http": n.http} {
			v := newValve(t, address)
			w.valves[n] = append(w.valves[n], v)
			n.args = append(n.args, "--advertise-"+name, v.addr)
		}
		w.disks = smallDisk(t, filepath.Dir(n.dir)) && w.disks
		w.listen(n)
		w.cluster.nodes = append(w.cluster.nodes, n)
	}
	if !w.disks {
		t.Log("no disk can be mounted here (it takes root): no disk fills up")
	}
	w.cluster.form()
	for range 3 {
		w.edges = append(w.edges, w.newEdge())
	}
	w.org = newClient(t, w.cluster.nodes[0].http).createOrg(t)
	w.start = time.Now()
	w.mortals = w.newMortals()
	return w
}

// reader takes what a node logs. While it stalls, or is dead, the node goes on.
type reader interface {
	stall(nap time.Duration)
	die()
}

// newMortals are what ends here. No wall clock is set: they are the machine's.
func (w *fleet) newMortals() *mortals {
	m := &mortals{seed: w.rng.Uint64(), token: clusterToken, stage: stage{at: w.at, over: w.ended}}
	m.nap = func(r *rand.Rand, most time.Duration) {
		select {
		case <-time.After(time.Duration(r.Int64N(int64(most)))):
		case <-w.over:
		}
	}
	nodes := map[string]*authorityNode{}
	for _, n := range w.cluster.nodes {
		m.nodes, nodes[n.id], w.foreign[n.id] = append(m.nodes, n.id), n, new(atomic.Bool)
	}
	edges := map[string]int{}
	for i := range w.edges {
		name := fmt.Sprint("e", i)
		m.edges, edges[name] = append(m.edges, name), i
	}
	edge := func(name string) *edgeNode {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.edges[edges[name]]
	}
	m.foreign = func(node string) bool { return w.foreign[node].Load() }
	m.process = func(name string) string { return fmt.Sprint(name, ", process ", edge(name).cmd.Process.Pid) }
	m.dial = func(string) asker {
		return &fleetAsker{conns: map[string]*client{}, address: func(name string) string {
			if n := nodes[name]; n != nil {
				return n.http
			}
			return edge(name).http
		}}
	}
	c := m.dial("founder")
	defer c.close()
	eventually(w.t, patient, "what ends is there", func() bool { return m.found(c) })
	return m
}

// fleetAsker makes calls to processes by their names.
type fleetAsker struct {
	address func(name string) string
	conns   map[string]*client
}

func (f *fleetAsker) call(to, method, path, body string, headers ...string) (r response) {
	at := f.address(to)
	c := f.conns[to]
	if c == nil || c.addr != at {
		if c != nil {
			c.close()
		}
		c = &client{addr: at}
		f.conns[to] = c
	}
	var lines []string
	for i := 0; i < len(headers); i += 2 {
		lines = append(lines, headers[i]+": "+headers[i+1])
	}
	a, err := c.do(method, path, "", body, lines...)
	if err != nil {
		c.close()
		return response{notSent: errors.Is(err, errNotSent)}
	}
	if json.Unmarshal([]byte(a.raw), &r) != nil {
		return response{}
	}
	r.code = a.StatusCode
	return r
}

func (f *fleetAsker) close() {
	for _, c := range f.conns {
		c.close()
	}
}

func (w *fleet) newEdge() *edgeNode {
	w.t.Helper()
	var links []string
	for _, n := range w.cluster.nodes {
		for _, v := range w.valves[n] {
			if v.target == n.link {
				links = append(links, v.addr)
			}
		}
	}
	e := startEdge(w.t, strings.Join(links, ","), "--max-wait", "500ms")
	e.ready()
	return e
}

// at is the time of the history.
func (w *fleet) at() time.Duration { return time.Since(w.start) }

func (w *fleet) ended() bool {
	select {
	case <-w.over:
		return true
	default:
		return false
	}
}

// work starts a writer for each of some devices, two clients for each edge, and what ends.
func (w *fleet) work(devices int) {
	w.load(devices)
	w.mortals.cast(&w.clients)
}

func (w *fleet) load(devices int) {
	w.seen.changes = make([][]changed, devices)
	for d := range devices {
		first := changed{active: true, called: w.at()}
		w.change(w.rng, "devices/register", fmt.Sprint("d", d))
		first.done = w.at()
		w.seen.changes[d] = append(w.seen.changes[d], first)
	}
	for d := range devices {
		r := rand.New(rand.NewPCG(w.rng.Uint64(), 1))
		w.clients.Go(func() { w.write(r, d) })
	}
	for i := range w.edges {
		for range 2 {
			r := rand.New(rand.NewPCG(w.rng.Uint64(), 2))
			w.clients.Go(func() { w.ask(r, i) })
		}
	}
}

func (w *fleet) write(r *rand.Rand, d int) {
	for active := false; !w.ended(); active = !active {
		time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond)
		path := map[bool]string{true: "devices/unrevoke", false: "devices/revoke"}[active]
		w.mu.Lock()
		i := len(w.seen.changes[d])
		w.seen.changes[d] = append(w.seen.changes[d], changed{active: active, called: w.at(), done: math.MaxInt64})
		w.mu.Unlock()
		w.change(r, path, fmt.Sprint("d", d))
		done := w.at()
		w.mu.Lock()
		w.seen.changes[d][i].done = done
		w.mu.Unlock()
	}
}

// change repeats a call at one node after the other until it has succeeded. Whichever attempt did it, the answer is that of the
// first: it changed something.
func (w *fleet) change(r *rand.Rand, path, id string) {
	key := fmt.Sprintf("Idempotency-Key: %x", r.Uint64())
	for {
		n := w.cluster.nodes[r.IntN(len(w.cluster.nodes))]
		client := &client{addr: n.http}
		a, err := client.do(http.MethodPost, path, w.org.admin, naming(id), key)
		client.close()
		switch {
		case err == nil && a.StatusCode == http.StatusOK:
			if a.Header.Get("Idempotency-Replayed") != "" {
				w.replays.Add(1)
			}
			if strings.Contains(a.raw, `"changed":false`) {
				w.t.Errorf("%s of %s was done before, under the same Idempotency-Key: %s", path, id, a.raw)
			}
			return
		case err == nil && a.text("outcome") == "not_done", errors.Is(err, errNotSent):
			w.refused.Add(1)
		default:
			w.unknown.Add(1)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (w *fleet) ask(r *rand.Rand, i int) {
	var conn *client
	for !w.ended() {
		w.mu.Lock()
		e := w.edges[i]
		w.mu.Unlock()
		if conn == nil || conn.addr != e.http {
			conn = &client{addr: e.http}
		}
		v := validated{edge: fmt.Sprint("e", i), device: r.IntN(len(w.seen.changes)), sent: w.at()}
		a, err := conn.post("devices/validate", w.org.agent, naming(fmt.Sprint("d", v.device)))
		if err != nil {
			conn.close()
			time.Sleep(10 * time.Millisecond)
			continue
		}
		v.code, v.answeredTime = a.code(), w.at()
		w.mu.Lock()
		w.seen.validates = append(w.seen.validates, v)
		w.mu.Unlock()
		w.rest(w.pace)
	}
	if conn != nil {
		conn.close()
	}
}

// rest paces a client. Nothing depends on how long it takes.
func (w *fleet) rest(d time.Duration) {
	if d == 0 {
		return
	}
	select {
	case <-time.After(d):
	case <-w.over:
	}
}

// fault does one thing to the fleet, and undoes it.
func (w *fleet) fault() {
	type fault struct {
		name string
		do   func(nap time.Duration)
	}
	kinds := []fault{
		{"kill leader", func(time.Duration) { n := w.cluster.leader(); n.kill(); n.begin() }},
		{"end leader", func(time.Duration) { n := w.cluster.leader(); n.interrupt(); n.begin() }},
		{"stop leader", func(nap time.Duration) { stop(w.cluster.leader().process, nap) }},
		{"stop follower", func(nap time.Duration) { stop(w.follower().process, nap) }},
		{"transfer", func(time.Duration) { _, _ = w.cluster.operate("cluster", "transfer") }},
		{"kill all", func(time.Duration) { w.killAll() }},
		{"stop edge", func(nap time.Duration) { stop(w.edges[w.rng.IntN(len(w.edges))].process, nap) }},
		{"kill edge", func(time.Duration) { w.killEdge(w.rng.IntN(len(w.edges))) }},
		{"cut leader", func(nap time.Duration) { w.cut(w.cluster.leader(), nap) }},
		{"cut follower", func(nap time.Duration) { w.cut(w.follower(), nap) }},
		{"leader vanishes", func(nap time.Duration) { w.vanish(w.cluster.leader(), nap) }},
		{"follower vanishes", func(nap time.Duration) { w.vanish(w.follower(), nap) }},
		{"lose disk", func(nap time.Duration) { w.loseDisk(w.cluster.nodes[w.rng.IntN(3)], nap, "") }},
		{"lose disk, begin a cluster", func(nap time.Duration) { w.loseDisk(w.cluster.nodes[w.rng.IntN(3)], nap, "--bootstrap") }},
		{"full disk", func(nap time.Duration) { w.fillDisk(w.cluster.nodes[w.rng.IntN(3)], nap) }},
	}
	if !w.disks {
		kinds = kinds[:len(kinds)-1]
	}
	if r := w.readers[w.cluster.nodes[w.rng.IntN(3)]]; r != nil {
		// Longer than one fault: what comes next meets a node whose log nobody reads.
		kinds = append(kinds, fault{"log reader stalls", func(nap time.Duration) { r.stall(3 * nap) }}, fault{"log reader dies", func(time.Duration) { r.die() }})
	}
	kind := kinds[w.rng.IntN(len(kinds))]
	w.faults[kind.name]++
	kind.do(time.Duration(100+w.rng.IntN(2500)) * time.Millisecond)
}

func stop(p *process, nap time.Duration) {
	p.pause()
	time.Sleep(nap)
	p.resume()
}

func (w *fleet) follower() *authorityNode {
	leader := w.cluster.leader()
	i := slices.IndexFunc(w.cluster.nodes, func(n *authorityNode) bool { return n != leader })
	return w.cluster.nodes[i]
}

func (w *fleet) killAll() {
	for _, n := range w.cluster.nodes {
		n.kill()
	}
	for _, n := range w.cluster.nodes {
		n.begin()
	}
	w.cluster.leader()
}

func (w *fleet) killEdge(i int) {
	w.edges[i].kill()
	fresh := w.newEdge()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.edges[i] = fresh
}

// cut shuts some of a node's addresses to one direction or both.
func (w *fleet) cut(n *authorityNode, nap time.Duration) {
	directions := [][]int{{inward}, {outward}, {inward, outward}}[w.rng.IntN(3)]
	which := 1 + w.rng.IntN(1<<len(w.valves[n])-1)
	for i, v := range w.valves[n] {
		if which&(1<<i) != 0 {
			v.close(directions...)
		}
	}
	time.Sleep(nap)
	breaks := w.rng.IntN(2) == 0
	for _, v := range w.valves[n] {
		v.open()
		if breaks {
			v.breakAll()
		}
	}
}

// vanish ends a node as a host ends that loses its power: nobody is told, and what is sent to it goes nowhere until it is back. New connections wait likewise.
func (w *fleet) vanish(n *authorityNode, nap time.Duration) {
	for _, v := range w.valves[n] {
		v.close(inward, outward)
	}
	n.kill()
	time.Sleep(nap)
	n.begin()
	if w.rng.IntN(2) == 0 {
		for _, v := range w.valves[n] {
			v.breakAll()
		}
	}
	for _, v := range w.valves[n] {
		v.open()
	}
}

// loseDisk takes a node's disk, when the others are well: with the two lives that are left is all that has returned, and no leader is made without both. The node
// starts by a line that takes it in again, or for a while by one that begins a cluster of its own, which no edge must take for theirs.
func (w *fleet) loseDisk(n *authorityNode, nap time.Duration, first string) {
	var others []string
	for _, other := range w.cluster.nodes {
		eventually(w.t, patient, other.id+" is ready", func() bool { return readyAt(other.ops) })
		if other != n {
			others = append(others, other.http)
		}
	}
	wipe := func() {
		n.kill()
		if err := os.RemoveAll(n.dir); err != nil {
			w.t.Fatal(err)
		}
	}
	wipe()
	if first != "" {
		w.foreign[n.id].Store(true)
		n.begin(first)
		time.Sleep(nap)
		wipe()
		w.foreign[n.id].Store(false)
	}
	n.begin("--join", strings.Join(others, ","), "--replace-lost")
	eventually(w.t, patient, n.id+" is taken in again", func() bool { return readyAt(n.ops) && len(w.cluster.view().voters()) == 3 })
}

// exitFault is the exit code of an authority whose disk failed.
const exitFault = 70

// smallDisk mounts a disk of its own at dir, and reports whether it could. It has room for what the folder of a node comes to within minutes, some 370 MB,
// whose files are made in advance, and for the reserve.
func smallDisk(tb testing.TB, dir string) bool {
	tb.Helper()
	if err := exec.Command("mount", "-t", "tmpfs", "-o", "size=768m", "machineid", dir).Run(); err != nil {
		return false
	}
	tb.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			tb.Errorf("unmount %s: %v %s", dir, err, out)
		}
	})
	return true
}

// fillDisk leaves nothing on a node's disk for a while. A node that ends by itself then, as it may, is started again.
func (w *fleet) fillDisk(n *authorityNode, nap time.Duration) {
	n.mu.Lock()
	n.killed = true // it may end by itself
	n.mu.Unlock()
	name := filepath.Join(filepath.Dir(n.dir), "filler")
	f, err := os.Create(name)
	if err != nil {
		w.t.Fatal(err)
	}
	for chunk := make([]byte, 1<<20); len(chunk) > 0; {
		if _, err := f.Write(chunk); err != nil {
			if !errors.Is(err, syscall.ENOSPC) {
				w.t.Fatal(err)
			}
			chunk = chunk[:len(chunk)/2]
		}
	}
	time.Sleep(nap)
	if err := cmp.Or(f.Close(), os.Remove(name)); err != nil {
		w.t.Fatal(err)
	}
	if !n.lives() {
		if code := n.cmd.ProcessState.ExitCode(); code != exitFault {
			w.t.Errorf("%s on a full disk: exit code %d", n.id, code)
		}
		n.begin()
		return
	}
	n.mu.Lock()
	n.killed = false
	n.mu.Unlock()
}

func (w *fleet) end() {
	eventually(w.t, patient, "ends were told and seen", w.mortals.told)
	close(w.over)
	w.clients.Wait()
}

// judge looks for answers that break the promise, and for what was acknowledged and is not there.
func (w *fleet) judge() {
	t, h := w.t, &w.seen
	decided, changes := w.kept()
	var ends tally
	ends.add(w.mortals)
	bad := append(w.mortals.ledger.undead(), h.violations()...)
	t.Logf("%d validates, %d decided, %d changes (%d attempts unknown, %d not done, %d replays), %v, faults %v: %d violations",
		len(h.validates), decided, changes, w.unknown.Load(), w.refused.Load(), w.replays.Load(), &ends, w.faults, len(bad))
	for _, v := range bad[:min(len(bad), 5)] {
		t.Error(v)
	}
	if decided < len(h.validates)/10 || changes < 10 {
		t.Error("too little was decided for the check to mean anything")
	}
}

// kept compares what was acknowledged last with what every node says, and counts what was decided and changed.
func (w *fleet) kept() (decided, changes int) {
	t, h := w.t, &w.seen
	for _, v := range h.validates {
		if v.code != "SYSTEM_UNAVAILABLE" {
			decided++
		}
	}
	for d, list := range h.changes {
		changes += len(list)
		want := map[bool]string{true: "ALLOW", false: "DEVICE_REVOKED"}[list[len(list)-1].active]
		for _, n := range w.cluster.nodes {
			eventually(t, patient, n.id+" is ready", func() bool { return readyAt(n.ops) })
			if got := newClient(t, n.http).validate(t, w.org.agent, fmt.Sprint("d", d)); got != want {
				t.Errorf("at the end %s says %s of device %d, want %s", n.id, got, d, want)
			}
		}
	}
	return decided, changes
}
