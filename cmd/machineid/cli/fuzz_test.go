package cli

import (
	"net"
	"net/netip"
	"testing"
)

// FuzzNetwork: a trusted proxy is one address or one network, and never more than was written.
func FuzzNetwork(f *testing.F) {
	for _, s := range []string{"10.0.0.0/8", "10.0.0.7", "::ffff:10.0.0.7", "fe80::1%eth0", "fd00::/8", "10.0.0.7/8", "::ffff:10.0.0.0/104", "0.0.0.0/0", "10.0.0.0/33", "/8", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := network(text)
		if err != nil {
			return
		}
		if !p.IsValid() || p.Addr().Zone() != "" || p.Addr().Is4In6() {
			t.Fatalf("%q is the network %v, which no address is compared with", text, p)
		}
		if addr, err := netip.ParseAddr(text); err == nil {
			if other := addr.WithZone("").Unmap(); !p.Contains(other) || !p.IsSingleIP() {
				t.Fatalf("%q is the network %v", text, p)
			}
		} else if written := netip.MustParsePrefix(text); !p.Contains(written.Addr().Unmap()) {
			t.Fatalf("%q is the network %v", text, p)
		}
	})
}

// FuzzListeners: an address that is listened on without TLS and without --insecure is of this machine only.
func FuzzListeners(f *testing.F) {
	for _, s := range []string{"127.0.0.1:80", "localhost:1", "[::1]:1", ":80", "0.0.0.0:1", "[::ffff:127.0.0.1]:1", "127.1:1", "example.com:1", "[::1%lo]:1", "127.0.0.1"} {
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, one, two string) {
		if faults := checkListeners([]address{{"http", one}, {"ops", two}}, false, ""); len(faults) > 0 {
			return
		}
		for _, text := range []string{one, two} {
			host, port, err := net.SplitHostPort(text)
			ip, ipErr := netip.ParseAddr(host)
			if err != nil || host != "localhost" && (ipErr != nil || !ip.IsLoopback()) {
				t.Fatalf("%q may be listened on", text)
			}
			if one == two && port != "0" {
				t.Fatalf("%q may be listened on twice", text)
			}
		}
	})
}
