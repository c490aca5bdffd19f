package load

import (
	"crypto/tls"
	"fmt"
	"net"

	"machineid/shared/dial"
)

// Target is an address that takes calls: an edge, or an authority node.
type Target struct {
	URL  string // as it is shown: scheme and host
	addr string // what is dialled
	host string // what is sent as Host
	tls  *tls.Config
}

// ParseTarget reads a base URL such as http://127.0.0.1:8080.
func ParseTarget(text string) (*Target, error) {
	u, err := dial.BaseURL(text)
	if err != nil || u.Path != "" {
		return nil, fmt.Errorf("%q is no URL such as http://127.0.0.1:8080, of a scheme, a host and a port alone", text)
	}
	t := &Target{URL: u.Scheme + "://" + u.Host, addr: u.Host, host: u.Host}
	if u.Port() == "" {
		t.addr = net.JoinHostPort(u.Hostname(), map[string]string{"http": "80", "https": "443"}[u.Scheme])
	}
	if u.Scheme == "https" {
		t.tls = &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	}
	return t, nil
}
