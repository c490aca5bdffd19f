package machineid

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// Watch validates a device again and again until it is stopped. It is safe for concurrent use.
//
// An ALLOW counts for two intervals and one call's time, from when it was asked for: if the watch hangs, or the whole machine slept, it runs out
// by itself. (By the wall clock too, because Go's other clock stands still while Linux sleeps. A wall clock that is set forward denies until the next answer.)
type Watch struct {
	deviceID string
	goodFor  time.Duration
	stop     context.CancelFunc
	stopped  chan struct{}

	mu       sync.Mutex
	decision Decision
	asked    time.Time
	wall     time.Time // asked, by the wall clock alone
}

var (
	errStale   = errors.New("the last ALLOW is too old: the watch did not keep up")
	errStopped = errors.New("the watch was stopped")
)

// Watch asks once before it returns, and then every so often until ctx ends or Stop is called. onChange, unless nil, is called with the first decision and
// whenever allowed becomes denied or the other way; it is called in order, and holds the watch up while it runs.
func (c *Client) Watch(ctx context.Context, deviceID string, every time.Duration, onChange func(Decision)) *Watch {
	every = min(max(every, time.Millisecond), longest)
	ctx, cancel := context.WithCancel(given(ctx))
	over := Decision{Code: CodeSystemUnavailable, DeviceID: trim(deviceID), Err: errStopped}
	w := &Watch{deviceID: deviceID, goodFor: 2*every + c.timeout, stop: cancel, stopped: make(chan struct{}), decision: over}
	if onChange == nil {
		onChange = func(Decision) {}
	}
	ask := func() (d Decision, changed bool) {
		asked := time.Now()
		d = c.Validate(ctx, deviceID)
		if ctx.Err() != nil {
			return d, false
		}
		return d, w.note(d, asked)
	}
	begun := false
	defer func() {
		if !begun { // onChange has panicked
			cancel()
		}
	}()
	first, _ := ask()
	onChange(first)
	begun = true
	go func() {
		defer close(w.stopped)
		defer w.note(over, time.Now()) // however this ends
		defer cancel()
		for {
			timer := time.NewTimer(every - upTo(every/10)) // a fleet that was started together shall not ask together
			select {
			case <-ctx.Done():
				timer.Stop()
				return
			case <-timer.C:
			}
			if d, changed := ask(); changed {
				onChange(d)
			}
		}
	}()
	return w
}

func (w *Watch) note(d Decision, asked time.Time) (changed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	changed = d.Allowed != w.decision.Allowed
	w.decision, w.asked, w.wall = d, asked, asked.Round(0)
	return changed
}

// Decision is what holds now: an ALLOW that is too old is none.
func (w *Watch) Decision() Decision {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := time.Now(); w.decision.Allowed && max(now.Sub(w.asked), now.Round(0).Sub(w.wall)) > w.goodFor {
		return Decision{Code: CodeSystemUnavailable, DeviceID: w.decision.DeviceID, Err: errStale}
	}
	return w.decision
}

// Checkpoint returns *DeniedError unless the device may work now. It asks nobody: call it as often as you like.
func (w *Watch) Checkpoint() error {
	if d := w.Decision(); !d.Allowed {
		return &DeniedError{DeviceID: w.deviceID, Decision: d}
	}
	return nil
}

// Stop ends the watch, a question that is under way too, and waits for it. Afterwards nothing counts as allowed. Not to be called from onChange.
func (w *Watch) Stop() {
	w.stop()
	<-w.stopped
}

// Guard runs work if the device may work, and asks again every so often meanwhile (never if every is 0). A denial cancels the context of
// work; Guard then waits for work to return and returns *DeniedError, whatever work returned: what it made was made without permission. If ctx had
// ended before work began, that is a denial too. When work panics, or ends its goroutine, the watch ends with it, and the panic goes on.
func (c *Client) Guard(ctx context.Context, deviceID string, every time.Duration, work func(context.Context) error) error {
	ctx = given(ctx)
	if every <= 0 {
		if d := c.Validate(ctx, deviceID); !d.Allowed {
			return &DeniedError{DeviceID: deviceID, Decision: d}
		}
		return work(ctx)
	}
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var denied atomic.Pointer[DeniedError] // the first one
	w := c.Watch(ctx, deviceID, every, func(d Decision) {
		if !d.Allowed {
			denied.CompareAndSwap(nil, &DeniedError{DeviceID: deviceID, Decision: d})
			cancel(denied.Load())
		}
	})
	defer w.Stop() // also if work panics
	if first := denied.Load(); first != nil {
		return first
	}
	err := work(inner)
	late := w.Checkpoint()
	w.Stop()
	if first := denied.Load(); first != nil {
		return first
	}
	if late != nil && ctx.Err() == nil {
		return late
	}
	return err
}
