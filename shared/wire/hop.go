package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/valyala/fasthttp"
)

// HopOptions of a Hop. Dial is required, and so are the bounds.
type HopOptions struct {
	// Dial opens a connection, within the context's deadline.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
	// MaxConns is the most connections at once. A request waits a second for one.
	MaxConns int
	// Answer bounds how long a request may take to leave, and how long its answer may take.
	Answer time.Duration
}

// The times of a hop. Connections end here before the other side ends them (Options.IdleTimeout), or a request would run into the end.
const (
	hopIdle = 30 * time.Second
	hopDial = time.Second
	hopWait = time.Second
	// hopFresh is how often one request meets a connection that is not there any more before that is its answer.
	hopFresh = 8
	// hopAnswer is the largest answer.
	hopAnswer = 64 << 20
)

// Hop is a client of one other node of ours, to which requests are handed on. A connection that the other side has ended while it was idle, as
// all are when a process has been started anew at its address, costs no request: it is looked at before it is used. Safe for concurrent use.
type Hop struct {
	addr   string
	dial   func(ctx context.Context, addr string) (net.Conn, error)
	client *fasthttp.HostClient
	life   context.Context
	end    context.CancelFunc
}

// NewHop returns a client of the node at addr. It does no I/O.
func NewHop(addr string, o HopOptions) *Hop {
	h := &Hop{addr: addr, dial: o.Dial}
	h.life, h.end = context.WithCancel(context.Background())
	h.client = &fasthttp.HostClient{
		Addr: addr, DialTimeout: h.open, MaxConns: o.MaxConns, MaxConnWaitTimeout: hopWait, MaxIdleConnDuration: hopIdle,
		ReadTimeout: o.Answer, WriteTimeout: o.Answer, MaxIdemponentCallAttempts: 1, NoDefaultUserAgentHeader: true,
		DisablePathNormalizing: true, MaxResponseBodySize: hopAnswer,
	}
	return h
}

// Addr is the node's address.
func (h *Hop) Addr() string { return h.addr }

// Do sends one request and reads its answer. PassOutcome tells what became of one that failed; whether it may be sent again is the caller's to say.
func (h *Hop) Do(req *fasthttp.Request, resp *fasthttp.Response) (err error) {
	for range hopFresh {
		if err = h.client.Do(req, resp); !errors.Is(err, errGone) {
			break
		}
	}
	return err
}

// Drop closes the connections that are idle.
func (h *Hop) Drop() { h.client.CloseIdleConnections() }

// Break closes all connections, those that are being opened too, and ends the requests that are under way on them. What is asked after it fails.
func (h *Hop) Break() {
	h.end()
	h.Drop()
}

// Pending is how many requests are under way.
func (h *Hop) Pending() int { return h.client.PendingRequests() }

func (h *Hop) open(addr string, timeout time.Duration) (net.Conn, error) {
	if timeout <= 0 || timeout > hopDial {
		timeout = hopDial
	}
	ctx, cancel := context.WithTimeout(h.life, timeout)
	defer cancel()
	conn, err := h.dial(ctx, addr)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
	}
	return &hopConn{Conn: conn, h: h, stay: context.AfterFunc(h.life, func() { _ = conn.Close() })}, nil // who uses it then sees that, and closes it as well
}

// errGone says that nothing of a request has left: the other side had ended the connection before. errUnsent says that not all of it has
// left: nobody can have read it as a request.
var (
	errGone   = errors.New("the connection was ended by the other side")
	errUnsent = errors.New("the request could not be sent")
)

// hopConn is a connection of a Hop. fasthttp sets the deadline for writing once before each request, and that is when it is looked at.
type hopConn struct {
	net.Conn
	h    *Hop
	stay func() bool // takes it out of what ends with the hop
	used bool
}

func (c *hopConn) SetWriteDeadline(t time.Time) error {
	if c.used && gone(c.Conn) {
		c.h.Drop() // the others are of the same process, most likely
		return errGone
	}
	c.used = true
	return c.Conn.SetWriteDeadline(t)
}

func (c *hopConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err != nil {
		return n, fmt.Errorf("%w: %w", errUnsent, err)
	}
	return n, nil
}

func (c *hopConn) Close() error {
	c.stay()
	return c.Conn.Close()
}
