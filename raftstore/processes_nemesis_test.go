//go:build linux

package raftstore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// havoc does to a cluster of processes what can happen to one, and puts it right again. It counts what it did.
type havoc struct {
	c     *processes
	rng   *rand.Rand
	count map[string]int
	// ordered and obeyed count the orders to nodes by what they say.
	ordered, obeyed map[string]int
	// slowest is the longest time that it took a cluster, put right, to have all its voters level again.
	slowest time.Duration
	// filled are the nodes whose disk it took the room of, lost the one whose disk it took.
	filled []*process
	lost   *process
}

// patience is how long an order may take that the cluster may not be able to obey.
const patience = 3 * time.Second

// mishap is one thing that can happen; it may come to nothing, if there is no leader for example.
type mishap struct {
	name string
	do   func(h *havoc, leader, other *process)
}

var mishaps = []mishap{
	{"leader killed", func(h *havoc, l, _ *process) { h.killed(l) }},
	{"follower killed", func(h *havoc, _, f *process) { h.killed(f) }},
	{"leader vanishes", func(h *havoc, l, _ *process) { h.cut(l, true, true); h.killed(l) }}, // with its host: nobody is told
	{"follower vanishes", func(h *havoc, _, f *process) { h.cut(f, true, true); h.killed(f) }},
	{"all killed", func(h *havoc, _, _ *process) {
		for _, p := range h.c.all() {
			p.kill()
		}
	}},
	{"leader ended", func(_ *havoc, l, _ *process) { l.resume(); l.end(sigTerm); l.begin() }},
	{"leader paused briefly", func(h *havoc, l, _ *process) { h.paused(l, 20, 250) }},
	{"leader paused", func(h *havoc, l, _ *process) { h.paused(l, 700, 2500) }},
	{"leader paused with answers under way", func(h *havoc, l, _ *process) { h.pausedLate(l) }},
	{"follower paused", func(h *havoc, _, f *process) { h.paused(f, 20, 2500) }},
	{"all paused", func(h *havoc, _, _ *process) { h.allPaused() }},
	{"follower stays paused", func(_ *havoc, _, f *process) { f.pause() }},
	{"leader cut off", func(h *havoc, l, _ *process) { h.cut(l, true, true) }},
	{"leader hears nothing", func(h *havoc, l, _ *process) { h.cut(l, true, false) }},
	{"leader is not heard", func(h *havoc, l, _ *process) { h.cut(l, false, true) }},
	{"follower cut off", func(h *havoc, _, f *process) { h.cut(f, true, true) }},
	{"follower hears nothing", func(h *havoc, _, f *process) { h.cut(f, true, false) }},
	{"follower is not heard", func(h *havoc, _, f *process) { h.cut(f, false, true) }},
	{"one link of the leader cut", func(h *havoc, l, f *process) { h.link(l, f, lane{cut: true}); h.link(f, l, lane{cut: true}) }},
	{"minority cut off, the leader in it", func(h *havoc, l, f *process) { h.split(l, f) }},
	{"ring", func(h *havoc, _, _ *process) { h.ring() }},
	{"slow links", func(h *havoc, l, f *process) {
		for _, p := range h.c.all() {
			h.link(p, f, lane{delay: h.millis(1, 200)})
			h.link(l, p, lane{delay: h.millis(1, 50)})
		}
	}},
	{"slow disk of the leader", func(h *havoc, l, _ *process) { h.order(l, "slow", "", h.millis(5, 80).String()) }},
	{"slow disk of a follower", func(h *havoc, _, f *process) { h.order(f, "slow", "", h.millis(5, 80).String()) }},
	{"full disk of the leader", func(h *havoc, l, _ *process) { h.full(l) }},
	{"full disk of a follower", func(h *havoc, _, f *process) { h.full(f) }},
	{"transfer", func(h *havoc, l, _ *process) { h.order(l, "transfer", "", "") }},
	{"member added", func(h *havoc, l, _ *process) { h.add(l) }},
	{"follower demoted", func(h *havoc, l, f *process) { h.order(l, "demote", f.cfg.ID, "") }},
	{"follower removed", func(h *havoc, l, f *process) { h.remove(l, f) }},
	{"leader removed", func(h *havoc, l, f *process) {
		if h.order(l, "transfer", f.cfg.ID, "") {
			if now := h.c.awaitLeader(patience); now != nil && now != l {
				h.remove(now, l)
			}
		}
	}},
	{"member replaced", func(h *havoc, l, f *process) { h.add(l); h.remove(l, f) }},
	{"disk lost", func(h *havoc, _, f *process) { h.lose(f, false) }},
	{"disk lost, and begun as a cluster of its own", func(h *havoc, _, f *process) { h.lose(f, true) }},
	{"recovered as a cluster of its own", func(h *havoc, _, f *process) { h.recover(f) }},
	{"older copy put back", func(h *havoc, l, f *process) { h.putBack(l, f) }},
	{"format raised", func(h *havoc, l, _ *process) { h.order(l, "raise", "", "") }},
}

// longMishaps take too long for a short run: a pause that is longer than a write may take.
var longMishaps = []mishap{
	{"leader paused for long", func(h *havoc, l, _ *process) { h.paused(l, 5500, 8000) }},
	{"follower paused for long", func(h *havoc, _, f *process) { h.paused(f, 5500, 8000) }},
}

func newHavoc(c *processes, rng *rand.Rand) *havoc {
	return &havoc{c: c, rng: rng, count: map[string]int{}, ordered: map[string]int{}, obeyed: map[string]int{}}
}

// strike lets one fault happen.
func (h *havoc) strike(among []mishap) {
	l := h.c.awaitLeader(500 * time.Millisecond)
	var others []*process
	for _, p := range h.c.all() {
		if p.up() && p != l {
			others = append(others, p)
		}
	}
	if l == nil && len(others) > 1 {
		l, others = others[0], others[1:]
	}
	if l == nil || len(others) == 0 {
		return
	}
	f := among[h.rng.IntN(len(among))]
	h.count[f.name]++
	h.c.struck(f.name)
	f.do(h, l, others[h.rng.IntN(len(others))])
}

// repair puts everything right: afterwards all nodes run, all are voters, and nothing is slow, full or cut.
func (h *havoc) repair() {
	for _, p := range h.c.all() {
		if p.up() {
			p.resume()
		}
	}
	roughly := h.rng.IntN(2) == 0
	h.c.wires.mend(roughly)
	for _, p := range h.c.all() {
		_ = p.do(patience, "slow", "", "0s") // or it is down, and will begin anew
	}
	if p := h.lost; p != nil && slices.Contains(h.c.all(), p) { // an operator takes in what is left of it as another life
		p.kill()
		p.wipe()
		p.cfg.Bootstrap = false
		p.begin()
	}
	h.lost = nil
	for _, p := range h.filled {
		if !slices.Contains(h.c.all(), p) {
			continue
		}
		if h.rng.IntN(2) == 0 {
			p.kill()
		}
		_ = p.do(patience, "leave", "", strconv.Itoa(nodeDisk))
	}
	mended := time.Now()
	h.c.settle(settled)
	h.slowest = max(h.slowest, time.Since(mended))
	for _, p := range h.filled {
		p.setFilled(false)
	}
	h.filled = nil
}

// alone reports whether nothing else was done to the cluster since it was put right. A life that is lost takes its voice with it: only as long as a majority
// of the others has what was acknowledged, and none of them is on its way out, does it cost nothing.
func (h *havoc) alone() bool { return len(h.c.recently()) == 1 && h.lost == nil }

// lose takes a node's disk. It starts again under its name and address by its command line, which may begin a cluster.
func (h *havoc) lose(f *process, bootstrap bool) {
	if !h.alone() {
		return
	}
	h.lost = f
	f.kill()
	f.wipe()
	f.cfg.Bootstrap = bootstrap
	<-time.After(h.millis(0, 500))
	f.begin()
}

// recover makes a cluster of a follower's folder, which runs beside the one it was of: each is a stranger to the other. Then its own folder comes back unwiped, as what
// it was, or it is taken in as another life.
func (h *havoc) recover(f *process) {
	if !h.alone() {
		return
	}
	f.kill()
	o := Restoring{ID: f.cfg.ID, Address: f.cfg.Advertise}
	done, err := Recover(f.cfg.Dir, &registerMachine{hashes: make(map[uint64]string), pending: make(map[uint64]string)}, o)
	if err != nil {
		h.c.faultf("recover %s: %v", f.cfg.ID, err)
		return
	}
	f.begin()
	<-time.After(h.millis(200, 2000))
	if s, err := f.state(noHashes); !errors.Is(err, errForeign) {
		h.c.faultf("%s was recovered, and is of %s, %v", f.cfg.ID, s.Cluster, err)
	}
	if h.rng.IntN(2) == 0 {
		h.lost = f
		return
	}
	f.kill()
	f.wipe()
	if err := os.Rename(done.Kept, f.cfg.Dir); err != nil {
		h.c.tb.Error(err)
	}
	f.begin()
}

// putBack takes an older copy of a follower's folder for it, for a while. What the copy has forgotten the others have by then, as in the life of the one
// who did this: nothing is safe from one who does it to a node that a change hangs on.
func (h *havoc) putBack(l, f *process) {
	if !h.alone() {
		return
	}
	older := f.cfg.Dir + "-older"
	defer func() { _ = os.RemoveAll(older) }()
	f.pause()
	err := os.CopyFS(older, os.DirFS(f.cfg.Dir))
	f.resume()
	if err != nil {
		h.c.tb.Error(err)
		return
	}
	<-time.After(h.millis(1500, 3000)) // the leader looks at its followers once a second
	f.kill()
	h.lost = f
	s, err := l.state(noHashes)
	if err != nil {
		return
	}
	for end := time.Now().Add(5 * time.Second); ; <-time.After(20 * time.Millisecond) {
		level := 0
		for _, p := range h.c.all() {
			if o, err := p.state(noHashes); err == nil && o.Applied >= s.LastIndex {
				level++
			}
		}
		if level == h.c.size-1 {
			break
		}
		if time.Now().After(end) {
			return
		}
	}
	f.wipe()
	if err := os.Rename(older, f.cfg.Dir); err != nil {
		h.c.tb.Error(err)
		return
	}
	f.begin()
	<-time.After(h.millis(500, 2000))
}

// order has a node do something, and counts what was done.
func (h *havoc) order(p *process, what, id, at string) (done bool) {
	done = p.do(patience, what, id, at) == nil
	h.ordered[what]++
	if done {
		h.obeyed[what]++
	}
	return done
}

// came says what was ordered often, or set often, and has never come to pass: such a mishap is none. A few may come to nothing.
func (h *havoc) came(did work) (faults []string) {
	const often = 8
	for what, n := range h.ordered {
		if n >= often && h.obeyed[what] == 0 {
			faults = append(faults, fmt.Sprintf("%q was ordered %d times and never obeyed", what, n))
		}
	}
	if n := h.obeyed["slow"]; n >= often && did.slowed == 0 {
		faults = append(faults, fmt.Sprintf("disks were slow %d times, and no write was", n))
	}
	links := map[string]int{}
	for name, n := range h.count {
		switch {
		case strings.Contains(name, "cut") || strings.Contains(name, "hear"):
			links[bytesHeld] += n
		case name == "slow links":
			links[bytesLate] += n
		}
	}
	for what, n := range links {
		if n >= often && h.c.wires.met.Count(what) == 0 {
			faults = append(faults, fmt.Sprintf("links were hurt %d times, and there were no %s", n, what))
		}
	}
	return faults
}

// rampage strikes and repairs until the time is over.
func (h *havoc) rampage(among []mishap, length time.Duration) {
	for end := time.Now().Add(length); time.Now().Before(end); {
		h.c.struck()
		for range 1 + h.rng.IntN(3) {
			h.strike(among)
			<-time.After(h.millis(50, 1200))
		}
		h.repair()
		<-time.After(h.millis(0, 500))
		if len(h.c.faultsFound()) > 0 {
			return
		}
	}
}

func (h *havoc) millis(from, to int) time.Duration {
	return time.Duration(from+h.rng.IntN(to-from)) * time.Millisecond
}

// killed leaves a node down until the repair, or not.
func (h *havoc) killed(p *process) {
	p.kill()
	if h.rng.IntN(2) == 0 {
		<-time.After(h.millis(0, 800))
		p.begin()
	}
}

func (h *havoc) paused(p *process, from, to int) {
	p.pause()
	<-time.After(h.millis(from, to))
	p.resume()
}

// allPaused stops the whole cluster, as a host does that is suspended, and lets the nodes go on one after the other.
func (h *havoc) allPaused() {
	nodes := h.c.all()
	for _, p := range nodes {
		p.pause()
	}
	<-time.After(h.millis(20, 2500))
	h.rng.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	for _, p := range nodes {
		<-time.After(h.millis(0, 100))
		p.resume()
	}
}

// pausedLate pauses a leader after answers of its followers were sent and before they arrive, and cuts it off. When it goes on, it
// takes them for news, and believes for a moment more that it leads. Those are the moments that reads are confirmed for.
func (h *havoc) pausedLate(l *process) {
	h.cut(l, true, false)
	<-time.After(h.millis(40, 100)) // less than the lease
	l.pause()
	h.c.wires.mend(false)
	<-time.After(20 * time.Millisecond) // they arrive, and wait with it
	h.cut(l, true, true)
	<-time.After(h.millis(700, 1500))
	l.resume()
	<-time.After(h.millis(100, 400))
}

func (h *havoc) link(from, to *process, l lane) { h.c.wires.set(wire{from.cfg.From, to.cfg.From}, l) }

// cut cuts what p would hear, or what others would hear of it.
func (h *havoc) cut(p *process, hears, heard bool) {
	for _, other := range h.c.all() {
		if other != p {
			h.link(other, p, lane{cut: hears})
			h.link(p, other, lane{cut: heard})
		}
	}
}

// split cuts the largest minority with l, and f if there is room for two, from the rest.
func (h *havoc) split(l, f *process) {
	few := []*process{l}
	if h.c.size >= 5 {
		few = append(few, f)
	}
	for _, p := range h.c.all() {
		if slices.Contains(few, p) {
			continue
		}
		for _, q := range few {
			h.link(p, q, lane{cut: true})
			h.link(q, p, lane{cut: true})
		}
	}
}

// ring lets each node talk to its two neighbours only, and with three nodes cuts one link in one direction.
func (h *havoc) ring() {
	nodes := h.c.all()
	h.rng.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	if len(nodes) <= 3 {
		h.link(nodes[0], nodes[1], lane{cut: true})
		return
	}
	for i, p := range nodes {
		for j, q := range nodes {
			if d := (i - j + len(nodes)) % len(nodes); d > 1 && d < len(nodes)-1 {
				h.link(p, q, lane{cut: true})
			}
		}
	}
}

// full takes the room of a disk: all of it, so that the node ends, or so much that it refuses.
func (h *havoc) full(p *process) {
	h.filled = append(h.filled, p)
	p.setFilled(true)
	left := 0
	if h.rng.IntN(2) == 0 {
		left = nodeDisk / 16
	}
	h.order(p, "leave", "", strconv.Itoa(left))
}

func (h *havoc) add(l *process) {
	if len(h.c.all()) > h.c.size {
		return // one at a time
	}
	p := h.c.newProcess()
	p.begin()
	if h.order(l, "add", p.cfg.ID, p.cfg.Advertise) {
		_ = l.do(patience, "promote", p.cfg.ID, "") // or the repair does it
	}
}

// remove wipes a node only if it is certain that it is no member any more.
func (h *havoc) remove(l, p *process) {
	if h.order(l, "remove", p.cfg.ID, "") {
		h.c.retire(p)
	}
}
