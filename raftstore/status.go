package raftstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// NodeStatus is what a node says of itself, to the others and to operators.
type NodeStatus struct {
	ID        string `json:"id"`
	Store     string `json:"store"`             // the life of the node (Life)
	Raft      string `json:"raft,omitempty"`    // where it is reached for Raft, as it was started; its membership may say otherwise
	Cluster   string `json:"cluster,omitempty"` // empty: not in one yet, as far as it knows
	Term      uint64 `json:"term"`
	State     string `json:"state"` // Follower, Candidate, Leader or Shutdown
	Leader    string `json:"leader,omitempty"`
	Applied   uint64 `json:"applied"`
	LastIndex uint64 `json:"last_index"` // of its log
	Version   string `json:"version,omitempty"`
	// About is Config.About of the node, and TimeMs its wall clock when it answered, in milliseconds since 1970.
	About  map[string]string `json:"about,omitempty"`
	TimeMs int64             `json:"time_ms,omitempty"`
	// ClockOffMs is how far the node knows that clock to be ahead of the others', nil: it does not know.
	ClockOffMs *int64 `json:"clock_off_ms,omitempty"`
	// Unfit is Config.Unfit of the node: why it should not lead, "" if nothing speaks against it.
	Unfit string `json:"unfit,omitempty"`
	// Format is the one that the cluster is at as far as the node has applied, NewestFormat the newest that its program knows.
	Format       int `json:"format,omitempty"`
	NewestFormat int `json:"newest_format,omitempty"`
	// DiskFull says that the node's disk is nearly full: it takes only essential commands, should it lead.
	DiskFull bool `json:"disk_full,omitempty"`
	// DiskLeft is how many bytes its disk has left, and DiskReserve below how many it takes only essential commands; zeros: not known.
	DiskLeft    uint64 `json:"disk_left,omitempty"`
	DiskReserve uint64 `json:"disk_reserve,omitempty"`
}

// Life is the node's.
func (n NodeStatus) Life() Life { return Life{ID: n.ID, Store: n.Store} }

// isOf checks that an answer is that of the life that was meant: an address can come to belong to another. One that was taken in a moment ago
// may not know its cluster's name yet.
func (n NodeStatus) isOf(l Life, cluster string) error {
	switch {
	case n.Life() != l:
		return fmt.Errorf("the answer is of %s", n.Life())
	case n.Cluster != cluster && n.Cluster != "":
		return fmt.Errorf("the answer is of cluster %q, this one is %q", n.Cluster, cluster)
	}
	return nil
}

// Peers is how nodes ask one another who they are and how far. It is part of what Listener carries; with Config.Transport, which
// is for tests, Config.Peers takes its place. An implementation must ask after the call began, and answer for no node but the
// one at the address. It is safe for concurrent use.
type Peers interface {
	// Status asks the node at addr, if it is the one that is meant. It returns by the deadline of ctx.
	Status(ctx context.Context, to Life, addr string) (NodeStatus, error)
	// Serve sets the door through which the others are let in, with raft's messages too. It is called once, before any of them.
	Serve(door Door)
}

var errNoPeers = errors.New("there is no way to ask other nodes (Config.Peers is not set)")

// noPeers is what a node with a Transport and without Peers has.
type noPeers struct{}

func (noPeers) Status(context.Context, Life, string) (NodeStatus, error) {
	return NodeStatus{}, errNoPeers
}
func (noPeers) Serve(Door) {}

// Status is this node's own. It costs a few atomic loads.
func (s *Store) Status() NodeStatus {
	leader, _ := s.Leader()
	left, reserve := s.space.room()
	var clockOff *int64
	if off, known := s.cfg.ClockOff(); known {
		ms := off.Milliseconds()
		clockOff = &ms
	}
	return NodeStatus{
		ID: s.cfg.ID, Store: s.storeID, Raft: string(s.advertised()), Cluster: s.clusterName(), Term: s.raft.CurrentTerm(), State: s.raft.State().String(), Leader: leader,
		Applied: s.Applied().Index, LastIndex: s.raft.LastIndex(), Version: s.cfg.Version,
		About: s.cfg.About, TimeMs: s.cfg.Wall().UnixMilli(), ClockOffMs: clockOff, Unfit: s.cfg.Unfit(), DiskFull: s.space.closed.Load(), DiskLeft: left, DiskReserve: reserve,
		Format: s.Format(), NewestFormat: s.cfg.newestFormat(),
	}
}

// reach is how far this node has the log. What is applied was appended here, synced, or installed.
func (s *Store) reach() Reach {
	applied := s.Applied().Index
	last, _ := s.log.LastIndex() // never fails: kept in memory
	return Reach{Applied: applied, Last: max(last, applied)}
}

// ErrNoLeader says that this node knows of no leader now.
var ErrNoLeader = errors.New("no leader is known")

// LeaderStatus asks the node that this one believes leads, which may be itself. That one may see it otherwise: its State tells.
func (s *Store) LeaderStatus(ctx context.Context) (NodeStatus, error) {
	addr, id := s.raft.LeaderWithID()
	if id == "" {
		return NodeStatus{}, ErrNoLeader
	}
	return s.statusOf(ctx, raft.Server{ID: id, Address: addr})
}

// answer is what others are told. A node that stopped after a fault tells nothing: its word counts for no quorum.
func (s *Store) answer() (NodeStatus, error) {
	if s.door.raft.Load() == nil || s.door.back.Load() != nil || s.fault.err() != nil || s.packer.closing() {
		return NodeStatus{}, ErrClosed
	}
	return s.Status(), nil
}

// askers asks each node one question at a time and shares the answer among those who called before it was asked.
type askers struct {
	peers   Peers
	timeout time.Duration
	met     *reaches

	mu     sync.Mutex
	at     map[target]*turns[NodeStatus]
	heard  map[target]time.Time // when it last answered
	closed bool
}

// askersKept bounds how many addresses are remembered; a cluster has a handful.
const askersKept = 64

// join returns the next answer of a node, to a question asked after the call.
func (a *askers) join(at target) (*turn[NodeStatus], error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil, ErrClosed
	}
	t := a.at[at]
	if t == nil {
		if a.at == nil || len(a.at) >= askersKept {
			a.at = make(map[target]*turns[NodeStatus]) // those under way end by themselves
			a.heard = make(map[target]time.Time)
		}
		t = &turns[NodeStatus]{do: func() (NodeStatus, error) {
			ctx, cancel := context.WithTimeout(context.Background(), a.timeout)
			defer cancel()
			was := a.met.of(at.life)
			status, err := a.peers.Status(ctx, at.life, at.addr)
			if err == nil {
				err = a.met.meet(status.Life(), Reach{Applied: status.Applied, Last: max(status.LastIndex, status.Applied)}, was)
			}
			if err == nil {
				a.mu.Lock()
				a.heard[at] = time.Now()
				a.mu.Unlock()
			}
			return status, err
		}}
		a.at[at] = t
	}
	return t.join()
}

func (a *askers) ask(ctx context.Context, at target) (NodeStatus, error) {
	t, err := a.join(at)
	if err != nil {
		return NodeStatus{}, err
	}
	return t.wait(ctx)
}

func (a *askers) contact(at target) time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.heard[at]
}

// close waits for the questions under way; the transport is closed before, or they end at their time-out.
func (a *askers) close() {
	a.mu.Lock()
	a.closed = true
	at := a.at
	a.mu.Unlock()
	for _, t := range at {
		t.close()
	}
}
