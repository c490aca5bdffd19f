package hub

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"

	"golang.org/x/sync/semaphore"
	"google.golang.org/grpc/codes"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"machineid/shared/link"
)

// fetchMax is how many fetches of one session may be under way.
const fetchMax = 4096

// Session serves one edge's stream (link.LinkServer).
func (h *Hub) Session(stream link.Link_SessionServer) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	address := remote(ctx)
	in := listen(ctx, stream)
	hello, err := h.begins(ctx, in, address)
	if err != nil {
		return err
	}
	s, why := h.join(ctx, hello, address, cancel)
	if why == whyNotLeading && h.expects(ctx) {
		s, why = h.join(ctx, hello, address, cancel)
	}
	if s == nil {
		addr := h.elsewhere()
		return h.tell(stream, &link.ToEdge{Goodbye: &link.Goodbye{Reason: why, LeaderAddress: addr}}, formatOf(hello))
	}
	h.say(ctx, slog.LevelInfo, s, "edge joined", slog.String("version", s.version))

	// A Send to an edge that does not read ends only when this method returns, so
	// nobody waits for the sender.
	unsent := make(chan error, 1)
	go func() {
		defer cancel()
		unsent <- h.send(ctx, s, stream)
	}()
	err = h.receive(ctx, s, in)
	select {
	case why := <-unsent:
		err = cmp.Or(why, err)
	default:
	}
	if s.deaf.Load() {
		h.metrics.refused[refusedDeaf].Inc()
		err = status.Error(codes.ResourceExhausted, "the edge does not read what it is sent")
	}
	switch {
	case s.deaf.Load(), s.sending.Load():
		h.conns.cut(address)
	case s.refused.Load():
		h.conns.cutSoon(address)
	}
	s.breakOff()
	h.leave(s)
	h.say(ctx, slog.LevelInfo, s, "edge left", slog.Any("error", err))
	return err
}

// say logs a line about a session's edge.
func (h *Hub) say(ctx context.Context, level slog.Level, s *session, message string, attrs ...slog.Attr) {
	h.voice.say(ctx, level, s.host, s.edgeID, message, attrs...)
}

// refuse ends a session because of what its edge does. Its lease counts until it ends, as booked (I2).
func (h *Hub) refuse(s *session, why refusal) {
	s.refused.Store(true)
	h.metrics.refused[why].Inc()
	h.say(context.Background(), slog.LevelWarn, s, "a session is ended by what its edge does", slog.String("because", reasons[why]))
	s.end(reasons[why], "")
}

// Why a session does not begin.
const (
	whyNotLeading = "this node does not lead"
	whyBehind     = "this node has heard of less than the edge: it does not lead any more"
	whyOvertaken  = "a later session of this process has come before"
	whyNoTime     = "this node cannot tell the time: its clock is off, or the time is not reserved yet"
	whyTooMany    = "there are too many edges, or too many at this address (--max-edges, --max-edges-per-address)"
	whyTooOften   = "too many sessions begin from this address"
)

// join books the session and puts it among those that are told of changes, in
// one step: what is dispatched later is sent, what was before is replayed, or in
// the state that an edge which begins with an empty memory will fetch (I7). Without a
// session it says why there is none.
func (h *Hub) join(ctx context.Context, hello *link.Hello, address string, cancel func()) (s *session, why string) {
	h.mu.Lock()
	r := h.reign
	h.mu.Unlock()
	cluster := h.cfg.State.Cluster()
	if r == nil || cluster == nil {
		return nil, whyNotLeading
	}
	host := hostOf(address)
	if now := h.cfg.Clock.Now(); !h.hellos.take(host, now) || siteOf(host) != host && !h.siteHellos.take(siteOf(host), now) {
		h.metrics.refused[refusedLimit].Inc()
		return nil, whyTooOften
	}
	if h.cfg.Reserve != nil && h.cfg.Reserve(ctx) != nil {
		return nil, whyNoTime
	}
	same, proven, why := h.judges(ctx, r, hello, host, cluster.GetIncarnation())
	if why != "" {
		return nil, why
	}
	h.mu.Lock()
	if h.reign != r || r.closing {
		h.mu.Unlock()
		return nil, whyNotLeading
	}
	if !h.room(r, hello, host) {
		h.mu.Unlock()
		h.metrics.refused[refusedLimit].Inc()
		h.voice.say(ctx, slog.LevelWarn, host, hello.GetEdgeId(), "an edge is turned away", slog.String("because", whyTooMany))
		return nil, whyTooMany
	}
	slot := r.takeSlot(host)
	h.mu.Unlock()
	goesOn := same && len(hello.GetHeld()) == link.HeldBytes
	var replay []*link.Invalidate
	from := hello.GetLastIndex()
	if goesOn {
		// Before the ring is read: what is dispatched from here on is sent.
		r.directory.hold(slot, hello.GetHeld())
		// Most of it is read without the lock: it may be a million.
		h.mu.Lock()
		past := h.ring.past()
		h.mu.Unlock()
		if replay, goesOn = past.replay(from, hello.GetHeld()); goesOn {
			from = max(from, past.newest())
		}
	}

	h.mu.Lock()
	defer h.mu.Unlock()
	if h.reign != r || r.closing {
		r.freeSlot(slot)
		return nil, whyNotLeading
	}
	if h.overtaken(hello) {
		r.freeSlot(slot)
		return nil, whyOvertaken
	}
	if why := h.tooOld(formatOf(hello)); why != "" { // under the lock: a raise that is applied from here on finds the session
		r.freeSlot(slot)
		h.voice.say(ctx, slog.LevelWarn, host, hello.GetEdgeId(), "an edge is turned away", slog.String("because", why))
		return nil, why
	}
	if goesOn {
		var rest []*link.Invalidate
		rest, goesOn = h.ring.past().replay(from, hello.GetHeld())
		replay = append(replay, rest...)
	}
	size := 0
	for _, msg := range replay {
		size += invalidateBytes(msg)
	}
	if len(replay) > replayMax || size > queueFair && h.outgoing.Load()+int64(size) > queuesMax {
		goesOn = false // to begin anew is cheaper
	}
	if !goesOn {
		replay, size = nil, 0
	}
	now := h.cfg.Clock.Now()
	s = &session{
		number: hello.GetSession(), slot: slot, format: formatOf(hello), invals: replay, bytes: size, outgoing: &h.outgoing,
		edgeID: hello.GetEdgeId(), version: hello.GetVersion(), address: address, host: host, process: [16]byte(hello.GetProcessId()),
		token: rand.Text(), reign: r, since: now, ackedAt: now, cancel: cancel, wake: make(chan struct{}, 1),
		// The process may hold a lease from an earlier session (I1.2), and from a leader whose
		// leases are longer.
		leaseEnd: max(now.Add(h.cfg.Times.Stretched()), r.inheritedEnd),
	}
	if hello.GetTerm() != 0 && !bytes.Equal(hello.GetReign(), r.id[:]) && !h.horizon.welcomed(s.leaseEnd) {
		r.freeSlot(slot)
		return nil, whyNoTime
	}
	s.welcome = &link.Welcome{
		Term: r.term, Incarnation: cluster.GetIncarnation(), ClusterId: cluster.GetClusterId(), AuthorityId: h.cfg.ID,
		Index: h.dispatched, HashKey: cluster.GetHashKey(), LeaseNs: int64(h.cfg.Times.Lease),
		CacheTtlNs: int64(h.cfg.Times.CacheTTL), HttpAddress: h.cfg.HTTPAddress, ProxyToken: s.token,
		Reset_: !goesOn, Reign: r.id[:], Proven: proven, Replaces: cluster.GetReplaces(),
	}
	if goesOn {
		h.metrics.resumed.Inc()
	} else {
		h.metrics.resets.Inc()
	}
	if old := r.of[s.process]; old != nil {
		s.takeOver(old)
		r.drop(old)
		delete(h.tokens, old.token)
	}
	s.count(size)
	r.sessions[s] = struct{}{}
	r.of[s.process] = s
	r.slots[slot].session = s
	h.tokens[s.token] = s
	s.wake <- struct{}{}
	return s, ""
}

// room reports whether one more session may begin. A process that has one already only changes it. h.mu is held.
func (h *Hub) room(r *reign, hello *link.Hello, host string) bool {
	if r.of[[16]byte(hello.GetProcessId())] != nil {
		return r.taken() < 2*h.cfg.Limits.Edges
	}
	return r.taken() < h.cfg.Limits.Edges && r.hosts.room(host, h.cfg.Limits.PerAddress, h.cfg.Limits.Edges)
}

// overtaken reports whether a Hello has arrived after a later one of its process: what it says
// is held is not what is (I7). h.mu is held.
func (h *Hub) overtaken(hello *link.Hello) bool {
	s := h.reign.of[[16]byte(hello.GetProcessId())]
	return s != nil && s.number > hello.GetSession()
}

// remote is the address at the other end of a stream, "" if it has none.
func remote(ctx context.Context) string {
	p, ok := grpcpeer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return ""
	}
	return p.Addr.String()
}

func (h *Hub) leave(s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.tokens, s.token)
}

// Edge returns the id of the edge whose session has this token, or "".
func (h *Hub) Edge(token string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.tokens[token]; s != nil {
		return s.edgeID
	}
	return ""
}

// send writes what waits until the stream ends. All that has gathered goes as
// one frame.
func (h *Hub) send(ctx context.Context, s *session, stream link.Link_SessionServer) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.wake:
		}
		f, bytes := s.take()
		if f == nil {
			continue
		}
		f.NowMs = h.frameTime() // after all that it tells was done
		s.sending.Store(true)
		err := h.tell(stream, f, s.format)
		s.sending.Store(false)
		s.count(-bytes)
		if _, is := errors.AsType[*unsentError](err); is {
			return err
		}
		if err != nil || f.Goodbye != nil {
			return nil //nolint:nilerr // what became of the stream is known where it is read
		}
	}
}

// frameTime is what an edge is told of the time beside what has happened. No command that it can have been told of carries a later one. Where the authority's time is
// beyond what is reserved it is that: an end that was set to now may be as late.
func (h *Hub) frameTime() int64 {
	ms, ok := h.cfg.Time()
	if !ok {
		ms = max(min(ms, h.cfg.State.Reserved()), h.cfg.State.Time())
	}
	return ms
}

// receive reads frames. Renewals are answered here, ahead of everything else;
// fetches by workers.
func (h *Hub) receive(ctx context.Context, s *session, in incoming) error {
	var work workers
	defer work.end()
	had := h.work.share()
	room := semaphore.NewWeighted(fetchMax)
	for {
		select {
		case <-ctx.Done():
			return h.ended(ctx, s, in)
		case err := <-in.failed:
			in.failed <- err
			return h.ended(ctx, s, in)
		case f := <-in.frames:
			if !h.paced(ctx, had, f) {
				return h.ended(ctx, s, in)
			}
			if renew := f.GetRenew(); renew != nil {
				h.grant(s, renew.GetAskedAtNs())
			}
			if ack := f.GetAck(); ack != nil {
				h.moved(s, ack)
				for _, took := range s.ack(ack.GetIndex(), ack.GetGaveBack(), h.cfg.Clock.Now()) {
					h.metrics.acks.Observe(took.Seconds())
				}
			}
			if list := f.GetFetches(); len(list) > 0 {
				n := int64(min(len(list), fetchMax))
				if room.TryAcquire(n) {
					work.do(func() {
						defer room.Release(n)
						h.read(ctx, s, had, list)
					})
				} else {
					s.answer(unavailable(list))
				}
			}
			if report := f.GetReport(); report != nil {
				h.report(s, report)
			}
		}
	}
}

// ended is why a session's stream has ended, nil if this node or the edge ended it in order.
func (h *Hub) ended(ctx context.Context, s *session, in incoming) error {
	if ctx.Err() != nil && in.over.Err() == nil {
		return nil // this node did
	}
	err := <-in.failed
	if h.unread(err) {
		s.refused.Store(true)
		return err
	}
	if errors.Is(err, io.EOF) || errors.Is(ctx.Err(), context.Canceled) {
		return nil // the edge has said all: it gave its lease back
	}
	return err
}

func (h *Hub) grant(s *session, askedAt int64) {
	received := h.cfg.Clock.Now()
	h.mu.Lock()
	dispatched := h.dispatched
	over := h.reign != s.reign
	h.mu.Unlock()
	if over {
		return
	}
	if s.renew(askedAt, received, h.cfg.Times, &h.horizon, dispatched) {
		h.metrics.grants.Inc()
	}
}

func unavailable(list []*link.Fetch) []*link.Answer {
	out := make([]*link.Answer, len(list))
	for i, f := range list {
		out[i] = &link.Answer{Id: f.GetId(), Unavailable: true}
	}
	return out
}
