package edge

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
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
	f, _, _ := limitedFront(t, okAnswer, Limits{})
	f.e.cfg.ProxyOperator = true
	const ofKey, ofToken = "X-Org-Key: %[1]s\r\n", "Authorization: Bearer %[2]s\r\n"
	const forOrg = "X-MachineID-Org: o\r\n"
	shown := []struct {
		what, head string
		token      bool // is what counts
		by         []wire.Proof
	}{
		{"a key", ofKey, false, []wire.Proof{wire.ProvesKey}},
		{"a token for an org", forOrg + ofToken, true, []wire.Proof{wire.ProvesKey, wire.ProvesToken}},
		{"a token", ofToken, true, []wire.Proof{wire.ProvesToken}},
		{"a token beside a key", ofKey + forOrg + ofToken, true, []wire.Proof{wire.ProvesToken}},
	}
	for _, r := range wire.Routes() {
		if r.Validate || r.Decides || r.Stream {
			continue // not passed on
		}
		for _, m := range methods(r) {
			for _, c := range shown {
				key, token := randomKey(t), rand.Text()
				head := strings.NewReplacer("%[1]s", key.Reveal(), "%[2]s", token).Replace(c.head)
				if status, _, _ := f.raw(request(m, r, head)); status != http.StatusOK {
					t.Fatalf("%s %s: %d", m, r.Path, status)
				}
				of := key.Hash()
				if c.token {
					of = sha256.Sum256([]byte("Bearer " + token))
				}
				if got, want := f.e.limits.isProven(&of), slices.Contains(c.by, r.Proves); got != want {
					t.Errorf("%s %s with %s: proven %t, want %t", m, r.Path, c.what, got, want)
				}
			}
		}
	}
}

// TestStrangersAreLimited: whatever is passed on for those who prove nothing has a limit of their address, also where the authority answers with success.
func TestStrangersAreLimited(t *testing.T) {
	const refused = "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
	mine := keyOf(1)
	for answer, succeeds := range map[string]bool{okAnswer: true, refused: false} {
		f, u, _ := limitedFront(t, answer, Limits{FailedKeys: 3, Signups: 3, Recoveries: 3, Webhooks: 3})
		f.e.cfg.ProxyOperator, f.e.cfg.TrustedProxies = true, []netip.Prefix{netip.MustParsePrefix("0.0.0.0/32")}
		f.e.limits.prove(new(mine.Hash()), true, orgID{}) // is of no use where nobody looks at it
		for n, r := range wire.Routes() {
			anybodys := r.Proves == wire.ProvesNothing && r.Path != "webhooks/stripe" // one that is signed is Stripe's
			if r.Validate || r.Decides || r.Stream || succeeds && !anybodys {
				continue
			}
			before, _ := u.seen()
			for i := range 5 {
				head := fmt.Sprintf("X-Forwarded-For: 192.0.2.%d\r\n", n)
				switch {
				case r.Proves == wire.ProvesNothing:
					head += "X-Org-Key: " + mine.Reveal() + "\r\n"
				case i%2 == 0:
					head += "X-Org-Key: " + randomKey(t).Reveal() + "\r\n"
				}
				f.raw(request(methods(r)[0], r, head))
			}
			if after, _ := u.seen(); len(after)-len(before) != 3 {
				t.Errorf("%s: %d calls of a stranger reached the authority, want 3", r.Path, len(after)-len(before))
			}
		}
	}
}
