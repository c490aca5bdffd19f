package authority

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net"
	"time"

	"github.com/valyala/fasthttp"

	"machineid/shared/wire"
)

// Times of forwarding.
const (
	// leaderWait bounds how long a request waits for a leader to be known: an election takes about a second.
	leaderWait = 3 * time.Second
	// validateWait is what a validate has in all (docs/api.md).
	validateWait = 900 * time.Millisecond
	// answerSlack is how much later than a request's own time its answer may come: a change waits 1 s longer for the edges.
	answerSlack  = 1500 * time.Millisecond
	forwardConns = 1024
	forwardCrowd = time.Second / 2       // that a call waits for its party's others
	forwardPause = 20 * time.Millisecond // before a leader that was none is looked for again
)

// newHop returns a client for one node. dial is Config.Dial.
func newHop(addr string, dial func(ctx context.Context, addr string) (net.Conn, error)) *wire.Hop {
	return wire.NewHop(addr, wire.HopOptions{Dial: dial, MaxConns: forwardConns, Answer: wire.DefaultBudget + answerSlack})
}

// forward hands a request on to the node that leads and reports whether it has answered it; if not, this node leads. Only the
// leader answers anything, so that what one node has said no other contradicts. A request goes over one hop at most.
func (n *Node) forward(ctx *fasthttp.RequestCtx, in *wire.Request, began time.Time) bool {
	if len(ctx.Request.Header.Peek(wire.NodeHeader)) > 0 { // it goes no further
		if _, leads := n.store.Leading(); leads && !n.fromStranger(ctx) {
			return false
		}
		ctx.Response.Header.Set(wire.NotLeadHeader, "1")
		in.Error(ctx, wire.SystemUnavailable(wire.OutcomeNotDone, 1))
		return true
	}
	if _, leads := n.store.Leading(); leads {
		return false // the usual case, without the timers below
	}
	if n.waits(ctx, in) {
		return true
	}
	edge := ctx.Request.Header.Peek(wire.EdgeHeader)
	// What an edge says is left can only shorten a request's time, so it needs no proof here.
	deadline := began.Add(wire.Budget(in.Head.Timeout, len(edge) > 0))
	if (in.Route.Validate || in.Route.Decides) && began.Add(validateWait).Before(deadline) {
		deadline = began.Add(validateWait)
	}
	until := deadline
	if began.Add(leaderWait).Before(until) {
		until = began.Add(leaderWait)
	}
	wait, cancel := context.WithDeadline(context.Background(), until)
	defer cancel()
	return n.handOn(wait, ctx, in, deadline, n.leader)
}

// handOn tries one leader after the other until wait ends. It reports false if none was tried before this node came to lead.
func (n *Node) handOn(wait context.Context, ctx *fasthttp.RequestCtx, in *wire.Request, deadline time.Time, next func(context.Context) (*leader, error)) bool {
	who, _ := n.whose(ctx, in)
	if !n.crowd.EnterWithin(who, time.Until(deadline)) {
		in.Error(ctx, wire.Crowded())
		return true
	}
	defer n.crowd.Leave(who)
	for lost := false; ; { // lost: an attempt may have been done
		l, err := next(wait)
		switch {
		case err != nil:
			in.Error(ctx, wire.SystemUnavailable(unless(lost, wire.OutcomeNotDone), 1))
			return true
		case l == nil && !lost:
			return false
		case l == nil:
			l = n.itself()
			defer l.hop.Break()
		}
		outcome, answered := n.hand(ctx, in, l, deadline, lost)
		if answered {
			return true
		}
		n.leaders.forget(l)
		lost = lost || outcome != wire.OutcomeNotDone
		if lost && !repeats(ctx, in) || wait.Err() != nil {
			in.Error(ctx, wire.SystemUnavailable(unless(lost, outcome), 1))
			return true
		}
		select {
		case <-time.After(forwardPause):
		case <-wait.Done():
		}
	}
}

// unless is an outcome, or that it is not known.
func unless(lost bool, outcome string) string {
	if lost {
		return wire.OutcomeUnknown
	}
	return outcome
}

// repeats reports whether a change that may have been done can be sent again: it comes from an org's key, and names itself by an Idempotency-Key.
func repeats(ctx *fasthttp.RequestCtx, in *wire.Request) bool {
	return ctx.IsPost() && in.Route.Repeats && len(in.Head.IdempotencyKey) > 0 && len(in.Head.OrgKey) > 0 && len(in.Head.Authorization) == 0
}

// itself is this node as another would find it, for a change that it must not begin as if nobody had.
func (n *Node) itself() *leader {
	addr := n.cfg.HTTP.Addr().String()
	return &leader{id: n.cfg.ID, http: addr, hop: newHop(addr, n.cfg.Dial)}
}

// hand tries one leader. If it has no answer for the client, it says what became of the request there. again: an attempt before it may have been done. Then only
// success is an answer: nothing else says what became of that one.
func (n *Node) hand(ctx *fasthttp.RequestCtx, in *wire.Request, l *leader, deadline time.Time, again bool) (outcome string, answered bool) {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	wire.Pass(req, ctx, in)
	req.SetHost(l.http)
	req.Header.Set(wire.NodeHeader, nodeToken(n.state.Cluster()))
	req.Header.Set(wire.PeerHeader, ctx.RemoteIP().String())
	for _, name := range []string{wire.EdgeHeader, wire.ClientHeader} {
		if v := ctx.Request.Header.PeekAll(name); len(v) == 1 {
			req.Header.SetBytesV(name, v[0])
		}
	}
	req.Header.SetBytesV(wire.BudgetHeader, wire.AppendBudget(nil, time.Until(deadline)))
	// A validate changes nothing either.
	reads := ctx.IsGet() || in.Route.Validate || in.Route.Decides
	if !reads {
		deadline = deadline.Add(answerSlack)
	}
	req.SetTimeout(max(time.Until(deadline), time.Millisecond)) // none would be no bound
	err := l.hop.Do(req, resp)
	switch {
	case err != nil:
		return wire.PassOutcome(err, reads), false
	case len(resp.Header.Peek(wire.NotLeadHeader)) > 0:
		return wire.OutcomeNotDone, false
	case again && resp.StatusCode()/100 != 2:
		return wire.OutcomeUnknown, false
	case !wire.Relay(ctx, resp, in):
		return wire.PassOutcome(nil, reads), false
	}
	if org := resp.Header.Peek(wire.KeyOrgHeader); len(org) > 0 { // the leader says it to none but an edge
		ctx.Response.Header.SetBytesV(wire.KeyOrgHeader, org)
	}
	return "", true
}

// fromStranger reports whether a node of another cluster hands a request on: it means who had this address before. What is no node's token is a client's
// header, and means nothing.
func (n *Node) fromStranger(ctx *fasthttp.RequestCtx) bool {
	token, err := hex.DecodeString(string(ctx.Request.Header.Peek(wire.NodeHeader)))
	return err == nil && len(token) == sha256.Size && !n.fromNode(ctx)
}

// fromNode reports whether another node of the cluster hands a request on.
func (n *Node) fromNode(ctx *fasthttp.RequestCtx) bool {
	values := ctx.Request.Header.PeekAll(wire.NodeHeader)
	want := nodeToken(n.state.Cluster())
	return len(values) == 1 && want != "" && subtle.ConstantTimeCompare(values[0], []byte(want)) == 1
}
