package api_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp/fasthttputil"
	"google.golang.org/protobuf/proto"

	"machineid/authority/api"
	"machineid/authority/hub"
	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/raftstore"
	"machineid/shared/orgkey"
	"machineid/shared/wire"
)

const (
	startMs       = 1_790_000_000_000 // 2026-09-21T14:13:20.000Z
	operatorToken = "an-operators-token-of-more-than-32-characters"
	edgeToken     = "SESSIONTOKENOFANEDGE"
	patient       = 20 * time.Second // what a test waits at most for what should come at once
)

// node is an authority of one: the real replicated state and machine on a disk in memory, the API on a connection in memory, and
// a hub that does as it is told.
type node struct {
	t       testing.TB
	store   *testStore
	hub     *testHub
	machine *editable
	now     atomic.Int64
	log     *syncBuffer
	ln      *fasthttputil.InmemoryListener
	metrics *prometheus.Registry

	changedMu sync.Mutex
	changed   []string

	idle chan *client
}

type option func(*api.Config)

func openSignup(c *api.Config) { c.OpenSignup = true }

// start runs a node until the test ends.
func start(t testing.TB, opts ...option) *node {
	t.Helper()
	n := &node{
		t: t, hub: &testHub{}, log: &syncBuffer{}, ln: fasthttputil.NewInmemoryListener(),
		metrics: prometheus.NewRegistry(), idle: make(chan *client, 256),
	}
	n.now.Store(startMs)
	n.machine = &editable{Machine: state.New(func(uint64, []state.Concern) {})}
	n.store = &testStore{Store: open(t, n.machine)}
	token := sha256.Sum256([]byte(operatorToken))
	n.propose(&statepb.Command{Change: &statepb.Command_Seed{Seed: &statepb.Seed{
		Cluster: &statepb.Cluster{ClusterId: "c1", HashKey: make([]byte, 16), OperatorTokenHash: token[:]},
		Plans:   &statepb.Plans{Plans: []*statepb.Plan{{Tier: "free", Limit: 3}, {Tier: "max", Limit: 1000}}},
	}}})
	logger := slog.New(slog.NewTextHandler(n.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	cfg := api.Config{
		Store: n.store, Hub: n.hub, Cluster: n.machine.Cluster, Now: n.now.Load,
		Logger: logger, Registerer: n.metrics,
		Changed: func(action, target string, _ hub.Propagation) {
			n.changedMu.Lock()
			defer n.changedMu.Unlock()
			n.changed = append(n.changed, action+" "+target)
		},
	}
	for _, o := range opts {
		o(&cfg)
	}
	srv := wire.NewServer(api.New(cfg).Handler(), wire.Options{Log: logger, NoDate: true})
	served := make(chan error, 1)
	go func() { served <- srv.Serve(n.ln) }()
	t.Cleanup(func() {
		close(n.idle)
		for c := range n.idle {
			_ = c.Close()
		}
		_ = n.ln.Close()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
		if strings.Contains(n.log.String(), "panic") {
			t.Errorf("a handler panicked:\n%s", n.log)
		}
		if strings.Contains(n.log.String(), orgkey.Prefix) || strings.Contains(n.log.String(), operatorToken) {
			t.Errorf("the log holds a secret:\n%s", n.log)
		}
	})
	return n
}

// open opens a store of one node that leads when this returns.
func open(t testing.TB, m raftstore.Machine) *raftstore.Store {
	t.Helper()
	addr, transport := raft.NewInmemTransport("a1")
	transport.Connect(addr, transport) // it asks itself to lead
	leads := make(chan struct{})
	var once sync.Once
	s, err := raftstore.Open(raftstore.Config{
		ID: "a1", Dir: "data", FS: vfs.NewMem(), Transport: transport, Bootstrap: true,
		Lead:  func(context.Context, uint64) { once.Do(func() { close(leads) }) },
		Fatal: func(err error) { panic(err) },
	}, m)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patient)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-leads:
	case <-time.After(patient):
		t.Fatal("the store does not lead")
	}
	return s
}

// editable is the real machine, which can also be told to write any record: for states that no command makes yet.
type editable struct{ *state.Machine }

const editMark = 0xff // begins no protobuf message

func (m *editable) Apply(w *pebble.Batch, at raftstore.Position, cmd []byte) any {
	if len(cmd) == 0 || cmd[0] != editMark {
		return m.Machine.Apply(w, at, cmd)
	}
	key, value := cmd[2:2+cmd[1]], cmd[2+cmd[1]:]
	if err := w.Set(key, value, nil); err != nil {
		panic(err)
	}
	return state.Outcome{Changed: true}
}

func (n *node) edit(key []byte, record proto.Message) {
	n.t.Helper()
	value, err := proto.Marshal(record)
	if err != nil {
		n.t.Fatal(err)
	}
	cmd := append([]byte{editMark, byte(len(key))}, key...)
	if _, err := n.store.Store.Propose(context.Background(), append(cmd, value...)); err != nil {
		n.t.Fatal(err)
	}
}

// editOrg changes an org's record behind the API's back.
func (n *node) editOrg(o *org, change func(*statepb.Org)) {
	n.t.Helper()
	rec := n.orgRecord(o)
	change(rec)
	n.edit(append([]byte{'o'}, o.id[:]...), rec)
}

func (n *node) orgRecord(o *org) *statepb.Org {
	n.t.Helper()
	v, err := n.store.Store.Read(context.Background())
	if err != nil {
		n.t.Fatal(err)
	}
	defer v.Close()
	rec, err := state.NewReader(v.Reader()).Org(o.id)
	if err != nil {
		n.t.Fatal(err)
	}
	return rec
}

// key adds a key to an org and returns it.
func (n *node) key(o *org, scope statepb.Key_Scope, change func(*statepb.Key)) string {
	n.t.Helper()
	k, err := orgkey.New(newRandom(n.t))
	if err != nil {
		n.t.Fatal(err)
	}
	hash := k.Hash()
	rec := &statepb.Key{Hash: hash[:], KeyId: k.ID(), OrgId: o.id[:], Scope: scope, CreatedAtMs: startMs}
	if change != nil {
		change(rec)
	}
	n.edit(append([]byte{'k'}, hash[:]...), rec)
	return k.Reveal()
}

func (n *node) propose(cmd *statepb.Command) {
	n.t.Helper()
	if _, _, err := n.store.Propose(context.Background(), cmd); err != nil {
		n.t.Fatal(err)
	}
}

// testStore is the real store, which can be told to fail.
type testStore struct {
	*raftstore.Store

	mu      sync.Mutex
	propose func(context.Context) (state.Outcome, error) // instead of proposing
	read    func(context.Context) error                  // instead of reading
	last    *statepb.Command
}

func (s *testStore) fail(propose func(context.Context) (state.Outcome, error), read func(context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.propose, s.read = propose, read
}

func (s *testStore) Propose(ctx context.Context, cmd *statepb.Command) (uint64, state.Outcome, error) {
	raw, err := proto.Marshal(cmd)
	if err != nil {
		return 0, state.Outcome{}, err
	}
	if bytes.Contains(raw, []byte(orgkey.Prefix)) {
		panic("a key goes into the log")
	}
	s.mu.Lock()
	s.last = proto.CloneOf(cmd)
	instead := s.propose
	s.mu.Unlock()
	if instead != nil {
		out, err := instead(ctx)
		return 1, out, err
	}
	res, err := s.Store.Propose(ctx, raw)
	if err != nil {
		return 0, state.Outcome{}, err
	}
	return res.Index, res.Outcome.(state.Outcome), nil
}

func (s *testStore) Read(ctx context.Context) (*raftstore.View, error) {
	s.mu.Lock()
	instead := s.read
	s.mu.Unlock()
	if instead != nil {
		return nil, instead(ctx)
	}
	return s.Store.Read(ctx)
}

func (s *testStore) lastCommand() *statepb.Command {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// testHub settles at once, unless it is closed.
type testHub struct {
	mu      sync.Mutex
	gate    chan struct{} // nil while open
	err     error         // what a settle ends in
	waiting chan string   // told of each that waits, if not nil
	settled atomic.Int64
}

// shut makes every settle wait until the returned function is called. Each one that waits says so on the channel.
func (h *testHub) shut() (waiting <-chan string, open func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	gate := make(chan struct{})
	h.gate, h.waiting = gate, make(chan string, 64)
	return h.waiting, func() {
		h.mu.Lock()
		h.gate = nil
		h.mu.Unlock()
		close(gate)
	}
}

func (h *testHub) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.err = err
}

func (h *testHub) settle(ctx context.Context, what string) error {
	h.mu.Lock()
	gate, waiting, err := h.gate, h.waiting, h.err
	h.mu.Unlock()
	if err != nil {
		return err
	}
	if gate != nil {
		waiting <- what
		select {
		case <-gate:
		case <-ctx.Done():
			return hub.ErrPending
		}
	}
	h.settled.Add(1)
	return nil
}

func (h *testHub) Settle(ctx context.Context, _ uint64) (hub.Propagation, error) {
	if err := h.settle(ctx, "index"); err != nil {
		return hub.Propagation{}, err
	}
	return hub.Propagation{Index: 8812, Edges: 3, Confirmed: 2, Expired: 1, ElapsedMs: 2.1}, nil
}

func (h *testHub) SettleOrg(ctx context.Context, index uint64, id state.OrgID) error {
	if index == 0 || id == (state.OrgID{}) {
		return fmt.Errorf("settle org %v at %d: that is no org's change", id, index)
	}
	return h.settle(ctx, "org")
}

func (*testHub) Edge(token string) string {
	if token == edgeToken {
		return "e1"
	}
	return ""
}

// org is an org and its keys.
type org struct {
	id           state.OrgID
	admin, agent string
}

// org creates an org by the operator's call.
func (n *node) org() *org {
	n.t.Helper()
	a := n.do("POST", "org/create", "{}", "Authorization: Bearer "+operatorToken)
	a.want(200, `"status":"ok"`)
	id, err := uuidOf(a.field("orgId"))
	if err != nil {
		n.t.Fatal(err)
	}
	return &org{id: id, admin: a.field("orgApiKey"), agent: a.field("agentKey")}
}

// sized sets the org's own cap.
func (n *node) sized(limit uint32) *org {
	n.t.Helper()
	o := n.org()
	n.editOrg(o, func(rec *statepb.Org) { rec.Limit = &limit })
	return o
}

// client is one connection.
type client struct {
	net.Conn
	r *bufio.Reader
}

// answer is a response whose body was found to be a JSON object.
type answer struct {
	*http.Response
	t    testing.TB
	raw  string
	body map[string]any
}

// do makes a call: what is not below the API's path begins with a slash. Headers are whole lines.
func (n *node) do(method, path, body string, headers ...string) *answer {
	n.t.Helper()
	if !strings.HasPrefix(path, "/") {
		path = wire.Base + path
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: a\r\n", method, path)
	for _, h := range headers {
		b.WriteString(h + "\r\n")
	}
	if body != "" || method == "POST" {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n" + body)
	a, err := n.send(b.String())
	if err != nil {
		n.t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

// with makes a call with a key.
func (n *node) with(key, method, path, body string, headers ...string) *answer {
	n.t.Helper()
	return n.do(method, path, body, append(headers, "x-org-key: "+key)...)
}

// send writes a request and reads its answer, and holds it to what holds for every answer. It is safe for concurrent use.
func (n *node) send(raw string) (*answer, error) {
	var c *client
	select {
	case c = <-n.idle:
	default:
		conn, err := n.ln.Dial()
		if err != nil {
			return nil, err
		}
		c = &client{Conn: conn, r: bufio.NewReader(conn)}
	}
	if _, err := io.WriteString(c, raw); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return nil, fmt.Errorf("no answer: %w", err)
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	_ = resp.Body.Close()
	if resp.Close {
		_ = c.Close()
	} else {
		n.idle <- c
	}
	a := &answer{Response: resp, t: n.t, raw: string(text)}
	if err := json.Unmarshal(text, &a.body); err != nil {
		return a, fmt.Errorf("HTTP %d, no JSON object: %q", resp.StatusCode, text)
	}
	h := resp.Header
	if h.Get("Cache-Control") != "no-store" || h.Get("Content-Type") != "application/json" || a.body["request_id"] != h.Get("X-Request-Id") {
		return a, fmt.Errorf("headers %v of %s", h, text)
	}
	if a.body["handler"] == nil || a.body["status"] == nil {
		return a, fmt.Errorf("no handler or status in %s", text)
	}
	if resp.StatusCode == http.StatusServiceUnavailable && (h.Get("Retry-After") == "" || a.body["outcome"] == nil) {
		return a, fmt.Errorf("503 without Retry-After or outcome: %s", text)
	}
	return a, nil
}

// want holds an answer to its status and to parts of its body.
func (a *answer) want(status int, parts ...string) *answer {
	a.t.Helper()
	if a.StatusCode != status {
		a.t.Fatalf("HTTP %d, want %d: %s", a.StatusCode, status, a.raw)
	}
	for _, p := range parts {
		if !strings.Contains(a.raw, p) {
			a.t.Fatalf("no %s in %s", p, a.raw)
		}
	}
	return a
}

func (a *answer) field(name string) string {
	s, _ := a.body[name].(string)
	return s
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func device(id string) string {
	b, _ := json.Marshal(map[string]string{"deviceId": id})
	return string(b)
}
