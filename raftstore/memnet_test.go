package raftstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"machineid/internal/testkit/injected"
)

// memNet is a network in memory, for virtual time: raft's messages and our own take the same links. A link is one direction
// between two addresses: it can be cut, or take a while. A message that is lost, on its way or on its answer's way back, costs
// its sender a time-out, as on a real network.
type memNet struct {
	timeout time.Duration

	mu    sync.Mutex
	ends  map[raft.ServerAddress]*memEnd
	cut   map[route]bool
	delay map[route]time.Duration
	// wedged links carry heartbeats and our own questions, and no entries.
	wedged map[route]bool
	met    injected.Faults // what messages have met
	asked  map[route]int   // own questions that were sent
}

type route struct{ from, to raft.ServerAddress }

// What happens to messages on their way.
const (
	messageLost = "a message lost in a cut"
	messageLate = "a message late"
)

var errLost = errors.New("the message was lost")

func newMemNet() *memNet {
	return &memNet{
		timeout: 300 * time.Millisecond, ends: make(map[raft.ServerAddress]*memEnd),
		cut: make(map[route]bool), delay: make(map[route]time.Duration), asked: make(map[route]int), wedged: make(map[route]bool),
	}
}

// memEnd is one node's end for one run of it: raft's transport and Peers.
type memEnd struct {
	*raft.InmemTransport
	net  *memNet
	addr raft.ServerAddress
	door Door // nil until the node serves
	gone bool // unplugged for good; guarded by net.mu

	visits sync.WaitGroup // who is at its door; begun under net.mu while it is not gone
}

// plug makes the end of a node that starts. Of an earlier run at the same address nothing arrives any more, nor to it.
func (n *memNet) plug(addr raft.ServerAddress) *memEnd {
	_, trans := raft.NewInmemTransportWithTimeout(addr, n.timeout)
	e := &memEnd{InmemTransport: trans, net: n, addr: addr}
	n.mu.Lock()
	defer n.mu.Unlock()
	if old := n.ends[addr]; old != nil {
		old.gone = true
	}
	n.ends[addr] = e
	for a, other := range n.ends {
		other.Connect(addr, trans)
		trans.Connect(a, other.InmemTransport)
	}
	return e
}

func (n *memNet) unplug(e *memEnd) {
	n.mu.Lock()
	defer n.mu.Unlock()
	e.gone = true
}

// Close waits, as the mux does, for whoever is at the door: behind it a store closes.
func (e *memEnd) Close() error {
	e.net.unplug(e)
	e.visits.Wait()
	return e.InmemTransport.Close()
}

// set cuts or mends one direction.
func (n *memNet) set(from, to raft.ServerAddress, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[route{from, to}] = cut
}

func (n *memNet) slow(from, to raft.ServerAddress, d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.delay[route{from, to}] = d
}

// mend restores every link.
func (n *memNet) mend() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cut)
	clear(n.delay)
	clear(n.wedged)
}

// pass lets one message take a link. It returns the end it arrives at.
func (n *memNet) pass(ctx context.Context, e *memEnd, from, to raft.ServerAddress) (*memEnd, error) {
	n.mu.Lock()
	d, lost := n.delay[route{from, to}], n.cut[route{from, to}]
	n.mu.Unlock()
	switch {
	case lost:
		n.met.Did(messageLost)
		d = n.timeout
	case d > 0:
		n.met.Did(messageLate)
	}
	if d > 0 {
		select {
		case <-time.After(d):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	there := n.ends[to]
	if lost || n.cut[route{from, to}] || e.gone || there == nil || there.gone {
		return nil, fmt.Errorf("from %s to %s: %w", from, to, errLost)
	}
	return there, nil
}

// carry takes a message there and its answer back.
func (e *memEnd) carry(id raft.ServerID, to raft.ServerAddress, deliver func() error) error {
	there, err := e.net.pass(context.Background(), e, e.addr, to)
	if err == nil {
		err = e.greet(there, lifeOf(id), true)
	}
	if err != nil {
		return err
	}
	if err := deliver(); err != nil {
		return err
	}
	_, err = e.net.pass(context.Background(), there, to, e.addr)
	return err
}

// greet is how each message begins here: as each connection does on a network.
func (e *memEnd) greet(there *memEnd, to Life, forRaft bool) error {
	here, at, leave := e.visit(there)
	if leave == nil {
		return errLost
	}
	defer leave()
	g, calling := here.Greet(to)
	w, called := at.Admit(g, forRaft)
	reach, err := calling.Welcomed(w)
	if err != nil {
		return err
	}
	return calling.Admitted(called.Arrived(reach))
}

// visit returns the doors of both ends, which stay as long as the visit does. Without a way to leave there was none.
func (e *memEnd) visit(there *memEnd) (here, at Door, leave func()) {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	if e.door == nil || there.door == nil || e.gone || there.gone {
		return nil, nil, nil
	}
	e.visits.Add(1)
	there.visits.Add(1)
	return e.door, there.door, func() { e.visits.Done(); there.visits.Done() }
}

// Status makes memEnd Peers.
func (e *memEnd) Status(ctx context.Context, life Life, addr string) (NodeStatus, error) {
	to := raft.ServerAddress(addr)
	e.net.mu.Lock()
	e.net.asked[route{e.addr, to}]++
	e.net.mu.Unlock()
	there, err := e.net.pass(ctx, e, e.addr, to)
	if err != nil {
		return NodeStatus{}, err
	}
	if err := e.greet(there, life, false); err != nil {
		return NodeStatus{}, err
	}
	_, at, leave := e.visit(there) // the door may be exchanged for one that lies
	if leave == nil {
		return NodeStatus{}, errLost
	}
	status, err := at.Status()
	leave()
	if err != nil {
		return NodeStatus{}, err
	}
	_, err = e.net.pass(ctx, there, to, e.addr)
	return status, err
}

func (e *memEnd) Serve(door Door) {
	e.net.mu.Lock()
	defer e.net.mu.Unlock()
	e.door = door
}

func (e *memEnd) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

func (e *memEnd) AppendEntries(id raft.ServerID, to raft.ServerAddress, q *raft.AppendEntriesRequest, a *raft.AppendEntriesResponse) error {
	e.net.mu.Lock()
	wedged := e.net.wedged[route{e.addr, to}] && len(q.Entries) > 0
	e.net.mu.Unlock()
	if wedged {
		time.Sleep(e.net.timeout)
		return errLost
	}
	return e.carry(id, to, func() error { return e.InmemTransport.AppendEntries(id, to, q, a) })
}

func (e *memEnd) RequestVote(id raft.ServerID, to raft.ServerAddress, q *raft.RequestVoteRequest, a *raft.RequestVoteResponse) error {
	return e.carry(id, to, func() error { return e.InmemTransport.RequestVote(id, to, q, a) })
}

func (e *memEnd) RequestPreVote(
	id raft.ServerID, to raft.ServerAddress, q *raft.RequestPreVoteRequest, a *raft.RequestPreVoteResponse,
) error {
	return e.carry(id, to, func() error { return e.InmemTransport.RequestPreVote(id, to, q, a) })
}

func (e *memEnd) InstallSnapshot(
	id raft.ServerID, to raft.ServerAddress, q *raft.InstallSnapshotRequest, a *raft.InstallSnapshotResponse, data io.Reader,
) error {
	return e.carry(id, to, func() error { return e.InmemTransport.InstallSnapshot(id, to, q, a, data) })
}

func (e *memEnd) TimeoutNow(id raft.ServerID, to raft.ServerAddress, q *raft.TimeoutNowRequest, a *raft.TimeoutNowResponse) error {
	return e.carry(id, to, func() error { return e.InmemTransport.TimeoutNow(id, to, q, a) })
}
