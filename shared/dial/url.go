package dial

import (
	"errors"
	"net/url"
	"strconv"
	"strings"
)

// ErrBaseURL says that a text is no base URL.
var ErrBaseURL = errors.New("no base URL")

// BaseURL reads the URL below which a server's paths are. What would be dropped or get in the way of them is refused: a user, a query, a fragment, also
// empty ones; so is a host that is not ASCII, for not every resolver makes the same of it. Slashes at the end of its path are cut off.
func BaseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || strings.ContainsAny(text, "?#") {
		return nil, ErrBaseURL
	}
	host := u.Hostname()
	if host == "" || strings.HasSuffix(u.Host, ":") || strings.ContainsFunc(host, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return nil, ErrBaseURL
	}
	const decimal, bits = 10, 16
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, decimal, bits); err != nil || n == 0 {
			return nil, ErrBaseURL
		}
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), strings.TrimRight(u.RawPath, "/")
	return u, nil
}
