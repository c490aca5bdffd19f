package api_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/uuid"
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

// operatorID is how the audit names operatorToken.
var operatorID = func() string {
	sum := sha256.Sum256([]byte(operatorToken))
	return state.TokenID(sum[:])
}()

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

	held *held
	idle chan *client
}

var keyForm = regexp.MustCompile(orgkey.Prefix + "[0-9A-Za-z]{9}") // a key's secret has begun

type option func(*api.Config)

func openSignup(c *api.Config) { c.OpenSignup = true }

// start runs a node until the test ends.
func start(tb testing.TB, opts ...option) *node {
	tb.Helper()
	n := &node{
		t: tb, hub: &testHub{}, log: &syncBuffer{}, ln: fasthttputil.NewInmemoryListener(),
		metrics: prometheus.NewRegistry(), idle: make(chan *client, 256), held: newHeld(tb),
	}
	n.now.Store(startMs)
	n.machine = &editable{Machine: state.New(func(uint64, []state.Concern) {})}
	n.store = &testStore{Store: open(tb, n.machine)}
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
	tb.Cleanup(func() {
		close(n.idle)
		for c := range n.idle {
			_ = c.Close()
		}
		_ = n.ln.Close()
		if err := <-served; err != nil {
			tb.Errorf("serve: %v", err)
		}
		if strings.Contains(n.log.String(), "panic") {
			tb.Errorf("a handler panicked:\n%s", n.log)
		}
		if keyForm.MatchString(n.log.String()) || strings.Contains(n.log.String(), operatorToken) {
			tb.Errorf("the log holds a secret:\n%s", n.log)
		}
	})
	return n
}

// open opens a store of one node that leads when this returns.
func open(tb testing.TB, m raftstore.Machine) *raftstore.Store {
	tb.Helper()
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
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patient)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			tb.Error(err)
		}
	})
	select {
	case <-leads:
	case <-time.After(patient):
		tb.Fatal("the store does not lead")
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
	m.Forget()
	return state.Outcome{Changed: true}
}

func (n *node) edit(key []byte, record proto.Message) {
	n.t.Helper()
	value, err := proto.Marshal(record)
	if err != nil {
		n.t.Fatal(err)
	}
	n.editRaw(key, value)
}

func (n *node) editRaw(key, value []byte) {
	n.t.Helper()
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
	k, err := orgkey.New(rand.Reader)
	if err != nil {
		n.t.Fatal(err)
	}
	hash := k.Hash()
	rec := &statepb.Key{Hash: hash[:], KeyId: k.ID(), OrgId: o.id[:], Scope: scope, CreatedAtMs: startMs}
	if change != nil {
		change(rec)
	}
	n.edit(append([]byte{'k'}, hash[:]...), rec)
	n.editRaw(slices.Concat([]byte{'K'}, o.id[:], []byte(k.ID())), hash[:])
	return k.Reveal()
}

func (n *node) billingOf(o *org) *statepb.Billing {
	n.t.Helper()
	v, err := n.store.Store.Read(context.Background())
	if err != nil {
		n.t.Fatal(err)
	}
	defer v.Close()
	rec, err := state.NewReader(v.Reader()).Billing(o.id)
	if err != nil {
		n.t.Fatal(err)
	}
	return rec
}

// counted sums a counter's children that have a label of this value.
func (n *node) counted(name, label string) (sum float64) {
	n.t.Helper()
	families, err := n.metrics.Gather()
	if err != nil {
		n.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if f.GetName() == name && l.GetValue() == label {
					sum += m.GetCounter().GetValue()
				}
			}
		}
	}
	return sum
}

func (n *node) propose(cmd *statepb.Command) {
	n.t.Helper()
	if _, _, err := n.store.Propose(context.Background(), cmd); err != nil {
		n.t.Fatal(err)
	}
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
	id, err := uuid.Parse(a.field("orgId"))
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
