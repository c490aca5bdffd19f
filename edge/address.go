package edge

import (
	"bytes"
	"net/netip"
	"slices"

	"github.com/valyala/fasthttp"
)

// clientAddress is who asked, without the port: the peer, or, if that is a trusted
// proxy, who the proxies say it was. X-Forwarded-For is read from its end, which
// the nearest proxy wrote, to the first address that is no trusted proxy: what
// stands before it anybody may have written. At what is no address it stops, with
// the last proxy that told so.
func (e *Edge) clientAddress(ctx *fasthttp.RequestCtx) netip.Addr {
	addr, _ := netip.AddrFromSlice(ctx.RemoteIP())
	addr = addr.Unmap()
	if !e.trusts(addr) {
		return addr
	}
	for _, line := range slices.Backward(ctx.Request.Header.PeekAll("X-Forwarded-For")) {
		for rest, more := line, true; more; {
			var one []byte
			if cut := bytes.LastIndexByte(rest, ','); cut >= 0 {
				rest, one = rest[:cut], rest[cut+1:]
			} else {
				one, more = rest, false
			}
			if one = bytes.TrimSpace(one); len(one) == 0 { // an empty element of a list says nothing (RFC 9110, 5.6.1)
				continue
			}
			next, err := netip.ParseAddr(string(one))
			if err != nil {
				return addr
			}
			if addr = next.WithZone("").Unmap(); !e.trusts(addr) {
				return addr
			}
		}
	}
	return addr
}

func (e *Edge) trusts(addr netip.Addr) bool {
	for _, p := range e.cfg.TrustedProxies {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// limited is the part of an address that limits count: IPv6 by /64, for one host
// has as many as it likes there.
func limited(addr netip.Addr) netip.Addr {
	if addr.Is6() {
		p, _ := addr.Prefix(64)
		return p.Addr()
	}
	return addr
}
