// Package api is the authority's HTTP API: a request comes in, its caller is found out, one command is proposed or one view
// is read, and an answer goes out (docs/api.md).
//
// What it guarantees: a call that changes or reports a state is answered with success, or with a refusal decided from that
// state, only when the last change of it is in force at every edge (I2). No call can forget it: a command is
// proposed by request.commit alone and a view opened by request.look alone, and neither hands on what it saw before it
// has settled; only validate, which promises less, looks without. Nothing is proposed after a request's time is up. No key
// and no token is ever logged, stored or answered, but for new keys in the answers of org/create, org/keys, org/keys/rotate
// and org/recover/confirm.
//
// DESIGN.md beside this file lists what we chose where the contract is silent.
package api

import (
	"context"
	"encoding/hex"
	"errors"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"machineid/authority/billing"
	"machineid/authority/hub"
	"machineid/authority/recovery"
	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/raftstore"
	"machineid/shared/format"
	"machineid/shared/openapi"
	"machineid/shared/page"
	"machineid/shared/wire"
)

// Config is what an API needs. Store, Hub, Cluster and Now are required.
type Config struct {
	Store Store
	Hub   Hub
	// Cluster returns what all nodes share, nil before the cluster's first command.
	Cluster func() *statepb.Cluster
	// Formats says what belongs to which format; nil: this program's.
	Formats *format.Table
	// Debris is what deleted orgs have left on this node; nil: nothing ever.
	Debris func() state.Debris
	// Orgs is how many orgs there are, 0 as long as nobody has counted (state.Machine.Orgs); nil: nobody does.
	Orgs func() uint64
	// Now is the time in milliseconds since 1970 that commands carry and are judged by: no edge that may answer is behind it.
	Now func() int64
	// Time is the authority's clock in the same milliseconds, for what is not in the state: a signature's age. nil: Now.
	Time func() int64
	// Told is Now as far as it may be told before a command carries it (I11); nil: all of it.
	Told func() int64
	// OpenSignup lets anyone call org/create.
	OpenSignup bool
	// MaxOrgs is how many orgs there may be for one more to be signed up; 0 is any number. Operators make more.
	MaxOrgs uint32
	// DefaultVersion is the API generation of new orgs, and of those whose record names none: 1 or 2. 0 means 2.
	DefaultVersion uint32
	// Forward hands a request on to the node that leads, and reports whether it has answered it; nil: this node answers all.
	Forward func(ctx *fasthttp.RequestCtx, in *wire.Request, began time.Time) bool
	// FromNode reports whether another node of the cluster hands a request on, whose word about its client is good.
	FromNode func(ctx *fasthttp.RequestCtx) bool
	// Billing speaks to Stripe; nil: it is not set up.
	Billing *billing.Service
	// Recover has an address mailed later, which somebody asked for; nil mails nobody. It must not block, and do the same for
	// every address.
	Recover func(mail string, by recovery.Asker)
	// StartToken is the SHA-256 of the operator's token that this node was started with, nil if there was none: operators show it while there is
	// no cluster.
	StartToken []byte
	// Nodes are the nodes of the cluster; nil: operators' calls about them are not served.
	Nodes Nodes
	// Logger takes what an operator should know; nil discards it.
	Logger *slog.Logger
	// Registerer receives the metrics; nil means none.
	Registerer prometheus.Registerer
	// Changed is told of each change that is in force everywhere and whose caller waited for that, by the audit's name of the action and the device or org it was
	// made to. It must not block; may be nil.
	Changed func(action, target string, p hub.Propagation)
}

// Store is the replicated state as the API uses it. It must be safe for concurrent use. The errors of all methods are
// raftstore's.
type Store interface {
	// Propose runs a command and returns the index it was applied at. raftstore.Unknown tells whether a command that failed
	// may still take effect. A command whose ctx has ended is not sent.
	Propose(ctx context.Context, cmd *statepb.Command) (index uint64, out state.Outcome, err error)
	// Read returns a view that holds every change acknowledged before the call.
	Read(ctx context.Context) (*raftstore.View, error)
	// View returns what this node has now, which may be behind the leader's.
	View() (*raftstore.View, error)
}

// Hub tells when a change has reached the edges; *hub.Hub is one. It must be safe for concurrent use.
type Hub interface {
	Settle(ctx context.Context, index uint64) (hub.Propagation, error)
	SettleOrg(ctx context.Context, index uint64, org state.OrgID) error
	// Progress tells how far an org's change at index has come, and waits for no edge.
	Progress(ctx context.Context, index uint64, org state.OrgID) (hub.Progress, error)
	// EdgesMayBeBehind reports whether an edge may answer by what another leader gave it, and so may be behind the authority's time.
	EdgesMayBeBehind() bool
	Edge(token string) string
	// Sessions lists the edges, nil if this node does not lead.
	Sessions() []hub.Session
	// Seen notes that a device asked, which may not exist (I10). It never blocks.
	Seen(org state.OrgID, device string, atMs int64)
	// Used notes that a key, by its SHA-256, was used (I10). It never blocks.
	Used(keyHash [32]byte, atMs int64)
}

// API serves the calls. It is safe for concurrent use.
type API struct {
	cfg       Config
	log       *slog.Logger
	endpoints map[*wire.Route]*endpoint
	unknown   *endpoint
	document  *openapi.Page
	turns     *turns
	batches   oneOfEach
	bodies    bodies
	metrics   metrics
}

// endpoint is one route with all that is made once for it.
type endpoint struct {
	call    *call // nil where nothing is served yet
	metrics endpointMetrics
}

// New returns an API that serves the shared routes. It does no I/O.
func New(cfg Config) *API {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Billing == nil {
		cfg.Billing = billing.New(billing.Config{})
	}
	if cfg.Formats == nil {
		cfg.Formats = &format.Current
	}
	if cfg.Time == nil {
		cfg.Time = cfg.Now
	}
	if cfg.Told == nil {
		cfg.Told = cfg.Now
	}
	if cfg.Orgs == nil {
		cfg.Orgs = func() uint64 { return 0 }
	}
	if cfg.DefaultVersion == 0 {
		cfg.DefaultVersion = 2
	}
	m := newMetrics(cfg.Registerer)
	a := &API{
		cfg: cfg, log: cfg.Logger, metrics: m,
		endpoints: make(map[*wire.Route]*endpoint),
		unknown:   &endpoint{metrics: m.of(wire.UnknownHandler)},
		document:  openapi.New(nil),
		turns:     newTurns(cfg.Registerer),
		bodies:    newBodies(),
	}
	for _, route := range wire.Routes() {
		label := route.Handler
		if label == "" {
			label = route.Path
		}
		e := &endpoint{metrics: m.of(label)}
		if c, ok := calls[route.Path]; ok {
			e.call = &c
		}
		a.endpoints[route] = e
	}
	return a
}

// Handler answers every request; it is to be served by wire.NewServer, which judges head, method and size before.
func (a *API) Handler() fasthttp.RequestHandler { return a.handle }

// Refuses judges by its head alone a request whose body has not been asked for (wire.Options): a wrong key or token, at the node that leads.
func (a *API) Refuses(ctx *fasthttp.RequestCtx, in *wire.Request) *wire.Error {
	e := a.endpoints[in.Route]
	if e == nil || e.call == nil || e.call.raw {
		return nil
	}
	r := a.request(ctx, in, time.Now())
	if err := e.call.access.present(r); err != nil {
		if answer := r.fault(err); answer.HTTP/100 == 4 {
			return answer
		}
	}
	return nil
}

func (a *API) handle(ctx *fasthttp.RequestCtx) {
	began := time.Now()
	in := wire.From(ctx)
	e := a.endpoints[in.Route]
	if e == nil {
		e = a.unknown
	}
	if in.Route != nil && !in.Route.Local && a.cfg.Forward != nil && a.cfg.Forward(ctx, in, began) {
		e.metrics.observe(ctx.Response.StatusCode(), time.Since(began))
		return
	}
	r := a.request(ctx, in, began)
	switch {
	case in.Route != nil && in.Route.Validate:
		r.validate()
	case in.Route != nil && in.Route.Decides:
		r.validateBatch()
	case in.Route == nil && (a.document.Serve(ctx, in) || page.Serve(ctx, in)):
	case e.call == nil:
		in.Error(ctx, wire.NotFound())
	default:
		answer, err := r.serve(e.call)
		for range handedOverTimes {
			if err == nil || !r.handedOver(err) {
				break
			}
			if a.cfg.Forward(ctx, in, began) {
				e.metrics.observe(ctx.Response.StatusCode(), time.Since(began))
				return
			}
			r = a.request(ctx, in, began)
			answer, err = r.serve(e.call)
		}
		r.answer(answer, err)
		a.metrics.served(r, err, time.Since(began))
	}
	e.metrics.observe(ctx.Response.StatusCode(), time.Since(began))
}

// answer writes what a call came to. An edge is told whose key it was.
func (r *request) answer(answer any, err error) {
	if r.byEdge && r.caller != nil {
		r.http.Response.Header.Set(wire.KeyOrgHeader, hex.EncodeToString(r.org[:]))
	}
	if err != nil {
		r.http.Response.Header.Del(preferenceApplied) // of a command before the one that failed
		r.in.Error(r.http, r.fault(err))
		return
	}
	switch a := answer.(type) {
	case streamed:
	case *long:
		r.write(a)
	default:
		r.in.JSON(r.http, r.status, a)
	}
}

// serve runs a call. The order of its steps is the contract's order of checks.
func (r *request) serve(c *call) (any, error) {
	if err := c.access.present(r); err != nil {
		return nil, err
	}
	if err := r.parse(c); err != nil {
		return nil, err
	}
	if err := r.checkIdempotencyKey(); err != nil {
		return nil, err
	}
	do, err := c.parse(r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithDeadline(context.Background(), r.deadline)
	defer cancel()
	if do.change == nil {
		return r.paced(ctx, func() (any, error) { return c.access.admit(ctx, r, do.read) })
	}
	r.rejudged = do.rejudged
	if answer, err := c.access.admit(ctx, r, nil); err != nil {
		return answer, err
	}
	return r.settled(do.change(ctx))
}

// handedOverTimes bounds how often one request begins anew because the leadership went away under it.
const handedOverTimes = 3

// handedOver tells whether nothing came of the request because this node leads no more: another may serve it.
func (r *request) handedOver(err error) bool {
	u, ok := errors.AsType[*unavailable](err)
	return ok && r.api.cfg.Forward != nil && u.outcome == wire.OutcomeNotDone && time.Now().Before(r.deadline) &&
		(errors.Is(err, raftstore.ErrNotLeader) || errors.Is(err, hub.ErrNotLeading))
}

// fault is the answer to an error, and the one place where errors are logged: those that only an operator can do
// something about.
func (r *request) fault(err error) *wire.Error {
	if e, ok := errors.AsType[*wire.Error](err); ok {
		return r.forOperator(e)
	}
	if e, ok := errors.AsType[*wire.ParamError](err); ok {
		return e.AsError()
	}
	if e, ok := errors.AsType[*refusal](err); ok {
		return r.forOperator(e.answer())
	}
	if e := r.billingFault(err); e != nil {
		return e
	}
	if !expected(err) {
		r.api.log.LogAttrs(context.Background(), slog.LevelError, "request not answered",
			slog.String("path", r.in.Route.Path), slog.String("request_id", string(r.in.ID)), slog.Any("error", err))
	}
	if e, ok := errors.AsType[*unavailable](err); ok {
		return e.answer()
	}
	return wire.SystemUnavailable(wire.OutcomeUnknown, retryAfter)
}
