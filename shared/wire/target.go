package wire

import (
	"bytes"
	"net/netip"
)

// validHost judges the value of Host: a host that is not empty, and an optional port (RFC 9110, 7.2; RFC 3986, 3.2.2 and 3.2.3). There is no user
// information in it.
func validHost(host []byte) bool {
	if len(host) > 0 && host[0] == '[' {
		end := bytes.IndexByte(host, ']')
		if end < 0 {
			return false
		}
		ip, err := netip.ParseAddr(string(host[1:end]))
		return err == nil && ip.Is6() && ip.Zone() == "" && validPort(host[end+1:])
	}
	name, port := host, []byte(nil)
	if i := bytes.IndexByte(host, ':'); i >= 0 {
		name, port = host[:i], host[i:]
	}
	for i := range name {
		switch c := name[i]; {
		case c == '%':
			if i+2 >= len(name) || unhex[name[i+1]]|unhex[name[i+2]] > 15 {
				return false
			}
		case !unreserved(c) && bytes.IndexByte([]byte("!$&'()*+,;="), c) < 0:
			return false
		}
	}
	return len(name) > 0 && validPort(port)
}

// validPort judges what follows a host: nothing, or a colon and digits, of which there may be none.
func validPort(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	return b[0] == ':' && len(bytes.Trim(b[1:], "0123456789")) == 0
}

// validTarget judges the form of a request's target (RFC 9112, 3.2). User information in an absolute one is refused (RFC 9110, 4.2.4), since it makes
// another host look like this one; so is an empty host (4.2.1).
func validTarget(method, target []byte) bool {
	switch {
	case len(target) > 0 && target[0] == '/':
		return true
	case string(method) == "OPTIONS" && string(target) == "*":
		return true
	case string(method) == "CONNECT":
		return validHost(target)
	}
	_, rest, ok := bytes.Cut(target, []byte("://"))
	if !ok {
		return false
	}
	if i := bytes.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	return validHost(rest)
}
