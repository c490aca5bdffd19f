//go:build unix

package cli

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"machineid/authority"
	"machineid/authority/billing"
	"machineid/authority/billing/stripetest"
	"machineid/authority/hub"
	"machineid/authority/mail"
	"machineid/edge"
)

// stripeFlags are the settings by which a process uses a Stripe of tests.
func stripeFlags(t *testing.T, s *stripetest.Stripe) []string {
	t.Helper()
	dir := t.TempDir()
	for name, secret := range map[string]string{"key": stripetest.Key, "hook": stripetest.WebhookSecret} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return []string{
		"--stripe-secret-key-file", filepath.Join(dir, "key"), "--stripe-webhook-secret-file", filepath.Join(dir, "hook"), "--stripe-url", s.URL,
		"--stripe-price-pro", "price_pro,price_pro_old", "--stripe-price-max", "price_max",
		"--stripe-success-url", "https://example.com/done", "--stripe-cancel-url", "https://example.com/back", "--stripe-return-url", "https://example.com/billing",
	}
}

// hook sends an event as Stripe does, signed at a time.
func (c *client) hook(event []byte, at time.Time) (*reply, error) {
	return c.do(http.MethodPost, "webhooks/stripe", "", string(event), "Stripe-Signature: "+stripetest.Sign(event, at, stripetest.WebhookSecret))
}

// pay has an org pay for a plan and returns its subscription; Stripe's events of it are still to be sent.
func pay(t *testing.T, c *client, s *stripetest.Stripe, o org, plan string) string {
	t.Helper()
	a := c.must(t, "billing/checkout", o.admin, `{"plan":"`+plan+`"}`)
	sub, err := s.Pay(a.text("url"))
	if err != nil {
		t.Fatalf("%v: %s", err, a.raw)
	}
	return sub
}

// sold is an authority and two edges in this process, by a wall clock that the test moves.
type sold struct {
	*testing.T

	stripe *stripetest.Stripe
	mails  output
	ahead  atomic.Int64
	node   *client
	edges  []*client
}

func (s *sold) wall() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }

func (s *sold) listen() net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.Fatal(err)
	}
	return l
}

// run runs a part until the test ends.
func (s *sold) run(run func(context.Context) error, ready func() []string) {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	s.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			s.Error(err)
		}
	})
	eventually(s, patient, "a part is ready", func() bool { return len(ready()) == 0 })
}

func startSold(t *testing.T) *sold {
	t.Helper()
	s := &sold{T: t, stripe: stripetest.New(t)}
	ls := []net.Listener{s.listen(), s.listen(), s.listen()}
	logger := slog.New(slog.DiscardHandler)
	node := authority.New(authority.Config{
		ID: "a1", Dir: t.TempDir(), HTTP: ls[0], Link: ls[1], Raft: ls[2], Bootstrap: true, OpenSignup: true, OperatorToken: clusterToken,
		Times: hub.Times{Lease: time.Second, CacheTTL: time.Minute, Bound: 0.01}, Logger: logger, Registerer: prometheus.NewRegistry(), Wall: s.wall,
		Billing: billing.Config{
			SecretKey: stripetest.Key, WebhookSecret: stripetest.WebhookSecret, URL: s.stripe.URL, Prices: stripetest.Prices(),
			SuccessURL: "https://example.com/done", CancelURL: "https://example.com/back", ReturnURL: "https://example.com/billing",
		},
		Mail: mail.NewPrinter(&s.mails), PublicURL: "https://m.example.com/",
		Reconcile: authority.Reconcile{First: time.Millisecond, Every: 50 * time.Millisecond, Pause: time.Millisecond},
	})
	s.run(node.Run, node.Ready)
	s.node = newClient(t, ls[0].Addr().String())
	for i := range 2 {
		l := s.listen()
		e, err := edge.New(edge.Config{
			ID: fmt.Sprint("e", i), Authority: []string{ls[1].Addr().String()}, HTTP: l, CacheEntries: 1000, MaxWait: edge.DefaultMaxWait,
			Logger: logger, Registerer: prometheus.NewRegistry(),
		})
		if err != nil {
			t.Fatal(err)
		}
		s.run(e.Run, e.Ready)
		s.edges = append(s.edges, newClient(t, l.Addr().String()))
	}
	return s
}

// everywhere wants one answer to a validate from every edge, at once: what changed it has returned.
func (s *sold) everywhere(key, id, want string) {
	s.Helper()
	for i, e := range s.edges {
		if got := e.validate(s, key, id); got != want {
			s.Errorf("edge %d says %s of %s, want %s", i, got, id, want)
		}
	}
}

// TestPlansThroughTheSystem: an org pays, pays for less, fails to pay, and pays again. Caps change at every edge, and what its devices
// may do changes at every edge with the answer to Stripe's webhook, as the promise has it; the end of the grace comes by the clock.
func TestPlansThroughTheSystem(t *testing.T) {
	t.Parallel()
	s := startSold(t)
	o := s.node.createOrg(t)
	register := func(i, id, status int) {
		t.Helper()
		a, err := s.edges[i%2].post("devices/register", o.agent, naming(fmt.Sprint("d", id)))
		if err != nil || a.StatusCode != status {
			t.Fatalf("register d%d: %+v, %v, want %d", id, a, err, status)
		}
	}
	say := func() {
		t.Helper()
		for i, event := range s.stripe.Events() {
			// Through an edge, as well as directly.
			if a, err := append(s.edges, s.node)[i%3].hook(event, s.wall()); err != nil || a.StatusCode != http.StatusOK {
				t.Fatalf("%s: %+v, %v", event, a, err)
			}
		}
	}
	for i := range 3 {
		register(i, i, http.StatusOK)
	}
	register(0, 3, http.StatusForbidden)
	register(1, 3, http.StatusForbidden)
	sub := pay(t, s.edges[0], s.stripe, o, "pro")
	say()
	for i := 3; i < 25; i++ {
		register(i, i, http.StatusOK)
	}
	register(0, 25, http.StatusForbidden)
	s.stripe.Change(sub, func(x *stripetest.Subscription) { x.Price = "price_scale" })
	say()
	register(0, 25, http.StatusOK)
	register(1, 26, http.StatusOK)
	s.stripe.Change(sub, func(x *stripetest.Subscription) { x.Price = "price_pro_old" })
	say()
	register(1, 27, http.StatusForbidden)
	s.everywhere(o.agent, "d26", "ALLOW") // over the cap they go on

	s.stripe.Change(sub, func(x *stripetest.Subscription) { x.Status = "past_due" })
	say()
	s.everywhere(o.agent, "d0", "ALLOW")
	if a, err := s.edges[1].get("usage", o.admin); err != nil || a.text("planState") != "grace" {
		t.Fatalf("%+v, %v", a, err)
	}
	s.ahead.Store(int64(7 * 24 * time.Hour))
	eventually(t, patient, "the grace has ended at every edge", func() bool {
		return s.edges[0].validate(t, o.agent, "d0") == "PLAN_FROZEN" && s.edges[1].validate(t, o.agent, "d0") == "PLAN_FROZEN"
	})
	register(0, 99, http.StatusForbidden)
	s.stripe.Change(sub, func(x *stripetest.Subscription) { x.Status = "active" })
	say()
	s.everywhere(o.agent, "d0", "ALLOW")
	for range 5 { // each change is in force when the webhook is answered, not some time later
		s.stripe.Change(sub, func(x *stripetest.Subscription) { x.Status = "unpaid" })
		say()
		s.everywhere(o.agent, "d0", "PLAN_FROZEN")
		s.stripe.Change(sub, func(x *stripetest.Subscription) { x.Status = "active" })
		say()
		s.everywhere(o.agent, "d0", "ALLOW")
	}
	// No webhook comes: the leader finds out by itself.
	s.stripe.Change(sub, func(x *stripetest.Subscription) { x.Status = "canceled" })
	s.stripe.Events()
	eventually(t, patient, "a webhook that was lost has healed", func() bool {
		a, err := s.node.get("billing/summary", o.admin)
		return err == nil && a.text("planTier") == "free"
	})
	// And Stripe being gone concerns nobody's devices.
	s.stripe.Fail(http.StatusInternalServerError)
	s.everywhere(o.agent, "d0", "ALLOW")
}

// TestLeaderKilledBetweenFetchAndCommit: the leader has asked Stripe and dies before it commits. The webhook is not answered with 200,
// comes again to another node, and is applied once.
func TestLeaderKilledBetweenFetchAndCommit(t *testing.T) {
	t.Parallel()
	stripe := stripetest.New(t)
	c := startCluster(t, 3, stripeFlags(t, stripe)...)
	leader := c.leader()
	admin := newClient(t, leader.http)
	o := admin.createOrg(t)
	sub := pay(t, admin, stripe, o, "max")
	for _, event := range stripe.Events() {
		if a, err := admin.hook(event, time.Now()); err != nil || a.StatusCode != http.StatusOK {
			t.Fatalf("%+v, %v", a, err)
		}
	}
	stripe.Change(sub, func(x *stripetest.Subscription) { x.Status = "unpaid" })
	event := stripe.Events()[0]
	var once sync.Once
	stripe.Before(func(r *http.Request) {
		if r.URL.Path == "/v1/subscriptions" {
			once.Do(leader.kill)
		}
	})
	var other *client
	for _, n := range c.nodes {
		if n != leader {
			other = newClient(t, n.http)
		}
	}
	if a, err := other.hook(event, time.Now()); err != nil || a.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("the leader was killed, and the webhook answered: %+v, %v", a, err)
	}
	eventually(t, patient, "the webhook that comes again is taken", func() bool {
		a, err := other.hook(event, time.Now())
		return err == nil && a.StatusCode == http.StatusOK
	})
	if a, err := other.get("usage", o.admin); err != nil || a.text("planState") != "frozen" || a.text("planTier") != "max" {
		t.Errorf("%+v, %v", a, err)
	}
	if a, err := other.hook(event, time.Now()); err != nil || a.StatusCode != http.StatusOK || a.body["changed"] != false {
		t.Errorf("once more: %+v, %v", a, err)
	}
	// What the operator's command says of it: first nothing, then what was lost.
	if out, code := c.operate("billing", "sync", "--pause", "0s"); code != exitDone || !strings.Contains(out, "1 orgs compared with Stripe, 0 differences") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	stripe.Change(sub, func(x *stripetest.Subscription) { x.Status = "active" })
	if out, code := c.operate("billing", "sync", "--pause", "0s"); code != exitDone || !strings.Contains(out, "1 differences") || !strings.Contains(out, "UNPAID") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	if out, code := c.operate("billing", "sync", "-o", "json"); code != exitDone || !strings.Contains(out, `"differences": []`) {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	known, err := other.get("org", o.admin)
	if err != nil {
		t.Fatal(err)
	}
	id := known.text("orgId")
	// One that pays twice is no success, and says what to do.
	second := stripe.Subscribe(customerOf(stripe, sub), "price_max", id)
	if out, code := c.operate("billing", "sync", "--pause", "0s"); code != exitFailed || !strings.Contains(out, "  also    "+sub+" max ACTIVE") || !strings.Contains(out, "cancel and refund") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	// Nor is an org deleted that goes on to pay.
	if out, code := c.operate("org", "delete", id, "--confirm", id); code != exitFailed || !strings.Contains(out, second) || !strings.Contains(out, "subscription cancel") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	stripe.Fail(http.StatusInternalServerError)
	eventually(t, patient, "the command says that Stripe is down", func() bool { // on a slow machine the call's time may be up first
		out, code := c.operate("org", "delete", id, "--confirm", id, "--subscription", "cancel")
		if code != exitUnavailable {
			t.Fatalf("Stripe is down: exit code %d:\n%s", code, out)
		}
		if !strings.Contains(out, "Stripe") {
			t.Logf("Stripe is down: %s", out)
		}
		return strings.Contains(out, "Stripe")
	})
	if out, code := c.operate("billing", "sync", "--timeout", "1s"); code != exitUnavailable {
		t.Errorf("Stripe is down: exit code %d:\n%s", code, out)
	}
	stripe.Fail(0)
	if out, code := c.operate("org", "delete", id, "--confirm", id, "--subscription", "cancel"); code != exitDone || len(stripe.Subscriptions()) != 0 {
		t.Errorf("exit code %d, %v:\n%s", code, stripe.Subscriptions(), out)
	}
}

// customerOf is whom Stripe bills for a subscription.
func customerOf(s *stripetest.Stripe, sub string) string {
	for _, x := range s.Subscriptions() {
		if x.ID == sub {
			return x.Customer
		}
	}
	return ""
}

// TestConfigCheck: each price is asked for, and what is wrong or missing is said, with its flag.
func TestConfigCheck(t *testing.T) {
	t.Parallel()
	stripe := stripetest.New(t)
	check := func(args ...string) (string, int) {
		var out bytes.Buffer
		code := run(append([]string{"config", "check"}, args...), nil, &out, &out)
		return out.String(), code
	}
	flags := stripeFlags(t, stripe)
	if out, code := check(flags...); code != exitDone || strings.Count(out, "29.00 usd each 1 month") != 3 {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	if out, code := check(append(flags, "--stripe-price-scale", "price_none")...); code != exitFailed || !strings.Contains(out, "--stripe-price-scale: price_none: Stripe knows no such price") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	if out, code := check(flags[:6]...); code != exitFailed || !strings.Contains(out, "none is set") || !strings.Contains(out, "--stripe-success-url") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	if out, code := check(); code != exitDone || !strings.Contains(out, "not set up") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	if out, code := check("--stripe-price-pro", "p", "--stripe-return-url", "x"); code != exitUsage || !strings.Contains(out, "2 faults") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	stripe.Fail(http.StatusInternalServerError)
	if out, code := check(flags...); code != exitUnavailable || strings.Contains(out, stripetest.Key) {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}
