package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"

	"machineid/shared/listener"
	"machineid/shared/wire"
)

// connectionFlags bound what the clients of a server can take of its process.
type connectionFlags struct {
	most, address int
	bodies        byteSize
}

// leastBodies lets one batch of the largest size come from somebody whom nobody knows, who gets a quarter.
const leastBodies = 8 << 20

func (c *connectionFlags) register(fs *pflag.FlagSet) {
	c.bodies = wire.DefaultBodyRoom
	fs.IntVar(&c.most, "max-connections", 0, "how many connections --http takes at once; 0: as many as the limit of file descriptors leaves room for")
	fs.IntVar(&c.address, "max-connections-address", 0, "how many of them may be of one address; 0: half")
	fs.Var(&c.bodies, "body-memory", "the `SIZE` that large bodies and answers which are on their way may take in all")
}

func (c *connectionFlags) validate(room int) (faults []error) {
	if c.most < 0 || c.most > room {
		faults = append(faults, fmt.Errorf("--max-connections: %d is out of range; the limit of %d file descriptors leaves room for %d: choose 1 to that, or 0 for all of it, or raise the limit (LimitNOFILE, ulimit -n)",
			c.most, listener.Descriptors(), room))
	}
	if c.address < 0 {
		faults = append(faults, fmt.Errorf("--max-connections-address: %d is out of range; choose 1 or more, or 0 for half of --max-connections", c.address))
	}
	if c.bodies < leastBodies {
		least := byteSize(leastBodies)
		faults = append(faults, fmt.Errorf("--body-memory: %s is out of range; choose %s or more", &c.bodies, &least))
	}
	return faults
}

// shares are flags of which one, for each address, is a part of the other.
var shares = map[string]string{
	"max-connections-address": "max-connections", "max-edges-per-address": "max-edges", "limit-unknown-keys-address": "limit-unknown-keys",
}

// checkShares refuses a part that is more than its whole, where both are given: it would bound nothing. 0 has a meaning of its own.
func checkShares(fs *pflag.FlagSet) error {
	var faults []error
	fs.Visit(func(f *pflag.Flag) {
		whole := fs.Lookup(shares[f.Name])
		if whole == nil || !whole.Changed {
			return
		}
		part, err := strconv.Atoi(f.Value.String())
		all, allErr := strconv.Atoi(whole.Value.String())
		if err == nil && allErr == nil && all > 0 && part > all {
			faults = append(faults, fmt.Errorf("--%s: %d is more than all of them, %d (--%s): choose at most that", f.Name, part, all, whole.Name))
		}
	})
	return errors.Join(faults...)
}

// http bounds the listener that anybody reaches. room is what the descriptors leave for it.
func (c *connectionFlags) http(room int, exempt []netip.Prefix) listener.Options {
	surplus := listener.Share(room, 1, 16, 4, 1024) // those are told why
	most := room - surplus
	if c.most > 0 {
		most = min(c.most, most)
	}
	address := (most + 1) / 2
	if c.address > 0 {
		address = c.address
	}
	return listener.Options{Max: most, MaxAddress: address, Exempt: exempt, Surplus: surplus}
}

// edgeShares is what each part of an edge gets of n file descriptors: a third is for what must go on whoever connects. The link is a few.
type edgeShares struct{ http, ops, proxy int }

func shareEdge(n int) edgeShares {
	return edgeShares{
		http:  min(n-listener.Share(n, 1, 3, 16, 8192), fasthttpMost),
		proxy: listener.Share(n, 1, 8, 8, 4096),
		ops:   listener.Share(n, 1, 16, 4, 256),
	}
}

// authorityShares is the same of an authority node. files is for each of the two databases. Calls that are handed on to the leader take a connection
// more each; what is left is for the log, and for connections to the other nodes.
type authorityShares struct{ http, link, raft, ops, files int }

func shareAuthority(n int) authorityShares {
	return authorityShares{
		http:  min(n/4, fasthttpMost),
		link:  listener.Share(n, 1, 6, 8, math.MaxInt),
		files: listener.Share(n, 1, 10, 16, 1000),
		raft:  listener.Share(n, 1, 16, 16, 512),
		ops:   listener.Share(n, 1, 32, 4, 256),
	}
}

// serve gives each of a node's addresses its bounds: of HTTP, link, Raft and ops.
func (s authorityShares) serve(list []address, http listener.Options) []served {
	return []served{
		{list[0], http},
		{list[1], fairly(s.link)},
		{list[2], fairly(s.raft)},
		{list[3], fairly(s.ops)},
	}
}

// fairly leaves others half, whatever one address does.
func fairly(most int) listener.Options {
	return listener.Options{Max: most, MaxAddress: (most + 1) / 2}
}

// fasthttpMost is how many connections the server of HTTP takes at most.
const fasthttpMost = 256 << 10

// served is an address to listen on, with the bounds of what is accepted there.
type served struct {
	address

	bounds listener.Options
}

// counted has listeners count with a process's metrics.
func counted(reg prometheus.Registerer, list ...served) []served {
	m := listener.NewMetrics(reg)
	for i := range list {
		list[i].bounds.Metrics = m
	}
	return list
}

// listening are the listeners of a process. None of them ends because of an Accept that failed (I14).
type listening []*listener.Listener

// listenAll opens all listeners or none.
func listenAll(ctx context.Context, list []served, log *slog.Logger) (listening, error) {
	var (
		faults []error
		open   listening
		config net.ListenConfig
	)
	for _, s := range list {
		l, err := config.Listen(ctx, "tcp", s.value)
		if err != nil {
			faults = append(faults, fmt.Errorf("listen on %s (--%s): %w", s.value, s.flag, err))
			continue
		}
		s.bounds.Name, s.bounds.Log = s.flag, log
		open = append(open, listener.New(l, s.bounds))
	}
	if len(faults) > 0 {
		open.close()
		return nil, errors.Join(faults...)
	}
	return open, nil
}

func (ls listening) close() {
	for _, l := range ls {
		_ = l.Close()
	}
}

// notes adds what the listeners say to what else is noted beside readiness.
func (ls listening) notes(more func() []string) func() []string {
	return func() []string {
		why := more()
		for _, l := range ls {
			why = append(why, l.Reasons()...)
		}
		return why
	}
}

// addresses lists the addresses of listeners, in order.
func (ls listening) addresses() []string {
	at := make([]string, len(ls))
	for i, l := range ls {
		at[i] = l.Addr().String()
	}
	return at
}
