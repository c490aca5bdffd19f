package load

import (
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// clocked is a target that knows how long it took for each answer, by its own clock: what the generator says can be held against it,
// request by request, on any machine.
type clocked struct {
	delay func(n int) time.Duration // before answer n

	mu    sync.Mutex
	asked int
	took  []time.Duration
}

func (c *clocked) serve(tb testing.TB) *Target {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go c.answer(conn)
		}
	}()
	t, err := ParseTarget("http://" + l.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	return t
}

func (c *clocked) answer(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	const answer = "HTTP/1.1 200 OK\r\nContent-Length: 31\r\n\r\n" + `{"allowed":true,"code":"ALLOW"}`
	buf := make([]byte, 4096)
	for {
		if _, err := conn.Read(buf); err != nil { // a request is written at once, and is read at once here
			return
		}
		began := time.Now()
		c.mu.Lock()
		n := c.asked
		c.asked++
		c.mu.Unlock()
		time.Sleep(c.delay(n))
		c.mu.Lock()
		c.took = append(c.took, time.Since(began))
		c.mu.Unlock()
		if _, err := conn.Write([]byte(answer)); err != nil {
			return
		}
	}
}

// times are what the target took, in order.
func (c *clocked) times() []time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(slices.Values(c.took))
}

// ordered are the latencies of a histogram in order, each as high as the histogram cannot tell it from.
func ordered(t *tally) (all []time.Duration) {
	for _, bar := range t.hist.Distribution() {
		for range bar.Count {
			all = append(all, time.Duration(bar.To))
		}
	}
	return all
}

// TestHistogramAgainstTheServersClock holds the whole histogram against the delays of a server: of any number of its fastest answers,
// none is said to have been faster than it was (a latency begins before the server's time does and ends after it). That this is tight is
// held of the best of some tries, for this machine may be busy.
func TestHistogramAgainstTheServersClock(t *testing.T) {
	t.Parallel()
	const tries, requests = 5, 800
	delays := make([]time.Duration, requests)
	for i := range delays { // known shares, in some order
		switch {
		case i < requests*60/100:
			delays[i] = 2 * time.Millisecond
		case i < requests*90/100:
			delays[i] = 10 * time.Millisecond
		case i < requests*99/100:
			delays[i] = 40 * time.Millisecond
		default:
			delays[i] = 150 * time.Millisecond
		}
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(requests, func(i, j int) { delays[i], delays[j] = delays[j], delays[i] })
	best := time.Hour
	for range tries {
		server := &clocked{delay: func(n int) time.Duration { return delays[n%requests] }}
		_, tally := generateTally(t, &Config{
			Targets: []*Target{server.serve(t)}, Rate: Rate{requests / 2, requests / 2}, Duration: 2 * time.Second, Timeout: 10 * time.Second, Connections: 64,
		})
		theirs, ours := server.times(), ordered(tally)
		if unsent := int(tally.codes[codeNotSent]); len(ours) != requests || len(theirs)+unsent != requests {
			t.Fatalf("%d requests in the histogram, %d at the server, %d never sent, want %d", len(ours), len(theirs), unsent, requests)
		} else if unsent > 0 {
			continue // too busy a moment: those had waited for a second and more
		}
		var excess time.Duration
		for i := range ours {
			if ours[i] < theirs[i] {
				t.Fatalf("answer %d of %d by its time: the histogram says %v, the server took %v", i, requests, ours[i], theirs[i])
			}
			excess += ours[i] - theirs[i]
		}
		excess /= requests
		t.Logf("p50 %v (the server: %v), p99 %v (%v), the mean is %v above the server's", ours[requests/2], theirs[requests/2], ours[requests*99/100], theirs[requests*99/100], excess)
		if best = min(best, excess); best < 2*time.Millisecond {
			return
		}
	}
	if best > 100*time.Millisecond {
		t.Errorf("in none of %d tries was the mean less than %v above the server's", tries, best)
	}
}

// TestStallIsChargedByDueTime proves that a stall shows at its full length and shape: of what comes due in a second in which nobody is
// answered, what is due after x of it has waited for the rest of it at the least. So there are at least rate·(1s-t) latencies of t, for
// every t. A busy machine makes them more, never less.
func TestStallIsChargedByDueTime(t *testing.T) {
	t.Parallel()
	const rate = 1000
	var mu sync.Mutex
	var once sync.Once
	var began time.Time
	server := &clocked{}
	server.delay = func(n int) time.Duration {
		mu.Lock()
		defer mu.Unlock()
		if n == 300 {
			once.Do(func() { began = time.Now() })
		}
		if n < 300 {
			return 0
		}
		return max(0, stall-time.Since(began)) // all that come in the second are answered at its end
	}
	_, tally := generateTally(t, &Config{
		Targets: []*Target{server.serve(t)}, Rate: Rate{rate, rate}, Duration: 2 * time.Second, Timeout: 10 * time.Second, Connections: 8,
	})
	ours := ordered(tally)
	if len(ours) != 2*rate {
		t.Fatalf("%d requests in the histogram, want %d", len(ours), 2*rate)
	}
	for tenths := 1; tenths < 10; tenths++ {
		least := time.Duration(tenths) * stall / 10
		n := 0
		for _, l := range ours {
			if l >= least {
				n++
			}
		}
		if want := rate*(10-tenths)/10 - 2; n < want { // the stall begins between two requests
			t.Errorf("%d requests took %v or more, at least %d came due while that was left of the stall", n, least, want)
		}
	}
	if longest := ours[len(ours)-1]; longest < stall {
		t.Errorf("the longest took %v, the stall %v", longest, stall)
	}
}

// TestEnough proves that a world whose registering was ended has the devices that are registered, and none that is not.
func TestEnough(t *testing.T) {
	t.Parallel()
	for _, enough := range []time.Duration{time.Nanosecond, 5 * time.Millisecond, time.Hour} {
		f := newFake(t)
		f.limit = 1_000_000
		cfg := config(t, "register", f.serve(1)) // which asks about nothing beforehand
		cfg.Devices, cfg.Enough = 3000, enough
		w, err := Prepare(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		n := len(w.Devices)
		t.Logf("%d devices within %v", n, enough)
		if (enough == time.Nanosecond && n != 0) || (enough == time.Hour && n != cfg.Devices) {
			t.Errorf("%d devices of %d within %v", n, cfg.Devices, enough)
		}
		f.mu.Lock()
		for i := range w.Devices {
			if d := &w.Devices[i]; f.devices[d.org.ID+"/"+string(d.id)] == nil {
				t.Errorf("device %d of %d is not registered", i, n)
			}
		}
		f.mu.Unlock()
		if held, err := w.Warm(t.Context(), time.Nanosecond); held != 0 || err != nil {
			t.Errorf("%d devices were asked about in no time: %v", held, err)
		}
		if held, err := w.Warm(t.Context(), 0); held != n || err != nil {
			t.Errorf("%d of %d devices were asked about: %v", held, n, err)
		}
	}
}
