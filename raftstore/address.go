package raftstore

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
)

// CheckAddress refuses what cannot be the address at which others reach a node: host:port with a host that can be dialled and a port from 1 to
// 65535. An address that listens everywhere (0.0.0.0, [::]) is none that can be dialled.
func CheckAddress(addr string) error {
	const longestHost, ports, bits = 253, 10, 16
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is no host:port address", addr)
	}
	if n, err := strconv.ParseUint(port, ports, bits); err != nil || n == 0 {
		return fmt.Errorf("%q has the port %q: it must be a number from 1 to 65535", addr, port)
	}
	switch ip, err := netip.ParseAddr(host); {
	case host == "":
		return fmt.Errorf("%q names no host: others cannot dial it", addr)
	case len(host) > longestHost:
		return errors.New("the host's name is longer than 253 characters")
	case err == nil && ip.IsUnspecified():
		return fmt.Errorf("%q stands for every address of a host: others cannot dial it", addr)
	}
	return nil
}
