package listener

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"machineid/internal/testkit/bubble"
)

// fake is a listener that does what the test says.
type fake struct {
	accept chan any // a net.Conn or an error
	closed chan struct{}
	calls  []time.Time
}

func newFake() *fake { return &fake{accept: make(chan any, 1000), closed: make(chan struct{})} }

func (f *fake) Accept() (net.Conn, error) {
	f.calls = append(f.calls, time.Now())
	select {
	case <-f.closed:
		return nil, net.ErrClosed
	default:
	}
	select {
	case <-f.closed:
		return nil, net.ErrClosed
	case v := <-f.accept:
		if err, ok := v.(error); ok {
			return nil, err
		}
		c, _ := v.(net.Conn)
		return c, nil
	}
}

func (f *fake) Close() error   { close(f.closed); return nil }
func (f *fake) Addr() net.Addr { return &net.TCPAddr{} }

// value is what a counter or a gauge tells.
func value(m prometheus.Metric) float64 {
	var out dto.Metric
	if err := m.Write(&out); err != nil {
		panic(err)
	}
	return out.GetCounter().GetValue() + out.GetGauge().GetValue()
}

// peer is a connection from an address.
type peer struct {
	net.Conn

	from   string
	closed int
}

func (p *peer) Close() error { p.closed++; return nil }

func (p *peer) RemoteAddr() net.Addr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(p.from), 1))
}

// opError is how the net package wraps what accept(2) says.
func opError(errno syscall.Errno) error {
	return &net.OpError{Op: "accept", Net: "tcp", Err: errno}
}

// TestNoErrorOfAcceptEndsAListener (I14): it pauses, 5 ms doubling to a second, and goes on; only a closed listener ends it. The pauses begin
// anew after a connection.
func TestNoErrorOfAcceptEndsAListener(t *testing.T) {
	for _, err := range []error{
		opError(syscall.EMFILE), opError(syscall.ENFILE), opError(syscall.ENOBUFS), opError(syscall.ENOMEM), opError(syscall.ECONNABORTED),
		opError(syscall.EPERM), errors.New("whatever"),
	} {
		bubble.Test(t, func(t *testing.T) {
			f, reg, out := newFake(), prometheus.NewRegistry(), &bytes.Buffer{}
			l := New(f, Options{Name: "http", Metrics: NewMetrics(reg), Log: slog.New(slog.NewTextHandler(out, nil))})
			if why := l.Reasons(); why != nil {
				t.Errorf("ready at first: %v", why)
			}
			for range 2 {
				f.calls = nil
				for range 12 {
					f.accept <- err
				}
				f.accept <- &peer{from: "192.0.2.1"}
				c, got := l.Accept()
				if got != nil {
					t.Fatalf("%v ended it: %v", err, got)
				}
				_ = c.Close()
				var pauses []time.Duration
				for i := range f.calls[1:] {
					pauses = append(pauses, f.calls[i+1].Sub(f.calls[i]))
				}
				want := []time.Duration{
					5 * time.Millisecond, 10 * time.Millisecond, 20 * time.Millisecond, 40 * time.Millisecond, 80 * time.Millisecond, 160 * time.Millisecond,
					320 * time.Millisecond, 640 * time.Millisecond, time.Second, time.Second, time.Second, time.Second,
				}
				if !slices.Equal(pauses, want) {
					t.Errorf("pauses %v", pauses)
				}
			}
			if n := value(l.counts.errors); n != 24 {
				t.Errorf("%v errors counted", n)
			}
			if why := l.Reasons(); len(why) != 1 || !strings.HasPrefix(why[0], "http: ") {
				t.Errorf("reasons: %v", why)
			}
			if n := strings.Count(out.String(), "\n"); n != 1 {
				t.Errorf("%d lines of log within a minute", n)
			}
			time.Sleep(tellEvery)
			if why := l.Reasons(); why != nil {
				t.Errorf("a minute later: %v", why)
			}
			f.accept <- err
			f.accept <- &peer{from: "192.0.2.1"}
			if _, err := l.Accept(); err != nil {
				t.Error(err)
			}
			if n := strings.Count(out.String(), "\n"); n != 2 {
				t.Errorf("%d lines of log after a minute", n)
			}
		})
	}
}

// TestACloseEndsAPause at once.
func TestACloseEndsAPause(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := newFake()
		l := New(f, Options{})
		for range 20 {
			f.accept <- opError(syscall.EMFILE)
		}
		ended := make(chan error)
		go func() {
			_, err := l.Accept()
			ended <- err
		}()
		time.Sleep(3*time.Second + time.Millisecond)
		closed := time.Now()
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, net.ErrClosed) && !errors.Is(err, syscall.EMFILE) || time.Since(closed) != 0 {
			t.Errorf("%v after %v", err, time.Since(closed))
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}

// from has one connection of an address come, and says what became of it.
func from(l *Listener, addr string) (what string, c net.Conn) {
	p := &peer{from: addr}
	switch c = l.admit(p); {
	case c == nil && p.closed == 1:
		return "closed", nil
	case c == nil:
		return "lost", nil
	}
	if m, ok := c.(interface{ Surplus() bool }); ok && m.Surplus() {
		return "surplus", c
	}
	return "in", c
}

// TestBounds: in all, by address (IPv6 by /64, exempt ones not), a surplus that is marked, and none of it lost when connections end.
func TestBounds(t *testing.T) {
	l := New(newFake(), Options{
		Name: "http", Max: 6, MaxAddress: 2, Surplus: 1, Metrics: NewMetrics(prometheus.NewRegistry()), Exempt: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")},
	})
	var open []net.Conn
	for i, c := range []struct{ addr, want string }{
		{"192.0.2.1", "in"},
		{"::ffff:192.0.2.1", "in"},
		{"192.0.2.1", "surplus"},
		{"192.0.2.1", "closed"},
		{"2001:db8::1", "in"},
		{"2001:db8::2", "in"},
		{"2001:db8:0:0:9::", "surplus"},
		{"2001:db8:0:1::", "surplus"}, // the last: six are open
		{"198.51.100.7", "closed"},
	} {
		what, conn := from(l, c.addr)
		if what != c.want {
			t.Fatalf("%d, %s: %s, want %s", i, c.addr, what, c.want)
		}
		if conn != nil {
			open = append(open, conn)
		}
	}
	if why := l.Reasons(); len(why) != 1 {
		t.Errorf("%v", why)
	}
	if n := value(l.counts.open); n != 7 {
		t.Errorf("%v are open", n)
	}
	for _, c := range open {
		_ = c.Close()
		_ = c.Close() // twice is once
	}
	if l.open != 0 || len(l.by) != 0 || value(l.counts.open) != 0 {
		t.Errorf("%d open, %v", l.open, l.by)
	}
	for range 6 { // a proxy's clients are not counted by address
		if what, _ := from(l, "198.51.100.7"); what != "in" {
			t.Errorf("a proxy's: %s", what)
		}
	}
	if full, address := value(l.counts.full), value(l.counts.address); full != 2 || address != 3 {
		t.Errorf("%v and %v were refused", full, address)
	}
}

// TestASiteIsBounded: whoever has a /48 has 65,536 of what a host has, and shuts nobody out with them.
func TestASiteIsBounded(t *testing.T) {
	for _, c := range []struct{ most, address, want int }{{20, 10, 10}, {100, 1, 8}, {100, 10, 50}, {0, 3, 24}, {10, 10, 10}} {
		l := New(newFake(), Options{Max: c.most, MaxAddress: c.address, Metrics: NewMetrics(prometheus.NewRegistry())})
		var open []net.Conn
		in := 0
		for i := range 200 {
			if what, conn := from(l, fmt.Sprintf("2001:db8:0:%x::%d", i, i)); what == "in" {
				in++
				open = append(open, conn)
			}
		}
		if in != c.want {
			t.Errorf("%d connections, %d of an address: a site has %d, want %d", c.most, c.address, in, c.want)
		}
		if what, conn := from(l, "2001:db8:1::"); c.most > c.want && what != "in" {
			t.Errorf("%d connections, %d of an address: another site is %s", c.most, c.address, what)
		} else if conn != nil {
			open = append(open, conn)
		}
		for _, conn := range open {
			_ = conn.Close()
		}
		if len(l.by) != 0 {
			t.Errorf("%v", l.by)
		}
	}
}

func TestShare(t *testing.T) {
	for _, c := range []struct{ n, of, in, least, most, want int }{
		{1024, 1, 8, 8, 4096, 128}, {64, 1, 16, 8, 100, 8}, {1 << 20, 1, 2, 8, 100, 100}, {10, 3, 4, 0, 100, 7},
	} {
		if got := Share(c.n, c.of, c.in, c.least, c.most); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
	if Descriptors() < 64 {
		t.Errorf("%d descriptors", Descriptors())
	}
}
