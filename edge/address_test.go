package edge

import (
	"net"
	"net/netip"
	"testing"

	"github.com/valyala/fasthttp"
)

// TestWhoAsks: X-Forwarded-For counts from its end, and only as far as trusted
// proxies wrote it.
func TestWhoAsks(t *testing.T) {
	e := &Edge{cfg: Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}}}
	for _, c := range []struct {
		peer  string
		lines []string
		want  string
	}{
		{"192.0.2.1", nil, "192.0.2.1"},
		{"192.0.2.1", []string{"203.0.113.9"}, "192.0.2.1"}, // forged
		{"10.0.0.1", nil, "10.0.0.1"},
		{"::ffff:10.0.0.1", []string{"203.0.113.9"}, "203.0.113.9"},
		{"10.0.0.1", []string{"6.6.6.6, 203.0.113.9"}, "203.0.113.9"},
		{"10.0.0.1", []string{"6.6.6.6", "203.0.113.9,10.0.0.2 , fd00::7"}, "203.0.113.9"},
		{"10.0.0.1", []string{"6.6.6.6", "10.0.0.2"}, "6.6.6.6"},
		{"10.0.0.1", []string{"6.6.6.6, nobody, 10.0.0.2"}, "10.0.0.2"},
		{"10.0.0.1", []string{""}, "10.0.0.1"},
		{"10.0.0.1", []string{"203.0.113.9, ,"}, "203.0.113.9"},
		{"10.0.0.1", []string{"203.0.113.9", "", ", 10.0.0.2,,"}, "203.0.113.9"},
		{"10.0.0.1", []string{"10.0.0.3,10.0.0.2"}, "10.0.0.3"},
		{"fd00::1", []string{"::ffff:203.0.113.9"}, "203.0.113.9"},
	} {
		ctx, req := &fasthttp.RequestCtx{}, &fasthttp.Request{}
		for _, line := range c.lines {
			req.Header.Add("X-Forwarded-For", line)
		}
		ctx.Init(req, &net.TCPAddr{IP: net.ParseIP(c.peer)}, nil)
		if got := e.clientAddress(ctx).String(); got != c.want {
			t.Errorf("%s with %q: %s, want %s", c.peer, c.lines, got, c.want)
		}
	}
	for a, b := range map[string]string{"2001:db8:1:2::1": "2001:db8:1:2:ffff::9", "192.0.2.1": "192.0.2.1"} {
		if limited(netip.MustParseAddr(a)) != limited(netip.MustParseAddr(b)) {
			t.Errorf("%s and %s are counted apart", a, b)
		}
	}
	for a, b := range map[string]string{"2001:db8:1:2::1": "2001:db8:1:3::1", "192.0.2.1": "192.0.2.2"} {
		if limited(netip.MustParseAddr(a)) == limited(netip.MustParseAddr(b)) {
			t.Errorf("%s and %s are counted together", a, b)
		}
	}
}
