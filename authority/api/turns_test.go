package api

import (
	"context"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"machineid/authority/state"
	"machineid/internal/testkit/bubble"
)

// one is a reader of its own.
func one(i byte) reader { return reader{org: state.OrgID{i}} }

// idle holds turns that nobody has anything of any more to having all back.
func (t *turns) idle(tb testing.TB, free int) {
	tb.Helper()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.free != free || t.open != 0 || t.unsent != 0 || t.all != 0 || len(t.lines) != 0 || len(t.door) != 0 || len(t.waiting) != 0 {
		tb.Errorf("left: free %d of %d, open %d, unsent %d, all %d, lines %d, door %d, waiting %d", t.free, free, t.open, t.unsent, t.all, len(t.lines), len(t.door), len(t.waiting))
	}
}

// TestTurnsGoRound: one reads at a time, and who has more to read than others is not before them.
func TestTurnsGoRound(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		turns := newTurns(prometheus.NewRegistry())
		turns.free = 1
		const work = 20 * time.Microsecond // a record
		began, records := time.Now(), 0
		var mu sync.Mutex
		var at, most int
		var order []byte
		read := func(of byte, count int) {
			rd, err := turns.begin(t.Context(), one(of))
			if err != nil {
				t.Error(err)
				return
			}
			for range count {
				mu.Lock()
				if rd.records == 0 { // a turn begins
					order = append(order, of)
				}
				records++
				at++
				most = max(most, at)
				mu.Unlock()
				time.Sleep(work)
				mu.Lock()
				at--
				mu.Unlock()
				if err := rd.step(t.Context()); err != nil {
					t.Error(err)
				}
			}
			rd.leave()
		}
		var readers sync.WaitGroup
		for range readsOfOne {
			readers.Go(func() { read(1, 20*sliceRecords) })
		}
		synctest.Wait()
		readers.Go(func() { read(2, 3*sliceRecords) })
		readers.Go(func() { read(3, 3*sliceRecords) })
		readers.Wait()
		synctest.Wait()
		if most != 1 {
			t.Errorf("%d at once", most)
		}
		if took, worked := time.Since(began), time.Duration(records)*work; took < (1+restShare)*worked-restShare*2*sliceTime {
			t.Errorf("%v of work took %v: the others have too little", worked, took)
		}
		for _, other := range []byte{2, 3} {
			for i := slices.Index(order, other); i >= 0; {
				next := slices.Index(order[i+1:], other)
				if next > 2 {
					t.Errorf("reader %d waited for %d turns of others: %v", other, next, order)
				}
				if next < 0 {
					break
				}
				i += 1 + next
			}
		}
		turns.idle(t, 1)
	})
}

// TestTurnsAreBounded by reader, and one that has its fill takes nothing from others.
func TestTurnsAreBounded(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		turns := newTurns(prometheus.NewRegistry())
		turns.free = 1
		began := time.Now()
		var noisy sync.WaitGroup
		var held []*reading
		var mu sync.Mutex
		refused := 0
		for range 64 {
			noisy.Go(func() {
				rd, err := turns.begin(t.Context(), one(1))
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					refused++
					return
				}
				held = append(held, rd)
				rd.read()
				rd.sends(1 << 20)
			})
		}
		synctest.Wait()
		if refused != 64-readsOfOne || len(held) != 1 {
			t.Errorf("%d were refused, %d read", refused, len(held))
		}
		other, err := turns.begin(t.Context(), one(2))
		if err != nil || time.Since(began) != 0 {
			t.Fatalf("another org: %v, after %v", err, time.Since(began))
		}
		other.leave()
		noisy.Wait() // those in line are refused: the answer before them does not leave
		if refused != 63 || time.Since(began) != turnWait {
			t.Errorf("%d were refused after %v", refused, time.Since(began))
		}
		held[0].leave()
		synctest.Wait()
		turns.idle(t, 1)
	})
}

// TestUnsentAnswersAreBounded in all.
func TestUnsentAnswersAreBounded(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		turns := newTurns(prometheus.NewRegistry())
		var held []*reading
		for i := byte(1); ; i++ {
			rd, err := turns.begin(t.Context(), one(i))
			if err != nil {
				break
			}
			rd.read()
			rd.sends(32 << 20)
			held = append(held, rd)
		}
		if len(held) != readsUnsent/(32<<20) {
			t.Errorf("%d are unsent", len(held))
		}
		for _, rd := range held {
			rd.leave()
		}
		rd, err := turns.begin(t.Context(), one(1))
		if err != nil {
			t.Fatal(err)
		}
		rd.leave()
	})
}

// TestTurnsComeBack whatever becomes of those who had them, or waited.
func TestTurnsComeBack(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 1))
				turns := newTurns(prometheus.NewRegistry())
				turns.free = 1 + rng.IntN(2)
				free := turns.free
				var readers sync.WaitGroup
				for range 100 {
					of, records, patience, size := one(byte(rng.IntN(9))), rng.IntN(4*sliceRecords), time.Duration(rng.IntN(3000))*time.Millisecond, rng.IntN(32<<20)
					start, send := time.Duration(rng.IntN(500))*time.Millisecond, time.Duration(rng.IntN(300))*time.Millisecond
					readers.Go(func() {
						time.Sleep(start)
						ctx, cancel := context.WithTimeout(t.Context(), patience)
						defer cancel()
						rd, err := turns.begin(ctx, of)
						if err != nil {
							return
						}
						defer rd.leave()
						for range records {
							time.Sleep(20 * time.Microsecond)
							if rd.step(ctx) != nil {
								return
							}
							turns.mu.Lock()
							if turns.open > readsOpen {
								t.Error("too many are open")
							}
							turns.mu.Unlock()
						}
						rd.read()
						rd.sends(size)
						time.Sleep(send)
					})
				}
				readers.Wait()
				time.Sleep(time.Second)
				turns.idle(t, free)
			})
		})
	}
}

// TestATurnEnds when it has had its records, and when it has had its time, whichever is first.
func TestATurnEnds(t *testing.T) {
	for name, work := range map[string]time.Duration{"quick records": 0, "slow records": 100 * time.Microsecond} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				turns := newTurns(prometheus.NewRegistry())
				rd, err := turns.begin(t.Context(), one(1))
				if err != nil {
					t.Fatal(err)
				}
				for range 4 * sliceRecords {
					time.Sleep(work)
					if err := rd.step(t.Context()); err != nil {
						t.Fatal(err)
					}
					if had := time.Since(rd.began); rd.records > sliceRecords || had > sliceTime+16*work {
						t.Fatalf("a turn of %d records and %v", rd.records, had)
					}
				}
				rd.leave()
			})
		})
	}
}

// TestAShortReadRests as well: the turn of one that ends before its turn does is not had again at once.
func TestAShortReadRests(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		turns := newTurns(prometheus.NewRegistry())
		turns.free = 1
		const reads, work = 50, sliceTime / 2
		began := time.Now()
		for range reads {
			rd, err := turns.begin(t.Context(), one(1))
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(work)
			rd.leave()
		}
		if took := time.Since(began); took < (reads-1)*(1+restShare)*work {
			t.Errorf("%d reads of %v took %v", reads, work, took)
		}
	})
}

// TestLongReadsAreBoundedInAll: however many orgs ask.
func TestLongReadsAreBoundedInAll(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		turns := newTurns(prometheus.NewRegistry())
		of := func(i int) reader { return reader{org: state.OrgID{byte(i), byte(i >> 8)}} }
		var readers sync.WaitGroup
		for i := range readsAll {
			readers.Go(func() {
				if rd, err := turns.begin(t.Context(), of(i)); err == nil {
					time.Sleep(turnWait)
					rd.leave()
				}
			})
		}
		synctest.Wait()
		if _, refused := turns.enter(of(readsAll)); refused != refusedAll {
			t.Errorf("refused: %q", refused)
		}
		readers.Wait()
	})
}

// TestYielding lets others run, also where there is one processor.
func TestYielding(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	yield := yielding()
	var ran atomic.Bool
	go ran.Store(true)
	for range 16 * 64 {
		if err := yield(); err != nil {
			t.Fatal(err)
		}
	}
	if !ran.Load() {
		t.Error("nobody else ran")
	}
}
