package wire

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// Server is fasthttp's, but for the time-outs, which its connections keep themselves. fasthttp reads the clock three times
// a request to move deadlines that nearly all are replaced before they could matter: a twentieth of what a validate
// costs.
type Server struct {
	*fasthttp.Server
	opts   Options
	bodies *bodies
	lame   *atomic.Bool

	mu      sync.Mutex
	serving *listener
}

// Serve serves l until Shutdown.
func (s *Server) Serve(l net.Listener) error {
	timed := newListener(l, s.opts, s.lame)
	s.mu.Lock()
	s.serving = timed
	s.mu.Unlock()
	ticked := make(chan struct{})
	go func() {
		defer close(ticked)
		timed.tick()
	}()
	defer func() {
		close(timed.done)
		<-ticked
	}()
	return s.Server.Serve(timed)
}

// surplusTime is how long a connection beyond the listener's bounds may take for its first request.
const surplusTime = 2 * time.Second

// lameTime is how long a stopping server goes on to serve, telling every caller with its answer that the connection ends. It is also how long, after
// that, a connection lives on that does not bring a whole request.
const lameTime = 500 * time.Millisecond

// ShutdownWithContext ends the server: for lameTime, or until nobody is connected, all are served and sent away, since a connection that ends while a
// request is on its way leaves the caller without knowing what became of it. Then requests that have arrived are answered, and connections
// that bring none are closed, also those on which half a request has come and those that have been silent from their begin, for which fasthttp would
// wait.
func (s *Server) ShutdownWithContext(ctx context.Context) error {
	s.mu.Lock()
	l := s.serving
	s.mu.Unlock()
	if l != nil {
		s.lame.Store(true)
		l.thin(ctx)
		stopped := make(chan struct{})
		defer close(stopped)
		go l.cut(stopped) // those that came last have as long again to bring a request
	}
	return s.Server.ShutdownWithContext(ctx)
}

// Shutdown is ShutdownWithContext without an end.
func (s *Server) Shutdown() error { return s.ShutdownWithContext(context.Background()) }

// tickEvery is how coarse the clock of connections is, and tickShare what part of a time-out at most.
const (
	tickEvery = 250 * time.Millisecond
	tickShare = 8
)

// listener makes timed connections. Its clock is read by them at the price of a load.
type listener struct {
	net.Listener
	opts  Options
	lame  *atomic.Bool
	start time.Time
	now   atomic.Int64 // nanoseconds since start, late by at most a tick
	done  chan struct{}

	mu    sync.Mutex
	conns map[*conn]struct{}
}

func newListener(l net.Listener, opts Options, lame *atomic.Bool) *listener {
	return &listener{Listener: l, opts: opts, lame: lame, start: time.Now(), done: make(chan struct{}), conns: map[*conn]struct{}{}}
}

// cut closes the connections that bring no whole request, from lameTime after its begin until stopped.
func (l *listener) cut(stopped <-chan struct{}) {
	for pause := lameTime; ; pause = lameTime / 5 {
		select {
		case <-stopped:
			return
		case <-time.After(pause):
		}
		l.mu.Lock()
		waiting := make([]*conn, 0, len(l.conns))
		for c := range l.conns {
			waiting = append(waiting, c)
		}
		l.mu.Unlock()
		for _, c := range waiting {
			if c.state.CompareAndSwap(connWaits, connCut) || c.state.CompareAndSwap(connLeaves, connCut) {
				_ = c.Close() // it may be closed already
			}
		}
	}
}

// thin waits for lameTime, until nobody is connected, or until ctx ends.
func (l *listener) thin(ctx context.Context) {
	const look = lameTime / 50
	for waited := time.Duration(0); waited < lameTime; waited += look {
		l.mu.Lock()
		open := len(l.conns)
		l.mu.Unlock()
		if open == 0 {
			return
		}
		select {
		case <-time.After(look):
		case <-ctx.Done():
			return
		}
	}
}

func (l *listener) coarse() time.Duration {
	return min(tickEvery, l.opts.ReadTimeout/tickShare, l.opts.WriteTimeout/tickShare, l.opts.IdleTimeout/tickShare)
}

func (l *listener) tick() {
	t := time.NewTicker(max(l.coarse(), time.Millisecond))
	defer t.Stop()
	for {
		select {
		case <-l.done:
			return
		case now := <-t.C:
			l.now.Store(int64(now.Sub(l.start)))
		}
	}
}

// Accept returns the next connection.
func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	timed := newConn(c, l)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[timed] = struct{}{}
	return timed, nil
}

// Close closes the connection, in stages if an answer was written that ends it.
func (c *conn) Close() error {
	if c.leaves.CompareAndSwap(true, false) {
		c.leave()
	}
	c.l.mu.Lock()
	delete(c.l.conns, c)
	c.l.mu.Unlock()
	return c.Conn.Close()
}

func newConn(c net.Conn, l *listener) *conn {
	marked, ok := c.(interface{ Surplus() bool })
	return &conn{Conn: c, l: l, first: l.now.Load(), surplus: ok && marked.Surplus()} // its first request is on its way
}

// conn keeps a connection's time-outs: how long it may idle, how long one request may take to arrive, counted from its
// first byte, from the answer before it or from the connection's begin, whichever is last, and how long an answer may take to leave. A deadline is moved
// when it would come too early by more than a tick, so about once a tick on a busy connection.
//
// One goroutine uses it at a time, which is how fasthttp serves.
type conn struct {
	net.Conn
	l *listener

	state         atomic.Int32 // one of those below; only connCut is set by another goroutine
	first         int64        // when the request that it waits for began
	begun         bool         // something has been read since the last answer
	ended         bool         // a read has failed: nothing more will come
	late          bool         // it failed because the time was up
	leaves        atomic.Bool  // an answer was written, or is, that ends the connection
	opening       opening
	outbox        outbox
	surplus       bool // the listener has too many: the first request is refused
	memo          headMemo
	holding       holding
	request       *Request // that the handler is with, else nil
	read, written int64    // deadlines in force, as times of l.now; 0 is none
}

// The states of a connection.
const (
	connWaits   int32 = iota // for the rest of a request, or for its first
	connHandles              // a request is with the handler
	connAnswers              // an answer was written, or a part; the next request has not begun
	connLeaves               // the last answer was written; what still comes is read and thrown away
	connCut                  // the server ended it: before a whole request had come, or while it was left
)

// begin tells that a whole request has come. It is false if the connection was cut before.
func (c *conn) begin() bool {
	for {
		s := c.state.Load()
		if s == connCut {
			return false
		}
		if c.state.CompareAndSwap(s, connHandles) {
			return true
		}
	}
}

// answers tells that the server answers before the whole request has come. c may be nil.
func (c *conn) answers() {
	if c != nil {
		_ = c.begin() // cut: the answer is not read
	}
}

// active tells that fasthttp has found the first byte of a request, just read or come with the one before.
func (c *conn) active() {
	if c.state.CompareAndSwap(connAnswers, connWaits) || c.state.CompareAndSwap(connHandles, connWaits) {
		c.first, c.begun = c.l.now.Load(), true
	}
}

func (c *conn) Read(b []byte) (int, error) {
	if c.outbox.n > 0 {
		if err := c.push(); err != nil {
			return 0, err
		}
		c.first = c.l.now.Load() // it may have taken long
	}
	if c.begun && c.state.Load() == connWaits { // fasthttp wants more of a request
		if err := c.opening.hopeless(); err != nil {
			return 0, err
		}
	}
	now := c.l.now.Load()
	until, slack := now+int64(c.l.opts.IdleTimeout), c.slack(c.l.opts.IdleTimeout)
	state := c.state.Load()
	waits := state == connWaits
	if waits {
		until, slack = c.first+int64(c.l.opts.ReadTimeout)+int64(c.l.coarse()), 0
		if c.surplus {
			until = min(until, c.first+int64(surplusTime))
		}
	} else if state == connAnswers {
		c.holding.drop() // the answer has left
		c.opening.begin()
	}
	if c.read > until || c.read < until-slack {
		if err := c.SetReadDeadline(c.l.start.Add(time.Duration(until))); err != nil {
			return 0, err
		}
		c.read = until
	}
	n, err := c.Conn.Read(b)
	c.opening.add(b[:n])
	if c.ended = err != nil; c.ended {
		told := c.late
		if c.late = timedOut(err); c.late && !told && waits && n == 0 && len(b) > 0 && len(b) < c.l.opts.MaxHead {
			// A part of its buffer: fasthttp holds a part of a head, and looks for its end. Of line ends alone it would say nothing; so it gets a byte that ends no line.
			b[0] = 0
			return 1, nil
		}
	}
	if c.begun = c.begun || n > 0; err == io.EOF && c.begun && waits { //nolint:errorlint // as net.Conn says it
		return n, io.ErrUnexpectedEOF // fasthttp takes an EOF for a connection that is done with, and says nothing
	}
	return n, err
}

// The bounds of what is read of a connection after its last answer.
const (
	leaveTime = 3 * time.Second
	leaveMost = 64 << 20
	leaveRead = 32 << 10
)

// leave ends the server's half of the connection and reads on until the client has ended its own, within bounds. Closed at once, a connection on which
// something still comes is reset, and a reset takes the answer from a client that has not read it yet (RFC 9112, 9.6).
func (c *conn) leave() {
	half := closer(c.Conn)
	if half == nil || c.ended || !c.state.CompareAndSwap(connAnswers, connLeaves) || half.CloseWrite() != nil {
		return
	}
	most := c.l.opts.leaveTime
	if c.surplus {
		most = lameTime
	}
	if c.SetReadDeadline(time.Now().Add(most)) != nil {
		return
	}
	b := make([]byte, leaveRead)
	for left := leaveMost; left > 0; {
		n, err := c.Conn.Read(b)
		if left -= n; err != nil {
			return
		}
	}
}

type closeWriter interface{ CloseWrite() error }

// closer is what can end one half of a connection, or of the one under it; nil if nothing can.
func closer(c net.Conn) closeWriter {
	for {
		if half, ok := c.(closeWriter); ok {
			return half
		}
		over, ok := c.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		c = over.NetConn()
	}
}

func (c *conn) Write(b []byte) (int, error) {
	if bytes.HasSuffix(b, interim) { // no answer: the request goes on to come
		return c.leaveWith(b)
	}
	if c.state.CompareAndSwap(connHandles, connAnswers) {
		c.begun = false
	}
	if c.outbox.follows && !c.leaves.Load() && !c.l.lame.Load() {
		return c.keep(b)
	}
	return c.leaveWith(b)
}

// write writes within the time that an answer has.
func (c *conn) write(b []byte) (int, error) {
	until := c.l.now.Load() + int64(c.l.opts.WriteTimeout) + int64(c.l.coarse())
	if c.written > until || c.written < until-c.slack(c.l.opts.WriteTimeout) {
		if err := c.SetWriteDeadline(c.l.start.Add(time.Duration(until))); err != nil {
			return 0, err
		}
		c.written = until
	}
	return c.Conn.Write(b)
}

// slack is how much too early a deadline may come before it is moved.
func (c *conn) slack(timeout time.Duration) int64 {
	return int64(min(time.Second, timeout/tickShare))
}
