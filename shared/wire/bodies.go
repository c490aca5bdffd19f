package wire

import (
	"errors"
	"io"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"

	"machineid/shared/budget"
)

// chunkedLength is what fasthttp's ContentLength says of a chunked body.
const chunkedLength = -1

const (
	// bodyAtOnce is how much of a body fasthttp reads by itself before the handler is called (readBodyWithStreaming); nearly every body is no longer.
	bodyAtOnce = 8 << 10
	// discardAtOnce is the buffer for what is read and thrown away.
	discardAtOnce = 1 << 10
	// answerSmall is the largest answer that takes no room while it leaves.
	answerSmall = MaxBody
	// strangersShare is the part of the room for bodies that those get whom nobody knows.
	strangersShare = 4
	// partyShare is the part of a pool that one party may have, beyond its first body or answer.
	partyShare = 4
)

// Party is who a request is made for, by whatever tells one from another: an org, a hash of a key, an address. The zero value is nobody in particular.
type Party [32]byte

// AddressParty is whoever is at an address, of IPv6 at its site: one host has as many addresses as it likes, and a site as many hosts.
func AddressParty(addr netip.Addr) (who Party) {
	b := budget.Network(addr.Unmap().WithZone(""), budget.SiteBits).As16()
	copy(who[len(who)-len(b):], b[:])
	return who
}

// DefaultBodyRoom is how many bytes bodies and large answers of all requests under way may hold together, without the first 8 KiB of each body.
const DefaultBodyRoom = 32 << 20

// bodies bounds what requests under way hold in memory: large bodies, as far as they have come, and large answers, until they have left. Who
// is not known to be good has a part of its own, so that a crowd of strangers takes no room from those who are.
type bodies struct {
	known, strangers pool
	refused          prometheus.Counter
}

func newBodies(room int64, reg prometheus.Registerer) *bodies {
	b := &bodies{refused: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "machineid_http_bodies_refused_total", Help: "Requests and answers refused because too many large ones were under way (--body-memory).",
	})}
	b.strangers.most = room / strangersShare
	b.known.most = room - b.strangers.most
	if reg != nil {
		reg.MustRegister(b.refused, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "machineid_http_body_bytes", Help: "Memory that large bodies and answers under way hold.",
		}, func() float64 { return float64(b.held()) }))
	}
	return b
}

// held is what is under way now, in bytes.
func (b *bodies) held() int64 { return b.known.now() + b.strangers.now() }

func (b *bodies) of(known bool) *pool {
	if known {
		return &b.known
	}
	return &b.strangers
}

// pool is an amount of memory in bytes that many share, and of which no party has more than its part.
type pool struct {
	most int64

	mu   sync.Mutex
	held int64
	by   map[Party]int64
}

func (p *pool) take(who Party, n int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	has := p.by[who]
	if p.held+n > p.most || who != (Party{}) && has > 0 && has+n > p.most/partyShare {
		return false
	}
	p.held += n
	if p.by == nil {
		p.by = map[Party]int64{}
	}
	p.by[who] = has + n
	return true
}

func (p *pool) give(who Party, n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held -= n
	if p.by[who] -= n; p.by[who] <= 0 {
		delete(p.by, who)
	}
}

func (p *pool) now() int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.held
}

// holding is what one request holds of a pool. Its connection gives it back when it goes on to read, or ends.
type holding struct {
	of  *pool
	who Party
	n   int64
}

// grow takes n bytes more, or nothing. All that a request holds is of one pool and for one party, the first that it took for.
func (h *holding) grow(of *pool, who Party, n int64) bool {
	if h.of != nil {
		of, who = h.of, h.who
	}
	if !of.take(who, n) {
		return false
	}
	h.of, h.who = of, who
	h.n += n
	return true
}

func (h *holding) drop() {
	if h.of != nil {
		h.of.give(h.who, h.n)
		*h = holding{}
	}
}

// limits has fasthttp read nothing of a body that is longer than its route takes: it is refused by its head.
func (s *server) limits(h *fasthttp.RequestHeader) (c fasthttp.RequestConfig) {
	if !h.IsHTTP11() && knownVersion(h.Protocol()) && string(h.Protocol()) != "HTTP/1.0" {
		h.SetProtocol("HTTP/1.1")
		h.ResetConnectionClose() // which fasthttp assumes of it; Head.Close knows whether it was sent
	}
	expectation(h)
	if n := h.ContentLength(); n != chunkedLength && n > bodyAtOnce {
		path, _ := SplitTarget(h.RequestURI())
		if n > limitOf(s.Match(path)) {
			h.SetContentLength(0)
		}
	}
	return c
}

// limitOf is the most that a body may hold on a route, or where there is none.
func limitOf(r *Route) int {
	if r == nil {
		return MaxBody
	}
	return r.MaxBody
}

// whole tells whether all of the body has come with the head: fasthttp reads that much before it calls the handler.
func (r *Request) whole() bool { return !r.Head.Chunked && r.Head.Length <= bodyAtOnce }

// body reads the rest of the body. Its buffer grows with what has come, never by what was announced, and holds room for it.
func (s *server) body(ctx *fasthttp.RequestCtx, r *Request, h *holding) *Error {
	switch {
	case !ctx.Request.IsBodyStream():
	case r.whole():
		s.take(ctx, r)
	default:
		b, e := s.readBody(ctx, r, h)
		if e != nil {
			return e
		}
		ctx.Request.SetBodyRaw(b)
		r.Whole = time.Now() // I1
	}
	if r.Head.Chunked && hasTrailer(&ctx.Request.Header) {
		return BadRequest(ErrHeadTrailer.Error())
	}
	return nil
}

// take makes what has come the body. A small one is copied by hand, at half of fasthttp's price.
func (s *server) take(ctx *fasthttp.RequestCtx, r *Request) {
	if r.Head.Length > len(r.small) {
		_ = ctx.Request.Body()
		return
	}
	n, _ := io.ReadFull(ctx.RequestBodyStream(), r.small[:r.Head.Length]) // all of it is there
	ctx.Request.SetBodyRaw(r.small[:n])
}

func (s *server) readBody(ctx *fasthttp.RequestCtx, r *Request, h *holding) ([]byte, *Error) {
	limit, stream := limitOf(r.Route), ctx.RequestBodyStream()
	if e := keyed(r); e != nil && r.Head.Length > MaxBody {
		return nil, e
	}
	for b := make([]byte, 0, bodyAtOnce); ; {
		if len(b) == cap(b) {
			var e *Error
			if b, e = s.grown(ctx, r, h, b, limit); e != nil {
				return nil, e
			}
		}
		n, err := stream.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case len(b) > limit:
			h.drop()
			return nil, discard(ctx, r, BodyTooLarge())
		case errors.Is(err, io.EOF):
			if r.Head.Chunked && broken(ctx) || !r.Head.Chunked && len(b) < r.Head.Length {
				return nil, errorOf(io.ErrUnexpectedEOF)
			}
			return b, nil
		case err != nil:
			e := unread(ctx, err)
			e.close = true
			return nil, e
		}
	}
}

// discard reads what is left of a body that is refused, within the time for a request, and keeps nothing of it: who sends all before it reads
// finds the answer then, and not a connection that was reset. Where it came to the end the connection goes on.
func discard(ctx *fasthttp.RequestCtx, r *Request, e *Error) *Error {
	b := make([]byte, discardAtOnce) // not what has come: nothing is counted for it any more
	e.close = true
	for left := MaxBatchBody; left > 0; {
		n, err := ctx.RequestBodyStream().Read(b)
		if errors.Is(err, io.EOF) {
			if r.Head.Chunked && hasTrailer(&ctx.Request.Header) {
				return BadRequest(ErrHeadTrailer.Error())
			}
			e.close = broken(ctx)
		}
		if err != nil {
			break
		}
		left -= n
	}
	return e
}

// broken tells whether the connection has ended. fasthttp takes an end behind the last chunk for that of the trailer.
func broken(ctx *fasthttp.RequestCtx) bool {
	c, ok := ctx.Conn().(*conn)
	return ok && c.ended
}

// grown returns a full buffer with room for as much again, if there is any for this request.
func (s *server) grown(ctx *fasthttp.RequestCtx, r *Request, h *holding, b []byte, limit int) ([]byte, *Error) {
	if len(b) >= MaxBody {
		if e := keyed(r); e != nil { // chunked: no head tells how long it is
			return nil, e
		}
	}
	more := min(cap(b), limit+1-cap(b)) // one byte beyond the limit tells that it was passed
	who, known := s.whose(ctx, r, h)
	if !h.grow(s.bodies.of(known), who, int64(more)) {
		s.bodies.refused.Inc()
		h.drop()
		return nil, discard(ctx, r, bodiesFull())
	}
	return append(make([]byte, 0, cap(b)+more), b...), nil
}

// whose tells for whom a request takes room that has none yet, and whether that one is known.
func (s *server) whose(ctx *fasthttp.RequestCtx, r *Request, h *holding) (who Party, known bool) {
	if s.Whose == nil || h.of != nil {
		return Party{}, s.Whose == nil
	}
	return s.Whose(ctx, r)
}

// keyed judges the form of what is shown, which must be right before more than MaxBody of a body is read. The connection ends with what it returns.
func keyed(r *Request) *Error {
	e := shown(r)
	if e != nil {
		e.close = true
	}
	return e
}

// shown judges the form of the key or token that a call takes. validate denies by itself, and names the device.
func shown(r *Request) *Error {
	switch {
	case r.Route == nil || r.Route.Open || r.Route.Validate:
		return nil
	case r.Route.Operator, r.Operated():
		if len(r.Head.Authorization) == 0 {
			return InvalidOperatorToken()
		}
		return nil
	case len(Trim(r.Head.OrgKey)) == 0:
		return MissingOrgKey()
	}
	if _, err := r.OrgKey(); err != nil {
		return InvalidOrgKey(err)
	}
	return nil
}

// Crowded answers a call whose party has its part of the places (Crowd).
func Crowded() *Error {
	e := SystemUnavailable(OutcomeNotDone, defaultRetryAfter)
	e.Message = "too many calls of this caller are under way: wait for as long as Retry-After says, with fewer at once"
	return e
}

// bodiesFull answers a body for which there is no room now.
func bodiesFull() *Error {
	e := SystemUnavailable(OutcomeNotDone, defaultRetryAfter)
	e.Message = "too many large requests are under way: send it again after Retry-After seconds, or in smaller parts"
	return e
}

// answered takes room for a large answer until it has left. A read for which there is none is refused; what was changed is told in any case.
func (s *server) answered(ctx *fasthttp.RequestCtx, r *Request, h *holding) {
	if ctx.Response.IsBodyStream() || r.Route == nil { // what is no call is answered with what is there anyway
		return
	}
	n := int64(len(ctx.Response.Body()))
	if n <= answerSmall {
		return
	}
	who, _ := s.whose(ctx, r, h)
	if h.grow(s.bodies.of(true), who, n) || !ctx.IsGet() {
		return
	}
	s.bodies.refused.Inc()
	clearResponse(&ctx.Response)
	r.Error(ctx, SystemUnavailable(OutcomeNotDone, defaultRetryAfter))
}
