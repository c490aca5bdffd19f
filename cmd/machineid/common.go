package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"machineid/authority/hub"
	"machineid/raftstore"
)

// timeFlags are the leader's times, which edges are told.
type timeFlags struct {
	lease, ttl time.Duration
	bound      float64
}

func (t *timeFlags) register(fs *pflag.FlagSet) {
	fs.DurationVar(&t.lease, "lease", 3*time.Second, "how long an edge may answer from memory after it last heard from the leader, 1s to 5s")
	fs.DurationVar(&t.ttl, "cache-ttl", time.Minute, "how long an edge keeps an entry, 1s to 1h")
	fs.Float64Var(&t.bound, "clock-bound", 0.01, "how far any clock's rate may be off true time, up to 0.1")
}

// checkVersion judges --default-version.
func checkVersion(version uint32) (faults []error) {
	if version != 1 && version != 2 {
		faults = append(faults, fmt.Errorf("--default-version: %d is no API generation; choose 1 or 2", version))
	}
	return faults
}

// shortLeaseEnv lets tests use leases that are too short for real networks.
const shortLeaseEnv = "MACHINEID_TEST_SHORT_LEASE"

func (t *timeFlags) validate(env environment) (faults []error) {
	least := time.Second
	if env.get(shortLeaseEnv) != "" {
		least = 10 * time.Millisecond
	}
	if t.lease < least || t.lease > 5*time.Second {
		faults = append(faults, fmt.Errorf("--lease: %v is out of range; choose %v to 5s", t.lease, least))
	}
	if t.ttl < time.Second || t.ttl > time.Hour {
		faults = append(faults, fmt.Errorf("--cache-ttl: %v is out of range; choose 1s to 1h", t.ttl))
	}
	if !(t.bound >= 0 && t.bound <= 0.1) {
		faults = append(faults, fmt.Errorf("--clock-bound: %v is out of range; choose 0 to 0.1", t.bound))
	}
	return faults
}

func (t *timeFlags) times() hub.Times {
	return hub.Times{Lease: t.lease, CacheTTL: t.ttl, Bound: t.bound}
}

// address is one address a command listens on or dials.
type address struct{ flag, value string }

// checkListeners finds addresses that cannot be listened on, that are given
// twice, or that others could reach without TLS.
func checkListeners(list []address, insecure bool) (faults []error) {
	seen := map[string]string{}
	for _, a := range list {
		host, port, err := net.SplitHostPort(a.value)
		if err != nil {
			faults = append(faults, fmt.Errorf("--%s: %q is no host:port address", a.flag, a.value))
			continue
		}
		if other := seen[a.value]; other != "" && port != "0" {
			faults = append(faults, fmt.Errorf("--%s: %s is the address of --%s too; give each its own", a.flag, a.value, other))
		}
		seen[a.value] = a.flag
		if !insecure && !isLoopback(host) {
			faults = append(faults, fmt.Errorf("--%s: %s is not a loopback address, and there is no TLS yet; "+
				"listen on 127.0.0.1, or add --insecure if only trusted hosts can reach it", a.flag, a.value))
		}
	}
	return faults
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// checkAdvertised requires an address that others can dial for each listener. A listener's port may be 0: then it is known when it listens.
func checkAdvertised(listen, advertise address) (faults []error) {
	if advertise.value != "" {
		if err := raftstore.CheckAddress(advertise.value); err != nil {
			faults = append(faults, fmt.Errorf("--%s: %w", advertise.flag, err))
		}
		return faults
	}
	host, _, err := net.SplitHostPort(listen.value)
	if err != nil {
		return faults // checkListeners says so
	}
	if ip, err := netip.ParseAddr(host); host == "" || (err == nil && ip.IsUnspecified()) {
		faults = append(faults, fmt.Errorf("--%s: %s is no address that others can dial; set --%s", listen.flag, listen.value, advertise.flag))
	}
	return faults
}

// listenAll opens all listeners or none.
func listenAll(ctx context.Context, list []address) ([]net.Listener, error) {
	var (
		faults []error
		open   []net.Listener
		config net.ListenConfig
	)
	for _, a := range list {
		l, err := config.Listen(ctx, "tcp", a.value)
		if err != nil {
			faults = append(faults, fmt.Errorf("listen on %s (--%s): %w", a.value, a.flag, err))
			continue
		}
		open = append(open, l)
	}
	if len(faults) > 0 {
		for _, l := range open {
			_ = l.Close()
		}
		return nil, errors.Join(faults...)
	}
	return open, nil
}

// insecureNote is what a start-up line says of a server without TLS.
func insecureNote(insecure bool) string {
	if insecure {
		return " UNAUTHENTICATED: no TLS (--insecure); anyone who can reach these addresses can speak for an edge or a node"
	}
	return ""
}

// readSecret reads a secret from a file: its first line, without the space around it.
func readSecret(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", err //nolint:wrapcheck // the caller names the flag
	}
	return strings.TrimSpace(string(b)), nil
}

// waitReady waits until nothing speaks against readiness.
func waitReady(ctx context.Context, ready func() []string) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		if len(ready()) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// addresses lists the addresses of listeners, in order.
func addresses(list []net.Listener) []string {
	at := make([]string, len(list))
	for i, l := range list {
		at[i] = l.Addr().String()
	}
	return at
}

// contextAfter returns a context that ends when its stop is called, and no
// sooner: what must outlive another part's end runs under it.
func contextAfter(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithCancel(context.WithoutCancel(ctx))
}
