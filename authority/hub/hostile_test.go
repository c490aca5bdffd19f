package hub

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"

	"machineid/shared/link"
)

// from is a listener whose callers are at an address.
type from struct {
	*bufconn.Listener
	host string
}

type fromConn struct {
	net.Conn
	host string
}

func (f from) Accept() (net.Conn, error) {
	c, err := f.Listener.Accept()
	return fromConn{c, fmt.Sprintf("%s:%d", f.host, port.Add(1))}, err
}

var port atomic.Int64

func (c fromConn) RemoteAddr() net.Addr { return host(c.host) }

type host string

func (h host) Network() string { return "tcp" }
func (h host) String() string  { return string(h) }

// reached is the hub behind gRPC, as the authority serves it.
type reached struct {
	*realWorld
	server *grpc.Server
	lines  *lines
	conns  []*grpc.ClientConn
}

// lines counts what is logged.
type lines struct{ n atomic.Int64 }

func (l *lines) Write(p []byte) (int, error) {
	l.n.Add(1)
	return len(p), nil
}

// inReach runs f in a bubble in which the hub is reached over gRPC.
func inReach(t *testing.T, limits Limits, f func(w *reached)) {
	t.Helper()
	said := &lines{}
	inRealWorldOf(t, func(c *Config) { c.Limits, c.Logger = limits, slog.New(slog.NewTextHandler(said, nil)) }, func(inner *realWorld) {
		w := &reached{realWorld: inner, server: grpc.NewServer(link.ServerOptions()...), lines: said}
		link.RegisterLinkServer(w.server, w.hub)
		defer func() {
			for _, c := range w.conns {
				_ = c.Close()
			}
			w.server.Stop()
		}()
		f(w)
	})
}

// dial returns connections from an address.
func (w *reached) dial(host string, opts ...grpc.DialOption) func() *grpc.ClientConn {
	l := bufconn.Listen(64 << 10)
	go func() { _ = w.server.Serve(w.hub.Listen(from{l, host})) }()
	return func() *grpc.ClientConn {
		c, err := grpc.NewClient("passthrough:///hub", append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }))...)
		if err != nil {
			w.t.Fatal(err)
		}
		w.conns = append(w.conns, c)
		return c
	}
}

// honest is an edge that does what it should, and looks that its lease never ends.
type honest struct {
	w      *reached
	ended  chan error
	cancel context.CancelFunc
	grants atomic.Int64
	lost   atomic.Int64
	ask    func()
}

// joinHonest begins its session, and returns when it has a lease and what it holds.
func (w *reached) joinHonest() *honest {
	e := &honest{w: w, ended: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	e.cancel = cancel
	stream, err := link.NewLinkClient(w.dial("honest", link.DialOptions()...)()).Session(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	hello := helloOf("honest", 200)
	if err := stream.Send(&link.ToAuthority{Hello: hello, Fetches: nil}); err != nil {
		w.t.Fatal(err)
	}
	var sending sync.Mutex
	send := func(f *link.ToAuthority) {
		sending.Lock()
		defer sending.Unlock()
		_ = stream.Send(f)
	}
	var until atomic.Int64
	answered := make(chan struct{}, 100)
	go func() {
		for {
			f, err := stream.Recv()
			if err != nil {
				e.ended <- err
				return
			}
			index := f.GetWelcome().GetIndex()
			for _, inv := range f.GetInvalidates() {
				index = inv.GetIndex()
			}
			if index > 0 {
				send(&link.ToAuthority{Ack: &link.Ack{Index: index}})
			}
			if g := f.GetGrant(); g != nil {
				until.Store(g.GetAskedAtNs() + g.GetGrantedNs())
				e.grants.Add(1)
			}
			if f.GetAnswers() != nil {
				answered <- struct{}{}
			}
		}
	}()
	go func() {
		for ctx.Err() == nil {
			now := int64(w.Now())
			if e.grants.Load() > 0 && now >= until.Load() {
				e.lost.Add(1)
			}
			send(&link.ToAuthority{Renew: &link.Renew{AskedAtNs: now}})
			select {
			case <-time.After(lease / 4):
			case <-ctx.Done():
			}
		}
	}()
	e.ask = func() {
		send(&link.ToAuthority{Fetches: []*link.Fetch{{Id: 1, KeyHash: w.hash[:], DeviceId: "d"}}})
		<-answered
	}
	for e.grants.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	return e
}

// stands fails if the edge has lost its session or lease, or a change takes longer than S.
func (e *honest) stands(what string) {
	t := e.w.t
	t.Helper()
	select {
	case err := <-e.ended:
		t.Fatalf("%s: the session of an honest edge has ended: %v", what, err)
	default:
	}
	if n := e.lost.Load(); n > 0 {
		t.Errorf("%s: an honest edge was without a lease, %d times", what, n)
	}
	e.ask() // it holds what is changed
	began := e.w.since()
	p, err := e.w.hub.Settle(context.WithoutCancel(t.Context()), e.w.revoke())
	if took := e.w.since() - began; err != nil || took > stretched {
		t.Errorf("%s: a change took %v: %v", what, took, err)
	}
	if p.Confirmed == 0 {
		t.Errorf("%s: the honest edge has not acknowledged: %+v", what, p)
	}
}

// raw is gRPC's codec for frames that the test has written.
type raw struct{}

func (raw) Name() string { return "proto" }

func (raw) Marshal(v any) (mem.BufferSlice, error) {
	if b, ok := v.([]byte); ok {
		return mem.BufferSlice{mem.SliceBuffer(b)}, nil
	}
	return nil, fmt.Errorf("%T", v)
}

func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	to, ok := v.(*link.ToEdge)
	if !ok {
		return fmt.Errorf("%T", v)
	}
	return proto.Unmarshal(data.Materialize(), to)
}

var _ encoding.CodecV2 = raw{}

// attacker opens streams from one address.
type attacker struct {
	w    *reached
	dial func() *grpc.ClientConn
	conn *grpc.ClientConn
}

func (w *reached) attack() *attacker {
	a := &attacker{w: w, dial: w.dial("evil", grpc.WithDefaultCallOptions(grpc.ForceCodecV2(raw{}), grpc.MaxCallRecvMsgSize(64<<20)), grpc.WithInitialWindowSize(64<<10), grpc.WithInitialConnWindowSize(64<<10))}
	a.conn = a.dial()
	return a
}

// stream is one of an attacker's.
type stream struct {
	grpc.ClientStream
	cancel context.CancelFunc
}

func (a *attacker) stream() *stream {
	ctx, cancel := context.WithCancel(context.WithoutCancel(a.w.t.Context()))
	s, err := a.conn.NewStream(ctx, &link.Link_ServiceDesc.Streams[0], link.Link_Session_FullMethodName)
	if err != nil {
		a.w.t.Fatal(err)
	}
	return &stream{s, cancel}
}

// say sends a frame, if the stream still is.
func (s *stream) say(f *link.ToAuthority) bool { return s.sayRaw(marshal(f)) }

func (s *stream) sayRaw(b []byte) bool { return s.SendMsg(b) == nil }

func marshal(f *link.ToAuthority) []byte {
	b, err := proto.Marshal(f)
	if err != nil {
		return []byte{1<<3 | 2, 4, 1<<3 | 2, 2, 0xff, 0xfe} // a name that is no text
	}
	return b
}

// end reads until the stream ends.
func (s *stream) end() error {
	for {
		if err := s.RecvMsg(&link.ToEdge{}); err != nil {
			return err
		}
	}
}

// hello begins a session of the n-th process.
func (s *stream) hello(n int, held []byte) bool {
	hello := helloOf(fmt.Sprintf("evil%d", n), 0)
	binary.BigEndian.PutUint64(hello.ProcessId, uint64(n)+1)
	hello.Incarnation, hello.Held, hello.Session = make([]byte, 16), held, 1
	return s.say(&link.ToAuthority{Hello: hello})
}

// attacks are named ones; each is over when it returns.
var attacks = map[string]func(a *attacker){
	"a frame of empty fetches": func(a *attacker) {
		s := a.stream()
		s.hello(1, nil)
		s.sayRaw(bytes.Repeat([]byte{4<<3 | 2, 0}, 500_000))
		_ = s.end()
	},
	"a frame of empty fetches instead of a Hello": func(a *attacker) {
		for range 50 {
			s := a.stream()
			s.sayRaw(bytes.Repeat([]byte{4<<3 | 2, 0}, 50_000))
			_ = s.end()
		}
	},
	"a frame larger than any": func(a *attacker) {
		s := a.stream()
		s.hello(1, nil)
		s.sayRaw(make([]byte, 16<<20))
		_ = s.end()
	},
	"an edge with a giant name": func(a *attacker) {
		s := a.stream()
		s.say(&link.ToAuthority{Hello: &link.Hello{EdgeId: strings.Repeat("x", 900<<10), ProcessId: make([]byte, 16), DecisionVersion: 1}})
		_ = s.end()
	},
	"fetches of nothing": func(a *attacker) {
		s := a.stream()
		s.hello(1, nil)
		for range 100 {
			f := &link.ToAuthority{}
			for i := range uint64(link.MaxFetches) {
				f.Fetches = append(f.Fetches, &link.Fetch{Id: i})
			}
			if !s.say(f) || s.RecvMsg(&link.ToEdge{}) != nil {
				break
			}
		}
		s.cancel()
	},
	"an edge that asks and does not read": func(a *attacker) {
		s := a.stream()
		s.hello(1, nil)
		f := &link.ToAuthority{}
		for i := range uint64(link.MaxFetches) {
			f.Fetches = append(f.Fetches, &link.Fetch{Id: i, KeyHash: a.w.hash[:], DeviceId: "d"})
		}
		b := marshal(f)
		for range 60 {
			if !s.sayRaw(b) {
				break
			}
		}
		synctest.Wait()
		_ = s.end()
	},
	"an edge that renews and acknowledges nothing": func(a *attacker) {
		s := a.stream()
		s.hello(1, nil)
		s.say(&link.ToAuthority{Fetches: []*link.Fetch{{Id: 1, KeyHash: a.w.hash[:], DeviceId: "d"}}})
		go func() { _ = s.end() }()
		for range 20 {
			for range 50 {
				a.w.revoke()
			}
			time.Sleep(lease / 4)
			s.say(&link.ToAuthority{Renew: &link.Renew{AskedAtNs: 1}})
		}
		synctest.Wait()
		if s.Context().Err() == nil && s.say(&link.ToAuthority{}) {
			a.w.t.Error("an edge that acknowledges nothing keeps its session")
		}
		s.cancel()
	},
	"sessions of ever new processes": func(a *attacker) {
		held := bytes.Repeat([]byte{0xff}, link.HeldBytes)
		for n := range 150 {
			s := a.stream()
			if n%8 != 0 {
				s.hello(n, nil)
			} else {
				s.hello(n, held)
			}
			_ = s.RecvMsg(&link.ToEdge{})
			s.cancel()
			synctest.Wait()
		}
	},
	"sessions that stay": func(a *attacker) {
		var all []*stream
		for n := range 150 {
			if n%4 == 0 {
				a.conn = a.dial()
			}
			s := a.stream()
			s.hello(n, nil)
			all = append(all, s)
		}
		synctest.Wait()
		for _, s := range all {
			s.cancel()
		}
	},
	"streams without a Hello": func(a *attacker) {
		for range 20 {
			a.conn = a.dial()
			for range 4 {
				a.stream()
			}
		}
		time.Sleep(helloTime + time.Second)
	},
	"reports of everything": func(a *attacker) {
		s := a.stream()
		s.hello(1, nil)
		go func() { _ = s.end() }()
		for i := range 300 {
			seen := &link.Seen{OrgId: orgA[:]}
			for k := range 300 {
				seen.DeviceIds, seen.AtMs = append(seen.DeviceIds, fmt.Sprintf("%0200d-%d", i, k)), append(seen.AtMs, 1)
			}
			if !s.say(&link.ToAuthority{Report: &link.Report{Seen: []*link.Seen{seen}}}) {
				break
			}
		}
		s.cancel()
	},
	"anything": func(a *attacker) {
		rng := rand.New(rand.NewPCG(3, 5))
		for n := range 100 {
			s := a.stream()
			if n%2 == 0 {
				s.hello(n%5, nil)
			}
			for range rng.IntN(20) {
				var b []byte
				if rng.IntN(2) == 0 {
					b = marshal(hostileFrame(rng))
				} else {
					b = make([]byte, rng.IntN(2000))
					for i := range b {
						b[i] = byte(rng.Uint32())
					}
				}
				if !s.sayRaw(b) {
					break
				}
			}
			s.cancel()
		}
	},
}

// kept is what the heap holds.
func kept() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // pools
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestHostileClients: whoever reaches the link takes neither the leader's memory nor its log, nor another edge's lease, and holds a change up for S at most (I2, I14).
func TestHostileClients(t *testing.T) {
	limits := Limits{Edges: 100, PerAddress: 40}
	for name, attack := range attacks {
		t.Run(name, func(t *testing.T) {
			inReach(t, limits, func(w *reached) {
				e := w.joinHonest()
				defer e.cancel()
				e.stands("before")
				before, said := kept(), w.lines.n.Load()
				attack(w.attack())
				synctest.Wait()
				if n := len(w.hub.Sessions()); n > limits.PerAddress+1 {
					w.t.Errorf("%d sessions", n)
				}
				grown := kept() - before
				if grown > 24<<20 {
					w.t.Errorf("%d MiB are kept", grown>>20)
				}
				if n := w.lines.n.Load() - said; n > 2*hostLines {
					w.t.Errorf("%d lines are logged", n)
				}
				e.stands("during")
				time.Sleep(2*usual.CacheTTL + 4*lease) // what is past goes
				if left := kept() - before; left > 12<<20 {
					w.t.Errorf("%d MiB are left of it", left>>20)
				}
				e.stands("after")
				if n := len(w.hub.Sessions()); n != 1 {
					w.t.Errorf("%d sessions are left", n)
				}
				w.hub.mu.Lock()
				slots, rows := len(w.hub.reign.slots), len(w.hub.reign.directory.present)
				w.hub.mu.Unlock()
				if slots > 2 || rows > 1 {
					w.t.Errorf("%d slots and %d rows are left", slots, rows)
				}
			})
		})
	}
}
