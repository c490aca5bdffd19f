//go:build unix

package cli

import (
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"
)

// valve stands before an address, as the network does. Each direction can be shut: bytes then wait, as behind a network that loses
// them all, and nobody is told. It ends with the test.
type valve struct {
	addr, target string

	mu     sync.Mutex
	gone   bool // the test is over
	conns  map[net.Conn]struct{}
	shut   [2]chan struct{} // by direction: closed when it opens again; nil while it is open
	broken int              // connections that a cut has broken
}

const (
	inward  = 0 // to the target
	outward = 1
)

// newValve returns a valve before target, open.
func newValve(tb testing.TB, target string) *valve {
	tb.Helper()
	v := &valve{addr: freeAddress(tb), target: target, conns: map[net.Conn]struct{}{}}
	l, err := net.Listen("tcp", v.addr)
	if err != nil {
		tb.Fatal(err)
	}
	var all sync.WaitGroup
	tb.Cleanup(func() {
		_ = l.Close()
		v.mu.Lock()
		v.gone = true
		v.mu.Unlock()
		v.open()
		v.breakAll()
		all.Wait()
	})
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { v.pass(c) })
		}
	})
	return v
}

// pass carries one connection. A dial waits behind a shut valve as its bytes do.
func (v *valve) pass(near net.Conn) {
	if !v.keep(near) {
		return
	}
	defer v.drop(near)
	v.wait(inward)
	far, err := net.DialTimeout("tcp", v.target, time.Second)
	if err != nil || !v.keep(far) {
		return
	}
	defer v.drop(far)
	var both sync.WaitGroup
	both.Go(func() { v.carry(far, near, inward) })
	v.carry(near, far, outward)
	both.Wait()
}

func (v *valve) carry(to, from net.Conn, direction int) {
	defer func() { _ = to.Close() }()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		v.wait(direction)
		if n > 0 {
			if _, err := to.Write(b[:n]); err != nil {
				_ = from.Close()
				return
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				_ = from.Close()
			}
			return
		}
	}
}

// keep makes a connection one that breakAll ends.
func (v *valve) keep(c net.Conn) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.gone {
		_ = c.Close()
		return false
	}
	v.conns[c] = struct{}{}
	return true
}

func (v *valve) drop(c net.Conn) {
	_ = c.Close()
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.conns, c)
}

func (v *valve) wait(direction int) {
	for {
		v.mu.Lock()
		shut := v.shut[direction]
		v.mu.Unlock()
		if shut == nil {
			return
		}
		<-shut
	}
}

// close shuts some directions.
func (v *valve) close(directions ...int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, d := range directions {
		if v.shut[d] == nil && !v.gone {
			v.shut[d] = make(chan struct{})
		}
	}
}

// open lets all pass that has waited.
func (v *valve) open() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for d, shut := range v.shut {
		if shut != nil {
			close(shut)
			v.shut[d] = nil
		}
	}
}

// breakAll resets the connections there are, as a network does that has forgotten them.
func (v *valve) breakAll() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for c := range v.conns {
		if t, ok := c.(*net.TCPConn); ok {
			_ = t.SetLinger(0)
		}
		_ = c.Close()
		v.broken++
	}
}
