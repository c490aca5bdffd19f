package cli

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"
)

// When it is said that a call takes its time: after an attempt has failed, after none has come back, and again.
const (
	waitingFailed = time.Second
	waitingHung   = 5 * time.Second
	waitingAgain  = 10 * time.Second
)

// waiting says on stderr for whom a command waits, why, and for how long still.
type waiting struct {
	notes io.Writer
	until time.Time // zero: no end is known
	began time.Time
	stop  chan struct{}
	ended sync.WaitGroup

	mu    sync.Mutex
	asked string // "" once the attempt is over
	fault string // of the last one that failed, and where; "" if none has
}

func (c *operatorClient) wait(ctx context.Context) *waiting {
	w := &waiting{notes: c.notes, began: time.Now(), stop: make(chan struct{})}
	w.until, _ = ctx.Deadline()
	if w.notes != nil {
		w.ended.Go(w.run)
	}
	return w
}

// end is called once nobody waits any more.
func (w *waiting) end() {
	close(w.stop)
	w.ended.Wait()
}

func (w *waiting) asks(base string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = base
}

func (w *waiting) failed(base string, why error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault = fmt.Sprintf("%s: %v", base, why)
}

func (w *waiting) run() {
	next := waitingFailed
	for {
		select {
		case <-w.stop:
			return
		case <-time.After(time.Until(w.began.Add(next))):
		}
		w.mu.Lock()
		why := w.fault
		if why == "" && time.Since(w.began) >= waitingHung {
			why = w.asked + ": no answer yet"
		}
		w.mu.Unlock()
		switch {
		case why == "":
			next += waitingFailed
			continue
		case w.until.IsZero():
			printf(w.notes, "%s; trying on\n", why)
		default:
			printf(w.notes, "%s; trying for %s more (--timeout)\n", why, time.Until(w.until).Round(time.Second))
		}
		next += waitingAgain
	}
}
