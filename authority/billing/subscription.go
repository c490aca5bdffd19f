package billing

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"slices"

	"github.com/stripe/stripe-go/v76"
	"github.com/stripe/stripe-go/v76/form"

	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/shared/timestamp"
)

// reference is an object that Stripe names by its id or shows whole.
type reference string

// UnmarshalJSON implements json.Unmarshaler.
func (r *reference) UnmarshalJSON(b []byte) error {
	var whole struct {
		ID string `json:"id"`
	}
	if len(b) > 0 && b[0] == '{' {
		err := json.Unmarshal(b, &whole)
		*r = reference(whole.ID)
		return err
	}
	return json.Unmarshal(b, (*string)(r))
}

// subscription is one of Stripe's: what we read of it. The library's own type lacks the place where later versions of the API
// have the period's end.
type subscription struct {
	stripe.APIResource
	ID                string            `json:"id"`
	Status            string            `json:"status"`
	Customer          reference         `json:"customer"`
	Created           int64             `json:"created"`
	Metadata          map[string]string `json:"metadata"`
	CancelAt          int64             `json:"cancel_at"`
	CancelAtPeriodEnd bool              `json:"cancel_at_period_end"`
	CurrentPeriodEnd  int64             `json:"current_period_end"`
	// PauseCollection is there while nothing is collected, whatever becomes of the invoices. The status does not tell.
	PauseCollection *struct{} `json:"pause_collection"`
	Items           itemList  `json:"items"`
}

// itemList is a page of a subscription's items; the first comes with the subscription.
type itemList struct {
	stripe.APIResource
	Data    []item `json:"data"`
	HasMore bool   `json:"has_more"`
}

type item struct {
	ID               string              `json:"id"`
	Price            struct{ ID string } `json:"price"`
	CurrentPeriodEnd int64               `json:"current_period_end"` // since 2025-03-31
}

type subscriptionList struct {
	stripe.APIResource
	Data    []*subscription `json:"data"`
	HasMore bool            `json:"has_more"`
}

// Pages of a customer's subscriptions: nobody of ours has more.
const (
	subscriptionsPage  = 100
	subscriptionsPages = 5
	itemsPage          = 100
	itemsPages         = 5
)

// subscriptions asks Stripe for all that a customer has or had.
func (s *Service) subscriptions(ctx context.Context, customer string) (list []*subscription, err error) {
	after := ""
	for range subscriptionsPages {
		params := &stripe.SubscriptionListParams{Customer: new(customer), Status: new("all")}
		params.Limit = stripe.Int64(subscriptionsPage)
		if after != "" {
			params.StartingAfter = new(after)
		}
		body := &form.Values{}
		form.AppendTo(body, params)
		page := &subscriptionList{}
		if err := s.backend.CallRaw(http.MethodGet, "/v1/subscriptions", string(s.cfg.SecretKey), body, &stripe.Params{Context: ctx}, page); err != nil {
			return nil, fault("list the subscriptions of customer "+customer, err)
		}
		for _, sub := range page.Data {
			if err := s.complete(ctx, sub); err != nil {
				return nil, err
			}
		}
		list = append(list, page.Data...)
		if !page.HasMore || len(page.Data) == 0 {
			break
		}
		after = page.Data[len(page.Data)-1].ID
	}
	return list, nil
}

// complete asks for the items that did not come with a subscription: a plan may be among them.
func (s *Service) complete(ctx context.Context, sub *subscription) error {
	for page := &sub.Items; page.HasMore && len(page.Data) > 0; {
		if len(sub.Items.Data) > itemsPage*itemsPages {
			break
		}
		params := &stripe.SubscriptionItemListParams{Subscription: new(sub.ID)}
		params.Limit = stripe.Int64(itemsPage)
		params.StartingAfter = new(page.Data[len(page.Data)-1].ID)
		body := &form.Values{}
		form.AppendTo(body, params)
		page = &itemList{}
		if err := s.backend.CallRaw(http.MethodGet, "/v1/subscription_items", string(s.cfg.SecretKey), body, &stripe.Params{Context: ctx}, page); err != nil {
			return fault("list the items of subscription "+sub.ID, err)
		}
		sub.Items.Data = append(sub.Items.Data, page.Data...)
	}
	return nil
}

// fetch asks Stripe for what an org pays. A customer may have been deleted there, and its subscriptions ended: then the one that
// the org had says so.
func (s *Service) fetch(ctx context.Context, customer, current string) ([]*subscription, error) {
	list, err := s.subscriptions(ctx, customer)
	if !unknown(err) || current == "" {
		return list, err
	}
	sub, err := s.subscription(ctx, current)
	return []*subscription{sub}, err
}

// subscription asks Stripe for one.
func (s *Service) subscription(ctx context.Context, id string) (*subscription, error) {
	params := &stripe.SubscriptionParams{}
	params.Context = ctx
	sub := &subscription{}
	if err := s.backend.Call(http.MethodGet, stripe.FormatURLPath("/v1/subscriptions/%s", id), string(s.cfg.SecretKey), params, sub); err != nil {
		return nil, fault("get subscription "+id, err)
	}
	return sub, s.complete(ctx, sub)
}

var statuses = map[string]statepb.Subscription_Status{
	"active":             statepb.Subscription_ACTIVE,
	"trialing":           statepb.Subscription_TRIALING,
	"past_due":           statepb.Subscription_PAST_DUE,
	"unpaid":             statepb.Subscription_UNPAID,
	"paused":             statepb.Subscription_PAUSED,
	"canceled":           statepb.Subscription_CANCELED,
	"incomplete_expired": statepb.Subscription_INCOMPLETE_EXPIRED,
	// incomplete is missing: it changes nothing.
}

// ended reports whether a subscription pays for nothing any more.
func ended(s *statepb.Subscription) bool {
	return s.GetStatus() == statepb.Subscription_CANCELED || s.GetStatus() == statepb.Subscription_INCOMPLETE_EXPIRED
}

// choose picks the one subscription that counts, nil if there is none, and lists the others that are live: those are paid too, and
// should not be. What is paid counts before what is owed, and that before what has ended, of which the one that the org had (current)
// comes first; of equals the newest counts. One that names another org is not this one's. It depends on what Stripe has and not on how
// we heard of it.
func (s *Service) choose(ctx context.Context, list []*subscription, org state.OrgID, current string) (counts *statepb.Subscription, others []*statepb.Subscription) {
	type candidate struct {
		*statepb.Subscription
		created int64
	}
	var all []candidate
	for _, sub := range list {
		rec := s.read(ctx, sub)
		switch {
		case rec == nil: // incomplete
		case !sub.isOf(org):
		case rec.GetTier() == "" && (!ended(rec) || rec.GetId() != current):
			s.log.LogAttrs(ctx, slog.LevelWarn, "a subscription has no price of ours: it changes nothing",
				slog.String("subscription", sub.ID), slog.String("customer", string(sub.Customer)), slog.String("status", sub.Status))
		default:
			all = append(all, candidate{rec, sub.Created})
		}
	}
	slices.SortFunc(all, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(rank(b.Subscription, current), rank(a.Subscription, current)), cmp.Compare(b.created, a.created), cmp.Compare(b.GetId(), a.GetId()))
	})
	for i, c := range all {
		switch {
		case i == 0:
			counts = c.Subscription
		case !ended(c.Subscription):
			others = append(others, c.Subscription)
		}
	}
	s.noteTwice(ctx, org, counts, others)
	return counts, others
}

// isOf reports whether a subscription of an org's customer is the org's: it names it, or nobody.
func (sub *subscription) isOf(org state.OrgID) bool {
	named := sub.Metadata[metadataOrg]
	return named == "" || named == org.String()
}

// rank is how much a subscription counts beside others of its customer.
func rank(s *statepb.Subscription, current string) int {
	switch s.GetStatus() {
	case statepb.Subscription_ACTIVE, statepb.Subscription_TRIALING:
		return 4
	case statepb.Subscription_PAST_DUE:
		return 3
	case statepb.Subscription_UNPAID, statepb.Subscription_PAUSED:
		return 2
	case statepb.Subscription_CANCELED, statepb.Subscription_INCOMPLETE_EXPIRED, statepb.Subscription_NONE:
	}
	if s.GetId() == current {
		return 1
	}
	return 0
}

// read takes what concerns us, nil of one that is not begun yet or in a state that is new to us.
func (s *Service) read(ctx context.Context, sub *subscription) *statepb.Subscription {
	status, known := statuses[sub.Status]
	if !known {
		return nil
	}
	if sub.PauseCollection != nil && (status == statepb.Subscription_ACTIVE || status == statepb.Subscription_PAST_DUE) {
		status = statepb.Subscription_PAUSED // nothing is paid, nor asked for
	}
	end := sub.CurrentPeriodEnd
	if end == 0 {
		for _, item := range sub.Items.Data { // of several the one that ends last
			end = max(end, item.CurrentPeriodEnd)
		}
	}
	return &statepb.Subscription{
		Id: sub.ID, Status: status, Tier: s.sold(ctx, sub), PeriodEndMs: millis(end),
		CancelAtPeriodEnd: sub.CancelAtPeriodEnd, CancelAtMs: millis(sub.CancelAt),
	}
}

// millis is a time in seconds since 1970 in milliseconds. One that no answer could tell is the last that can be told, and none before 1970 is a time.
func millis(seconds int64) int64 {
	const second = 1000
	return min(max(seconds, 0), timestamp.Max/second) * second
}

// sold is the plan of a subscription, empty if none of its prices is ours. Of several the largest counts, in whichever order Stripe
// lists them.
func (s *Service) sold(ctx context.Context, sub *subscription) (tier string) {
	for _, item := range sub.Items.Data {
		next := s.tiers[item.Price.ID]
		if next != "" && tier != "" && next != tier {
			s.log.LogAttrs(ctx, slog.LevelWarn, "a subscription is of several plans: the largest counts", slog.String("subscription", sub.ID), slog.String("customer", string(sub.Customer)))
		}
		if size(next) > size(tier) {
			tier = next
		}
	}
	return tier
}

// size orders the plans that can be sold (docs/billing.md); any is larger than none.
func size(tier string) int {
	if tier == "" {
		return 0
	}
	return slices.Index([]string{"pro", "scale", "max"}, tier) + 2
}
