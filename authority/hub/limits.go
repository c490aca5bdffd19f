package hub

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"machineid/shared/budget"
)

// Limits bound how many edges there may be, so that whoever reaches the link cannot take the memory or the place of the others (I14). Zeros are the defaults.
type Limits struct {
	// Edges is how many sessions there may be, those that broke and whose lease runs on counted. Default DefaultEdges.
	Edges int
	// PerAddress is how many of them may be from one address, of IPv6 a /64; a /48 may have budget.Site of it. Default DefaultEdgesPerAddress.
	PerAddress int
}

// Defaults of Limits.
const (
	DefaultEdges           = 16 << 10
	DefaultEdgesPerAddress = 2 << 10
)

func (l Limits) withDefaults() Limits {
	if l.Edges == 0 {
		l.Edges = DefaultEdges
	}
	if l.PerAddress == 0 {
		l.PerAddress = min(DefaultEdgesPerAddress, l.Edges)
	}
	return l
}

// ofSites are the limits of a site, where l are those of a host.
func (l Limits) ofSites() Limits {
	l.PerAddress = budget.Site(l.PerAddress, l.Edges)
	return l
}

// hellos is how often the edges of an address may begin a session: all of them twice at once, as when a leader goes, and then an eighth of them a second.
func (l Limits) hellos() meter {
	return meter{room: true, burst: 2 * l.PerAddress, every: max(8*time.Second/time.Duration(l.PerAddress), 1)}
}

// spare is how many connections there may be for each session: one is the edge's, another may be dead and not known to be.
const spare = 2

// hostOf is an address without its port, of IPv6 its /64, for one host has as many as it likes there; or all of it.
func hostOf(address string) string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	addr, err := netip.ParseAddr(host)
	if addr = addr.Unmap().WithZone(""); err != nil || addr.Is4() {
		return host
	}
	return netip.PrefixFrom(addr, budget.HostBits).Masked().String()
}

// siteOf is the /48 of a host that is a /64: who has one has 65,536 of those. Of any other host it is the host.
func siteOf(host string) string {
	p, err := netip.ParsePrefix(host)
	if err != nil {
		return host
	}
	return netip.PrefixFrom(p.Addr(), budget.SiteBits).Masked().String()
}

// tally counts what hosts have, and beside it what their sites have.
type tally map[string]int

// room tells whether a host may have one more, of all that there may be.
func (t tally) room(host string, perHost, all int) bool {
	site := siteOf(host)
	return t[host] < perHost && (site == host || t[site] < budget.Site(perHost, all))
}

// add counts n more, or fewer if it is below zero.
func (t tally) add(host string, n int) {
	names := []string{host, siteOf(host)}
	if names[0] == names[1] {
		names = names[:1]
	}
	for _, name := range names {
		if t[name] += n; t[name] == 0 {
			delete(t, name)
		}
	}
}

// Listen bounds the connections of a listener for the link: beyond Limits they are closed as they come.
func (h *Hub) Listen(l net.Listener) net.Listener { return &listener{Listener: l, hub: h} }

// conns are the connections of edges. Safe for concurrent use.
type conns struct {
	mu   sync.Mutex
	at   map[string]net.Conn // by the address of the edge's end
	from tally               // how many
}

// enter takes a connection, if there is room for it.
func (c *conns) enter(conn net.Conn, address string, l Limits) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	host := hostOf(address)
	if len(c.at) >= spare*l.Edges || !c.from.room(host, spare*l.PerAddress, spare*l.Edges) {
		return false
	}
	if c.at == nil {
		c.at, c.from = map[string]net.Conn{}, tally{}
	}
	c.at[address] = conn
	c.from.add(host, 1)
	return true
}

func (c *conns) leave(address string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.at, address)
	c.from.add(hostOf(address), -1)
}

// find returns a connection, nil if there is none.
func (c *conns) find(address string) net.Conn {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at[address]
}

// cut closes a connection. gRPC would keep what was to be sent on it for as long as the other end does not read, also for a stream that is over.
func (c *conns) cut(address string) {
	if conn := c.find(address); conn != nil {
		_ = conn.Close()
	}
}

// cutSoon is cut, behind what is told before.
func (c *conns) cutSoon(address string) {
	if conn := c.find(address); conn != nil {
		time.AfterFunc(goodbyeTime, func() { _ = conn.Close() })
	}
}

type listener struct {
	net.Listener
	hub *Hub
}

// Accept returns the next connection that there is room for.
func (l *listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		address := ""
		if a := c.RemoteAddr(); a != nil {
			address = a.String()
		}
		if l.hub.conns.enter(c, address, l.hub.cfg.Limits) {
			return &counted{Conn: c, leave: sync.OnceFunc(func() { l.hub.conns.leave(address) })}, nil
		}
		l.hub.metrics.refused[refusedConnection].Inc()
		_ = c.Close()
	}
}

// counted is a connection that has a place.
type counted struct {
	net.Conn
	leave func()
}

// Close closes the connection, and gives its place back.
func (c *counted) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
