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
}

// TestHowGatewaysWrite: whoever forwards, as the gateways there are write it, each client is itself.
func TestHowGatewaysWrite(t *testing.T) {
	e := &Edge{cfg: Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}}}
	const x, fwd = "X-Forwarded-For", "Forwarded"
	for _, c := range []struct {
		headers [][2]string
		want    string
	}{
		{[][2]string{{x, "203.0.113.9:51234"}}, "203.0.113.9"},
		{[][2]string{{x, "[2001:db8::9]:51234"}}, "2001:db8::9"},
		{[][2]string{{x, "[2001:db8::9]"}}, "2001:db8::9"},
		{[][2]string{{x, "2001:db8::9"}}, "2001:db8::9"},
		{[][2]string{{x, "2001:db8::9%eth0"}}, "2001:db8::9"},
		{[][2]string{{x, "::ffff:203.0.113.9"}}, "203.0.113.9"},
		{[][2]string{{x, "[::ffff:203.0.113.9]:80"}}, "203.0.113.9"},
		{[][2]string{{x, `"203.0.113.9"`}}, "203.0.113.9"},
		{[][2]string{{x, `"[2001:db8::9]:4711"`}}, "2001:db8::9"},
		{[][2]string{{x, "6.6.6.6,203.0.113.9:1,10.0.0.2:2"}}, "203.0.113.9"},
		{[][2]string{{x, "203.0.113.9,"}}, "203.0.113.9"},
		{[][2]string{{x, "203.0.113.9, , 10.0.0.2, "}}, "203.0.113.9"},
		{[][2]string{{x, "203.0.113.9"}, {x, ""}}, "203.0.113.9"},
		{[][2]string{{x, "6.6.6.6"}, {x, "203.0.113.9:5"}, {x, "10.0.0.2, fd00::7"}}, "203.0.113.9"},
		{[][2]string{{x, "[fd00::8]:1, [2001:db8::9]:2, [fd00::7]:3"}}, "2001:db8::9"},
		{[][2]string{{x, "unknown"}}, "10.0.0.1"},
		{[][2]string{{x, "6.6.6.6, unknown, 10.0.0.2"}}, "10.0.0.2"},
		{[][2]string{{x, "6.6.6.6, _hidden"}}, "10.0.0.1"},
		{[][2]string{{x, "203.0.113.9:_p"}}, "203.0.113.9"},
		{[][2]string{{x, "203.0.113.9:x"}}, "10.0.0.1"},
		{[][2]string{{x, "203.0.113.9:1:2"}}, "10.0.0.1"},
		{[][2]string{{x, "[2001:db8::9"}}, "10.0.0.1"},
		{[][2]string{{x, "[2001:db8::9]5"}}, "10.0.0.1"},
		{[][2]string{{x, "203.0.113"}}, "10.0.0.1"},

		{[][2]string{{fwd, "for=203.0.113.9"}}, "203.0.113.9"},
		{[][2]string{{fwd, "For=203.0.113.9;proto=https;by=10.0.0.1"}}, "203.0.113.9"},
		{[][2]string{{fwd, `proto=https; for="203.0.113.9:47011" ;host="a,b;c=\"d\""`}}, "203.0.113.9"},
		{[][2]string{{fwd, `for="[2001:db8::9]:4711"`}}, "2001:db8::9"},
		{[][2]string{{fwd, `FOR="[2001:db8::9]"`}}, "2001:db8::9"},
		{[][2]string{{fwd, `for="[2001:db8::9]:_port"`}}, "2001:db8::9"},
		{[][2]string{{fwd, "for=6.6.6.6, for=203.0.113.9,for=10.0.0.2"}}, "203.0.113.9"},
		{[][2]string{{fwd, "for=203.0.113.9, , "}}, "203.0.113.9"},
		{[][2]string{{fwd, "for=6.6.6.6"}, {fwd, "for=203.0.113.9"}, {fwd, `for="[fd00::7]"`}}, "203.0.113.9"},
		{[][2]string{{fwd, "for=6.6.6.6, for=unknown"}}, "10.0.0.1"},
		{[][2]string{{fwd, "for=6.6.6.6, for=_hidden, for=10.0.0.2"}}, "10.0.0.2"},
		{[][2]string{{fwd, "for=6.6.6.6, proto=https"}}, "10.0.0.1"},
		{[][2]string{{fwd, "for=6.6.6.6;for=7.7.7.7"}}, "10.0.0.1"},
		{[][2]string{{fwd, `for="6.6.6.6, for=203.0.113.9`}}, "10.0.0.1"},
		{[][2]string{{fwd, "203.0.113.9"}}, "10.0.0.1"},
		{[][2]string{{fwd, ""}}, "10.0.0.1"},

		{[][2]string{{x, "203.0.113.9:1"}, {fwd, "for=203.0.113.9"}}, "203.0.113.9"},
		{[][2]string{{x, "203.0.113.9"}, {fwd, "for=6.6.6.6"}}, "10.0.0.1"}, // one of them is the client's
	} {
		ctx, req := &fasthttp.RequestCtx{}, &fasthttp.Request{}
		for _, h := range c.headers {
			req.Header.Add(h[0], h[1])
		}
		ctx.Init(req, &net.TCPAddr{IP: net.ParseIP("10.0.0.1")}, nil)
		if got := e.clientAddress(ctx).String(); got != c.want {
			t.Errorf("%q: %s, want %s", c.headers, got, c.want)
		}
	}
}
