// Package edge is the edge node: it answers validate from memory and passes every
// other call on to the authority (DESIGN.md beside this file).
//
// It guarantees that it answers from memory only under a lease (I1), never from
// before a change that it has acknowledged (I3), and otherwise says
// SYSTEM_UNAVAILABLE: it never guesses.
package edge

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"machineid/shared/clock"
	"machineid/shared/dial"
	"machineid/shared/format"
	"machineid/shared/openapi"
	"machineid/shared/page"
	"machineid/shared/seldom"
	"machineid/shared/wire"
)

// Config is what an Edge needs. ID, Authority, HTTP, Logger and Registerer are
// required.
type Config struct {
	ID      string
	Version string
	// Authority lists link addresses of authority nodes.
	Authority []string
	// Cluster is the name of the cluster that the edge keeps to; empty: the first that it meets.
	Cluster string
	// HTTP is where agents ask. The Edge owns it.
	HTTP net.Listener
	// MaxWait bounds how long a validate waits for the link or its fetch (I9).
	MaxWait time.Duration
	// CacheEntries bounds how many devices are remembered, and how many keys: [MinCacheEntries] to [MaxCacheEntries].
	CacheEntries int64
	// Limits bound what the authority is asked. The zero value is no limit.
	Limits Limits
	// TrustedProxies are believed what they say in X-Forwarded-For.
	TrustedProxies []netip.Prefix
	// ProxyOperator has operators' calls passed on, but for those that answer with a stream.
	ProxyOperator bool
	// ProxyConns bounds the connections over which calls are passed on; 0 is 4096.
	ProxyConns int
	// BodyRoom bounds what bodies and large answers under way hold, in bytes; 0 is wire.DefaultBodyRoom.
	BodyRoom int64
	// Dial replaces TCP, to the link and to HTTP, in tests. NoDate leaves out the header Date, for virtual time.
	Dial       func(ctx context.Context, addr string) (net.Conn, error)
	NoDate     bool
	Clock      clock.Clock
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Defaults of Config.
const (
	DefaultMaxWait      = 250 * time.Millisecond
	DefaultCacheEntries = 1_000_000
)

// Bounds of Config.CacheEntries. ristretto v2.4.2 panics, at its first eviction, with a cache of one entry; some of ours get an eighth.
const (
	MinCacheEntries = 1_000
	MaxCacheEntries = 100_000_000
)

// Edge is safe for concurrent use.
type Edge struct {
	cfg      Config
	log      *slog.Logger
	clock    clock.Clock
	process  [16]byte // random, new at each start (I2)
	metrics  metrics
	caches   *caches
	server   *wire.Server
	link     *linker
	proxy    *proxy
	document *openapi.Page
	sight    *sightings
	limits   *limits
	asked    atomic.Int64 // a clock.Time: when the newest grant was asked for
	formats  *format.Table
	unsent   seldom.Line // of the log

	// The order of reading is clock, lease, memory, entry, its expiry, floor (I3).
	lease  atomic.Int64 // a clock.Time: answers from memory end then (I1)
	memory atomic.Pointer[memory]
	time   authorityTime

	waiting  atomic.Int64
	crowd    *wire.Crowd // of those that wait
	draining atomic.Bool

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when the link's state changes
	lostAt  clock.Time    // since when the link has been down; 0 while it is up
}

// New returns an Edge that Run starts. It does no I/O.
func New(cfg Config) (*Edge, error) {
	if cfg.MaxWait == 0 {
		cfg.MaxWait = DefaultMaxWait
	}
	if cfg.CacheEntries == 0 {
		cfg.CacheEntries = DefaultCacheEntries
	}
	if cfg.CacheEntries < MinCacheEntries || cfg.CacheEntries > MaxCacheEntries {
		return nil, fmt.Errorf("remember %d devices: choose %d to %d", cfg.CacheEntries, MinCacheEntries, MaxCacheEntries)
	}
	if cfg.Clock == nil {
		cfg.Clock = clock.System()
	}
	if cfg.ProxyConns == 0 {
		cfg.ProxyConns = maxConns
	}
	if cfg.Dial == nil {
		cfg.Dial = dial.TCP
	}
	c, err := newCaches(cfg.CacheEntries)
	if err != nil {
		return nil, err
	}
	e := &Edge{
		cfg: cfg, log: cfg.Logger, clock: cfg.Clock, caches: c, formats: &format.Current,
		crowd: wire.NewCrowd(maxWaiting, 0), changed: make(chan struct{}), lostAt: max(cfg.Clock.Now(), 1),
	}
	_, _ = rand.Read(e.process[:]) // never fails
	e.metrics = newMetrics(cfg.Registerer, e)
	e.sight = newSightings(&e.metrics)
	e.limits = newLimits(cfg.Limits, cfg.Clock)
	e.proxy = newProxy(e)
	e.link = newLinker(e)
	e.document = openapi.New(e.answers)
	e.server = wire.NewServer(e.handle, wire.Options{
		Log: cfg.Logger, NoDate: cfg.NoDate, Match: e.match, BodyRoom: cfg.BodyRoom, Whose: e.whose, Registerer: cfg.Registerer,
	})
	return e, nil
}

// whose tells for whom a request is: the org of its key, as the authority said when it found it good, else the key or the operator's token, or the address of who shows
// neither. It is known if it was good when the authority was asked last.
func (e *Edge) whose(ctx *fasthttp.RequestCtx, r *wire.Request) (who wire.Party, known bool) {
	if r.Route != nil {
		if shown, _, ok := shows(r); ok {
			return e.partyOf(&shown, e.clientAddress(ctx))
		}
	}
	return wire.AddressParty(e.clientAddress(ctx)), false
}

// partyOf is whose of a credential.
func (e *Edge) partyOf(shown *credential, from netip.Addr) (who wire.Party, known bool) {
	switch p := e.limits.proof(shown); {
	case p == nil:
		return wire.AddressParty(from), false // keys that nobody has are as many as one likes
	case p.org == orgID{}:
		return wire.Party(*shown), true
	default:
		copy(who[:], p.org[:])
		return who, true
	}
}

// match finds the routes that the edge serves: operators' calls are none, unless it is told so.
func (e *Edge) match(path []byte) *wire.Route {
	if r := wire.Match(path); r != nil && e.answers(r) {
		return r
	}
	return nil
}

// answers tells whether the edge has an answer to the calls of a shared route.
func (e *Edge) answers(r *wire.Route) bool {
	return !r.Operator || e.cfg.ProxyOperator && !r.Stream
}

// drainTime bounds how long requests under way may take at the end.
const drainTime = 10 * time.Second

// Run serves until ctx ends, then drains: requests under way are answered, and
// the lease is given back so that no change has to wait for it.
func (e *Edge) Run(ctx context.Context) error {
	linkCtx, stopLink := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLink()
	var work sync.WaitGroup
	work.Go(func() { e.link.run(linkCtx) })
	served := make(chan error, 1)
	go func() { served <- e.server.Serve(e.cfg.HTTP) }()

	var err error
	select {
	case err = <-served:
		err = fmt.Errorf("serve HTTP on %s: %w", e.cfg.HTTP.Addr(), err)
	case <-ctx.Done():
		e.draining.Store(true)
		e.log.LogAttrs(linkCtx, slog.LevelInfo, "draining")
		drain, cancel := context.WithTimeout(linkCtx, drainTime)
		err = e.server.ShutdownWithContext(drain)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("requests were still under way after %v", drainTime)
		}
	}
	e.link.giveBack(linkCtx)
	stopLink()
	work.Wait()
	e.proxy.close()
	if err == nil {
		e.caches.close() // not under requests: ristretto's Close races with its Get
	}
	return err
}

// Ready says why the edge is not ready, nothing if it is.
func (e *Edge) Ready() []string {
	var why []string
	if e.draining.Load() {
		why = append(why, "draining: the process is stopping")
	}
	now := e.clock.Now()
	if now >= clock.Time(e.lease.Load()) {
		why = append(why, "lease: none, so every validate answers SYSTEM_UNAVAILABLE")
	}
	e.mu.Lock()
	lost := e.lostAt
	e.mu.Unlock()
	if lost != 0 {
		why = append(why, fmt.Sprintf("link: no session with the authority for %v; addresses tried: %v",
			now.Sub(lost).Round(time.Millisecond), e.cfg.Authority))
		why = append(why, e.link.strangers()...)
	}
	return why
}

// handle answers one request that keeps the rules of a head.
func (e *Edge) handle(ctx *fasthttp.RequestCtx) {
	r := wire.From(ctx)
	switch {
	case r.Route == nil:
		if !e.document.Serve(ctx, r) && !page.Serve(ctx, r) {
			r.Error(ctx, wire.NotFound())
		}
	case r.Route.Validate:
		e.validate(ctx, r)
	case r.Route.Decides:
		e.validateBatch(ctx, r)
	default:
		e.proxy.pass(ctx, r)
	}
}

// awake returns a channel that is closed at the next change of the link's state,
// and since when the link has been down (0: it is up).
func (e *Edge) awake() (changed <-chan struct{}, lostAt clock.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.changed, e.lostAt
}

// up and down tell those that wait that the link's state has changed.
func (e *Edge) up() { e.linkIs(0) }

func (e *Edge) down() {
	e.mu.Lock()
	since := e.lostAt
	e.mu.Unlock()
	if since == 0 {
		since = max(e.clock.Now(), 1)
	}
	e.linkIs(since)
}

func (e *Edge) linkIs(lostAt clock.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lostAt = lostAt
	close(e.changed)
	e.changed = make(chan struct{})
}
