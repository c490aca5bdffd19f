package billing

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"machineid/authority/state"
	"machineid/authority/state/statepb"
)

// Ledger is the replicated state as billing reads and changes it.
type Ledger interface {
	// View runs f on a view that holds all that was acknowledged before the call.
	View(ctx context.Context, f func(state.Reader) error) error
	// Set proposes what was fetched. A refusal is an outcome, not an error.
	Set(ctx context.Context, c *statepb.SetBilling) (state.Outcome, error)
}

// tries is how often what was fetched is fetched again because something else was applied meanwhile.
const tries = 6

// metadataOrg is where the things that we make at Stripe carry the org's id.
const metadataOrg = "orgId"

// Receive applies what Stripe has on whom an event is about; the event itself only says whom to ask for. ok is false for one that
// is about nobody of ours. Once it returns without an error the event's id is in the state with its effect.
func (s *Service) Receive(ctx context.Context, l Ledger, e Event) (out state.Outcome, ok bool, err error) {
	if !e.Concerns() {
		return state.Outcome{}, false, nil
	}
	for range tries {
		who, err := s.payer(ctx, l, e)
		if err != nil || who == nil {
			return state.Outcome{}, false, err
		}
		c := &statepb.SetBilling{OrgId: who.org[:], Revision: who.rec.GetRevision(), EventId: e.ID}
		if !slices.Contains(who.rec.GetEventIds(), e.ID) {
			list, err := s.fetch(ctx, who.customer, who.rec.GetSubscription().GetId())
			if err != nil {
				return state.Outcome{}, false, err
			}
			c.CustomerId = who.customer
			c.Subscription, _ = s.choose(ctx, list, who.org, who.rec.GetSubscription().GetId())
		}
		if out, err = l.Set(ctx, c); err != nil {
			return out, false, fmt.Errorf("apply event %s: %w", e.ID, err)
		}
		switch out.Refusal {
		case state.Granted:
			return out, true, nil
		case state.BillingMoved: // ask again
		case state.OrgNotFound, state.CustomerTaken:
			s.log.LogAttrs(ctx, slog.LevelWarn, "an event is about an org that is not this customer's", slog.String("event", e.ID), slog.String("customer", who.customer), slog.String("org", who.org.String()))
			return out, false, nil
		default:
			return out, false, fmt.Errorf("apply event %s to org %s: the state refuses it (%d): is its tier among the plans?", e.ID, who.org, out.Refusal)
		}
	}
	return out, false, ErrMoved
}

// payer is an org with what was known of its payments before Stripe was asked.
type payer struct {
	org      state.OrgID
	customer string
	rec      *statepb.Billing
}

// payer finds whom an event is about: the org that has the customer, else the one that the subscription names, which we wrote there.
func (s *Service) payer(ctx context.Context, l Ledger, e Event) (*payer, error) {
	who := &payer{customer: e.Customer}
	if e.Customer != "" {
		err := l.View(ctx, func(r state.Reader) (err error) {
			if who.org, err = r.OrgOfCustomer(e.Customer); err == nil && who.org != (state.OrgID{}) {
				who.rec, err = r.Billing(who.org)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		if who.org != (state.OrgID{}) {
			return who, nil
		}
	}
	if e.Subscription == "" {
		return nil, nil
	}
	sub, err := s.subscription(ctx, e.Subscription)
	if unknown(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	who.customer = string(sub.Customer)
	if who.org, err = uuid.Parse(sub.Metadata[metadataOrg]); err != nil || who.customer == "" {
		return nil, nil //nolint:nilerr // somebody else's
	}
	return who, l.View(ctx, func(r state.Reader) (err error) {
		who.rec, err = r.Billing(who.org)
		return err
	})
}

// Difference is an org that was not as Stripe has it.
type Difference struct {
	OrgID string `json:"orgId"`
	// Had and Has are a subscription in words: before, and at Stripe.
	Had string `json:"had"`
	Has string `json:"has"`
	// Others are live subscriptions beside the one that counts, in words: the org pays for these as well.
	Others []string `json:"others,omitempty"`
	// Error says why it could not be set right, empty if it was.
	Error string `json:"error,omitempty"`
}

// Sync compares one org with Stripe and sets it right. nil: there was no difference. One that pays for several subscriptions is one
// in any case: only people can set that right.
func (s *Service) Sync(ctx context.Context, l Ledger, org state.OrgID) (*Difference, error) {
	d, err := s.compare(ctx, l, org)
	switch {
	case err != nil:
		s.metrics.compared[comparedFailed].Inc()
	case d != nil:
		s.metrics.compared[comparedDifferent].Inc()
	default:
		s.metrics.compared[comparedSame].Inc()
	}
	return d, err
}

func (s *Service) compare(ctx context.Context, l Ledger, org state.OrgID) (*Difference, error) {
	for range tries {
		var rec *statepb.Billing
		err := l.View(ctx, func(r state.Reader) (err error) {
			rec, err = r.Billing(org)
			return err
		})
		if err != nil || rec.GetCustomerId() == "" {
			return nil, err
		}
		list, err := s.fetch(ctx, rec.GetCustomerId(), rec.GetSubscription().GetId())
		if err != nil {
			return nil, err
		}
		was := rec.GetSubscription()
		has, others := s.choose(ctx, list, org, was.GetId())
		d := &Difference{OrgID: org.String(), Had: words(was), Has: words(has), Others: each(others)}
		if len(others) > 0 {
			d.Error = fmt.Sprintf("the org pays for %d subscriptions at once: at Stripe, cancel and refund what it did not want", len(others)+1)
		}
		switch {
		case has == nil && was != nil && !ended(was):
			d.Error = "Stripe has no subscription with a price of ours for this customer: nothing was changed"
			return d, nil
		case (has == nil || proto.Equal(has, was)) && len(others) > 0:
			return d, nil
		case has == nil || proto.Equal(has, was):
			return nil, nil
		}
		out, err := l.Set(ctx, &statepb.SetBilling{OrgId: org[:], Revision: rec.GetRevision(), CustomerId: rec.GetCustomerId(), Subscription: has})
		switch {
		case err != nil:
			return nil, fmt.Errorf("set org %s right: %w", org, err)
		case out.Refusal == state.BillingMoved:
			continue
		case out.Refusal != state.Granted:
			d.Error = fmt.Sprintf("the state refuses it (%d): is its tier among the plans?", out.Refusal)
		}
		return d, nil
	}
	return nil, ErrMoved
}

// each tells of several.
func each(list []*statepb.Subscription) (texts []string) {
	for _, s := range list {
		texts = append(texts, words(s))
	}
	return texts
}

// words tells of a subscription what a difference needs.
func words(s *statepb.Subscription) string {
	if s == nil {
		return "none"
	}
	text := fmt.Sprintf("%s %s %s until %d", s.GetId(), s.GetTier(), s.GetStatus(), s.GetPeriodEndMs())
	if end := state.EndOfPaid(s); end != 0 {
		text += fmt.Sprintf(", ends %d", end)
	}
	return text
}
