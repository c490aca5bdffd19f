package raftstore

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
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
	// Members is the index of the newest membership that the caller has applied.
	Members uint64 `json:"members,omitempty"`
}

// Welcome answers a Greeting: who is there, and why it does not speak to the caller, if it does not.
type Welcome struct {
	Cluster string `json:"cluster,omitempty"`
	Life    Life   `json:"life"`
	Refused string `json:"refused,omitempty"`
	Reason  Reason `json:"reason,omitempty"`
}

// Reason is why a Greeting was refused.
type Reason string

// Reasons for a refusal.
const (
	OtherLife    Reason = "other_life"    // another node, or another life of it, is there
	OtherCluster Reason = "other_cluster" // it is of another cluster
	NoMember     Reason = "no_member"     // the caller is not a member, as far as it is known there
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

// Door is a node's side of a Greeting, for Peers.
type Door interface {
	// Greet makes the Greeting of a connection to a node.
	Greet(to Life) Greeting
	// Admit judges the Greeting of a caller, for raft's messages or for a question. The Welcome is what the caller is told, and it is
	// let in if nothing is refused.
	Admit(g Greeting, forRaft bool) Welcome
	// Accept judges what the node that was meant said of itself.
	Accept(to Life, w Welcome) error
	// Status answers a question.
	Status() (NodeStatus, error)
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

	raft   atomic.Pointer[raft.Raft] // nil until it runs
	pinned sync.Mutex
	gone   atomic.Pointer[string] // who says that this node is no member any more, and why; nil: nobody
}

var _ Door = (*door)(nil)

func (d *door) Greet(to Life) Greeting {
	return Greeting{Cluster: d.cluster(), From: d.life, To: to, Members: d.applied().index}
}

func (d *door) Status() (NodeStatus, error) { return d.status() }

func (d *door) Admit(g Greeting, forRaft bool) Welcome {
	w := Welcome{Life: d.life}
	err := d.admit(g, forRaft)
	w.Cluster = d.cluster() // also if it got one just now
	if err != nil {
		w.Refused = err.Error()
		if r := (*refusal)(nil); errors.As(err, &r) {
			w.Reason = r.reason
		}
	}
	return w
}

func (d *door) admit(g Greeting, forRaft bool) error {
	switch own := d.cluster(); {
	case g.To.ID != "" && g.To.ID != d.life.ID:
		return refused(OtherLife, "here is node %s, and %s is meant", d.life.ID, g.To.ID)
	case g.To.Store != "" && g.To.Store != d.life.Store:
		return refused(OtherLife, "%s has another store than the one that is meant (%s, meant is %s): its disk was lost or replaced, and it is no member until "+
			"it is taken in again", d.life.ID, short(d.life.Store), short(g.To.Store))
	case own != "" && g.Cluster != "" && own != g.Cluster:
		return refused(OtherCluster, "%s is of cluster %s, and the caller of %s", d.life.ID, own, g.Cluster)
	case g.From == d.life:
		return nil
	case g.From.ID == "" || g.From.Store == "":
		return refused(NoMember, "the caller does not say who it is")
	case !d.knows(g):
		return refused(NoMember, "%s is no member of cluster %s any more, or not yet", g.From, own)
	case !forRaft:
		return nil
	case g.To != d.life || g.Cluster == "":
		return refused(OtherLife, "raft's messages are for one life in one cluster, and the caller names neither")
	}
	return d.enter(g.Cluster)
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

func (d *door) Accept(to Life, w Welcome) error {
	switch own := d.cluster(); {
	case w.Refused != "":
		if w.Reason == NoMember {
			said := w.Life.String() + " says: " + w.Refused
			d.gone.Store(&said)
		}
		return &refusal{reason: w.Reason, text: w.Refused}
	case to.ID != "" && w.Life.ID != to.ID, to.Store != "" && w.Life.Store != to.Store:
		return refused(OtherLife, "there is %s, and %s is meant", w.Life, to)
	case own != "" && w.Cluster != "" && own != w.Cluster:
		return refused(OtherCluster, "%s is of cluster %s, and this node of %s", w.Life, w.Cluster, own)
	}
	d.gone.Store(nil)
	return nil
}

func short(store string) string {
	const shown = 8
	return store[:min(len(store), shown)]
}
