// Package authority is the authority node: it keeps the truth in a replicated
// state, answers the API, and leads the edges (DESIGN.md beside this file).
package authority

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
	"google.golang.org/grpc"

	"machineid/authority/api"
	"machineid/authority/billing"
	"machineid/authority/hub"
	"machineid/authority/mail"
	"machineid/authority/recovery"
	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/raftstore"
	"machineid/shared/clock"
	"machineid/shared/dial"
	"machineid/shared/format"
	"machineid/shared/hint"
	"machineid/shared/link"
	"machineid/shared/seldom"
	"machineid/shared/wire"
)

// Config is what a Node needs. The listeners are required and become the Node's
// own; so are ID, Dir, Logger and Registerer.
type Config struct {
	ID, Dir          string
	HTTP, Link, Raft net.Listener
	// AdvertiseHTTP is where edges reach HTTP, if not at its own address.
	AdvertiseHTTP, AdvertiseRaft string
	// AdvertiseLink is where edges reach Link, likewise.
	AdvertiseLink string
	// Join lists HTTP addresses of nodes, this one among them or not: where no state exists it becomes a member of their cluster, or waits for one, or
	// begins one when it is told to (cluster init). That takes their OperatorToken.
	Join []string
	// ReplaceLost has a node that joins exchanged for the member of its name whose disk is lost.
	ReplaceLost bool
	// Bootstrap makes a new cluster of this one node where no state exists.
	Bootstrap bool
	// OpenSignup lets anyone create orgs.
	OpenSignup bool
	// MaxOrgs is how many orgs there may be for one more to be signed up; 0 is any number.
	MaxOrgs uint32
	// DeleteIdleAfter is when an org goes that was signed up and never had a device; 0 is never.
	DeleteIdleAfter time.Duration
	// DefaultVersion is the API generation of new orgs, 1 or 2; 0 means 2.
	DefaultVersion uint32
	// OperatorToken is hashed into a new cluster's state; empty makes one and keeps
	// it in Dir.
	OperatorToken Secret
	// HeartbeatTimeout, DeadServerAfter and MinVoters are raftstore's.
	HeartbeatTimeout time.Duration
	DeadServerAfter  time.Duration
	MinVoters        int
	// DiskReserve is raftstore's DiskReserveBytes; 0 is its default.
	DiskReserve int64
	// Ballast is raftstore's BallastBytes; 0 is its default.
	Ballast int64
	// CacheSize is raftstore's CacheBytes; 0 is its default.
	CacheSize int64
	Times     hub.Times
	// Edges bounds how many edges there may be; zeros are the defaults.
	Edges  hub.Limits
	Clock  clock.Clock // nil is the system's
	Logger *slog.Logger
	// Typed are flags with their values by which commands reach this node: those that its log and Ready tell people to type have them. Nil: nothing but what is
	// the same everywhere.
	Typed []string
	// Flush waits a moment until what was logged is written: before the process ends by a fault of its disk. It may be nil.
	Flush      func()
	Registerer prometheus.Registerer
	// Version is what this node says of its program.
	Version string
	// Formats says what belongs to which format; nil is this program's.
	Formats *format.Table
	// Wall is the wall clock; nil is time.Now.
	Wall func() time.Time
	// FS and RaftTransport replace the disk and Raft, in tests.
	FS            vfs.FS
	RaftTransport raft.Transport
	// Dial opens connections to other nodes, to Raft and to HTTP; nil means TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// NoDate leaves out the header Date, for tests in virtual time.
	NoDate bool
	// Billing is what Stripe is asked with; all of it may be missing. Its Logger is the Node's.
	Billing billing.Config
	// Reconcile says when the leader compares with Stripe; zeros are the defaults.
	Reconcile Reconcile
	// Mail sends what recoveries mail, with links that begin with PublicURL; without both nobody is mailed.
	Mail      mail.Sender
	PublicURL string
	// OpenFiles is raftstore's; 0 is its default.
	OpenFiles int
	// BodyRoom bounds what bodies and large answers under way hold, in bytes; 0 is wire.DefaultBodyRoom.
	BodyRoom int64
	// GraceDays is how many days a new cluster's orgs go on to work unpaid; nil is 7.
	GraceDays *uint32
	// Plans are those that a new cluster begins with; nil is the usual ones (docs/api.md). One is the tier free.
	Plans []Plan
	// Changed is told of each change of a device or org and how it reached the
	// edges; may be nil.
	Changed func(action, target string, p hub.Propagation)
}

// Node is one authority node.
type Node struct {
	cfg    Config
	log    *slog.Logger
	state  *state.Machine
	ready  chan struct{} // closed when store and hub are there
	store  *raftstore.Store
	hub    *hub.Hub
	http   *wire.Server
	grpc   *grpc.Server
	newest clock.Rising  // the authority's time
	begins clock.Rising  // where it began in the newest term of this node
	timed  atomic.Uint64 // that term
	timing sync.Mutex    // held while a term's time is begun
	// reserveSoon asks for more time to be reserved, reserving is held by whoever does it.
	reserveSoon, reserving chan struct{}

	leaders leaders
	crowd   *wire.Crowd // of calls that are handed on
	gate    gate
	billing *billing.Service
	recover *recovery.Service
	joining atomic.Pointer[string]    // why this node has not joined yet
	seeding atomic.Pointer[string]    // why the first state is not written yet
	begunBy atomic.Pointer[api.Asker] // who had this node begin its cluster, nil if nobody asked
	// beginning says that this node asks the others whether it may begin a cluster.
	beginning atomic.Bool
	clocks    clocks
	stopping  atomic.Bool
	untold    seldom.Line // of members, to the audit
}

// New returns a Node that Run starts. It does no I/O.
func New(cfg Config) *Node {
	if cfg.Clock == nil {
		cfg.Clock = clock.System()
	}
	if cfg.AdvertiseHTTP == "" {
		cfg.AdvertiseHTTP = cfg.HTTP.Addr().String()
	}
	if cfg.AdvertiseLink == "" {
		cfg.AdvertiseLink = cfg.Link.Addr().String()
	}
	if cfg.Wall == nil {
		cfg.Wall = time.Now
	}
	if cfg.Formats == nil {
		cfg.Formats = &format.Current
	}
	if cfg.Dial == nil {
		cfg.Dial = dial.TCP
	}
	cfg.Logger = hint.Logger(cfg.Logger, cfg.Typed...)
	cfg.Billing.Logger, cfg.Billing.Registerer = cfg.Logger, cfg.Registerer
	cfg.Reconcile = cfg.Reconcile.withDefaults()
	n := &Node{cfg: cfg, log: cfg.Logger, ready: make(chan struct{}), reserveSoon: make(chan struct{}, 1), reserving: make(chan struct{}, 1), clocks: newClocks(), billing: billing.New(cfg.Billing), crowd: wire.NewCrowd(forwardConns, forwardCrowd)}
	n.recover = n.newRecovery()
	n.leaders.dial, n.leaders.answers, n.leaders.over = cfg.Dial, n.answers, make(chan struct{})
	return n
}

// Run opens the state and serves until ctx ends, then stops in the order that
// loses nothing: requests under way, leases, log.
func (n *Node) Run(ctx context.Context) (err error) {
	// The hub's life is longer than ctx: what is under way at the end still needs it.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	var work sync.WaitGroup
	defer work.Wait()
	defer end()
	joins, err := n.prepareJoin()
	if err != nil {
		return fmt.Errorf("join the cluster: %w", err)
	}
	if err := n.open(); err != nil {
		return err
	}
	close(n.ready)
	failed := make(chan error, 4)
	if joins {
		why := "join: not asked yet"
		n.joining.Store(&why)
		work.Go(func() {
			if err := n.join(ctx, n.store.Votes); err != nil {
				failed <- err
			}
		})
	}
	work.Go(func() { n.keepTime(life) })
	work.Go(func() { failed <- n.hub.Run(life) })
	work.Go(func() {
		if err := n.http.Serve(n.cfg.HTTP); err != nil {
			failed <- fmt.Errorf("serve HTTP on %s: %w", n.cfg.HTTP.Addr(), err)
		}
	})
	work.Go(func() {
		if err := n.grpc.Serve(n.hub.Listen(n.cfg.Link)); err != nil {
			failed <- fmt.Errorf("serve the link on %s: %w", n.cfg.Link.Addr(), err)
		}
	})
	work.Go(func() { n.billing.Warn(life) })
	work.Go(func() { n.recover.Run(life) })
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	return errors.Join(err, n.stop(life))
}

// Times of a stop.
const (
	restTime   = 5 * time.Second // for what is not draining
	leastDrain = 5 * time.Second
)

// drainTime bounds how long requests under way may take at the end. Changes that the next leader holds take S from its election.
func (n *Node) drainTime() time.Duration { return max(leastDrain, n.cfg.Times.Stretched()+time.Second) }

// stop hands over before anything else ends: the others go on at once, and this node passes on to them what it still
// gets.
func (n *Node) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, restTime+n.drainTime())
	defer cancel()
	n.stopping.Store(true)
	n.leave(ctx)
	drain, cancelDrain := context.WithTimeout(ctx, n.drainTime())
	defer cancelDrain()
	err := n.http.ShutdownWithContext(drain)
	if err != nil {
		err = fmt.Errorf("stop HTTP: %w", err)
	}
	_ = n.cfg.HTTP.Close() // where serving begins only now, because all was over at once, it ends too
	if n.hub.Stop(ctx) {
		n.log.LogAttrs(ctx, slog.LevelInfo, "no lease is out: the next start need not wait")
	}
	n.grpc.Stop()
	n.leaders.close()
	return errors.Join(err, n.store.Close(ctx))
}

// open builds the parts. Apply and Lead begin while the store opens: Apply finds
// the hub, Lead waits until everything is there.
func (n *Node) open() error {
	n.state = state.New(func(index uint64, concerns []state.Concern) { n.hub.Notify(index, concerns) })
	n.state.Knows(n.cfg.Formats)
	n.state.OnRestored(func(index uint64) { n.hub.Restored(index) })
	n.hub = hub.New(hub.Config{
		ID: n.cfg.ID, HTTPAddress: n.cfg.AdvertiseHTTP, Times: n.cfg.Times, Clock: n.cfg.Clock,
		State: n.state, Now: n.Now, Time: n.edgeTime, Reserve: func(ctx context.Context) error { return n.reserve(ctx, 0) },
		LeaderLink: n.leaderLink, Formats: n.cfg.Formats, Limits: n.cfg.Edges, Logger: n.log, Registerer: n.cfg.Registerer,
		Propose: func(ctx context.Context, cmd *statepb.Command) (state.Outcome, error) {
			_, out, err := n.propose(ctx, cmd) // the hub's own pass the gate: a hand-over waits for one of them
			return out, err
		},
	})
	store, err := raftstore.Open(raftstore.Config{
		ID: n.cfg.ID, Dir: filepath.Join(n.cfg.Dir, storeDir), Listener: n.cfg.Raft, Advertise: n.cfg.AdvertiseRaft, Bootstrap: n.cfg.Bootstrap,
		FS: n.cfg.FS, Transport: n.cfg.RaftTransport, Dial: n.cfg.Dial, Speaks: dial.Speaks, Version: n.cfg.Version, About: n.about(), NewestFormat: n.cfg.Formats.Newest, Wall: n.cfg.Wall, ClockOff: n.clockOff, Unfit: n.unfit,
		HeartbeatTimeout: n.cfg.HeartbeatTimeout, DeadServerAfter: n.cfg.DeadServerAfter, MinVoters: n.cfg.MinVoters, DiskReserveBytes: n.cfg.DiskReserve, BallastBytes: n.cfg.Ballast, OpenFiles: n.cfg.OpenFiles, CacheBytes: n.cfg.CacheSize, Logger: seldom.Logger(n.log), Flush: n.cfg.Flush, Registerer: n.cfg.Registerer, Lead: n.lead,
		LeaderSeen: n.leaders.seen,
	}, n.state)
	if err != nil {
		return fmt.Errorf("open the state in %s: %w", n.cfg.Dir, err)
	}
	n.store = store
	n.clocks.export(n.cfg.Registerer)
	n.exportState(n.cfg.Registerer)
	n.hub.Attach(store)
	calls := api.New(api.Config{
		Store: n, Hub: n.hub, Billing: n.billing, Recover: n.recover.Ask, Nodes: nodes{store, n}, StartToken: n.startToken(), Formats: n.cfg.Formats, Forward: n.forward, FromNode: n.fromNode, Cluster: n.state.Cluster, Debris: n.state.Debris, Orgs: n.state.Orgs, Now: n.Now, Time: n.time, Told: n.Told, OpenSignup: n.cfg.OpenSignup, MaxOrgs: n.cfg.MaxOrgs, DefaultVersion: n.cfg.DefaultVersion,
		Logger: n.log, Registerer: n.cfg.Registerer, Changed: n.cfg.Changed,
	})
	n.http = wire.NewServer(calls.Handler(), wire.Options{
		Log: n.log, NoDate: n.cfg.NoDate, BodyRoom: n.cfg.BodyRoom, Whose: n.whose, Registerer: n.cfg.Registerer,
		Refuses: func(ctx *fasthttp.RequestCtx, r *wire.Request) *wire.Error {
			if _, leads := n.store.Leading(); !leads && !r.Route.Local {
				return nil // what this node knows of tokens may be old
			}
			return calls.Refuses(ctx, r)
		},
	})
	n.grpc = grpc.NewServer(link.ServerOptions()...)
	link.RegisterLinkServer(n.grpc, n.hub)
	return nil
}

// whose tells for whom a request is, the org of its key or else who is at its address, and whether an edge or a node of ours hands it on. Admins who call this node itself
// share what strangers get of the room for bodies.
func (n *Node) whose(ctx *fasthttp.RequestCtx, r *wire.Request) (who wire.Party, known bool) {
	values := ctx.Request.Header.PeekAll(wire.EdgeHeader)
	known = len(values) == 1 && n.hub.Edge(string(values[0])) != "" || n.fromNode(ctx)
	if org, ok := n.orgOf(r); ok {
		copy(who[:], org)
		return who, known
	}
	addr, _ := netip.AddrFromSlice(ctx.RemoteIP())
	return wire.AddressParty(addr), known // keys and tokens that nobody has are as many as one likes
}

// orgOf finds the org of a request's key in what this node knows, which may be behind.
func (n *Node) orgOf(r *wire.Request) (org []byte, ok bool) {
	sum, err := r.OrgKey()
	if err != nil {
		return nil, false
	}
	view, err := n.store.View()
	if err != nil {
		return nil, false
	}
	defer func() { _ = view.Close() }() // nothing was written that could be lost
	key, err := state.NewReader(view.Reader()).Key(sum)
	return key.GetOrgId(), err == nil && key != nil
}

// lead runs one term of leadership (raftstore's Config.Lead).
func (n *Node) lead(ctx context.Context, term uint64) {
	select {
	case <-n.ready:
	case <-ctx.Done():
		return
	}
	select {
	case <-n.clocks.known:
	case <-ctx.Done():
		return
	}
	if !n.begin(ctx) {
		return
	}
	ctx, end := context.WithCancel(ctx)
	var work sync.WaitGroup
	work.Go(func() { n.keepReserved(ctx) })
	work.Go(func() { n.reconcile(ctx) })
	work.Go(func() { n.expireSignups(ctx) })
	work.Go(func() { n.watchMembers(ctx) })
	n.hub.Lead(ctx, term)
	end()
	work.Wait()
}

// Propose replicates a command and returns its index and outcome. Its errors are
// raftstore's. During a hand-over it waits.
func (n *Node) Propose(ctx context.Context, cmd *statepb.Command) (uint64, state.Outcome, error) {
	if err := n.gate.enter(ctx); err != nil {
		return 0, state.Outcome{}, err
	}
	defer n.gate.leave()
	return n.propose(ctx, cmd)
}

func (n *Node) propose(ctx context.Context, cmd *statepb.Command) (uint64, state.Outcome, error) {
	at := n.store.Format()
	if f := n.cfg.Formats.Beyond(at, cmd); f != nil { // a node that does not know it would stop, or misread it
		return 0, state.Outcome{}, &format.UpgradeError{Feature: f.Name, At: at, To: f.Format}
	}
	if !n.clockFits() {
		return 0, state.Outcome{}, errSkewed
	}
	raw, err := state.Encode(cmd)
	if err != nil {
		return 0, state.Outcome{}, err
	}
	res, err := n.store.ProposeWith(ctx, raw, treated(cmd))
	if err != nil {
		return 0, state.Outcome{}, err
	}
	out, ok := res.Outcome.(state.Outcome)
	if !ok {
		return 0, state.Outcome{}, fmt.Errorf("%w: a command came to %T", raftstore.ErrOutcomeUnknown, res.Outcome)
	}
	return res.Index, out, nil
}

// treated says how raftstore is to treat a command.
func treated(cmd *statepb.Command) raftstore.ProposeOptions {
	return raftstore.ProposeOptions{Essential: state.Stops(cmd), Urgent: state.Leads(cmd), Large: state.Large(cmd), For: state.For(cmd)}
}

// Read returns a view no older than the call, in a time that may be told.
func (n *Node) Read(ctx context.Context) (*raftstore.View, error) {
	if err := n.reserve(ctx, 0); err != nil {
		return nil, err
	}
	return n.store.Read(ctx)
}

// View returns what this node has now, which may be behind the leader's.
func (n *Node) View() (*raftstore.View, error) {
	return n.store.View()
}

// Ready says why the node is not ready, nothing if it is. What it tells people to type works as it is.
func (n *Node) Ready() []string {
	why := n.reasons()
	for i := range why {
		why[i] = hint.Complete(why[i], n.cfg.Typed...)
	}
	return why
}

func (n *Node) reasons() []string {
	select {
	case <-n.ready:
	default:
		return []string{"state: still opening"}
	}
	if why := n.joining.Load(); why != nil {
		return []string{*why}
	}
	why := n.store.Reasons()
	if seeding := n.seeding.Load(); seeding != nil {
		why = append(why, *seeding)
	}
	if fault := n.clockFault(); fault != "" {
		why = append(why, "clock: this node decides nothing: "+fault)
	}
	if len(why) > 0 {
		return why
	}
	if _, leads := n.store.Leading(); leads && !n.hub.Leading() {
		return []string{"link: this node leads and does not accept edges yet"}
	}
	return nil
}
