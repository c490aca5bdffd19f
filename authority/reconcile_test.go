package authority

import (
	"context"
	"slices"
	"testing"
	"time"

	"machineid/internal/testkit/bubble"
)

// TestReconcileTimes: once a day, and an hour after a run in which Stripe failed, as often as it does.
func TestReconcileTimes(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ctx, stop := context.WithTimeout(t.Context(), 60*time.Hour)
		defer stop()
		began := time.Now()
		var at []time.Duration
		Reconcile{}.withDefaults().run(ctx, func() bool {
			at = append(at, time.Since(began))
			return len(at) != 2 && len(at) != 3 // the second and third fail
		})
		first := 10 * time.Minute
		if want := []time.Duration{first, first + 24*time.Hour, first + 25*time.Hour, first + 26*time.Hour, first + 50*time.Hour}; !slices.Equal(at, want) {
			t.Errorf("compared at %v, want %v", at, want)
		}
	})
}
