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
	if one, two := flood("2001:db8:1"), flood("2001:db8:2"); one != 16 || two != one {
		t.Errorf("%d and %d uses of two sites, want 16 each", one, two)
	}
	for range 2 {
		if a.Take(netip.MustParseAddr("192.0.2.1"), now) != 0 {
			t.Error("an address of IPv4 pays for others")
		}
	}
	one := netip.MustParseAddr("2001:db8:3::1")
	a.Hold(one, now)
	if a.Held() != 2 {
		t.Errorf("%d are held, want the host's and the site's", a.Held())
	}
	a.Settle(one, now, false)
	if a.Held() != 0 {
		t.Errorf("%d are held", a.Held())
	}
	var none Addresses
	if wait, onlyHeld := none.Hold(netip.MustParseAddr("2001:db8::1"), now); wait != 0 || onlyHeld {
		t.Error("without a limit there is one")
	}
	none.Settle(netip.MustParseAddr("2001:db8::1"), now, true)
	none.Clean(3)
}

// TestAHostIsCounted: one host has its own budget and not its site's, and what it was refused costs its site nothing.
func TestAHostIsCounted(t *testing.T) {
	for _, text := range []string{"2001:db8::1", "192.0.2.1"} {
		a, now, addr := ByAddress(2, time.Hour), clock.Time(time.Hour), netip.MustParseAddr(text)
		for n, want := range []time.Duration{0, 0, 30 * time.Minute, 30 * time.Minute} {
			if wait := a.Take(addr, now); wait != want {
				t.Errorf("%s, use %d: wait %v, want %v", text, n, wait, want)
			}
		}
		if a.Held() != 0 {
			t.Errorf("%s: %d are held", text, a.Held())
		}
	}
}

// TestCleanAddresses: a host that has nothing spent may hold more, and so may a site.
func TestCleanAddresses(t *testing.T) {
	a, now := ByAddress(2, time.Hour), clock.Time(time.Hour)
	a.Clean(9)
	held := func(addr string) (n int) {
		for range 1000 {
			if wait, _ := a.Hold(netip.MustParseAddr(addr), now); wait == 0 {
				n++
			}
		}
		return n
	}
	if n := held("2001:db8::1"); n != 2+9*2 {
		t.Errorf("a clean host holds %d", n)
	}
	for i := range 20 {
		held(fmt.Sprintf("2001:db8:0:%x::1", i))
	}
	if n := a.site.Held(); n != 16+9*16 {
		t.Errorf("a clean site holds %d", n)
	}
}

// TestSite: what a site may have, beside a host and all.
func TestSite(t *testing.T) {
	for _, c := range []struct{ host, all, want int }{
		{10, 0, 80}, {10, 1000, 80}, {10, 160, 80}, {10, 158, 79}, {10, 100, 50}, {10, 20, 10}, {10, 15, 10}, {10, 1, 10}, {0, 100, 0},
	} {
		if n := Site(c.host, c.all); n != c.want {
			t.Errorf("a host may have %d of %d, a site %d; want %d", c.host, c.all, n, c.want)
		}
	}
}
