// Package dial opens TCP connections so that no address takes the time of the others: a name may stand for several, and behind some of them may be
// nobody who even refuses.
package dial

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

const (
	// stagger is how long an address is tried before the next one is tried as well (RFC 8305, section 5).
	stagger = 250 * time.Millisecond
	// most bounds a dial, its look-up of the name included, whatever time its caller has.
	most = 5 * time.Second
)

// TCP connects to "host:port" in 5 s at most, or less if ctx ends sooner. Of several addresses that a name stands for, it tries the next one as soon as one
// fails, or does not answer for 250 ms, beside those that it tries already; the first that answers is taken. Every error is a *net.OpError whose Op is
// "dial", so nothing was sent. It is safe for concurrent use.
func TCP(ctx context.Context, address string) (net.Conn, error) {
	return system.dial(ctx, "tcp", address)
}

// Context is TCP as net/http and others take it. network is "tcp", "tcp4" or "tcp6".
func Context(ctx context.Context, network, address string) (net.Conn, error) {
	return system.dial(ctx, network, address)
}

// dialer is what of the system a dial needs.
type dialer struct {
	lookUp  func(ctx context.Context, network, host string) ([]netip.Addr, error)
	connect func(ctx context.Context, network, address string) (net.Conn, error)
}

var system = dialer{
	lookUp: func(ctx context.Context, network, host string) ([]netip.Addr, error) {
		return net.DefaultResolver.LookupNetIP(ctx, network, host)
	},
	connect: (&net.Dialer{}).DialContext,
}

func (d dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	addresses, err := d.addresses(ctx, network, address)
	if err != nil {
		return nil, failed(network, fmt.Errorf("look up %s: %w", address, err))
	}
	if len(addresses) == 1 {
		return d.connect(ctx, network, addresses[0])
	}
	return d.race(ctx, network, addresses)
}

// addresses are those that a name stands for, families in turn (RFC 8305, section 4).
func (d dialer) addresses(ctx context.Context, network, address string) ([]string, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(host); err == nil || host == "" {
		return []string{address}, nil
	}
	found, err := d.lookUp(ctx, strings.Replace(network, "tcp", "ip", 1), host)
	if err != nil {
		return nil, err
	}
	var first, second []string // in the system's order, the first one's family before the other
	for _, ip := range found {
		ip = ip.Unmap()
		joined := net.JoinHostPort(ip.String(), port)
		if ip.Is4() == found[0].Unmap().Is4() {
			first = append(first, joined)
		} else {
			second = append(second, joined)
		}
	}
	out := make([]string, 0, len(found))
	for i := range max(len(first), len(second)) {
		out = append(append(out, first[min(i, len(first)):min(i+1, len(first))]...), second[min(i, len(second)):min(i+1, len(second))]...)
	}
	if len(out) == 0 {
		return nil, errors.New("there is no address")
	}
	return out, nil
}

// race tries the addresses, each a moment after the one before. ctx must be cancelled when it returns, which ends the others.
func (d dialer) race(ctx context.Context, network string, addresses []string) (net.Conn, error) {
	type outcome struct {
		conn net.Conn
		err  error
	}
	outcomes := make(chan outcome)
	try := func(address string) {
		conn, err := d.connect(ctx, network, address)
		select {
		case outcomes <- outcome{conn, err}:
		case <-ctx.Done():
			if conn != nil {
				_ = conn.Close() // another one was taken
			}
		}
	}
	next := time.NewTimer(0)
	defer next.Stop()
	var errs addressErrors
	for tried := 0; len(errs) < len(addresses); {
		select {
		case <-next.C:
			if tried < len(addresses) {
				go try(addresses[tried])
				tried++
				next.Reset(stagger)
			}
		case o := <-outcomes:
			if o.err == nil {
				return o.conn, nil
			}
			errs = append(errs, o.err)
			next.Reset(0)
		case <-ctx.Done():
			return nil, failed(network, append(errs, ctx.Err()))
		}
	}
	return nil, failed(network, errs)
}

func failed(network string, err error) error { return &net.OpError{Op: "dial", Net: network, Err: err} }

// addressErrors is what came of all addresses.
type addressErrors []error

func (l addressErrors) Error() string {
	said := make([]string, len(l))
	for i, err := range l {
		said[i] = err.Error()
	}
	return strings.Join(said, "; ")
}

// Unwrap has errors.Is and errors.As find each.
func (l addressErrors) Unwrap() []error { return l }

// Timeout reports whether time ran out for one of them: it might have answered later.
func (l addressErrors) Timeout() bool {
	for _, err := range l {
		var timed interface{ Timeout() bool }
		if errors.As(err, &timed) && timed.Timeout() {
			return true
		}
	}
	return false
}
