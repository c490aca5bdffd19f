package billing

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/stripe/stripe-go/v76"
)

// Price is what Stripe says of a price.
type Price struct {
	Tier  string `json:"planTier"`
	ID    string `json:"price"`
	Found string `json:"found"` // in words: "29.00 usd a month"
	Fault string `json:"fault"` // why it cannot be sold, empty if it can
}

// Check asks Stripe for each price. An error is one that says nothing about the prices: Stripe does not answer.
func (s *Service) Check(ctx context.Context) (list []Price, err error) {
	for _, tier := range s.cfg.Tiers() {
		for i, id := range s.cfg.Prices[tier] {
			p, err := s.check(ctx, tier, id, i == 0)
			if err != nil {
				return list, err
			}
			list = append(list, p)
		}
	}
	return list, nil
}

func (s *Service) check(ctx context.Context, tier, id string, sold bool) (Price, error) {
	params := &stripe.PriceParams{}
	params.Context = ctx
	price, err := s.api.Prices.Get(id, params)
	out := Price{Tier: tier, ID: id}
	if err != nil {
		err = fault("get price "+id, err)
		if unknown(err) {
			out.Fault = "Stripe knows no such price: check its id, and that the key is of the same mode (test or live)"
			return out, nil
		}
		return out, err
	}
	out.Found = fmt.Sprintf("%d.%02d %s", price.UnitAmount/100, price.UnitAmount%100, price.Currency)
	switch {
	case price.Recurring == nil:
		out.Fault = "it is paid once: choose one that recurs"
	case !price.Active && sold:
		out.Fault = "it is archived: choose one that is active, and keep this one behind it for those who pay it"
	}
	if price.Recurring != nil {
		out.Found += fmt.Sprintf(" each %d %s", price.Recurring.IntervalCount, price.Recurring.Interval)
	}
	return out, nil
}

// Warn tells an operator in the log what is wrong with the prices. It never fails: Stripe may be out of reach when a node starts.
func (s *Service) Warn(ctx context.Context) {
	if !s.Enabled() {
		return
	}
	if s.cfg.WebhookSecret == "" {
		s.log.LogAttrs(ctx, slog.LevelWarn, "Stripe's webhooks are refused: set --stripe-webhook-secret-file; until then payments are seen once a day")
	}
	list, err := s.Check(ctx)
	if err != nil && ctx.Err() == nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "the prices could not be checked with Stripe", slog.Any("error", err))
	}
	for _, p := range list {
		if p.Fault != "" {
			s.log.LogAttrs(ctx, slog.LevelWarn, "a price cannot be sold", slog.String("plan", p.Tier), slog.String("price", p.ID), slog.String("fault", p.Fault))
		}
	}
}

// Customers returns the ids of those whom Stripe knows by a mail address, at most 10.
func (s *Service) Customers(ctx context.Context, mail string) (ids []string, err error) {
	params := &stripe.CustomerListParams{Email: new(mail)}
	params.Context, params.Single = ctx, true
	params.Limit = stripe.Int64(10)
	it := s.api.Customers.List(params)
	for it.Next() {
		ids = append(ids, it.Customer().ID)
	}
	return ids, fault("look for a customer by mail", it.Err())
}
