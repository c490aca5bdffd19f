package api_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"machineid/authority/billing/stripetest"
	"machineid/internal/testkit/bubble"
)

// TestStripeHangs: however slow Stripe is, whoever wants to pay is answered before known clients give up (10 s), validate is not behind it, and
// a webhook that was not answered in time is taken when it comes again. In virtual time.
func TestStripeHangs(t *testing.T) {
	for name, c := range map[string]struct {
		each time.Duration // how long each answer takes; 0: for ever
		paid int           // the answer to who pays already
	}{
		"never answers":          {0, 503},
		"takes 30 s":             {30 * time.Second, 503},
		"takes 6.9 s for a call": {6900 * time.Millisecond, 503},
		"takes 1.5 s for a call": {1500 * time.Millisecond, 200},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				t.Cleanup(func() { time.Sleep(time.Minute) }) // virtual: what fasthttp leaves behind ends
				s := stripetest.Offline()
				n := selling(t, s)
				o, sub := n.payer(s)
				fresh := n.org()
				n.with(o.agent, "POST", "devices/register", device("a")).want(200)
				s.Change(sub, func(x *stripetest.Subscription) { x.Status = "unpaid" })
				event := s.Events()[0]
				s.Before(func(r *http.Request) {
					var slow <-chan time.Time
					if c.each > 0 {
						slow = time.After(c.each)
					}
					select {
					case <-slow:
					case <-r.Context().Done():
					}
				})
				answers := func(path, body string, headers ...string) {
					t.Helper()
					began := time.Now()
					a := n.do("POST", path, body, headers...)
					if took := time.Since(began); took > 9500*time.Millisecond {
						t.Errorf("%s took %v", path, took)
					}
					if a.StatusCode == http.StatusServiceUnavailable && a.field("error") != "stripe_unavailable" && a.field("error") != "system_unavailable" || a.StatusCode != http.StatusOK && a.StatusCode != http.StatusServiceUnavailable {
						t.Errorf("%s: %s", path, a.raw)
					}
					if a.StatusCode == http.StatusServiceUnavailable && !strings.Contains(a.raw, `"outcome":"not_done"`) {
						t.Errorf("%s: %s", path, a.raw)
					}
					if a.StatusCode != c.paid && strings.HasPrefix(path, "billing") {
						t.Errorf("%s: HTTP %d, want %d", path, a.StatusCode, c.paid)
					}
					began = time.Now()
					if code := n.validates(o.agent, "a"); code == "SYSTEM_UNAVAILABLE" || time.Since(began) != 0 {
						t.Errorf("validate said %s after %v", code, time.Since(began))
					}
				}
				answers("billing/checkout", `{"plan":"max"}`, "x-org-key: "+o.admin)
				answers("billing/checkout", `{"plan":"max"}`, "x-org-key: "+fresh.admin)
				sign := "Stripe-Signature: " + stripetest.Sign(event, n.clock(), stripetest.WebhookSecret)
				answers("webhooks/stripe", string(event), sign)
				answers("org/delete", `{"confirm":"`+fresh.id.String()+`"}`, "x-org-key: "+fresh.admin)
				s.Before(nil)
				n.hook(event).want(200)
				n.with(o.admin, "GET", "usage", "").want(200, `"planState":"frozen"`)
			})
		})
	}
}
