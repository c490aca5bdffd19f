package billing

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"machineid/authority/billing/stripetest"
	"machineid/authority/state"
	"machineid/authority/state/statepb"
)

func service(s *stripetest.Stripe) *Service {
	return New(Config{
		SecretKey: stripetest.Key, WebhookSecret: stripetest.WebhookSecret, URL: s.URL, Prices: stripetest.Prices(),
		SuccessURL: "https://example.com/done", CancelURL: "https://example.com/back", ReturnURL: "https://example.com/billing",
	})
}

// TestChoose: which of several subscriptions counts, and what is read of it.
func TestChoose(t *testing.T) {
	s := New(Config{Prices: stripetest.Prices()})
	sub := func(id, status, price string, created int64) *subscription {
		x := &subscription{ID: id, Status: status, Created: created, CurrentPeriodEnd: 100}
		x.Items.Data = []item{{CurrentPeriodEnd: 200}}
		x.Items.Data[0].Price.ID = price
		return x
	}
	paused := func(x *subscription) *subscription {
		x.PauseCollection = &struct{}{}
		return x
	}
	for _, c := range []struct {
		name    string
		list    []*subscription
		current string
		want    string
	}{
		{"none", nil, "", ""},
		{"one", []*subscription{sub("a", "active", "price_pro", 1)}, "", "a pro ACTIVE"},
		{"the newest live", []*subscription{sub("a", "active", "price_pro", 1), sub("b", "trialing", "price_max", 2)}, "a", "b max TRIALING + a"},
		{"what is paid before what is owed", []*subscription{sub("a", "past_due", "price_max", 3), sub("b", "active", "price_pro", 2), sub("c", "unpaid", "price_max", 4)}, "c", "b pro ACTIVE + a + c"},
		{"a grace before none", []*subscription{sub("a", "past_due", "price_max", 1), sub("b", "paused", "price_pro", 2)}, "", "a max PAST_DUE + b"},
		{"at the same time", []*subscription{sub("b", "active", "price_max", 1), sub("a", "active", "price_pro", 1)}, "a", "b max ACTIVE + a"},
		{"live before newer that ended", []*subscription{sub("a", "unpaid", "price_pro", 1), sub("b", "canceled", "price_max", 2)}, "b", "a pro UNPAID"},
		{"the one that it had", []*subscription{sub("a", "canceled", "price_pro", 1), sub("b", "incomplete_expired", "price_max", 2)}, "a", "a pro CANCELED"},
		{"incomplete is none", []*subscription{sub("a", "incomplete", "price_pro", 1)}, "a", ""},
		{"what is new to us is none", []*subscription{sub("a", "dancing", "price_pro", 1)}, "a", ""},
		{"another product", []*subscription{sub("a", "active", "price_of_a_book", 1)}, "", ""},
		{"its end counts all the same", []*subscription{sub("a", "canceled", "price_of_a_book", 1)}, "a", "a  CANCELED"},
		{"paid before what is not collected", []*subscription{paused(sub("a", "active", "price_max", 2)), sub("b", "active", "price_pro", 1)}, "", "b pro ACTIVE + a"},
		{"a grace that is not collected", []*subscription{paused(sub("a", "past_due", "price_max", 2))}, "", "a max PAUSED"},
		{"a trial is not collected either way", []*subscription{paused(sub("a", "trialing", "price_max", 2))}, "", "a max TRIALING"},
		{"its end, not collected", []*subscription{paused(sub("a", "canceled", "price_max", 2))}, "a", "a max CANCELED"},
		{"an old price", []*subscription{sub("a", "trialing", "price_pro_old", 1)}, "", "a pro TRIALING"},
	} {
		got, others := s.choose(t.Context(), c.list, orgID, c.current)
		text := ""
		if got != nil {
			text = fmt.Sprintf("%s %s %s", got.GetId(), got.GetTier(), got.GetStatus())
			if got.GetPeriodEndMs() != 100_000 {
				t.Errorf("%s: the period ends at %d", c.name, got.GetPeriodEndMs())
			}
		}
		names := []string{text}
		for _, other := range others {
			names = append(names, other.GetId())
		}
		text = strings.Join(names, " + ")
		slices.Reverse(c.list) // the order in which Stripe lists them says nothing
		if again, _ := s.choose(t.Context(), c.list, orgID, c.current); !proto.Equal(got, again) {
			t.Errorf("%s: in another order it is %v", c.name, again)
		}
		if text != c.want {
			t.Errorf("%s: %q, want %q", c.name, text, c.want)
		}
	}
	late := sub("a", "active", "price_pro", 1)
	late.CurrentPeriodEnd, late.CancelAt, late.CancelAtPeriodEnd = 0, 300, true
	if got := s.read(t.Context(), late); got.GetPeriodEndMs() != 200_000 || got.GetCancelAtMs() != 300_000 || !got.GetCancelAtPeriodEnd() {
		t.Errorf("by the later place: %v", got)
	}
}

// TestParseEvent reads whom events are about, in both forms that Stripe's versions have.
func TestParseEvent(t *testing.T) {
	for body, want := range map[string]Event{
		`{"id":"e","type":"customer.subscription.updated","data":{"object":{"id":"sub_1","object":"subscription","customer":"cus_1"}}}`:                                                        {"e", "customer.subscription.updated", "cus_1", "sub_1", ""},
		`{"id":"e","type":"invoice.paid","data":{"object":{"id":"in_1","object":"invoice","customer":{"id":"cus_1"},"subscription":{"id":"sub_1"}}}}`:                                          {"e", "invoice.paid", "cus_1", "sub_1", ""},
		`{"id":"e","type":"invoice.paid","data":{"object":{"id":"in_1","object":"invoice","customer":"cus_1","parent":{"subscription_details":{"subscription":"sub_1"}}}}}`:                    {"e", "invoice.paid", "cus_1", "sub_1", ""},
		`{"id":"e","type":"checkout.session.completed","data":{"object":{"id":"cs_1","object":"checkout.session","customer":"cus_1","subscription":"sub_1","client_reference_id":"another"}}}`: {"e", "checkout.session.completed", "cus_1", "sub_1", ""},
		`{"id":"e","type":"checkout.session.completed","data":{"object":{"id":"cs_1","object":"checkout.session","customer":null,"subscription":null}}}`:                                       {"e", "checkout.session.completed", "", "", ""},
		`{"id":"e","type":"invoice.paid","account":"acct_1","data":{"object":{"object":"invoice","customer":"cus_1"}}}`:                                                                        {"e", "invoice.paid", "cus_1", "", "acct_1"},
		`{"id":"e","type":"charge.succeeded","data":{"object":{"customer":7}}}`:                                                                                                                {"e", "charge.succeeded", "", "", ""},
	} {
		if got, err := ParseEvent([]byte(body)); err != nil || got != want {
			t.Errorf("%s: %+v, %v", body, got, err)
		}
	}
	for _, body := range []string{``, `[]`, `{}`, `{"id":"e"}`, `{"id":"` + strings.Repeat("e", 256) + `","type":"invoice.paid","data":{"object":{}}}`, `{"id":"e","type":"invoice.paid","data":{}}`} {
		if got, err := ParseEvent([]byte(body)); !errors.Is(err, ErrEvent) {
			t.Errorf("%s: %+v, %v", body, got, err)
		}
	}
}

func readBilling(b *book) (rec *statepb.Billing, err error) {
	err = b.View(b.tb.Context(), func(r state.Reader) (err error) {
		rec, err = r.Billing(orgID)
		return err
	})
	return rec, err
}

// TestCheck: each price is looked at, and what cannot be sold is named.
func TestCheck(t *testing.T) {
	fake := stripetest.New(t)
	cfg := service(fake).cfg
	cfg.Prices = map[string][]string{"pro": {"price_pro", "price_pro_old"}, "max": {"price_pro_old_as_new", "price_max"}, "scale": {"price_scale"}}
	list, err := New(cfg).Check(t.Context())
	if err != nil || len(list) != 5 {
		t.Fatalf("%+v, %v", list, err)
	}
	for _, p := range list {
		if bad := p.Fault != ""; bad != (p.ID == "price_pro_old_as_new") {
			t.Errorf("%+v", p)
		}
	}
	cfg.Prices = map[string][]string{"pro": {"price_pro_old"}}
	if list, err := New(cfg).Check(t.Context()); err != nil || !strings.Contains(list[0].Fault, "archived") {
		t.Errorf("%+v, %v", list, err)
	}
	fake.Fail(500)
	if _, err := New(cfg).Check(t.Context()); err == nil {
		t.Error("Stripe is down, and the prices are found right")
	}
}

// TestConfigFaults: what cannot be right is found before anything is asked.
func TestConfigFaults(t *testing.T) {
	err := Config{
		SuccessURL: "example.com", URL: "ftp://x", WebhookSecret: "s", Prices: map[string][]string{"pro": {"p"}, "max": {"p"}},
	}.Validate()
	for _, part := range []string{"--stripe-success-url", "--stripe-url", "--stripe-price-pro", "price of max too", "--stripe-secret-key-file"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("no %s in %v", part, err)
		}
	}
	if err := (Config{}).Validate(); err != nil {
		t.Error(err)
	}
	if text := fmt.Sprintf("%v %+v", Config{SecretKey: "sk_live"}, Config{WebhookSecret: "whsec"}); strings.Contains(text, "sk_live") || strings.Contains(text, "whsec") {
		t.Error(text)
	}
}
