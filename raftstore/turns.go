package raftstore

import (
	"context"
	"sync"
)

// turns runs one action for those who wait for it. A caller waits for a turn that begins after its call, never for one under
// way: what that one learnt may be older than the call. Callers that wait together share a turn, and one turn runs at a time.
type turns[T any] struct {
	do    func() (T, error)
	knobs knobs

	mu      sync.Mutex
	next    *turn[T]
	current *turn[T] // under way
	running bool
	closed  bool
	wg      sync.WaitGroup
}

// turn is one run of the action: done is closed when value and err are set.
type turn[T any] struct {
	done  chan struct{}
	value T
	err   error
}

// wait joins the next turn and waits for it.
func (t *turns[T]) wait(ctx context.Context) (T, error) {
	var none T
	next, err := t.join()
	if err != nil {
		return none, err
	}
	return next.wait(ctx)
}

func (t *turn[T]) wait(ctx context.Context) (T, error) {
	select {
	case <-t.done:
		return t.value, t.err
	case <-ctx.Done():
		var none T
		return none, context.Cause(ctx)
	}
}

// join returns the next turn, which begins after the call.
func (t *turns[T]) join() (*turn[T], error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, ErrClosed
	}
	if t.knobs.joinOldTurn && t.current != nil {
		return t.current, nil
	}
	if t.next == nil {
		t.next = &turn[T]{done: make(chan struct{})}
	}
	if !t.running {
		t.running = true
		t.wg.Go(t.run)
	}
	return t.next, nil
}

func (t *turns[T]) run() {
	for {
		t.mu.Lock()
		now := t.next
		t.next, t.current = nil, now
		if now == nil {
			t.running = false
			t.mu.Unlock()
			return
		}
		t.mu.Unlock()
		now.value, now.err = t.do()
		close(now.done)
	}
}

// close refuses new callers and waits for the turns that others wait for.
func (t *turns[T]) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.wg.Wait()
}
