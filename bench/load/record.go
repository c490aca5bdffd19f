package load

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// What a histogram tells apart: from a microsecond to ten minutes, to three significant digits. Longer is counted as that.
const (
	leastLatency  = int64(time.Microsecond)
	longest       = int64(10 * time.Minute)
	latencyDigits = 3
)

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(leastLatency, longest, latencyDigits)
}

// tally is what became of one kind of request in some time.
type tally struct {
	hist          *hdrhistogram.Histogram
	codes, errors [maxCodes + 1]int64 // errors are those of codes that were not expected
	cached        int64
}

func newTally() *tally { return &tally{hist: newHistogram()} }

func (t *tally) count() int64 { return t.hist.TotalCount() }

func (t *tally) failed() (n int64) {
	for _, e := range t.errors {
		n += e
	}
	return n
}

func (t *tally) add(latency time.Duration, code Code, bad, cached bool) {
	_ = t.hist.RecordValue(min(max(int64(latency), 0), longest)) // in range
	t.codes[code]++
	if bad {
		t.errors[code]++
	}
	if cached {
		t.cached++
	}
}

func (t *tally) merge(from *tally) {
	t.hist.Merge(from.hist)
	for i := range from.codes {
		t.codes[i] += from.codes[i]
		t.errors[i] += from.errors[i]
	}
	t.cached += from.cached
}

func (t *tally) reset() {
	t.hist.Reset()
	t.codes, t.errors, t.cached = [maxCodes + 1]int64{}, [maxCodes + 1]int64{}, 0
}

// byName returns the codes that were counted.
func byName(counts *[maxCodes + 1]int64) map[string]int64 {
	m := map[string]int64{}
	for c, n := range counts {
		if n > 0 {
			m[Code(c).String()] += n
		}
	}
	return m
}

// book holds what some connections have measured since it was last read. So that it is read without stopping them, it has two sets of
// tallies, and gives the full one away for the empty one.
type book struct {
	mu   sync.Mutex
	live []*tally // by operation; nil: none yet
	warm int64    // requests of the warm-up, which are not measured

	spare []*tally // the reader's
}

func newBook(ops int) *book {
	return &book{live: make([]*tally, ops), spare: make([]*tally, ops)}
}

// take adds what was measured since the last take to sum, by operation.
func (b *book) take(sum []*tally) (warm int64) {
	b.mu.Lock()
	b.live, b.spare = b.spare, b.live
	warm, b.warm = b.warm, 0
	b.mu.Unlock()
	for op, t := range b.spare {
		if t == nil || t.count() == 0 {
			continue
		}
		if sum[op] == nil {
			sum[op] = newTally()
		}
		sum[op].merge(t)
		t.reset()
	}
	return warm
}

func (b *book) add(op int, latency time.Duration, code Code, bad, cached bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.live[op] == nil {
		b.live[op] = newTally()
	}
	b.live[op].add(latency, code, bad, cached)
}

func (b *book) warmed() {
	b.mu.Lock()
	b.warm++
	b.mu.Unlock()
}
