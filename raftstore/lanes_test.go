package raftstore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
)

// What callers gave up before it was sent takes no memory, however much of it there was: else MaxPendingBytes bounds nothing.
func TestGivenUpCommandsAreLetGo(t *testing.T) {
	const limit = 4 << 20
	for name, lane := range map[string]int{"ordinary": laneOrdinary, "urgent": laneUrgent} {
		t.Run(name, func(t *testing.T) {
			p, r := packing(t, limit)
			fill(t, p, r)
			if lane == laneUrgent { // which has one entry more
				go func() { _, _ = p.propose(t.Context(), []byte("fill"), laneUrgent, Party{}) }()
				<-r.arrived
			}
			kept := func() uint64 {
				var m runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&m)
				return m.HeapAlloc
			}
			before := kept()
			for range 500 {
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() {
					_, err := p.propose(ctx, make([]byte, MaxPackBytes), lane, Party{})
					done <- err
				}()
				waitQueued(t, p, 1)
				cancel()
				if err := <-done; err == nil || Unknown(err) {
					t.Fatal(err)
				}
				if n := queued(p); n != 0 {
					t.Fatalf("%d commands are queued that nobody waits for", n)
				}
			}
			if after := kept(); after > before+limit {
				t.Errorf("%d MiB are kept of commands that were given up, MaxPendingBytes is %d MiB", (after-before)>>20, limit>>20)
			}
		})
	}
}

// Among commands that wait, any may be given up, and the others are sent in their order.
func TestGivingUpTakesOneOut(t *testing.T) {
	for gone := range 4 {
		p, r := packing(t, 1<<20)
		es := fill(t, p, r)
		ctx, cancel := context.WithCancel(t.Context())
		want := []string{}
		var given <-chan answer
		for i := range 4 {
			cmd := fmt.Sprint("c", i)
			if i == gone {
				given = proposing(ctx, p, cmd)
			} else {
				proposing(t.Context(), p, cmd)
				want = append(want, cmd)
			}
			waitQueued(t, p, i+1)
		}
		cancel()
		<-given
		waitQueued(t, p, 3)
		es[0].reply <- nil
		e := <-r.arrived
		if fmt.Sprint(e.cmds) != fmt.Sprint(want) {
			t.Errorf("without c%d: sent %v", gone, e.cmds)
		}
		e.reply <- nil
	}
}

// Who keeps the queue full holds up nothing on which leading depends: that has room, an entry of its own, and goes first.
func TestUrgentCommandsPassAFullQueue(t *testing.T) {
	p, r := packing(t, entriesInFlight*(proposalOverhead+5)+3*(proposalOverhead+1))
	es := fill(t, p, r)
	for i := range 3 {
		proposing(t.Context(), p, strconv.Itoa(i))
		waitQueued(t, p, i+1)
	}
	if a := <-proposing(t.Context(), p, "x"); !errors.Is(a.err, ErrOverloaded) {
		t.Fatalf("the queue is not full: %v", a.err)
	}
	urgent := func(cmd string) <-chan answer {
		c := make(chan answer, 1)
		go func() {
			res, err := p.propose(t.Context(), []byte(cmd), laneUrgent, Party{})
			c <- answer{res, err}
		}()
		return c
	}
	first := urgent("u0")
	e := <-r.arrived
	if fmt.Sprint(e.cmds) != "[u0]" {
		t.Fatalf("sent %v", e.cmds)
	}
	for i := range 2 { // all entries are in flight now
		urgent(fmt.Sprint("u", i+1))
		waitQueued(t, p, 4+i)
	}
	e.reply <- nil
	if a := <-first; a.err != nil || a.result.Outcome != "did u0" {
		t.Errorf("%+v", a)
	}
	if e = <-r.arrived; fmt.Sprint(e.cmds) != "[u1 u2]" {
		t.Errorf("sent %v beside %d entries of others", e.cmds, entriesInFlight)
	}
	urgent("u3")
	waitQueued(t, p, 4)
	es[0].reply <- nil // four are left, the urgent one among them
	es[1].reply <- nil
	if e = <-r.arrived; fmt.Sprint(e.cmds) != "[u3]" && fmt.Sprint(e.cmds) != "[u3 0 1 2]" {
		t.Errorf("sent %v", e.cmds)
	}
}

// The urgent lane is bounded too.
func TestUrgentCommandsAreBounded(t *testing.T) {
	p, r := packing(t, 1<<20)
	fill(t, p, r)
	for i := range 20 {
		go func() { _, _ = p.propose(t.Context(), make([]byte, MaxPackBytes), laneUrgent, Party{}) }()
		if i < 4 {
			eventually(t, "it is taken", func() bool { return p.pending() > (i+1)*MaxPackBytes })
		}
	}
	if _, err := p.propose(t.Context(), make([]byte, MaxPackBytes), laneUrgent, Party{}); !errors.Is(err, ErrOverloaded) {
		t.Error(err)
	}
}

// Over a whole store, more is proposed all the time than it takes: each urgent command is done.
func TestUrgentCommandsPassAFullStore(t *testing.T) {
	s, _ := start(t, with(func(cfg *Config) { cfg.MaxPendingBytes = 64 << 10 }))
	var refused atomic.Int64
	var callers sync.WaitGroup
	over := make(chan struct{})
	for range 32 {
		callers.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				if _, err := s.Propose(t.Context(), append(make([]byte, 4<<10), "=x"...)); errors.Is(err, ErrOverloaded) {
					refused.Add(1)
					runtime.Gosched()
				}
			}
		})
	}
	for range 50 {
		before := refused.Load()
		eventually(t, "there is no room", func() bool { return refused.Load() > before })
		if _, err := s.ProposeWith(t.Context(), []byte("reserve=1"), ProposeOptions{Urgent: true}); err != nil {
			t.Error(err)
		}
	}
	close(over)
	callers.Wait()
}
