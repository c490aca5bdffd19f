package machineid

import (
	"context"
	"errors"
	"net"
	"time"
)

// stagger is how long an address is tried before the next one is tried as well (RFC 8305, section 5).
const stagger = 250 * time.Millisecond

// dialer connects to the first address of a name that answers. net.Dialer gives each the time that is left by itself, and no less than 2 s: one that
// swallows what it is sent would leave nothing for the others. What of the server's side does the same (shared/dial) is not for other people's programs.
type dialer struct {
	lookUp  func(ctx context.Context, host string) ([]string, error)
	connect func(ctx context.Context, network, address string) (net.Conn, error)
}

func newDialer() dialer {
	return dialer{lookUp: net.DefaultResolver.LookupHost, connect: (&net.Dialer{}).DialContext}
}

func (d dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	addresses, err := d.lookUp(ctx, host) // of an address: itself
	switch {
	case err != nil:
		return nil, err
	case len(addresses) == 0:
		return nil, errors.New("there is no address")
	case len(addresses) == 1:
		return d.connect(ctx, network, net.JoinHostPort(addresses[0], port))
	}
	type outcome struct {
		conn net.Conn
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the others
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
	for tried, failed := 0, 0; failed < len(addresses); {
		select {
		case <-next.C:
			if tried < len(addresses) {
				go try(net.JoinHostPort(addresses[tried], port))
				tried++
				next.Reset(stagger)
			}
		case o := <-outcomes:
			if o.err == nil {
				return o.conn, nil
			}
			err = errors.Join(err, o.err)
			failed++
			next.Reset(0)
		case <-ctx.Done():
			return nil, errors.Join(err, ctx.Err())
		}
	}
	return nil, err
}
