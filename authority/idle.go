package authority

import (
	"context"
	"log/slog"
	"time"

	"machineid/authority/state"
	"machineid/authority/state/statepb"
)

// expireEvery is how often a leader looks for sign-ups that came to nothing.
const expireEvery = time.Hour

// expireSignups deletes orgs that were signed up long ago and never had a device, for as long as this node leads.
func (n *Node) expireSignups(ctx context.Context) {
	for n.cfg.DeleteIdleAfter > 0 && pause(ctx, expireEvery) {
		if err := n.expireDue(ctx, n.cfg.DeleteIdleAfter); err != nil && ctx.Err() == nil {
			n.log.LogAttrs(ctx, slog.LevelWarn, "orgs that were signed up and never used could not be deleted; that is tried again in an hour", slog.Any("error", err))
		}
	}
}

// expireDue looks at what is due, a few orgs a command: what is refused there stays.
func (n *Node) expireDue(ctx context.Context, age time.Duration) error {
	before := n.Now() - age.Milliseconds()
	for {
		var due bool
		err := nodeLedger{n}.View(ctx, func(r state.Reader) (err error) {
			due, err = r.SignupsBefore(before)
			return err
		})
		if err != nil || !due {
			return err
		}
		if _, _, err := n.Propose(ctx, &statepb.Command{
			TimeMs: n.Now(), Actor: &statepb.Actor{Type: statepb.Actor_SYSTEM, Id: n.cfg.ID},
			Change: &statepb.Command_ExpireSignups{ExpireSignups: &statepb.ExpireSignups{BeforeMs: before}},
		}); err != nil {
			return err
		}
	}
}
