// Package hub is the authority's end of the link (DESIGN.md of the project, The link): it keeps
// one session per edge, gives leases, answers fetches, and lets a change return
// only when no edge can answer from before it any more.
//
// Order of locks: Hub.mu, session.mu, change.mu. None is held across I/O.
package hub

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/raftstore"
	"machineid/shared/clock"
	"machineid/shared/format"
	"machineid/shared/link"
	"machineid/shared/seldom"
)

// Config is what a Hub needs; Registerer may be nil.
type Config struct {
	ID          string
	HTTPAddress string // where this node answers HTTP, told to edges
	Times       Times
	Clock       clock.Clock
	State       *state.Machine
	// Propose runs a command of the hub's own: the record of open leases (I8).
	Propose func(context.Context, *statepb.Command) (state.Outcome, error)
	// LeaderLink is the link address of the node that leads, "" if none is known; nil: there is no other.
	LeaderLink func() string
	// Now is the time in milliseconds that the hub's own commands carry: Told, or what comes to the same.
	Now func() int64
	// Time is the authority's time in milliseconds and whether edges may be told it now; nil: Now, and they may. It never goes back.
	Time func() (ms int64, ok bool)
	// Reserve makes Time fit to be told, if that can be; nil: it always is.
	Reserve func(context.Context) error
	// Formats says what an edge must understand at which format; nil: this program's.
	Formats    *format.Table
	Limits     Limits
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// Times are the leader's settings; edges are told (I1, I5).
type Times struct {
	Lease    time.Duration // D
	CacheTTL time.Duration
	Bound    float64 // ρ, the bound on a clock's rate
}

// Stretched is S: how long the leader waits to be sure that an edge has counted D.
func (t Times) Stretched() time.Duration { return clock.Stretch(t.Lease, t.Bound) }

// Store is what the hub needs of raftstore.Store.
type Store interface {
	Leading() (term uint64, ok bool)
	Confirm(ctx context.Context) (term uint64, err error)
	View() (*raftstore.View, error)
	ReignAt(index uint64) (raftstore.Reign, bool)
	Judge(index, term uint64, id raftstore.ReignID) raftstore.Verdict
	// Format is the cluster's, as far as this node has applied.
	Format() int
}

// Errors of Settle.
var (
	// ErrNotLeading says that this node does not lead, so it cannot tell whether
	// a change has reached the edges.
	ErrNotLeading = errors.New("this node does not lead")
	// ErrPending says that the time was up before every edge had acknowledged.
	ErrPending = errors.New("the change is committed but not yet known to be at every edge")
)

// Hub is safe for concurrent use.
type Hub struct {
	link.UnimplementedLinkServer

	cfg     Config
	store   Store
	log     *slog.Logger
	metrics metrics
	feed    feed
	horizon horizon

	sightings  sightings
	voice      *voice
	hellos     meter
	siteHellos meter
	work       work
	conns      conns
	outgoing   atomic.Int64 // bytes that wait to be sent to edges
	// leads, unrecorded and unsent are lines of the log.
	leads, unrecorded, unsent seldom.Line

	mu         sync.Mutex
	reign      *reign        // nil while this node does not lead
	changed    chan struct{} // closed and replaced when reign or dispatched changes
	spokenAt   int           // the format of the cluster when something was told last
	dispatched uint64        // every session has been queued what this index concerns
	recent     [recentMax]*change
	ring       ring
	unsettled  map[*change]struct{}
	tokens     map[string]*session
}

// recentMax is how many changes are kept after they have settled, for callers
// that come to ask a moment later.
const recentMax = 8192

// New returns a Hub. It hears of changes through Notify at once, and leads when
// Lead is called; Run dispatches.
func New(cfg Config) *Hub {
	if cfg.Time == nil {
		cfg.Time = func() (int64, bool) { return cfg.Now(), true }
	}
	if cfg.Formats == nil {
		cfg.Formats = &format.Current
	}
	cfg.Limits = cfg.Limits.withDefaults()
	h := &Hub{
		voice: newVoice(cfg.Logger, cfg.Clock), hellos: cfg.Limits.hellos(), siteHellos: cfg.Limits.ofSites().hellos(), work: newWork(runtime.GOMAXPROCS(0)),
		cfg: cfg, log: cfg.Logger, changed: make(chan struct{}), tokens: map[string]*session{},
		unsettled: map[*change]struct{}{}, feed: feed{wake: make(chan struct{}, 1)},
	}
	h.leads.Most = seldom.Changes
	h.horizon = horizon{rate: (1 - cfg.Times.Bound) / (1 + cfg.Times.Bound), span: cfg.Times.Stretched(), time: cfg.Time}
	h.metrics = newMetrics(cfg.Registerer, h)
	return h
}

// Attach gives the hub its store, once, before any other method but Notify.
func (h *Hub) Attach(s Store) { h.store = s }

// Leading reports whether this node leads and takes sessions.
func (h *Hub) Leading() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reign != nil && !h.reign.closing
}

// Told is the time in milliseconds by which the authority may judge: no edge that may answer is behind it, but for what EdgesMayBeBehind says (I11).
func (h *Hub) Told() int64 { return h.horizon.least(h.cfg.Clock.Now()) }

// EdgesMayBeBehind reports whether leases of another leader may be out (I8), by which an edge may be behind Told.
func (h *Hub) EdgesMayBeBehind() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	term, leads := h.store.Leading() // a deposed node may have applied what its successor did
	return !leads || h.reign == nil || h.reign.term != term || h.reign.held(h.cfg.Clock.Now()) > 0
}

// Notify takes what one index concerns (state.New). It never blocks.
func (h *Hub) Notify(index uint64, concerns []state.Concern) {
	h.feed.put(notice{index: index, concerns: concerns})
}

// Restored says that the state came to index at once: what has changed up to there
// is not known, so no edge can go on from before (state.OnRestored, I7).
func (h *Hub) Restored(index uint64) { h.feed.put(notice{index: index, restored: true}) }

// Run dispatches changes in index order until ctx ends.
func (h *Hub) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-h.feed.wake:
		}
		for _, item := range h.feed.take() {
			h.dispatch(item)
		}
	}
}

// feed is the queue between Apply and the dispatch: Apply must not wait for a
// session's lock.
type feed struct {
	wake chan struct{}

	mu     sync.Mutex
	items  []notice
	newest uint64 // index that was put last
}

func (f *feed) last() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.newest
}

type notice struct {
	index    uint64
	concerns []state.Concern
	restored bool
}

func (f *feed) put(n notice) {
	f.mu.Lock()
	f.items = append(f.items, n)
	f.newest = n.index
	f.mu.Unlock()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *feed) take() []notice {
	f.mu.Lock()
	defer f.mu.Unlock()
	items := f.items
	f.items = nil
	return items
}

// dispatch queues an Invalidate for one index on every session that may hold what
// it concerns, and notes until when each may still answer from before it (I2, I6).
func (h *Hub) dispatch(n notice) {
	ch := newChange(n.index, h.cfg.Clock.Now())
	hashes := h.hash(n.concerns, ch)

	h.mu.Lock()
	h.endOlder()
	if n.restored {
		h.ring.reset(n.index)
	}
	h.ring.add(n.index, hashes)
	if r := h.reign; r != nil {
		if by, _ := h.store.ReignAt(n.index); by.ID != r.id {
			h.reign = nil // a later leader wrote it: its term is over, and its sessions hear of nothing that is not of it (I13)
		}
	}
	ch.reign = h.reign
	if h.reign != nil {
		for s, held := range h.reign.holders(hashes) {
			s.invalidate(&link.Invalidate{Index: n.index, Hashes: held}, ch)
		}
	}
	waits := ch.seal()
	h.dispatched = n.index
	if len(hashes) > 0 {
		h.recent[n.index%recentMax] = ch
	}
	if waits {
		h.unsettled[ch] = struct{}{}
	}
	h.broadcast()
	h.mu.Unlock()
	if waits {
		go h.await(ch)
	}
}

// broadcast wakes those that wait for the reign or the dispatch. h.mu is held.
func (h *Hub) broadcast() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// hash turns concerns into the hashes that sessions are told, each once.
func (h *Hub) hash(concerns []state.Concern, ch *change) []uint64 {
	if len(concerns) == 0 {
		return nil
	}
	hasher, err := link.NewHasher(h.cfg.State.Cluster().GetHashKey())
	if err != nil {
		// The seed is the first command of a cluster; before it nobody holds anything.
		return nil
	}
	seen := make(map[uint64]struct{}, len(concerns))
	hashes := make([]uint64, 0, len(concerns))
	ch.orgs = make(map[state.OrgID]struct{}, 1)
	for i := range concerns {
		c := &concerns[i]
		var v uint64
		switch c.Kind {
		case state.ConcernKey:
			v = hasher.Key(&c.Key)
		case state.ConcernHolder:
			v = hasher.Org((*[16]byte)(&c.Org))
		case state.ConcernOccupant:
			v = hasher.Device((*[16]byte)(&c.Org), []byte(c.Occupant))
		}
		ch.orgs[c.Org] = struct{}{}
		if _, dup := seen[v]; !dup {
			seen[v] = struct{}{}
			hashes = append(hashes, v)
		}
	}
	return hashes
}
