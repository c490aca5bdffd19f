package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/pflag"

	"machineid/authority/hub"
	"machineid/raftstore"
	"machineid/shared/place"
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

// beInsecure is the way out for those who have the flag.
const beInsecure = ", or add --insecure if only trusted hosts can reach it"

// checkListeners finds addresses that cannot be listened on, that are given
// twice, or that others could reach without TLS. wayOut is what can be done besides.
func checkListeners(list []address, insecure bool, wayOut string) (faults []error) {
	seen := map[string]string{}
	for _, a := range list {
		host, port, _ := net.SplitHostPort(a.value) // judged in the next line
		if err := checkListener(a.value); err != nil {
			faults = append(faults, fmt.Errorf("--%s: %w", a.flag, err))
			continue
		}
		if other := seen[a.value]; other != "" && port != "0" {
			faults = append(faults, fmt.Errorf("--%s: %s is the address of --%s too; give each its own", a.flag, a.value, other))
		}
		seen[a.value] = a.flag
		if !insecure && !isLoopback(host) {
			faults = append(faults, fmt.Errorf("--%s: %s is not a loopback address, and there is no TLS yet; "+
				"listen on 127.0.0.1%s", a.flag, a.value, wayOut))
		}
	}
	return faults
}

// checkListener is raftstore.CheckAddress for an address to listen on, which may also be every address of the host, and port 0 for any that is free.
func checkListener(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is no host:port address", addr)
	}
	switch ip, err := netip.ParseAddr(host); {
	case (err == nil && ip.Is6()) != (addr[0] == '['):
		port = ""
	case host == "", err == nil && ip.IsUnspecified():
		host = "localhost"
	}
	if port == "0" {
		port = "1"
	}
	if raftstore.CheckAddress(net.JoinHostPort(host, port)) != nil {
		return fmt.Errorf("%q is no address to listen on: give a host's address or name and a port, or 0 for any that is free", addr)
	}
	return nil
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

// insecureNote is what a start-up line says of a server without TLS.
func insecureNote(insecure bool) string {
	if insecure {
		return " UNAUTHENTICATED: no TLS (--insecure); anyone who can reach these addresses can speak for an edge or a node"
	}
	return ""
}

// readSecret reads a secret from a file of one line, or a pipe, without the space around it.
func readSecret(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	if kind := info.Mode().Type(); kind != 0 && kind != fs.ModeNamedPipe {
		return "", fmt.Errorf("%s is neither a file nor a pipe", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(io.LimitReader(f, secretMost+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	if len(b) > secretMost {
		return "", fmt.Errorf("%s is no secret: it has more than %d bytes", path, secretMost)
	}
	secret, err := cleanSecret(string(b))
	if err != nil {
		return "", fmt.Errorf("%s %w", path, err)
	}
	return secret, nil
}

// unwritable says of a path that was tried before anything else was done that nothing can be written there.
func unwritable(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("cannot be written: %w; name a path that can", err)
}

// checkData tries whether a node can keep its state in a folder.
func checkData(data string) error {
	if data == "" {
		return nil // that is said of it
	}
	if err := unwritable(place.CheckFolder(data)); err != nil {
		return fmt.Errorf("--data: %w", err)
	}
	return nil
}

// secretMost is the most that is read of a secret's file, in bytes.
const secretMost = 64 << 10

// readableByAll reports whether everybody on this machine can read a file; false if that is not known.
func readableByAll(path string) bool {
	info, err := os.Stat(path)
	return err == nil && runtime.GOOS != "windows" && info.Mode().IsRegular() && info.Mode()&0o004 != 0
}

// warnReadable says so of a secret's file, on stderr.
func warnReadable(w io.Writer, path string) {
	if readableByAll(path) {
		printf(w, "warning: everybody on this machine can read the secret in %s: chmod o-r %[1]s\n", path)
	}
}

// cleanSecret takes the space around a secret away: files and mounted variables end with a line's end. What is left has one line, and no
// byte order mark, which some editors put before it.
func cleanSecret(text string) (string, error) {
	text = strings.TrimSpace(text)
	if !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return "", errors.New("holds more than one line, or characters that nobody sees: it must hold the secret alone, in UTF-8")
	}
	return text, nil
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

// contextAfter returns a context that ends when its stop is called, and no
// sooner: what must outlive another part's end runs under it.
func contextAfter(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithCancel(context.WithoutCancel(ctx))
}
