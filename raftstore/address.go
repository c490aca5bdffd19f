package raftstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/raft"
)

// advertised is where others reach this node for Raft, as it was started.
func (s *Store) advertised() raft.ServerAddress {
	switch {
	case s.cfg.Transport != nil:
		return s.cfg.Transport.LocalAddr()
	case s.cfg.Advertise != "":
		return raft.ServerAddress(s.cfg.Advertise)
	default:
		return raft.ServerAddress(s.cfg.Listener.Addr().String())
	}
}

// addressReason compares where this node is reached with where the members look for it. A node that they cannot find can still vote, and lead:
// what it calls answers. So nobody notices before it has to be called.
func (s *Store) addressReason() error {
	r := s.door.raft.Load()
	if r == nil {
		return nil // it is being started, and tells of memberships meanwhile
	}
	conf := r.GetConfiguration() // the newest in the log: what is applied may be behind it after a crash
	if conf.Error() != nil {
		return nil //nolint:nilerr // nothing to compare with; raft reports it elsewhere
	}
	member, ok := membership{servers: conf.Configuration().Servers}.find(s.cfg.ID)
	own := s.advertised()
	if !ok || member.ID != s.life().server() || member.Address == own {
		return nil
	}
	return fmt.Errorf("address: this node is reached at %s, as it was started, and the members look for it at %s: start it with the old address, or, if the "+
		"new one is to stay, 'machineid cluster readdress %s %s'", own, member.Address, s.cfg.ID, own)
}

// membersChanged is told of each membership that is applied. It must not block.
func (s *Store) membersChanged() {
	if s.mux != nil {
		s.mux.sweepSoon()
	}
	s.aside.do(s.tellAddress)
}

// tellAddress logs what addressReason says, once until it says something else.
func (s *Store) tellAddress() {
	said := ""
	if err := s.addressReason(); err != nil {
		said = err.Error()
	}
	if before := s.addressSaid.Swap(&said); said != "" && (before == nil || *before != said) {
		s.cfg.Logger.Warn("this node's address is not the one that it has as a member", slog.String("cause", said))
	}
}

// keepAddress gives the only member the address that it was started with: nobody else has to find it, and whoever joins is told the new one.
func (s *Store) keepAddress(ctx context.Context) {
	own := s.advertised()
	conf, err := s.fsm.configuration().decode()
	if err != nil || len(conf.Servers) != 1 || conf.Servers[0].ID != s.life().server() || conf.Servers[0].Address == own {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, max(s.cfg.RPCTimeout, time.Second))
	defer cancel()
	if err := s.Readdress(ctx, s.cfg.ID, string(own)); err != nil {
		s.cfg.Logger.Warn("this node's new address is not kept yet", slog.Any("cause", err))
		return
	}
	s.cfg.Logger.Info("the only member has another address", slog.String("was", string(conf.Servers[0].Address)), slog.String("is", string(own)))
}

// CheckAddress refuses what cannot be the address at which others reach a node: host:port with a host that can be dialled and a port from 1 to
// 65535. An address that listens everywhere (0.0.0.0, [::]) is none that can be dialled. Brackets are for IPv6 and for nothing else.
func CheckAddress(addr string) error {
	const longestHost, ports, bits = 253, 10, 16
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is no host:port address", addr)
	}
	if n, err := strconv.ParseUint(port, ports, bits); err != nil || n == 0 || port[0] == '0' {
		return fmt.Errorf("%q has the port %q: it must be a number from 1 to 65535", addr, port)
	}
	switch ip, err := netip.ParseAddr(host); {
	case host == "":
		return fmt.Errorf("%q names no host: others cannot dial it", addr)
	case len(host) > longestHost:
		return errors.New("the host's name is longer than 253 characters")
	case err == nil && ip.Unmap().IsUnspecified():
		return fmt.Errorf("%q stands for every address of a host: others cannot dial it", addr)
	case err == nil && ip.Is6() == (addr[0] == '['):
		return nil
	case err == nil || addr[0] == '[' || !isHostName(host):
		return fmt.Errorf("%q names no host: it must be an address, or a name of letters, digits, hyphens, underscores and dots (that of another script in its form that begins with xn--)", addr)
	}
	return nil
}

// isHostName tells whether a host that is no address is a name. One whose last part is a number is not: some resolvers read 010.1 as an address, others
// do not (RFC 1123, 2.1).
func isHostName(host string) bool {
	const longestLabel = 63
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	for _, label := range labels {
		if label == "" || len(label) > longestLabel || strings.Trim(strings.ToLower(label), "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			return false
		}
	}
	last := strings.ToLower(labels[len(labels)-1])
	return strings.Trim(last, "0123456789") != "" && !strings.HasPrefix(last, "0x")
}
