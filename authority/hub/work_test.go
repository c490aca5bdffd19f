package hub

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"machineid/raftstore"
	"machineid/shared/clock"
	"machineid/shared/link"
)

// TestAnEdgeThatAsksWithoutEnd: what it asks beyond its share is read later, whatever it asks. Others, also one at its address, are served as ever (I14).
func TestAnEdgeThatAsksWithoutEnd(t *testing.T) {
	fetch := &link.ToAuthority{Fetches: []*link.Fetch{{Id: 1, OrgId: orgA[:], DeviceId: "nobody"}}}
	for name, c := range map[string]struct {
		says     *link.ToAuthority
		sessions int
		most     int // frames a second of all of them
	}{
		"fetches":                {fetch, 1, 1000 / (frameWork + 1)},
		"renewals":               {&link.ToAuthority{Renew: &link.Renew{AskedAtNs: 1}}, 1, 1000 / frameWork},
		"nothing":                {&link.ToAuthority{}, 1, 1000 / frameWork},
		"fetches of three edges": {fetch, 3, 3 * 1000 / (frameWork + 1)},
	} {
		t.Run(name, func(t *testing.T) {
			inReach(t, Limits{}, func(w *reached) {
				w.hub.work.every, w.hub.work.burst = time.Millisecond, 100
				e := w.joinHonest()
				defer e.cancel()
				a := w.attack()
				var said atomic.Int64
				for n := range c.sessions {
					s := a.stream()
					defer s.cancel()
					s.hello(n, nil)
					go func() { _ = s.end() }()
					b := append(protowire.AppendTag(marshal(c.says), 100, protowire.BytesType), protowire.AppendBytes(nil, make([]byte, 8<<10))...) // long, so that few fit between the ends
					go func() {
						for n := 0; n < 5000 && s.sayRaw(b); n++ { // where nothing holds it up, time stands still
							said.Add(1)
						}
					}()
				}
				polite := a.stream() // of the same address
				defer polite.cancel()
				polite.hello(100, nil)
				var late atomic.Int64
				go func() {
					for {
						f := &link.ToEdge{}
						if polite.RecvMsg(f) != nil {
							return
						}
						if g := f.GetGrant(); g != nil {
							late.Store(max(late.Load(), int64(w.Now())-g.GetAskedAtNs()))
						}
					}
				}()
				time.Sleep(time.Second) // the bursts are over, and what fits between the two ends is full
				began := said.Load()
				const seconds = 5
				for range 4 * seconds {
					time.Sleep(time.Second / 4)
					polite.say(&link.ToAuthority{Renew: &link.Renew{AskedAtNs: int64(w.Now())}})
				}
				synctest.Wait()
				if n := int(said.Load() - began); n > seconds*c.most+50 || n < seconds*c.most/2 {
					t.Errorf("%d frames in %d s, want %d a second", n, seconds, c.most)
				}
				if took := time.Duration(late.Load()); took > 10*time.Millisecond {
					t.Errorf("the renewal of another edge at its address took %v", took)
				}
				e.stands("beside it")
			})
		})
	}
}

// TestABusyEdgeIsNotPaced: 35,000 misses a second, as many as two cores do (BenchmarkMiss), each in a frame of its own, and all that may wait for it at once.
func TestABusyEdgeIsNotPaced(t *testing.T) {
	w := newWork(2)
	had := w.share()
	one := weigh(&link.ToAuthority{Fetches: []*link.Fetch{{}}})
	full := weigh(&link.ToAuthority{Fetches: make([]*link.Fetch, link.MaxFetches)})
	begin := clock.Time(time.Hour)
	now := begin
	owe := func(n int) {
		t.Helper()
		if wait := had.all.owe("", n, now); wait > 0 {
			t.Fatalf("it waits for %v after %v", wait, now.Sub(begin))
		}
	}
	for range 20_000/link.MaxFetches + 1 {
		owe(full)
	}
	for ; now < begin.Add(2*time.Second); now = now.Add(time.Second / 35_000) {
		owe(one)
	}
}

// TestWeigh counts all that a frame asks for.
func TestWeigh(t *testing.T) {
	f := &link.ToAuthority{
		Renew: &link.Renew{}, Fetches: []*link.Fetch{{}, {KeyHash: make([]byte, 32)}, {}},
		Report: &link.Report{Used: make([]*link.Used, 5), Seen: []*link.Seen{{DeviceIds: make([]string, 7)}, {}}},
	}
	if got := weigh(f); got != frameWork+2+keyWork+5+1+7+1 {
		t.Errorf("%d", got)
	}
}

// TestReadingGoesRound: of all sessions so many slices of fetches are read at once, and one that asks for much makes another wait for a slice, not for all of it (I14).
func TestReadingGoesRound(t *testing.T) {
	inWorld(t, usual, nil, func(w *world) {
		t := w.t
		var mu sync.Mutex
		now, most, reads := 0, 0, 0
		step := make(chan struct{})
		w.store.set(func(s *fakeStore) {
			s.view = func() (*raftstore.View, error) {
				mu.Lock()
				now++
				most = max(most, now)
				mu.Unlock()
				<-step
				mu.Lock()
				now--
				reads++
				mu.Unlock()
				return nil, errors.New("the test ends it")
			}
		})
		w.hub.work = newWork(1)
		w.hub.work.ofOne = 1
		const atOnce = readsACore
		w.lead()
		quiet := w.join("quiet", 1)
		var loud []*peer
		ask := func(from, n uint64) *link.ToAuthority {
			f := &link.ToAuthority{}
			for i := range n {
				f.Fetches = append(f.Fetches, &link.Fetch{Id: from + i, OrgId: orgA[:]})
			}
			return f
		}
		for n := range byte(atOnce + 1) { // one more than are read at once
			p := w.join("loud", 2+n)
			for i := range uint64(3) {
				p.tell(ask(i*link.MaxFetches, link.MaxFetches))
			}
			loud = append(loud, p)
		}
		synctest.Wait()
		quiet.frames()
		quiet.tell(ask(1, 1))
		synctest.Wait()
		waited := 0
		for ; len(quiet.frames()) == 0 && waited < 100; waited++ {
			step <- struct{}{}
			synctest.Wait()
		}
		if most := 2*atOnce + 1; waited > most { // those that were read when it came, one of each of the others, and its own
			t.Errorf("who asked for one record waited for %d slices, want %d at most", waited, most)
		}
		close(step)
		synctest.Wait()
		for i, p := range loud {
			answered := 0
			for _, f := range p.frames() {
				answered += len(f.GetAnswers())
			}
			if answered != 3*link.MaxFetches {
				t.Errorf("%d of %d fetches are answered to loud %d", answered, 3*link.MaxFetches, i)
			}
		}
		if slices := 3*(atOnce+1)*link.MaxFetches/readSlice + 1; most != atOnce || reads != slices {
			t.Errorf("%d of %d slices were read, %d at once", reads, slices, most)
		}
	})
}
