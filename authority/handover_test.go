package authority

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"machineid/internal/testkit/bubble"
)

// TestGate keeps back who comes, waits for who is inside, and lets all in when it opens.
func TestGate(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var g gate
		ctx, cancel := context.WithCancel(t.Context())
		if err := g.enter(ctx); err != nil {
			t.Fatal(err)
		}
		shut := make(chan bool, 1)
		go func() { shut <- g.close(ctx) }()
		synctest.Wait()
		if len(shut) != 0 {
			t.Error("it is shut behind one who is inside")
		}
		entered := make(chan error, 1)
		go func() { entered <- g.enter(t.Context()) }()
		refused := make(chan error, 1)
		go func() { refused <- g.enter(ctx) }()
		synctest.Wait()
		g.leave()
		if !<-shut || g.close(ctx) {
			t.Error("it shuts once, until it is opened")
		}
		synctest.Wait()
		if len(entered) != 0 {
			t.Error("somebody came in")
		}
		cancel()
		if err := <-refused; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		g.open()
		if err := <-entered; err != nil {
			t.Error(err)
		}
		if !g.close(ctx) { // its time is up: it does not wait for who is inside
			t.Error("it does not shut again")
		}
		g.leave()
		g.open()
	})
}
