package raftstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"

	"machineid/internal/testkit/bubble"
)

// stubRaft takes entries and answers them when told to.
type stubRaft struct {
	mu      sync.Mutex
	entries []*stubEntry
	arrived chan *stubEntry
}

type stubEntry struct {
	cmds  []string
	bytes int
	reply chan error
	index uint64
}

func newStubRaft() *stubRaft { return &stubRaft{arrived: make(chan *stubEntry, 10_000)} }

func (r *stubRaft) Apply(data []byte, _ time.Duration) raft.ApplyFuture {
	e := &stubEntry{reply: make(chan error, 1)}
	if _, err := unpack(data, func(cmd []byte) {
		e.cmds = append(e.cmds, string(cmd))
		e.bytes += len(cmd)
	}); err != nil {
		panic(err)
	}
	r.mu.Lock()
	r.entries = append(r.entries, e)
	e.index = uint64(len(r.entries))
	r.mu.Unlock()
	r.arrived <- e
	return e
}

func (e *stubEntry) Error() error  { return <-e.reply }
func (e *stubEntry) Index() uint64 { return e.index }
func (e *stubEntry) Response() any {
	out := &packOutcome{at: Position{Index: e.index, Term: 1}}
	for _, cmd := range e.cmds {
		out.outcomes = append(out.outcomes, "did "+cmd)
	}
	return out
}

// packing starts a packer over a stub; everything of it ends with the test.
func packing(t *testing.T, maxBytes int) (*packer, *stubRaft) {
	t.Helper()
	noLeaks(t)
	r := newStubRaft()
	p := newPacker(r, maxBytes, newFault(func(error) {}, nil), newStoreMetrics(nil))
	go p.run()
	t.Cleanup(func() {
		p.close()
		<-p.done
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, e := range r.entries {
			select {
			case e.reply <- raft.ErrRaftShutdown: // those that the test left unanswered
			default:
			}
		}
	})
	return p, r
}

// proposing proposes in the background.
func proposing(ctx context.Context, p *packer, cmd string) <-chan answer {
	c := make(chan answer, 1)
	go func() {
		lane := laneOrdinary
		if strings.HasPrefix(cmd, "large") {
			lane = laneLarge
		}
		res, err := p.propose(ctx, []byte(cmd), lane, Party{})
		c <- answer{res, err}
	}()
	return c
}

func waitQueued(t *testing.T, p *packer, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d commands are queued", n), func() bool { return queued(p) == n })
}

// queued is how many commands wait in all lanes. It goes through them both ways.
func queued(p *packer) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range p.lanes {
		for e := p.lanes[i].turns.Front(); e != nil; e = e.Next() {
			q, had := e.Value.(*queue), n //nolint:errcheck // there is nothing else in it
			for pr := q.first; pr != nil; pr = pr.after {
				n++
			}
			for pr := q.last; pr != nil; pr = pr.before {
				had++
			}
			if n != had || q.first == nil || q.turn != e {
				panic("a lane is torn")
			}
		}
	}
	return n
}

// fill occupies every entry that may be in flight, with a lone command each: none of them waits for company.
func fill(t *testing.T, p *packer, r *stubRaft) []*stubEntry {
	t.Helper()
	var es []*stubEntry
	for i := range entriesInFlight {
		proposing(t.Context(), p, fmt.Sprintf("fill%d", i))
		e := <-r.arrived
		if len(e.cmds) != 1 {
			t.Fatalf("entry %v, want one command", e.cmds)
		}
		es = append(es, e)
	}
	return es
}

// While all entries are in flight, commands pile up; they become the next pack, in their order, each with its own outcome.
func TestPackerPacksWhatWaits(t *testing.T) {
	p, r := packing(t, 1<<20)
	es := fill(t, p, r)
	var answers []<-chan answer
	for i := range 5 {
		answers = append(answers, proposing(t.Context(), p, fmt.Sprintf("c%d", i)))
		waitQueued(t, p, i+1)
	}
	es[0].reply <- nil
	pack := <-r.arrived
	if got := fmt.Sprint(pack.cmds); got != "[c0 c1 c2 c3 c4]" {
		t.Errorf("pack %s", got)
	}
	pack.reply <- nil
	for i, c := range answers {
		a := <-c
		if a.err != nil || a.result.Outcome != fmt.Sprintf("did c%d", i) || a.result.Index != pack.index {
			t.Errorf("c%d: %+v", i, a)
		}
	}
}

// Of large commands one is under way at a time, in their order, and the others pass them: they wait for the application of one at most, and have twice its time to
// themselves before the next (I14). A stream of others does not keep a large one out, and where nobody else is there none waits.
func TestPackerLargeCommands(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newStubRaft()
		p := newPacker(r, 1<<30, newFault(func(error) {}, nil), newStoreMetrics(nil))
		go p.run()
		defer p.close()
		next := func() *stubEntry {
			synctest.Wait()
			select {
			case e := <-r.arrived:
				return e
			default:
				return nil
			}
		}
		var large []<-chan answer
		for i := range 6 {
			large = append(large, proposing(t.Context(), p, fmt.Sprintf("large%d", i)))
			synctest.Wait()
		}
		first := next()
		if first == nil || fmt.Sprint(first.cmds) != "[large0]" || next() != nil {
			t.Fatalf("first %+v, or another beside it", first)
		}
		first.reply <- nil
		second := next() // at once: nobody else is there
		if second == nil || fmt.Sprint(second.cmds) != "[large1]" {
			t.Fatalf("second %+v", second)
		}
		for k := range 2 * entriesInFlight { // others go on meanwhile, each by itself
			other := proposing(t.Context(), p, fmt.Sprintf("other%d", k))
			e := next()
			if e == nil || fmt.Sprint(e.cmds) != fmt.Sprintf("[other%d]", k) {
				t.Fatalf("other%d: %+v", k, e)
			}
			e.reply <- nil
			if a := <-other; a.err != nil {
				t.Fatal(a.err)
			}
		}
		for range entriesInFlight - 1 { // until nothing more can be under way, and more than a pack of them waits
			proposing(t.Context(), p, "full")
			defer func(e *stubEntry) { e.reply <- nil }(next())
		}
		for range 4 * MaxPackCommands {
			proposing(t.Context(), p, "more")
		}
		time.Sleep(10 * time.Millisecond)
		second.reply <- nil
		if a := <-large[1]; a.err != nil || a.result.Outcome != "did large1" {
			t.Errorf("large1: %+v", a)
		}
		for took, want := range []string{"more", "large2", "more", "more", "large3"} {
			e := next()
			if e == nil || e.cmds[0] != want || len(e.cmds) != MaxPackCommands && took < 3 {
				t.Fatalf("entry %d begins with %.20q, want %s", took, e.cmds, want)
			}
			for _, cmd := range e.cmds[1:] {
				if strings.HasPrefix(cmd, "large") {
					t.Errorf("entry %d has two large ones", took)
				}
			}
			time.Sleep(time.Duration([]int64{20, 10, 19, 2, 1}[took]*1000+1) * time.Microsecond)
			e.reply <- nil
		}
		for i, late := range large[2:] { // and those that are left, each after its rest
			for late != nil {
				time.Sleep(largeRest)
				if e := next(); e != nil {
					e.reply <- nil
				}
				synctest.Wait()
				select {
				case a := <-late:
					if a.err != nil || a.result.Outcome != fmt.Sprintf("did large%d", i+2) {
						t.Errorf("large%d: %+v", i+2, a)
					}
					late = nil
				default:
				}
			}
		}
	})
}

// No entry exceeds 512 commands or 512 KiB of them, and nothing is left out, doubled or reordered (R9).
func TestPackerLimits(t *testing.T) {
	for name, size := range map[string]int{"by number": 1, "by bytes": 100_000, "one each": MaxPackBytes} {
		t.Run(name, func(t *testing.T) {
			p, r := packing(t, 1<<30)
			es := fill(t, p, r)
			n := 1200
			if size > 1 {
				n = 12
			}
			for i := range n {
				cmd := make([]byte, size)
				copy(cmd, strconv.Itoa(i))
				proposing(t.Context(), p, string(cmd))
				waitQueued(t, p, i+1)
			}
			for _, e := range es {
				e.reply <- nil
			}
			for got := 0; got < n; {
				e := <-r.arrived
				if len(e.cmds) > MaxPackCommands || e.bytes > MaxPackBytes {
					t.Fatalf("entry of %d commands, %d bytes", len(e.cmds), e.bytes)
				}
				for _, cmd := range e.cmds {
					if want := strconv.Itoa(got); size > 4 && cmd[:len(want)] != want {
						t.Fatalf("command %d is %.8q", got, cmd)
					}
					got++
				}
				e.reply <- nil
			}
		})
	}
}

// A command whose context ended before it was sent is never sent; one that was sent has an unknown outcome.
func TestPackerContext(t *testing.T) {
	p, r := packing(t, 1<<20)
	es := fill(t, p, r)
	done, cancel := context.WithCancel(t.Context())
	cancel()
	if a := <-proposing(done, p, "dead"); !errors.Is(a.err, context.Canceled) || Unknown(a.err) {
		t.Errorf("dead on arrival: %v", a.err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	queued := proposing(ctx, p, "queued")
	waitQueued(t, p, 1)
	after := proposing(t.Context(), p, "after")
	waitQueued(t, p, 2)
	cancel()
	if a := <-queued; !errors.Is(a.err, context.Canceled) || Unknown(a.err) {
		t.Errorf("queued: %v", a.err)
	}
	es[0].reply <- nil
	e := <-r.arrived
	if fmt.Sprint(e.cmds) != "[after]" {
		t.Errorf("sent %v", e.cmds)
	}
	e.reply <- nil
	<-after

	ctx, cancel = context.WithCancel(t.Context())
	sent := proposing(ctx, p, "sent")
	e = <-r.arrived
	cancel()
	if a := <-sent; !Unknown(a.err) || !errors.Is(a.err, context.Canceled) {
		t.Errorf("sent: %v", a.err)
	}
	e.reply <- nil
	for _, e := range es[1:] {
		e.reply <- nil
	}
	eventually(t, "the bytes are given back", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.rooms[roomOthers].bytes == 0 && p.inFlight == 0
	})
}

// What is under way is bounded, and more is refused at once.
func TestPackerOverload(t *testing.T) {
	p, r := packing(t, entriesInFlight*(proposalOverhead+5)+2*(proposalOverhead+10))
	es := fill(t, p, r)
	first := proposing(t.Context(), p, "0123456789")
	waitQueued(t, p, 1)
	second := proposing(t.Context(), p, "0123456789")
	waitQueued(t, p, 2)
	if a := <-proposing(t.Context(), p, "x"); !errors.Is(a.err, ErrOverloaded) || Unknown(a.err) {
		t.Errorf("one too many: %v", a.err)
	}
	es[0].reply <- nil
	(<-r.arrived).reply <- nil
	if a, b := <-first, <-second; a.err != nil || b.err != nil {
		t.Errorf("those before: %v, %v", a.err, b.err)
	}
	third := proposing(t.Context(), p, "x")
	(<-r.arrived).reply <- nil
	if a := <-third; a.err != nil {
		t.Errorf("with room again: %v", a.err)
	}
}

// Closing answers what was not sent at once, and what was sent when raft answers, or when nobody will (raft issue 498).
func TestPackerClose(t *testing.T) {
	p, r := packing(t, 1<<20)
	sent := proposing(t.Context(), p, "sent")
	first := <-r.arrived
	lost := proposing(t.Context(), p, "lost")
	second := <-r.arrived
	fill := entriesInFlight - 2
	for range fill {
		proposing(t.Context(), p, "fill")
		<-r.arrived
	}
	queued := proposing(t.Context(), p, "queued")
	waitQueued(t, p, 1)
	p.close()
	if a := <-queued; !errors.Is(a.err, ErrClosed) || Unknown(a.err) {
		t.Errorf("queued: %v", a.err)
	}
	if a := <-proposing(t.Context(), p, "late"); !errors.Is(a.err, ErrClosed) || Unknown(a.err) {
		t.Errorf("late: %v", a.err)
	}
	first.reply <- nil
	if a := <-sent; a.err != nil {
		t.Errorf("sent: %v", a.err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.drain(ctx); err == nil {
		t.Error("drained with an entry in flight")
	}
	p.abandon()
	if a := <-lost; !Unknown(a.err) || !errors.Is(a.err, ErrClosed) {
		t.Errorf("lost: %v", a.err)
	}
	second.reply <- nil
}

func TestPackerClasses(t *testing.T) {
	for _, c := range []struct {
		err     error
		unknown bool
		is      error
	}{
		{raft.ErrNotLeader, false, ErrNotLeader},
		{raft.ErrLeadershipTransferInProgress, false, ErrNotLeader},
		{raft.ErrEnqueueTimeout, false, ErrNotLeader},
		{raft.ErrLeadershipLost, true, ErrOutcomeUnknown},
		{raft.ErrAbortedByRestore, true, ErrOutcomeUnknown},
		{raft.ErrRaftShutdown, true, ErrOutcomeUnknown},
		{errors.New("disk on fire"), true, ErrOutcomeUnknown},
	} {
		p, r := packing(t, 1<<20)
		answer := proposing(t.Context(), p, "x")
		(<-r.arrived).reply <- c.err
		if a := <-answer; Unknown(a.err) != c.unknown || !errors.Is(a.err, c.is) || !errors.Is(a.err, c.err) {
			t.Errorf("%v became %v", c.err, a.err)
		}
	}
}

// laneOf spreads the model's callers over the lanes.
func laneOf(i int) int { return []int{laneUrgent, laneLarge, laneOrdinary, laneOrdinary}[i%4] }

// Against a model: whatever callers do, each command is sent at most once, a refused one never, and each caller gets its own
// outcome.
func TestPackerModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newStubRaft()
		p := newPacker(r, 3000, newFault(func(error) {}, nil), newStoreMetrics(nil))
		go p.run()
		n := rapid.IntRange(1, 60).Draw(t, "callers")
		cancelled := rapid.SliceOfN(rapid.Bool(), n, n).Draw(t, "cancelled")
		failing := rapid.SliceOfN(rapid.Bool(), n, n).Draw(t, "failing")
		answers := make([]answer, n)
		var callers sync.WaitGroup
		for i := range n {
			ctx, cancel := context.WithCancel(context.Background())
			callers.Go(func() {
				defer cancel()
				res, err := p.propose(ctx, []byte(strconv.Itoa(i)), laneOf(i), Party{byte(i % 5)})
				answers[i] = answer{res, err}
			})
			if cancelled[i] {
				cancel()
			}
		}
		go func() {
			for e := range r.arrived {
				if failing[e.index%uint64(n)] {
					e.reply <- raft.ErrNotLeader
				} else {
					e.reply <- nil
				}
			}
		}()
		callers.Wait()
		p.close()
		<-p.done
		if err := p.drain(context.Background()); err != nil {
			t.Fatal(err)
		}
		close(r.arrived)
		sent := map[string]int{}
		for _, e := range r.entries {
			for _, cmd := range e.cmds {
				sent[cmd]++
			}
		}
		if n, bytes := queued(p), p.pending(); n != 0 || bytes != 0 || len(p.parties) != 0 {
			t.Fatalf("%d commands, %d bytes, %d parties are left", n, bytes, len(p.parties))
		}
		for i, a := range answers {
			cmd := strconv.Itoa(i)
			switch {
			case sent[cmd] > 1:
				t.Fatalf("%s was sent %d times", cmd, sent[cmd])
			case a.err == nil && (sent[cmd] != 1 || a.result.Outcome != "did "+cmd):
				t.Fatalf("%s: sent %d times, outcome %v", cmd, sent[cmd], a.result.Outcome)
			case a.err != nil && !Unknown(a.err) && !errors.Is(a.err, ErrNotLeader) && sent[cmd] != 0:
				t.Fatalf("%s was sent and its caller told %v", cmd, a.err)
			}
		}
	})
}

// A command whose context is done is not sent, though its caller has not given up yet (R9).
func TestPackerAsksOnceMore(t *testing.T) {
	p, r := packing(t, 1<<20)
	es := fill(t, p, r)
	ctx, cancel := context.WithCancel(t.Context())
	if err := p.enqueue(&proposal{ctx: ctx, cmd: []byte("late"), lane: laneOrdinary, answer: make(chan answer, 1)}); err != nil {
		t.Fatal(err)
	}
	after := proposing(t.Context(), p, "after")
	waitQueued(t, p, 2)
	cancel()
	es[0].reply <- nil
	e := <-r.arrived
	if fmt.Sprint(e.cmds) != "[after]" {
		t.Errorf("sent %v", e.cmds)
	}
	e.reply <- nil
	<-after
}

// Who gives up a command that is being copied waits for the copy, and takes an answer that came meanwhile (R9).
func TestPackerGivesUpBehindTheCopy(t *testing.T) {
	p, _ := packing(t, 1<<20)
	pr := &proposal{ctx: t.Context(), cmd: []byte("c"), state: proposalTaken, answer: make(chan answer, 1)}
	done := make(chan answer, 1)
	p.copyMu.Lock()
	go func() {
		res, err := p.giveUp(pr, context.Canceled)
		done <- answer{res, err}
	}()
	select {
	case <-done:
		t.Fatal("it may be reused, and is copied")
	case <-time.After(50 * time.Millisecond):
	}
	pr.answer <- answer{result: Result{Outcome: "did c"}}
	p.copyMu.Unlock()
	if a := <-done; a.err != nil || a.result.Outcome != "did c" {
		t.Errorf("%+v", a)
	}
}

// An entry that was applied without the outcomes of its commands answers none of them (R9).
func TestOutcomesAreOfTheirCommands(t *testing.T) {
	for _, response := range []any{nil, errInjected, &packOutcome{outcomes: []any{1}}, &packOutcome{outcomes: []any{1, 2, 3}}} {
		if out, err := outcomeOf(response, 2); !Unknown(err) {
			t.Errorf("%v: %v, %v", response, out, err)
		}
	}
}

// A pack that is damaged anywhere has no effect at all: its commands would be others' on other nodes.
func TestADamagedPackHasNoEffect(t *testing.T) {
	pack := appendPacked(appendPacked(appendPackHeader(nil, 2), []byte("first")), []byte("second"))
	for what, data := range map[string][]byte{
		"cut short": pack[:len(pack)-1], "too long": append(bytes.Clone(pack), 0), "of another version": append([]byte{packNewest + 1}, pack[1:]...),
		"of three": append([]byte{packVersion, 3}, pack[2:]...), "of one": append([]byte{packVersion, 1}, pack[2:]...),
	} {
		n, err := unpack(data, func(cmd []byte) { t.Errorf("%s: %q has an effect", what, cmd) })
		if n != 0 || err == nil {
			t.Errorf("%s: %d commands, %v", what, n, err)
		}
	}
}

// Closing waits until what was sent has its answer, and no longer than it is told to.
func TestPackerDrains(t *testing.T) {
	p, r := packing(t, 1<<20)
	es := fill(t, p, r)
	p.close()
	short, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.drain(short); !errors.Is(err, context.Canceled) {
		t.Errorf("it did not wait: %v", err)
	}
	for _, e := range es {
		e.reply <- nil
	}
	if err := p.drain(t.Context()); err != nil {
		t.Error(err)
	}
}
