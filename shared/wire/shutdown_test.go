package wire

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/valyala/fasthttp/fasthttputil"

	"machineid/internal/testkit/bubble"
)

// TestAStopLeavesNobodyInDoubt: callers that keep their connections, and end them where they are told to, get an answer to all that they send while a server
// stops. One that finds nobody has sent nothing.
func TestAStopLeavesNobodyInDoubt(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		bubble.Test(t, func(t *testing.T) {
			ln := fasthttputil.NewInmemoryListener()
			srv := NewServer(echo, Options{NoDate: true})
			served := make(chan error, 1)
			go func() { served <- srv.Serve(ln) }()
			var callers sync.WaitGroup
			var mu sync.Mutex
			answers, last := 0, 0
			for i := range 16 {
				rng := rand.New(rand.NewPCG(seed, uint64(i)))
				callers.Go(func() {
					for {
						conn, err := ln.Dial()
						if err != nil {
							return // it is gone, and knows so
						}
						r := bufio.NewReader(conn)
						for goesOn := true; goesOn; {
							time.Sleep(time.Duration(rng.IntN(20_000)) * time.Microsecond)
							if _, err := io.WriteString(conn, post(validatePath, fmt.Sprintf(`{"deviceId":"d%d"}`, i))); err != nil {
								t.Errorf("seed %d, caller %d: a request met a connection that had ended: %v", seed, i, err)
								return
							}
							resp, err := http.ReadResponse(r, nil)
							if err != nil {
								t.Errorf("seed %d, caller %d: no answer: %v", seed, i, err)
								return
							}
							_, _ = io.Copy(io.Discard, resp.Body)
							_ = resp.Body.Close()
							goesOn = !resp.Close
							mu.Lock()
							answers++
							if resp.Close {
								last++
							}
							mu.Unlock()
						}
						_ = conn.Close()
					}
				})
			}
			time.Sleep(time.Duration(100+seed) * time.Millisecond)
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := srv.ShutdownWithContext(ctx); err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > 2*lameTime {
				t.Errorf("the stop took %v", took)
			}
			callers.Wait()
			_ = ln.Close()
			if err := <-served; err != nil {
				t.Error(err)
			}
			if answers < 16 || last < 16 {
				t.Errorf("%d answers, %d of them the last of a connection", answers, last)
			}
			time.Sleep(time.Minute) // what fasthttp leaves running ends
		})
	}
}

// TestAStopWithoutCallers does not wait.
func TestAStopWithoutCallers(t *testing.T) {
	t.Parallel()
	bubble.Test(t, func(t *testing.T) {
		ln := fasthttputil.NewInmemoryListener()
		srv := NewServer(echo, Options{NoDate: true})
		served := make(chan error, 1)
		go func() { served <- srv.Serve(ln) }()
		synctest.Wait()
		began := time.Now()
		if err := srv.Shutdown(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took >= lameTime { // fasthttp looks ten times a second
			t.Errorf("it took %v", took)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		time.Sleep(time.Minute)
	})
}
