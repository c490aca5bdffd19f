package authority

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"machineid/authority/api"
	"machineid/authority/hub"
	"machineid/raftstore"
)

// Times of a hand-over.
const (
	// handOverTime bounds it: an election takes about as long.
	handOverTime = 2 * time.Second
	// drainedTime bounds how long changes under way are waited for: those that wait for an edge that does not answer are
	// not worth the others' time.
	drainedTime = 500 * time.Millisecond
	// yieldTime bounds how long the record of who holds a lease may take.
	yieldTime = 500 * time.Millisecond
)

// gate keeps commands back during a hand-over, so that none fails of it: they wait, and are refused when this node
// leads no more; then the request goes to the one that does.
type gate struct {
	mu     sync.Mutex
	shut   chan struct{} // closed when the gate opens again; nil: it is open
	inside int
	empty  chan struct{} // closed when nobody is inside any more; nil: nobody waits for that
}

func (g *gate) enter(ctx context.Context) error {
	for {
		g.mu.Lock()
		shut := g.shut
		if shut == nil {
			g.inside++
		}
		g.mu.Unlock()
		if shut == nil {
			return nil
		}
		select {
		case <-shut:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.inside--; g.inside == 0 && g.empty != nil {
		close(g.empty)
		g.empty = nil
	}
}

// close shuts the gate, and waits until nobody is inside or ctx ends. It reports false, and does nothing, if it is shut.
func (g *gate) close(ctx context.Context) bool {
	g.mu.Lock()
	if g.shut != nil {
		g.mu.Unlock()
		return false
	}
	g.shut = make(chan struct{})
	empty := make(chan struct{})
	if g.inside == 0 {
		close(empty)
	} else {
		g.empty = empty
	}
	g.mu.Unlock()
	select {
	case <-empty:
	case <-ctx.Done():
	}
	return true
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.shut)
	g.shut, g.empty = nil, nil
}

// nodes is the cluster for the API: handing over is more than Raft's part of it.
type nodes struct {
	*raftstore.Store
	node *Node
}

// TransferLeadership hands over cleanly (DESIGN.md, Handing over).
func (n nodes) TransferLeadership(ctx context.Context, id string) error {
	return n.node.handOver(ctx, id)
}

// Reasons are the whole node's: one that joins has more to say than its store.
func (n nodes) Reasons() []string { return n.node.reasons() }

// Phase implements api.Nodes.
func (n nodes) Phase() api.Phase { return n.node.phase() }

// Init implements api.Nodes.
func (n nodes) Init(ctx context.Context, by api.Asker, ignoreUnreachable bool) (string, error) {
	return n.node.initCluster(ctx, by, ignoreUnreachable)
}

// handOver gives the leadership to the voter id, or to the one that is furthest, so that no change waits for longer
// than that takes: changes are kept back until those under way are in force, granting ends, who holds a lease is
// recorded, and then Raft's part is done. If it fails, all of it is taken back. Its errors are raftstore's.
func (n *Node) handOver(ctx context.Context, id string) error {
	to, err := n.store.Successor(ctx, id)
	if err != nil || to.ID == n.cfg.ID {
		return err
	}
	drain, cancel := context.WithTimeout(ctx, drainedTime)
	defer cancel()
	if !n.gate.close(drain) {
		return fmt.Errorf("%w: another hand-over is under way", raftstore.ErrRefused)
	}
	defer n.gate.open()
	n.hub.Quiet(drain)
	yield, cancel := context.WithTimeout(ctx, yieldTime)
	defer cancel()
	switch err := n.hub.Yield(yield, to.Status.About[aboutLink]); {
	case errors.Is(err, hub.ErrHandingOver):
		// No lease is granted yet in this term, or not any more: nothing to yield.
	case err != nil:
		n.log.LogAttrs(ctx, slog.LevelWarn, "handing over without telling who holds a lease: the next leader holds changes for one",
			slog.Any("cause", err))
	}
	if err := n.store.HandTo(ctx, to); err != nil {
		go n.hub.Resume()
		return err
	}
	return nil
}

// leave hands over at the end, if there is anybody to hand over to.
func (n *Node) leave(ctx context.Context) {
	if _, leads := n.store.Leading(); !leads {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, handOverTime)
	defer cancel()
	switch err := n.handOver(ctx, ""); {
	case err == nil:
		n.log.LogAttrs(ctx, slog.LevelInfo, "the leadership is handed over")
	case !errors.Is(err, raftstore.ErrRefused): // there is nobody
		n.log.LogAttrs(ctx, slog.LevelWarn, "the leadership is not handed over: the others elect a leader when they miss this one", slog.Any("error", err))
	}
}
