package raftstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"machineid/internal/testkit/bubble"
)

// After a large command the others have twice its time, and 50 ms at most: one that took long was itself kept waiting.
func TestPackerRestsAfterLargeCommands(t *testing.T) {
	for took, want := range map[time.Duration]time.Duration{time.Millisecond: 2 * time.Millisecond, 20 * time.Millisecond: 40 * time.Millisecond, time.Second: largeRest} {
		bubble.Test(t, func(t *testing.T) {
			r := newStubRaft()
			p := newPacker(r, 1<<30, newFault(func(error) {}, nil), newStoreMetrics(nil))
			go p.run()
			defer p.close()
			for i := range 2 {
				proposing(t.Context(), p, fmt.Sprintf("large%d", i))
				synctest.Wait()
			}
			proposing(t.Context(), p, "other")
			first, other := <-r.arrived, <-r.arrived
			time.Sleep(took)
			first.reply <- nil
			began := time.Now()
			second := <-r.arrived
			if rest := time.Since(began); rest != want || second.cmds[0] != "large1" {
				t.Errorf("after one of %v: %s comes after %v, want %v", took, second.cmds[0], rest, want)
			}
			second.reply <- nil
			other.reply <- nil
			synctest.Wait()
		})
	}
}

// proposingFor proposes in the background, for a party.
func proposingFor(ctx context.Context, p *packer, of byte, cmd string) <-chan answer {
	c := make(chan answer, 1)
	go func() {
		res, err := p.propose(ctx, []byte(cmd), laneOrdinary, Party{of})
		c <- answer{res, err}
	}()
	return c
}

// Parties take turns: however much one has in its queue, another's command is in the next pack (I14). The commands of each stay in their order, also where some are given up.
func TestPackerTurns(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		r := newStubRaft()
		p := newPacker(r, 1<<30, newFault(func(error) {}, nil), newStoreMetrics(nil))
		go p.run()
		defer p.close()
		var first []*stubEntry
		for i := range entriesInFlight {
			proposing(t.Context(), p, fmt.Sprintf("fill%d", i))
			synctest.Wait()
			first = append(first, <-r.arrived)
		}
		ctx, cancel := context.WithCancel(t.Context())
		for i := range 4 * MaxPackCommands {
			if i%3 == 1 {
				proposingFor(ctx, p, 1, "given up")
			} else {
				proposingFor(t.Context(), p, 1, fmt.Sprintf("loud%d", i))
			}
			synctest.Wait()
		}
		for i := range 3 {
			proposingFor(t.Context(), p, 2, fmt.Sprintf("quiet%d", i))
			synctest.Wait()
		}
		last := proposingFor(t.Context(), p, 3, "last")
		synctest.Wait()
		cancel()
		synctest.Wait()
		first[0].reply <- nil
		synctest.Wait()
		e := <-r.arrived
		if got := fmt.Sprint(e.cmds[:9]); len(e.cmds) != MaxPackCommands || got != "[loud0 quiet0 last loud2 quiet1 loud3 quiet2 loud5 loud6]" {
			t.Errorf("%d commands: %s", len(e.cmds), got)
		}
		e.reply <- nil
		if a := <-last; a.err != nil {
			t.Error(a.err)
		}
		for _, e := range first[1:] {
			e.reply <- nil
		}
		next := 0
		for synctest.Wait(); len(r.arrived) > 0; synctest.Wait() {
			e := <-r.arrived
			for _, cmd := range e.cmds {
				var i int
				if n, _ := fmt.Sscanf(cmd, "loud%d", &i); n != 1 || i <= next {
					t.Fatalf("%s after loud%d", cmd, next)
				}
				next = i
			}
			e.reply <- nil
		}
		synctest.Wait()
		if len(p.parties) != 0 || next < 4*MaxPackCommands-3 {
			t.Errorf("%d parties are left, the last command is loud%d", len(p.parties), next)
		}
	})
}

// What does not fit into a pack keeps its turn: a stream of small ones of others does not keep it out.
func TestPackerTurnsOfLongCommands(t *testing.T) {
	p, r := packing(t, 1<<30)
	es := fill(t, p, r)
	for i := range 40 {
		proposingFor(t.Context(), p, byte(1+i%4), strings.Repeat("s", MaxPackBytes/16))
		waitQueued(t, p, i+1)
	}
	proposingFor(t.Context(), p, 9, strings.Repeat("l", MaxPackBytes))
	waitQueued(t, p, 41)
	es[0].reply <- nil
	if e := <-r.arrived; len(e.cmds) != 4 { // one of each before its turn
		t.Errorf("%d commands", len(e.cmds))
	}
	es[1].reply <- nil
	if e := <-r.arrived; len(e.cmds) != 1 || e.cmds[0][0] != 'l' {
		t.Errorf("%d commands, which begin with %.1s", len(e.cmds), e.cmds[0])
	}
}

// One party has half of the room at most, until its commands are answered; nobody in particular has all of it.
func TestPackerRoomOfOneParty(t *testing.T) {
	const size = proposalOverhead + 1
	queue := func(p *packer, of byte) (*proposal, error) {
		pr := &proposal{ctx: t.Context(), cmd: []byte("x"), lane: laneOrdinary, of: Party{of}, answer: make(chan answer, 1)}
		return pr, p.enqueue(pr)
	}
	p := newPacker(newStubRaft(), 8*size, newFault(func(error) {}, nil), newStoreMetrics(nil))
	var mine *proposal
	for range 4 {
		pr, err := queue(p, 1)
		if err != nil {
			t.Fatalf("its half: %v", err)
		}
		mine = pr
	}
	if _, err := queue(p, 1); !errors.Is(err, ErrOverloaded) {
		t.Errorf("beyond its half: %v", err)
	}
	if _, err := queue(p, 2); err != nil {
		t.Errorf("another party: %v", err)
	}
	_, _ = p.giveUp(mine, context.Canceled)
	if _, err := queue(p, 1); err != nil {
		t.Errorf("when one is over: %v", err)
	}
	p = newPacker(newStubRaft(), 8*size, newFault(func(error) {}, nil), newStoreMetrics(nil))
	for range 8 {
		if _, err := queue(p, 0); err != nil {
			t.Errorf("of nobody in particular: %v", err)
		}
	}
}
