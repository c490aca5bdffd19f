package wire

import (
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"machineid/internal/testkit/bubble"
)

// counting is a connection whose deadlines are counted.
type counting struct {
	net.Conn
	sets int
}

func (c *counting) SetReadDeadline(t time.Time) error {
	c.sets++
	return c.Conn.SetReadDeadline(t)
}

// timed returns a served connection whose other end is peer's, and what ends both.
func timed(o Options, peer func(far net.Conn)) (c *conn, inner *counting, end func()) {
	near, far := net.Pipe()
	inner = &counting{Conn: near}
	l := newListener(nil, o.withDefaults(), new(atomic.Bool))
	var others sync.WaitGroup
	others.Go(l.tick)
	others.Go(func() { peer(far) })
	return newConn(inner, l), inner, func() {
		close(l.done)
		_ = near.Close()
		_ = far.Close()
		others.Wait()
	}
}

func TestDeadlinesMoveOnlyNowAndThen(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		c, inner, end := timed(Options{}, func(far net.Conn) {
			for range 100 {
				time.Sleep(30 * time.Millisecond)
				_, _ = far.Write([]byte("x"))
				_, _ = far.Read(make([]byte, 1))
			}
		})
		defer end()
		for range 100 {
			if _, err := c.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			c.active()
			c.begin()
			if _, err := c.Write([]byte("y")); err != nil {
				t.Fatal(err)
			}
		}
		if inner.sets < 2 || inner.sets > 4 {
			t.Errorf("%d deadlines in 3 s, want about one a second", inner.sets)
		}
	})
}

// TestARequestMustArriveInTime: a byte now and then does not keep a request alive, however short or long its time-out.
func TestARequestMustArriveInTime(t *testing.T) {
	for _, d := range []time.Duration{20 * time.Millisecond, 300 * time.Millisecond, 10 * time.Second} {
		bubble.Test(t, func(t *testing.T) {
			c, _, end := timed(Options{ReadTimeout: d}, func(far net.Conn) {
				for {
					if _, err := far.Write([]byte("x")); err != nil {
						return
					}
					time.Sleep(d / 5)
				}
			})
			defer end()
			began := time.Now()
			for {
				if _, err := c.Read(make([]byte, 1)); err != nil {
					break
				}
			}
			if took := time.Since(began); took < d || took > d*3/2 {
				t.Errorf("ended after %v, want %v", took, d)
			}
		})
	}
}

// TestAnIdleConnectionEnds, and one that is in use lives on, however short the time-out.
func TestAnIdleConnectionEnds(t *testing.T) {
	for _, d := range []time.Duration{20 * time.Millisecond, 900 * time.Millisecond, 75 * time.Second} {
		bubble.Test(t, func(t *testing.T) {
			c, _, end := timed(Options{IdleTimeout: d}, func(far net.Conn) {
				_, _ = far.Read(make([]byte, 100))
				for range 30 {
					time.Sleep(d * 7 / 10)
					_, _ = far.Write([]byte("x"))
					_, _ = far.Read(make([]byte, 1))
				}
			})
			defer end()
			c.begin()
			_, _ = c.Write([]byte("the first answer"))
			for i := range 30 {
				if _, err := c.Read(make([]byte, 1)); err != nil {
					t.Fatalf("time-out %v, read %d: %v", d, i, err)
				}
				c.active()
				c.begin()
				_, _ = c.Write([]byte("y"))
			}
			began := time.Now()
			if _, err := c.Read(make([]byte, 1)); err == nil {
				t.Fatal("read from a silent connection")
			}
			if took := time.Since(began); took > d || took < d*7/10 {
				t.Errorf("ended after %v, want %v", took, d)
			}
		})
	}
}
