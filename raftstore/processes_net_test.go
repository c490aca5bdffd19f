//go:build linux

package raftstore

import (
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"machineid/internal/testkit/injected"
)

// wires is the network between the node processes. Each node is reached through a gate, and dials from a loopback address of its
// own, so a gate knows both ends of a connection, and each direction between two nodes can be cut or slowed by itself. What is sent
// into a cut is held, as by a network that may come back, and delivered late; or, when it is mended roughly, lost with its connection.
type wires struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced when a link changes
	links   map[wire]lane
	held    map[net.Conn]bool // connections that bytes are held on; false: they were lost, and so is it
	met     injected.Faults   // what bytes have met
	running sync.WaitGroup
}

// wire is one direction between two nodes, by their loopback addresses.
type wire struct{ from, to string }

// What happens to bytes on their way.
const (
	bytesHeld = "bytes held in a cut"
	bytesLate = "bytes late"
)

type lane struct {
	cut   bool
	delay time.Duration
}

func newWires() *wires {
	return &wires{changed: make(chan struct{}), links: make(map[wire]lane), held: make(map[net.Conn]bool)}
}

// gate is the address at which one node is reached by the others.
type gate struct {
	wires    *wires
	listener net.Listener
	of       string // loopback address of the node behind it

	mu     sync.Mutex
	target string // where it listens now; empty: it does not
	conns  map[net.Conn]struct{}
	closed bool
}

func (w *wires) newGate(tb testing.TB, of string) *gate {
	tb.Helper()
	g := &gate{wires: w, of: of, conns: make(map[net.Conn]struct{})}
	g.listener = must[net.Listener](tb)(net.Listen("tcp", "127.0.0.1:0"))
	w.running.Go(func() {
		for {
			conn, err := g.listener.Accept()
			if err != nil {
				return
			}
			w.running.Go(func() { g.carry(conn) })
		}
	})
	return g
}

func (g *gate) addr() string { return g.listener.Addr().String() }

// aim says where the node listens.
func (g *gate) aim(target string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.target = target
}

func (g *gate) close() {
	g.mu.Lock()
	g.closed = true
	for c := range g.conns {
		_ = c.Close()
	}
	g.mu.Unlock()
	_ = g.listener.Close()
}

// track remembers a connection, or closes it if the gate is closed.
func (g *gate) track(c net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		_ = c.Close()
		return false
	}
	g.conns[c] = struct{}{}
	return true
}

func (g *gate) drop(conns ...net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.wires.mu.Lock()
	defer g.wires.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
		delete(g.conns, c)
		delete(g.wires.held, c)
	}
}

// carry takes one connection to the node and back until either end closes it.
func (g *gate) carry(dialled net.Conn) {
	if !g.track(dialled) {
		return
	}
	defer g.drop(dialled)
	from, _, err := net.SplitHostPort(dialled.RemoteAddr().String())
	if err != nil {
		return
	}
	g.mu.Lock()
	target := g.target
	g.mu.Unlock()
	there, err := net.DialTimeout("tcp", target, time.Second)
	if err != nil || !g.track(there) {
		return
	}
	defer g.drop(there)
	var back sync.WaitGroup
	back.Go(func() {
		g.wires.pump(wire{g.of, from}, there, dialled)
		g.drop(dialled, there)
	})
	g.wires.pump(wire{from, g.of}, dialled, there)
	g.drop(dialled, there)
	back.Wait()
}

// pump moves bytes in one direction, as its link allows. It returns when one of the ends closes.
func (w *wires) pump(on wire, src, dst net.Conn) {
	buf := make([]byte, 64<<10)
	for {
		n, err := src.Read(buf)
		if n > 0 {
			if !w.pass(on, src) {
				return
			}
			if _, err := dst.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if !errors.Is(err, net.ErrClosed) { // by the gate itself
				w.pass(on, src) // the end of a connection is held in a cut as well
			}
			return
		}
	}
}

// pass waits until the link lets bytes of the connection through. false: they were lost, and so is the connection.
func (w *wires) pass(on wire, c net.Conn) bool {
	for delayed := false; ; {
		w.mu.Lock()
		l, changed := w.links[on], w.changed
		kept, held := w.held[c]
		switch {
		case l.cut && !held:
			w.held[c] = true
			w.met.Did(bytesHeld)
		case !l.cut && kept:
			delete(w.held, c)
		}
		w.mu.Unlock()
		switch {
		case held && !kept:
			return false
		case l.cut:
			<-changed
		case l.delay > 0 && !delayed:
			w.met.Did(bytesLate)
			<-time.After(l.delay)
			delayed = true
		default:
			return true
		}
	}
}

func (w *wires) set(on wire, l lane) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.links[on] = l
	w.change()
}

// change wakes those that wait; mu is held.
func (w *wires) change() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// mend restores every link. roughly: what is held is lost, with its connection; else it is delivered.
func (w *wires) mend(roughly bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.links)
	if roughly {
		for c := range w.held {
			_ = c.Close()
			w.held[c] = false
		}
	}
	w.change()
}
