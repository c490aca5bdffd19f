package authority

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"machineid/authority/api"
	"machineid/raftstore"
	"machineid/shared/dial"
	"machineid/shared/wire"
)

// Times of beginning a cluster.
const (
	initAsk  = 5 * time.Second // for the others to say whether they know a cluster
	initPoll = 5 * time.Millisecond
)

// phase is how far this node is on its way into a cluster. The flag comes first: it falls after the cluster has its name.
func (n *Node) phase() api.Phase {
	beginning := n.beginning.Load()
	switch {
	case n.store.Cluster() != "":
		return api.InCluster
	case beginning:
		return api.Beginning
	}
	return api.Waiting
}

// initCluster begins a cluster with this node, once: no node that --join names may know one, or be beginning one. It says that it begins before it
// asks, and all do, so of two that begin at the same time at most one finds nobody else. The cluster is returned when its first state is there.
func (n *Node) initCluster(ctx context.Context, by api.Asker, ignoreUnreachable bool) (string, error) {
	if n.phase() == api.InCluster {
		return "", n.exists()
	}
	if !n.beginning.CompareAndSwap(false, true) {
		return "", fmt.Errorf("%w: this node is beginning a cluster already", raftstore.ErrRefused)
	}
	defer n.beginning.Store(false)
	if err := n.nobodyKnows(ctx, ignoreUnreachable); err != nil {
		return "", err
	}
	n.begunBy.Store(&by)
	switch err := n.store.Begin(ctx); {
	case errors.Is(err, raftstore.ErrInCluster):
		return "", n.exists()
	case err != nil:
		return "", err
	}
	for n.state.Cluster() == nil {
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("%w: the cluster has begun, and its first state is not written yet: %w", raftstore.ErrOutcomeUnknown, context.Cause(ctx))
		case <-time.After(initPoll):
		}
	}
	return n.state.Cluster().GetClusterId(), nil
}

// exists refuses to begin a cluster where there is one.
func (n *Node) exists() error {
	name := n.state.Cluster().GetClusterId()
	if name == "" {
		name = n.store.Cluster()
	}
	return fmt.Errorf("%w: %w: %s is a member of cluster %s; nothing was changed", raftstore.ErrRefused, raftstore.ErrInCluster, n.cfg.ID, name)
}

// nobodyKnows asks the nodes that --join names, all at once, and refuses if one of them stands against a new cluster.
func (n *Node) nobodyKnows(ctx context.Context, ignoreUnreachable bool) error {
	ctx, cancel := context.WithTimeout(ctx, initAsk)
	defer cancel()
	client := n.peerClient(initAsk)
	defer client.CloseIdleConnections()
	peers := n.peers()
	against := make([]string, len(peers))
	var asked sync.WaitGroup
	for i, addr := range peers {
		asked.Go(func() { against[i] = n.against(ctx, client, addr, ignoreUnreachable) })
	}
	asked.Wait()
	against = slices.DeleteFunc(against, func(why string) bool { return why == "" })
	if len(against) > 0 {
		return fmt.Errorf("%w: no cluster was begun: %s", raftstore.ErrRefused, strings.Join(against, "; "))
	}
	return nil
}

// peerView is what another node says of itself (GET operator/cluster).
type peerView struct {
	ClusterID, Node, Store string
	Phase                  api.Phase
}

// against is what a node says against a new cluster, "" if nothing.
func (n *Node) against(ctx context.Context, client *http.Client, addr string, ignoreUnreachable bool) string {
	var view peerView
	switch err := n.ask(ctx, client, http.MethodGet, addr, "operator/cluster", nil, &view); {
	case errors.Is(err, errWrongToken):
		return addr + " takes another operator's token: it is in a cluster, or was started with another token than this node"
	case err != nil && ignoreUnreachable:
		n.log.LogAttrs(ctx, slog.LevelWarn, "a node that does not answer is not asked whether it knows a cluster", slog.String("asked", addr), slog.Any("error", err))
		return ""
	case err != nil:
		return fmt.Sprintf("%s does not answer, and may know a cluster (%v): start it, or, if that is sure not to be so, add --ignore-unreachable", addr, err)
	case view.Store != "" && view.Store == n.store.Status().Store:
		return "" // this node, under another name
	case view.Node == n.cfg.ID:
		return fmt.Sprintf("%s has the name %s as this node has: give one of them another --id", addr, view.Node)
	case view.Phase == api.Waiting:
		return ""
	case view.Phase == api.Beginning:
		return addr + " is asked to begin a cluster too: do it at one node"
	}
	return fmt.Sprintf("%s is in cluster %s: this node joins that one by itself, its /readyz says what is in the way", addr, view.ClusterID)
}

// peers are the nodes that --join names, without this one: the same line serves for all.
func (n *Node) peers() []string {
	own := []string{n.cfg.AdvertiseHTTP, n.cfg.HTTP.Addr().String()}
	return slices.DeleteFunc(slices.Clone(n.cfg.Join), func(addr string) bool { return slices.Contains(own, addr) })
}

// peerClient asks other nodes. The token must not follow to another host.
func (n *Node) peerClient(timeout time.Duration) *http.Client {
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{DialContext: func(ctx context.Context, _, addr string) (net.Conn, error) {
			conn, err := n.cfg.Dial(ctx, addr)
			if err != nil {
				return nil, err
			}
			return &dial.Asking{Conn: conn}, nil
		}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// startToken is the hash of the operator's token that this node was started with, nil if there was none.
func (n *Node) startToken() []byte {
	if n.cfg.OperatorToken == "" {
		return nil
	}
	sum := sha256.Sum256([]byte(n.cfg.OperatorToken))
	return sum[:]
}

// waits answers a request to a node that is in no cluster yet, and reports whether this one is: it can serve nothing, and hand nothing on.
func (n *Node) waits(ctx *fasthttp.RequestCtx, in *wire.Request) bool {
	if n.store.Cluster() != "" {
		return false
	}
	e := wire.SystemUnavailable(wire.OutcomeNotDone, 1)
	e.Message = "this node is in no cluster yet: it waits to be taken into one, or for " + n.initCommand()
	ctx.Response.Header.Set(wire.NoClusterHeader, "1")
	in.Error(ctx, e)
	return true
}

// decodeAnswer reads what a node says of itself.
func decodeAnswer(raw []byte, out any) error {
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("it answers what is no answer of an authority: %w", err)
	}
	return nil
}
