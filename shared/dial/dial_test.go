package dial

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"machineid/internal/testkit/bubble"
)

// world is a system where each address answers in its own way.
type world struct {
	names map[string][]string
	// answers is how long an address takes to answer: below 0 it refuses after as long; what is not here never answers.
	answers map[string]time.Duration

	mu     sync.Mutex
	tried  []string
	closed int
}

type conn struct {
	net.Conn
	w  *world
	at string
}

func (c conn) Close() error {
	c.w.mu.Lock()
	defer c.w.mu.Unlock()
	c.w.closed++
	return nil
}

func (w *world) dialer() dialer {
	return dialer{
		lookUp: func(ctx context.Context, _, host string) (out []netip.Addr, err error) {
			list, ok := w.names[host]
			if !ok {
				<-ctx.Done() // a name server that does not answer
				return nil, ctx.Err()
			}
			for _, a := range list {
				out = append(out, netip.MustParseAddr(a))
			}
			return out, nil
		},
		connect: func(ctx context.Context, network, address string) (net.Conn, error) {
			w.mu.Lock()
			w.tried = append(w.tried, address)
			w.mu.Unlock()
			fail := func(err error) (net.Conn, error) { return nil, &net.OpError{Op: "dial", Net: network, Err: err} }
			d, ok := w.answers[address]
			if !ok {
				d = time.Hour
			}
			select {
			case <-time.After(max(d, -d)):
			case <-ctx.Done():
				return fail(ctx.Err())
			}
			if d < 0 {
				return fail(syscall.ECONNREFUSED)
			}
			return conn{w: w, at: address}, nil
		},
	}
}

// TestNoAddressTakesTheTimeOfTheOthers: whoever is there is reached, wherever in the list, and what failed is told in full.
func TestNoAddressTakesTheTimeOfTheOthers(t *testing.T) {
	const ms = time.Millisecond
	w := func(list ...string) map[string][]string { return map[string][]string{"n": list} }
	for name, tt := range map[string]struct {
		names   map[string][]string
		answers map[string]time.Duration
		limit   time.Duration
		want    string // the address, "" for none
		took    time.Duration
		tried   string
		says    string
	}{
		"the first of three answers":   {w("10.0.0.1", "10.0.0.2", "10.0.0.3"), map[string]time.Duration{"10.0.0.1:7": ms}, 0, "10.0.0.1:7", ms, "10.0.0.1:7", ""},
		"the last of three answers":    {w("10.0.0.1", "10.0.0.2", "10.0.0.3"), map[string]time.Duration{"10.0.0.3:7": ms}, 0, "10.0.0.3:7", 2*stagger + ms, "10.0.0.1:7 10.0.0.2:7 10.0.0.3:7", ""},
		"who refuses costs no wait":    {w("10.0.0.1", "10.0.0.2"), map[string]time.Duration{"10.0.0.1:7": -ms, "10.0.0.2:7": ms}, 0, "10.0.0.2:7", 2 * ms, "10.0.0.1:7 10.0.0.2:7", ""},
		"a slow one may still be it":   {w("10.0.0.1", "10.0.0.2"), map[string]time.Duration{"10.0.0.1:7": 600 * ms}, 0, "10.0.0.1:7", 600 * ms, "10.0.0.1:7 10.0.0.2:7", ""},
		"families in turn":             {w("::1", "::2", "10.0.0.1"), map[string]time.Duration{"10.0.0.1:7": ms}, 0, "10.0.0.1:7", stagger + ms, "[::1]:7 10.0.0.1:7", ""},
		"all refuse":                   {w("10.0.0.1", "10.0.0.2"), map[string]time.Duration{"10.0.0.1:7": -ms, "10.0.0.2:7": -ms}, 0, "", 2 * ms, "10.0.0.1:7 10.0.0.2:7", "refused"},
		"nobody answers":               {w("10.0.0.1", "10.0.0.2"), nil, 0, "", most, "10.0.0.1:7 10.0.0.2:7", "deadline"},
		"the one address is silent":    {w("10.0.0.1"), nil, 0, "", most, "10.0.0.1:7", "deadline"},
		"the name server is silent":    {nil, nil, 0, "", most, "", "look up n:7"},
		"the caller has less time":     {w("10.0.0.1", "10.0.0.2"), nil, 300 * ms, "", 300 * ms, "10.0.0.1:7 10.0.0.2:7", "deadline"},
		"the name stands for nothing":  {w(), nil, 0, "", 0, "", "no address"},
		"an IPv4 address in IPv6 form": {w("::ffff:10.0.0.1", "10.0.0.2"), map[string]time.Duration{"10.0.0.2:7": ms}, 0, "10.0.0.2:7", stagger + ms, "10.0.0.1:7 10.0.0.2:7", ""},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				w := &world{names: tt.names, answers: tt.answers}
				ctx := t.Context()
				if tt.limit > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.limit)
					defer cancel()
				}
				began := time.Now()
				c, err := w.dialer().dial(ctx, "tcp", "n:7")
				if took := time.Since(began); took != tt.took {
					t.Errorf("it took %s, want %s", took, tt.took)
				}
				if got, _ := c.(conn); got.at != tt.want {
					t.Errorf("connected to %q, want %q", got.at, tt.want)
				}
				if op, ok := errors.AsType[*net.OpError](err); err != nil && (!ok || op.Op != "dial") {
					t.Errorf("%T %v is no failure to dial", err, err)
				}
				if (err != nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.says) {
					t.Errorf("error %v, want %q", err, tt.says)
				}
				if timed, ok := errors.AsType[net.Error](err); ok && timed.Timeout() != (tt.says == "deadline") && tt.says != "look up n:7" {
					t.Errorf("%v is a time-out: %v", err, timed.Timeout())
				}
				synctest.Wait()
				w.mu.Lock()
				defer w.mu.Unlock()
				if got := strings.Join(w.tried, " "); got != tt.tried {
					t.Errorf("tried %q, want %q", got, tt.tried)
				}
			})
		})
	}
}

// TestWhatComesTooLateIsClosed: of those that are tried at the same time one is taken, and no other stays open.
func TestWhatComesTooLateIsClosed(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := &world{names: map[string][]string{"n": {"10.0.0.1", "10.0.0.2", "10.0.0.3"}}, answers: map[string]time.Duration{"10.0.0.3:7": time.Millisecond}}
		d := w.dialer()
		connect := d.connect
		late := make(chan struct{})
		d.connect = func(ctx context.Context, network, address string) (net.Conn, error) {
			if address != "10.0.0.3:7" {
				<-late // does not look at its context
				return conn{w: w, at: address}, nil
			}
			return connect(ctx, network, address)
		}
		if _, err := d.dial(t.Context(), "tcp", "n:7"); err != nil {
			t.Fatal(err)
		}
		close(late)
		synctest.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.closed != 2 {
			t.Errorf("%d connections were closed, want 2", w.closed)
		}
	})
}

// TestTCP is the system's: a real name, and an address.
func TestTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for _, address := range []string{l.Addr().String(), "localhost:" + port} {
		c, err := TCP(t.Context(), address)
		if err != nil {
			t.Errorf("%s: %v", address, err)
			continue
		}
		_ = c.Close()
	}
	for _, address := range []string{"no port", "[::1", "127.0.0.1:0"} {
		if _, err := Context(t.Context(), "tcp", address); err == nil {
			t.Errorf("%s is dialled", address)
		} else if op, ok := errors.AsType[*net.OpError](err); !ok || op.Op != "dial" {
			t.Errorf("%s: %T %v is no failure to dial", address, err, err)
		}
	}
	if !slices.IsSorted([]time.Duration{stagger, most}) {
		t.Error("no second address is reached")
	}
}
