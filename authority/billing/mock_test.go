package billing

import (
	"bufio"
	"context"
	"crypto/tls"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/form"
)

// startMock builds stripe-mock, as internal/tools pins it, and runs it on loopback ports of its own until the test ends. It refuses what
// Stripe's OpenAPI description does not allow. It keeps nothing, so it proves shapes only. It returns its addresses for HTTP and HTTPS.
func startMock(t *testing.T) (plain, secure string) {
	t.Helper()
	if testing.Short() {
		t.Skip("-short: stripe-mock is built for it")
	}
	binary := filepath.Join(t.TempDir(), "stripe-mock")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "github.com/stripe/stripe-mock")
	build.Dir = filepath.Join("..", "..", "internal", "tools")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build stripe-mock: %v\n%s", err, said)
	}
	ctx, stop := context.WithCancel(context.Background())
	mock := exec.CommandContext(ctx, binary, "-http-addr", "127.0.0.1:0", "-https-addr", "127.0.0.1:0")
	out, err := mock.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	mock.Stderr = os.Stderr
	if err := mock.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = mock.Wait() // it was killed
	})
	addresses := make(chan [2]string, 2)
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); { // to the end, or it would wait
			for scheme, said := range map[string]string{"http": "Listening for HTTP at address: ", "https": "Listening for HTTPS at address: "} {
				if _, at, found := strings.Cut(lines.Text(), said); found {
					addresses <- [2]string{scheme, scheme + "://" + at}
				}
			}
		}
	}()
	found := map[string]string{}
	for range 2 {
		select {
		case a := <-addresses:
			found[a[0]] = a[1]
		case <-time.After(time.Minute):
			t.Fatal("stripe-mock does not say where it listens")
		}
	}
	return found["http"], found["https"]
}

// TestRequestShapes has Stripe's own description of its API judge each request that is ever made.
func TestRequestShapes(t *testing.T) {
	t.Parallel()
	plain, secure := startMock(t)
	t.Run("http", func(t *testing.T) { shapes(t, plain, nil) })
	t.Run("https", func(t *testing.T) {
		// Its certificate is its own.
		shapes(t, secure, &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}})
	})
	t.Run("https, and nobody vouches for it", func(t *testing.T) {
		s := New(Config{SecretKey: "sk_test_123", URL: secure})
		if _, err := s.subscription(t.Context(), "sub_1"); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("a Stripe with a certificate that nobody signed is believed: %v", err)
		}
	})
}

func shapes(t *testing.T, url string, transport http.RoundTripper) {
	t.Helper()
	s := New(Config{
		SecretKey: "sk_test_123", URL: url, Transport: transport, Prices: map[string][]string{"pro": {"price_pro"}},
		SuccessURL: "https://example.com/done", CancelURL: "https://example.com/back", ReturnURL: "https://example.com/billing",
	})
	ctx, b := t.Context(), newBook(t)
	if _, err := s.customer(ctx, b, orgID); err != nil {
		t.Errorf("customer: %v", err)
	}
	if _, _, err := s.endCheckouts(ctx, "cus_1"); err != nil {
		t.Errorf("checkouts: %v", err)
	}
	if err := s.expireCheckout(ctx, "cs_1"); err != nil {
		t.Errorf("end a checkout: %v", err)
	}
	if url, err := s.makeCheckout(ctx, orgID, "cus_1", "pro", "a name"); err != nil || url == "" {
		t.Errorf("checkout: %q, %v", url, err)
	}
	if url, err := s.Checkout(ctx, b, orgID, "pro"); err != nil || url == "" {
		t.Errorf("all of it: %q, %v", url, err)
	}
	if err := s.cancel(ctx, "sub_1"); err != nil {
		t.Errorf("cancel: %v", err)
	}
	if url, err := s.Portal(ctx, b, orgID); err != nil || url == "" {
		t.Errorf("portal: %q, %v", url, err)
	}
	if url, err := s.portal(ctx, "cus_1", "sub_1"); err != nil || url == "" {
		t.Errorf("the portal's page for another plan: %q, %v", url, err)
	}
	list, err := s.subscriptions(ctx, "cus_1")
	if err != nil || len(list) == 0 || list[0].ID == "" || list[0].Status == "" || list[0].Created == 0 || list[0].CurrentPeriodEnd == 0 ||
		len(list[0].Items.Data) == 0 || list[0].Items.Data[0].Price.ID == "" {
		t.Errorf("subscriptions: %+v, %v", list, err)
	}
	if sub, err := s.subscription(ctx, "sub_1"); err != nil || sub.ID != "sub_1" || sub.Customer == "" {
		t.Errorf("subscription: %+v, %v", sub, err)
	}
	if prices, err := s.Check(ctx); err != nil || len(prices) != 1 || prices[0].Found == "" {
		t.Errorf("prices: %+v, %v", prices, err)
	}
	if ids, err := s.Customers(ctx, "a@example.com"); err != nil || len(ids) == 0 {
		t.Errorf("customers: %v, %v", ids, err)
	}
	// What the description does not allow is refused, or all of this proves nothing.
	params := &form.Values{}
	params.Add("no_such_parameter", "1")
	err = s.backend.CallRaw(http.MethodGet, "/v1/subscriptions", "sk_test_123", params, &stripe.Params{Context: ctx}, &subscriptionList{})
	if e := fault("ask", err); e == nil || !strings.Contains(e.Error(), "HTTP 400") {
		t.Errorf("a parameter that there is not: %v", e)
	}
}
