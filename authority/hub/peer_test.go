package hub

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing/synctest"

	"google.golang.org/grpc"

	"machineid/authority/state"
	"machineid/raftstore"
	"machineid/shared/link"
)

// fakeStore is leadership as the test wants it.
type fakeStore struct {
	world *world

	mu      sync.Mutex
	term    uint64
	leads   bool
	format  int
	confirm func() (uint64, error) // nil: the term is confirmed at once
	view    func() (*raftstore.View, error)
	reignAt func(index uint64) (raftstore.Reign, bool)                       // nil: all is of the term that is led
	judge   func(index, term uint64, id raftstore.ReignID) raftstore.Verdict // nil: what was dispatched is of one history
}

func (s *fakeStore) Format() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.format
}

// reignOf is the reign of a term.
func reignOf(term uint64) raftstore.ReignID { return raftstore.ReignID{15: byte(term)} }

func (s *fakeStore) ReignAt(index uint64) (raftstore.Reign, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reignAt != nil {
		return s.reignAt(index)
	}
	return raftstore.Reign{Term: s.term, ID: reignOf(s.term)}, true
}

func (s *fakeStore) Judge(index, term uint64, id raftstore.ReignID) raftstore.Verdict {
	s.mu.Lock()
	f := s.judge
	s.mu.Unlock()
	switch {
	case f != nil:
		return f(index, term, id)
	case index <= s.world.dispatched():
		return raftstore.VerdictSame
	}
	return raftstore.VerdictUnknown
}

func (s *fakeStore) set(f func(*fakeStore)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

func (s *fakeStore) Leading() (uint64, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.term, s.leads
}

func (s *fakeStore) Confirm(context.Context) (uint64, error) {
	s.mu.Lock()
	term, f := s.term, s.confirm
	s.mu.Unlock()
	if f != nil {
		return f()
	}
	return term, nil
}

func (s *fakeStore) View() (*raftstore.View, error) {
	s.mu.Lock()
	f := s.view
	s.mu.Unlock()
	if f != nil {
		return f()
	}
	return nil, errors.New("no state")
}

// peer is an edge's end of one session: a stream in memory. Only these methods of
// it are called.
type peer struct {
	grpc.ServerStream
	w      *world
	ctx    context.Context
	hangUp context.CancelFunc
	up     chan *link.ToAuthority
	ended  chan error

	mu    sync.Mutex
	deaf  bool // it reads nothing
	got   []*link.ToEdge
	told  []uint64 // indexes of all invalidations so far
	react func(*link.ToEdge) *link.ToAuthority
}

func (p *peer) Context() context.Context { return p.ctx }

func (p *peer) Recv() (*link.ToAuthority, error) {
	select {
	case f, ok := <-p.up:
		if !ok {
			return nil, io.EOF
		}
		return f, nil
	case <-p.ctx.Done():
		return nil, p.ctx.Err()
	}
}

func (p *peer) Send(f *link.ToEdge) error {
	p.mu.Lock()
	deaf, react := p.deaf, p.react
	if !deaf {
		p.got = append(p.got, f)
		p.told = append(p.told, invalidated([]*link.ToEdge{f})...)
	}
	p.mu.Unlock()
	if deaf {
		<-p.ctx.Done()
		return p.ctx.Err()
	}
	if react != nil {
		if answer := react(f); answer != nil {
			go p.say(answer)
		}
	}
	return p.ctx.Err()
}

// say sends a frame, if the stream still is.
func (p *peer) say(f *link.ToAuthority) {
	select {
	case p.up <- f:
	case <-p.ctx.Done():
	}
}

// tell sends a frame and waits until the hub has done all it does about it.
func (p *peer) tell(f *link.ToAuthority) {
	p.say(f)
	synctest.Wait()
}

func (p *peer) ack(index uint64) { p.tell(&link.ToAuthority{Ack: &link.Ack{Index: index}}) }

// renew returns the grant that a Renew brought, nil for none.
func (p *peer) renew() *link.Grant {
	p.frames()
	p.tell(&link.ToAuthority{Renew: &link.Renew{AskedAtNs: int64(p.w.Now())}})
	for _, f := range p.frames() {
		if g := f.GetGrant(); g != nil {
			return g
		}
	}
	return nil
}

// frames takes what the hub has said since.
func (p *peer) frames() []*link.ToEdge {
	p.mu.Lock()
	defer p.mu.Unlock()
	got := p.got
	p.got = nil
	return got
}

// invalidated lists the indexes of the invalidations among frames.
func invalidated(frames []*link.ToEdge) (list []uint64) {
	for _, f := range frames {
		for _, inv := range f.GetInvalidates() {
			list = append(list, inv.GetIndex())
		}
	}
	return list
}

// open begins a session without a Hello.
func (w *world) open() *peer {
	p := &peer{w: w, up: make(chan *link.ToAuthority), ended: make(chan error, 1)}
	p.ctx, p.hangUp = context.WithCancel(context.WithoutCancel(w.t.Context()))
	w.peers = append(w.peers, p)
	go func() {
		err := w.hub.Session(p)
		p.hangUp() // as gRPC does
		p.ended <- err
	}()
	return p
}

// join begins a session of a process that remembers all that the tests change.
func (w *world) join(edge string, process byte) *peer {
	hello := w.current(edge, process)
	hello.Held = make([]byte, link.HeldBytes)
	for _, org := range []state.OrgID{orgA, orgB} {
		for _, h := range hashesOf(org) {
			b := link.BucketOf(h)
			hello.Held[b/8] |= 1 << (b % 8)
		}
	}
	return w.greet(hello)
}

// joinHoldingAll begins a session of a process that may hold everything there is.
func (w *world) joinHoldingAll(edge string, process byte) *peer {
	hello := w.current(edge, process)
	hello.Held = bytes.Repeat([]byte{0xff}, link.HeldBytes)
	return w.greet(hello)
}

// current is the Hello of a process that has had a session of this reign, and heard of all there is.
func (w *world) current(edge string, process byte) *link.Hello {
	hello := helloOf(edge, process)
	hello.Incarnation = make([]byte, 16)
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	hello.LastIndex = w.hub.dispatched
	if r := w.hub.reign; r != nil {
		hello.Term, hello.Reign = r.term, r.id[:]
	}
	return hello
}

// greet begins a session with a Hello.
func (w *world) greet(hello *link.Hello) *peer {
	p := w.open()
	p.tell(&link.ToAuthority{Hello: hello})
	return p
}

func helloOf(edge string, process byte) *link.Hello {
	return &link.Hello{EdgeId: edge, ProcessId: slices.Repeat([]byte{process}, 16), DecisionVersion: 1, Reign: make([]byte, 16)}
}

// hashesOf are those of an org and of its device "d", by the tests' hash key.
func hashesOf(org state.OrgID) [2]uint64 {
	hasher, err := link.NewHasher(make([]byte, 16))
	if err != nil {
		panic(err)
	}
	id := [16]byte(org)
	return [2]uint64{hasher.Org(&id), hasher.Device(&id, []byte("d"))}
}

// over reports whether the hub has ended the session.
func (p *peer) over() bool {
	synctest.Wait()
	return p.ctx.Err() != nil
}

// quiet drops what Pebble logs.
type quiet struct{}

func (quiet) Infof(string, ...any)  {}
func (quiet) Errorf(string, ...any) {}
func (quiet) Fatalf(string, ...any) { panic("pebble") }
