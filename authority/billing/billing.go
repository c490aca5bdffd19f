// Package billing is all that knows Stripe: it asks what an org pays for, judges Stripe's webhooks, and makes the pages on which
// people pay.
//
// What it guarantees: nothing of what an event says is applied, only what Stripe says when it is asked again, and only if
// nothing newer was applied meanwhile (authority/state, S14). So webhooks may come late, twice and in any order. It does
// network I/O for calls about billing only: no decision waits for it, and no command does. Secrets are never logged.
//
// DESIGN.md beside this file argues why.
package billing

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/client"

	"machineid/authority/state"
	"machineid/shared/dial"
)

// Secret is a string that no log shows.
type Secret string

// LogValue hides the secret (slog.LogValuer).
func (Secret) LogValue() slog.Value { return slog.StringValue("***") }

// String hides the secret.
func (Secret) String() string { return "***" }

// Config is what a Service needs. All of it may be missing: then it says what is.
type Config struct {
	SecretKey     Secret // of Stripe's API
	WebhookSecret Secret // by which Stripe signs what it sends
	// Prices are Stripe's price ids of each tier. The first is sold, the others are still known.
	Prices map[string][]string
	// SuccessURL and CancelURL are where a checkout ends, ReturnURL where the portal does.
	SuccessURL, CancelURL, ReturnURL string
	// URL is where Stripe's API is; empty is Stripe.
	URL string
	// Transport reaches it; nil is the usual one.
	Transport http.RoundTripper
	// Logger takes what an operator should know; nil discards it.
	Logger *slog.Logger
	// Registerer receives the metrics; nil means none.
	Registerer prometheus.Registerer
}

// callTime bounds one call of Stripe's API, whatever the caller's time is.
const callTime = 7 * time.Second

// Service speaks to Stripe. It is safe for concurrent use.
type Service struct {
	cfg     Config
	log     *slog.Logger
	api     *client.API
	backend stripe.Backend
	tiers   map[string]string // by price
	metrics *metrics
	twice   twice
}

// New returns a Service. It does no I/O.
func New(cfg Config) *Service {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Service{cfg: cfg, log: cfg.Logger, tiers: map[string]string{}, metrics: newMetrics(cfg.Registerer), twice: twice{orgs: map[state.OrgID]string{}}}
	for tier, prices := range cfg.Prices {
		for _, price := range prices {
			s.tiers[price] = tier
		}
	}
	next := cfg.Transport
	if next == nil {
		next = newTransport()
	}
	bc := &stripe.BackendConfig{
		HTTPClient:        &http.Client{Timeout: callTime, Transport: measured{next, s.metrics}},
		LeveledLogger:     &stripe.LeveledLogger{Level: stripe.LevelNull}, // what fails is returned
		MaxNetworkRetries: stripe.Int64(0),                                // its pauses do not end with a context
		EnableTelemetry:   new(false),
	}
	if cfg.URL != "" {
		bc.URL = new(cfg.URL)
	}
	s.backend = stripe.GetBackendWithConfig(stripe.APIBackend, bc)
	s.api = client.New(string(cfg.SecretKey), &stripe.Backends{API: s.backend, Connect: s.backend, Uploads: s.backend})
	return s
}

// newTransport is the usual one, but for how it connects.
func newTransport() http.RoundTripper {
	usual, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return http.DefaultTransport // somebody's own
	}
	own := usual.Clone()
	own.DialContext = dial.Context
	return own
}

// Enabled reports whether Stripe can be asked.
func (s *Service) Enabled() bool { return s.cfg.SecretKey != "" }

// Receives reports whether webhooks can be judged, and what they concern be asked.
func (s *Service) Receives() bool { return s.cfg.SecretKey != "" && s.cfg.WebhookSecret != "" }

// Validate finds what cannot be right in a configuration. Its errors name the settings, as flags.
func (c Config) Validate() error {
	var faults []error
	for _, u := range []struct{ flag, value string }{
		{"stripe-success-url", c.SuccessURL}, {"stripe-cancel-url", c.CancelURL}, {"stripe-return-url", c.ReturnURL}, {"stripe-url", c.URL},
	} {
		if u.value == "" {
			continue
		}
		if p, err := url.Parse(u.value); err != nil || (p.Scheme != "https" && p.Scheme != "http") || p.Host == "" {
			faults = append(faults, fmt.Errorf("--%s: %q is no address such as https://example.com/billing", u.flag, u.value))
		}
	}
	seen := map[string]string{}
	for _, tier := range c.Tiers() {
		for _, price := range c.Prices[tier] {
			if strings.TrimSpace(price) != price || price == "" {
				faults = append(faults, fmt.Errorf("--stripe-price-%s: %q is no price's id; write them with one comma between them and no space", tier, price))
			}
			if other, twice := seen[price]; twice {
				faults = append(faults, fmt.Errorf("--stripe-price-%s: %q is a price of %s too; give each price to one plan", tier, price, other))
			}
			seen[price] = tier
		}
	}
	if c.SecretKey == "" && (len(seen) > 0 || c.WebhookSecret != "") {
		faults = append(faults, errors.New("--stripe-secret-key-file: is missing, and other settings of Stripe's are there; give the key, or take them away"))
	}
	return errors.Join(faults...)
}

// Tiers lists those that have a price, in order.
func (c Config) Tiers() (list []string) {
	for tier, prices := range c.Prices {
		if len(prices) > 0 {
			list = append(list, tier)
		}
	}
	slices.Sort(list)
	return list
}
