package hub

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/raftstore"
	"machineid/shared/link"
)

// quickTimes have sessions of earlier inputs run out, so that they do not add up.
var quickTimes = Times{Lease: 2 * time.Millisecond, CacheTTL: time.Minute, Bound: 0.01}

// fuzzedHub is a hub that leads, over a store of one node in memory, outside of any bubble: one serves all inputs.
func fuzzedHub(f *testing.F, key [32]byte, limits Limits) *realWorld {
	f.Helper()
	w := &realWorld{hash: key}
	w.start = time.Now()
	w.m = state.New(func(index uint64, concerns []state.Concern) { w.hub.Notify(index, concerns) })
	w.m.OnRestored(func(index uint64) { w.hub.Restored(index) })
	w.hub = New(Config{
		ID: "a1", Limits: limits, Times: quickTimes, Clock: &w.world, State: w.m, Now: func() int64 { return time.Now().UnixMilli() }, Logger: slog.New(slog.DiscardHandler),
		Propose: func(ctx context.Context, cmd *statepb.Command) (state.Outcome, error) {
			_, out, err := w.command(ctx, cmd)
			return out, err
		},
	})
	addr, trans := raft.NewInmemTransport("raft")
	trans.Connect(addr, trans)
	ready, leads := make(chan struct{}), make(chan struct{})
	seeds := []*statepb.Command{
		{Change: &statepb.Command_Seed{Seed: &statepb.Seed{
			Cluster: &statepb.Cluster{HashKey: make([]byte, 16), Incarnation: make([]byte, 16)}, Plans: &statepb.Plans{Plans: []*statepb.Plan{{Tier: "free", Limit: 3}}},
		}}},
		{Change: &statepb.Command_CreateOrg{CreateOrg: &statepb.CreateOrg{OrgId: orgA[:], Keys: []*statepb.Key{{Hash: key[:], KeyId: "k"}}}}},
		{Change: &statepb.Command_Register{Register: &statepb.Register{OrgId: orgA[:], DeviceId: "d"}}},
	}
	store, err := raftstore.Open(raftstore.Config{
		ID: "a1", Dir: "data", FS: vfs.NewMem(), Transport: trans, Bootstrap: true, Logger: slog.New(slog.DiscardHandler),
		Lead: func(ctx context.Context, term uint64) {
			<-ready
			for _, cmd := range seeds {
				if _, _, err := w.command(ctx, cmd); err != nil {
					panic(err)
				}
			}
			close(leads)
			w.hub.Lead(ctx, term)
		},
	}, w.m)
	if err != nil {
		f.Fatal(err)
	}
	w.real = store
	w.hub.Attach(store)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = w.hub.Run(ctx)
	}()
	close(ready)
	f.Cleanup(func() {
		if err := store.Close(context.Background()); err != nil {
			f.Error(err)
		}
		stop()
		<-done
	})
	<-leads
	for tick := time.NewTicker(time.Millisecond); !w.hub.Leading(); <-tick.C {
		if time.Since(w.start) > time.Minute {
			f.Fatal("the hub does not lead")
		}
	}
	return w
}

// script is an edge's end of a session that says what it has to say and hangs up when all that it asked is answered.
type script struct {
	grpc.ServerStream
	ctx    context.Context
	frames []*link.ToAuthority
	begun  bool
	asked  int
	moved  chan struct{}

	mu  sync.Mutex
	got []*link.ToEdge
	n   int // answers
}

func (s *script) Context() context.Context { return s.ctx }

func (s *script) Recv() (*link.ToAuthority, error) {
	if len(s.frames) > 0 {
		f := s.frames[0]
		s.frames = s.frames[1:]
		if s.begun { // the first frame is a Hello and nothing else
			s.mu.Lock()
			s.asked += len(f.GetFetches())
			s.mu.Unlock()
		}
		s.begun = true
		return f, nil
	}
	for {
		s.mu.Lock()
		enough := s.n >= s.asked
		s.mu.Unlock()
		if enough {
			return nil, io.EOF
		}
		select {
		case <-s.moved:
		case <-s.ctx.Done():
			return nil, s.ctx.Err()
		}
	}
}

func (s *script) Send(f *link.ToEdge) error {
	s.mu.Lock()
	s.got = append(s.got, f)
	s.n += len(f.GetAnswers())
	s.mu.Unlock()
	select {
	case s.moved <- struct{}{}:
	default:
	}
	return s.ctx.Err()
}

// FuzzFrames plays any frames of an edge to a hub that leads. Whatever they say, every fetch is answered once, what it did not name it is
// not told of, no grant is longer than a lease, and the session ends when the edge hangs up.
func FuzzFrames(f *testing.F) {
	key := [32]byte{9}
	hello := &link.ToAuthority{Hello: &link.Hello{EdgeId: "e", ProcessId: make([]byte, 16), DecisionVersion: 1, Session: 1}}
	fetches := []*link.Fetch{
		{Id: 1, KeyHash: key[:], DeviceId: "d"}, {Id: 2, KeyHash: make([]byte, 32), DeviceId: "d"}, {Id: 2, OrgId: orgA[:], DeviceId: "other"}, {Id: 3}, {OrgId: orgB[:]},
	}
	for _, list := range [][]*link.ToAuthority{
		{hello, {Renew: &link.Renew{AskedAtNs: 1}, Ack: &link.Ack{Index: 1 << 63}, Fetches: fetches}},
		{hello, hello, {Ack: &link.Ack{GaveBack: true}}, {Fetches: fetches[:1]}},
		{hello, {Report: &link.Report{Seen: []*link.Seen{{OrgId: orgA[:], DeviceIds: []string{"d", "e"}, AtMs: []int64{1, -1}}, {DeviceIds: []string{"x"}}}}}},
		{{Hello: &link.Hello{EdgeId: "e", ProcessId: make([]byte, 16), DecisionVersion: 1, Incarnation: make([]byte, 16), Held: make([]byte, link.HeldBytes), LastIndex: 2}}, {Renew: &link.Renew{AskedAtNs: -1}}},
		{{Fetches: fetches}},
	} {
		var raw []byte
		for _, one := range list {
			b, err := proto.Marshal(one)
			if err != nil {
				f.Fatal(err)
			}
			raw = append(binary.BigEndian.AppendUint16(raw, uint16(len(b))), b...)
		}
		f.Add(raw)
	}
	h := fuzzedHub(f, key, Limits{Edges: 1 << 20, PerAddress: 1 << 20}).hub
	f.Fuzz(func(t *testing.T, raw []byte) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		s := &script{ctx: ctx, moved: make(chan struct{}, 1)}
		named := map[uint64][]*link.Fetch{}
		for len(raw) >= 2 && len(s.frames) < 16 {
			n := min(int(binary.BigEndian.Uint16(raw)), len(raw)-2)
			one := &link.ToAuthority{}
			if proto.Unmarshal(raw[2:2+n], one) == nil {
				s.frames = append(s.frames, one)
				for _, q := range one.GetFetches() {
					named[q.GetId()] = append(named[q.GetId()], q)
				}
			}
			raw = raw[2+n:]
		}
		if len(s.frames) == 0 {
			return
		}
		_ = h.Session(s)
		if ctx.Err() != nil {
			t.Fatalf("the session does not end: %d fetches, %d answers", s.asked, s.n)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		answers := map[uint64]int{}
		for _, to := range s.got {
			if g := to.GetGrant(); g.GetGrantedNs() > int64(quickTimes.Lease) {
				t.Fatalf("granted %v", time.Duration(g.GetGrantedNs()))
			}
			for _, a := range to.GetAnswers() {
				if answers[a.GetId()]++; answers[a.GetId()] > len(named[a.GetId()]) {
					t.Fatalf("%d answers to the fetches %v", answers[a.GetId()], named[a.GetId()])
				}
				holdAnswer(t, a, named[a.GetId()], key)
			}
		}
	})
}

// holdAnswer checks that an answer tells of nothing that none of the fetches of its id has named.
func holdAnswer(t *testing.T, a *link.Answer, asked []*link.Fetch, key [32]byte) {
	t.Helper()
	byKey, byOrg, byDevice := false, false, false
	for _, q := range asked {
		right := bytes.Equal(q.GetKeyHash(), key[:])
		byKey = byKey || right
		ofOrg := right || len(q.GetKeyHash()) != 32 && bytes.Equal(q.GetOrgId(), orgA[:])
		byOrg = byOrg || ofOrg
		byDevice = byDevice || ofOrg && q.GetDeviceId() == "d"
	}
	if a.GetKey().GetKnown() && !byKey || a.GetOrg().GetKnown() && !byOrg || a.GetDevice().GetKnown() && !byDevice {
		t.Fatalf("%v answers %v", a, asked)
	}
}

// FuzzSessions plays whole sessions of a hostile client over gRPC: valid and invalid frames in any order, floods, giants, streams that say or read nothing and that break off. An
// honest edge keeps its session meanwhile, a change settles, and the heap stays bounded.
func FuzzSessions(f *testing.F) {
	for _, seed := range []string{"", "oh1r", "ohfffffrrrrr", "ohg", "ogohG", "ohF\x10F\x10rc", "oo2ohoxoh", "ohnnnnaaac", "oh3w\x04\x22\x00\x22\x00r", "h", "ohbbbbbb"} {
		f.Add([]byte(seed))
	}
	key := [32]byte{9}
	w := fuzzedHub(f, key, Limits{Edges: 64, PerAddress: 32})
	w.hub.hellos = meter{burst: 1 << 30, every: 1} // inputs come faster than edges
	server := grpc.NewServer(link.ServerOptions()...)
	link.RegisterLinkServer(server, w.hub)
	f.Cleanup(server.Stop)
	dial := func(host string, opts ...grpc.DialOption) *grpc.ClientConn {
		l := bufconn.Listen(64 << 10)
		go func() { _ = server.Serve(from{l, host}) }()
		c, err := grpc.NewClient("passthrough:///hub", append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))...)
		if err != nil {
			f.Fatal(err)
		}
		f.Cleanup(func() { _ = c.Close() })
		return c
	}
	good, err := link.NewLinkClient(dial("good", link.DialOptions()...)).Session(context.Background())
	if err != nil {
		f.Fatal(err)
	}
	_ = good.Send(&link.ToAuthority{Hello: helloOf("good", 250)})
	_ = good.Send(&link.ToAuthority{Fetches: []*link.Fetch{{Id: 1, KeyHash: key[:], DeviceId: "d"}}})
	ended := make(chan error, 1)
	go func() {
		for {
			got, err := good.Recv()
			if err != nil {
				ended <- err
				return
			}
			for _, inv := range got.GetInvalidates() {
				_ = good.Send(&link.ToAuthority{Ack: &link.Ack{Index: inv.GetIndex()}})
			}
		}
	}()
	bad := dial("bad", grpc.WithDefaultCallOptions(grpc.ForceCodecV2(raw{}), grpc.MaxCallRecvMsgSize(64<<20)))
	base, inputs := kept(), 0
	f.Fuzz(func(t *testing.T, script []byte) {
		a := &player{t: t, conn: bad, key: key}
		a.play(script)
		select {
		case err := <-ended:
			t.Fatalf("an honest edge's session has ended: %v", err)
		default:
		}
		if n := len(w.hub.Sessions()); n > 33 {
			t.Fatalf("%d sessions", n)
		}
		if inputs++; inputs%50 != 1 {
			return // what is committed stays in the state, and would be all that grows
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		index, _, err := w.command(ctx, &statepb.Command{Change: &statepb.Command_Revoke{Revoke: &statepb.Revoke{OrgId: orgA[:], DeviceId: "d"}}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.hub.Settle(ctx, index); err != nil {
			t.Fatalf("a change does not settle: %v", err)
		}
		if grown := kept() - base; grown > 128<<20 {
			t.Fatalf("the heap has grown by %d MiB", grown>>20)
		}
	})
}

// player plays a script of a hostile client, in which each byte is something that it does on one of four streams.
type player struct {
	t       *testing.T
	conn    *grpc.ClientConn
	key     [32]byte
	streams [4]*stream
	at      int
	process int
}

func (a *player) play(script []byte) {
	defer func() {
		for _, s := range a.streams {
			if s != nil {
				s.cancel()
			}
		}
	}()
	for steps := 0; len(script) > 0 && steps < 64; steps++ {
		op := script[0]
		script = script[1:]
		next := func() int {
			if len(script) == 0 {
				return 0
			}
			b := script[0]
			script = script[1:]
			return int(b)
		}
		switch op {
		case 'o':
			a.open()
		case '0', '1', '2', '3':
			a.at = int(op - '0')
		case 'w': // bytes of the script itself
			n := min(next(), len(script))
			a.send(script[:n])
			script = script[n:]
		default:
			a.do(op, next)
		}
	}
}

func (a *player) open() {
	if s := a.streams[a.at]; s != nil {
		s.cancel()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(a.t.Context()), 50*time.Millisecond) // where nobody reads, nobody may write
	s, err := a.conn.NewStream(ctx, &link.Link_ServiceDesc.Streams[0], link.Link_Session_FullMethodName)
	if err != nil {
		cancel()
		a.streams[a.at] = nil
		return
	}
	a.streams[a.at] = &stream{s, cancel}
}

func (a *player) send(b []byte) {
	if s := a.streams[a.at]; s != nil {
		_ = s.sayRaw(b)
	}
}

func (a *player) do(op byte, next func() int) {
	s := a.streams[a.at]
	if s == nil {
		return
	}
	fetch := &link.Fetch{Id: 7, KeyHash: a.key[:], DeviceId: "d"}
	switch op {
	case 'h':
		a.process++
		s.hello(a.process, nil)
	case 'H':
		s.hello(1, bytes.Repeat([]byte{0xff}, link.HeldBytes))
	case 'f':
		s.say(&link.ToAuthority{Fetches: []*link.Fetch{fetch}})
	case 'F':
		s.say(&link.ToAuthority{Fetches: slices.Repeat([]*link.Fetch{fetch}, 8*next())})
	case 'n':
		s.say(&link.ToAuthority{Renew: &link.Renew{AskedAtNs: int64(next())}})
	case 'a':
		s.say(&link.ToAuthority{Ack: &link.Ack{Index: uint64(next())}})
	case 'A':
		s.say(&link.ToAuthority{Ack: &link.Ack{Index: ^uint64(0)}})
	case 'b':
		s.say(&link.ToAuthority{Ack: &link.Ack{GaveBack: true}})
	case 'g':
		a.send(bytes.Repeat([]byte{4<<3 | 2, 0}, 4<<10*next()))
	case 'G':
		a.send(make([]byte, 64<<10*next()))
	case 'r':
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = s.RecvMsg(&link.ToEdge{})
		}()
		select {
		case <-done:
		case <-time.After(time.Millisecond):
			s.cancel() // a stream has one reader
			<-done
		}
	case 'c':
		_ = s.CloseSend()
	case 'x':
		s.cancel()
	}
}
