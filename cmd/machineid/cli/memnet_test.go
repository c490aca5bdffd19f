//go:build unix

package cli

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"machineid/internal/testkit/injected"
)

// memNet is a network of hosts for virtual time. It carries streams, as TCP does: bytes arrive late, or not until a link is
// mended, but never lost, twice or out of order; what is lost with a connection is lost from some byte on. Links are cut in
// each direction by itself.
type memNet struct {
	mu        sync.Mutex
	rng       *rand.Rand
	hosts     map[string]*memHost // the newest of each name
	listeners map[string]*memListener
	conns     map[*memConn]struct{}
	cut       map[way]bool
	slow      map[way]time.Duration
	mended    chan struct{} // closed and replaced when a link is mended
	steady    bool          // nothing has to be sent again
	met       injected.Faults
}

// What bytes and connections meet.
const (
	bytesHeld  = "bytes held in a cut"
	bytesSlow  = "bytes on a slow link"
	bytesLost  = "a connection broken with bytes on their way"
	connBroken = "a connection broken"
	dialHeld   = "a dial into a cut"
)

// hurts are all of these.
var hurts = []string{bytesHeld, bytesSlow, bytesLost, connBroken, dialHeld}

// way is one direction between two hosts.
type way struct{ from, to string }

// memHost is one run of a machine: when it is down, nothing leaves it or comes to it any more.
type memHost struct {
	net  *memNet
	name string
	down atomic.Bool
}

// memAddr is host:port.
type memAddr string

func (memAddr) Network() string  { return "tcp" }
func (a memAddr) String() string { return string(a) }

func (a memAddr) host() string {
	name, _, _ := strings.Cut(string(a), ":")
	return name
}

func newMemNet(rng *rand.Rand) *memNet {
	return &memNet{
		rng: rng, hosts: map[string]*memHost{}, listeners: map[string]*memListener{}, conns: map[*memConn]struct{}{},
		cut: map[way]bool{}, slow: map[way]time.Duration{}, mended: make(chan struct{}),
	}
}

// host starts a machine in the place of an earlier one of that name.
func (n *memNet) host(name string) *memHost {
	h := &memHost{net: n, name: name}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[name] = h
	return h
}

// fail ends a machine for everybody else: its connections are reset.
func (h *memHost) fail() {
	h.down.Store(true)
	h.net.reset(func(c *memConn) bool { return c.host == h || c.peer.host == h })
}

// reset breaks connections. What is on its way is lost.
func (n *memNet) reset(which func(*memConn) bool) {
	n.mu.Lock()
	var list []*memConn
	for c := range n.conns {
		if which(c) {
			list = append(list, c)
			delete(n.conns, c)
		}
	}
	n.mu.Unlock()
	for _, c := range list {
		n.met.Did(connBroken)
		c.in.breakOff()
		c.out.breakOff()
	}
}

// between matches the connections of two hosts; "" is any.
func between(a, b string) func(*memConn) bool {
	is := func(c *memConn, name string) bool { return name == "" || c.host.name == name }
	return func(c *memConn) bool { return is(c, a) && is(c.peer, b) || is(c, b) && is(c.peer, a) }
}

// setCut cuts or mends one direction.
func (n *memNet) setCut(from, to string, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cut[way{from, to}] = cut; !cut {
		close(n.mended)
		n.mended = make(chan struct{})
	}
}

// cutOff cuts a host off from all others, or mends that.
func (n *memNet) cutOff(name string, off bool) {
	n.mu.Lock()
	var others []string
	for other := range n.hosts {
		others = append(others, other)
	}
	n.mu.Unlock()
	for _, other := range others {
		n.setCut(name, other, off)
		n.setCut(other, name, off)
	}
}

func (n *memNet) setSlow(from, to string, d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.slow[way{from, to}] = d
}

// mend restores every link that keep does not hold back.
func (n *memNet) mend(which func(way) bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for w := range n.cut {
		if which(w) {
			delete(n.cut, w)
		}
	}
	for w := range n.slow {
		if which(w) {
			delete(n.slow, w)
		}
	}
	close(n.mended)
	n.mended = make(chan struct{})
}

func (n *memNet) isCut(w way) (cut bool, mended <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cut[w], n.mended
}

// latency is how long some bytes are on their way: a moment as a rule, and now and then as long as TCP takes to send them again.
func (n *memNet) latency(w way) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	d := time.Duration(n.rng.IntN(2000)) * time.Microsecond
	if n.rng.IntN(1000) == 0 && !n.steady {
		d += time.Duration(n.rng.IntN(1500)) * time.Millisecond
	}
	if n.slow[w] > 0 {
		n.met.Did(bytesSlow)
	}
	return d + n.slow[w]
}

// memListener listens at one address, until the next one does there.
type memListener struct {
	addr   memAddr
	host   *memHost
	queue  chan *memConn
	closed chan struct{}
	once   sync.Once
}

func (h *memHost) listen(port string) *memListener {
	l := &memListener{addr: memAddr(h.name + ":" + port), host: h, queue: make(chan *memConn, 1000), closed: make(chan struct{})}
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	h.net.listeners[string(l.addr)] = l
	return l
}

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *memListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *memListener) Addr() net.Addr { return l.addr }

// dialTime is how long a connection that is not answered is tried for.
const dialTime = 3 * time.Second

// dial opens a connection from this machine.
func (h *memHost) dial(ctx context.Context, addr string) (net.Conn, error) {
	refuse := func(err error) (net.Conn, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: memAddr(addr), Err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	to := memAddr(addr).host()
	for _, w := range []way{{h.name, to}, {to, h.name}} {
		select {
		case <-time.After(h.net.latency(w)):
		case <-ctx.Done():
			return refuse(ctx.Err())
		}
		for {
			cut, mended := h.net.isCut(w)
			if !cut && !h.down.Load() {
				break
			}
			if cut {
				h.net.met.Did(dialHeld)
			}
			select {
			case <-mended:
			case <-ctx.Done():
				return refuse(ctx.Err())
			}
		}
	}
	h.net.mu.Lock()
	defer h.net.mu.Unlock()
	l := h.net.listeners[addr]
	if l == nil || l.host.down.Load() || h.down.Load() {
		return refuse(syscall.ECONNREFUSED)
	}
	forth, back := newMemPipe(h.net, way{h.name, to}), newMemPipe(h.net, way{to, h.name})
	here := &memConn{host: h, in: back, out: forth, local: memAddr(h.name + ":0"), remote: memAddr(addr)}
	there := &memConn{host: l.host, in: forth, out: back, local: memAddr(addr), remote: memAddr(h.name + ":0"), peer: here}
	here.peer = there
	select {
	case <-l.closed: // and not by chance into the queue of a listener that is gone
		return refuse(syscall.ECONNREFUSED)
	default:
	}
	select {
	case l.queue <- there:
	default:
		return refuse(syscall.ECONNREFUSED)
	}
	h.net.conns[here], h.net.conns[there] = struct{}{}, struct{}{}
	return here, nil
}

// memConn is one end of a connection.
type memConn struct {
	host          *memHost
	peer          *memConn
	in, out       *memPipe
	local, remote memAddr
}

func (c *memConn) Read(b []byte) (int, error)  { return c.in.read(b) }
func (c *memConn) Write(b []byte) (int, error) { return c.out.write(b) }
func (c *memConn) LocalAddr() net.Addr         { return c.local }
func (c *memConn) RemoteAddr() net.Addr        { return c.remote }

// Close ends both directions: the other side reads what was written, and then the end.
func (c *memConn) Close() error {
	c.out.end()
	c.in.stop()
	c.host.net.mu.Lock()
	defer c.host.net.mu.Unlock()
	delete(c.host.net.conns, c)
	return nil
}

func (c *memConn) SetDeadline(t time.Time) error {
	_ = c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

func (c *memConn) SetReadDeadline(t time.Time) error {
	c.in.set(func(p *memPipe) { p.readBy = t })
	return nil
}

func (c *memConn) SetWriteDeadline(t time.Time) error {
	c.out.set(func(p *memPipe) { p.writeBy = t })
	return nil
}

// pipeRoom is what a direction takes before its writer waits for its reader.
const pipeRoom = 256 << 10

// memPipe is one direction of a connection.
type memPipe struct {
	net *memNet
	way way

	mu              sync.Mutex
	changed         chan struct{} // closed and replaced at every change
	chunks          []chunk
	size            int
	last            time.Time // when the newest chunk arrives
	readBy, writeBy time.Time
	ended           bool // the writer has said all
	stopped         bool // the reader has closed: what is written is thrown away
	broken          bool
}

// chunk is what one Write wrote, or the end if there is nothing in it.
type chunk struct {
	data []byte
	at   time.Time
}

func newMemPipe(n *memNet, w way) *memPipe {
	return &memPipe{net: n, way: w, changed: make(chan struct{})}
}

func (p *memPipe) set(f func(*memPipe)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(p)
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *memPipe) breakOff() {
	p.set(func(p *memPipe) {
		if len(p.chunks) > 0 && !p.broken {
			p.net.met.Did(bytesLost)
		}
		p.broken = true
	})
}

func (p *memPipe) stop() { p.set(func(p *memPipe) { p.stopped = true }) }

func (p *memPipe) end() {
	d := p.net.latency(p.way)
	p.set(func(p *memPipe) {
		if !p.ended {
			p.ended = true
			p.put(nil, d)
		}
	})
}

// put appends a chunk, behind what is on its way. p.mu is held.
func (p *memPipe) put(data []byte, d time.Duration) {
	if at := time.Now().Add(d); at.After(p.last) {
		p.last = at
	}
	p.chunks = append(p.chunks, chunk{data, p.last})
	p.size += len(data)
}

func (p *memPipe) write(b []byte) (int, error) {
	d := p.net.latency(p.way)
	for {
		p.mu.Lock()
		changed, by := p.changed, p.writeBy
		switch {
		case p.broken:
			p.mu.Unlock()
			return 0, syscall.ECONNRESET
		case p.ended:
			p.mu.Unlock()
			return 0, net.ErrClosed
		case p.stopped || len(b) == 0:
			p.mu.Unlock()
			return len(b), nil
		case !by.IsZero() && !time.Now().Before(by):
			p.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		case p.size == 0 || p.size+len(b) <= pipeRoom:
			p.put(append([]byte(nil), b...), d)
			close(p.changed)
			p.changed = make(chan struct{})
			p.mu.Unlock()
			return len(b), nil
		}
		p.mu.Unlock()
		pause(changed, nil, by)
	}
}

func (p *memPipe) read(b []byte) (int, error) {
	for {
		cut, mended := p.net.isCut(p.way)
		p.mu.Lock()
		changed, by, now := p.changed, p.readBy, time.Now()
		wakeAt := by
		switch {
		case p.broken:
			p.mu.Unlock()
			return 0, syscall.ECONNRESET
		case p.stopped:
			p.mu.Unlock()
			return 0, net.ErrClosed
		case !by.IsZero() && !now.Before(by):
			p.mu.Unlock()
			return 0, os.ErrDeadlineExceeded
		case cut:
			if len(p.chunks) > 0 {
				p.net.met.Did(bytesHeld)
			}
		case len(p.chunks) == 0:
		case p.chunks[0].at.After(now):
			if at := p.chunks[0].at; by.IsZero() || at.Before(by) {
				wakeAt = at
			}
		default:
			n, err := p.takeLocked(b)
			p.mu.Unlock()
			return n, err
		}
		p.mu.Unlock()
		pause(changed, mended, wakeAt)
	}
}

// takeLocked reads the first chunk, which has arrived. p.mu is held.
func (p *memPipe) takeLocked(b []byte) (int, error) {
	c := &p.chunks[0]
	if len(c.data) == 0 {
		return 0, io.EOF
	}
	n := copy(b, c.data)
	p.size -= n
	if c.data = c.data[n:]; len(c.data) == 0 {
		p.chunks = p.chunks[1:]
	}
	close(p.changed)
	p.changed = make(chan struct{})
	return n, nil
}

// pause waits until something has happened, or a time has come if there is one.
func pause(changed, mended <-chan struct{}, at time.Time) {
	var due <-chan time.Time
	if !at.IsZero() {
		timer := time.NewTimer(time.Until(at))
		defer timer.Stop()
		due = timer.C
	}
	select {
	case <-changed:
	case <-mended:
	case <-due:
	}
}
