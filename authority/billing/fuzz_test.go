package billing

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stripe/stripe-go/v76/webhook"

	"machineid/authority/billing/stripetest"
)

// FuzzVerify: nothing passes that Stripe's own library would refuse, and no header passes for another body.
func FuzzVerify(f *testing.F) {
	now := time.Unix(1_790_000_000, 0)
	sign := func(at int64, body string) string {
		mac := hmac.New(sha256.New, []byte(stripetest.WebhookSecret))
		_, _ = fmt.Fprintf(mac, "%d.%s", at, body)
		return hex.EncodeToString(mac.Sum(nil))
	}
	const body = `{"id":"evt_1","type":"invoice.paid"}`
	good := fmt.Sprintf("t=%d,v1=%s", now.Unix(), sign(now.Unix(), body))
	for _, header := range []string{
		good, good + ",v1=00", "v1=" + sign(now.Unix(), body), good + ",t=1", fmt.Sprintf("t=%d,v0=%s", now.Unix(), sign(now.Unix(), body)), " " + good, "t=,v1=",
		fmt.Sprintf("t=%d,v1=%s", now.Unix()-301, sign(now.Unix()-301, body)), "t=9223372036854775807,v1=" + sign(9223372036854775807, body), "t=-9223372036854775808,v1=" + sign(-9223372036854775808, body),
	} {
		f.Add(header, []byte(body))
	}
	s := New(Config{SecretKey: stripetest.Key, WebhookSecret: stripetest.WebhookSecret})
	bare := New(Config{SecretKey: stripetest.Key})
	f.Fuzz(func(t *testing.T, header string, body []byte) {
		if bare.Verify(header, body, now) == nil {
			t.Fatal("a service without a secret takes a webhook")
		}
		if s.Verify(header, body, now) != nil {
			return
		}
		// Theirs takes no space behind a comma and no parts of other forms, which count for nothing, and judges times by the clock of the machine.
		var parts []string
		for part := range strings.SplitSeq(header, ",") {
			if part = strings.TrimSpace(part); strings.HasPrefix(part, "t=") || strings.HasPrefix(part, "v1=") && strings.Count(part, "=") == 1 {
				parts = append(parts, part)
			}
		}
		if err := webhook.ValidatePayloadIgnoringTolerance(body, strings.Join(parts, ","), stripetest.WebhookSecret); err != nil {
			t.Fatalf("%q for %q passes, and not with Stripe's library: %v", header, body, err)
		}
		if s.Verify(header, append(slices.Clip(body), ' '), now) == nil || s.Verify(header, body, now.Add(2*Tolerance+time.Second)) == nil {
			t.Fatalf("%q passes for another body, or for ever", header)
		}
	})
}

// FuzzParseEvent: an event is refused or read as encoding/json reads it, and what of it goes into the state is bounded.
func FuzzParseEvent(f *testing.F) {
	for _, s := range []string{
		`{"id":"evt_1","type":"customer.subscription.updated","data":{"object":{"id":"sub_1","object":"subscription","customer":{"id":"cus_1"}}}}`,
		`{"id":"evt_1","type":"invoice.paid","data":{"object":{"customer":"cus_1","parent":{"subscription_details":{"subscription":"sub_1"}}}}}`,
		`{"id":"evt_1","type":"checkout.session.completed","data":{"object":{"customer":null,"subscription":7}}}`, `{"id":"evt_1","type":"x"}`, `{}`, `{"id":7}`, `[]`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := ParseEvent(body)
		if err != nil {
			if !errors.Is(err, ErrEvent) {
				t.Fatalf("%q: %v", body, err)
			}
			return
		}
		var theirs struct{ ID, Type string } // by names in any case, as ours
		if err := json.Unmarshal(body, &theirs); err != nil || theirs.ID != e.ID || theirs.Type != e.Type || e.ID == "" || e.Type == "" {
			t.Fatalf("%q is %+v, for encoding/json %+v, %v", body, e, theirs, err)
		}
		if e.Concerns() && (len(e.ID) > maxID || len(e.Customer) > maxID || len(e.Subscription) > maxID) {
			t.Fatalf("an event of %d bytes names ids of %d, %d and %d", len(body), len(e.ID), len(e.Customer), len(e.Subscription))
		}
	})
}
