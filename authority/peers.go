package authority

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"machineid/authority/state/statepb"
	"machineid/raftstore"
	"machineid/shared/wire"
)

// What a node tells the others of itself (raftstore.Config.About).
const (
	aboutHTTP = "http"
	aboutLink = "link"
)

// leader is where the node that leads is reached, in one term.
type leader struct {
	id         string
	term       uint64
	http, link string
	hop        *wire.Hop
}

// leaders knows who leads, asks each new leader once for its addresses, and keeps the connections to it. Of one that leads no more it waits only for as
// long as that node answers at all: one that hangs would keep its callers until their time is over.
type leaders struct {
	dial func(ctx context.Context, addr string) (net.Conn, error) // Config.Dial
	// answers reports whether a node answers now.
	answers func(ctx context.Context, id string) bool

	past sync.WaitGroup // what looks after earlier leaders

	mu     sync.Mutex
	now    *leader
	doubt  bool // now may lead no more: it is asked again
	closed bool
	over   chan struct{} // closed with closed
}

// errNoLeader says that no node is known to lead.
var errNoLeader = errors.New("no leader is known")

// leader returns the node that leads, or nil if it is this one. It waits for one until ctx ends.
func (n *Node) leader(ctx context.Context) (*leader, error) {
	const look = 5 * time.Millisecond
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		if _, leads := n.store.Leading(); leads {
			return nil, nil
		}
		if l := n.otherLeader(ctx); l != nil {
			return l, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, errNoLeader
		}
	}
}

// otherLeader returns the node that this one believes leads, nil if it knows none or cannot reach it.
func (n *Node) otherLeader(ctx context.Context) *leader {
	id, _ := n.store.Leader()
	term := n.store.Status().Term
	if id == "" || id == n.cfg.ID {
		return nil
	}
	if now := n.leaders.known(id, term); now != nil {
		return now
	}
	status, err := n.store.LeaderStatus(ctx)
	if err != nil || status.ID != id || status.Term != term || status.About[aboutHTTP] == "" {
		return nil
	}
	return n.leaders.set(&leader{id: id, term: term, http: status.About[aboutHTTP], link: status.About[aboutLink]})
}

// known returns the leader of a term if it is known where that is.
func (k *leaders) known(id string, term uint64) *leader {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.now == nil || k.doubt || k.now.id != id || k.now.term != term {
		return nil
	}
	return k.now
}

// set makes l the leader, unless it is known already.
func (k *leaders) set(l *leader) *leader {
	k.mu.Lock()
	defer k.mu.Unlock()
	if now := k.now; now != nil && now.id == l.id && now.term == l.term && now.http == l.http && now.link == l.link {
		k.doubt = false
		return now
	}
	k.retire()
	l.hop = newHop(l.http, k.dial)
	if k.closed {
		l.hop.Break()
	}
	k.now, k.doubt = l, false
	return l
}

// forget has a leader asked again that turned out to be none.
func (k *leaders) forget(l *leader) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.now == l {
		k.doubt = true
		l.hop.Drop()
	}
}

// seen says that a node leads in a term. What waits for an earlier leader goes on waiting while that one answers, for it may be on its way.
func (k *leaders) seen(id string, term uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.now != nil && id != "" && (k.now.term < term || k.now.id != id) {
		k.retire()
	}
}

// retireLook is how often it is looked whether an earlier leader still answers those that wait for it.
const retireLook = 100 * time.Millisecond

// retire looks after what is still under way to the leader until now. mu is held.
func (k *leaders) retire() {
	old := k.now
	if k.now = nil; old == nil || k.closed {
		return
	}
	old.hop.Drop()
	k.past.Go(func() {
		defer old.hop.Break()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		for old.hop.Pending() > 0 && k.answers(ctx, old.id) {
			select {
			case <-time.After(retireLook):
			case <-k.over:
				return
			}
		}
	})
}

// close ends every connection.
func (k *leaders) close() {
	k.mu.Lock()
	if !k.closed {
		k.closed = true
		close(k.over)
	}
	if k.now != nil {
		k.now.hop.Break()
	}
	k.mu.Unlock()
	k.past.Wait()
}

// answers reports whether a member answers now, within a heartbeat time-out.
func (n *Node) answers(ctx context.Context, id string) bool {
	members, err := n.store.Members(ctx)
	return err == nil && slices.ContainsFunc(members, func(m raftstore.Member) bool { return m.ID == id && m.Err == nil })
}

// leaderLink is the link address of the node that leads, "" if none is known.
func (n *Node) leaderLink() string {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if l := n.otherLeader(ctx); l != nil {
		return l.link
	}
	return ""
}

// nodeToken is by what nodes of a cluster know each other's requests: whoever has it knows the hash of the operator's token, which
// only nodes and backups hold. Edges never see it.
func nodeToken(c *statepb.Cluster) string {
	if len(c.GetOperatorTokenHash()) == 0 {
		return ""
	}
	mac := hmac.New(sha256.New, c.GetOperatorTokenHash())
	mac.Write([]byte("machineid node of " + c.GetClusterId()))
	return hex.EncodeToString(mac.Sum(nil))
}

// about is what this node tells the others.
func (n *Node) about() map[string]string {
	return map[string]string{aboutHTTP: n.cfg.AdvertiseHTTP, aboutLink: n.cfg.AdvertiseLink}
}
