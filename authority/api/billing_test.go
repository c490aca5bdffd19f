package api_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"machineid/authority/api"
	"machineid/authority/billing"
	"machineid/authority/billing/stripetest"
	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/raftstore"
	"machineid/shared/wire"
)

// withStripe sets billing up with a Stripe of tests; nil is one that nobody asks.
func withStripe(s *stripetest.Stripe) option {
	url, transport := "http://127.0.0.1:1", http.RoundTripper(nil)
	if s != nil {
		url, transport = s.URL, s.Transport()
	}
	return func(c *api.Config) {
		c.Billing = billing.New(billing.Config{
			SecretKey: stripetest.Key, WebhookSecret: stripetest.WebhookSecret, URL: url, Transport: transport, Logger: c.Logger, Registerer: c.Registerer,
			Prices:     map[string][]string{"max": {"price_max", "price_max_old"}},
			SuccessURL: "https://example.com/done", CancelURL: "https://example.com/back", ReturnURL: "https://example.com/billing",
		})
	}
}

// selling is a node that sells the plan max, and gives 7 days of grace.
func selling(tb testing.TB, s *stripetest.Stripe) *node {
	tb.Helper()
	n := start(tb, withStripe(s))
	n.operate("PUT", "plans", `{"plans":[{"planTier":"free","limit":3},{"planTier":"max","limit":1000}],"graceDays":7}`).want(200)
	return n
}

// clock is the time of the node's clock.
func (n *node) clock() time.Time { return time.UnixMilli(n.now.Load()) }

// hook sends an event as Stripe does.
func (n *node) hook(event []byte) *answer {
	n.t.Helper()
	return n.do("POST", "webhooks/stripe", string(event), "Stripe-Signature: "+stripetest.Sign(event, n.clock(), stripetest.WebhookSecret))
}

// hooks sends all that Stripe has to say, in order.
func (n *node) hooks(s *stripetest.Stripe) {
	n.t.Helper()
	for _, e := range s.Events() {
		n.hook(e).want(200, `"ok":true`)
	}
}

// payer is a new org that pays for max.
func (n *node) payer(s *stripetest.Stripe) (o *org, sub string) {
	n.t.Helper()
	o = n.org()
	sub, err := s.Pay(n.with(o.admin, "POST", "billing/checkout", `{"plan":"max"}`).want(200, `"ok":true`, `"status":"ok"`).field("url"))
	if err != nil {
		n.t.Fatal(err)
	}
	n.hooks(s)
	n.with(o.admin, "GET", "usage", "").want(200, `"planTier":"max","planState":"active"`)
	return o, sub
}

// TestASubscriptionsLife follows an org from its first checkout to its end, through what Stripe says.
func TestASubscriptionsLife(t *testing.T) {
	s := stripetest.New(t)
	n := selling(t, s)
	o := n.org()
	n.with(o.admin, "GET", "billing/summary", "").want(200, `"ok":true`, `"planTier":"free","planState":"active","accessUntil":null,"renewsAt":null`, `"message":"The plan is free`)
	n.with(o.admin, "POST", "billing/portal", "").want(200, `"ok":false`, `"error":"no_subscription"`, `"status":"error"`)
	first := n.with(o.admin, "POST", "billing/checkout", `{"plan":"max"}`).want(200).field("url")
	second := n.with(o.admin, "POST", "billing/checkout", `{"plan":"max"}`).want(200).field("url")
	if _, err := s.Pay(first); err == nil || first == second {
		t.Error("of two checkouts both can be paid")
	}
	sub, err := s.Pay(second)
	if err != nil {
		t.Fatal(err)
	}
	n.with(o.admin, "GET", "usage", "").want(200, `"planTier":"free"`) // nothing was said yet
	// Already then there is no second subscription.
	if url := n.with(o.admin, "POST", "billing/checkout", `{"plan":"max"}`).want(200).field("url"); !strings.Contains(url, "/update/"+sub) {
		t.Errorf("an org that has paid is sent to %s", url)
	}
	n.hooks(s)
	n.with(o.admin, "GET", "usage", "").want(200, `"planTier":"max"`, `"limit":1000`)
	n.with(o.admin, "GET", "billing/summary", "").want(200, `"renewsAt":"20`, `"endsAt":null`, `"cancelAtPeriodEnd":false`, "managed in the portal")
	if url := n.with(o.admin, "POST", "billing/portal", "").want(200, `"ok":true`).field("url"); !strings.Contains(url, "/portal/cus_") {
		t.Errorf("the portal is at %s", url)
	}
	for _, id := range []string{"a", "b", "c", "d"} {
		n.with(o.agent, "POST", "devices/register", device(id)).want(200)
	}
	is := func(code, usage string) {
		t.Helper()
		if got := n.validates(o.agent, "a"); got != code {
			t.Errorf("validate says %s, want %s", got, code)
		}
		n.with(o.admin, "GET", "usage", "").want(200, usage)
	}
	say := func(change func(*stripetest.Subscription)) {
		t.Helper()
		s.Change(sub, change)
		n.hooks(s)
	}
	status := func(status string) func(*stripetest.Subscription) {
		return func(x *stripetest.Subscription) { x.Status = status }
	}
	say(status("past_due"))
	is("ALLOW", `"planState":"grace"`)
	n.now.Add(7*24*3600*1000 - 1)
	is("ALLOW", `"planState":"grace"`)
	n.now.Add(1)
	is("PLAN_FROZEN", `"planState":"frozen"`)
	say(status("active"))
	is("ALLOW", `"planState":"active"`)
	say(status("unpaid"))
	is("PLAN_FROZEN", `"planState":"frozen"`)
	if url := n.with(o.admin, "POST", "billing/checkout", `{"plan":"max"}`).want(200).field("url"); !strings.Contains(url, "/portal/cus_") {
		t.Errorf("an org that owes is sent to %s", url)
	}
	say(status("paused"))
	is("PLAN_FROZEN", `"planState":"frozen"`)
	say(status("trialing"))
	is("ALLOW", `"planState":"active"`)
	say(status("incomplete"))
	is("ALLOW", `"planState":"active"`)
	// Cancelled: shown, and at its time the org is free, by the clock alone.
	end := n.now.Load()/1000 + 1000
	say(func(x *stripetest.Subscription) {
		x.Status, x.CancelAtPeriodEnd, x.PeriodEnd, x.NewPlaces = "active", true, end, true
	})
	n.with(o.admin, "GET", "billing/summary", "").want(200, `"cancelAtPeriodEnd":true`, `"renewsAt":null,"endsAt":"20`)
	is("ALLOW", `"planTier":"max"`)
	n.now.Store(end * 1000)
	is("ALLOW", `"planTier":"free","planState":"active","accessUntil":null,"limit":3,"devicesUsed":4`)
	n.with(o.agent, "POST", "devices/register", device("e")).want(403, "device_limit_reached")
	say(status("canceled"))
	is("ALLOW", `"planTier":"free"`)
	// A new one may begin then.
	if url := n.with(o.admin, "POST", "billing/checkout", `{"plan":"max"}`).want(200).field("url"); !strings.Contains(url, "/checkout/") {
		t.Errorf("an org that has ended is sent to %s", url)
	}
	for _, r := range s.Requests() {
		if strings.Contains(r, "validate") {
			t.Error(r)
		}
	}
}

// TestBillingNotSetUp: what is missing is named, and the answer is HTTP 200 with ok and status.
func TestBillingNotSetUp(t *testing.T) {
	for _, c := range []struct {
		cfg           billing.Config
		path, body    string
		status        int
		code, message string
	}{
		{billing.Config{}, "billing/checkout", `{"plan":"max"}`, 200, "not_configured", "--stripe-secret-key-file"},
		{billing.Config{}, "billing/portal", ``, 200, "not_configured", "--stripe-secret-key-file"},
		{billing.Config{SecretKey: "x"}, "billing/checkout", `{"plan":"max"}`, 200, "price_not_configured", "--stripe-price-max"},
		{billing.Config{SecretKey: "x"}, "billing/checkout", `{"plan":"gold"}`, 200, "unknown_plan", ""},
		{billing.Config{SecretKey: "x"}, "billing/checkout", `{"plan":"free"}`, 200, "unknown_plan", ""},
		{billing.Config{SecretKey: "x", Prices: map[string][]string{"max": {"p"}}}, "billing/checkout", `{"plan":"max"}`, 200, "not_configured", "--stripe-success-url"},
		{billing.Config{SecretKey: "x"}, "billing/portal", ``, 200, "not_configured", "--stripe-return-url"},
		{billing.Config{SecretKey: "x"}, "billing/checkout", `{}`, 400, "missing_params", "plan"},
		{billing.Config{SecretKey: "x"}, "webhooks/stripe", `{}`, 503, "not_configured", "--stripe-webhook-secret-file"},
	} {
		n := start(t, func(a *api.Config) { a.Billing = billing.New(c.cfg) })
		n.with(n.org().admin, "POST", c.path, c.body).want(c.status, `"ok":false`, `"status":"error"`, `"error":"`+c.code+`"`, c.message)
	}
}

// TestForgedWebhooks: nothing that Stripe did not sign now changes anything, and none of it is asked of Stripe.
func TestForgedWebhooks(t *testing.T) {
	s := stripetest.New(t)
	n := selling(t, s)
	o, sub := n.payer(s)
	s.Change(sub, func(x *stripetest.Subscription) { x.Status = "unpaid" })
	event := s.Events()[0]
	asked := len(s.Requests())
	sign := func(d time.Duration, secrets ...string) string {
		return "Stripe-Signature: " + stripetest.Sign(event, n.clock().Add(d), secrets...)
	}
	right := stripetest.WebhookSecret
	for name, headers := range map[string][]string{
		"none":            {},
		"empty":           {"Stripe-Signature: "},
		"no time":         {"Stripe-Signature: v1=" + strings.Repeat("0", 64)},
		"no hex":          {fmt.Sprintf("Stripe-Signature: t=%d,v1=zz", n.clock().Unix())},
		"two times":       {sign(0, right) + ",t=1"},
		"another secret":  {sign(0, "whsec_other")},
		"several wrong":   {sign(0, "whsec_other", "whsec_another")},
		"too old":         {sign(-5*time.Minute-2*time.Second, right)},
		"of the future":   {sign(5*time.Minute+2*time.Second, right)},
		"repeated header": {sign(0, right), sign(0, right)},
		"v0 only":         {strings.ReplaceAll(sign(0, right), "v1=", "v2=")},
		"of another body": {"Stripe-Signature: " + stripetest.Sign([]byte(`{}`), n.clock(), right)},
	} {
		if a := n.do("POST", "webhooks/stripe", string(event), headers...); a.StatusCode != http.StatusBadRequest || a.field("error") != "invalid_signature" {
			t.Errorf("%s: HTTP %d: %s", name, a.StatusCode, a.raw)
		}
	}
	for _, body := range []string{``, `{`, `[]`, `{"id":7}`, `{"id":"evt_x","type":"invoice.paid","data":{"object":[]}}`} {
		n.do("POST", "webhooks/stripe", body, "Stripe-Signature: "+stripetest.Sign([]byte(body), n.clock(), right)).want(400, `"ok":false`)
	}
	large := slices.Concat(event, bytes.Repeat([]byte(" "), wire.MaxBatchBody))
	n.do("POST", "webhooks/stripe", string(large), "Stripe-Signature: "+stripetest.Sign(large, n.clock(), right)).want(413)
	n.with(o.admin, "GET", "usage", "").want(200, `"planState":"active"`)
	if now := len(s.Requests()); now != asked {
		t.Errorf("%d requests were made to Stripe", now-asked)
	}
	// At the edges of the tolerance, and by one of several secrets, it counts; then as often as it comes, once.
	n.do("POST", "webhooks/stripe", string(event), sign(-5*time.Minute, "whsec_new", right)).want(200, `"changed":true`)
	asked = len(s.Requests())
	n.do("POST", "webhooks/stripe", string(event), sign(5*time.Minute, right)).want(200, `"changed":false`, `"ignored":false`)
	if now := len(s.Requests()); now != asked {
		t.Errorf("a replayed event made %d requests to Stripe", now-asked)
	}
	n.with(o.admin, "GET", "usage", "").want(200, `"planState":"frozen"`)
	// A large one that is right is no reason to refuse it.
	padded := slices.Concat(event, bytes.Repeat([]byte(" "), wire.MaxBatchBody-len(event)))
	n.hook(padded).want(200, `"ignored":false`)
}

// TestForeignEvents: what is about nobody of ours is taken and changes nothing.
func TestForeignEvents(t *testing.T) {
	s := stripetest.New(t)
	n := selling(t, s)
	o, sub := n.payer(s)
	other := n.org()
	for _, metadata := range []string{"x", "b2469749-4abd-45c1-946a-799ce518d2b7", o.id.String()} {
		s.Subscribe("cus_foreign", "price_max", metadata)
	}
	s.Subscribe("cus_foreign", "price_of_a_book", other.id.String())
	for _, e := range s.Events() {
		a := n.hook(e).want(200, `"changed":`)
		var said struct{ Ignored, Changed bool }
		if err := json.Unmarshal([]byte(a.raw), &said); err != nil || said.Changed && !said.Ignored && strings.Contains(string(e), o.id.String()) {
			t.Errorf("%s: %s", e, a.raw)
		}
	}
	n.hook([]byte(`{"id":"evt_1x","type":"charge.succeeded","data":{"object":{"id":"ch_1","customer":"cus_1"}}}`)).want(200, `"ignored":true`)
	n.with(o.admin, "GET", "usage", "").want(200, `"planTier":"max"`)
	// The customer is this org's now, and what it pays for others is not.
	n.hook([]byte(`{"id":"evt_2x","type":"invoice.paid","data":{"object":{"object":"invoice","customer":"cus_foreign"}}}`)).want(200, `"ignored":false`)
	s.Subscribe("cus_foreign", "price_max", o.id.String())
	n.hooks(s)
	n.with(other.admin, "GET", "usage", "").want(200, `"planTier":"free"`)
	// One whose price is none of ours changes nothing, and is said in the log.
	s.Change(sub, func(x *stripetest.Subscription) { x.Price = "price_of_a_book" })
	n.hooks(s)
	n.with(o.admin, "GET", "usage", "").want(200, `"planTier":"max"`)
	if !strings.Contains(n.log.String(), "no price of ours") {
		t.Error("the log does not tell")
	}
	// An old price of a tier is one.
	s.Change(sub, func(x *stripetest.Subscription) { x.Price = "price_max_old" })
	n.hooks(s)
	n.with(o.admin, "GET", "usage", "").want(200, `"planTier":"max"`)
}

// TestADeletedCustomer: with it its subscription has ended, by a webhook and without.
func TestADeletedCustomer(t *testing.T) {
	s := stripetest.New(t)
	n := selling(t, s)
	for _, told := range []bool{true, false} {
		o, sub := n.payer(s)
		for _, x := range s.Subscriptions() {
			if x.ID == sub {
				s.Delete(x.Customer)
			}
		}
		if told {
			n.hooks(s)
		} else {
			n.operate("POST", "billing/sync", `{"limit":100}`).want(200, sub+" max CANCELED")
		}
		n.with(o.admin, "GET", "usage", "").want(200, `"planTier":"free"`)
		n.with(o.admin, "POST", "billing/checkout", `{"plan":"max"}`).want(503, "stripe_unavailable")
	}
}

// standsAs compares an org with what Stripe has of it.
func (n *node) standsAs(o *org, live []stripetest.Subscription) error {
	want := map[string]string{"active": "active", "trialing": "active", "past_due": "grace", "unpaid": "frozen", "paused": "frozen"}
	rank := map[string]int{"active": 3, "grace": 2, "frozen": 1}
	tier, planState := "free", "active"
	slices.SortFunc(live, func(a, b stripetest.Subscription) int {
		return cmp.Or(rank[want[b.Status]]-rank[want[a.Status]], cmp.Compare(b.Created, a.Created), cmp.Compare(b.ID, a.ID))
	})
	if len(live) > 0 && live[0].Status != "incomplete" {
		tier, planState = strings.TrimSuffix(strings.TrimPrefix(live[0].Price, "price_"), "_old"), want[live[0].Status]
	}
	a := n.with(o.admin, "GET", "usage", "")
	if a.field("planTier") != tier || a.field("planState") != planState {
		return fmt.Errorf("the org is %s and %s, Stripe has %s and %s", a.field("planTier"), a.field("planState"), tier, planState)
	}
	return nil
}

// permute calls f with every order of a list.
func permute[T any](list []T, k int, f func([]T)) {
	if k == len(list) {
		f(list)
		return
	}
	for i := k; i < len(list); i++ {
		list[k], list[i] = list[i], list[k]
		permute(list, k+1, f)
		list[k], list[i] = list[i], list[k]
	}
}

// TestEveryOrderOfALife: the events of a subscription's life come in every order, each twice, all at the end of it; with times that
// differ and with equal ones. In the end the org is as Stripe has it.
func TestEveryOrderOfALife(t *testing.T) {
	lives := map[string]func(s *stripetest.Stripe, customer, org string){
		"cancelled": func(s *stripetest.Stripe, customer, org string) {
			id := s.Subscribe(customer, "price_max", org)
			s.Change(id, func(x *stripetest.Subscription) { x.Status = "past_due" })
			s.Change(id, func(x *stripetest.Subscription) { x.Status = "active" })
			s.Change(id, func(x *stripetest.Subscription) { x.CancelAtPeriodEnd = true })
			s.Change(id, func(x *stripetest.Subscription) { x.Status = "canceled" })
		},
		"unpaid": func(s *stripetest.Stripe, customer, org string) {
			id := s.Subscribe(customer, "price_max", org)
			s.Change(id, func(x *stripetest.Subscription) { x.Status = "incomplete" })
			s.Change(id, func(x *stripetest.Subscription) { x.Status = "active" })
			s.Change(id, func(x *stripetest.Subscription) { x.Status = "past_due" })
			s.Change(id, func(x *stripetest.Subscription) { x.Status = "unpaid" })
		},
		"followed by another": func(s *stripetest.Stripe, customer, org string) {
			id := s.Subscribe(customer, "price_max_old", org)
			s.Change(id, func(x *stripetest.Subscription) { x.Status = "unpaid" })
			next := s.Subscribe(customer, "price_max", org)
			s.Change(id, func(x *stripetest.Subscription) { x.Status = "canceled" })
			s.Change(next, func(x *stripetest.Subscription) { x.Status = "past_due" })
		},
	}
	for name, live := range lives {
		for _, same := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, equal times %t", name, same), func(t *testing.T) {
				s := stripetest.New(t)
				n := selling(t, s)
				orders := 0
				permute([]int{0, 1, 2, 3, 4}, 0, func(order []int) {
					if testing.Short() && orders%10 != 0 {
						orders++
						return
					}
					orders++
					o := n.org()
					customer := fmt.Sprint("cus_life_", orders)
					if same {
						s.SameTime()
					}
					s.Events()
					live(s, customer, o.id.String())
					events := s.Events()
					for _, i := range order {
						n.hook(events[i]).want(200)
					}
					n.hook(events[order[0]]).want(200, `"changed":false`)
					var mine []stripetest.Subscription
					for _, sub := range s.Subscriptions() {
						if sub.Customer == customer {
							mine = append(mine, sub)
						}
					}
					if err := n.standsAs(o, mine); err != nil {
						t.Fatalf("in the order %v: %v", order, err)
					}
				})
			})
		}
	}
}

// TestALateFetch: what was fetched before something newer was applied is never applied after it, though its event comes later. It is
// the one race that fetching again does not end by itself (S14).
func TestALateFetch(t *testing.T) {
	s := stripetest.New(t)
	n := selling(t, s)
	o, sub := n.payer(s)
	s.Change(sub, func(x *stripetest.Subscription) { x.Status = "unpaid" })
	first := s.Events()[0]
	s.Change(sub, func(x *stripetest.Subscription) { x.Status = "active" })
	second := s.Events()[0]
	s.Change(sub, func(x *stripetest.Subscription) { x.Status = "unpaid" })
	s.Events()
	var once sync.Once
	stale := make(chan struct{})
	n.store.before(func(c *statepb.Command) { // between the first one's fetch and its commit
		if c.GetSetBilling().GetEventId() != eventID(first) {
			return
		}
		once.Do(func() {
			s.Change(sub, func(x *stripetest.Subscription) { x.Status = "active" })
			n.hook(second).want(200)
			close(stale)
		})
	})
	n.hook(first).want(200)
	<-stale
	n.store.before(nil)
	n.with(o.admin, "GET", "usage", "").want(200, `"planState":"active"`)
}

func eventID(event []byte) string {
	var e struct{ ID string }
	_ = json.Unmarshal(event, &e)
	return e.ID
}

// TestAWebhookIsNotLost: whatever fails between the fetch and the commit, the answer is no 200, nothing is half done, and the next
// time it comes it is applied.
func TestAWebhookIsNotLost(t *testing.T) {
	s := stripetest.New(t)
	n := selling(t, s)
	o, sub := n.payer(s)
	s.Change(sub, func(x *stripetest.Subscription) { x.Status = "unpaid" })
	event := s.Events()[0]
	for _, status := range []int{500, 503, 429} {
		s.Fail(status)
		n.hook(event).want(503, "stripe_unavailable", `"ok":false`)
	}
	s.Fail(0)
	lost := fmt.Errorf("%w: killed", raftstore.ErrNotLeader)
	n.store.fail(func(context.Context) (state.Outcome, error) { return state.Outcome{}, lost }, nil)
	n.hook(event).want(503, `"outcome":"not_done"`)
	n.store.fail(func(context.Context) (state.Outcome, error) {
		return state.Outcome{}, fmt.Errorf("%w: killed", raftstore.ErrOutcomeUnknown)
	}, nil)
	n.hook(event).want(503, `"outcome":"unknown"`)
	n.store.fail(nil, nil)
	n.with(o.admin, "GET", "usage", "").want(200, `"planState":"active"`)
	// Committed, but not known to be everywhere: not yet a success, and the next time no more than that is waited for.
	n.hub.fail(http.ErrServerClosed)
	n.hook(event).want(503, `"outcome":"committed"`)
	n.hub.fail(nil)
	n.hook(event).want(200, `"changed":false`)
	n.with(o.admin, "GET", "usage", "").want(200, `"planState":"frozen"`)
}

// TestStripeDown: a call that needs Stripe says so in time; nothing else is touched.
func TestStripeDown(t *testing.T) {
	s := stripetest.New(t)
	n := selling(t, s)
	o, _ := n.payer(s)
	n.with(o.agent, "POST", "devices/register", device("a")).want(200)
	for _, status := range []int{500, 429, 401} {
		s.Fail(status)
		n.with(o.admin, "POST", "billing/checkout", `{"plan":"max"}`).want(503, "stripe_unavailable", `"ok":false`, `"outcome":"not_done"`)
		n.with(o.admin, "POST", "billing/portal", ``).want(503, "stripe_unavailable")
		n.with(o.admin, "GET", "billing/summary", "").want(200, `"planTier":"max"`)
	}
	s.Fail(0)
	hang := make(chan struct{})
	s.Before(func(r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	})
	defer close(hang)
	began := time.Now()
	answered := make(chan *answer, 1)
	go func() {
		answered <- n.with(o.admin, "POST", "billing/checkout", `{"plan":"max"}`, "MachineID-Edge: "+edgeToken, "MachineID-Timeout-Ms: 500")
	}()
	for range 100 { // validate is not behind it
		if code := n.validates(o.agent, "a"); code != "ALLOW" {
			t.Fatal(code)
		}
	}
	(<-answered).want(503, "stripe_unavailable")
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestBillingSync: what was missed heals, a page after the other, and is told.
func TestBillingSync(t *testing.T) {
	s := stripetest.New(t)
	n := selling(t, s)
	orgs := map[string]*org{}
	for range 5 {
		o, sub := n.payer(s)
		orgs[sub] = o
	}
	lost := 0
	for sub := range orgs {
		if lost++; lost > 3 {
			break
		}
		s.Change(sub, func(x *stripetest.Subscription) { x.Status = "unpaid" })
	}
	s.Events() // lost
	checked, differences, cursor := 0, 0, ""
	for more := true; more; more = cursor != "" {
		a := n.operate("POST", "billing/sync", strings.Replace(fmt.Sprintf(`{"limit":2,"cursor":%q}`, cursor), `,"cursor":""`, "", 1)).want(200)
		var page struct {
			Checked     int
			Differences []billing.Difference
			NextCursor  string
		}
		if err := json.Unmarshal([]byte(a.raw), &page); err != nil || page.Checked > 2 {
			t.Fatal(err, a.raw)
		}
		checked, differences, cursor = checked+page.Checked, differences+len(page.Differences), page.NextCursor
		for _, d := range page.Differences {
			if !strings.Contains(d.Has, "UNPAID") || !strings.Contains(d.Had, "ACTIVE") || d.Error != "" {
				t.Errorf("%+v", d)
			}
		}
	}
	if checked != 5 || differences != 3 {
		t.Errorf("%d checked, %d differences", checked, differences)
	}
	for sub, o := range orgs {
		var live []stripetest.Subscription
		for _, x := range s.Subscriptions() {
			if x.ID == sub {
				live = append(live, x)
			}
		}
		if err := n.standsAs(o, live); err != nil {
			t.Error(err)
		}
	}
	n.operate("POST", "billing/sync", "").want(200, `"checked":5,"differences":[]`)
	s.Fail(500)
	n.operate("POST", "billing/sync", "").want(503, "stripe_unavailable")
	n.operate("POST", "billing/sync", `{"limit":0}`).want(400, `"param":"limit"`)
	start(t).operate("POST", "billing/sync", "").want(409, "--stripe-secret-key-file")
}
