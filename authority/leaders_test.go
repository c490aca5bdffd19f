package authority

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valyala/fasthttp"

	"machineid/internal/testkit/bubble"
	"machineid/shared/wire"
)

// TestAnEarlierLeaderIsWaitedForWhileItAnswers: what waits for a leader goes on waiting when another leads, for as long as the earlier one answers at all, and no longer;
// where nobody else leads it waits for its whole time (I14).
func TestAnEarlierLeaderIsWaitedForWhileItAnswers(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var answers atomic.Bool
		answers.Store(true)
		k := leaders{
			over: make(chan struct{}), answers: func(context.Context, string) bool { return answers.Load() },
			dial: func(ctx context.Context, _ string) (net.Conn, error) { // hangs: it takes what it is sent
				if ctx.Err() != nil {
					return nil, &net.OpError{Op: "dial", Err: ctx.Err()}
				}
				near, far := net.Pipe()
				go func() {
					for b := make([]byte, 1024); ; {
						if _, err := far.Read(b); err != nil {
							_ = far.Close()
							return
						}
					}
				}()
				return near, nil
			},
		}
		ask := func(l *leader) <-chan error {
			failed := make(chan error, 1)
			go func() {
				req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
				req.SetRequestURI("http://a/")
				req.Header.SetMethod("POST")
				req.SetTimeout(time.Minute)
				failed <- l.hop.Do(req, resp)
			}()
			return failed
		}
		still := func(failed <-chan error, what string) {
			t.Helper()
			time.Sleep(2 * time.Second)
			select {
			case err := <-failed:
				t.Fatalf("%s: %v", what, err)
			default:
			}
		}
		first := k.set(&leader{id: "a1", term: 1, http: "a1:1"})
		failed := ask(first)
		still(failed, "nobody else leads")
		k.seen("a1", 1)
		k.seen("", 2)
		if k.known("a1", 1) != first {
			t.Error("it leads no more, though nobody else does")
		}
		still(failed, "it is heard of again, or nobody is")
		k.forget(first)
		if k.known("a1", 1) != nil {
			t.Error("it is not asked again")
		}
		if k.set(&leader{id: "a1", term: 1, http: "a1:1"}) != first {
			t.Error("its connections are not kept")
		}
		still(failed, "it says that it leads")
		k.seen("a2", 2)
		if k.known("a1", 1) != nil {
			t.Error("it is still taken for the leader")
		}
		still(failed, "it answers")
		answers.Store(false)
		began := time.Now()
		err := <-failed
		if took := time.Since(began); err == nil || took > 2*retireLook || wire.PassOutcome(err, false) != wire.OutcomeUnknown {
			t.Errorf("%v after %s, want unknown at once", err, took)
		}
		if err := <-ask(first); wire.PassOutcome(err, false) != wire.OutcomeNotDone {
			t.Errorf("it is sent something: %v", err)
		}

		second := k.set(&leader{id: "a2", term: 2, http: "a2:1"})
		failed = ask(second)
		synctest.Wait()
		third := k.set(&leader{id: "a2", term: 3, http: "a2:1"}) // met before it is seen
		if err := <-failed; err == nil || third == second {
			t.Errorf("a term that is over: %v", err)
		}
		answers.Store(true)
		failed = ask(third)
		synctest.Wait()
		k.seen("a3", 4)
		synctest.Wait()
		closed := make(chan struct{})
		go func() {
			k.close()
			close(closed)
		}()
		select {
		case <-closed:
		case <-time.After(time.Second):
			t.Error("it is waited for at the end")
			answers.Store(false)
			<-closed
		}
		if err := <-failed; err == nil {
			t.Error("closed, and it goes on")
		}
		if l := k.set(&leader{id: "a4", term: 5, http: "a4:1"}); <-ask(l) == nil {
			t.Error("it is closed, and connects")
		}
		time.Sleep(2 * time.Minute) // fasthttp looks after what is closed
	})
}

// TestAConnectionThatIsNotMadeIsGivenUp: a leader that nobody reaches any more costs a second for each attempt, and none once another leads.
func TestAConnectionThatIsNotMadeIsGivenUp(t *testing.T) {
	const dialTime = time.Second
	bubble.Test(t, func(t *testing.T) {
		dial := func(ctx context.Context, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, &net.OpError{Op: "dial", Err: ctx.Err()}
		}
		hop := newHop("a1:1", dial)
		ask := func() error {
			req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
			req.SetRequestURI("http://a/")
			req.SetTimeout(time.Minute)
			return hop.Do(req, resp)
		}
		began := time.Now()
		if err := ask(); wire.PassOutcome(err, false) != wire.OutcomeNotDone || time.Since(began) != dialTime {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		began = time.Now()
		time.AfterFunc(dialTime/4, hop.Break)
		if err := ask(); wire.PassOutcome(err, false) != wire.OutcomeNotDone || time.Since(began) != dialTime/4 {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		time.Sleep(2 * time.Minute)
	})
}
