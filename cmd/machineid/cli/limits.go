package cli

import (
	"fmt"
	"net/netip"

	"github.com/spf13/pflag"

	"machineid/edge"
)

// limitFlags are an edge's rate limits, and whom it believes who it is that asks.
type limitFlags struct {
	on      bool
	values  edge.Limits
	proxies []string
}

// limitMax is the largest value of a limit.
const limitMax = 1_000_000

// named are the limits by their flags.
func (l *limitFlags) named() []struct {
	flag, usage string
	value       *int
} {
	return []struct {
		flag, usage string
		value       *int
	}{
		{"limit-changes", "changes a second that a key may make; 0: any number", &l.values.Changes},
		{"limit-reads", "reads a second that a key may make of the authority; 0: any number", &l.values.Reads},
		{"limit-failed-keys", "calls a second with keys that fail that an address may make; 0: any number", &l.values.FailedKeys},
		{"limit-signups", "org/create a minute that an address may call; 0: any number", &l.values.Signups},
		{"limit-recoveries", "org/recover and org/recover/confirm a minute that an address may call; 0: any number", &l.values.Recoveries},
		{"limit-webhooks", "webhooks a second that fail which an address may send; 0: any number", &l.values.Webhooks},
		{"limit-unknown-keys", "keys a second that nobody knows about which the authority is asked; 0: any number", &l.values.UnknownKeys},
		{"limit-unknown-keys-address", "the same by address; 0: any number", &l.values.UnknownKeysAddress},
		{"limit-unknown-devices", "devices a second that nobody knows about which the authority is asked, by key; 0: any number", &l.values.UnknownDevices},
	}
}

func (l *limitFlags) register(fs *pflag.FlagSet) {
	fs.BoolVar(&l.on, "limits", true, "keep to the rate limits; false: no limit at all")
	l.values = edge.DefaultLimits()
	for _, n := range l.named() {
		fs.IntVar(n.value, n.flag, *n.value, n.usage)
	}
	fs.StringSliceVar(&l.proxies, "trusted-proxies", nil, "`NETWORKS` of proxies that are believed what X-Forwarded-For says, with commas between them")
}

func (l *limitFlags) validate() (faults []error) {
	for _, n := range l.named() {
		if *n.value < 0 || *n.value > limitMax {
			faults = append(faults, fmt.Errorf("--%s: %d is out of range; choose 0 (no limit) to %d", n.flag, *n.value, limitMax))
		}
	}
	for _, text := range l.proxies {
		if _, err := network(text); err != nil {
			faults = append(faults, fmt.Errorf("--trusted-proxies: %q is no network and no address; write for example 10.0.0.0/8 or 10.0.0.7", text))
		}
	}
	return faults
}

// limits are the values in force.
func (l *limitFlags) limits() edge.Limits {
	if !l.on {
		return edge.Limits{}
	}
	return l.values
}

// trusted are the networks, which validate has judged.
func (l *limitFlags) trusted() (list []netip.Prefix) {
	for _, text := range l.proxies {
		if p, err := network(text); err == nil {
			list = append(list, p)
		}
	}
	return list
}

// mappedBits is how long the part of IPv4-mapped addresses is that all of them have (RFC 4291, 2.5.5.2).
const mappedBits = 96

// network reads a network, or an address as a network of one. Addresses are compared unmapped, so a network of mapped ones is one of IPv4.
func network(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		addr = addr.WithZone("").Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err == nil && p.Addr().Is4In6() {
		return p.Addr().Unmap().Prefix(p.Bits() - mappedBits)
	}
	return p, err
}
