package hub

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/hashicorp/raft"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/internal/testkit/bubble"
	"machineid/raftstore"
	"machineid/shared/link"
)

// TestASessionBeginsWithAHello that is whole.
func TestASessionBeginsWithAHello(t *testing.T) {
	process := make([]byte, 16)
	for name, c := range map[string]struct {
		first *link.ToAuthority
		want  codes.Code
	}{
		"nil":                   {nil, codes.InvalidArgument},
		"nothing":               {&link.ToAuthority{}, codes.InvalidArgument},
		"no Hello":              {&link.ToAuthority{Renew: &link.Renew{}}, codes.InvalidArgument},
		"an empty Hello":        {&link.ToAuthority{Hello: &link.Hello{}}, codes.InvalidArgument},
		"no edge":               {&link.ToAuthority{Hello: &link.Hello{ProcessId: process, DecisionVersion: 1}}, codes.InvalidArgument},
		"a short process":       {&link.ToAuthority{Hello: &link.Hello{EdgeId: "e", ProcessId: process[:15], DecisionVersion: 1}}, codes.InvalidArgument},
		"a long process":        {&link.ToAuthority{Hello: &link.Hello{EdgeId: "e", ProcessId: make([]byte, 17), DecisionVersion: 1}}, codes.InvalidArgument},
		"no decision's version": {&link.ToAuthority{Hello: &link.Hello{EdgeId: "e", ProcessId: process}}, codes.FailedPrecondition},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, usual, nil, func(w *world) {
				t := w.t
				w.lead()
				p := w.open()
				p.tell(c.first)
				if err := <-p.ended; status.Code(err) != c.want {
					t.Error(err)
				}
				if n := len(w.hub.Sessions()); n != 0 {
					t.Errorf("%d sessions", n)
				}
			})
		})
	}
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		w.lead()
		p := w.open()
		close(p.up)
		if err := <-p.ended; err == nil {
			t.Error("a session without a frame ended well")
		}
	})
}

// hostile are values that no edge of ours sends.
var hostile = struct {
	bytes   [][]byte
	strings []string
	ints    []uint64
}{
	[][]byte{nil, {}, {1}, make([]byte, 15), make([]byte, 16), make([]byte, 17), make([]byte, 31), make([]byte, 32), make([]byte, 33), make([]byte, 4096)},
	[]string{"", "d", "\x00", "\xff\xfe", strings.Repeat("x", 5000)},
	[]uint64{0, 1, 2, 3, 1 << 31, 1 << 62, 1 << 63, ^uint64(0)},
}

func pick[T any](rng *rand.Rand, list []T) T { return list[rng.IntN(len(list))] }

func hostileFrame(rng *rand.Rand) *link.ToAuthority {
	f := &link.ToAuthority{}
	if rng.IntN(4) == 0 {
		f.Hello = &link.Hello{EdgeId: pick(rng, hostile.strings), ProcessId: pick(rng, hostile.bytes)}
	}
	if rng.IntN(2) == 0 {
		f.Renew = &link.Renew{AskedAtNs: int64(pick(rng, hostile.ints))}
	}
	if rng.IntN(2) == 0 {
		f.Ack = &link.Ack{Index: pick(rng, hostile.ints), GaveBack: rng.IntN(50) == 0}
	}
	for range rng.IntN(4) {
		f.Fetches = append(f.Fetches, &link.Fetch{
			Id: pick(rng, hostile.ints), KeyHash: pick(rng, hostile.bytes), OrgId: pick(rng, hostile.bytes), DeviceId: pick(rng, hostile.strings),
		})
	}
	return f
}

// TestHostileFramesHarmNobody: an edge that says anything at all has its own
// session at most, and a change still waits for the others.
func TestHostileFramesHarmNobody(t *testing.T) {
	inRealWorld(t, func(w *realWorld) {
		t := w.t
		rng := rand.New(rand.NewPCG(1, 2))
		good := w.join("good", 1)
		bad := w.join("bad", 2)
		for range 2000 {
			bad.tell(hostileFrame(rng))
			bad.frames()
		}
		c := w.settle(w.revoke())
		for range 100 {
			bad.tell(hostileFrame(rng))
		}
		bad.ack(^uint64(0))
		w.waits(c)
		good.ack(w.applied())
		if s := w.now(c); s.err != nil {
			t.Error(s.err)
		}
	})
}

// realWorld is a hub over a raftstore of one node, in memory.
type realWorld struct {
	world
	real *raftstore.Store
	hash [32]byte // of the key of orgA
}

func inRealWorld(t *testing.T, f func(w *realWorld)) {
	t.Helper()
	inRealWorldOf(t, func(*Config) {}, f)
}

// inRealWorldOf is inRealWorld with what differs in the hub's settings.
func inRealWorldOf(t *testing.T, differs func(*Config), f func(w *realWorld)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		w := &realWorld{world: world{t: t, start: time.Now(), done: make(chan struct{})}, hash: [32]byte{9}}
		w.m = state.New(func(index uint64, concerns []state.Concern) { w.hub.Notify(index, concerns) })
		w.m.OnRestored(func(index uint64) { w.hub.Restored(index) })
		ready := make(chan struct{})
		cfg := Config{
			ID: "a1", Times: usual, Clock: &w.world, State: w.m, Now: func() int64 { return time.Now().UnixMilli() },
			Logger: slog.New(slog.DiscardHandler),
			Propose: func(ctx context.Context, cmd *statepb.Command) (state.Outcome, error) {
				_, out, err := w.command(ctx, cmd)
				return out, err
			},
		}
		differs(&cfg)
		w.hub = New(cfg)
		addr, trans := raft.NewInmemTransportWithTimeout("raft", time.Second)
		trans.Connect(addr, trans)
		store, err := raftstore.Open(raftstore.Config{
			ID: "a1", Dir: "data", FS: vfs.NewMem(), Transport: trans, Bootstrap: true, Logger: slog.New(slog.DiscardHandler),
			Lead: func(ctx context.Context, term uint64) {
				<-ready
				w.must(ctx, &statepb.Command{Change: &statepb.Command_Seed{Seed: &statepb.Seed{
					Cluster: &statepb.Cluster{HashKey: make([]byte, 16), Incarnation: make([]byte, 16)},
					Plans:   &statepb.Plans{Plans: []*statepb.Plan{{Tier: "free", Limit: 3}}},
				}}})
				w.hub.Lead(ctx, term)
			},
		}, w.m)
		if err != nil {
			t.Fatal(err)
		}
		w.real = store
		w.hub.Attach(store)
		ctx, stop := context.WithCancel(context.Background())
		go func() {
			defer close(w.done)
			_ = w.hub.Run(ctx)
		}()
		close(ready)
		defer func() {
			for _, p := range w.peers {
				p.hangUp()
			}
			if err := store.Close(context.Background()); err != nil {
				t.Error(err)
			}
			stop()
			<-w.done
			time.Sleep(time.Minute)
		}()
		for !w.hub.Leading() {
			time.Sleep(time.Millisecond)
		}
		w.must(ctx, &statepb.Command{Change: &statepb.Command_CreateOrg{CreateOrg: &statepb.CreateOrg{
			OrgId: orgA[:], Keys: []*statepb.Key{{Hash: w.hash[:], KeyId: "k"}},
		}}})
		w.must(ctx, &statepb.Command{Change: &statepb.Command_Register{Register: &statepb.Register{OrgId: orgA[:], DeviceId: "d"}}})
		f(w)
	})
}

func (w *realWorld) command(ctx context.Context, cmd *statepb.Command) (uint64, state.Outcome, error) {
	cmd.TimeMs = time.Now().UnixMilli()
	raw, err := proto.Marshal(cmd)
	if err != nil {
		return 0, state.Outcome{}, err
	}
	res, err := w.real.Propose(ctx, raw)
	if err != nil {
		return 0, state.Outcome{}, err
	}
	out, ok := res.Outcome.(state.Outcome)
	if !ok {
		return 0, out, fmt.Errorf("outcome %T", res.Outcome)
	}
	return res.Index, out, nil
}

func (w *realWorld) must(ctx context.Context, cmd *statepb.Command) uint64 {
	index, out, err := w.command(ctx, cmd)
	if err != nil || out.Refusal != state.Granted {
		w.t.Errorf("%v: %+v, %v", cmd, out, err)
	}
	return index
}

func (w *realWorld) revoke() uint64 {
	return w.must(context.Background(), &statepb.Command{Change: &statepb.Command_Revoke{Revoke: &statepb.Revoke{OrgId: orgA[:], DeviceId: "d"}}})
}

func (w *realWorld) applied() uint64 { return w.real.Applied().Index }

// fetch asks and returns the one answer.
func (p *peer) fetch(f *link.Fetch) *link.Answer {
	p.frames()
	p.tell(&link.ToAuthority{Fetches: []*link.Fetch{f}})
	return p.answer()
}

// answer returns the first answer that has come since, nil if none has.
func (p *peer) answer() *link.Answer {
	for _, f := range p.frames() {
		for _, a := range f.GetAnswers() {
			return a
		}
	}
	return nil
}

// TestFetchReadsTheState as it is, under the index of the same snapshot (I5): an
// answer that was read after a change carries an index that its floor lets pass.
func TestFetchReadsTheState(t *testing.T) {
	inRealWorld(t, func(w *realWorld) {
		t := w.t
		p := w.join("e", 1)
		byKey := &link.Fetch{Id: 7, KeyHash: w.hash[:], DeviceId: "d"}
		a := p.fetch(byKey)
		if a.GetId() != 7 || a.GetUnavailable() || !a.GetKey().GetKnown() || [16]byte(a.GetKey().GetOrgId()) != orgA ||
			!a.GetOrg().GetKnown() || !a.GetDevice().GetKnown() || a.GetDevice().GetRevoked() || a.GetIndex() != w.applied() {
			t.Errorf("%v at %d", a, w.applied())
		}
		before := a.GetIndex()
		index := w.revoke()
		synctest.Wait()
		if got := invalidated(p.frames()); len(got) != 1 || got[0] != index {
			t.Errorf("told of %v, want %d", got, index)
		}
		if a = p.fetch(byKey); !a.GetDevice().GetRevoked() || a.GetIndex() < index || before >= index {
			t.Errorf("after the change at %d: %v", index, a)
		}
		byOrg := &link.Fetch{Id: 8, OrgId: orgA[:], DeviceId: "d"}
		if a = p.fetch(byOrg); a.GetKey() != nil || !a.GetOrg().GetKnown() || !a.GetDevice().GetRevoked() {
			t.Errorf("by org: %v", a)
		}
		if a = p.fetch(&link.Fetch{Id: 9, OrgId: orgA[:]}); a.GetDevice() != nil || !a.GetOrg().GetKnown() {
			t.Errorf("by org alone: %v", a)
		}
		if a = p.fetch(&link.Fetch{Id: 10, OrgId: orgA[:], DeviceId: "other"}); a.GetDevice() == nil || a.GetDevice().GetKnown() {
			t.Errorf("a device nobody knows: %v", a)
		}
		if a = p.fetch(&link.Fetch{Id: 11, KeyHash: make([]byte, 32), DeviceId: "d"}); a.GetKey() == nil || a.GetKey().GetKnown() || a.GetOrg() != nil {
			t.Errorf("a key nobody knows: %v", a)
		}
		if a = p.fetch(&link.Fetch{Id: 12, OrgId: orgB[:], DeviceId: "d"}); a.GetOrg() == nil || a.GetOrg().GetKnown() || a.GetDevice() != nil {
			t.Errorf("an org nobody knows: %v", a)
		}
		if a = p.fetch(&link.Fetch{Id: 13}); !a.GetUnavailable() || a.GetId() != 13 {
			t.Errorf("neither a key nor an org: %v", a)
		}
	})
}

// TestANodeThatDoesNotLeadAnswersNoFetch: not even from the state that it has,
// nor in another term than the session's.
func TestANodeThatDoesNotLeadAnswersNoFetch(t *testing.T) {
	inRealWorld(t, func(w *realWorld) {
		t := w.t
		h := w.hub
		list := []*link.Fetch{{Id: 1, KeyHash: w.hash[:]}}
		term, _ := w.real.Leading()
		by, _ := w.real.ReignAt(^uint64(0))
		for name, c := range map[string]struct {
			term  uint64
			store *fakeStore
			want  bool
		}{
			"leads":         {term, &fakeStore{term: term, leads: true, view: w.real.View}, true},
			"leads no more": {term, &fakeStore{term: term, view: w.real.View}, false},
			"another term":  {term, &fakeStore{term: term + 1, leads: true, view: w.real.View}, false},
			"no state":      {term, &fakeStore{term: term, leads: true}, false},
		} {
			c.store.reignAt = w.real.ReignAt
			r := &reign{term: c.term, id: by.ID, directory: newDirectory(time.Minute, 0)}
			r.directory.grow(0)
			other := &Hub{cfg: h.cfg, log: h.log, metrics: h.metrics, voice: h.voice, store: c.store}
			if a := other.fetch(t.Context(), &session{reign: r}, list)[0]; a.GetUnavailable() == c.want || a.GetId() != 1 {
				t.Errorf("%s: %v", name, a)
			}
		}
	})
}
