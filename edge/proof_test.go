package edge

import (
	"crypto/sha256"
	"net/http"
	"strings"
	"testing"

	"machineid/shared/wire"
)

// methods are those that a route serves.
func methods(r *wire.Route) (list []string) {
	for _, m := range []string{"GET", "POST", "PUT", "PATCH", "DELETE"} {
		if r.Allows([]byte(m)) {
			list = append(list, m)
		}
	}
	return list
}

// request is a call of a route with these header lines.
func request(method string, r *wire.Route, head string) string {
	return method + " /api/v1/" + strings.Replace(r.Path, "*", "a", 1) + " HTTP/1.1\r\nHost: x\r\n" + head + "Content-Length: 2\r\n\r\n{}"
}

// TestOnlyWhatProvesCounts: of every route that is passed on, a success proves what the table says and no more: neither a key nor a token that came with a call whose
// answer does not depend on it. Nor does its body have the room of those who are known.
func TestOnlyWhatProvesCounts(t *testing.T) {
	key := keyOf(1)
	ofKey := key.Hash()
	token := credential(sha256.Sum256([]byte("Bearer guess")))
	shown := []struct {
		what, head string
		of         credential
		by         []wire.Proof
	}{
		{"a key", "X-Org-Key: " + key.Reveal() + "\r\n", ofKey, []wire.Proof{wire.ProvesKey}},
		{"a token for an org", "X-MachineID-Org: o\r\nAuthorization: Bearer guess\r\n", token, []wire.Proof{wire.ProvesKey, wire.ProvesToken}},
		{"a token", "Authorization: Bearer guess\r\n", token, []wire.Proof{wire.ProvesToken}},
		{"a token beside a key", "X-Org-Key: " + key.Reveal() + "\r\nX-MachineID-Org: o\r\nAuthorization: Bearer guess\r\n", token, []wire.Proof{wire.ProvesToken}},
	}
	for _, r := range wire.Routes() {
		if r.Validate || r.Decides || r.Stream {
			continue // not passed on
		}
		for _, m := range methods(r) {
			for _, c := range shown {
				f, _, _ := limitedFront(t, okAnswer, DefaultLimits())
				f.e.cfg.ProxyOperator = true
				if status, _, _ := f.raw(request(m, r, c.head)); status != http.StatusOK {
					t.Fatalf("%s %s: %d", m, r.Path, status)
				}
				want := false
				for _, by := range c.by {
					want = want || r.Proves == by
				}
				if got := f.e.limits.isProven(&c.of); got != want {
					t.Errorf("%s %s with %s: proven %t, want %t", m, r.Path, c.what, got, want)
				}
			}
		}
	}
}

// TestStrangersAreLimited: whatever is passed on for those who prove nothing has a limit of their address, also where the authority answers with success.
func TestStrangersAreLimited(t *testing.T) {
	const refused = "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
	for _, r := range wire.Routes() {
		if r.Validate || r.Decides || r.Stream {
			continue
		}
		answer := okAnswer
		if r.Proves != wire.ProvesNothing || r.Path == "webhooks/stripe" { // a webhook that is signed is Stripe's
			answer = refused
		}
		f, u, _ := limitedFront(t, answer, Limits{FailedKeys: 3, Signups: 3, Recoveries: 3, Webhooks: 3})
		f.e.cfg.ProxyOperator = true
		mine := keyOf(1).Hash()
		f.e.limits.prove(&mine, true) // is of no use where nobody looks at it
		for i := range 20 {
			head := ""
			switch {
			case r.Proves == wire.ProvesNothing:
				head = "X-Org-Key: " + keyOf(1).Reveal() + "\r\n"
			case i%2 == 0:
				head = "X-Org-Key: " + randomKey(t).Reveal() + "\r\n"
			}
			f.raw(request(methods(r)[0], r, head))
		}
		if heads, _ := u.seen(); len(heads) != 3 {
			t.Errorf("%s: %d calls of a stranger reached the authority, want 3", r.Path, len(heads))
		}
	}
}
