package raftstore

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"machineid/internal/testkit/bubble"
)

// Lead is called once per term led, after a barrier of that term was applied, never twice at once, and its context ends with
// the term.
func TestLead(t *testing.T) {
	noLeaks(t)
	t.Run("run", func(t *testing.T) {
		var running atomic.Int32
		terms := make(chan uint64)
		var s *Store
		opened := make(chan struct{})
		n := newNode(with(func(c *Config) {
			c.Lead = func(ctx context.Context, term uint64) {
				<-opened
				if running.Add(1) != 1 {
					t.Error("two calls at once")
				}
				defer running.Add(-1)
				if now, ok := s.Leading(); !ok || now != term || s.Applied().Term != term {
					t.Errorf("called for term %d while leading %d, %v, applied %v", term, now, ok, s.Applied())
				}
				terms <- term
				<-ctx.Done()
				time.Sleep(50 * time.Millisecond) // the next term would be led by now
			}
		}))
		s = must[*Store](t)(n.open())
		defer stop(t, s)
		close(opened)
		previous := uint64(0)
		for range 5 {
			term := <-terms
			if term <= previous {
				t.Errorf("term %d after %d", term, previous)
			}
			previous = term
			if res := propose(t, s, "a=b"); res.Term != term {
				t.Errorf("entry of term %d in term %d", res.Term, term)
			}
			depose(t, n, s)
		}
		<-terms
	})
}

// A barrier that raft lost is sent again, and is the same: there is one reign in a term.
func TestABarrierIsSentAgain(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c := newCluster(t, 1)
		defer c.stop()
		s := c.leader().store
		before := s.raft.LastIndex()
		ctx, cancel := context.WithTimeout(t.Context(), 3*barrierRetry+barrierRetry/2)
		defer cancel()
		if s.lead.barrier(ctx, s.raft.CurrentTerm()+1) { // no entry of that term is ever applied
			t.Error("it was applied")
		}
		synctest.Wait()
		last := s.raft.LastIndex()
		if last-before != 4 {
			t.Errorf("sent %d times, want 4", last-before)
		}
		var reign ReignID
		for i := before + 1; i <= last; i++ {
			var l raft.Log
			if err := s.log.GetLog(i, &l); err != nil {
				t.Fatal(err)
			}
			bar := must[barrier](t)(decodeBarrier(l.Data))
			if i == before+1 {
				reign = bar.reign
			}
			if bar.reign != reign || reign == (ReignID{}) {
				t.Errorf("barrier %d is of reign %x, the first was of %x", i, bar.reign, reign)
			}
		}
	})
}

// depose makes the only voter stand for election again, which a running node never does to itself.
func depose(tb testing.TB, n *node, s *Store) {
	tb.Helper()
	req := &raft.TimeoutNowRequest{RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax}}
	if err := n.trans.TimeoutNow(s.life().server(), n.trans.LocalAddr(), req, new(raft.TimeoutNowResponse)); err != nil {
		tb.Fatal(err)
	}
}

// Committed comes once per entry with commands, in order, when a View shows the entry and before its proposers are answered.
func TestCommitted(t *testing.T) {
	var s *Store
	var answered atomic.Uint64 // highest index that a proposer was told
	m := &machine{}
	m.onCommit = func(at Position) {
		if done := answered.Load(); done >= at.Index {
			t.Errorf("proposers of %d were answered before Committed", at.Index)
		}
		v, err := s.View()
		if err != nil {
			t.Error(err)
			return
		}
		if v.Position().Index < at.Index {
			t.Errorf("Committed(%d) while a view is at %d", at.Index, v.Position().Index)
		}
		_ = v.Close()
	}
	n := newNode(running(m))
	s = must[*Store](t)(n.open())
	defer stop(t, s)
	waitLeading(t, s)
	var mu sync.Mutex // makes the maximum one step
	var callers sync.WaitGroup
	for c := range 16 {
		callers.Go(func() {
			for i := range 50 {
				res, err := s.Propose(t.Context(), fmt.Appendf(nil, "%d.%d=v", c, i))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				answered.Store(max(answered.Load(), res.Index))
				mu.Unlock()
			}
		})
	}
	callers.Wait()
	for i := 1; i < len(m.committed); i++ {
		if m.committed[i].Index <= m.committed[i-1].Index {
			t.Fatalf("Committed(%v) after %v", m.committed[i], m.committed[i-1])
		}
	}
	if n := m.applies.Load(); n != 800 || countOf(t, s) != 800 {
		t.Errorf("%d applied, %d counted, want 800", n, countOf(t, s))
	}
}

// A round that began before a call does not answer it; callers that wait together share one.
func TestConfirmRounds(t *testing.T) {
	begun := make(chan struct{})
	finish := make(chan struct{})
	var rounds atomic.Uint64
	c := turns[uint64]{do: func() (uint64, error) {
		n := rounds.Add(1)
		begun <- struct{}{}
		<-finish
		return n, nil
	}}
	first := must[*turn[uint64]](t)(c.join())
	<-begun
	var others []*turn[uint64]
	for range 10 {
		others = append(others, must[*turn[uint64]](t)(c.join()))
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that is gone: %v", err)
	}
	finish <- struct{}{}
	<-first.done
	if first.value != 1 || first.err != nil {
		t.Errorf("first: %d, %v", first.value, first.err)
	}
	go func() {
		for range begun {
			finish <- struct{}{}
		}
	}()
	for _, r := range others {
		<-r.done
		if r.value != 2 || r.err != nil {
			t.Errorf("a caller during round 1 got round %d, %v", r.value, r.err)
		}
	}
	c.close()
	close(begun)
	if _, err := c.wait(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

// With more than one voter, Confirm says that it cannot, rather than confirm wrongly.
func TestConfirmNeedsOneVoter(t *testing.T) {
	s, _ := start(t)
	if term, err := s.Confirm(t.Context()); err != nil || term == 0 {
		t.Errorf("one voter: %d, %v", term, err)
	}
	s.raft.AddVoter("n2", "nowhere", 0, 0)
	eventually(t, "n2 has a vote", func() bool { return len(s.raft.GetConfiguration().Configuration().Servers) == 2 })
	if _, err := s.Confirm(t.Context()); err == nil {
		t.Error("confirmed by one of two voters")
	}
}

// The whole node in virtual time: an hour passes in no time, snapshots happen by themselves, and nothing is left at the end.
func TestVirtualTime(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		began := time.Now()
		n := newNode(with(func(c *Config) { c.SnapshotThreshold, c.TrailingLogs = 20, 5 }))
		s, err := n.open()
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if _, ok := s.Leading(); !ok {
			t.Error("a lone node does not lead at once")
		}
		if waited := time.Since(began); waited > 100*time.Millisecond {
			t.Errorf("it took %s to lead", waited)
		}
		for i := range 60 {
			if _, err := s.Propose(t.Context(), fmt.Appendf(nil, "k%d=v", i)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
		}
		if first, _ := s.log.FirstIndex(); first < 20 {
			t.Errorf("after an hour the log still begins at %d", first)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute) // timers of the transport run out
	})
}

// One port carries raft and what is to come; anything else is turned away, and closing ends every connection.
func TestMux(t *testing.T) {
	noLeaks(t)
	t.Run("run", func(t *testing.T) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		d := testDoor(Life{"n1", "s1"}, nil)
		m := newMux(l, d, "named:1", nil, nil, newNode().cfg.withDefaults().Logger)
		if got := m.Addr().String(); got != "named:1" {
			t.Errorf("address %q", got)
		}
		out, err := m.Dial(dialled(d.life.server(), raft.ServerAddress(l.Addr().String())), 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		in, err := m.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := out.Write([]byte("x")); err != nil {
			t.Error(err)
		}
		b := make([]byte, 1)
		if _, err := in.Read(b); err != nil || b[0] != 'x' {
			t.Errorf("read %q, %v", b, err)
		}
		for _, first := range []byte{0, 1, 2, 'g'} {
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Write([]byte{first}); err != nil {
				t.Error(err)
			}
			if _, err := c.Read(b); err == nil {
				t.Errorf("first byte %d is served", first)
			}
			_ = c.Close()
		}
		// Who speaks HTTP is told where it is, and hears all of it however much it sends.
		for _, request := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "POST /api/v1/org HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n" + strings.Repeat("x", 5000)} {
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(c, request); err != nil {
				t.Error(err)
			}
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			if said, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusMisdirectedRequest || !strings.Contains(string(said), "--raft") {
				t.Errorf("HTTP is answered %s, %q, %v", resp.Status, said, err)
			}
			_ = errors.Join(resp.Body.Close(), c.Close())
		}
		silent, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(m.Close(), m.Close()); err != nil {
			t.Error(err)
		}
		for _, c := range []net.Conn{in, silent} {
			if _, err := c.Read(b); err == nil {
				t.Error("a connection outlived the mux")
			}
		}
		_ = silent.Close()
		if _, err := m.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept: %v", err)
		}
	})
}
