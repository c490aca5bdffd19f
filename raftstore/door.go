package raftstore

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// Greeting begins every connection between nodes (R14): who calls, and whom it means.
type Greeting struct {
	Cluster string `json:"cluster,omitempty"` // the caller's; empty: it is in none yet
	From    Life   `json:"from"`
	// To is the life that is meant. Without a store, any life of that name is; without a name, whoever is there. Raft's messages are
	// always meant for one life.
	To Life `json:"to"`
	// Members is the index of the newest membership that the caller has, applied or in its log: after a crash the one may be far behind the other.
	Members uint64 `json:"members,omitempty"`
	// Known is how far the caller knows the one that is meant to have come: an older copy of it, which may lead a membership of then all alone, learns
	// of that what it is.
	Known uint64 `json:"known,omitempty"`
}

// Reach is how far a store has the log: a life never goes back behind what it had applied.
type Reach struct {
	Applied uint64 `json:"applied,omitempty"`
	Last    uint64 `json:"last,omitempty"` // of its log, or of the state that took the log's place
}

// Welcome answers a Greeting, and then the caller's Reach: who is there, and why it does not speak to the caller, if it does not. The caller says how far it is
// only when it was welcomed: what both say of that is surely from after the other began, however long a message was under way.
type Welcome struct {
	Cluster string `json:"cluster,omitempty"`
	Life    Life   `json:"life"`
	// Replaces is the cluster that this one was restored or recovered from, if this node began it so.
	Replaces string `json:"replaces,omitempty"`
	Refused  string `json:"refused,omitempty"`
	Reason   Reason `json:"reason,omitempty"`
	Reach
}

// Reason is why a Greeting was refused.
type Reason string

// Reasons for a refusal.
const (
	OtherLife    Reason = "other_life"    // another node, or another life of it, is there
	OtherCluster Reason = "other_cluster" // it is of another cluster
	NoMember     Reason = "no_member"     // the caller is not a member, as far as it is known there
	WentBack     Reason = "went_back"     // the caller's log ends before what it had applied: its folder is an older copy
)

// refusal is a Greeting's refusal as an error.
type refusal struct {
	reason Reason
	text   string
}

func (r *refusal) Error() string { return r.text }

func refused(reason Reason, format string, args ...any) error {
	return &refusal{reason: reason, text: fmt.Sprintf(format, args...)}
}

// Door is a node's side of a Greeting, for Peers: Greet at the caller, Admit at the one that is called, and then what their Visits say.
type Door interface {
	// Greet begins a connection to a node.
	Greet(to Life) (Greeting, Visit)
	// Admit judges who calls, for raft's messages or for a question.
	Admit(g Greeting, forRaft bool) (Welcome, Visit)
	// Status answers a question.
	Status() (NodeStatus, error)
}

// Visit is one side's view of a connection that begins.
type Visit struct {
	door    *door
	g       Greeting
	forRaft bool
	was     uint64 // how far the other had come, as far as was known when the connection began
}

// door keeps strangers from this node, and this node from strangers (R14).
type door struct {
	life   Life
	logger *slog.Logger
	status func() (NodeStatus, error)
	// cluster is the name of this node's cluster, empty if it is in none yet; pin gives it one for good.
	cluster func() string
	pin     func(cluster string, began bool) error
	applied func() configuration
	logged  func() uint64 // the newest membership's index in the log
	reach   func() Reach
	// replaces is Welcome.Replaces; nil: nothing.
	replaces func() string

	anyLife bool // knobs.anyLife
	met     reaches
	raft    atomic.Pointer[raft.Raft] // nil until it runs
	pinned  sync.Mutex

	mu  sync.Mutex
	out map[Life]string // who says that this node is out, and why
	// replaced names, by node, the clusters that say that they have come in the place of this one.
	replaced map[string]string

	// back says that this node's folder is an older copy, and who knows it; nil: nobody has said so. It stays so while the process runs.
	back atomic.Pointer[string]
}

var _ Door = (*door)(nil)

func (d *door) Greet(to Life) (Greeting, Visit) {
	g := Greeting{Cluster: d.cluster(), From: d.life, To: to, Members: max(d.applied().index, d.logged()), Known: d.met.of(to)}
	return g, Visit{door: d, g: g, was: g.Known}
}

func (d *door) Status() (NodeStatus, error) { return d.status() }

func (d *door) Admit(g Greeting, forRaft bool) (Welcome, Visit) {
	v := Visit{door: d, g: g, forRaft: forRaft, was: d.met.of(g.From)}
	return d.welcome(d.admit(g, forRaft)), v
}

// Arrived lets a caller in that was welcomed, and has said how far it is.
func (v Visit) Arrived(at Reach) Welcome {
	d := v.door
	err := d.met.meet(v.g.From, at, v.was)
	if err == nil && v.forRaft {
		err = d.enter(v.g.Cluster)
	}
	return d.welcome(err)
}

// Welcomed judges the answer to a Greeting, and returns what is to be said next.
func (v Visit) Welcomed(w Welcome) (Reach, error) {
	d, to := v.door, v.g.To
	d.succeeded(w)
	if d.anyLife {
		to.Store = ""
	}
	switch own := d.cluster(); {
	case w.Refused != "":
		return Reach{}, v.Admitted(w)
	case to.ID != "" && w.Life.ID != to.ID, to.Store != "" && w.Life.Store != to.Store:
		return Reach{}, refused(OtherLife, "there is %s, and %s is meant", w.Life, to)
	case own != "" && w.Cluster != "" && own != w.Cluster:
		return Reach{}, refused(OtherCluster, "%s is of cluster %s, and this node of %s", w.Life, w.Cluster, own)
	}
	return d.reach(), d.met.meet(w.Life, w.Reach, v.was)
}

// Admitted judges the last answer.
func (v Visit) Admitted(w Welcome) error {
	if w.Reason == NoMember || w.Reason == WentBack {
		v.door.said(w.Life, w.Refused)
	}
	if w.Refused != "" {
		return &refusal{reason: w.Reason, text: w.Refused}
	}
	v.door.said(w.Life, "")
	return nil
}

// welcome is this node's answer to a caller, refused if err says why.
func (d *door) welcome(err error) Welcome {
	w := Welcome{Life: d.life, Cluster: d.cluster(), Reach: d.reach()}
	if d.replaces != nil {
		w.Replaces = d.replaces()
	}
	if err != nil {
		w.Refused = err.Error()
		if r := (*refusal)(nil); errors.As(err, &r) {
			w.Reason = r.reason
		}
	}
	return w
}

func (d *door) admit(g Greeting, forRaft bool) error {
	if d.anyLife && g.To.ID == d.life.ID {
		g.To = d.life
	}
	switch own := d.cluster(); {
	case g.To.ID != "" && g.To.ID != d.life.ID:
		return refused(OtherLife, "here is node %s, and %s is meant", d.life.ID, g.To.ID)
	case own != "" && g.Cluster != "" && own != g.Cluster:
		return refused(OtherCluster, "%s is of cluster %s now, and a node of cluster %s is meant", d.life, own, g.Cluster)
	case g.To.Store != "" && g.To.Store != d.life.Store:
		return refused(OtherLife, "%s has another store than the one that is meant (%s, meant is %s): its disk was lost or replaced, and it is no member until "+
			"it is taken in again: start it with --replace-lost, or 'machineid cluster remove %s'", d.life.ID, short(d.life.Store), short(g.To.Store), d.life.ID)
	case g.From == d.life:
		return nil
	case g.From.ID == "" || g.From.Store == "":
		return refused(NoMember, "the caller does not say who it is")
	case !d.knows(g):
		return refused(NoMember, "%s is no member of cluster %s any more, or not yet: if it was removed, stop it and wipe its folder", g.From, own)
	case g.To == d.life && d.reach().Last < g.Known:
		d.wentBack(g)
		return refused(WentBack, "%s", *d.back.Load())
	case forRaft && (g.To != d.life || g.Cluster == ""):
		return refused(OtherLife, "raft's messages are for one life in one cluster, and the caller names neither")
	}
	return nil
}

// knows reports whether the caller is a member, or knows of a newer membership than this node: one that lags must not refuse a leader that
// was taken in since. A node without any membership waits to be taken in: who names its store, which it made itself, has been told to.
func (d *door) knows(g Greeting) bool {
	applied := d.applied()
	if applied.index == 0 || g.Members > applied.index {
		return true
	}
	conf, err := applied.decode()
	if err == nil && isMember(conf, g.From) {
		return true
	}
	r := d.raft.Load()
	if r == nil {
		return false
	}
	latest := r.GetConfiguration()
	return latest.Error() == nil && isMember(latest.Configuration(), g.From)
}

func isMember(conf raft.Configuration, l Life) bool {
	return slices.ContainsFunc(conf.Servers, func(s raft.Server) bool { return s.ID == l.server() })
}

// enter keeps to the first cluster that took this store in: on disk, before a message of it is read.
func (d *door) enter(cluster string) error {
	d.pinned.Lock()
	defer d.pinned.Unlock()
	switch own := d.cluster(); own {
	case cluster:
		return nil
	case "":
		if err := d.pin(cluster, false); err != nil {
			return fmt.Errorf("keep the cluster's name: %w", err)
		}
		d.logger.Info("this store is taken into a cluster", slog.String("cluster", cluster))
		return nil
	default: // two at once
		return refused(OtherCluster, "%s is of cluster %s, and the caller of %s", d.life.ID, own, cluster)
	}
}

// begin makes this store the first of a cluster of that name, unless one has taken it in: one of the two comes first, and the other is refused.
func (d *door) begin(cluster string) error {
	d.pinned.Lock()
	defer d.pinned.Unlock()
	if own := d.cluster(); own != "" {
		return fmt.Errorf("%w: %w: %s", ErrRefused, ErrInCluster, own)
	}
	if err := d.pin(cluster, true); err != nil {
		return fmt.Errorf("keep the cluster's name: %w", err)
	}
	return nil
}

// said notes that another says that this node is out, or, without a reason, that it is not.
func (d *door) said(by Life, why string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if why == "" {
		delete(d.out, by)
		return
	}
	if d.out == nil || len(d.out) >= askersKept {
		d.out = make(map[Life]string)
	}
	d.out[by] = why
}

// wentBack is told of one who knows this node to have come further than its log goes. A node that has forgotten what it promised leads nobody, and answers
// nothing: its membership may be one of then, of which it alone is a quorum.
func (d *door) wentBack(g Greeting) {
	said := fmt.Sprintf("the log of %s ends at %d, and %s knows that it had applied %d: its folder is an older copy; stop it, wipe the folder and start it with "+
		"--replace-lost, or 'machineid cluster remove %s' first", d.life, d.reach().Last, g.From, g.Known, d.life.ID)
	if d.back.CompareAndSwap(nil, &said) {
		d.logger.Error("this node's folder is an older copy of itself: it leads nobody and answers nothing", slog.String("cause", said))
	}
}

// succeeded notes whether the cluster of a node has come in the place of this one.
func (d *door) succeeded(w Welcome) {
	own := d.cluster()
	d.mu.Lock()
	defer d.mu.Unlock()
	if own == "" || w.Replaces != own || w.Cluster == own {
		delete(d.replaced, w.Life.ID)
		return
	}
	if d.replaced == nil {
		d.replaced = make(map[string]string)
	}
	if d.replaced[w.Life.ID] == "" {
		d.logger.Error("another cluster was begun in the place of this one, and edges follow it: if that was meant, stop this node, wipe its folder and let it join; "+
			"if not, stop and wipe the other", slog.String("cluster", w.Cluster), slog.String("node", w.Life.String()))
	}
	d.replaced[w.Life.ID] = w.Cluster
}

// successor says who has come in the place of this node's cluster, "" if nobody has.
func (d *door) successor() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(d.replaced)) {
		return fmt.Sprintf("cluster %s at node %s was restored or recovered in the place of this one, and edges follow it: what is revoked here is not revoked there; "+
			"if that was meant, stop this node, wipe its folder and let it join", d.replaced[id], id)
	}
	return ""
}

// isOut is what another says against this node, "" if nobody does.
func (d *door) isOut() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, by := range slices.SortedFunc(maps.Keys(d.out), func(a, b Life) int { return strings.Compare(a.ID, b.ID) }) {
		return by.String() + " says: " + d.out[by]
	}
	return ""
}

// reaches remembers how far the others have come. An older copy of a folder that is put back has the id of the life that it is a copy of, and has forgotten
// entries and votes that it has promised; what it had applied before it was copied back gives it away. That is remembered while the process runs: it is no
// proof that there was none.
type reaches struct {
	mu      sync.Mutex
	applied map[Life]uint64
}

// of is how far a life had come, as far as is known.
func (r *reaches) of(l Life) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.applied[l]
}

// meet notes how far a life is, or refuses it if it had been further: was is what `of` told before it was asked. What has become known since is no measure, since
// the answer may be from before.
func (r *reaches) meet(l Life, at Reach, was uint64) error {
	if at.Last < was {
		return refused(WentBack, "the log of %s ends at %d, and it had applied %d: its folder is an older copy, which has forgotten what it promised; wipe it and start it with "+
			"--replace-lost, or 'machineid cluster remove %s' first",
			l, at.Last, was, l.ID)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now, known := r.applied[l]
	if r.applied == nil || len(r.applied) >= askersKept && !known {
		r.applied = make(map[Life]uint64)
	}
	r.applied[l] = max(now, at.Applied)
	return nil
}

func short(store string) string {
	const shown = 8
	return store[:min(len(store), shown)]
}
