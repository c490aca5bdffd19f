package machineid

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"machineid/internal/testkit/bubble"
)

const often = time.Millisecond

func TestWatchTellsEachChange(t *testing.T) {
	t.Parallel()
	yes, no := say(200, allow), say(200, deny)
	s := newScripted(t, yes, yes, no, no, thenClose(""), yes, no)
	var said []string
	w := s.client(t, -1, 0).Watch(t.Context(), "a", often, func(d Decision) { said = append(said, d.Code) })
	s.await(12)
	w.Stop()
	if want := []string{"ALLOW", "DEVICE_REVOKED", "ALLOW", "DEVICE_REVOKED"}; !slices.Equal(said, want) {
		t.Errorf("%v, want %v", said, want)
	}
	if _, ok := errors.AsType[*DeniedError](w.Checkpoint()); !ok {
		t.Error("a stopped watch allows")
	}
}

func TestStopDoesNotWaitForASlowServer(t *testing.T) {
	t.Parallel()
	s := newScripted(t, say(200, allow))
	s.replies = append(s.replies, s.hang)
	w := s.client(t, -1, time.Hour).Watch(t.Context(), "a", often, nil)
	if err := w.Checkpoint(); err != nil {
		t.Error(err)
	}
	s.await(2)
	w.Stop()
	if err := w.Checkpoint(); err == nil {
		t.Error("the last ALLOW counts after Stop")
	}
}

func TestAnOldAllowIsNone(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		w := &Watch{deviceID: "a", goodFor: time.Minute}
		if err := w.Checkpoint(); err == nil {
			t.Error("allowed before anything was asked")
		}
		w.note(Decision{Allowed: true, Code: CodeAllow}, time.Now())
		time.Sleep(time.Minute)
		if err := w.Checkpoint(); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Millisecond)
		if err := w.Checkpoint(); err == nil || !errors.Is(w.Decision().Err, errStale) {
			t.Errorf("an ALLOW of more than a minute ago counts: %v", err)
		}
		w.note(Decision{Allowed: true, Code: CodeAllow}, time.Now())
		w.wall = w.wall.Add(-2 * time.Minute) // the machine slept, and only the wall clock knows
		if err := w.Checkpoint(); err == nil {
			t.Error("an ALLOW from before the machine slept counts")
		}
	})
}

func TestGuard(t *testing.T) {
	t.Parallel()
	yes, no := say(200, allow), say(200, deny)
	never := func(context.Context) error { panic("the work began") }
	for _, answer := range []reply{no, thenClose(""), say(500, "")} {
		for _, every := range []time.Duration{0, time.Hour} {
			err := newScripted(t, answer).client(t, -1, 0).Guard(t.Context(), "a", every, never)
			if _, ok := errors.AsType[*DeniedError](err); !ok {
				t.Errorf("%v", err)
			}
		}
	}
	failed := errors.New("of the work")
	for _, every := range []time.Duration{0, time.Hour} {
		if err := newScripted(t, yes).client(t, -1, 0).Guard(t.Context(), "a", every, func(context.Context) error { return failed }); !errors.Is(err, failed) {
			t.Errorf("%v", err)
		}
	}
	err := newScripted(t, yes, yes, no, yes).client(t, -1, 0).Guard(t.Context(), "a", often, func(ctx context.Context) error {
		<-ctx.Done()
		return nil // pretends that nothing happened
	})
	if denied, ok := errors.AsType[*DeniedError](err); !ok || denied.Decision.Code != "DEVICE_REVOKED" {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	err = newScripted(t, yes).client(t, -1, 0).Guard(ctx, "a", time.Hour, func(ctx context.Context) error {
		cancel()
		<-ctx.Done()
		return ctx.Err()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
