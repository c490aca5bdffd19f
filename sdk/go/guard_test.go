package machineid

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"machineid/internal/testkit/bubble"
)

// inBubble runs f in virtual time with a client whose every request answer answers. That the bubble ends proves that no goroutine is left.
func inBubble(t *testing.T, config Config, answer reply, f func(ctx context.Context, c *Client)) {
	t.Helper()
	bubble.Test(t, func(t *testing.T) {
		config.OrgKey, config.BaseURL, config.Retries = testKey, "http://edge", -1
		c, err := New(config)
		if err != nil {
			t.Fatal(err)
		}
		c.transport.DialContext = func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			go func() {
				defer func() { _ = theirs.Close() }()
				for r := bufio.NewReader(theirs); ; {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					body, _ := io.ReadAll(req.Body)
					if !answer(theirs, seen{Request: req, body: string(body)}) {
						return
					}
				}
			}()
			return ours, nil
		}
		defer c.Close()
		f(t.Context(), c)
	})
}

// TestGuardEndsItsWatch however work ends: with a panic, with its goroutine, after a denial.
func TestGuardEndsItsWatch(t *testing.T) {
	t.Parallel()
	for _, every := range []time.Duration{0, time.Second} {
		for name, end := range map[string]func(){
			"returns": func() {}, "panics": func() { panic("of the work") }, "ends its goroutine": runtime.Goexit,
		} {
			asked := 0
			allows := func(w io.Writer, req seen) bool {
				asked++
				return say(200, allow)(w, req)
			}
			inBubble(t, Config{}, allows, func(ctx context.Context, c *Client) {
				ended, caught := make(chan struct{}), any(nil)
				outer, cancel := context.WithCancel(ctx)
				defer cancel()            // not before it was seen that nobody asks any more
				var inner context.Context // what work has begun holds it
				go func() {
					defer close(ended)
					defer func() { caught = recover() }()
					_ = c.Guard(outer, "a", every, func(ctx context.Context) error {
						inner = ctx
						time.Sleep(5 * time.Second)
						end()
						return nil
					})
				}()
				<-ended
				if (caught != nil) != (name == "panics") {
					t.Errorf("%s, every %v: recovered %v", name, every, caught)
				}
				if every > 0 && inner.Err() == nil {
					t.Errorf("%s: the context of what work has begun goes on", name)
				}
				before := asked
				if time.Sleep(10 * time.Second); asked != before || every > 0 && asked < 5 {
					t.Errorf("%s, every %v: asked %d times, and then %d more", name, every, before, asked-before)
				}
			})
		}
	}
	n := 0
	denies := func(w io.Writer, req seen) bool {
		if n++; n > 2 {
			return say(200, deny)(w, req)
		}
		return say(200, allow)(w, req)
	}
	inBubble(t, Config{}, denies, func(ctx context.Context, c *Client) {
		defer func() {
			if recover() == nil {
				t.Error("the panic of work that was denied is lost")
			}
		}()
		_ = c.Guard(ctx, "a", time.Second, func(ctx context.Context) error {
			<-ctx.Done()
			panic(context.Cause(ctx))
		})
	})
}

// TestWatchEndsWithItsCallback: one that panics on the first decision leaves nothing behind, and one that ends the watch's goroutine no permission.
func TestWatchEndsWithItsCallback(t *testing.T) {
	t.Parallel()
	inBubble(t, Config{}, say(200, allow), func(ctx context.Context, c *Client) {
		defer func() {
			if recover() == nil {
				t.Error("the panic is lost")
			}
		}()
		c.Watch(ctx, "a", time.Second, func(Decision) { panic("of the callback") })
	})
	n := 0
	flips := func(w io.Writer, req seen) bool {
		n++
		return say(200, map[bool]Object{true: allow, false: deny}[n != 2])(w, req)
	}
	inBubble(t, Config{}, flips, func(ctx context.Context, c *Client) {
		w := c.Watch(ctx, "a", time.Second, func(d Decision) {
			if n == 3 && d.Allowed {
				runtime.Goexit()
			}
		})
		<-w.stopped
		if w.Checkpoint() == nil {
			t.Error("a watch that has ended allows")
		}
		w.Stop()
	})
}

// TestContextsThatAreNone or have ended already: nothing panics, and nothing is allowed by them.
func TestContextsThatAreNone(t *testing.T) {
	t.Parallel()
	var none context.Context
	inBubble(t, Config{}, say(200, allow), func(ctx context.Context, c *Client) {
		if d := c.Validate(none, "a"); !d.Allowed { // counts as one that does not end
			t.Errorf("%+v", d)
		}
		if _, err := c.Revoke(WithIdempotencyKey(none, "k"), "a"); err == nil {
			t.Error("validate's answer passes for a revoke's")
		}
		ran := false
		if err := c.Guard(none, "a", time.Second, func(ctx context.Context) error { ran = ctx.Err() == nil; return nil }); err != nil || !ran {
			t.Error(err)
		}
		w := c.Watch(none, "a", time.Second, nil)
		w.Stop()

		over, cancel := context.WithCancel(ctx)
		cancel()
		for _, every := range []time.Duration{0, time.Second} {
			err := c.Guard(over, "a", every, func(context.Context) error { panic("the work began") })
			if _, ok := errors.AsType[*DeniedError](err); !ok || !errors.Is(err, context.Canceled) {
				t.Errorf("%v", err)
			}
		}
		late, cancel := context.WithDeadline(ctx, time.Now().Add(-time.Second))
		defer cancel()
		if d := c.Validate(late, "a"); d.Allowed || !errors.Is(d.Err, context.DeadlineExceeded) {
			t.Errorf("%+v", d)
		}
		why := errors.New("why")
		told, tell := context.WithCancelCause(ctx)
		tell(why)
		if d := c.Validate(told, "a"); d.Allowed || !errors.Is(d.Err, context.Canceled) || !errors.Is(d.Err, why) {
			t.Errorf("%+v", d)
		}
	})
	var zero Client
	zero.Close()
	if d := zero.Validate(t.Context(), "a"); d.Allowed || d.Err == nil {
		t.Errorf("a client that nobody made: %+v", d)
	}
	if _, err := zero.Usage(t.Context()); err == nil {
		t.Error("a client that nobody made has a usage")
	}
}

// TestTimesBeyondMeasure are long times, not short ones.
func TestTimesBeyondMeasure(t *testing.T) {
	t.Parallel()
	for _, timeout := range []time.Duration{0, math.MaxInt64} {
		inBubble(t, Config{Timeout: timeout}, say(200, allow), func(ctx context.Context, c *Client) {
			err := c.Guard(ctx, "a", math.MaxInt64, func(ctx context.Context) error {
				time.Sleep(24 * time.Hour)
				return ctx.Err()
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	for said, want := range map[string]time.Duration{
		"1": time.Second, "0": 0, "": 0, "-1": 0, "+1": 0, "1.5": 0, "x": 0, "Tue, 01 Dec 2026 00:00:00 GMT": 0,
		"1048576": 1048576 * time.Second, "99999999999": mostRetryAfter, "18446744073709551616": mostRetryAfter, "9223372036854775808": mostRetryAfter,
	} {
		if got := retryAfter(http.Header{"Retry-After": {said}}); got != want {
			t.Errorf("Retry-After: %s counts as %v, want %v", said, got, want)
		}
	}
	asked := 0
	later := func(w io.Writer, req seen) bool {
		asked++
		return say(429, failure("rate_limited", nil), "Retry-After: "+strings.Repeat("9", 30))(w, req)
	}
	inBubble(t, Config{}, later, func(ctx context.Context, c *Client) {
		c.retries = 5
		_, err := c.Revoke(ctx, "a")
		if e, ok := errors.AsType[*Error](err); !ok || e.Code != "rate_limited" || e.RetryAfter != mostRetryAfter || asked != 1 {
			t.Errorf("%v after %d requests", err, asked)
		}
	})
}

// TestGuardOfAWatchThatDoesNotKeepUp: what work made counts only if an ALLOW was in force when it ended, also where nobody has said no: the question hangs, beyond
// all bounds, and work does not ask.
func TestGuardOfAWatchThatDoesNotKeepUp(t *testing.T) {
	t.Parallel()
	failed := errors.New("of the work")
	for _, c := range []struct {
		works  time.Duration
		result error
		late   bool
	}{{6 * time.Second, nil, false}, {6 * time.Second, failed, false}, {8 * time.Second, nil, true}, {8 * time.Second, failed, true}, {time.Hour, nil, true}} {
		var (
			client *Client
			over   chan struct{}
			n      int
		)
		hangs := func(w io.Writer, req seen) bool {
			if n++; n == 1 {
				client.timeout = 100 * time.Hour // of the next question: as if its watch hung
				return say(200, allow)(w, req)
			}
			<-over
			return false
		}
		inBubble(t, Config{Timeout: 5 * time.Second}, hangs, func(ctx context.Context, made *Client) {
			over = make(chan struct{}) // of the bubble: what waits for it does not hold its time up
			defer close(over)
			client = made
			err := client.Guard(ctx, "a", time.Second, func(context.Context) error { // its ALLOW counts for 7 s
				time.Sleep(c.works)
				return c.result
			})
			if denied, ok := errors.AsType[*DeniedError](err); ok != c.late || ok && !errors.Is(denied.Decision.Err, errStale) || !ok && !errors.Is(err, c.result) {
				t.Errorf("after %v of work that returns %v: %v", c.works, c.result, err)
			}
		})
	}
}
