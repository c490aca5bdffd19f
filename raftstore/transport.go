package raftstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// The first byte of a connection to the Raft listener says what it carries. The values are of the wire: never reuse one.
const (
	muxRaft byte = 1 // hashicorp/raft's messages
	muxOwn  byte = 2 // our own questions (peers.go)
)

const (
	muxHandshake = 5 * time.Second // to send the first byte in
	muxWaiting   = 64              // connections that may be in that state at once
	transportMax = 3               // idle connections kept per node
)

// mux splits one listener by the first byte. It is raft's StreamLayer for the share that is raft's. It knows every connection
// it accepted or dialled, and closing it closes them: raft's transport leaves incoming ones open.
type mux struct {
	listener  net.Listener
	dialler   func(ctx context.Context, addr string) (net.Conn, error)
	advertise net.Addr
	logger    *slog.Logger
	raftC     chan net.Conn
	closed    chan struct{}
	slots     chan struct{}
	own       atomic.Pointer[func(net.Conn)] // serves a connection of muxOwn; nil: none yet
	wg        sync.WaitGroup

	mu    sync.Mutex
	open  map[*muxConn]struct{}
	ended bool
}

var _ raft.StreamLayer = (*mux)(nil)

// address is an address as it was given: resolving it is up to who dials.
type address string

func (a address) Network() string { return "tcp" }
func (a address) String() string  { return string(a) }

// newMux serves l. dial is Config.Dial.
func newMux(
	l net.Listener, advertise string, dial func(ctx context.Context, addr string) (net.Conn, error), logger *slog.Logger,
) *mux {
	if dial == nil {
		tcp := net.Dialer{KeepAlive: 15 * time.Second} // Go sets TCP_NODELAY itself
		dial = func(ctx context.Context, addr string) (net.Conn, error) { return tcp.DialContext(ctx, "tcp", addr) }
	}
	m := &mux{
		listener: l, dialler: dial, advertise: l.Addr(), logger: logger,
		raftC: make(chan net.Conn), closed: make(chan struct{}), slots: make(chan struct{}, muxWaiting),
		open: make(map[*muxConn]struct{}),
	}
	if advertise != "" {
		m.advertise = address(advertise)
	}
	m.wg.Go(m.accept)
	return m
}

func (m *mux) accept() {
	const firstPause, lastPause = 5 * time.Millisecond, time.Second
	pause := firstPause
	for {
		conn, err := m.listener.Accept()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			m.logger.Warn("accepting a connection failed", slog.Any("cause", err))
			select {
			case <-m.closed:
				return
			case <-time.After(pause):
				pause = min(2*pause, lastPause)
			}
			continue
		}
		pause = firstPause
		c, ok := m.track(conn)
		if !ok {
			return
		}
		select {
		case m.slots <- struct{}{}:
		case <-m.closed:
			return
		}
		m.wg.Go(func() {
			defer func() { <-m.slots }()
			m.sort(c)
		})
	}
}

// sort reads the first byte and passes the connection on.
func (m *mux) sort(c *muxConn) {
	var kind [1]byte
	err := c.SetReadDeadline(time.Now().Add(muxHandshake))
	if err == nil {
		_, err = io.ReadFull(c, kind[:])
	}
	if err == nil {
		err = c.SetReadDeadline(time.Time{})
	}
	if err == nil && kind[0] == muxRaft {
		select {
		case m.raftC <- c:
			return
		case <-m.closed:
		}
	}
	if own := m.own.Load(); err == nil && kind[0] == muxOwn && own != nil {
		m.wg.Go(func() { // not in the slot of those that did not say yet what they are
			defer func() { _ = c.Close() }()
			(*own)(c)
		})
		return
	}
	_ = c.Close() // nothing was promised to the other side
	if err == nil && kind[0] != muxRaft {
		err = fmt.Errorf("first byte %d is not one this program serves", kind[0])
	}
	if err != nil {
		m.logger.Debug("connection refused", slog.String("remote", c.RemoteAddr().String()), slog.Any("cause", err))
	}
}

// Accept returns the next connection that carries raft's messages.
func (m *mux) Accept() (net.Conn, error) {
	select {
	case c := <-m.raftC:
		return c, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

// serveOwn sets what serves connections of our own. Each has a goroutine; when serve returns, the connection is closed.
func (m *mux) serveOwn(serve func(net.Conn)) { m.own.Store(&serve) }

// Dial opens a connection for raft's messages.
func (m *mux) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return m.dial(ctx, string(to), muxRaft)
}

// dial opens a connection and says what it is for. ctx bounds only the dialling.
func (m *mux) dial(ctx context.Context, to string, kind byte) (net.Conn, error) {
	conn, err := m.dialler(ctx, to)
	if err != nil {
		return nil, err
	}
	c, ok := m.track(conn)
	if !ok {
		return nil, net.ErrClosed
	}
	deadline, _ := ctx.Deadline()
	err = c.SetWriteDeadline(deadline)
	if err == nil {
		_, err = c.Write([]byte{kind})
	}
	if err == nil {
		err = c.SetWriteDeadline(time.Time{})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("greet %s: %w", to, err), c.Close())
	}
	return c, nil
}

// Addr is the address that other nodes are told.
func (m *mux) Addr() net.Addr { return m.advertise }

// Close stops listening, closes every connection, and waits for the goroutines of the mux. It may be called again.
func (m *mux) Close() error {
	m.mu.Lock()
	if m.ended {
		m.mu.Unlock()
		return nil
	}
	m.ended = true
	conns := make([]*muxConn, 0, len(m.open))
	for c := range m.open {
		conns = append(conns, c)
	}
	m.mu.Unlock()
	close(m.closed)
	err := m.listener.Close()
	for _, c := range conns {
		_ = c.Close() // on the way out; whoever used it sees the end
	}
	m.wg.Wait()
	if err != nil {
		return fmt.Errorf("close the raft listener: %w", err)
	}
	return nil
}

// track registers a connection, or closes it if the mux is closing.
func (m *mux) track(conn net.Conn) (*muxConn, bool) {
	c := &muxConn{Conn: conn, mux: m}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended {
		_ = conn.Close()
		return nil, false
	}
	m.open[c] = struct{}{}
	return c, true
}

type muxConn struct {
	net.Conn
	mux *mux
}

func (c *muxConn) Close() error {
	c.mux.mu.Lock()
	delete(c.mux.open, c)
	c.mux.mu.Unlock()
	return c.Conn.Close()
}

// newTransport is raft's transport over the mux.
func newTransport(m raft.StreamLayer, cfg *Config) transport {
	return transport{raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream:  m,
		MaxPool: transportMax,
		Timeout: cfg.RPCTimeout,
		Logger:  newRaftLogger(cfg.Logger).Named("transport"),
	})}
}
