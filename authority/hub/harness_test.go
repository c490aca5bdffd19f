package hub

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"

	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/internal/testkit/bubble"
	"machineid/raftstore"
	"machineid/shared/clock"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lease is D of the tests, and stretched its S.
const lease = 3 * time.Second

var (
	usual     = Times{Lease: lease, CacheTTL: time.Minute, Bound: 0.01}
	stretched = usual.Stretched()
	orgA      = state.OrgID{1}
	orgB      = state.OrgID{2}
)

// world is a Hub over a real state machine, with a store, edges and a clock that
// do what the test says. It lives in a bubble.
type world struct {
	t     *testing.T
	start time.Time
	hub   *Hub
	store *fakeStore
	db    *pebble.DB
	m     *state.Machine
	stop  context.CancelFunc // of the hub's dispatch
	done  chan struct{}

	stall atomic.Int64 // how long the next reader of the clock stalls

	mu         sync.Mutex // of the log
	index      uint64
	term       uint64
	refuse     int // how many proposals fail
	proposals  []*statepb.LinkRecord
	proposedAt []time.Duration

	reign  context.CancelFunc
	reigns sync.WaitGroup
	peers  []*peer
}

// Now is a clock that has nothing to do with the time of day. Who reads it stalls then, if the test says so.
func (w *world) Now() clock.Time {
	now := clock.Time(time.Hour + time.Since(w.start))
	time.Sleep(time.Duration(w.stall.Swap(0)))
	return now
}

// since is the time since the world began.
func (w *world) since() time.Duration { return time.Since(w.start) }

// inWorld runs f in a bubble, over a state whose record of leases is rec.
func inWorld(t *testing.T, times Times, rec *statepb.LinkRecord, f func(w *world)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		w := &world{t: t, start: time.Now(), store: &fakeStore{leads: true}, done: make(chan struct{})}
		w.store.world = w
		db, err := pebble.Open("", &pebble.Options{FS: vfs.NewMem(), Logger: quiet{}})
		if err != nil {
			t.Fatal(err)
		}
		w.db = db
		w.m = state.New(func(index uint64, concerns []state.Concern) { w.hub.Notify(index, concerns) })
		w.m.OnRestored(func(index uint64) { w.hub.Restored(index) })
		w.hub = New(Config{
			ID: "a1", HTTPAddress: "authority:7070", Times: times, Clock: w, State: w.m, Propose: w.propose,
			LeaderLink: func() string { return "a2:7071" },
			Now:        func() int64 { return time.Now().UnixMilli() }, Logger: slog.New(slog.DiscardHandler),
		})
		w.hub.Attach(w.store)
		if err := w.m.Restored(db, raftstore.Position{}); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		w.stop = stop
		go func() {
			defer close(w.done)
			_ = w.hub.Run(ctx)
		}()
		if _, err := w.apply(&statepb.Command{Change: &statepb.Command_Seed{Seed: &statepb.Seed{
			Cluster: &statepb.Cluster{ClusterId: "c", Incarnation: make([]byte, 16), HashKey: make([]byte, 16), Link: rec, Replaces: []string{"older", "old"}},
			Plans:   &statepb.Plans{},
		}}}); err != nil {
			t.Fatal(err)
		}
		defer w.end() // also when f fails
		f(w)
	})
}

func (w *world) end() {
	w.depose()
	for _, p := range w.peers {
		p.hangUp()
	}
	w.stop()
	<-w.done
	synctest.Wait()
	time.Sleep(time.Minute) // for the waits of changes to end
	if err := w.db.Close(); err != nil {
		w.t.Error(err)
	}
}

// lead begins a term, and returns when the hub takes sessions or waits.
func (w *world) lead() {
	w.mu.Lock()
	w.term++
	term := w.term
	w.mu.Unlock()
	w.store.set(func(s *fakeStore) { s.term, s.leads = term, true })
	ctx, cancel := context.WithCancel(w.t.Context())
	w.reign = cancel
	w.reigns.Go(func() { w.hub.Lead(ctx, term) })
	synctest.Wait()
}

// depose ends the term.
func (w *world) depose() {
	w.store.set(func(s *fakeStore) { s.leads = false })
	if w.reign != nil {
		w.reign()
	}
	w.reigns.Wait()
	synctest.Wait()
}

func (w *world) propose(_ context.Context, cmd *statepb.Command) (state.Outcome, error) {
	w.mu.Lock()
	w.proposals = append(w.proposals, cmd.GetSetLink().GetRecord())
	w.proposedAt = append(w.proposedAt, w.since())
	if w.refuse > 0 {
		w.refuse--
		w.mu.Unlock()
		return state.Outcome{}, errors.New("no quorum")
	}
	w.mu.Unlock()
	return w.apply(cmd)
}

// apply does what raftstore does with one command.
func (w *world) apply(cmd *statepb.Command) (state.Outcome, error) {
	raw, err := proto.Marshal(cmd)
	if err != nil {
		return state.Outcome{}, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.index++
	at := raftstore.Position{Index: w.index, Term: w.term}
	batch := w.db.NewIndexedBatch()
	out, _ := w.m.Apply(batch, at, raw).(state.Outcome)
	if err := errors.Join(batch.Commit(pebble.NoSync), batch.Close()); err != nil {
		return out, err
	}
	w.m.Committed(at)
	return out, nil
}

// change is a change of one device of an org; it returns its index.
func (w *world) change(org state.OrgID) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.index++
	w.hub.Notify(w.index, []state.Concern{{Kind: state.ConcernOccupant, Org: org, Occupant: "d"}})
	return w.index
}

// settled is what Settle said, and when.
type settled struct {
	at  time.Duration
	p   Propagation
	err error
}

// settle calls Settle and hands over what it says.
func (w *world) settle(index uint64) <-chan settled {
	out := make(chan settled, 1)
	go func() {
		p, err := w.hub.Settle(context.WithoutCancel(w.t.Context()), index)
		out <- settled{w.since(), p, err}
	}()
	synctest.Wait()
	return out
}

// now returns what a wait has come to, or fails: it should not wait any more.
func (w *world) now(c <-chan settled) settled {
	w.t.Helper()
	synctest.Wait()
	select {
	case s := <-c:
		return s
	default:
		w.t.Fatalf("at %v: it still waits", w.since())
		return settled{}
	}
}

// waits fails if a wait is over.
func (w *world) waits(c <-chan settled) {
	w.t.Helper()
	synctest.Wait()
	select {
	case s := <-c:
		w.t.Fatalf("at %v: it waits no more: %+v", w.since(), s)
	default:
	}
}

// record is the replicated record.
func (w *world) record() *statepb.LinkRecord { return w.m.Cluster().GetLink() }

// left is what is booked of an edge's lease, by the list of sessions.
func (w *world) left(edge string) time.Duration {
	w.t.Helper()
	for _, s := range w.hub.Sessions() {
		if s.EdgeID == edge {
			return s.LeaseLeft
		}
	}
	w.t.Fatalf("no session of %s", edge)
	return 0
}
