package api_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"machineid/authority/billing/stripetest"
	"machineid/authority/state/statepb"
)

// customerOf is whom Stripe bills for a subscription.
func customerOf(s *stripetest.Stripe, sub string) string {
	for _, x := range s.Subscriptions() {
		if x.ID == sub {
			return x.Customer
		}
	}
	return ""
}

// TestAttacks: what somebody may write into Stripe, or into an event that Stripe signs, gives no org what another pays, and takes nothing
// from one that pays. Each event is signed as it must be.
func TestAttacks(t *testing.T) {
	s := stripetest.New(t)
	n := selling(t, s)
	payer, paid := n.payer(s)
	victim, owed := n.payer(s)
	poor := n.org()
	payers, victims := customerOf(s, paid), customerOf(s, owed)
	n.with(poor.admin, "POST", "billing/checkout", `{"plan":"max"}`).want(200)
	serial := 0
	event := func(kind, object string) []byte {
		serial++
		return fmt.Appendf(nil, `{"id":"evt_attack_%d","type":%q,"data":{"object":%s}}`, serial, kind, object)
	}
	unmoved := func(name string) {
		t.Helper()
		for o, want := range map[*org]string{payer: `"planTier":"max","planState":"active"`, victim: `"planTier":"max","planState":"active"`, poor: `"planTier":"free","planState":"active"`} {
			if a := n.with(o.admin, "GET", "usage", ""); !strings.Contains(a.raw, want) {
				t.Errorf("%s: %s", name, a.raw)
			}
		}
	}
	for name, body := range map[string][]byte{
		"the end of another's subscription": event("customer.subscription.deleted", fmt.Sprintf(`{"id":%q,"object":"subscription","customer":%q,"status":"canceled"}`, owed, payers)),
		"what it says of the status":        event("customer.subscription.updated", fmt.Sprintf(`{"id":%q,"object":"subscription","customer":%q,"status":"unpaid"}`, owed, victims)),
		"a subscription that is not there":  event("customer.subscription.created", fmt.Sprintf(`{"id":"sub_no","object":"subscription","customer":"cus_no","status":"active","metadata":{"orgId":%q}}`, poor.id)),
		"metadata of another org":           event("customer.subscription.updated", fmt.Sprintf(`{"id":%q,"object":"subscription","customer":%q,"metadata":{"orgId":%q}}`, paid, payers, poor.id)),
		"a reference to another org":        event("checkout.session.completed", fmt.Sprintf(`{"id":"cs_1","object":"checkout.session","customer":%q,"subscription":%q,"client_reference_id":%q,"metadata":{"orgId":%q}}`, payers, paid, poor.id, poor.id)),
		"a customer that nobody knows":      event("checkout.session.completed", fmt.Sprintf(`{"id":"cs_2","object":"checkout.session","customer":"cus_no","subscription":%q,"client_reference_id":%q}`, paid, poor.id)),
		"no customer":                       event("invoice.paid", fmt.Sprintf(`{"id":"in_1","object":"invoice","customer":null,"subscription":%q}`, paid)),
		"ids that are paths":                event("invoice.paid", `{"id":"in_2","object":"invoice","customer":"cus_no","subscription":"../customers"}`),
		"ids that are queries":              event("invoice.paid", fmt.Sprintf(`{"id":"in_3","object":"invoice","customer":"cus_no","subscription":"%s?expand[]=customer"}`, paid)),
	} {
		n.hook(body).want(200, `"changed":false`)
		unmoved(name)
	}
	// An account that is connected with ours has customers and webhooks of its own.
	asked := len(s.Requests())
	s.Change(paid, func(x *stripetest.Subscription) { x.Status = "unpaid" })
	body := strings.Replace(string(s.Events()[0]), `"object":"event"`, `"object":"event","account":"acct_another"`, 1)
	n.hook([]byte(body)).want(200, `"ignored":true`)
	if len(s.Requests()) != asked {
		t.Error("Stripe was asked about an account that is not ours")
	}
	s.Change(paid, func(x *stripetest.Subscription) { x.Status = "active" })
	n.hooks(s)
	// A subscription of the poor org's customer that was made for another org is not the poor org's, though the customer is, nor is it the other's.
	n.with(poor.admin, "POST", "billing/checkout", `{"plan":"max"}`).want(200)
	sub := s.Subscribe("cus_alien", "price_max", payer.id.String())
	n.hook(event("checkout.session.completed", fmt.Sprintf(`{"id":"cs_3","object":"checkout.session","customer":"cus_alien","subscription":%q}`, sub))).want(200, `"ignored":true`)
	n.with(payer.admin, "POST", "billing/portal", "").want(200, "/portal/"+payers)
	unmoved("another customer pays in the name of an org that pays")
	poors := n.billingOf(poor).GetCustomerId()
	for _, status := range []string{"active", "unpaid", "canceled"} {
		alien := s.Subscribe(poors, "price_max", victim.id.String())
		s.Change(alien, func(x *stripetest.Subscription) { x.Status = status })
		n.hooks(s)
		unmoved("a subscription of the poor org's customer in the victim's name, " + status)
		n.operate("POST", "billing/sync", `{"limit":100}`).want(200, `"differences":[]`)
		unmoved("the same, compared")
	}
	// One event's id, sent about two orgs, is applied to both: it is remembered by org.
	s.Change(paid, func(x *stripetest.Subscription) { x.Status = "past_due" })
	s.Change(owed, func(x *stripetest.Subscription) { x.Status = "past_due" })
	s.Events()
	for _, customer := range []string{payers, victims} {
		n.hook(fmt.Appendf(nil, `{"id":"evt_same","type":"invoice.payment_failed","data":{"object":{"object":"invoice","customer":%q}}}`, customer)).want(200, `"changed":true`)
	}
	// An id can be no longer than what the state keeps.
	n.hook(event("invoice.paid", fmt.Sprintf(`{"object":"invoice","customer":%q}`, strings.Repeat("c", 256)))).want(400, "invalid_signature")
	for result, least := range map[string]float64{"changed": 4, "unchanged": 2, "ignored": 4, "refused": 1} {
		if got := n.counted("machineid_billing_webhooks_total", result); got < least {
			t.Errorf("%v webhooks are counted as %s, want %v", got, result, least)
		}
	}
	s.Fail(500)
	n.hook(event("invoice.paid", fmt.Sprintf(`{"object":"invoice","customer":%q}`, payers))).want(503)
	if n.counted("machineid_billing_webhooks_total", "failed") != 1 {
		t.Error("a webhook that failed is not counted")
	}
}

// TestAnotherAccount: where the key is of another account, as after a mistake, nothing that is known of orgs is changed.
func TestAnotherAccount(t *testing.T) {
	s, another := stripetest.New(t), stripetest.New(t)
	n := selling(t, s)
	o, sub := n.payer(s)
	s.Change(sub, func(x *stripetest.Subscription) { x.Status = "unpaid" })
	for _, status := range []int{0, 401, 403} {
		another.Fail(status)
		s.Divert(another)
		n.hook(s.Sample(sub)).want(503, "stripe_unavailable")
		n.operate("POST", "billing/sync", "").want(503, "stripe_unavailable")
		n.with(o.admin, "GET", "usage", "").want(200, `"planTier":"max","planState":"active"`)
	}
	s.Divert(nil)
	n.hook(s.Sample(sub)).want(200, `"changed":true`)
}

// schedules calls f with every way in which n changes happen in order and the event of each comes at some time after it: what is even (2i)
// is the i-th change, what is odd (2i+1) the coming of its event.
func schedules(n int, f func([]int)) {
	var walk func(done int, open, way []int)
	walk = func(done int, open, way []int) {
		if done == n && len(open) == 0 {
			f(way)
			return
		}
		if done < n {
			walk(done+1, append(slices.Clone(open), done), append(slices.Clone(way), 2*done))
		}
		for i, e := range open {
			walk(done, slices.Delete(slices.Clone(open), i, i+1), append(slices.Clone(way), 2*e+1))
		}
	}
	walk(0, nil, nil)
}

// TestEveryWayOfALife: changes at Stripe and the coming of their events, mixed in every way in which an event comes after its change, with
// equal times. When the last has come the org is as Stripe has it, and all of them once more, backwards, change nothing.
func TestEveryWayOfALife(t *testing.T) {
	type step func(s *stripetest.Stripe, customer, org string, subs *[]string)
	begin := func(price string) step {
		return func(s *stripetest.Stripe, customer, org string, subs *[]string) {
			*subs = append(*subs, s.Subscribe(customer, price, org))
		}
	}
	to := func(i int, status string) step {
		return func(s *stripetest.Stripe, _, _ string, subs *[]string) {
			s.Change((*subs)[i], func(x *stripetest.Subscription) { x.Status = status })
		}
	}
	for name, life := range map[string][]step{
		"fails and is paid":       {begin("price_max"), to(0, "past_due"), to(0, "unpaid"), to(0, "active")},
		"ends":                    {begin("price_max"), to(0, "past_due"), to(0, "active"), to(0, "canceled")},
		"another begins":          {begin("price_max"), to(0, "canceled"), begin("price_max_old"), to(1, "unpaid")},
		"another beside it":       {begin("price_max"), begin("price_max_old"), to(1, "past_due"), to(0, "canceled")},
		"the first payment fails": {begin("price_max"), to(0, "incomplete"), to(0, "incomplete_expired"), begin("price_max")},
	} {
		t.Run(name, func(t *testing.T) {
			s := stripetest.New(t)
			s.SameTime()
			n := selling(t, s)
			ways := 0
			schedules(len(life), func(way []int) {
				if ways++; testing.Short() && ways%10 != 0 {
					return
				}
				o := n.org()
				customer := fmt.Sprint("cus_way_", ways)
				var subs []string
				var events [][]byte
				s.Events()
				for _, do := range way {
					if do%2 == 0 {
						life[do/2](s, customer, o.id.String(), &subs)
						events = append(events, s.Events()...)
						continue
					}
					n.hook(events[do/2]).want(200)
				}
				as := func(when string) {
					t.Helper()
					if err := n.standsAs(o, s.Of(customer)); err != nil {
						t.Fatalf("%s, in the way %v: %v", when, way, err)
					}
				}
				as("at the end")
				for _, e := range slices.Backward(events) {
					n.hook(e).want(200, `"changed":false`)
				}
				as("after all came again")
			})
			if !testing.Short() && ways != 105 {
				t.Errorf("%d ways of 4 changes and their events", ways)
			}
		})
	}
}

// TestWebhooksAtOnce: events come from several sides at once, again and again, while the life goes on and answers of Stripe take their
// time; a webhook that is not answered with 200 comes again, as Stripe sends it. In the end the org is as Stripe has it.
func TestWebhooksAtOnce(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 1))
			s := stripetest.New(t)
			n := selling(t, s)
			o, sub := n.payer(s)
			customer := customerOf(s, sub)
			n.store.before(func(c *statepb.Command) { // what was fetched grows old
				if c.GetSetBilling() != nil {
					<-time.After(time.Duration(rand.IntN(15)) * time.Millisecond)
				}
			})
			current := sub
			for round := range 25 {
				events := make(chan []byte, 100)
				var senders sync.WaitGroup
				for range 8 {
					senders.Go(func() { n.deliver(events) })
				}
				for range 3 {
					switch random.IntN(8) {
					case 0:
						current = s.Subscribe(customer, "price_max", o.id.String())
					default:
						status := []string{"active", "past_due", "unpaid", "paused", "trialing", "canceled"}[random.IntN(6)]
						s.Change(current, func(x *stripetest.Subscription) { x.Status = status })
					}
					for _, e := range s.Events() {
						for range 1 + random.IntN(2) {
							events <- e
						}
					}
					<-time.After(time.Duration(random.IntN(6)) * time.Millisecond) // some have been fetched by then, and not applied
				}
				close(events)
				senders.Wait()
				if err := n.standsAs(o, s.Of(customer)); err != nil {
					t.Fatalf("round %d: %v", round, err)
				}
			}
		})
	}
}

// deliver sends events until there are no more, each as often as it takes. It is safe for concurrent use.
func (n *node) deliver(events <-chan []byte) {
	for e := range events {
		for try := 0; ; try++ {
			a, err := n.send(hookRequest(n, e))
			if err == nil && a.StatusCode == http.StatusOK {
				break
			}
			if err != nil || a.StatusCode != http.StatusServiceUnavailable || try > 50 {
				n.t.Errorf("%v, %v", a, err)
				break
			}
		}
	}
}

func hookRequest(n *node, event []byte) string {
	return fmt.Sprintf("POST /api/v1/webhooks/stripe HTTP/1.1\r\nHost: a\r\nStripe-Signature: %s\r\nContent-Length: %d\r\n\r\n%s",
		stripetest.Sign(event, n.clock().Add(time.Second), stripetest.WebhookSecret), len(event), event)
}
