package wire

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"machineid/internal/testkit/bubble"
)

// brittle is a connection that takes only a part of what is written.
type brittle struct{ net.Conn }

func (b brittle) Write(p []byte) (int, error) { return len(p) / 2, errors.New("reset") }

// ask sends a change over a hop whose connections dial makes.
func ask(dial func(ctx context.Context) (net.Conn, error), during func(*Hop)) error {
	h := NewHop("a", HopOptions{Dial: func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx) }, MaxConns: 1, Answer: time.Minute})
	defer h.Break()
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	req.SetRequestURI("http://a/")
	req.Header.SetMethod(fasthttp.MethodPost)
	during(h)
	return h.Do(req, resp)
}

// TestWhatHasNotLeftWasNotDone: what could not be written whole nobody can have carried out, so it may be sent again, and is not told of as unknown.
func TestWhatHasNotLeftWasNotDone(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer func() { _ = far.Close() }()
		err := ask(func(context.Context) (net.Conn, error) { return brittle{near}, nil }, func(*Hop) {})
		if !Unsent(err) || PassOutcome(err, false) != OutcomeNotDone || !Again(err, false) {
			t.Errorf("%v is told of as %s", err, PassOutcome(err, false))
		}
		time.Sleep(time.Minute) // for what fasthttp cleans up
	})
}

// TestABrokenHopAsksNobody: Break ends what is under way, also what is being connected, and what is asked after it.
func TestABrokenHopAsksNobody(t *testing.T) {
	hangs := func(ctx context.Context) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	for name, c := range map[string]struct {
		dial    func(context.Context) (net.Conn, error)
		breaks  time.Duration
		outcome string
	}{
		"being connected": {hangs, hopDial / 2, OutcomeNotDone},
		"asked after it":  {hangs, 0, OutcomeNotDone},
		"under way":       {nil, hopDial / 2, OutcomeUnknown},
	} {
		bubble.Test(t, func(t *testing.T) {
			near, far := net.Pipe()
			defer func() { _ = far.Close() }()
			go func() { // reads, and answers nothing
				for b := make([]byte, 1<<10); ; {
					if _, err := far.Read(b); err != nil {
						return
					}
				}
			}()
			if c.dial == nil {
				c.dial = func(context.Context) (net.Conn, error) { return near, nil }
			}
			began := time.Now()
			err := ask(c.dial, func(h *Hop) {
				if c.breaks == 0 {
					h.Break()
				} else {
					time.AfterFunc(c.breaks, h.Break)
				}
			})
			if err == nil || PassOutcome(err, false) != c.outcome || time.Since(began) != c.breaks {
				t.Errorf("%s: %v after %v", name, err, time.Since(began))
			}
			time.Sleep(time.Minute) // for what fasthttp cleans up
		})
	}
}
