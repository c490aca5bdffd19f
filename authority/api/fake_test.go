package api_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"machineid/authority/hub"
	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/raftstore"
	"machineid/shared/format"
	"machineid/shared/orgkey"
)

// testStore is the real store, which can be told to fail.
type testStore struct {
	*raftstore.Store

	mu      sync.Mutex
	propose func(context.Context) (state.Outcome, error) // instead of proposing
	read    func(context.Context) error                  // instead of reading
	view    func() (*raftstore.View, error)              // instead of what this node has now
	last    *statepb.Command
	ahead   func(*statepb.Command) // runs before a command is proposed
}

func (s *testStore) before(f func(*statepb.Command)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead = f
}

func (s *testStore) fail(propose func(context.Context) (state.Outcome, error), read func(context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.propose, s.read = propose, read
}

func (s *testStore) Propose(ctx context.Context, cmd *statepb.Command) (uint64, state.Outcome, error) {
	raw, err := state.Encode(cmd)
	if err != nil {
		return 0, state.Outcome{}, err
	}
	if keyForm.Match(raw) {
		panic("a key goes into the log")
	}
	s.mu.Lock()
	s.last = proto.CloneOf(cmd)
	instead, ahead := s.propose, s.ahead
	s.mu.Unlock()
	if ahead != nil {
		ahead(cmd)
	}
	if instead != nil {
		out, err := instead(ctx)
		return 1, out, err
	}
	res, err := s.Store.Propose(ctx, raw)
	if err != nil {
		return 0, state.Outcome{}, err
	}
	out, ok := res.Outcome.(state.Outcome)
	if !ok {
		panic(fmt.Sprintf("a command came to %T", res.Outcome))
	}
	return res.Index, out, nil
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

func (s *testStore) View() (*raftstore.View, error) {
	s.mu.Lock()
	instead := s.view
	s.mu.Unlock()
	if instead != nil {
		return instead()
	}
	return s.Store.View()
}

// lag has the node see no more than what it has now, until the returned function is called.
func (s *testStore) lag(tb testing.TB) (catchUp func()) {
	tb.Helper()
	set := func(f func() (*raftstore.View, error)) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.view = f
	}
	old := make(chan *raftstore.View, 8)
	for range cap(old) {
		v, err := s.Store.View()
		if err != nil {
			tb.Fatal(err)
		}
		old <- v
	}
	set(func() (*raftstore.View, error) { return <-old, nil })
	return func() {
		set(nil)
		for range len(old) {
			_ = (<-old).Close()
		}
	}
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
	behind  atomic.Bool
	seen    []string
	used    map[[32]byte]int64
}

func (h *testHub) EdgesMayBeBehind() bool { return h.behind.Load() }

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

// pass lets one go on that waits.
func (h *testHub) pass() {
	h.mu.Lock()
	gate := h.gate
	h.mu.Unlock()
	gate <- struct{}{}
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

// Progress knows of three indexes, and of what is younger that it is not there.
func (h *testHub) Progress(_ context.Context, index uint64, _ state.OrgID) (hub.Progress, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := hub.Progress{Index: index, Pending: h.gate != nil}
	switch {
	case h.err != nil:
		return p, h.err
	case index > 8812:
		return p, hub.ErrNoIndex
	case index == 8812:
		p.Known, p.Edges, p.Confirmed, p.Elapsed = true, 3, 3, 2100*time.Microsecond
		if p.Pending {
			p.Confirmed, p.Expired, p.Waiting = 1, 1, []string{"e3"}
		}
	}
	return p, nil
}

func (h *testHub) SettleOrg(ctx context.Context, index uint64, id state.OrgID) error {
	if index == 0 {
		return fmt.Errorf("settle org %v at %d: that is no change", id, index)
	}
	if id == (state.OrgID{}) {
		return h.settle(ctx, "all orgs")
	}
	return h.settle(ctx, "org")
}

func (h *testHub) Seen(_ state.OrgID, device string, _ int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen = append(h.seen, device)
}

func (h *testHub) Used(keyHash [32]byte, atMs int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.used == nil {
		h.used = map[[32]byte]int64{}
	}
	h.used[keyHash] = atMs
}

// lastUsed takes when a key was used last.
func (h *testHub) lastUsed(key string) int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := h.used[orgkey.Sum([]byte(key))]
	clear(h.used)
	return at
}

func (h *testHub) Sessions() []hub.Session {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return nil
	}
	return []hub.Session{
		{
			EdgeID: "e1", Version: "v1", Format: format.Newest, Address: "10.0.0.1:5", Connected: true, Since: time.Hour, LeaseLeft: 2900 * time.Millisecond, Acked: 7,
			AckTook: 400 * time.Microsecond, Reported: true, Hits: 75, Misses: 25, Entries: 12,
		},
		{EdgeID: "e2", Format: format.Baseline, Behind: 2, BehindFor: time.Second},
	}
}

func (*testHub) Edge(token string) string {
	if token == edgeToken {
		return "e1"
	}
	return ""
}
