package billing

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"machineid/authority/billing/stripetest"
	"machineid/authority/state/statepb"
)

// meanwhile runs f while the first request of a kind waits for its answer, until the fake was asked often enough by f, or f has ended.
func meanwhile(fake *stripetest.Stripe, request string, often int, f func()) (wait func()) {
	ended := make(chan struct{})
	var once sync.Once
	fake.Before(func(r *http.Request) {
		if r.Method+" "+r.URL.Path != request {
			return
		}
		once.Do(func() {
			go func() {
				defer close(ended)
				f()
			}()
			for count(fake, request) <= often {
				select {
				case <-ended:
					return
				case <-time.After(time.Millisecond):
				}
			}
		})
	})
	return func() {
		<-ended
		fake.Before(nil)
	}
}

func count(fake *stripetest.Stripe, request string) (n int) {
	for _, r := range fake.Requests() {
		if r == request {
			n++
		}
	}
	return n
}

// TestOneCustomer: two checkouts at once, and one whose answer was lost, make one customer.
func TestOneCustomer(t *testing.T) {
	fake := stripetest.New(t)
	s, b := service(fake), newBook(t)
	var inner string
	var innerErr error
	wait := meanwhile(fake, "POST /v1/customers", 1, func() { inner, innerErr = s.customer(t.Context(), b, orgID) })
	outer, err := s.customer(t.Context(), b, orgID)
	wait()
	if err != nil || innerErr != nil || outer == "" || outer != inner {
		t.Errorf("%q and %q, %v, %v", outer, inner, err, innerErr)
	}
	rec, err := readBilling(b)
	if err != nil || rec.GetCustomerId() != outer {
		t.Errorf("%v, %v", rec, err)
	}
}

// TestOneCheckout: of checkouts that are begun at once, for one plan or for two, one can be paid, and one subscription comes of it.
func TestOneCheckout(t *testing.T) {
	const begin = "POST /v1/checkout/sessions"
	for _, other := range []string{"pro", "max"} {
		for _, often := range []int{1, 2, 9} { // how far the second gets while the first waits: refused once, twice, or to its end
			fake := stripetest.New(t)
			s, b := service(fake), newBook(t)
			if _, err := s.customer(t.Context(), b, orgID); err != nil {
				t.Fatal(err)
			}
			var inner string
			var innerErr error
			wait := meanwhile(fake, begin, often, func() { inner, innerErr = s.Checkout(t.Context(), b, orgID, other) })
			outer, err := s.Checkout(t.Context(), b, orgID, "pro")
			wait()
			if err != nil && !errors.Is(err, ErrMoved) || innerErr != nil && !errors.Is(innerErr, ErrMoved) || err != nil && innerErr != nil {
				t.Fatalf("%v, %v", err, innerErr)
			}
			paid := 0
			for _, url := range slices.Compact([]string{outer, inner}) {
				if _, err := fake.Pay(url); url != "" && err == nil {
					paid++
				}
			}
			if paid != 1 || len(fake.Subscriptions()) != 1 {
				t.Errorf("pro and %s, %d: %d checkouts were paid, and there are %d subscriptions", other, often, paid, len(fake.Subscriptions()))
			}
			if url, err := s.Checkout(t.Context(), b, orgID, other); err != nil || !strings.Contains(url, "/portal/") {
				t.Errorf("after that it is %s, %v", url, err)
			}
		}
	}
}

// TestACheckoutThatIsPaidMeanwhile: one that is paid in the moment in which it would be ended leads to the portal, not to a second one.
func TestACheckoutThatIsPaidMeanwhile(t *testing.T) {
	fake := stripetest.New(t)
	s, b := service(fake), newBook(t)
	url, err := s.Checkout(t.Context(), b, orgID, "pro")
	if err != nil {
		t.Fatal(err)
	}
	for _, moment := range []struct{ method, from, to string }{{"GET", "/v1/subscriptions", ""}, {"POST", "/v1/checkout/sessions/", "/expire"}} {
		var once sync.Once
		fake.Before(func(r *http.Request) {
			if r.Method == moment.method && strings.HasPrefix(r.URL.Path, moment.from) && strings.HasSuffix(r.URL.Path, moment.to) {
				once.Do(func() { _, _ = fake.Pay(url) })
			}
		})
		next, err := s.Checkout(t.Context(), b, orgID, "max")
		if err != nil {
			t.Fatal(moment, err)
		}
		if live := len(fake.Subscriptions()); live == 0 && !strings.Contains(next, "/checkout/") || live == 1 && !strings.Contains(next, "/portal/") || live > 1 {
			t.Errorf("%s: there are %d subscriptions, and people are sent to %s", moment, live, next)
		}
		url = next
	}
}

// TestWhatStripeRemembers: a failure of Stripe's that it repeats under its name keeps nobody from paying, and another price under the
// same name neither.
func TestWhatStripeRemembers(t *testing.T) {
	fake := stripetest.New(t)
	s, b := service(fake), newBook(t)
	for _, path := range []string{"/v1/customers", "/v1/checkout/sessions"} {
		fake.Break(path, http.StatusInternalServerError)
		if _, err := s.Checkout(t.Context(), b, orgID, "pro"); err == nil {
			t.Fatalf("%s has failed, and nobody says so", path)
		}
	}
	if url, err := s.Checkout(t.Context(), b, orgID, "pro"); err != nil || url == "" {
		t.Errorf("what failed once fails for a day: %q, %v", url, err)
	}
	fake.Break("/v1/checkout/sessions", http.StatusInternalServerError)
	if _, err := s.Checkout(t.Context(), b, orgID, "pro"); err == nil {
		t.Fatal("nothing failed")
	}
	if url, err := s.Checkout(t.Context(), b, orgID, "max"); err != nil || url == "" {
		t.Errorf("for another plan: %q, %v", url, err)
	}
}

// TestTwoSubscriptions: what counts is the newest that is paid; the other is told in the log, once, in the difference and in the metric, until
// it is gone.
func TestTwoSubscriptions(t *testing.T) {
	fake := stripetest.New(t)
	var log bytes.Buffer
	cfg := service(fake).cfg
	cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	s, b := New(cfg), newBook(t)
	url, err := s.Checkout(t.Context(), b, orgID, "pro")
	if err != nil {
		t.Fatal(err)
	}
	first, err := fake.Pay(url)
	if err != nil {
		t.Fatal(err)
	}
	rec, _ := readBilling(b)
	second := fake.Subscribe(rec.GetCustomerId(), "price_max", orgID.String())
	for _, body := range fake.Events() {
		e, err := ParseEvent(body)
		if err != nil {
			t.Fatal(err)
		}
		if _, ours, err := s.Receive(t.Context(), b, e); err != nil || !ours {
			t.Fatal(ours, err)
		}
	}
	if rec, err := readBilling(b); err != nil || rec.GetSubscription().GetId() != second {
		t.Errorf("it is %v, %v", rec, err)
	}
	for range 2 {
		d, err := s.Sync(t.Context(), b, orgID)
		if err != nil || d == nil || len(d.Others) != 1 || !strings.Contains(d.Others[0], first+" pro ACTIVE") || !strings.Contains(d.Error, "2 subscriptions") || !strings.Contains(d.Has, second) {
			t.Errorf("%+v, %v", d, err)
		}
	}
	if n := strings.Count(log.String(), "pays for more than one subscription"); n != 1 || !strings.Contains(log.String(), first) {
		t.Errorf("said %d times:\n%s", n, &log)
	}
	if got := value(t, s.metrics.twice); got != 1 {
		t.Errorf("the metric says %v", got)
	}
	for how, forget := range map[string]func(){"with its term": s.Forget, "with the org": func() { s.Gone(t.Context(), orgID) }} {
		forget()
		if got := value(t, s.metrics.twice); got != 0 {
			t.Errorf("what has ended %s is told: %v", how, got)
		}
		before := log.Len()
		if _, err := s.Sync(t.Context(), b, orgID); err != nil || value(t, s.metrics.twice) != 1 || log.Len() == before {
			t.Errorf("seen again it is not told: %v", err)
		}
	}
	fake.Change(first, func(x *stripetest.Subscription) { x.Status = "canceled" })
	if d, err := s.Sync(t.Context(), b, orgID); err != nil || d != nil {
		t.Errorf("%+v, %v", d, err)
	}
	if got := value(t, s.metrics.twice); got != 0 {
		t.Errorf("the metric says %v", got)
	}
}

// TestSeveralItems: of the items of a subscription the largest plan counts, in any order and on any page; what is none of ours is passed over.
func TestSeveralItems(t *testing.T) {
	fake := stripetest.New(t)
	s, b := service(fake), newBook(t)
	customer, err := s.customer(t.Context(), b, orgID)
	if err != nil {
		t.Fatal(err)
	}
	id := fake.Subscribe(customer, "price_pro", orgID.String())
	many := append(slices.Repeat([]string{"price_book"}, 250), "price_pro", "price_max")
	for _, prices := range [][]string{{"price_pro", "price_max", "price_scale"}, {"price_max", "price_book", "price_pro"}, {"price_book", "price_pro", "price_max"}, many} {
		for i, places := range []bool{false, true, false, true} {
			last := len(prices) - 1
			page := i / 2 * (1 + len(prices)/10)
			fake.Change(id, func(x *stripetest.Subscription) {
				x.More, x.Price, x.NewPlaces, x.Page = prices[:last], prices[last], places, page
			})
			for name, see := range map[string]func() error{
				"compared": func() error { _, err := s.Sync(t.Context(), b, orgID); return err },
				"an event": func() error {
					e, err := ParseEvent(fake.Sample(id))
					if err == nil {
						_, _, err = s.Receive(t.Context(), b, e)
					}
					return err
				},
			} {
				if err := see(); err != nil {
					t.Fatal(err)
				}
				rec, err := readBilling(b)
				if sub := rec.GetSubscription(); err != nil || sub.GetTier() != "max" || sub.GetStatus() != statepb.Subscription_ACTIVE || sub.GetPeriodEndMs() == 0 {
					t.Errorf("%d prices, pages of %d, %s: %v, %v", len(prices), page, name, sub, err)
				}
			}
		}
	}
}

// TestPausedCollection: who is not asked to pay is frozen like one whose subscription is paused, by whichever way Stripe is told, until it is again.
func TestPausedCollection(t *testing.T) {
	fake := stripetest.New(t)
	s, b := service(fake), newBook(t)
	customer, err := s.customer(t.Context(), b, orgID)
	if err != nil {
		t.Fatal(err)
	}
	id := fake.Subscribe(customer, "price_pro", orgID.String())
	for _, behavior := range []string{"void", "", "keep_as_draft", "", "mark_uncollectible", ""} {
		fake.Change(id, func(x *stripetest.Subscription) { x.Paused = behavior })
		if _, err := s.Sync(t.Context(), b, orgID); err != nil {
			t.Fatal(err)
		}
		want := statepb.Subscription_ACTIVE
		if behavior != "" {
			want = statepb.Subscription_PAUSED
		}
		if rec, err := readBilling(b); err != nil || rec.GetSubscription().GetStatus() != want {
			t.Errorf("%q: %v, %v", behavior, rec.GetSubscription(), err)
		}
	}
}

// TestRelease: what an org would be charged for again is in the way of its end, or is cancelled; the rest is not touched.
func TestRelease(t *testing.T) {
	fake := stripetest.New(t)
	s, b := service(fake), newBook(t)
	if err := s.Release(t.Context(), b, orgID, false); err != nil || len(fake.Requests()) != 0 {
		t.Errorf("an org that never paid: %v, %v", err, fake.Requests())
	}
	url, err := s.Checkout(t.Context(), b, orgID, "pro")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Release(t.Context(), b, orgID, false); err != nil {
		t.Errorf("an org that has not paid: %v", err)
	}
	if _, err := fake.Pay(url); err == nil {
		t.Error("after the release its checkout can be paid")
	}
	rec, _ := readBilling(b)
	ours := fake.Subscribe(rec.GetCustomerId(), "price_pro", orgID.String())
	old := fake.Subscribe(rec.GetCustomerId(), "price_that_was", orgID.String())
	bare := fake.Subscribe(rec.GetCustomerId(), "price_max", "")
	others := []string{fake.Subscribe(rec.GetCustomerId(), "price_pro", "another"), fake.Subscribe(rec.GetCustomerId(), "price_book", ""), fake.Subscribe("cus_other", "price_pro", orgID.String())}
	for status, charged := range map[string]bool{"active": true, "trialing": true, "past_due": true, "unpaid": true, "paused": true, "incomplete": true, "incomplete_expired": false} {
		fake.Change(ours, func(x *stripetest.Subscription) { x.Status = status })
		var pays *StillPaysError
		if err := s.Release(t.Context(), b, orgID, false); !errors.As(err, &pays) || pays.Unasked || strings.Contains(err.Error(), ours) != charged || !strings.Contains(err.Error(), old) || !strings.Contains(err.Error(), bare) {
			t.Errorf("%s: %v", status, err)
		}
	}
	fake.Change(ours, func(x *stripetest.Subscription) { x.Status, x.CancelAtPeriodEnd = "active", true })
	fake.Change(old, func(x *stripetest.Subscription) { x.CancelAt = 1_900_000_000 })
	fake.Fail(http.StatusInternalServerError)
	if err := s.Release(t.Context(), b, orgID, true); err == nil {
		t.Error("Stripe is down, and the org is released")
	}
	fake.Fail(0)
	if err := s.Release(t.Context(), b, orgID, true); err != nil {
		t.Error(err)
	}
	var left []string
	for _, sub := range fake.Subscriptions() {
		left = append(left, sub.ID)
	}
	slices.Sort(left)
	if want := append([]string{ours, old}, others...); !slices.Equal(left, slices.Sorted(slices.Values(want))) {
		t.Errorf("left are %v, want %v", left, want)
	}
	fake.Delete(rec.GetCustomerId())
	if err := s.Release(t.Context(), b, orgID, false); err != nil {
		t.Errorf("its customer was deleted: %v", err)
	}
}

// TestReleaseUnasked: where Stripe is not set up, what the state knows counts.
func TestReleaseUnasked(t *testing.T) {
	fake := stripetest.New(t)
	b := newBook(t)
	if _, err := service(fake).customer(t.Context(), b, orgID); err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		sub  *statepb.Subscription
		pays bool
	}{
		{&statepb.Subscription{Id: "s", Tier: "pro", Status: statepb.Subscription_ACTIVE}, true},
		{&statepb.Subscription{Id: "s", Tier: "pro", Status: statepb.Subscription_ACTIVE, CancelAtPeriodEnd: true, PeriodEndMs: 1}, false},
		{&statepb.Subscription{Id: "s", Tier: "pro", Status: statepb.Subscription_UNPAID}, true},
		{&statepb.Subscription{Id: "s", Tier: "pro", Status: statepb.Subscription_CANCELED}, false},
	} {
		if out, err := b.Set(t.Context(), &statepb.SetBilling{OrgId: orgID[:], Revision: uint64(i + 1), Subscription: c.sub}); err != nil || !out.Changed {
			t.Fatal(out, err)
		}
		for _, cancel := range []bool{false, true} {
			var pays *StillPaysError
			if err := New(Config{}).Release(t.Context(), b, orgID, cancel); errors.As(err, &pays) != c.pays || c.pays && !pays.Unasked {
				t.Errorf("%v: %v", c.sub, err)
			}
		}
	}
}

// unended refuses to end checkouts, as for a key that may not.
type unended struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (u unended) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(r.URL.Path, "/expire") {
		return u.next.RoundTrip(r)
	}
	return &http.Response{StatusCode: http.StatusForbidden, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(`{"error":{"type":"invalid_request_error","message":"no"}}`)), Request: r}, nil
}

// TestACheckoutThatCannotBeEnded: beside one that stays open no other is made, and an org with one is not released.
func TestACheckoutThatCannotBeEnded(t *testing.T) {
	fake := stripetest.New(t)
	cfg, b := service(fake).cfg, newBook(t)
	cfg.Transport = unended{fake.Transport()}
	s := New(cfg)
	url, err := s.Checkout(t.Context(), b, orgID, "pro")
	if err != nil {
		t.Fatal(err)
	}
	if second, err := s.Checkout(t.Context(), b, orgID, "pro"); !errors.Is(err, ErrMoved) {
		t.Errorf("beside %s there is %s, %v", url, second, err)
	}
	if err := s.Release(t.Context(), b, orgID, true); !errors.Is(err, ErrMoved) {
		t.Errorf("released: %v", err)
	}
}
