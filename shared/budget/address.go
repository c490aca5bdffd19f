package budget

import (
	"hash/maphash"
	"net/netip"
	"time"

	"machineid/shared/clock"
)

// What of an IPv6 address is counted, in bits: a host has a /64, where it has as many addresses as it likes, and a site has a /48, with as many hosts.
const (
	HostBits = 64
	SiteBits = 48
)

// Network is the part of an address that is counted, of IPv4 all of it.
func Network(addr netip.Addr, bits int) netip.Addr {
	if addr.Is6() {
		p, _ := addr.Prefix(bits)
		return p.Addr()
	}
	return addr
}

// siteShare is how many times a host's budget a site has: it has 65,536 hosts for the asking.
const siteShare = 8

// Site is how many places a site may have at once, of all that there are (0: any number), where a host may have some: siteShare times those, but half of all
// at most, or what a host may. Else a site would have what no host may have: all.
func Site(host, all int) int {
	n := siteShare * host
	if all > 0 {
		n = min(n, max(all/2, host))
	}
	return n
}

// Addresses are the budgets of hosts, and beside them of IPv6 sites. Safe for concurrent use; the zero value has no limit.
type Addresses struct {
	seed maphash.Seed // so that nobody can choose with whom to share a place
	host *Table
	site *Table
}

// ByAddress is New for addresses.
func ByAddress(n int, span time.Duration) Addresses {
	return Addresses{maphash.MakeSeed(), New(n, span, Sets), New(n*siteShare, span, Sets)}
}

// Clean is Table.Clean.
func (a Addresses) Clean(times int64) {
	a.host.Clean(times)
	a.site.Clean(times)
}

// Held is Table.Held.
func (a Addresses) Held() int64 { return a.host.Held() + a.site.Held() }

func (a Addresses) tag(addr netip.Addr, bits int) uint64 {
	return maphash.Comparable(a.seed, Network(addr, bits)) | 1
}

// Hold is Table.Hold for an address, unmapped.
func (a Addresses) Hold(addr netip.Addr, now clock.Time) (wait time.Duration, onlyHeld bool) {
	if a.host == nil {
		return 0, false
	}
	wait, onlyHeld = a.host.Hold(a.tag(addr, HostBits), now)
	if wait != 0 || !addr.Is6() {
		return wait, onlyHeld
	}
	if wait, onlyHeld = a.site.Hold(a.tag(addr, SiteBits), now); wait != 0 {
		a.host.Settle(a.tag(addr, HostBits), now, false)
	}
	return wait, onlyHeld
}

// Settle is Table.Settle for an address.
func (a Addresses) Settle(addr netip.Addr, now clock.Time, spend bool) {
	if a.host == nil {
		return
	}
	a.host.Settle(a.tag(addr, HostBits), now, spend)
	if addr.Is6() {
		a.site.Settle(a.tag(addr, SiteBits), now, spend)
	}
}

// Take is Table.Take for an address.
func (a Addresses) Take(addr netip.Addr, now clock.Time) (wait time.Duration) {
	if wait, _ = a.Hold(addr, now); wait == 0 {
		a.Settle(addr, now, true)
	}
	return wait
}
