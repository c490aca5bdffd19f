package hub

import (
	"bytes"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"machineid/internal/testkit/bubble"
	"machineid/shared/clock"
	"machineid/shared/link"
)

// TestSlotsComeBack where a session does not begin after all: one that kept its slot would take a place of its address for as long as the reign lasts (I14).
func TestSlotsComeBack(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		w.lead()
		later := helloOf("e", 1)
		later.Session = 2
		w.greet(later)
		taken := func() (slots, hosts int) {
			w.hub.mu.Lock()
			defer w.hub.mu.Unlock()
			for _, n := range w.hub.reign.hosts {
				hosts += n
			}
			return w.hub.reign.taken(), hosts
		}
		refused := func(what, why string, hello *link.Hello) {
			t.Helper()
			for range 3 {
				p := w.greet(hello)
				if got := p.frames()[0].GetGoodbye().GetReason(); got != why {
					t.Errorf("%s: %q, want %q", what, got, why)
				}
			}
			if slots, hosts := taken(); slots != 1 || hosts != 1 {
				t.Errorf("%s: %d slots are taken, %d of addresses", what, slots, hosts)
			}
		}
		earlier := helloOf("e", 1)
		earlier.Session = 1
		refused("an overtaken Hello", whyOvertaken, earlier)
		fromElsewhere := helloOf("f", 2) // it may hold a lease of another leader
		fromElsewhere.Term, fromElsewhere.Reign = 1, bytes.Repeat([]byte{9}, 16)
		usualTime := w.hub.horizon.time
		w.hub.horizon.time = func() (int64, bool) { return 0, false }
		refused("where the time cannot be told", whyNoTime, fromElsewhere)
		w.hub.horizon.time = usualTime
		if w.greet(fromElsewhere).over() {
			t.Error("it has no session when the time can be told")
		}
	})
}

// TestRoomForTheNextSession: a process that has a session gets its next beyond the limits too, but not without end: so many may be on their way at once (I14).
func TestRoomForTheNextSession(t *testing.T) {
	const edges = 3
	h := New(Config{Limits: Limits{Edges: edges, PerAddress: edges}})
	hello := helloOf("e", 1)
	r := &reign{of: map[[16]byte]*session{[16]byte(hello.GetProcessId()): {}}, directory: newDirectory(time.Minute, 0)}
	for n := range 2*edges + 2 {
		if got := h.room(r, hello, "host"); got != (n < 2*edges) {
			t.Errorf("its next session, with %d slots taken: %v", n, got)
		}
		if got := h.room(r, helloOf("f", 2), "host"); got != (n < edges) {
			t.Errorf("another's first, with %d slots taken: %v", n, got)
		}
		r.takeSlot("host")
	}
}

// TestAConnectionIsCut that would keep a place, or what is to be sent, for nobody: of an edge that does not read, of one whose frame was refused, and of one that says no Hello. What it is told
// goes before (I14).
func TestAConnectionIsCut(t *testing.T) {
	for name, c := range map[string]struct {
		begin func(w *reached, s *stream)
		after time.Duration // it is there until just before, and not after
	}{
		"an edge that does not read": {func(w *reached, s *stream) {
			s.hello(1, nil)
			synctest.Wait()
			f := &link.ToAuthority{}
			for i := range uint64(link.MaxFetches) {
				f.Fetches = append(f.Fetches, &link.Fetch{Id: i, KeyHash: w.hash[:], DeviceId: "d"})
			}
			for range 8 {
				s.say(f)
			}
			synctest.Wait()
			of := w.sessionOf("evil1")
			if !of.sending.Load() {
				w.t.Fatal("it is not in a Send")
			}
			of.end("a reason", "")
		}, goodbyeTime},
		"a frame that is refused": {func(_ *reached, s *stream) {
			s.hello(1, nil)
			synctest.Wait()
			s.sayRaw(bytes.Repeat([]byte{4<<3 | 2, 0}, 50_000))
			_ = s.end()
		}, goodbyeTime},
		"a first frame that is refused": {func(_ *reached, s *stream) {
			s.sayRaw(bytes.Repeat([]byte{4<<3 | 2, 0}, 50_000))
			_ = s.end()
		}, goodbyeTime},
		"no Hello": {func(*reached, *stream) {}, helloTime + goodbyeTime},
	} {
		t.Run(name, func(t *testing.T) {
			inReach(t, Limits{}, func(w *reached) {
				e := w.joinHonest() // another address
				defer e.cancel()
				a := w.attack()
				s := a.stream()
				defer s.cancel()
				open := func() int {
					synctest.Wait()
					w.hub.conns.mu.Lock()
					defer w.hub.conns.mu.Unlock()
					return w.hub.conns.from["evil"]
				}
				c.begin(w, s)
				if n := open(); n != 1 {
					t.Fatalf("%d connections", n)
				}
				time.Sleep(c.after - 10*time.Millisecond)
				if n := open(); n != 1 {
					t.Errorf("it is cut too early")
				}
				time.Sleep(20 * time.Millisecond)
				if n := open(); n != 0 {
					t.Errorf("%d connections are left", n)
				}
				e.stands("after")
			})
		})
	}
}

// sessionOf is the session of an edge.
func (w *reached) sessionOf(edge string) *session {
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

// TestTakeOverLeavesWhatHasLapsed: the next session of a process takes over what still waits for the one before, and nothing that waits for nobody any more.
func TestTakeOverLeavesWhatHasLapsed(t *testing.T) {
	old, next := &session{cancel: func() {}, edgeID: "e"}, &session{edgeID: "e"}
	ends := []clock.Time{10, 30, 10, 20}
	for i, end := range ends {
		ch := newChange(uint64(i+1), 0)
		ch.expect(old, end)
		ch.seal()
		old.waits = append(old.waits, ch)
	}
	for _, ch := range old.waits {
		ch.expire(15)
	}
	next.takeOver(old)
	var kept []uint64
	for _, ch := range next.waits {
		kept = append(kept, ch.index)
	}
	if !slices.Equal(kept, []uint64{2, 4}) || old.waits != nil {
		t.Errorf("the next session waits with %v, the one before with %d", kept, len(old.waits))
	}
	if took := next.ack(4, false, 16); len(took) != 2 {
		t.Errorf("its acknowledgement settles %d", len(took))
	}
}

// TestTheDirectoryShrinks when the sessions that it has grown for are gone: its rows go with the next turns, and interest of those that stay does not.
func TestTheDirectoryShrinks(t *testing.T) {
	const period = time.Minute
	r := &reign{directory: newDirectory(period, 0)}
	const slots = 5*slotsPerWord + 1
	for range slots {
		r.takeSlot("host")
	}
	for slot := range slots {
		if slot > 2 {
			r.freeSlot(slot)
		}
	}
	r.trim()
	d := r.directory
	for i := range 3 {
		d.note(2, 7)
		d.turn(clock.Time(period) * clock.Time(i+1))
		if got := slotsOf(d, 7); !slices.Equal(got, []int{2}) {
			t.Errorf("holders after turn %d: %v", i, got)
		}
	}
	if len(d.present) != 1 || len(d.past) != 1 || len(r.slots) != 3 {
		t.Errorf("%d and %d rows, %d slots are left", len(d.present), len(d.past), len(r.slots))
	}
}

// TestWorkersAreBounded: however much a session asks at once, so many do it, and none of it is lost (I14).
func TestWorkersAreBounded(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var w workers
		var mu sync.Mutex
		running, most, done := 0, 0, 0
		const jobs = 5 * workersMax
		for range jobs {
			w.do(func() {
				mu.Lock()
				running++
				most = max(most, running)
				mu.Unlock()
				time.Sleep(time.Millisecond)
				mu.Lock()
				running--
				done++
				mu.Unlock()
			})
		}
		time.Sleep(time.Second)
		w.end()
		if most != workersMax || done != jobs {
			t.Errorf("%d at once, %d done", most, done)
		}
	})
}
