package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttputil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	"machineid/authority"
	"machineid/authority/billing"
	"machineid/authority/billing/stripetest"
	"machineid/authority/hub"
	"machineid/edge"
	"machineid/shared/clock"
	"machineid/shared/link"
)

// world is an authority and edges in virtual time, over connections in memory.
// Between each edge and the authority stands a relay that delays, cuts and, for
// mutants, forges what they say to each other. Everything else is the real thing.
type world struct {
	t     *testing.T
	times hub.Times
	start time.Time
	disk  *vfs.MemFS
	// ahead is how far the authority's wall clock is off.
	ahead  atomic.Int64
	stripe *stripetest.Stripe

	mu    sync.Mutex
	node  *member
	edges []*member

	key string // of the one org
}

// member is one running node of either tier.
type member struct {
	name   string
	http   *fasthttputil.InmemoryListener
	link   *bufconn.Listener // the authority's
	relay  *relay            // the edge's
	ready  func() []string
	client *fasthttp.HostClient
	stop   context.CancelFunc
	ended  chan error
}

// drifting is a clock that runs fast or slow.
type drifting struct {
	start time.Time
	rate  float64
}

func (d drifting) Now() clock.Time { return d.At(time.Now()) }

// At is what clock.At counts from what a server has read already.
func (d drifting) At(t time.Time) clock.Time {
	return clock.Time(float64(t.Sub(d.start))*d.rate) + clock.Time(time.Hour)
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{
		t: t, start: time.Now(), disk: vfs.NewMem(), stripe: stripetest.Offline(),
		times: hub.Times{Lease: 3 * time.Second, CacheTTL: time.Minute, Bound: 0.01},
	}
}

const worldToken = "a token of at least thirty-two characters"

func (w *world) begin(m *member, run func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	m.stop, m.ended = stop, make(chan error, 1)
	m.client = &fasthttp.HostClient{
		Addr: m.name, Dial: func(string) (net.Conn, error) { return m.http.Dial() }, MaxConns: 100,
		MaxIdemponentCallAttempts: 1, ReadTimeout: 20 * time.Second, MaxIdleConnDuration: time.Second,
	}
	go func() { m.ended <- run(ctx) }()
}

func (w *world) end(m *member) {
	m.stop()
	if err := <-m.ended; err != nil {
		w.t.Errorf("%s: %v", m.name, err)
	}
	m.client.CloseIdleConnections()
}

func (w *world) wall() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

// startAuthority starts the authority on the one disk. rate is its clock's. Who does not pay has no grace.
func (w *world) startAuthority(rate float64) {
	addr, trans := raft.NewInmemTransportWithTimeout("raft", time.Second)
	trans.Connect(addr, trans)
	m := &member{name: "authority", http: fasthttputil.NewInmemoryListener(), link: bufconn.Listen(1 << 20)}
	node := authority.New(authority.Config{
		ID: "a1", Dir: "data", FS: w.disk, HTTP: m.http, Link: m.link, RaftTransport: trans, Bootstrap: true, OpenSignup: true,
		OperatorToken: worldToken, Times: w.times, Clock: drifting{w.start, rate}, Wall: w.wall, NoDate: true,
		Billing: billing.Config{
			SecretKey: stripetest.Key, WebhookSecret: stripetest.WebhookSecret, URL: w.stripe.URL, Transport: w.stripe.Transport(), Prices: stripetest.Prices(),
			SuccessURL: "https://example.com/done", CancelURL: "https://example.com/back", ReturnURL: "https://example.com/billing",
		},
		GraceDays: new(uint32(0)), Reconcile: authority.Reconcile{First: 24 * time.Hour},
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	m.ready = node.Ready
	w.begin(m, node.Run)
	w.mu.Lock()
	w.node = m
	w.mu.Unlock()
	w.until("the authority is ready", func() bool { return len(m.ready()) == 0 })
}

// stopAuthority stops it while leases are out, so that the next start has to
// wait for them.
func (w *world) stopAuthority() {
	w.mu.Lock()
	m := w.node
	w.node = nil
	w.mu.Unlock()
	w.end(m)
}

func (w *world) authority() *member {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.node
}

// startEdge starts an edge behind a relay of its own.
func (w *world) startEdge(i int, rate float64, r *relay) *member {
	m := &member{name: fmt.Sprint("e", i), http: fasthttputil.NewInmemoryListener(), relay: r}
	e, err := edge.New(edge.Config{
		ID: m.name, Authority: []string{"authority"}, HTTP: m.http, Clock: drifting{w.start, rate}, CacheEntries: 1000, NoDate: true,
		Dial:   func(ctx context.Context, _ string) (net.Conn, error) { return r.listener.DialContext(ctx) },
		Logger: slog.New(slog.DiscardHandler), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	m.ready = e.Ready
	w.begin(m, e.Run)
	w.until(m.name+" is ready", func() bool { return len(m.ready()) == 0 })
	return m
}

func (w *world) until(what string, cond func() bool) {
	w.t.Helper()
	for began := time.Now(); !cond(); time.Sleep(5 * time.Millisecond) {
		if time.Since(began) > time.Minute {
			w.t.Fatalf("waited a minute until %s", what)
		}
	}
}

// answer is what every call's answer has.
type answer struct {
	Status   string       `json:"status"`
	Code     string       `json:"code"`
	Error    string       `json:"error"`
	Outcome  string       `json:"outcome"`
	Key      string       `json:"orgApiKey"`
	OrgID    string       `json:"orgId"`
	URL      string       `json:"url"`
	Used     int          `json:"devicesUsed"`
	IsFrozen bool         `json:"isFrozen"`
	Devices  []seenDevice `json:"devices"`
}

// call makes one call with the org's key; status is 0 if no answer came.
func (w *world) call(m *member, path, body string) (a answer, status int) {
	return w.do(m, "POST", path, body, "X-Org-Key", w.key)
}

// do makes one call. headers are pairs.
func (w *world) do(m *member, method, path, body string, headers ...string) (a answer, status int) {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.SetRequestURI("http://" + m.name + "/api/v1/" + path)
	req.Header.SetMethod(method)
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	req.SetBodyString(body)
	return w.answered(m, req, resp)
}

// hesitate makes a call whose head and first byte arrive before its body does: rest is called for that, and says when it has come to it.
func (w *world) hesitate(m *member, path string, rest func() string) (a answer, status int) {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.SetRequestURI("http://" + m.name + "/api/v1/" + path)
	req.Header.SetMethod("POST")
	req.Header.Set("X-Org-Key", w.key)
	req.SetBodyStream(&hesitant{rest: rest}, -1)
	return w.answered(m, req, resp)
}

// hesitant is read as a space, and then as what rest says.
type hesitant struct {
	begun bool
	rest  func() string
	then  io.Reader
}

// Read implements io.Reader.
func (h *hesitant) Read(p []byte) (int, error) {
	if !h.begun {
		h.begun = true
		return copy(p, " "), nil
	}
	if h.then == nil {
		h.then = strings.NewReader(h.rest())
	}
	return h.then.Read(p)
}

func (w *world) answered(m *member, req *fasthttp.Request, resp *fasthttp.Response) (a answer, status int) {
	if err := m.client.Do(req, resp); err != nil {
		return answer{}, 0
	}
	if err := json.Unmarshal(resp.Body(), &a); err != nil {
		w.t.Errorf("%s answers %q", req.URI().Path(), resp.Body())
	}
	return a, resp.StatusCode()
}

func device(id string) string { return `{"deviceId":"` + id + `"}` }

// change makes a call at the authority until it has succeeded: calls may be
// repeated after an unknown outcome.
func (w *world) change(path, body string) answer {
	for {
		if m := w.authority(); m != nil {
			if a, status := w.call(m, path, body); status == 200 {
				return a
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// relay stands between one edge and the authority.
type relay struct {
	link.UnimplementedLinkServer
	w        *world
	listener *bufconn.Listener
	server   *grpc.Server
	rng      *rand.Rand // guarded by mu
	quick    bool       // frames are on their way for a moment only
	cut      atomic.Bool
	up       func(*link.ToAuthority) *link.ToAuthority // nil: as it is
	down     func(*link.ToEdge) (*link.ToEdge, *link.ToAuthority)

	mu     sync.Mutex
	breaks map[*context.CancelFunc]struct{}
}

func newRelay(w *world, seed uint64) *relay {
	r := &relay{
		w: w, listener: bufconn.Listen(1 << 20), rng: rand.New(rand.NewPCG(seed, 7)), breaks: map[*context.CancelFunc]struct{}{},
		server: grpc.NewServer(),
	}
	link.RegisterLinkServer(r.server, r)
	go func() { _ = r.server.Serve(r.listener) }()
	return r
}

// delay is how long a frame is on its way; while the link is cut, as long as that.
func (r *relay) delay(ctx context.Context) bool {
	r.mu.Lock()
	d := time.Duration(r.rng.IntN(3000)) * time.Microsecond
	if r.quick {
		d = time.Duration(r.rng.IntN(100)) * time.Microsecond
	} else if r.rng.IntN(200) == 0 {
		d = time.Duration(r.rng.IntN(1500)) * time.Millisecond
	}
	r.mu.Unlock()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(d):
		}
		if !r.cut.Load() {
			return true
		}
		d = 10 * time.Millisecond
	}
}

// breakAll ends all sessions that are under way.
func (r *relay) breakAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.breaks {
		(*c)()
	}
}

// Session relays one session, each direction in order.
func (r *relay) Session(down link.Link_SessionServer) error {
	m := r.w.authority()
	if m == nil {
		return errors.New("no authority")
	}
	conn, err := grpc.NewClient("passthrough:///authority", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return m.link.DialContext(ctx) }))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithCancel(down.Context())
	defer cancel()
	r.mu.Lock()
	r.breaks[&cancel] = struct{}{}
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		delete(r.breaks, &cancel)
		r.mu.Unlock()
	}()
	up, err := link.NewLinkClient(conn).Session(ctx)
	if err != nil {
		return err
	}
	var sending sync.Mutex // forged frames go up beside the edge's own
	send := func(f *link.ToAuthority) error {
		sending.Lock()
		defer sending.Unlock()
		return up.Send(f)
	}
	go func() {
		defer cancel()
		for {
			f, err := down.Recv()
			if err != nil || !r.delay(ctx) {
				return
			}
			if r.up != nil {
				f = r.up(f)
			}
			if send(f) != nil {
				return
			}
		}
	}()
	frames := make(chan *link.ToEdge)
	go func() {
		defer cancel()
		for {
			f, err := up.Recv()
			if err != nil {
				return
			}
			select {
			case frames <- f:
			case <-ctx.Done():
				return
			}
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case f := <-frames:
			if !r.delay(ctx) {
				return ctx.Err()
			}
			if r.down != nil {
				var forged *link.ToAuthority
				if f, forged = r.down(f); forged != nil {
					_ = send(forged)
				}
			}
			if err := down.Send(f); err != nil {
				return err
			}
		}
	}
}
