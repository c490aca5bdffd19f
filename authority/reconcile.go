package authority

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"machineid/authority/billing"
	"machineid/authority/recovery"
	"machineid/authority/state"
	"machineid/authority/state/statepb"
)

// Reconcile says when a leader compares the orgs that pay with Stripe.
type Reconcile struct {
	// First is how long after its election, Every how long from one run to the next, Pause how long after each org: Stripe counts
	// requests, and those of people come first.
	First, Every, Pause time.Duration
}

func (r Reconcile) withDefaults() Reconcile {
	for _, t := range []struct {
		value *time.Duration
		usual time.Duration
	}{{&r.First, 10 * time.Minute}, {&r.Every, 24 * time.Hour}, {&r.Pause, time.Second}} {
		if *t.value == 0 {
			*t.value = t.usual
		}
	}
	return r
}

// retryShare is by what the time to the next run is divided when orgs could not be compared: an outage of Stripe's must not cost a
// day.
const retryShare = 24

// reconcilePage is how many orgs are listed at once.
const reconcilePage = 100

// reconcile compares with Stripe once a day, for as long as this node leads. A webhook that was missed heals by it.
func (n *Node) reconcile(ctx context.Context) {
	if !n.billing.Enabled() {
		return
	}
	defer n.billing.Forget()
	n.cfg.Reconcile.run(ctx, func() bool {
		found := n.reconcileAll(ctx)
		if ctx.Err() != nil {
			return false
		}
		if found.failed == 0 {
			n.billing.Compared(n.cfg.Wall())
		}
		n.log.LogAttrs(ctx, slog.LevelInfo, "the orgs that pay were compared with Stripe",
			slog.Int("orgs", found.checked), slog.Int("differences", found.different), slog.Int("failed", found.failed))
		return !found.again
	})
}

// run calls compare at its times, until ctx ends. What compare could not do is tried again sooner.
func (r Reconcile) run(ctx context.Context, compare func() (done bool)) {
	for wait := r.First; pause(ctx, wait); {
		wait = r.Every
		if !compare() {
			wait /= retryShare
		}
	}
}

// reconciled is what came of one run.
type reconciled struct {
	checked, different, failed int
	// again says that what failed may be done soon: Stripe did not refuse, it did not answer.
	again bool
}

func (n *Node) reconcileAll(ctx context.Context) (found reconciled) {
	l := nodeLedger{n}
	var from state.OrgID
	for more := true; more; {
		var page []state.OrgID
		err := l.View(ctx, func(r state.Reader) (err error) {
			page, more, err = r.Customers(from, reconcilePage)
			return err
		})
		if err != nil {
			n.log.LogAttrs(ctx, slog.LevelWarn, "the orgs that pay could not be listed", slog.Any("error", err))
			found.failed, found.again = found.failed+1, true
			return found
		}
		for _, org := range page {
			from = org
			d, err := n.billing.Sync(ctx, l, org)
			switch {
			case ctx.Err() != nil:
				return found
			case err != nil:
				found.failed++
				said, ok := errors.AsType[*billing.UnavailableError](err)
				found.again = found.again || !ok || !said.Refused
				n.log.LogAttrs(ctx, slog.LevelWarn, "an org could not be compared with Stripe", slog.String("org", org.String()), slog.Any("error", err))
			case d != nil:
				found.different++
				n.log.LogAttrs(ctx, slog.LevelWarn, "an org was not as Stripe has it",
					slog.String("org", d.OrgID), slog.String("had", d.Had), slog.String("has", d.Has), slog.Any("others", d.Others), slog.String("fault", d.Error))
			}
			found.checked++
			if !pause(ctx, n.cfg.Reconcile.Pause) {
				return found
			}
		}
	}
	return found
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

// nodeLedger is the state as a leader reads and changes it by itself. Nobody is answered, so nobody has to wait for the edges.
type nodeLedger struct{ n *Node }

// View implements billing.Ledger.
func (l nodeLedger) View(ctx context.Context, f func(state.Reader) error) error {
	view, err := l.n.Read(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = view.Close() }() // nothing was written that could be lost
	return f(state.NewReader(view.Reader()))
}

// Set implements billing.Ledger.
func (l nodeLedger) Set(ctx context.Context, c *statepb.SetBilling) (state.Outcome, error) {
	_, out, err := l.n.Propose(ctx, &statepb.Command{
		TimeMs: l.n.Now(), Actor: &statepb.Actor{Type: statepb.Actor_SYSTEM, Id: l.n.cfg.ID},
		Change: &statepb.Command_SetBilling{SetBilling: c},
	})
	return out, err
}

// newRecovery is what mails new keys. It asks Stripe whom an address belongs to: no mail address is kept here.
func (n *Node) newRecovery() *recovery.Service {
	return recovery.New(recovery.Config{
		Customers: func(ctx context.Context, address string) ([]string, error) {
			if !n.billing.Enabled() {
				return nil, nil
			}
			return n.billing.Customers(ctx, address)
		},
		View: nodeLedger{n}.View,
		Propose: func(ctx context.Context, by recovery.Asker, c *statepb.BeginRecovery) (state.Outcome, error) {
			_, out, err := n.Propose(ctx, &statepb.Command{
				TimeMs: n.Now(), Actor: &statepb.Actor{Type: statepb.Actor_SYSTEM, Id: "recovery"}, Address: by.Address, RequestId: by.RequestID,
				Change: &statepb.Command_BeginRecovery{BeginRecovery: c},
			})
			return out, err
		},
		Send: n.cfg.Mail, PublicURL: n.cfg.PublicURL, Logger: n.log,
	})
}
