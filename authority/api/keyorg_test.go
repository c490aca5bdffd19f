package api_test

import (
	"encoding/hex"
	"testing"

	"machineid/shared/wire"
)

// TestAnEdgeIsToldWhoseKeyItIs, with success and with each refusal behind the key's check; nobody else is told, nor is anything said of other credentials (I14).
func TestAnEdgeIsToldWhoseKeyItIs(t *testing.T) {
	n := start(t)
	o, other := n.org(), n.org()
	const edge, guess, forged = wire.EdgeHeader + ": " + edgeToken, wire.EdgeHeader + ": guess", wire.KeyOrgHeader + ": 00112233445566778899aabbccddeeff"
	const stranger = "org_000000000000000000000000000000000000000000000000"
	of := func(o *org) string { return hex.EncodeToString(o.id[:]) }
	for name, c := range map[string]struct {
		method, path, body string
		headers            []string
		status             int
		want               string
	}{
		"a change":                 {"POST", "devices/register", device("d"), []string{edge, "x-org-key: " + o.agent}, 200, of(o)},
		"a read":                   {"GET", "usage", "", []string{edge, "x-org-key: " + o.admin, forged}, 200, of(o)},
		"a long read":              {"GET", "org/export", "", []string{edge, "x-org-key: " + o.admin}, 200, of(o)},
		"another org's":            {"GET", "usage", "", []string{edge, "x-org-key: " + other.admin}, 200, of(other)},
		"a scope that falls short": {"GET", "org/keys", "", []string{edge, "x-org-key: " + o.agent}, 403, of(o)},
		"a device that is not":     {"POST", "devices/revoke", device("none"), []string{edge, "x-org-key: " + o.admin}, 404, of(o)},
		"a key that nobody has":    {"GET", "usage", "", []string{edge, "x-org-key: " + stranger}, 401, ""},
		"a key beside no check":    {"POST", "org/create", "{}", []string{edge, "x-org-key: " + o.admin, "Authorization: Bearer " + operatorToken}, 200, ""},
		"an operator's":            {"GET", "usage", "", []string{edge, "Authorization: Bearer " + operatorToken, "X-MachineID-Org: " + o.id.String()}, 200, ""},
		"no edge":                  {"GET", "usage", "", []string{"x-org-key: " + o.admin, forged}, 200, ""},
		"an edge that is none":     {"GET", "usage", "", []string{guess, "x-org-key: " + o.admin}, 200, ""},
		"two edges":                {"GET", "usage", "", []string{edge, edge, "x-org-key: " + o.admin}, 200, ""},
	} {
		a := n.do(c.method, c.path, c.body, c.headers...)
		if got := a.Header.Get(wire.KeyOrgHeader); a.StatusCode != c.status || got != c.want {
			t.Errorf("%s: HTTP %d, org %q, want %d and %q: %s", name, a.StatusCode, got, c.status, c.want, a.raw)
		}
	}
}
