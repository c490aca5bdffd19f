package edge

import (
	"net/netip"
	"slices"

	"github.com/valyala/fasthttp"
)

// clientAddress is who asked, without the port: the peer, or, if that is a trusted
// proxy, who the proxies say it was, in X-Forwarded-For or in Forwarded. Either is read from its end, which
// the nearest proxy wrote, to the first address that is no trusted proxy: what
// stands before it anybody may have written. At what is no address it stops, with
// the last proxy that told so. A proxy writes one of the two, and the other may be the client's: if they do not agree neither is believed.
func (e *Edge) clientAddress(ctx *fasthttp.RequestCtx) netip.Addr {
	peer, _ := netip.AddrFromSlice(ctx.RemoteIP())
	if peer = peer.Unmap(); !e.trusts(peer) {
		return peer
	}
	h := &ctx.Request.Header
	plain := h.PeekAll("X-Forwarded-For") // good until the next PeekAll
	said, one := e.throughProxies(peer, plain, nodes), len(plain) > 0
	if standard := h.PeekAll("Forwarded"); len(standard) > 0 {
		also := e.throughProxies(peer, standard, forwarded)
		if one && also != said {
			return peer
		}
		said = also
	}
	return said
}

// throughProxies follows what proxies wrote, from the last line's end, for as long as they are trusted.
func (e *Edge) throughProxies(addr netip.Addr, lines [][]byte, cut func(line []byte) (list [][]byte, ok bool)) netip.Addr {
	for _, line := range slices.Backward(lines) {
		list, ok := cut(line)
		if !ok {
			return addr
		}
		for _, node := range slices.Backward(list) {
			next, ok := forwardedFor(node)
			if !ok {
				return addr
			}
			if addr = next; !e.trusts(addr) {
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
