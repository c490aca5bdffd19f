package billing

import (
	"context"
	"fmt"
	"strings"

	"github.com/stripe/stripe-go/v76"

	"machineid/authority/state"
	"machineid/authority/state/statepb"
)

// StillPaysError says that an org would go on to be charged after it is gone.
type StillPaysError struct {
	Subscriptions []string // in words
	// Unasked says that Stripe is not set up here: the subscription is the one that the state knows.
	Unasked bool
}

func (e *StillPaysError) Error() string {
	return "the org goes on to pay: " + strings.Join(e.Subscriptions, "; ")
}

// Release sees to it that nobody is charged for an org that is to be deleted. Its checkouts are ended. If it has a subscription that would be
// charged again, that is cancelled at once if cancel says so; else the error is a *StillPaysError. One that was cancelled to the end of
// its period does not count. Other errors are *UnavailableError and the ledger's.
func (s *Service) Release(ctx context.Context, l Ledger, org state.OrgID, cancel bool) error {
	var rec *statepb.Billing
	err := l.View(ctx, func(r state.Reader) (err error) {
		rec, err = r.Billing(org)
		return err
	})
	sub := rec.GetSubscription()
	switch {
	case err != nil || rec.GetCustomerId() == "":
		return err
	case !s.Enabled() && (sub == nil || ended(sub) || state.EndOfPaid(sub) != 0):
		return nil
	case !s.Enabled():
		return &StillPaysError{[]string{words(sub)}, true}
	}
	for n := range attempts {
		if n > 0 && !pause(ctx, attemptPause) {
			break
		}
		_, moved, err := s.endCheckouts(ctx, rec.GetCustomerId())
		switch {
		case unknown(err): // the customer was deleted, which ended its subscriptions
			return nil
		case err != nil:
			return err
		case moved:
			continue
		}
		return s.end(ctx, rec.GetCustomerId(), org, cancel)
	}
	return ErrMoved
}

// end ends what an org of a customer would be charged for again.
func (s *Service) end(ctx context.Context, customer string, org state.OrgID, cancel bool) error {
	list, err := s.subscriptions(ctx, customer)
	if unknown(err) {
		return nil
	}
	if err != nil {
		return err
	}
	var pays []string
	for _, sub := range list {
		if !s.charges(ctx, sub, org) {
			continue
		}
		if !cancel {
			pays = append(pays, fmt.Sprintf("%s (%s)", sub.ID, sub.Status))
			continue
		}
		if err := s.cancel(ctx, sub.ID); err != nil {
			return err
		}
	}
	if len(pays) > 0 {
		return &StillPaysError{Subscriptions: pays}
	}
	return nil
}

// charges reports whether a subscription is an org's and will be charged again. What is neither of a price of ours nor made for the org is
// the customer's own affair.
func (s *Service) charges(ctx context.Context, sub *subscription, org state.OrgID) bool {
	if sub.Status == "canceled" || sub.Status == "incomplete_expired" || sub.CancelAtPeriodEnd || sub.CancelAt > 0 || !sub.isOf(org) {
		return false
	}
	return sub.Metadata[metadataOrg] != "" || s.sold(ctx, sub) != ""
}

// cancel ends a subscription at once. What it has paid for is not refunded.
func (s *Service) cancel(ctx context.Context, id string) error {
	params := &stripe.SubscriptionCancelParams{}
	params.Context = ctx
	_, err := s.api.Subscriptions.Cancel(id, params)
	if err = fault("cancel subscription "+id, err); unknown(err) {
		return nil // it has ended meanwhile
	}
	return err
}
