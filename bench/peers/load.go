package main

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// figure is what one measurement came to.
type figure struct {
	Done     int           `json:"done"`
	Took     time.Duration `json:"took"`
	P50, P99 time.Duration
	CPU      time.Duration `json:"-"` // of the three servers, for each call
	Errors   int           `json:"errors,omitempty"`
	Error    string        `json:"error,omitempty"` // the first
}

// rate is calls per second.
func (f figure) rate() float64 { return float64(f.Done) / f.Took.Seconds() }

// load calls f from a number of callers, each one call after the other, for
// about d. Callers end with the call they are in.
func load(ctx context.Context, callers int, d time.Duration, f func(ctx context.Context, caller, i int) error) figure {
	ctx, cancel := context.WithTimeout(ctx, d+10*time.Second)
	defer cancel()
	var (
		all    figure
		mu     sync.Mutex
		taken  []time.Duration
		failed atomic.Int64
		wg     sync.WaitGroup
	)
	began := time.Now()
	for c := range callers {
		wg.Go(func() {
			own := make([]time.Duration, 0, 1<<14)
			var first error
			for i := 0; time.Since(began) < d; i++ {
				t := time.Now()
				if err := f(ctx, c, i); err != nil {
					failed.Add(1)
					if first == nil {
						first = err
					}
					if ctx.Err() != nil {
						break
					}
					continue
				}
				own = append(own, time.Since(t))
			}
			mu.Lock()
			defer mu.Unlock()
			taken = append(taken, own...)
			if first != nil && all.Error == "" {
				all.Error = first.Error()
			}
		})
	}
	wg.Wait()
	all.Took, all.Done, all.Errors = time.Since(began), len(taken), int(failed.Load())
	if len(taken) == 0 {
		return all
	}
	slices.Sort(taken)
	all.P50, all.P99 = taken[len(taken)/2], taken[len(taken)*99/100]
	return all
}

// merge makes one figure of several rounds: the median of each number.
func merge(rounds []figure) (figure, error) {
	if len(rounds) == 0 {
		return figure{}, errors.New("nothing was measured")
	}
	slices.SortFunc(rounds, func(a, b figure) int {
		switch {
		case a.rate() < b.rate():
			return -1
		case a.rate() > b.rate():
			return 1
		}
		return 0
	})
	m := rounds[len(rounds)/2]
	for _, r := range rounds {
		if r.Errors > 0 && m.Errors == 0 {
			m.Errors, m.Error = r.Errors, r.Error
		}
	}
	return m, nil
}
