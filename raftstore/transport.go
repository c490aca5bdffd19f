package raftstore

import (
	"bytes"
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

// The first byte of a connection to the Raft listener says what it carries. A Greeting follows, and its Welcome, each as a frame (peers.go).
// The values are of the wire: never reuse one. 1 and 2 carried the same without a Greeting.
const (
	muxRaft byte = 3 // hashicorp/raft's messages
	muxOwn  byte = 4 // our own questions (peers.go)
)

const (
	muxConnect   = 3 * time.Second // to connect in
	muxHandshake = 5 * time.Second // to send the first byte and the Greeting in
	muxWaiting   = 64              // connections that may be in that state at once
	transportMax = 3               // idle connections kept per node
)

// mux splits one listener by the first byte, and has every connection begin with a Greeting, both those that come and those that go. It is
// raft's StreamLayer for the share that is raft's. It knows every connection it accepted or dialled, and closing it closes them: raft's
// transport leaves incoming ones open.
type mux struct {
	listener  net.Listener
	door      Door
	dialler   func(ctx context.Context, addr string) (net.Conn, error)
	advertise net.Addr
	pace      *pace
	speaks    func(first []byte) string // Config.Speaks
	logger    *slog.Logger
	swept     chan struct{} // capacity 1: the members have changed
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
	l net.Listener, d Door, advertise string, dial func(ctx context.Context, addr string) (net.Conn, error), p *pace, logger *slog.Logger,
) *mux {
	if dial == nil {
		tcp := net.Dialer{} // Go sets TCP_NODELAY itself
		dial = func(ctx context.Context, addr string) (net.Conn, error) { return tcp.DialContext(ctx, "tcp", addr) }
	}
	m := &mux{
		listener: l, door: d, dialler: dial, advertise: l.Addr(), pace: p, logger: logger,
		swept: make(chan struct{}, 1), raftC: make(chan net.Conn), closed: make(chan struct{}), slots: make(chan struct{}, muxWaiting),
		open: make(map[*muxConn]struct{}),
	}
	if advertise != "" {
		m.advertise = address(advertise)
	}
	m.wg.Go(m.accept)
	m.wg.Go(func() {
		for {
			select {
			case <-m.swept:
				m.sweep()
			case <-m.closed:
				return
			}
		}
	})
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

// sort lets a caller in and passes the connection on.
func (m *mux) sort(c *muxConn) {
	kind, err := m.letIn(c)
	if err == nil && kind == muxRaft {
		select {
		case m.raftC <- c:
			return
		case <-m.closed:
		}
	}
	if own := m.own.Load(); err == nil && kind == muxOwn && own != nil {
		m.wg.Go(func() { // not in the slot of those that did not say yet what they are
			defer func() { _ = c.Close() }()
			(*own)(c)
		})
		return
	}
	_ = c.Close() // nothing was promised to the other side
	if err != nil {
		m.logger.Debug("connection refused", slog.String("remote", c.RemoteAddr().String()), slog.Any("cause", err))
	}
}

// letIn reads what a connection is for and who calls, and answers.
func (m *mux) letIn(c *muxConn) (kind byte, err error) {
	var first [1]byte
	if err := c.SetDeadline(time.Now().Add(muxHandshake)); err != nil {
		return 0, err
	}
	if _, err := io.ReadFull(c, first[:]); err != nil {
		return 0, err
	}
	if kind = first[0]; kind >= 'A' && kind <= 'Z' {
		m.misdirected(c)
	}
	if kind != muxRaft && kind != muxOwn {
		return 0, fmt.Errorf("first byte %d is not one this program serves", kind)
	}
	var g Greeting
	if err := readFrame(c, &g); err != nil {
		return 0, fmt.Errorf("read the greeting: %w", err)
	}
	w, visit := m.door.Admit(g, kind == muxRaft)
	if err := writeFrame(c, w); err != nil {
		return 0, fmt.Errorf("answer the greeting: %w", err)
	}
	if w.Refused != "" {
		return 0, fmt.Errorf("%s: %s", g.From, w.Refused)
	}
	var at Reach
	if err := readFrame(c, &at); err != nil {
		return 0, fmt.Errorf("read how far the caller is: %w", err)
	}
	w = visit.Arrived(at)
	if err := writeFrame(c, w); err != nil {
		return 0, fmt.Errorf("let the caller in: %w", err)
	}
	if w.Refused != "" {
		return 0, fmt.Errorf("%s: %s", g.From, w.Refused)
	}
	c.mu.Lock()
	c.greeted, c.raft = &g, kind == muxRaft
	c.mu.Unlock()
	return kind, c.begin(kind)
}

// misdirected is how that answer begins.
const misdirected = "HTTP/1.1 421"

// misdirected answers who speaks HTTP, whose requests begin with a method's name: it is told where it is, and need not guess whether anything was done.
func (m *mux) misdirected(c *muxConn) {
	const (
		said    = "this is the --raft of an authority node: calls go to its --http\n"
		patient = time.Second
		rest    = 64 << 10 // of the request: what is not read would take the answer away
	)
	_, err := fmt.Fprintf(c, misdirected+" Misdirected Request\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n\r\n%s", len(said), said)
	if err == nil && c.SetDeadline(time.Now().Add(patient)) == nil {
		_, _ = io.CopyN(io.Discard, c, rest) // until the caller has read it, and goes
	}
}

// sweepSoon has the callers judged again. It does not wait.
func (m *mux) sweepSoon() {
	select {
	case m.swept <- struct{}{}:
	default:
	}
}

// sweep judges the callers again, and ends the connections of those that are members no more.
func (m *mux) sweep() {
	m.mu.Lock()
	conns := make([]*muxConn, 0, len(m.open))
	for c := range m.open {
		conns = append(conns, c)
	}
	m.mu.Unlock()
	for _, c := range conns {
		c.mu.Lock()
		g, forRaft := c.greeted, c.raft
		c.mu.Unlock()
		if g == nil {
			continue // dialled by this node, or not let in yet
		}
		if w, _ := m.door.Admit(*g, forRaft); w.Refused != "" {
			m.logger.Info("a connection is ended", slog.String("from", g.From.String()), slog.String("cause", w.Refused))
			_ = c.Close()
		}
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

// Dial opens a connection for raft's messages to the member that to names (dialled).
func (m *mux) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	who, addr, err := meant(to)
	if err != nil {
		return nil, err
	}
	return m.dial(ctx, who, addr, muxRaft)
}

// dial opens a connection, says what it is for, and makes sure of who is there. ctx bounds only that; Close ends it.
func (m *mux) dial(ctx context.Context, to Life, addr string, kind byte) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-m.closed:
			cancel()
		case <-ctx.Done():
		}
	}()
	connect, connected := context.WithTimeout(ctx, muxConnect)
	conn, err := m.dialler(connect, addr)
	connected()
	if err != nil {
		return nil, err
	}
	c, ok := m.track(conn)
	if !ok {
		return nil, net.ErrClosed
	}
	if err := m.greet(ctx, c, to, kind); err != nil {
		return nil, errors.Join(fmt.Errorf("greet %s at %s: %w", to, addr, err), c.Close())
	}
	return c, nil
}

func (m *mux) greet(ctx context.Context, c *muxConn, to Life, kind byte) error {
	deadline := time.Now().Add(muxHandshake)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := c.SetDeadline(deadline); err != nil {
		return err
	}
	g, visit := m.door.Greet(to)
	frame, err := appendFrame([]byte{kind}, g)
	if err != nil {
		return err
	}
	if _, err := c.Write(frame); err != nil {
		return err
	}
	var w Welcome
	if err := readFrame(c, &w); err != nil {
		return fmt.Errorf("wait for an answer (is it the node's --raft, and the node neither stopped nor overloaded?): %w", err)
	}
	at, err := visit.Welcomed(w)
	if err == nil {
		err = writeFrame(c, at)
	}
	if err == nil {
		w = Welcome{}
		err = readFrame(c, &w)
	}
	if err == nil {
		err = visit.Admitted(w)
	}
	if err != nil {
		return err
	}
	return c.begin(kind)
}

// whoIsAt says who is at an address that is no node's, "" if that is not known: a listener of another kind answers a request of HTTP.
func (m *mux) whoIsAt(ctx context.Context, addr string) string {
	const patient, most = time.Second, 16
	if m == nil || m.speaks == nil {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, patient)
	defer cancel()
	conn, err := m.dialler(ctx, addr)
	if err != nil {
		return ""
	}
	defer func() { _ = conn.Close() }()
	first := make([]byte, most)
	end, _ := ctx.Deadline()
	if err := conn.SetDeadline(end); err != nil {
		return ""
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		return ""
	}
	n, _ := io.ReadFull(conn, first)
	if bytes.HasPrefix(first, []byte(misdirected)) {
		return "" // it is a node, whatever it has against this one
	}
	return m.speaks(first[:n])
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
	keepAlive(conn)
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

// muxConn is one connection. Reading and writing follow a pace once it carries raft's messages (pace.go).
type muxConn struct {
	net.Conn
	mux  *mux
	pace *pace // nil: whoever uses it sets deadlines
	set  deadlines
	// midway: some of a message has come, and is not answered. Only used where this node was called: raft answers one message after the other there.
	midway bool

	mu      sync.Mutex
	greeted *Greeting // of who was let in; nil: this node dialled, or nobody was
	raft    bool      // it carries raft's messages
}

// begin ends the time that the Greeting had.
func (c *muxConn) begin(kind byte) error {
	if kind == muxRaft {
		c.pace = c.mux.pace
	}
	return c.SetDeadline(time.Time{})
}

func (c *muxConn) Close() error {
	c.mux.mu.Lock()
	delete(c.mux.open, c)
	c.mux.mu.Unlock()
	return c.Conn.Close()
}

// newTransport is raft's transport over the mux.
func newTransport(m raft.StreamLayer, cfg *Config) transport {
	return transport{handOver: cfg.HeartbeatTimeout, NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream:  m,
		MaxPool: transportMax,
		Timeout: cfg.RPCTimeout,
		Logger:  newRaftLogger(cfg.Logger).Named("transport"),
	})}
}
