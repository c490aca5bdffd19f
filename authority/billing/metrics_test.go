package billing

import (
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"machineid/authority/billing/stripetest"
)

func value(t *testing.T, c prometheus.Collector) float64 {
	t.Helper()
	m, ok := c.(prometheus.Metric)
	if !ok {
		t.Fatalf("%T is no single metric", c)
	}
	var out dto.Metric
	if err := m.Write(&out); err != nil {
		t.Fatal(err)
	}
	return out.GetGauge().GetValue() + out.GetCounter().GetValue()
}

// TestCallsAreCounted: each call of Stripe's API has a name of its own, and each kind of answer another result.
func TestCallsAreCounted(t *testing.T) {
	fake := stripetest.New(t)
	s, b := service(fake), newBook(t)
	url, err := s.Checkout(t.Context(), b, orgID, "pro")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Checkout(t.Context(), b, orgID, "pro"); err != nil { // ends the first
		t.Fatal(err)
	}
	_, _ = fake.Pay(url)
	if _, err := s.Portal(t.Context(), b, orgID); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Customers(t.Context(), "a@example.com"); err != nil {
		t.Fatal(err)
	}
	sub := fake.Subscribe("cus_1", "price_pro", orgID.String())
	if _, err := s.subscription(t.Context(), sub); err != nil {
		t.Fatal(err)
	}
	if err := s.cancel(t.Context(), sub); err != nil {
		t.Fatal(err)
	}
	for _, name := range callNames {
		if value(t, s.metrics.calls[name].results[callOK]) == 0 {
			t.Errorf("%s is not counted", name)
		}
	}
	if value(t, s.metrics.calls[otherCall].results[callOK]) != 0 {
		t.Error("a call has no name")
	}
	for status, result := range map[int]string{400: callRefused, 401: callRefused, 409: callBusy, 429: callBusy, 500: callFailed, 503: callFailed} {
		before := value(t, s.metrics.calls["get_subscription"].results[result])
		fake.Fail(status)
		if _, err := s.subscription(t.Context(), sub); err == nil {
			t.Fatal("nothing failed")
		}
		if now := value(t, s.metrics.calls["get_subscription"].results[result]); now != before+1 {
			t.Errorf("HTTP %d is not counted as %s", status, result)
		}
	}
	cfg := s.cfg
	cfg.Transport = http.NewFileTransport(http.Dir(t.TempDir())) // answers HTTP 404, no Stripe
	if _, err := New(cfg).subscription(t.Context(), sub); err == nil {
		t.Error("what is no Stripe answers")
	}
	cfg.Transport, cfg.URL = nil, "http://127.0.0.1:1"
	gone := New(cfg)
	if _, err := gone.subscription(t.Context(), sub); err == nil || value(t, gone.metrics.calls["get_subscription"].results[callUnreachable]) != 1 {
		t.Errorf("nobody answers: %v", err)
	}
	s.Compared(time.Unix(1_790_000_000, 0))
	if got := value(t, s.metrics.lastSync); got != 1_790_000_000 {
		t.Errorf("last compared at %v", got)
	}
}
