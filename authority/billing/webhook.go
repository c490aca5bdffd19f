package billing

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Tolerance is how far the time in a webhook's signature may be off ours, before and behind. Stripe's library looks at the past
// only: one that is dated ahead could be kept and sent for as long.
const Tolerance = 5 * time.Minute

// signaturesMax is how many signatures of a webhook are looked at.
const signaturesMax = 8

// The faults of a webhook. None tells what would have been right.
var (
	ErrNoSignature = errors.New("the header Stripe-Signature is missing or malformed: only Stripe calls this")
	ErrSignature   = errors.New("no signature in Stripe-Signature is right: check the webhook's secret")
	ErrTolerance   = errors.New("the time in Stripe-Signature is more than 5 minutes off: check the clocks")
	ErrEvent       = errors.New("the body is no event of Stripe's")
)

// Verify judges the signature of a webhook over its raw body (Stripe, Verify webhook signatures manually): t=SECONDS and any number
// of v1=HEX, of which one must be right.
func (s *Service) Verify(header string, body []byte, now time.Time) error {
	var stamp string
	var signatures [][]byte
	for part := range strings.SplitSeq(header, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "t":
			if stamp != "" {
				return ErrNoSignature
			}
			stamp = value
		case "v1":
			if sig, err := hex.DecodeString(value); err == nil && len(sig) == sha256.Size && len(signatures) < signaturesMax {
				signatures = append(signatures, sig)
			}
		}
	}
	at, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || len(signatures) == 0 || s.cfg.WebhookSecret == "" {
		return ErrNoSignature
	}
	mac := hmac.New(sha256.New, []byte(s.cfg.WebhookSecret))
	mac.Write([]byte(stamp + "."))
	mac.Write(body)
	want, right := mac.Sum(nil), false
	for _, sig := range signatures {
		right = hmac.Equal(sig, want) || right
	}
	off := now.Unix() - at
	switch {
	case !right:
		return ErrSignature
	case off > int64(Tolerance/time.Second) || off < -int64(Tolerance/time.Second):
		return ErrTolerance
	}
	return nil
}

// Event is what we read of one: whom it concerns. What it says of them is not looked at.
type Event struct {
	ID, Type               string
	Customer, Subscription string
	// Account is another account that the event is from, which the endpoint's account is connected with; usually empty.
	Account string
}

// Concerns reports whether the event may be about a subscription. Those of connected accounts are about their own customers.
func (e Event) Concerns() bool {
	if e.Account != "" {
		return false
	}
	for _, prefix := range []string{"customer.subscription.", "checkout.session.", "invoice."} {
		if strings.HasPrefix(e.Type, prefix) {
			return e.Customer != "" || e.Subscription != ""
		}
	}
	return false
}

// maxID bounds the ids that Stripe gives; they go into the state.
const maxID = 255

// ParseEvent reads an event in the form of any version of the API.
func ParseEvent(body []byte) (Event, error) {
	var e struct {
		ID      string `json:"id"`
		Type    string `json:"type"`
		Account string `json:"account"`
		Data    struct {
			Object json.RawMessage `json:"object"`
		} `json:"data"`
	}
	var about struct {
		ID           string    `json:"id"`
		Object       string    `json:"object"`
		Customer     reference `json:"customer"`
		Subscription reference `json:"subscription"`
		Parent       struct {
			Details struct {
				Subscription reference `json:"subscription"`
			} `json:"subscription_details"`
		} `json:"parent"` // of invoices, since 2025-03-31
	}
	if err := json.Unmarshal(body, &e); err != nil || e.ID == "" || e.Type == "" {
		return Event{}, ErrEvent
	}
	out := Event{ID: e.ID, Type: e.Type, Account: e.Account}
	if !strings.HasPrefix(e.Type, "customer.subscription.") && !strings.HasPrefix(e.Type, "checkout.") && !strings.HasPrefix(e.Type, "invoice.") {
		return out, nil
	}
	if err := json.Unmarshal(e.Data.Object, &about); err != nil {
		return Event{}, fmt.Errorf("%w: its object: %w", ErrEvent, err)
	}
	out.Customer, out.Subscription = string(about.Customer), string(about.Subscription)
	switch {
	case about.Object == "subscription":
		out.Subscription = about.ID
	case out.Subscription == "":
		out.Subscription = string(about.Parent.Details.Subscription)
	}
	if len(out.ID) > maxID || len(out.Customer) > maxID || len(out.Subscription) > maxID {
		return Event{}, ErrEvent
	}
	return out, nil
}
