package raftstore

import (
	"context"
	"net"
	"sync"
	"syscall"
)

// hosts is a network of streams for virtual time, over which nodes use the transport that they really have. A host can vanish: nothing leaves it or comes
// to it any more, and nobody is told. When it is back, the connections of before lead nowhere.
type hosts struct {
	mu        sync.Mutex
	listeners map[string]*hostListener
	lives     map[string]int
	gone      map[string]bool
	// lost is asked before some bytes of a connection are passed on, and ends it as a host ends that vanishes: by silence. nil: nothing is lost.
	lost func(from, to string, n int) bool
	over chan struct{}
}

func newHosts() *hosts {
	return &hosts{listeners: map[string]*hostListener{}, lives: map[string]int{}, gone: map[string]bool{}, over: make(chan struct{})}
}

type hostListener struct {
	addr   address
	queue  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *hostListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *hostListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *hostListener) Addr() net.Addr { return l.addr }

func (h *hosts) listen(addr string) net.Listener {
	l := &hostListener{addr: address(addr), queue: make(chan net.Conn), closed: make(chan struct{})}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listeners[addr] = l
	return l
}

func (h *hosts) vanish(addr string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lives[addr]++
	h.gone[addr] = true
}

func (h *hosts) comeBack(addr string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gone[addr] = false
}

func (h *hosts) lose(lost func(from, to string, n int) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lost = lost
}

// end has everything end that waits for what never comes.
func (h *hosts) end() { close(h.over) }

// dial opens a connection from a host. One that has vanished neither takes nor refuses it.
func (h *hosts) dial(ctx context.Context, from, to string) (net.Conn, error) {
	refuse := func(err error) (net.Conn, error) { return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	h.mu.Lock()
	l, gone := h.listeners[to], h.gone[from] || h.gone[to]
	s := &stream{hosts: h, from: from, to: to, lives: [2]int{h.lives[from], h.lives[to]}}
	h.mu.Unlock()
	switch {
	case gone:
		<-ctx.Done()
		return refuse(ctx.Err())
	case l == nil:
		return refuse(syscall.ECONNREFUSED)
	}
	near, here := net.Pipe()
	there, far := net.Pipe()
	select {
	case l.queue <- far:
	case <-l.closed:
		return refuse(syscall.ECONNREFUSED)
	case <-ctx.Done():
		return refuse(ctx.Err())
	}
	go s.carry(from, to, here, there)
	go s.carry(to, from, there, here)
	return near, nil
}

// stream is one connection.
type stream struct {
	hosts    *hosts
	from, to string
	lives    [2]int
	lost     bool // guarded by hosts.mu
}

// passes reports whether n bytes get through.
func (s *stream) passes(from, to string, n int) bool {
	h := s.hosts
	h.mu.Lock()
	lost := h.lost
	h.mu.Unlock()
	loses := lost != nil && lost(from, to, n)
	h.mu.Lock()
	defer h.mu.Unlock()
	s.lost = s.lost || loses
	return !s.lost && s.lives == [2]int{h.lives[s.from], h.lives[s.to]}
}

func (s *stream) carry(from, to string, src, dst net.Conn) {
	defer func() { _, _ = src.Close(), dst.Close() }()
	buf := make([]byte, 64<<10)
	for {
		n, err := src.Read(buf)
		if !s.passes(from, to, n) {
			<-s.hosts.over
			return
		}
		if n > 0 {
			if _, err := dst.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
