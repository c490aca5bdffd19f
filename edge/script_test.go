package edge

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"machineid/shared/clock"
	"machineid/shared/link"
	"machineid/shared/orgkey"
)

// authority says to edges what the test wants; what the test leaves alone, it does
// honestly. It is also the clock that the edge keeps.
type authority struct {
	link.UnimplementedLinkServer
	listener *bufconn.Listener
	server   *grpc.Server
	began    time.Time

	mu      sync.Mutex
	rate    float64 // of the edge's clock
	skew    time.Duration
	term    uint64
	index   uint64
	keys    map[orgkey.Hash]*link.KeyRecord
	orgs    map[orgID]*link.OrgRecord
	devices map[string]*link.DeviceRecord
	hashing link.Hasher

	welcome func(*link.Welcome) *link.ToEdge // changes what is said first
	grant   func(*link.Renew) *link.Grant    // nil: a full lease
	answer  func(*link.Fetch) *link.Answer   // nil: what is known; what it answers nil to is not answered

	said
	current *conversation
}

// said is what edges have said.
type said struct {
	hellos   []time.Duration
	hello    *link.Hello // the newest
	renewals int
	fetched  []*link.Fetch
	largest  int // frame, in fetches
	acks     []*link.Ack
	reports  []*link.Report
}

func (a *authority) heard() said {
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.said
}

// say sends a frame to the edge.
func (a *authority) say(f *link.ToEdge) {
	a.mu.Lock()
	c := a.current
	a.mu.Unlock()
	c.send(f)
	synctest.Wait()
}

// release answers a fetch that was held back, as things are now.
func (a *authority) release(f *link.Fetch) {
	a.mu.Lock()
	answer := a.known(f)
	a.mu.Unlock()
	a.say(&link.ToEdge{Answers: []*link.Answer{answer}})
}

// conversation is one session's stream, on which several may send.
type conversation struct {
	mu     sync.Mutex
	stream link.Link_SessionServer
	cancel context.CancelFunc
}

func newAuthority() *authority {
	a := &authority{
		listener: bufconn.Listen(1 << 20), server: grpc.NewServer(), began: time.Now(), rate: 1, term: 1, index: 100,
		keys: map[orgkey.Hash]*link.KeyRecord{}, orgs: map[orgID]*link.OrgRecord{}, devices: map[string]*link.DeviceRecord{},
	}
	a.hashing, _ = link.NewHasher(make([]byte, 16))
	link.RegisterLinkServer(a.server, a)
	go func() { _ = a.server.Serve(a.listener) }()
	return a
}

// Now is the edge's clock, and At what it read at a moment: it counts from what the
// server has read already (clock.At).
func (a *authority) Now() clock.Time { return a.At(time.Now()) }

func (a *authority) At(t time.Time) clock.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return clock.Time(float64(t.Sub(a.began))*a.rate) + clock.Time(time.Hour)
}

// set changes the script.
func (a *authority) set(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
}

func (a *authority) Session(stream link.Link_SessionServer) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	c := &conversation{stream: stream, cancel: cancel}
	a.mu.Lock()
	a.hellos, a.hello = append(a.hellos, time.Since(a.began)), first.GetHello()
	a.current = c
	w := &link.Welcome{
		Term: a.term, AuthorityId: "a1", Index: a.index, HashKey: make([]byte, 16), LeaseNs: int64(testLease), CacheTtlNs: int64(testTTL),
		HttpAddress: "127.0.0.1:1", ProxyToken: "token", Incarnation: make([]byte, 16), Reset_: true, // it replays nothing
	}
	said := &link.ToEdge{Welcome: w}
	if a.welcome != nil {
		said = a.welcome(w)
	}
	a.mu.Unlock()
	if err := stream.Send(said); err != nil {
		return err
	}
	frames, failed := make(chan *link.ToAuthority), make(chan struct{})
	go func() {
		for {
			f, err := stream.Recv()
			if err != nil {
				close(failed)
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
		case <-failed:
			return nil
		case f := <-frames:
			if reply := a.reply(f); reply != nil {
				c.send(reply)
			}
		}
	}
}

func (c *conversation) send(f *link.ToEdge) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.stream.Send(f)
}

func (a *authority) reply(f *link.ToAuthority) *link.ToEdge {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := &link.ToEdge{}
	if r := f.GetRenew(); r != nil {
		a.renewals++
		if a.grant != nil {
			out.Grant = a.grant(r)
		} else {
			out.Grant = a.granted(r)
		}
	}
	if f.GetAck() != nil {
		a.acks = append(a.acks, f.GetAck())
	}
	if f.GetReport() != nil {
		a.reports = append(a.reports, f.GetReport())
	}
	a.largest = max(a.largest, len(f.GetFetches()))
	for _, q := range f.GetFetches() {
		a.fetched = append(a.fetched, q)
		answer := a.known(q)
		if a.answer != nil {
			answer = a.answer(q)
		}
		if answer != nil {
			out.Answers = append(out.Answers, answer)
		}
	}
	if out.Grant == nil && out.Answers == nil {
		return nil
	}
	return out
}

// granted is the honest grant. a.mu is held.
func (a *authority) granted(r *link.Renew) *link.Grant {
	return &link.Grant{AskedAtNs: r.GetAskedAtNs(), GrantedNs: int64(testLease), NowMs: time.Now().Add(a.skew).UnixMilli(), Index: a.index}
}

// known is the honest answer. a.mu is held.
func (a *authority) known(f *link.Fetch) *link.Answer {
	out := &link.Answer{Id: f.GetId(), Index: a.index}
	org := f.GetOrgId()
	if len(f.GetKeyHash()) == 32 {
		if out.Key = a.keys[orgkey.Hash(f.GetKeyHash())]; out.Key == nil {
			out.Key = &link.KeyRecord{}
			return out
		}
		org = out.Key.GetOrgId()
	}
	if !f.GetDeviceOnly() {
		if out.Org = a.orgs[orgID(org)]; out.Org == nil {
			out.Org = &link.OrgRecord{}
			return out
		}
	}
	if out.Device = a.devices[f.GetDeviceId()]; out.Device == nil {
		out.Device = &link.DeviceRecord{}
	}
	return out
}

// change does a change, tells the edge, and waits for its Ack.
func (a *authority) change(t *testing.T, f func(), hashes ...uint64) uint64 {
	t.Helper()
	a.mu.Lock()
	a.index++
	index, c := a.index, a.current
	f()
	a.mu.Unlock()
	c.send(&link.ToEdge{Invalidates: []*link.Invalidate{{Index: index, Hashes: hashes}}})
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.acks); n == 0 || a.acks[n-1].GetIndex() < index {
		t.Errorf("no Ack of %d: %v", index, a.acks)
	}
	return index
}

func (a *authority) device(id string) uint64 { return a.hashing.Device(&testOrg, []byte(id)) }

// breakOff ends the session.
func (a *authority) breakOff() {
	a.mu.Lock()
	c := a.current
	a.mu.Unlock()
	c.cancel()
	synctest.Wait()
}

// fetches is how many have come.
func (a *authority) fetches() int { return len(a.heard().fetched) }

// revoked and active are records of devices.
func active() *link.DeviceRecord  { return &link.DeviceRecord{Known: true} }
func revoked() *link.DeviceRecord { return &link.DeviceRecord{Known: true, Revoked: true} }
