package raftstore

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// Raft's transport sets a deadline for what it asks, and none for what it is asked; and that of a snapshot is for all of it, an hour for some
// hundred megabytes. A host that vanishes sends no end. So each connection of raft's has a pace of its own (I14).
type pace struct {
	// message is how long one write may take, and a read in the middle of a message may bring nothing.
	message time.Duration
	// look is how long such a read waits before it looks around, and silence how many looks in a row may have brought neither a byte nor
	// a word of the leader: an election is due then, and the read may hold up the goroutine that votes (raft v1.8.0, installSnapshot).
	look    time.Duration
	silence int
	// heard is when the leader was heard last.
	heard func() time.Time
}

// answerTime is how long the answer to a message may take, whatever raft allows: the state that was sent is opened meanwhile. If it takes longer, the
// other side goes on all the same, and what it has shows at the next message.
const answerTime = time.Minute

// errSilent says that the other side of a connection stopped in the middle of a message.
var errSilent = errors.New("the rest of a message does not come: its sender is gone")

func newPace(cfg *Config, heard func() time.Time) *pace {
	const looks = 2 // in a heartbeat time-out
	return &pace{message: cfg.RPCTimeout, look: cfg.HeartbeatTimeout / looks, silence: 2 * looks, heard: heard}
}

// deadlines are those that raft has set on a connection that this node dialled.
type deadlines struct{ read, write atomic.Pointer[time.Time] }

// sooner is when an operation that begins now ends at the latest.
func sooner(set *time.Time, within time.Duration) time.Time {
	at := time.Now().Add(within)
	if set != nil && !set.IsZero() && set.Before(at) {
		return *set
	}
	return at
}

// SetDeadline implements net.Conn.
func (c *muxConn) SetDeadline(t time.Time) error {
	c.set.read.Store(&t)
	c.set.write.Store(&t)
	return c.Conn.SetDeadline(t)
}

// SetReadDeadline implements net.Conn.
func (c *muxConn) SetReadDeadline(t time.Time) error {
	c.set.read.Store(&t)
	return c.Conn.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn.
func (c *muxConn) SetWriteDeadline(t time.Time) error {
	c.set.write.Store(&t)
	return c.Conn.SetWriteDeadline(t)
}

// Write takes no longer than the pace allows. On a connection that came in it is the answer, and ends the message.
func (c *muxConn) Write(p []byte) (int, error) {
	if c.pace == nil {
		return c.Conn.Write(p)
	}
	c.midway = false
	if err := c.Conn.SetWriteDeadline(sooner(c.set.write.Load(), c.pace.message)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// Read takes no longer than the pace allows. A connection that came in may rest between two messages: keep-alive probes find out whether its other
// side is there.
func (c *muxConn) Read(p []byte) (int, error) {
	switch {
	case c.pace == nil:
		return c.Conn.Read(p)
	case c.greeted == nil:
		if err := c.Conn.SetReadDeadline(sooner(c.set.read.Load(), answerTime)); err != nil {
			return 0, err
		}
		return c.Conn.Read(p)
	case c.midway:
		return c.readOn(p)
	}
	if err := c.Conn.SetReadDeadline(time.Time{}); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(p)
	c.midway = n > 0
	return n, err
}

// readOn reads on in a message. It counts looks, as the watchdog does (R11): a clock would count the time in which this process was stopped.
func (c *muxConn) readOn(p []byte) (int, error) {
	heard, silent := c.pace.heard(), 0
	for looked := c.pace.look; ; looked += c.pace.look {
		if err := c.Conn.SetReadDeadline(time.Now().Add(c.pace.look)); err != nil {
			return 0, err
		}
		n, err := c.Conn.Read(p)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		silent++
		if now := c.pace.heard(); !now.Equal(heard) {
			heard, silent = now, 0
		}
		if silent >= c.pace.silence || looked >= c.pace.message {
			return 0, errors.Join(errSilent, c.Close()) // whoever reads on meets the end
		}
	}
}

// keepAlive has the system find out within half a minute that the other side of a connection is gone on which nothing is under way.
func keepAlive(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}) // else the system's own
	}
}
