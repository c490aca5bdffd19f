package api

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"machineid/authority/state"
	"machineid/internal/testkit/bubble"
)

// TestLargeBodies are parsed one at a time, with rests, and who sends many has one place among the others.
func TestLargeBodies(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const work = 10 * time.Millisecond
		b := newBodies()
		b.free = make(chan struct{}, 1)
		began := time.Now()
		var mu sync.Mutex
		in, most := 0, 0
		parse := func(of byte) {
			leave, err := b.enter(t.Context(), state.OrgID{of})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			in++
			most = max(most, in)
			mu.Unlock()
			time.Sleep(work)
			mu.Lock()
			in--
			mu.Unlock()
			leave()
		}
		var noisy sync.WaitGroup
		for range 64 {
			noisy.Go(func() { parse(1) })
		}
		synctest.Wait()
		parse(2)
		if took := time.Since(began); took > 4*work {
			t.Errorf("another key waited for %v", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), work)
		defer cancel()
		if _, err := b.enter(ctx, state.OrgID{1}); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		noisy.Wait()
		if took := time.Since(began); most != 1 || took < (2*65-1)*work {
			t.Errorf("%d at once, all in %v", most, took)
		}
		time.Sleep(2 * work)
		synctest.Wait()
		if len(b.free) != 0 || len(b.keys.orgs) != 0 {
			t.Errorf("left: %d, %d", len(b.free), len(b.keys.orgs))
		}
	})
}
