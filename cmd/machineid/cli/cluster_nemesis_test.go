//go:build unix

package cli

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Who harms the cluster of a saga: edges that are cut off and restarted, nodes that crash, hand over, lose their disks and are put back, and clocks that are set.

// kindsOfFaults are those that a few sagas together must have.
var kindsOfFaults = []string{
	"edge cut off", "edge's connections broken", "edge slow", "edge restarted", "edge killed", "node cut off from nodes", "node crashed", "node stopped", "leader moved",
	"wall clock set", "all nodes crashed", "wall clocks stepped", "disk lost", "older copy put back", "all nodes restarted behind an edge",
}

func (a *actors) fault(what string, detail ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.saga.firstFault == 0 {
		a.saga.firstFault = a.at()
	}
	a.saga.faults[what]++
	a.saga.log = append(a.saga.log, fmt.Sprint(a.at(), " ", what, detail))
}

// harmEdges cuts edges off, breaks their connections and restarts them.
func (a *actors) harmEdges() {
	r := rand.New(rand.NewPCG(a.seed, 2))
	for !a.over() {
		a.nap(r, 1500*time.Millisecond)
		e := a.edges[r.IntN(len(a.edges))]
		switch r.IntN(6) {
		case 0, 1: // from some nodes or all, in one direction or both
			to, from := r.IntN(3) != 0, r.IntN(3) != 0
			a.fault("edge cut off", e.id, to, from)
			for _, n := range a.nodes {
				if r.IntN(3) != 0 {
					a.net.setCut(e.id, n.id, to)
					a.net.setCut(n.id, e.id, from)
				}
			}
			a.nap(r, 6*time.Second)
			if r.IntN(2) == 0 { // what was on its way arrives, or does not
				a.net.reset(between(e.id, ""))
			}
			a.net.mend(func(w way) bool { return w.from == e.id || w.to == e.id })
		case 2:
			a.fault("edge's connections broken", e.id)
			a.net.reset(between(e.id, ""))
		case 3:
			a.fault("edge slow", e.id)
			n := a.nodes[r.IntN(len(a.nodes))]
			a.net.setSlow(n.id, e.id, time.Duration(r.IntN(900))*time.Millisecond)
			a.net.setSlow(e.id, n.id, time.Duration(r.IntN(900))*time.Millisecond)
			a.nap(r, 4*time.Second)
			a.net.mend(func(w way) bool { return w.from == e.id || w.to == e.id })
		case 4:
			a.fault("edge restarted", e.id)
			a.end(e.id, e.proc.Load())
			a.nap(r, time.Second)
			a.startEdge(e)
		case 5:
			a.fault("edge killed", e.id)
			a.abandon(e.proc.Load())
			a.nap(r, time.Second)
			a.startEdge(e)
		}
	}
}

// harmNodes cuts nodes off, crashes them, moves the leader and sets clocks.
func (a *actors) harmNodes() {
	r := rand.New(rand.NewPCG(a.seed, 3))
	among := func(w way) bool { return strings.HasPrefix(w.from, "a") && strings.HasPrefix(w.to, "a") }
	for first := true; !a.over(); first = false {
		a.nap(r, 3*time.Second)
		leads := a.leader()
		a.seeTerm()
		n, what := a.nodes[r.IntN(len(a.nodes))], r.IntN(13)
		if leads != nil && (first || r.IntN(2) == 0) {
			n = leads
		}
		if first {
			what = 2 // each saga has another leader, at the least
		}
		switch what {
		case 0, 1:
			to, from := r.IntN(3) != 0, r.IntN(3) != 0
			a.fault("node cut off from nodes", n.id, to, from)
			for _, other := range a.nodes {
				if other != n && r.IntN(4) != 0 {
					a.net.setCut(n.id, other.id, to)
					a.net.setCut(other.id, n.id, from)
				}
			}
			a.nap(r, 6*time.Second)
			if r.IntN(2) == 0 {
				a.net.reset(func(c *memConn) bool { return among(way{c.host.name, c.peer.host.name}) })
			}
			a.net.mend(among)
		case 2:
			a.fault("node crashed", n.id, leads == n)
			a.crash(n, r)
			a.nap(r, 3*time.Second)
			a.startNode(n, false)
		case 3:
			a.fault("node stopped", n.id, leads == n)
			a.end(n.id, n.proc.Swap(nil))
			a.nap(r, time.Second)
			a.startNode(n, false)
		case 4:
			a.fault("leader moved", n.id, leads == n)
			c := a.caller("operator")
			c.call(n.id, "POST", "operator/cluster/transfer", "{}", "Authorization", "Bearer "+siteToken) // or not
			c.close()
		case 5:
			a.fault("wall clock set", n.id, leads == n)
			n.wall.Store(int64([]time.Duration{-time.Hour, -5 * time.Second, 5 * time.Second, time.Hour}[r.IntN(4)]))
			a.nap(r, 5*time.Second)
			n.wall.Store(0)
		case 6:
			a.fault("all nodes crashed")
			for _, n := range a.nodes {
				a.crash(n, r)
			}
			for _, n := range a.nodes {
				a.startNode(n, false)
			}
		case 7:
			a.behind(r)
		case 8:
			a.loseDisk(r, n)
		case 9:
			a.putBack(r, n)
		default:
			a.stepClocks(r, leads)
		}
	}
}

// stepClocks sets some nodes' wall clocks, as far off as is taken for right; they stay so. Then the leader may die, whose clock may be
// ahead of the next one's.
func (a *actors) stepClocks(r *rand.Rand, leads *siteNode) {
	var steps []time.Duration
	for _, n := range a.nodes {
		if r.IntN(2) == 0 {
			n.wall.Store(int64(r.IntN(18_001)-9000) * int64(time.Millisecond))
		}
		steps = append(steps, time.Duration(n.wall.Load()))
	}
	dies := leads != nil && r.IntN(2) == 0
	a.fault("wall clocks stepped", steps, dies)
	if !dies {
		return
	}
	a.nap(r, 6*time.Second)
	a.crash(leads, r)
	a.nap(r, 3*time.Second)
	a.startNode(leads, false)
}

// loseDisk takes a node's disk. It starts again by its command line, which may begin a cluster of its own; then it is taken in as another life.
// What had returned is with a majority: of the two lives that are left one has it, and no leader is made without both.
func (a *actors) loseDisk(r *rand.Rand, n *siteNode) {
	begins := r.IntN(2) == 0
	a.fault("disk lost", n.id, begins)
	n.alien.Store(begins)
	a.crash(n, r)
	n.disk = vfs.NewCrashableMem()
	a.startNode(n, begins)
	a.nap(r, 5*time.Second)
	a.takeIn(r, n)
}

// putBack has an older copy of a node's disk in its place for a while, when the others have all there is.
func (a *actors) putBack(r *rand.Rand, n *siteNode) {
	a.fault("older copy put back", n.id)
	older := n.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 100, RNG: r})
	a.nap(r, 6*time.Second)
	applied := func(n *siteNode) float64 { return a.gauge(n, "raftstore_applied_index") }
	was := applied(n)
	a.crash(n, r)
	a.until("the others have what it had", func() bool {
		for _, other := range a.nodes {
			if other != n && applied(other) < was {
				return false
			}
		}
		return true
	})
	n.disk = older
	a.startNode(n, false)
	a.nap(r, 5*time.Second)
	a.takeIn(r, n)
}

// takeIn has what is left of a node taken in as another life.
func (a *actors) takeIn(r *rand.Rand, n *siteNode) {
	a.abandon(n.proc.Swap(nil))
	n.disk = vfs.NewCrashableMem()
	n.wall.Store(0) // the others' may be stepped by 9 s either way, and one that is off by 10 is not ready
	a.startNode(n, false)
	n.alien.Store(false)
	a.order("DELETE", "operator/cluster/members/"+n.id, "", 200, 404)
	a.operate("operator/cluster/members", fmt.Sprintf(`{"id":%q,"address":%q,"voter":true}`, n.id, n.id+":"+portRaft))
	a.until(n.id+" is ready", func() bool { return len(n.proc.Load().ready()) == 0 })
	a.nap(r, time.Second)
}

// behind restarts all nodes behind the back of an edge that misses something: none of them can tell it what, and it has to begin anew.
func (a *actors) behind(r *rand.Rand) {
	e := a.edges[r.IntN(len(a.edges))]
	a.fault("all nodes restarted behind an edge", e.id)
	a.net.cutOff(e.id, true)
	a.nap(r, 6*time.Second)
	for _, n := range a.nodes {
		a.end(n.id, n.proc.Swap(nil))
	}
	for _, n := range a.nodes {
		a.startNode(n, false)
	}
	a.net.cutOff(e.id, false)
}

func (a *actors) seeTerm() {
	term := a.view().Term
	a.mu.Lock()
	defer a.mu.Unlock()
	a.saga.terms[term] = true
}
