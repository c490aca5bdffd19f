// Package listener makes a net.Listener that goes on whatever Accept says, and that takes no more connections than its share of
// the process's file descriptors. Whoever serves sees an error of Accept only when the listener was closed (I14).
package listener

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"machineid/shared/budget"
)

// Options of a Listener. The zero value has no bounds, no log and no metrics.
type Options struct {
	// Name tells listeners of one process apart in logs, metrics and reasons: the flag of its address.
	Name string
	// Max is the most connections open at once; 0 is any number.
	Max int
	// MaxAddress is the most of one client address, an IPv6 address by its /64; its /48 may have budget.Site of it. 0 is any number. Exempt addresses are not
	// counted: those of proxies, behind which are many clients.
	MaxAddress int
	Exempt     []netip.Prefix
	// Surplus is how many connections beyond a bound are handed out all the same, marked (Surplus), so that their clients can be told
	// why. What comes beyond that is closed at once.
	Surplus int
	// Log takes what an operator should know, at most once a minute of each kind; nil discards it.
	Log *slog.Logger
	// Metrics counts; nil does not.
	Metrics *Metrics
}

// The pauses after an Accept that failed. They double, and begin anew after one that did not fail.
const (
	firstPause = 5 * time.Millisecond
	lastPause  = time.Second
)

// remember is how long Reasons tells of an error or a connection that was refused.
const remember = 10 * time.Second

// tellEvery is how often one kind of trouble is logged.
const tellEvery = time.Minute

// Listener is safe for concurrent use.
type Listener struct {
	net.Listener
	opts   Options
	counts counts
	closed chan struct{}
	once   sync.Once

	failed  trouble // Accept
	refused trouble // connections beyond a bound

	mu   sync.Mutex
	open int
	by   map[netip.Prefix]int // those that are counted by address, of IPv6 by host and by site
}

// New returns a listener over l, which it owns.
func New(l net.Listener, opts Options) *Listener {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	return &Listener{
		Listener: l, opts: opts, counts: opts.Metrics.of(opts.Name), closed: make(chan struct{}), by: map[netip.Prefix]int{},
	}
}

// Accept returns the next connection that is within the bounds, or marked. It fails only once the listener is closed.
func (l *Listener) Accept() (net.Conn, error) {
	for pause := firstPause; ; {
		c, err := l.Listener.Accept()
		switch {
		case err == nil:
			if admitted := l.admit(c); admitted != nil {
				return admitted, nil
			}
			pause = firstPause
			continue
		case l.ended(err):
			return nil, err
		}
		// Out of descriptors or buffers (EMFILE, ENFILE, ENOBUFS), or a client that went away (ECONNABORTED): none of it is the listener's end.
		l.counts.errors.Inc()
		if l.failed.happened() {
			l.opts.Log.Warn("accepting connections fails: it goes on with pauses", slog.String("listener", l.opts.Name), slog.Any("error", err))
		}
		select {
		case <-l.closed:
		case <-time.After(pause):
		}
		pause = min(2*pause, lastPause)
	}
}

// ended tells whether an error means that the listener is closed.
func (l *Listener) ended(err error) bool {
	select {
	case <-l.closed:
		return true
	default:
		return errors.Is(err, net.ErrClosed)
	}
}

// Close ends Accept.
func (l *Listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// Reasons says what has gone wrong lately, for readiness; nothing if all is well.
func (l *Listener) Reasons() (why []string) {
	if l.failed.lately() {
		why = append(why, l.opts.Name+": connections cannot be accepted; is the process out of file descriptors (LimitNOFILE, ulimit -n)?")
	}
	if l.refused.lately() {
		why = append(why, l.opts.Name+": connections are refused, for as many as are allowed are open, in all or of one address")
	}
	return why
}

// admit counts a connection, or closes it and returns nil.
func (l *Listener) admit(c net.Conn) net.Conn {
	addr, counted := l.party(c)
	var nets []netip.Prefix
	if counted {
		nets = networks(addr)
	}
	l.mu.Lock()
	over := max(beyond(l.open, l.opts.Max), 0)
	cause := l.counts.full
	for _, n := range nets {
		bound := l.opts.MaxAddress
		if n.Bits() == budget.SiteBits {
			bound = budget.Site(bound, l.opts.Max)
		}
		if more := beyond(l.by[n], bound); more > over {
			over, cause = more, l.counts.address
		}
	}
	admitted := over <= l.opts.Surplus
	if admitted {
		l.open++
		for _, n := range nets {
			l.by[n]++
		}
	}
	l.mu.Unlock()
	if over > 0 {
		cause.Inc()
		if l.refused.happened() {
			l.opts.Log.Warn("connections are refused: as many as are allowed are open", slog.String("listener", l.opts.Name), slog.String("address", addr.String()))
		}
	}
	if !admitted {
		_ = c.Close() // nothing was said on it
		return nil
	}
	l.counts.open.Inc()
	return &Conn{Conn: c, l: l, surplus: over > 0, nets: nets}
}

// beyond is how far one more passes a bound.
func beyond(open, bound int) int {
	if bound <= 0 {
		return 0
	}
	return open + 1 - bound
}

// party is the address that a connection counts for, and whether it does.
func (l *Listener) party(c net.Conn) (addr netip.Addr, counted bool) {
	if l.opts.MaxAddress <= 0 {
		return addr, false
	}
	tcp, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return addr, false
	}
	addr = tcp.AddrPort().Addr().Unmap().WithZone("")
	if slices.ContainsFunc(l.opts.Exempt, func(p netip.Prefix) bool { return p.Contains(addr) }) {
		return addr, false
	}
	return addr, true
}

// networks are what an address counts for: of IPv4 itself, of IPv6 its host and its site.
func networks(addr netip.Addr) []netip.Prefix {
	if addr.Is4() {
		return []netip.Prefix{netip.PrefixFrom(addr, addr.BitLen())}
	}
	return []netip.Prefix{netip.PrefixFrom(addr, budget.HostBits).Masked(), netip.PrefixFrom(addr, budget.SiteBits).Masked()}
}

// Conn is a connection that its listener counts until it is closed.
type Conn struct {
	net.Conn
	l       *Listener
	nets    []netip.Prefix // that it counts for
	surplus bool
	once    atomic.Bool
}

// Surplus tells that the connection is beyond a bound: its client is to be told so, and it is to be closed soon.
func (c *Conn) Surplus() bool { return c.surplus }

// NetConn is the connection under this one.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// Close closes the connection, and makes room for another.
func (c *Conn) Close() error {
	err := c.Conn.Close()
	if c.once.Swap(true) {
		return err
	}
	l := c.l
	l.counts.open.Dec()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	for _, n := range c.nets {
		if l.by[n]--; l.by[n] == 0 {
			delete(l.by, n)
		}
	}
	return err
}

// trouble is one kind of it: when it was last, and when it was last told of.
type trouble struct {
	mu         sync.Mutex
	last, told time.Time
}

// happened notes one, and reports whether it is to be told of.
func (t *trouble) happened() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = time.Now()
	if !t.told.IsZero() && t.last.Sub(t.told) < tellEvery {
		return false
	}
	t.told = t.last
	return true
}

func (t *trouble) lately() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.last.IsZero() && time.Since(t.last) < remember
}

// Metrics are those of all listeners of a process; nil counts nothing anybody sees.
type Metrics struct {
	open    *prometheus.GaugeVec
	errors  *prometheus.CounterVec
	refused *prometheus.CounterVec
}

// counts are the metrics of one listener.
type counts struct {
	open                  prometheus.Gauge
	errors, full, address prometheus.Counter
}

// NewMetrics registers the metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "machineid_connections", Help: "Connections open now, by listener.",
		}, []string{"listener"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "machineid_accept_errors_total", Help: "Times at which a connection could not be accepted, by listener.",
		}, []string{"listener"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "machineid_connections_refused_total", Help: "Connections refused because as many as are allowed were open, in all (full) or of one address (address).",
		}, []string{"listener", "cause"}),
	}
	if reg != nil {
		reg.MustRegister(m.open, m.errors, m.refused)
	}
	return m
}

func (m *Metrics) of(name string) counts {
	if m == nil {
		m = NewMetrics(nil)
	}
	return counts{
		open: m.open.WithLabelValues(name), errors: m.errors.WithLabelValues(name),
		full: m.refused.WithLabelValues(name, "full"), address: m.refused.WithLabelValues(name, "address"),
	}
}
