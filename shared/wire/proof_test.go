package wire

import (
	"fmt"
	"testing"
)

// TestWhatAnswersProve: a success proves what the table says of its route, a refusal only what was judged before it.
func TestWhatAnswersProve(t *testing.T) {
	code := func(c string) string { return fmt.Sprintf(`{"error":%q}`, c) }
	key, token, none := Match([]byte(Base+"usage")), Match([]byte(Base+"operator/orgs")), Match([]byte(Base+"org/recover"))
	for _, c := range []struct {
		route  *Route
		status int
		body   string
		token  bool
		want   Verdict
	}{
		{key, 200, `{}`, false, Good},
		{key, 202, `{}`, true, Good},
		{key, 401, code("invalid_org_key"), false, Bad},
		{key, 401, code("invalid_operator_token"), true, Bad},
		{key, 404, code("org_not_found"), false, Bad},
		{key, 404, code("org_not_found"), true, Good},
		{key, 404, code("device_not_found"), false, Good},
		{key, 404, code("not_found"), false, Unjudged}, // of an authority that does not know the route
		{key, 403, code("insufficient_scope"), false, Good},
		{key, 403, code("signup_closed"), false, Unjudged},
		{key, 403, ``, false, Unjudged},
		{key, 409, code("refused"), false, Good},
		{key, 400, code("missing_params"), false, Unjudged},
		{key, 429, code("rate_limited"), false, Unjudged},
		{key, 503, code("system_unavailable"), false, Unjudged},
		{key, 302, ``, false, Unjudged},
		{token, 200, `{}`, true, Good},
		{token, 200, `{}`, false, Unjudged}, // a key beside it, which nobody looked at
		{token, 404, code("member_not_found"), true, Good},
		{token, 404, code("not_found"), true, Unjudged},
		{token, 409, code("refused"), true, Unjudged}, // of a node that has no cluster
		{token, 409, code("other_store"), true, Good},
		{token, 401, ``, true, Bad},
		{none, 202, `{}`, false, Unjudged},
		{none, 202, `{}`, true, Unjudged},
		{none, 401, code("invalid_token"), false, Unjudged},
		{none, 404, code("org_not_found"), false, Unjudged},
	} {
		if got := c.route.Judges(c.status, []byte(c.body), c.token); got != c.want {
			t.Errorf("%s, %d %s, token %t: %d, want %d", c.route.Path, c.status, c.body, c.token, got, c.want)
		}
	}
	for _, r := range Routes() {
		if r.Operator != (r.Proves == ProvesToken) {
			t.Errorf("%s: an operator's call proves the token, and no other does", r.Path)
		}
		if (r.Validate || r.Decides) && r.Proves != ProvesNothing {
			t.Errorf("%s: a decision is a success whatever the key is", r.Path)
		}
	}
	if (&Route{Path: "new"}).Judges(200, nil, true) != Unjudged {
		t.Error("a route of which nothing is said proves something")
	}
}
