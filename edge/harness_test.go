package edge

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttputil"
	"go.uber.org/goleak"

	"machineid/internal/testkit/bubble"
	"machineid/shared/link"
	"machineid/shared/orgkey"
)

// TestMain looks for leaks. Some goroutines of fasthttp sleep on after what they clean
// up has been closed; in bubbles they are waited for.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*HostClient).connsCleaner"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*TCPDialer).tcpAddrsClean"))
}

// Times that the scripted authority names.
const (
	testLease = 3 * time.Second
	testTTL   = 20 * time.Second
)

var (
	testOrg   = orgID{1}
	testOwner = &owner{org: testOrg}
)

// keyOf makes an org key that is well-formed; different seeds make different ones.
func keyOf(seed byte) orgkey.Key {
	k, err := orgkey.New(bytes.NewReader(bytes.Repeat([]byte{seed, 3, 5, 7, 11}, 100)))
	if err != nil {
		panic(err)
	}
	return k
}

// world is an edge over a scripted authority. It lives in a bubble.
type world struct {
	t    *testing.T
	a    *authority
	e    *Edge
	http *fasthttputil.InmemoryListener
	key  orgkey.Key

	cluster   string
	addresses []string
	others    map[string]*authority // by address; what is not here is a
	log       lockedBuffer          // what the edge says

	client *fasthttp.HostClient
	stop   context.CancelFunc
	ended  chan error
}

// inWorld runs f in a bubble in which an edge is made and not started. The
// authority knows one org, with one key and the device "d".
func inWorld(t *testing.T, f func(w *world)) {
	t.Helper()
	inWorldOf(t, func(*world) {}, f)
}

// inWorldOf is inWorld with what differs before the edge is made.
func inWorldOf(t *testing.T, differs, f func(w *world)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		w := &world{t: t, a: newAuthority(), http: fasthttputil.NewInmemoryListener(), key: keyOf(1), ended: make(chan error, 1)}
		w.a.keys[w.key.Hash()] = &link.KeyRecord{Known: true, OrgId: testOrg[:]}
		w.a.orgs[testOrg] = &link.OrgRecord{Known: true}
		w.a.devices["d"] = &link.DeviceRecord{Known: true}
		w.addresses = []string{"a1"}
		differs(w)
		w.make()
		w.client = &fasthttp.HostClient{
			Addr: "edge", Dial: func(string) (net.Conn, error) { return w.http.Dial() }, MaxConns: 1000,
			MaxIdemponentCallAttempts: 1, ReadTimeout: 20 * time.Second, MaxIdleConnDuration: time.Second,
		}
		defer func() {
			w.end()
			w.a.server.Stop()
			for _, a := range w.others {
				a.server.Stop()
			}
			time.Sleep(time.Minute) // for what fasthttp cleans up
		}()
		f(w)
	})
}

// lockedBuffer is read while the edge writes.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// make makes the edge, as a process that starts does.
func (w *world) make() {
	w.t.Helper()
	e, err := New(Config{
		ID: "e1", Authority: w.addresses, Cluster: w.cluster, HTTP: w.http, CacheEntries: 10_000, NoDate: true, Clock: w.a,
		Dial: func(ctx context.Context, addr string) (net.Conn, error) {
			if other := w.others[addr]; other != nil {
				return other.listener.DialContext(ctx)
			}
			return w.a.listener.DialContext(ctx)
		},
		Logger: slog.New(slog.NewTextHandler(&w.log, nil)), Registerer: prometheus.NewRegistry(),
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.e = e
}

// restart ends the edge and starts a process in its place.
func (w *world) restart() {
	w.t.Helper()
	w.end()
	<-w.ended //nolint:errcheck // the nil that end leaves
	w.http = fasthttputil.NewInmemoryListener()
	w.make()
	w.run()
}

func (w *world) run() {
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	go func() { w.ended <- w.e.Run(ctx) }()
	synctest.Wait()
}

// start runs the edge and waits until it holds a lease.
func (w *world) start() {
	w.t.Helper()
	w.run()
	for range 100 {
		if len(w.e.Ready()) == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	w.t.Fatalf("not ready: %v", w.e.Ready())
}

// end stops the edge, once.
func (w *world) end() {
	w.client.CloseIdleConnections()
	if w.stop == nil {
		w.run() // so that it closes what New has made
	}
	w.stop()
	if err := <-w.ended; err != nil {
		w.t.Errorf("Run: %v", err)
	}
	w.ended <- nil
}

// answer is what a validate brings.
type answer struct {
	Code    string `json:"code"`
	Allowed bool   `json:"allowed"`
	hit     bool
	took    time.Duration
}

// validate asks once all is still: ristretto takes what it is given a little later.
func (w *world) validate(device string) answer {
	synctest.Wait()
	return w.validateWith(w.key, device)
}

func (w *world) validateWith(key orgkey.Key, device string) (a answer) {
	began := time.Now()
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.SetRequestURI("http://edge/api/v1/devices/validate")
	req.Header.SetMethod("POST")
	req.Header.Set("X-Org-Key", key.Reveal())
	req.SetBodyString(`{"deviceId":"` + device + `"}`)
	if err := w.client.Do(req, resp); err != nil {
		w.t.Errorf("validate %s: %v", device, err)
		return a
	}
	if err := json.Unmarshal(resp.Body(), &a); err != nil {
		w.t.Errorf("validate %s: %q", device, resp.Body())
	}
	if a.Allowed != (a.Code == "ALLOW") {
		w.t.Errorf("allowed %v with %s", a.Allowed, a.Code)
	}
	a.hit, a.took = string(resp.Header.Peek("X-Cache")) == "hit", time.Since(began)
	return a
}

// want validates and compares.
func (w *world) want(device, code string, hit bool) {
	w.t.Helper()
	if got := w.validate(device); got.Code != code || got.hit != hit {
		w.t.Errorf("%s: %s, hit %v; want %s, hit %v", device, got.Code, got.hit, code, hit)
	}
}

// later validates while the test goes on.
func (w *world) later(device string) <-chan answer {
	out := make(chan answer, 1)
	go func() { out <- w.validateWith(w.key, device) }()
	synctest.Wait()
	return out
}
