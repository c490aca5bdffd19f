package hub

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"machineid/authority/state"
	"machineid/shared/clock"
	"machineid/shared/link"
)

// one is the only session of an edge.
func (w *world) one(edge string) *session {
	w.hub.mu.Lock()
	defer w.hub.mu.Unlock()
	for s := range w.hub.reign.sessions {
		if s.edgeID == edge {
			return s
		}
	}
	w.t.Fatalf("no session of %s", edge)
	return nil
}

// TestAMuteEdgeIsEnded: one that renews its lease and acknowledges nothing loses its session, and keeps no change that nobody waits for. Its lease counts as booked (I2). One
// that is only silent, or late, keeps it.
func TestAMuteEdgeIsEnded(t *testing.T) {
	for name, c := range map[string]struct {
		renews bool
		behind uint64 // it acknowledges the change so many before the newest; 0: none
		over   bool
	}{
		"mute":   {true, 0, true},
		"silent": {false, 0, false},
		"late":   {true, 4, false},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, usual, nil, func(w *world) {
				t := w.t
				w.lead()
				p := w.join("e", 1)
				s := w.one("e")
				began := w.since()
				for ; w.since() < began+4*stretched && !p.over(); time.Sleep(lease / 3) {
					index := w.change(orgA)
					if c.renews {
						p.renew()
					}
					if c.behind > 0 && index > c.behind {
						p.ack(index - c.behind)
					}
					s.mu.Lock()
					n := len(s.waits)
					s.mu.Unlock()
					if n > 5 { // of one lease
						t.Fatalf("%d changes are kept for the session", n)
					}
				}
				if p.over() != c.over {
					t.Fatalf("after %v its session is over: %v", w.since()-began, p.over())
				}
				if !c.over {
					return
				}
				booked := w.since() + w.left("e")
				if s := <-w.settle(w.change(orgA)); s.at != booked || s.p.Expired != 1 {
					t.Errorf("a change settles at %v: %+v, want %v", s.at, s.p, booked)
				}
				frames := p.frames()
				if got := frames[len(frames)-1].GetGoodbye().GetReason(); got != reasons[refusedMute] {
					t.Errorf("it is told %q", got)
				}
			})
		})
	}
}

// TestBehindCountsWhatWasGivenUp: people are told how far an edge is behind, also of what waits for it no more.
func TestBehindCountsWhatWasGivenUp(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		w.lead()
		p := w.join("e", 1)
		first := w.since()
		w.change(orgA)
		last := w.change(orgA)
		time.Sleep(stretched + time.Second)
		if s := w.hub.Sessions()[0]; s.Behind != 2 || s.BehindFor != w.since()-first {
			t.Errorf("%+v", s)
		}
		p.ack(last)
		if s := w.hub.Sessions()[0]; s.Behind != 0 || s.BehindFor != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// TestLimitsHold: sessions in all and of one address, broken ones counted until their lease's end; a process that has one gets its next.
func TestLimitsHold(t *testing.T) {
	inReach(t, Limits{Edges: 5, PerAddress: 3}, func(w *reached) {
		t := w.t
		often := w.hub.hellos.burst
		w.hub.hellos.burst = 100
		begin := func(host string, process int) (why string, s *stream) {
			a := &attacker{w: w, conn: w.dial(host, grpc.WithDefaultCallOptions(grpc.ForceCodecV2(raw{})))()}
			s = a.stream()
			cancel := s.cancel
			s.cancel = func() {
				cancel()
				_ = a.conn.Close()
				synctest.Wait()
			}
			s.hello(process, nil)
			var f link.ToEdge
			if err := s.RecvMsg(&f); err != nil {
				t.Fatal(err)
			}
			if f.GetGoodbye() != nil {
				s.cancel()
			}
			return f.GetGoodbye().GetReason(), s
		}
		var first *stream
		for i := range 3 {
			why, s := begin("one", i)
			if why != "" {
				t.Fatalf("session %d: %s", i, why)
			}
			if i == 0 {
				first = s
			}
		}
		for range 3 {
			if why, _ := begin("one", 99); why != whyTooMany {
				t.Errorf("a session more of one address: %q", why)
			}
		}
		if why, _ := begin("one", 1); why != "" {
			t.Errorf("the next session of a process: %q", why)
		}
		first.cancel()
		synctest.Wait()
		time.Sleep(stretched / 2)
		if why, _ := begin("one", 99); why != whyTooMany {
			t.Errorf("while the lease of a session that broke runs: %q", why)
		}
		time.Sleep(stretched)
		if why, _ := begin("one", 99); why != "" {
			t.Errorf("after it: %q", why)
		}
		for i := range 3 {
			want := ""
			if i == 2 {
				want = whyTooMany
			}
			if why, _ := begin("two", 200+i); why != want {
				t.Errorf("session %d of another address: %q", i, why)
			}
		}
		time.Sleep(time.Hour)
		w.hub.hellos.mu.Lock()
		w.hub.hellos.burst = often
		w.hub.hellos.mu.Unlock()
		for i := range 3 * often {
			why, s := begin("one", 1)
			if (why == whyTooOften) != (i >= often) || why != "" && why != whyTooOften {
				t.Errorf("Hello %d of one address: %q", i, why)
			}
			s.cancel()
		}
		if why, _ := begin("two", 200); why != "" {
			t.Errorf("of another: %q", why)
		}
		time.Sleep(time.Minute)
		if why, _ := begin("one", 1); why != "" {
			t.Errorf("a minute later: %q", why)
		}
	})
}

// TestASiteIsBounded: whoever has a /48 has 65,536 of what a host has, and shuts nobody out with them: in connections, in sessions and in Hellos.
func TestASiteIsBounded(t *testing.T) {
	at := func(site, host int) string { return fmt.Sprintf("[2001:db8:%x:%x::1]:70", site, host) }
	hello := func(w *reached, address string, process int, stays bool) (why string) {
		conn := w.dial(strings.TrimSuffix(address, ":70"), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(raw{})))()
		s := (&attacker{w: w, conn: conn}).stream()
		s.hello(process, nil)
		var f link.ToEdge
		if err := s.RecvMsg(&f); err != nil {
			t.Fatal(err)
		}
		if why = f.GetGoodbye().GetReason(); why != "" || !stays {
			s.cancel()
			_ = conn.Close()
			synctest.Wait()
		}
		return why
	}
	limits := Limits{Edges: 12, PerAddress: 2}
	inReach(t, limits, func(w *reached) {
		for i := range 8 { // half of all are 6
			want := ""
			if i >= 6 {
				want = whyTooMany
			}
			if why := hello(w, at(1, i), i, true); why != want {
				t.Errorf("session %d of a site: %q, want %q", i, why, want)
			}
		}
		if why := hello(w, at(2, 0), 100, true); why != "" {
			t.Errorf("of another site: %q", why)
		}
	})
	limits = Limits{Edges: 1000, PerAddress: 2}
	inReach(t, limits, func(w *reached) {
		often := limits.ofSites().hellos().burst
		for i := range often {
			if why := hello(w, at(1, i), i%4, false); why != "" { // a process in four has a session already
				t.Fatalf("Hello %d of a site: %q", i, why)
			}
		}
		if why := hello(w, at(1, often), 0, true); why != whyTooOften {
			t.Errorf("a Hello more of a site: %q", why)
		}
		if why := hello(w, at(2, 0), 100, true); why != "" {
			t.Errorf("of another site: %q", why)
		}
	})
	var c conns
	entered := 0
	for i := range 100 {
		if c.enter(nil, at(1, i), Limits{Edges: 40, PerAddress: 4}) {
			entered++
		}
	}
	if want := spare * 20; entered != want {
		t.Errorf("a site has %d connections, want %d", entered, want)
	}
	if !c.enter(nil, at(2, 0), Limits{Edges: 40, PerAddress: 4}) {
		t.Error("another site has none")
	}
	for i := range 100 {
		if address := at(1, i); i < entered {
			c.leave(address)
		}
	}
	c.leave(at(2, 0))
	if len(c.from) != 0 {
		t.Errorf("%v", c.from)
	}
}

// TestConnectionsAreBoundedInAll: however many addresses they come from, there are no more than all edges may have. One that ends makes room for one.
func TestConnectionsAreBoundedInAll(t *testing.T) {
	limits := Limits{Edges: 10, PerAddress: 3}
	for name, at := range map[string]func(i int) string{
		"hosts": func(i int) string { return fmt.Sprintf("10.0.%d.%d:70", i/250, 1+i%250) },
		"sites": func(i int) string { return fmt.Sprintf("[2001:db8:%x::1]:70", i) },
		"pipes": strconv.Itoa,
	} {
		var c conns
		for i := range 10 * spare * limits.Edges {
			if got, want := c.enter(nil, at(i), limits), i < spare*limits.Edges; got != want {
				t.Fatalf("connection %d of as many %s enters: %t, want %t", i, name, got, want)
			}
		}
		for i := range 3 {
			c.leave(at(i))
		}
		for i := range 10 {
			if got, want := c.enter(nil, at(1000+i), limits), i < 3; got != want {
				t.Errorf("connection %d of as many %s, after 3 have left, enters: %t, want %t", i, name, got, want)
			}
		}
	}
}

// TestConnectionsAreBounded, over sockets: those beyond are closed as they come, those that say nothing soon, and a place is free again when one is closed.
func TestConnectionsAreBounded(t *testing.T) {
	h := New(Config{Limits: Limits{Edges: 10, PerAddress: 3}})
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := h.Listen(inner)
	defer l.Close()
	accepted := make(chan net.Conn, 100)
	go func() {
		defer close(accepted)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", inner.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	var here []net.Conn
	for range spare * 3 {
		dial()
		here = append(here, <-accepted)
	}
	for range 20 {
		if _, err := dial().Read(make([]byte, 1)); err == nil {
			t.Fatal("one beyond is served")
		} else if ne := net.Error(nil); errors.As(err, &ne) && ne.Timeout() {
			t.Fatal(err)
		}
	}
	_ = here[0].Close()
	_ = here[0].Close() // counts once
	dial()
	<-accepted
	if _, err := dial().Read(make([]byte, 1)); err == nil {
		t.Error("one beyond is served")
	}
}

// TestAConnectionThatSaysNothingEnds, and one that speaks something else: they would keep a place.
func TestAConnectionThatSaysNothingEnds(t *testing.T) {
	inReach(t, Limits{}, func(w *reached) {
		for what, says := range map[string]string{"nothing": "", "half a preface": "PRI * HTTP/2.0\r\n", "something else": strings.Repeat("GET / HTTP/1.1\r\n", 10)} {
			server, client := net.Pipe()
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = w.server.Serve(&single{conn: server, closed: make(chan struct{})})
			}()
			began := w.since()
			go func() { _, _ = client.Write([]byte(says)) }()
			_, _ = io.Copy(io.Discard, client)
			if took := w.since() - began; took > 10*time.Second {
				w.t.Errorf("%s: it lived for %v", what, took)
			}
			_ = client.Close()
		}
	})
}

// single is a listener of one connection.
type single struct {
	conn   net.Conn
	closed chan struct{}
}

func (l *single) Accept() (net.Conn, error) {
	if c := l.conn; c != nil {
		l.conn = nil
		return c, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *single) Close() error   { close(l.closed); return nil }
func (l *single) Addr() net.Addr { return host("pipe") }

// TestMeter allows a burst and then a rate, to each name, and takes no more memory than metered names do.
func TestMeter(t *testing.T) {
	m := meter{every: time.Second, burst: 3}
	now := clock.Time(time.Hour)
	for i, c := range []struct {
		after time.Duration
		want  bool
	}{
		{0, true}, {0, true}, {0, true}, {0, false}, {999 * time.Millisecond, false}, {time.Millisecond, true}, {0, false}, {time.Minute, true}, {0, true}, {0, true}, {0, false},
	} {
		now = now.Add(c.after)
		if got := m.take("a", now); got != c.want {
			t.Errorf("%d: %v", i, got)
		}
		if i == 3 && !m.take("b", now) {
			t.Error("another name's burst is gone")
		}
	}
	allowed := 0
	for i := range 3 * metered {
		if m.take(strconv.Itoa(i), now) {
			allowed++
		}
	}
	if len(m.full) > metered+1 || allowed > metered+3 {
		t.Errorf("%d names are kept, %d were allowed", len(m.full), allowed)
	}
	if now = now.Add(time.Hour); !m.take("new", now) || len(m.full) != 1 {
		t.Errorf("an hour later %d names are kept", len(m.full))
	}
}

// TestAVoiceIsShort: an edge that comes and goes for ever is told of a few times and then once a minute.
func TestAVoiceIsShort(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		var out bytes.Buffer
		w.hub.voice.log = slog.New(slog.NewTextHandler(&out, nil))
		w.lead()
		for range 600 { // ten minutes
			w.join("e", 1).hangUp()
			time.Sleep(time.Second)
		}
		n := strings.Count(out.String(), "\n")
		if n < 10 || n > edgeLines+12 || !strings.Contains(out.String(), "lines_left_out=") {
			w.t.Errorf("%d lines of 1,200:\n%.2000s", n, &out)
		}
	})
}

// TestFramesToEdgesAreBounded: what is more than a frame may carry comes as several, in order, and what an Invalidate must not be overtaken by comes with the last (I2, I14).
func TestFramesToEdgesAreBounded(t *testing.T) {
	s := &session{wake: make(chan struct{}, 1), cancel: func() {}}
	s.welcome, s.grant, s.goodbye = &link.Welcome{}, &link.Grant{}, &link.Goodbye{}
	const n = link.MaxInvalidates + link.MaxInvalidates/2
	for i := range uint64(n) {
		s.invals = append(s.invals, &link.Invalidate{Index: i, Hashes: []uint64{1}})
		s.bytes += invalidateBytes(s.invals[i])
	}
	s.answers = make([]*link.Answer, link.MaxAnswers+1)
	s.bytes += answerBytes * len(s.answers)
	next, answers := uint64(0), 0
	for i := range 4 {
		if i > 0 {
			select {
			case <-s.wake:
			default:
				if i < 3 {
					t.Fatalf("nothing wakes the sender for frame %d", i)
				}
			}
		}
		f, bytes := s.take()
		if (f == nil) != (i == 3) {
			t.Fatalf("frame %d: %v", i, f != nil)
		}
		if f == nil {
			break
		}
		if len(f.GetInvalidates()) > link.MaxInvalidates || len(f.GetAnswers()) > link.MaxAnswers || bytes > link.MaxToEdge {
			t.Errorf("frame %d: %d invalidations, %d answers, %d bytes", i, len(f.GetInvalidates()), len(f.GetAnswers()), bytes)
		}
		for _, inv := range f.GetInvalidates() {
			if inv.GetIndex() != next {
				t.Fatalf("frame %d: %d after %d", i, inv.GetIndex(), next)
			}
			next++
		}
		answers += len(f.GetAnswers())
		if last := next == n; f.GetWelcome() != nil != (i == 0) || !last && (f.GetGrant() != nil || f.GetAnswers() != nil) || f.GetGoodbye() != nil != (i == 2) {
			t.Errorf("frame %d: welcome %v, grant %v, goodbye %v", i, f.GetWelcome() != nil, f.GetGrant() != nil, f.GetGoodbye() != nil)
		}
		s.goodbye = map[bool]*link.Goodbye{true: nil, false: s.goodbye}[f.GetGoodbye() != nil]
	}
	if next != n || answers != link.MaxAnswers+1 || s.bytes != 0 {
		t.Errorf("%d invalidations and %d answers were sent, %d bytes are counted", next, answers, s.bytes)
	}
}

// TestQueuesTogetherAreBounded: where much waits for all, those for whom much waits are ended, and others are not.
func TestQueuesTogetherAreBounded(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		w.lead()
		deaf, slow := w.joinHoldingAll("deaf", 1), w.join("slow", 2)
		deaf.deaf, slow.deaf = true, true
		w.hub.outgoing.Add(queuesMax) // of others
		big := make([]state.Concern, 2000)
		for i := range big {
			big[i] = state.Concern{Kind: state.ConcernKey, Key: [32]byte{byte(i), byte(i >> 8), 1}}
		}
		for range 2 * queueFair / (8 * len(big)) {
			w.mu.Lock()
			w.index++
			w.hub.Notify(w.index, big)
			w.mu.Unlock()
			w.change(orgA)
			synctest.Wait()
		}
		if !deaf.over() || slow.over() {
			t.Errorf("ended: %v, %v", deaf.over(), slow.over())
		}
		if p := w.join("again", 3); p.frames()[0].GetWelcome().GetReset_() {
			t.Error("who resumes with nothing to be sent again begins anew")
		}
		hello := w.current("far", 4)
		hello.LastIndex, hello.Held = 1, bytes.Repeat([]byte{0xff}, link.HeldBytes)
		if p := w.greet(hello); !p.frames()[0].GetWelcome().GetReset_() {
			t.Error("who resumes with much to be sent again does not begin anew")
		}
		slow.hangUp()
		synctest.Wait()
		w.hub.outgoing.Add(-queuesMax)
		if n := w.hub.outgoing.Load(); n != 0 {
			t.Errorf("%d bytes are counted for nobody", n)
		}
	})
}

// TestNothingIsMissedWhileAnEdgeResumes: what is dispatched while it is looked up what an edge has missed is sent too (I7).
func TestNothingIsMissedWhileAnEdgeResumes(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		w.lead()
		hello := w.current("e", 1)
		from := hello.GetLastIndex()
		hello.Held = make([]byte, link.HeldBytes)
		for _, h := range hashesOf(orgA) {
			b := link.BucketOf(h)
			hello.Held[b/8] |= 1 << (b % 8)
		}
		others := make([]state.Concern, 1000) // so that looking takes a while
		for i := range others {
			others[i] = state.Concern{Kind: state.ConcernKey, Key: [32]byte{byte(i), byte(i >> 8), 7}}
		}
		w.mu.Lock()
		for range ringMax / 2 / len(others) {
			w.index++
			w.hub.Notify(w.index, others)
		}
		w.mu.Unlock()
		synctest.Wait()
		for range 5 {
			var want []uint64
			done, stop := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(done)
				for range 5000 {
					select {
					case <-stop:
						return
					default:
						want = append(want, w.change(orgA))
						runtime.Gosched()
					}
				}
			}()
			p := w.open()
			p.say(&link.ToAuthority{Hello: proto.CloneOf(hello)})
			for {
				p.mu.Lock()
				begun := len(p.got) > 0
				p.mu.Unlock()
				if begun {
					break
				}
				runtime.Gosched()
			}
			close(stop)
			<-done
			synctest.Wait()
			p.mu.Lock()
			told := map[uint64]bool{}
			for _, index := range p.told {
				told[index] = true
			}
			p.mu.Unlock()
			for _, index := range want {
				if !told[index] {
					t.Fatalf("of %d changes since %d it is not told of %d", len(want), from, index)
				}
			}
			p.hangUp()
			synctest.Wait()
			hello.Session++
		}
	})
}

// TestAHostIsItsAddress, of IPv6 with all that are its own.
func TestAHostIsItsAddress(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.1:70": "192.0.2.1", "[::ffff:192.0.2.1]:70": "::ffff:192.0.2.1", "[2001:db8:1:2:3::4]:70": "2001:db8:1:2::/64", "[2001:db8:1:2::9%eth0]:7": "2001:db8:1:2::/64",
		"bufconn": "bufconn", "edge-1:80": "edge-1",
	} {
		if got := hostOf(address); got != want {
			t.Errorf("%s is of %s, want %s", address, got, want)
		}
	}
}

// TestAFullMeterShutsNobodyOut: whoever fills it, others have their burst, and who has used up its own stays so.
func TestAFullMeterShutsNobodyOut(t *testing.T) {
	m, now := meter{every: time.Minute, burst: 3, room: true}, clock.Time(time.Hour)
	for range 4 {
		m.take("spent", now)
	}
	for i := range 2 * metered {
		m.take(strconv.Itoa(i), now)
	}
	for i := range 4 {
		if m.take("other", now) != (i < 3) {
			t.Errorf("the %d-th of another", i)
		}
	}
	if m.take("spent", now) {
		t.Error("a flood gave a burst back")
	}
	if len(m.full) > metered {
		t.Errorf("%d names are kept", len(m.full))
	}
}
