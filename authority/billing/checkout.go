package billing

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/stripe/stripe-go/v76"

	"machineid/authority/state"
	"machineid/authority/state/statepb"
)

// Checkout returns the address of a page on which the org pays for a tier: one of Stripe's checkouts, or, if it has a live
// subscription, the portal's page for another plan. Its errors are *RefusedError, *UnavailableError, and the ledger's.
func (s *Service) Checkout(ctx context.Context, l Ledger, org state.OrgID, tier string) (string, error) {
	if err := s.sells(ctx, l, tier); err != nil {
		return "", err
	}
	customer, err := s.customer(ctx, l, org)
	if err != nil {
		return "", err
	}
	return s.checkout(ctx, org, customer, tier)
}

// sells tells whether a tier can be paid for.
func (s *Service) sells(ctx context.Context, l Ledger, tier string) error {
	var plans *statepb.Plans
	err := l.View(ctx, func(r state.Reader) (err error) {
		plans, err = r.Plans()
		return err
	})
	known := slices.ContainsFunc(plans.GetPlans(), func(p *statepb.Plan) bool { return p.GetTier() == tier })
	switch {
	case err != nil:
		return err
	case !s.Enabled():
		return notSet("--stripe-secret-key-file (or MACHINEID_STRIPE_SECRET_KEY)")
	case tier == state.FreeTier || !known:
		return &RefusedError{UnknownPlan, "plan names none that is paid for: send one of " + strings.Join(s.cfg.Tiers(), ", ")}
	case len(s.cfg.Prices[tier]) == 0:
		return &RefusedError{PriceNotConfigured, fmt.Sprintf("the plan %s has no price here: the operator sets --stripe-price-%s", tier, tier)}
	case s.cfg.SuccessURL == "":
		return notSet("--stripe-success-url")
	case s.cfg.CancelURL == "":
		return notSet("--stripe-cancel-url")
	}
	return nil
}

func notSet(what string) error {
	return &RefusedError{NotConfigured, "billing is not set up here: the operator sets " + what}
}

// customer returns whom Stripe bills for the org; the first time it makes one, and binds it to the org before anything can be paid.
func (s *Service) customer(ctx context.Context, l Ledger, org state.OrgID) (string, error) {
	for range tries {
		var rec *statepb.Billing
		err := l.View(ctx, func(r state.Reader) (err error) {
			rec, err = r.Billing(org)
			return err
		})
		if err != nil || rec.GetCustomerId() != "" {
			return rec.GetCustomerId(), err
		}
		id, err := s.makeCustomer(ctx, org)
		if err != nil {
			return "", err
		}
		out, err := l.Set(ctx, &statepb.SetBilling{OrgId: org[:], Revision: rec.GetRevision(), CustomerId: id})
		switch {
		case err != nil:
			return "", err
		case out.Refusal == state.Granted:
			return id, nil
		case out.Refusal != state.BillingMoved:
			return "", fmt.Errorf("bind customer %s to org %s: the state refuses it (%d)", id, org, out.Refusal)
		}
	}
	return "", ErrMoved
}

func (s *Service) makeCustomer(ctx context.Context, org state.OrgID) (string, error) {
	name := 0
	for n := range attempts {
		if n > 0 && !pause(ctx, attemptPause) {
			break
		}
		params := &stripe.CustomerParams{Params: stripe.Params{Context: ctx}}
		params.AddMetadata(metadataOrg, org.String())
		// Asked for twice, by two calls or after an answer that was lost, it is one.
		params.SetIdempotencyKey(attempt("machineid-customer-"+org.String(), name))
		made, err := s.api.Customers.New(params)
		switch {
		case err == nil:
			return made.ID, nil
		case underWay(err):
		case replayed(err):
			name++
		default:
			return "", fault("make a customer for org "+org.String(), err)
		}
	}
	return "", ErrMoved
}

// Portal returns the address of Stripe's page on which an org manages what it pays. Its errors are those of Checkout.
func (s *Service) Portal(ctx context.Context, l Ledger, org state.OrgID) (string, error) {
	var rec *statepb.Billing
	err := l.View(ctx, func(r state.Reader) (err error) {
		rec, err = r.Billing(org)
		return err
	})
	switch {
	case err != nil:
		return "", err
	case !s.Enabled():
		return "", notSet("--stripe-secret-key-file (or MACHINEID_STRIPE_SECRET_KEY)")
	case s.cfg.ReturnURL == "":
		return "", notSet("--stripe-return-url")
	case rec.GetCustomerId() == "":
		return "", &RefusedError{NoSubscription, "the org has no subscription to manage: call billing/checkout first"}
	}
	return s.portal(ctx, rec.GetCustomerId(), "")
}

// portal makes a page for a customer; for a subscription the page where another plan is chosen.
func (s *Service) portal(ctx context.Context, customer, subscription string) (string, error) {
	params := &stripe.BillingPortalSessionParams{Customer: new(customer), ReturnURL: new(s.cfg.ReturnURL)}
	params.Context = ctx
	if subscription != "" {
		params.FlowData = &stripe.BillingPortalSessionFlowDataParams{
			Type:               new(string(stripe.BillingPortalSessionFlowTypeSubscriptionUpdate)),
			SubscriptionUpdate: &stripe.BillingPortalSessionFlowDataSubscriptionUpdateParams{Subscription: new(subscription)},
		}
	}
	page, err := s.api.BillingPortalSessions.New(params)
	if err == nil && page.URL == "" {
		err = errNoSession
	}
	if err == nil {
		return page.URL, nil
	}
	err = fault("make a portal's page for customer "+customer, err)
	if e, ok := errors.AsType[*UnavailableError](err); ok && e.Refused && subscription != "" {
		// One that must be paid first cannot be changed: its own page says so.
		return s.portal(ctx, customer, "")
	}
	return "", err
}
