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

// TestOneOfEach: one of an org at a time, whoever gives up; other orgs wait for none of them; nothing is left.
func TestOneOfEach(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var o oneOfEach
		var mu sync.Mutex
		in, most, gone := 0, 0, 0
		var all sync.WaitGroup
		for i := range 20 {
			all.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i+1)*10*time.Millisecond+time.Millisecond)
				defer cancel()
				leave, err := o.enter(ctx, state.OrgID{1})
				mu.Lock()
				if err != nil {
					if gone++; !errors.Is(err, context.DeadlineExceeded) {
						t.Error(err)
					}
					mu.Unlock()
					return
				}
				in++
				most = max(most, in)
				mu.Unlock()
				time.Sleep(25 * time.Millisecond)
				mu.Lock()
				in--
				mu.Unlock()
				leave()
			})
		}
		synctest.Wait()
		leave, err := o.enter(t.Context(), state.OrgID{2})
		if err != nil {
			t.Fatal(err)
		}
		leave()
		all.Wait()
		if most != 1 || gone == 0 || gone == 20 || len(o.orgs) != 0 {
			t.Errorf("%d at once, %d gave up, %d orgs are left", most, gone, len(o.orgs))
		}
	})
}
