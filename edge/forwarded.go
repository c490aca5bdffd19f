package edge

import (
	"bytes"
	"net/netip"
	"strings"
)

// What proxies write of whom they forward a request for, as the gateways there are write it: X-Forwarded-For, which no standard defines, and Forwarded (RFC 7239).

// forwardedFor reads one node of either header: an address, of IPv6 also in brackets, with or without a port, with or without quotes. ok is false for what is
// no address: `unknown`, a name that hides one (`_x`), and what nobody can read.
func forwardedFor(node []byte) (addr netip.Addr, ok bool) {
	s := strings.TrimSpace(string(node))
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		s = strings.TrimSpace(s[1 : len(s)-1])
	}
	port := ""
	if strings.HasPrefix(s, "[") {
		var closed bool
		if s, port, closed = strings.Cut(s[1:], "]"); !closed || port != "" && port[0] != ':' {
			return netip.Addr{}, false
		}
		port = strings.TrimPrefix(port, ":")
	} else if strings.Count(s, ":") == 1 { // with more it is IPv6, and has no port outside of brackets
		s, port, _ = strings.Cut(s, ":")
	}
	addr, err := netip.ParseAddr(s)
	if err != nil || strings.Trim(port, "0123456789") != "" && !hidden(port) {
		return netip.Addr{}, false
	}
	return addr.WithZone("").Unmap(), true
}

// hidden tells whether a text stands in the place of a port or a name that is not told (RFC 7239, 6.3).
func hidden(s string) bool {
	return strings.HasPrefix(s, "_") && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == ""
}

// nodes cuts a line of X-Forwarded-For at its commas. Empty items are none. It can be read whatever it is.
func nodes(line []byte) (list [][]byte, ok bool) {
	for item := range bytes.SplitSeq(line, []byte{','}) {
		if len(bytes.TrimSpace(item)) > 0 {
			list = append(list, item)
		}
	}
	return list, true
}

// forwarded cuts a line of Forwarded into the nodes of its elements. An element without one, or with two, has the node nil. ok is false if the line cannot be read:
// what stands at its end may then be a part of what stood at its beginning, which anybody may have written.
func forwarded(line []byte) (list [][]byte, ok bool) {
	element, found := []byte(nil), 0
	empty := true
	end := func() {
		if found != 1 {
			element = nil
		}
		if !empty {
			list = append(list, element)
		}
		element, found, empty = nil, 0, true
	}
	for len(line) > 0 {
		switch line[0] {
		case ',':
			end()
			line = line[1:]
			continue
		case ';', ' ', '\t':
			line = line[1:]
			continue
		}
		at := bytes.IndexAny(line, "=,;\"")
		if at <= 0 || line[at] != '=' {
			return nil, false
		}
		name := bytes.TrimSpace(line[:at])
		value, rest, ok := forwardedValue(line[at+1:])
		if !ok {
			return nil, false
		}
		empty = false
		if bytes.EqualFold(name, []byte("for")) {
			element, found = value, found+1
		}
		line = rest
	}
	end()
	return list, true
}

// forwardedValue takes a token or a quoted string from the beginning of what follows an equals sign.
func forwardedValue(s []byte) (value, rest []byte, ok bool) {
	if len(s) == 0 || s[0] != '"' {
		at := bytes.IndexAny(s, ",;")
		if at < 0 {
			at = len(s)
		}
		return s[:at], s[at:], bytes.IndexByte(s[:at], '"') < 0
	}
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			if i++; i == len(s) {
				return nil, nil, false
			}
			value = append(value, s[i])
		case '"':
			rest = bytes.TrimLeft(s[i+1:], " \t")
			return value, rest, len(rest) == 0 || rest[0] == ',' || rest[0] == ';'
		default:
			value = append(value, s[i])
		}
	}
	return nil, nil, false
}
