package hub

import (
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"machineid/authority/state/statepb"
	"machineid/shared/clock"
	"machineid/shared/link"
)

// counter is an edge as the horizon must know it: what authority time it is at least at, by its own clock and the leases that it has processed.
type counter struct {
	rate   float64 // of its clock, by true time
	latest int64   // ms
	asked  clock.Time
	ms     int64
	until  clock.Time // on its own clock
}

func (c *counter) clock(now time.Duration) clock.Time { return clock.Time(float64(now) * c.rate) }

func (c *counter) at(now time.Duration) int64 {
	if c.until != 0 {
		c.latest = max(c.latest, c.ms+1+int64(c.clock(now).Sub(c.asked)/time.Millisecond))
	}
	return c.latest
}

// leased is a lease on its way to an edge.
type leased struct {
	to      *counter
	ms      int64
	asked   clock.Time
	arrives time.Duration
}

// TestHorizon: whatever the rates of the clocks within ρ, the steps of the authority's wall clock, and the leases that are late or lost, no edge that may answer is behind what
// the horizon says; it never goes back; and while nothing is wrong it is not far behind.
func TestHorizon(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 15))
		times := Times{Lease: lease, Bound: 0.01}
		k := func() float64 { return 1 + times.Bound*(2*rng.Float64()-1) }
		leader := k()
		now, ahead := time.Hour, time.Duration(0)
		var newest clock.Rising
		z := &horizon{
			rate: (1 - times.Bound) / (1 + times.Bound), span: times.Stretched(),
			time: func() (int64, bool) {
				return newest.Raise(int64((time.Duration(float64(now)*leader) + ahead) / time.Millisecond)), true
			},
		}
		own := func() clock.Time { return clock.Time(float64(now) * leader) }
		edges := make([]*counter, 3)
		for i := range edges {
			edges[i] = &counter{rate: k()}
		}
		var under []leased
		var said int64
		for range 4000 {
			now += time.Duration(rng.Int64N(int64(20 * time.Millisecond)))
			switch e := edges[rng.IntN(len(edges))]; {
			case rng.IntN(400) == 0:
				ahead += time.Duration(rng.Int64N(int64(18*time.Second))) - 9*time.Second
			case rng.IntN(8) == 0: // an edge asks; the answer may be late, or never come
				asked := e.clock(now)
				now += time.Duration(rng.Int64N(int64(5 * time.Millisecond)))
				received := own()
				now += time.Duration(rng.Int64N(int64(time.Millisecond))) // a stall
				ms, _ := z.granted(received)
				if rng.IntN(5) > 0 {
					under = append(under, leased{e, ms, asked, now + time.Duration(rng.Int64N(int64(lease)))})
				}
			}
			for len(under) > 0 && under[0].arrives <= now { // in order, as on a stream
				l := under[0]
				under = under[1:]
				if until := l.asked.Add(lease); until > l.to.clock(now) {
					l.to.at(now)
					l.to.ms, l.to.asked, l.to.until = l.ms, l.asked, max(l.to.until, until)
				}
			}
			told := z.least(own())
			if told < said {
				t.Fatalf("seed %d: it went back from %d to %d", seed, said, told)
			}
			said = told
			for i, e := range edges {
				if e.clock(now) < e.until && e.at(now) < told {
					t.Fatalf("seed %d at %v: edge %d is at %d, and %d is told", seed, now, i, e.at(now), told)
				}
			}
		}
	}
}

// TestWhatIsCutIsCutDown: a time before the first is not told a millisecond too late.
func TestWhatIsCutIsCutDown(t *testing.T) {
	for _, c := range [][3]int64{{-21, 10, -3}, {-20, 10, -2}, {-1, 10, -1}, {0, 10, 0}, {9, 10, 0}, {10, 10, 1}} {
		if got := floorDiv(c[0], c[1]); got != c[2] {
			t.Errorf("%d of %d: %d, want %d", c[0], c[1], got, c[2])
		}
	}
}

// TestAWindowHasTheLeast of all that counts still, also where a later one ends before an earlier one: grants were asked for in one order, and are counted in another.
func TestAWindowHasTheLeast(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var w window
		var all []counting
		for now := range clock.Time(300) {
			if rng.IntN(3) == 0 {
				one := counting{rng.Int64N(50), now + clock.Time(rng.Int64N(40))}
				w.add(one.value, one.until)
				all = append(all, one)
			}
			want, some := int64(0), false
			for _, c := range all {
				if c.until >= now && (!some || c.value < want) {
					want, some = c.value, true
				}
			}
			if got, found := w.least(now); some && (!found || got > want) {
				t.Fatalf("seed %d at %d: %d, %t; %d counts still", seed, now, got, found, want)
			}
		}
	}
}

// TestTheHorizonIsNear: with sound clocks it is behind by 2ρS at most, and by nothing if no edge may answer.
func TestTheHorizonIsNear(t *testing.T) {
	now := clock.Time(time.Hour)
	z := &horizon{rate: 0.99 / 1.01, span: stretched, time: func() (int64, bool) { return int64(now) / int64(time.Millisecond), true }}
	behind := func() int64 { ms, _ := z.time(); return ms - z.least(now) }
	if got := behind(); got != 0 {
		t.Errorf("without an edge it is %d ms behind", got)
	}
	for range 100 {
		now = now.Add(lease / 4)
		z.granted(now)
		if got := behind(); got > 2*stretched.Milliseconds()/100+1 {
			t.Fatalf("it is %d ms behind", got)
		}
	}
	now = now.Add(stretched + 1)
	if got := behind(); got != 0 {
		t.Errorf("when the last lease is over it is %d ms behind", got)
	}
}

// TestTheLeastCounts: of an edge that was put somewhere, and of one that counts on from further back.
func TestTheLeastCounts(t *testing.T) {
	now, ahead := clock.Time(time.Hour), time.Duration(0)
	z := &horizon{rate: 1, span: stretched, time: func() (int64, bool) { return int64(now.Add(ahead)) / int64(time.Millisecond), true }}
	first, _ := z.granted(now)
	ahead = 5 * time.Second
	z.welcomed(now.Add(stretched))
	if got := z.least(now); got != first {
		t.Errorf("an edge is at %d, and %d is told", first, got)
	}
	now = now.Add(stretched + 1)
	put, _ := z.time()
	z.welcomed(now.Add(stretched))
	now = now.Add(time.Second)
	z.granted(now)
	if got := z.least(now); got != put {
		t.Errorf("an edge is at %d, and %d is told", put, got)
	}
}

// stranger is the Hello of a process that has had its last session with another leader.
func stranger(edge string, process byte) *link.Hello {
	hello := helloOf(edge, process)
	hello.Term, hello.Reign = 7, slices.Repeat([]byte{7}, 16)
	return hello
}

// TestAnEdgeOfAnotherLeaderIsWhereItWasPut: of its lease this node knows no time, so until the end of that the edge counts as standing where the Welcome put it.
func TestAnEdgeOfAnotherLeaderIsWhereItWasPut(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		w.term = 7
		w.lead()
		w.greet(helloOf("e1", 1))
		time.Sleep(100 * time.Millisecond)
		if got := time.Now().UnixMilli() - w.hub.Told(); got != 0 {
			t.Errorf("an edge that had no session before holds time back: by %d ms", got)
		}
		w.greet(stranger("e2", 2))
		put := w.hub.Told()
		time.Sleep(stretched - time.Millisecond)
		if got := w.hub.Told(); got != put {
			t.Errorf("its lease may run, and it is taken for %d ms later than where it was put", got-put)
		}
		time.Sleep(10 * time.Millisecond)
		if got := time.Now().UnixMilli() - w.hub.Told(); got != 0 {
			t.Errorf("its lease is over, and time is held back by %d ms", got)
		}
	})
}

// TestNothingIsGrantedInATimeThatMayNotBeTold, nor is a session begun in it with a process that may hold a lease.
func TestNothingIsGrantedInATimeThatMayNotBeTold(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		w.term = 7
		w.lead()
		may := true
		w.hub.horizon.time = func() (int64, bool) { return time.Now().UnixMilli(), may }
		p := w.join("e1", 1)
		if p.renew() == nil {
			t.Fatal("no lease")
		}
		may = false
		if g := p.renew(); g != nil {
			t.Errorf("it was given %v", g)
		}
		late := w.greet(stranger("e2", 2))
		if got := late.frames()[0].GetGoodbye().GetReason(); got != whyNoTime {
			t.Errorf("it was turned away by %q", got)
		}
	})
}

// TestFramesCarryTheTime of a moment after what they tell.
func TestFramesCarryTheTime(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		w.lead()
		p := w.join("e1", 1)
		for _, f := range p.frames() {
			if f.GetNowMs() != time.Now().UnixMilli() {
				t.Errorf("it is %d, and this says %d: %v", time.Now().UnixMilli(), f.GetNowMs(), f)
			}
		}
		time.Sleep(time.Second)
		w.change(orgA)
		synctest.Wait()
		told := p.frames()
		if len(told) == 0 || told[0].GetInvalidates() == nil || told[0].GetNowMs() != time.Now().UnixMilli() {
			t.Errorf("of a change it is told %v", told)
		}
	})
}

// TestFramesSayWhatIsReserved where the time is beyond it: an end may have been set to that, and who acknowledges it must be there.
func TestFramesSayWhatIsReserved(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		w.lead()
		p := w.join("e1", 1)
		p.frames()
		reserved := time.Now().UnixMilli() + 2000
		if _, err := w.apply(&statepb.Command{Change: &statepb.Command_ReserveTime{ReserveTime: &statepb.ReserveTime{UntilMs: reserved}}}); err != nil {
			t.Fatal(err)
		}
		w.hub.cfg.Time = func() (int64, bool) { return reserved + 7000, false }
		w.change(orgA)
		synctest.Wait()
		if told := p.frames(); len(told) != 1 || told[0].GetInvalidates() == nil || told[0].GetNowMs() != reserved {
			t.Errorf("%d is reserved, and of a change it is told %v", reserved, told)
		}
	})
}
