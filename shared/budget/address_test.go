package budget

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"machineid/shared/clock"
)

func TestNetwork(t *testing.T) {
	for _, c := range []struct {
		a, b       string
		host, site bool // is the same
	}{
		{"2001:db8:1:2::1", "2001:db8:1:2:ffff::9", true, true},
		{"2001:db8:1:2::1", "2001:db8:1:3::1", false, true},
		{"2001:db8:1:2::1", "2001:db8:2:2::1", false, false},
		{"192.0.2.1", "192.0.2.1", true, true},
		{"192.0.2.1", "192.0.2.2", false, false},
	} {
		a, b := netip.MustParseAddr(c.a), netip.MustParseAddr(c.b)
		if host, site := Network(a, HostBits) == Network(b, HostBits), Network(a, SiteBits) == Network(b, SiteBits); host != c.host || site != c.site {
			t.Errorf("%s and %s: the same host %t, the same site %t", a, b, host, site)
		}
	}
}

// TestASiteIsCounted: the hosts of an IPv6 /48 have eight budgets together, and another site has its own.
func TestASiteIsCounted(t *testing.T) {
	a, now := ByAddress(2, time.Hour), clock.Time(time.Hour)
	flood := func(site string) (n int) {
		for i := range 100 {
			for a.Take(netip.MustParseAddr(fmt.Sprintf("%s:%x::1", site, i)), now) == 0 {
				n++
			}
		}
		return n
	}
	if one, two := flood("2001:db8:1"), flood("2001:db8:2"); one != 2*siteShare || two != one {
		t.Errorf("%d and %d uses of two sites, want %d each", one, two, 2*siteShare)
	}
	for range 2 {
		if a.Take(netip.MustParseAddr("192.0.2.1"), now) != 0 {
			t.Error("an address of IPv4 pays for others")
		}
	}
	if a.Held() != 0 {
		t.Errorf("%d are held", a.Held())
	}
	var none Addresses
	if none.Take(netip.MustParseAddr("2001:db8::1"), now) != 0 {
		t.Error("without a limit there is one")
	}
}
