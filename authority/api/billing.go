package api

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/valyala/fasthttp"

	"machineid/authority/billing"
	"machineid/authority/hub"
	"machineid/authority/state"
	"machineid/authority/state/statepb"
	"machineid/shared/wire"
)

// ledger is the state as a request lets billing have it: changed by commit, which waits for the edges, and seen by look. What was seen is waited
// for before the request is answered (request.settled): billing may tell of it and change nothing.
type ledger struct {
	r           *request
	propagation hub.Propagation // of the last change
}

// View implements billing.Ledger.
func (l *ledger) View(ctx context.Context, f func(state.Reader) error) error {
	return l.r.look(ctx, func(s *sight) (bool, error) {
		l.r.saw = max(l.r.saw, s.mark.Index)
		return false, f(s.Reader)
	})
}

// Set implements billing.Ledger.
func (l *ledger) Set(ctx context.Context, c *statepb.SetBilling) (state.Outcome, error) {
	// The caller's name of its request is not for this: tried again it is another command, of what was fetched again. Nor is its wish
	// not to wait: the answer tells of more than of this change.
	l.r.in.Head.IdempotencyKey, l.r.in.Head.Prefer = nil, nil
	d, err := l.r.commit(ctx, &statepb.Command{Change: &statepb.Command_SetBilling{SetBilling: c}})
	if refused, ok := errors.AsType[*refusal](err); ok {
		return refused.out, nil
	}
	l.propagation = d.propagation
	return d.Outcome, err
}

// billingFault is the answer to an error of billing's, nil to others.
func (r *request) billingFault(err error) *wire.Error {
	if e, ok := errors.AsType[*billing.RefusedError](err); ok {
		return &wire.Error{HTTP: fasthttp.StatusOK, Status: wire.StatusError, Code: e.Code, Message: e.Message}
	}
	if errors.Is(err, billing.ErrMoved) {
		return wire.SystemUnavailable(wire.OutcomeNotDone, retryAfter)
	}
	e, ok := errors.AsType[*billing.UnavailableError](err)
	if !ok {
		return nil
	}
	r.api.log.LogAttrs(context.Background(), slog.LevelWarn, "Stripe did not do what it was asked",
		slog.String("path", r.in.Route.Path), slog.String("request_id", string(r.in.ID)), slog.Any("error", err))
	if e.Refused {
		return wire.StripeUnavailable("Stripe refuses what it was asked: report the request_id, with which the log says why")
	}
	return wire.StripeUnavailable("Stripe does not answer in time or is busy: nothing was changed, try again")
}

// billed is a success of billing's calls.
type billed struct {
	wire.Envelope
	OK bool `json:"ok"`
}

func (r *request) billed() billed { return billed{r.in.Envelope("ok"), true} }

func billingSummary(r *request) (step, error) {
	return step{read: func(s *sight) (any, error) {
		p, err := s.Plan(s.org, s.now)
		if err != nil {
			return nil, err
		}
		rec, err := s.Billing(s.orgID)
		if err != nil {
			return nil, err
		}
		a := struct {
			billed
			PlanTier          string  `json:"planTier"`
			PlanState         string  `json:"planState"`
			AccessUntil       instant `json:"accessUntil"`
			RenewsAt          instant `json:"renewsAt"`
			EndsAt            instant `json:"endsAt"`
			GraceUntil        instant `json:"graceUntil"`
			CancelAtPeriodEnd bool    `json:"cancelAtPeriodEnd"`
			Message           string  `json:"message"`
		}{billed: r.billed(), PlanTier: p.Tier, PlanState: p.State.String(), AccessUntil: instant(p.AccessUntil), GraceUntil: instant(s.org.GetGraceUntilMs())}
		paid := s.org.GetPaidTier() != ""
		if paid {
			sub := rec.GetSubscription()
			a.EndsAt, a.CancelAtPeriodEnd = instant(s.org.GetPaidUntilMs()), sub.GetCancelAtPeriodEnd()
			if a.EndsAt == 0 {
				a.RenewsAt = instant(sub.GetPeriodEndMs())
			}
		}
		a.Message = summary(s, p, paid)
		return a, nil
	}}, nil
}

// summary says in a sentence how an org stands, and what there is to do.
func summary(s *sight, p state.Plan, paid bool) string {
	switch {
	case s.org.GetHeld():
		return "The plan is frozen by the operator: ask there."
	case paid && p.State == state.PlanIsFrozen:
		return "The plan is frozen because it is not paid: pay in the portal (billing/portal)."
	case paid && p.State == state.PlanGrace:
		return "The last payment failed: pay in the portal (billing/portal) before graceUntil."
	case paid && s.org.GetPaidUntilMs() != 0 && s.now >= s.org.GetPaidUntilMs():
		return "The subscription has ended: choose a plan (billing/checkout)."
	case paid && s.org.GetPaidUntilMs() != 0:
		return "The subscription ends at endsAt: keep it in the portal (billing/portal)."
	case paid:
		return "The plan is managed in the portal (billing/portal)."
	case p.Tier == state.FreeTier:
		return "The plan is free: choose a larger one (billing/checkout)."
	}
	return "The plan was given by the operator."
}

// link is the answer that sends somebody to Stripe.
type link struct {
	billed
	URL string `json:"url"`
}

func billingCheckout(r *request) (step, error) {
	plan, present, err := r.body.String("plan")
	if err != nil {
		return step{}, err
	}
	if !present || plan == "" {
		return step{}, &wire.ParamError{Param: "plan", Message: "plan is missing: send the name of a plan that is paid for, such as pro"}
	}
	return step{change: func(ctx context.Context) (any, error) {
		url, err := r.api.cfg.Billing.Checkout(ctx, &ledger{r: r}, r.org, plan)
		return link{r.billed(), url}, err
	}}, nil
}

func billingPortal(r *request) (step, error) {
	return step{change: func(ctx context.Context) (any, error) {
		url, err := r.api.cfg.Billing.Portal(ctx, &ledger{r: r}, r.org)
		return link{r.billed(), url}, err
	}}, nil
}

// webhook is access by Stripe's signature.
type webhook struct{}

const signatureHeader = "Stripe-Signature"

func (webhook) present(r *request) error {
	if !r.api.cfg.Billing.Receives() {
		return wire.NotConfigured("webhooks are not set up here: the operator sets --stripe-secret-key-file and --stripe-webhook-secret-file")
	}
	header, _ := single(r.http, signatureHeader)
	if err := r.api.cfg.Billing.Verify(header, r.http.Request.Body(), time.UnixMilli(r.api.cfg.Time())); err != nil {
		r.api.cfg.Billing.Heard(billing.HeardRefused)
		return wire.InvalidSignature(err)
	}
	return nil
}

func (webhook) admit(_ context.Context, r *request, _ func(*sight) (any, error)) (any, error) {
	r.actor = &statepb.Actor{Type: statepb.Actor_SYSTEM, Id: "stripe"}
	return nil, nil
}

func stripeEvent(r *request) (step, error) {
	event, err := billing.ParseEvent(r.http.Request.Body())
	if err != nil {
		r.api.cfg.Billing.Heard(billing.HeardRefused)
		return step{}, wire.InvalidSignature(err)
	}
	return step{change: func(ctx context.Context) (any, error) {
		l := &ledger{r: r}
		out, ours, err := r.api.cfg.Billing.Receive(ctx, l, event)
		r.api.cfg.Billing.Heard(heard(out, ours, err))
		if err != nil {
			return nil, err
		}
		a := struct {
			billed
			Ignored     bool             `json:"ignored"`
			Changed     bool             `json:"changed"`
			Propagation *hub.Propagation `json:"propagation,omitempty"`
		}{billed: r.billed(), Ignored: !ours, Changed: out.Changed}
		if ours {
			a.Propagation = &l.propagation
		}
		return a, nil
	}}, nil
}

func heard(out state.Outcome, ours bool, err error) billing.Heard {
	switch {
	case err != nil:
		return billing.HeardFailed
	case !ours:
		return billing.HeardIgnored
	case out.Changed:
		return billing.HeardChanged
	}
	return billing.HeardUnchanged
}

// Bounds of one call of operator/billing/sync.
const (
	syncPage = 20
	syncMax  = 100
	syncTime = 4 * time.Second // after which no further org is begun
)

// syncBilling compares a page of the orgs that pay with Stripe, from after cursor, and sets them right.
func syncBilling(r *request) (step, error) {
	limit, given, err := r.body.Int("limit")
	switch {
	case err != nil:
		return step{}, err
	case !given:
		limit = syncPage
	case limit < 1 || limit > syncMax:
		return step{}, &wire.ParamError{Param: "limit", Message: "limit is out of range: send 1 to 100"}
	}
	var from state.OrgID
	text, given, err := r.body.String("cursor")
	if err != nil {
		return step{}, err
	}
	if given {
		if from, err = orgCursor(text); err != nil {
			return step{}, err
		}
	}
	return step{change: func(ctx context.Context) (any, error) { return r.syncBilling(ctx, from, int(limit)) }}, nil
}

func (r *request) syncBilling(ctx context.Context, from state.OrgID, limit int) (any, error) {
	if !r.api.cfg.Billing.Enabled() {
		return nil, wire.Refused("Stripe is not set up here: set --stripe-secret-key-file at every node")
	}
	l := &ledger{r: r}
	var orgs []state.OrgID
	var more bool
	err := l.View(ctx, func(s state.Reader) (err error) {
		orgs, more, err = s.Customers(from, limit)
		return err
	})
	if err != nil {
		return nil, err
	}
	a := struct {
		wire.Envelope
		Checked     int                   `json:"checked"`
		Differences []*billing.Difference `json:"differences"`
		NextCursor  string                `json:"nextCursor,omitempty"`
	}{Envelope: r.in.Envelope("ok"), Differences: []*billing.Difference{}}
	began := time.Now()
	for i, org := range orgs {
		d, err := r.api.cfg.Billing.Sync(ctx, l, org)
		if err != nil && i == 0 {
			return nil, err
		}
		if err != nil {
			more = true // the next call finds out
			break
		}
		if d != nil {
			a.Differences = append(a.Differences, d)
		}
		a.Checked, a.NextCursor = i+1, org.String()
		if time.Since(began) > syncTime && i+1 < len(orgs) {
			more = true
			break
		}
	}
	if !more {
		a.NextCursor = ""
		r.api.cfg.Billing.Compared(time.UnixMilli(r.api.cfg.Now()))
	}
	return a, nil
}
