package edge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"machineid/shared/dial"
	"machineid/shared/format"
	"machineid/shared/link"
	"machineid/shared/seldom"
)

// Times of the link.
const (
	// Pauses between sessions, with jitter.
	minPause, maxPause = 50 * time.Millisecond, 500 * time.Millisecond
	// minPatience is how long an authority node may take to welcome, and the least
	// time without a grant after which another is tried.
	minPatience = time.Second
	// giveBackTime bounds how long the end of a process waits to give its lease back.
	giveBackTime = time.Second
)

// linker keeps one session at a time with the authority's leader.
type linker struct {
	e       *Edge
	cluster allegiance
	// Of the Welcome that was accepted last: incarnations are in order, and so are the terms of one, unless it proved another history (I7, I13).
	incarnation []byte
	term        uint64
	reign       []byte

	begun uint64 // sessions that a Hello was made for

	memory *memory // the newest; nil before the first session
	epoch  uint32  // of it

	lost, found seldom.Line
	why         map[string]string // by address, why there is no session, as it was told; of the one goroutine that keeps sessions

	mu      sync.Mutex
	session *session            // the newest
	closing bool                // no session is begun any more
	foreign map[string]*foreign // by address; what the newest attempt met there
	heard   map[string]*dial.First
	others  map[string]string // by address: who the newest attempt met, where that is no --link

	clearing sync.WaitGroup
	busy     atomic.Bool
}

func newLinker(e *Edge) *linker {
	l := &linker{e: e, cluster: allegiance{name: e.cfg.Cluster, told: e.cfg.Cluster != ""}, foreign: map[string]*foreign{}, heard: map[string]*dial.First{}, others: map[string]string{}, why: map[string]string{}}
	l.lost.Most, l.found.Most = seldom.Changes, seldom.Changes
	return l
}

// run keeps a session up until ctx ends: with the node that the last one named as the
// leader, else with the configured ones in turn.
func (l *linker) run(ctx context.Context) {
	defer l.clearing.Wait()
	conns := map[string]*grpc.ClientConn{}
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	usable := l.e.cfg.Authority[:0:0]
	for _, addr := range l.e.cfg.Authority {
		if l.connect(ctx, conns, addr) { // an idle connection to every node, for when the leader goes
			usable = append(usable, addr)
		}
	}
	if len(usable) == 0 {
		<-ctx.Done()
		return
	}
	pause, next, named := minPause, 0, ""
	for ctx.Err() == nil {
		addr := named
		if addr == "" {
			addr = usable[next]
			next = (next + 1) % len(usable)
		}
		began := time.Now()
		if usable[next] == addr {
			next = (next + 1) % len(usable) // when this one ends, another is tried first
		}
		leader, err := l.hold(ctx, conns[addr], addr)
		if l.over(ctx) {
			return
		}
		if time.Since(began) > minPatience {
			pause = minPause
		}
		err = l.recognised(addr, err)
		var stranger *foreign
		errors.As(err, &stranger)
		l.met(ctx, addr, stranger)
		l.without(ctx, addr, err, stranger != nil)
		follows := named != ""
		if named = leader; named == addr || !l.connect(ctx, conns, named) {
			named = ""
		}
		if named != "" && !follows {
			continue // once without a pause: two nodes may name each other for a while
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause/2 + rand.N(pause/2)):
		}
		pause = min(2*pause, maxPause)
	}
}

// recognised says of an attempt that failed whom it met, where that is no --link. gRPC tells of it what only its programmers read.
func (l *linker) recognised(addr string, err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.others, addr)
	if l.heard[addr] == nil || err == nil {
		return err
	}
	who := l.heard[addr].Who()
	if who == "" || who == dial.Speaks(linkBegins) {
		return err
	}
	l.others[addr] = who
	return fmt.Errorf("%s %s, and is no --link: name the addresses of authority nodes' --link in --authority", addr, who)
}

// linkBegins is how a --link, which speaks HTTP/2, begins.
var linkBegins = []byte{0, 0, 0, 4}

// without tells that there is no session. Leaders come and go, and an authority that starts beside the edge may not lead yet, so that is information, once. If it lasts it is
// a warning: of each node once, until the node has another reason or there was a session.
func (l *linker) without(ctx context.Context, addr string, err error, told bool) {
	_, since := l.e.awake()
	of, why, level := addr, err.Error(), slog.LevelWarn
	if since == 0 || l.e.clock.Now().Sub(since) <= minPatience {
		of, why, level = "", "it has just been lost", slog.LevelInfo
	}
	attrs := []slog.Attr{slog.String("address", addr), slog.Any("error", err)}
	if told || l.why[of] == why {
		l.e.log.LogAttrs(ctx, slog.LevelDebug, "no session with the authority", attrs...)
		return
	}
	if len(l.why) < connsMax {
		l.why[of] = why
	}
	l.lost.Say(ctx, l.e.log, level, "no session with the authority", attrs...)
}

// connsMax bounds the connections to nodes, but for those that are configured.
const connsMax = 32

// connect has a connection to a node, and reports whether it could be made. It makes room by
// closing one to a node that was named before: none of those is in use.
func (l *linker) connect(ctx context.Context, conns map[string]*grpc.ClientConn, addr string) bool {
	switch {
	case conns[addr] != nil:
		return true
	case addr == "":
		return false
	}
	if len(conns) >= connsMax {
		for old, c := range conns {
			if !slices.Contains(l.e.cfg.Authority, old) {
				_ = c.Close() // nobody uses it
				delete(conns, old)
				l.mu.Lock()
				delete(l.heard, old)
				l.mu.Unlock()
				break
			}
		}
	}
	c, err := l.dial(addr)
	if err != nil {
		l.e.log.LogAttrs(ctx, slog.LevelError, "authority address not usable", slog.String("address", addr), slog.Any("error", err))
		return false
	}
	c.Connect()
	conns[addr] = c
	return true
}

func (l *linker) dial(addr string) (*grpc.ClientConn, error) {
	opts := append(link.DialOptions(),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: minPause, Multiplier: 1.6, Jitter: 0.2, MaxDelay: maxPause},
			MinConnectTimeout: minPatience,
		}),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			conn, err := l.e.cfg.Dial(ctx, addr)
			if err != nil {
				return nil, err
			}
			first := &dial.First{Conn: conn}
			l.mu.Lock()
			l.heard[addr] = first
			l.mu.Unlock()
			return first, nil
		}),
	)
	c, err := grpc.NewClient("passthrough:///"+addr, opts...)
	if err != nil {
		return nil, fmt.Errorf("dial the authority at %s: %w", addr, err)
	}
	return c, nil
}

// hold runs one session until it ends, and returns where the leader is if the node
// said so.
func (l *linker) hold(ctx context.Context, conn *grpc.ClientConn, addr string) (leader string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	patience := time.AfterFunc(minPatience, cancel)
	defer patience.Stop()
	stream, err := link.NewLinkClient(conn).Session(ctx, grpc.WaitForReady(true))
	if err != nil {
		return "", fmt.Errorf("open a session: %w", err)
	}
	l.begun++
	hello := &link.Hello{
		Session: l.begun,
		EdgeId:  l.e.cfg.ID, ProcessId: l.e.process[:], Version: l.e.cfg.Version,
		DecisionVersion: decisionVersion, Term: l.term, Reign: l.reign,
		Format: uint32(format.Current.Newest),
	}
	if m := l.memory; m != nil {
		hello.Incarnation, hello.LastIndex, hello.ReadIndex = m.incarnation, m.current, m.read
		hello.Held = m.holding.all(l.e.clock.Now(), m.ttl)
	}
	if err := l.e.tell(stream, &link.ToAuthority{Hello: hello}); err != nil {
		return "", fmt.Errorf("send a Hello: %w", err)
	}
	first, err := stream.Recv()
	if err != nil {
		return "", fmt.Errorf("wait for a Welcome: %w", err)
	}
	w := first.GetWelcome()
	if w == nil {
		g := first.GetGoodbye()
		return g.GetLeaderAddress(), fmt.Errorf("turned away: %s", g.GetReason())
	}
	s, err := l.accept(ctx, w, stream, addr)
	if err != nil {
		return "", err
	}
	return s.run(ctx, cancel, patience, first)
}

var errOldIncarnation = errors.New("the node's state is older than one already met: a copy of the past, or of a cluster that was replaced")

var errOldTerm = errors.New("the node leads an older term than one already met: it is deposed and does not know")

// goesOn reports whether the memory stays in force in a session (I7).
func (l *linker) goesOn(w *link.Welcome, hasher link.Hasher) bool {
	m := l.memory
	return !w.GetReset_() && m != nil && bytes.Equal(w.GetIncarnation(), m.incarnation) && hasher == m.hasher &&
		// Entries of another TTL would outlive the leader's idea of who holds what (I6).
		m.ttl == time.Duration(w.GetCacheTtlNs())
}

// accept begins a session. It goes on with the lease and the memory of the one
// before, or drops both.
func (l *linker) accept(ctx context.Context, w *link.Welcome, stream link.Link_SessionClient, addr string) (*session, error) {
	if f := l.cluster.refuses(w, addr); f != nil {
		return nil, f
	}
	anew := w.GetProven() && w.GetReset_() // what was met before is in no history any more, and nothing of it is kept (I13)
	switch c := bytes.Compare(w.GetIncarnation(), l.incarnation); {
	case c < 0:
		return nil, errOldIncarnation
	case c == 0 && w.GetTerm() < l.term && !anew:
		return nil, errOldTerm
	}
	hasher, err := link.NewHasher(w.GetHashKey())
	if err != nil {
		return nil, fmt.Errorf("welcome from %s: %w", addr, err)
	}
	if w.GetLeaseNs() <= 0 || w.GetCacheTtlNs() <= 0 {
		return nil, fmt.Errorf("welcome from %s: lease %d ns, cache TTL %d ns", addr, w.GetLeaseNs(), w.GetCacheTtlNs())
	}
	l.cluster.take(w)
	l.incarnation, l.term, l.reign = w.GetIncarnation(), w.GetTerm(), w.GetReign()
	s := &session{
		e: l.e, stream: stream, wake: make(chan struct{}, 1),
		lease: time.Duration(w.GetLeaseNs()), sole: len(l.e.cfg.Authority) == 1, renewDue: true,
	}
	s.flights = newFlights(s.fetch)
	s.flights.limits = l.e.limits
	if l.goesOn(w, hasher) {
		l.memory.flights.Store(s.flights)
		s.memory = l.memory
	} else {
		l.begin(w, hasher, s)
	}
	l.e.metrics.sessions.Inc()
	l.e.proxy.use(w.GetHttpAddress(), w.GetProxyToken())
	l.mu.Lock()
	l.session = s
	clear(l.foreign)
	clear(l.others)
	l.mu.Unlock()
	clear(l.why)
	l.found.Say(ctx, l.e.log, slog.LevelInfo, "session with the authority",
		slog.String("address", addr), slog.String("node", w.GetAuthorityId()), slog.Uint64("term", w.GetTerm()),
		slog.Duration("lease", s.lease))
	return s, nil
}

// begin drops lease and memory, and gives a session a new one.
func (l *linker) begin(w *link.Welcome, hasher link.Hasher, s *session) {
	l.epoch++
	l.memory = &memory{
		caches: l.e.caches, epoch: l.epoch, hasher: hasher, ttl: time.Duration(w.GetCacheTtlNs()), incarnation: w.GetIncarnation(),
		sight: l.e.sight,
	}
	l.memory.flights.Store(s.flights)
	s.memory = l.memory
	// First the lease, then the memory: nobody may read the old memory under a
	// lease of this session, or the new one under a lease of the old.
	l.e.lease.Store(0)
	l.e.memory.Store(l.memory)
	l.e.metrics.resets.Inc()
	l.clearSoon()
}

// clearSoon makes room in the caches without holding up the session: it takes some
// 0.2 µs an entry of room.
func (l *linker) clearSoon() {
	if l.epoch == 1 || l.busy.Swap(true) {
		return // there is nothing yet, or it is being done
	}
	l.clearing.Go(func() {
		defer l.busy.Store(false)
		l.e.caches.clear()
	})
}

// over reports whether no further session is wanted: a new one would be booked as
// a full lease, and take back what was given.
func (l *linker) over(ctx context.Context) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closing || ctx.Err() != nil
}

// giveBack drops the lease and tells the leader, so that no change waits for it.
func (l *linker) giveBack(ctx context.Context) {
	l.mu.Lock()
	s := l.session
	l.closing = true
	l.mu.Unlock()
	if s == nil {
		return
	}
	l.e.lease.Store(0)
	ctx, cancel := context.WithTimeout(ctx, giveBackTime)
	defer cancel()
	s.giveBack(ctx)
}
