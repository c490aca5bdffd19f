package billing

import (
	"bufio"
	"context"
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

// startMock builds stripe-mock, as tools.mod pins it, and runs it on loopback ports of its own until the test ends. It refuses what
// Stripe's OpenAPI description does not allow. It keeps nothing, so it proves shapes only.
func startMock(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(t.TempDir(), "stripe-mock")
	build := exec.CommandContext(t.Context(), "go", "build", "-modfile="+filepath.Join(root, "tools.mod"), "-o", binary, "github.com/stripe/stripe-mock")
	build.Dir = root
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
	address := make(chan string, 1)
	go func() {
		for lines := bufio.NewScanner(out); lines.Scan(); { // to the end, or it would wait
			if _, at, found := strings.Cut(lines.Text(), "Listening for HTTP at address: "); found {
				address <- at
			}
		}
	}()
	select {
	case at := <-address:
		return "http://" + at
	case <-time.After(20 * time.Second):
		t.Fatal("stripe-mock does not say where it listens")
		return ""
	}
}

// TestRequestShapes has Stripe's own description of its API judge each request that is ever made.
func TestRequestShapes(t *testing.T) {
	t.Parallel()
	s := New(Config{
		SecretKey: "sk_test_123", URL: startMock(t), Prices: map[string][]string{"pro": {"price_pro"}},
		SuccessURL: "https://example.com/done", CancelURL: "https://example.com/back", ReturnURL: "https://example.com/billing",
	})
	ctx, b := t.Context(), newBook(t)
	url, err := s.Checkout(ctx, b, orgID, "pro")
	if err != nil || url == "" {
		t.Errorf("checkout: %q, %v", url, err)
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
