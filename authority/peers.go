package authority

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"machineid/authority/state/statepb"
)

// What a node tells the others of itself (raftstore.Config.About).
const (
	aboutHTTP = "http"
	aboutLink = "link"
)

// leader is where the node that leads is reached.
type leader struct {
	id         string
	term       uint64 // this node's, when it was asked
	http, link string
	client     *fasthttp.HostClient
}

// leaders knows who leads, asks each new leader once for its addresses, and keeps
// the connections to it.
type leaders struct {
	dial func(ctx context.Context, addr string) (net.Conn, error) // Config.Dial

	mu  sync.Mutex
	now *leader
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
			return nil, nil //nolint:nilnil // it is this one
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
	n.leaders.mu.Lock()
	now := n.leaders.now
	n.leaders.mu.Unlock()
	if now != nil && now.id == id && now.term == term {
		return now
	}
	status, err := n.store.LeaderStatus(ctx)
	if err != nil || status.ID != id || status.About[aboutHTTP] == "" {
		return nil
	}
	return n.leaders.set(&leader{id: id, term: term, http: status.About[aboutHTTP], link: status.About[aboutLink]}) //nolint:contextcheck // a connection outlives the call that opens it
}

// set makes l the leader, with the connections of the one before if it has the same address.
func (k *leaders) set(l *leader) *leader {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.now != nil && k.now.http == l.http {
		l.client = k.now.client
	} else {
		if k.now != nil {
			k.now.client.CloseIdleConnections()
		}
		l.client = newForwardClient(l.http, k.dial)
	}
	k.now = l
	return l
}

// forget drops what is known of a leader that turned out to be none.
func (k *leaders) forget(l *leader) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.now == l {
		k.now.client.CloseIdleConnections()
		k.now = nil
	}
}

func (k *leaders) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.now != nil {
		k.now.client.CloseIdleConnections()
	}
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
