package billing

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/stripe/stripe-go/v76"

	"machineid/authority/state"
)

const (
	// attempts bounds how often one call begins a checkout, and how many names it tries for one thing.
	attempts = 8
	// attemptPause is how long it waits for another call that is making one.
	attemptPause = 150 * time.Millisecond
	// checkoutsMax is how many of a customer's newest checkouts are looked at. Each new one ends the open ones, so one is open at most.
	checkoutsMax = 100
)

// checkout makes a page on which a customer pays. Of all calls at once, at any nodes, one checkout can be paid: what was open is ended,
// then it is made sure that nothing was paid, and the new one is made under a name that follows from the newest before it. Who comes
// second with the same name gets the same checkout, or begins again if it is for another plan.
func (s *Service) checkout(ctx context.Context, org state.OrgID, customer, tier string) (string, error) {
	before, name := "", 0
	for n := range attempts {
		if n > 0 && !pause(ctx, attemptPause) {
			break
		}
		newest, moved, err := s.endCheckouts(ctx, customer)
		if err != nil {
			return "", err
		}
		if moved {
			continue
		}
		// Stripe is asked, not the state: an event may be missing, and a second subscription is paid twice. It is asked after the
		// checkouts: one that was paid has its subscription.
		list, err := s.subscriptions(ctx, customer)
		if err != nil {
			return "", err
		}
		if sub, _ := s.choose(ctx, list, org, ""); sub != nil && !ended(sub) {
			if s.cfg.ReturnURL == "" {
				return "", notSet("--stripe-return-url")
			}
			return s.portal(ctx, customer, sub.GetId())
		}
		if newest != before {
			before, name = newest, 0
		}
		url, err := s.makeCheckout(ctx, org, customer, tier, attempt("machineid-checkout-"+org.String()+"-"+newest, name))
		switch {
		case err == nil:
			return url, nil
		case underWay(err):
		case replayed(err):
			name++
		default:
			return "", fault("make a checkout for org "+org.String(), err)
		}
	}
	return "", ErrMoved
}

// attempt is a name of the n-th try at one thing, for Stripe to know it by.
func attempt(name string, n int) string {
	if n == 0 {
		return name
	}
	return name + "-" + strconv.Itoa(n)
}

// underWay reports whether another call is about the same thing at this moment.
func underWay(err error) bool {
	said, ok := errors.AsType[*stripe.Error](err)
	return ok && said.HTTPStatusCode == http.StatusConflict
}

// replayed reports whether the name of a try is used up: Stripe answers what it remembers of an earlier one, and it remembers its own
// failures, or the earlier one asked for something else.
func replayed(err error) bool {
	said, ok := errors.AsType[*stripe.Error](err)
	return ok && (said.Type == stripe.ErrorTypeIdempotency || said.LastResponse != nil && said.LastResponse.Header.Get("Idempotent-Replayed") == "true")
}

// endCheckouts ends what is open, or two checkouts could be paid, and returns the newest that there was. moved says that one that was
// open is not any more: perhaps it was paid.
func (s *Service) endCheckouts(ctx context.Context, customer string) (newest string, moved bool, err error) {
	params := &stripe.CheckoutSessionListParams{Customer: new(customer)}
	params.Context, params.Single = ctx, true
	params.Limit = stripe.Int64(checkoutsMax)
	it := s.api.CheckoutSessions.List(params)
	for it.Next() {
		c := it.CheckoutSession()
		if newest == "" {
			newest = c.ID
		}
		if c.Status != stripe.CheckoutSessionStatusOpen {
			continue
		}
		if err := s.expireCheckout(ctx, c.ID); err != nil {
			if e, ok := errors.AsType[*UnavailableError](err); ok && e.Refused {
				return newest, true, nil
			}
			return newest, false, err
		}
	}
	return newest, false, fault("list the checkouts of customer "+customer, it.Err())
}

func (s *Service) expireCheckout(ctx context.Context, id string) error {
	params := &stripe.CheckoutSessionExpireParams{}
	params.Context = ctx
	_, err := s.api.CheckoutSessions.Expire(id, params)
	return fault("end checkout "+id, err)
}

// errNoSession is an answer of Stripe's that is no session: another call's, or what something in between made.
var errNoSession = errors.New("stripe answered with no session")

func (s *Service) makeCheckout(ctx context.Context, org state.OrgID, customer, tier, name string) (string, error) {
	params := &stripe.CheckoutSessionParams{
		Mode: new(string(stripe.CheckoutSessionModeSubscription)), Customer: new(customer),
		ClientReferenceID: new(org.String()),
		SuccessURL:        new(s.cfg.SuccessURL), CancelURL: new(s.cfg.CancelURL),
		LineItems:        []*stripe.CheckoutSessionLineItemParams{{Price: new(s.cfg.Prices[tier][0]), Quantity: stripe.Int64(1)}},
		SubscriptionData: &stripe.CheckoutSessionSubscriptionDataParams{Metadata: map[string]string{metadataOrg: org.String()}},
	}
	params.Context = ctx
	params.SetIdempotencyKey(name)
	session, err := s.api.CheckoutSessions.New(params)
	if err != nil {
		return "", err
	}
	if session.ID == "" || session.URL == "" {
		return "", errNoSession
	}
	return session.URL, nil
}

// pause waits and reports whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
