package api

import (
	"context"
	"errors"
	"fmt"

	"machineid/authority/hub"
	"machineid/authority/state"
	"machineid/raftstore"
	"machineid/shared/wire"
)

// retryAfter is when callers that could not be served come back, in seconds. An election takes about that long.
const retryAfter = 1

// unavailable says that a request could not be served, and whether a change came of it (wire.Outcome*).
type unavailable struct {
	outcome string
	message string // replaces the usual one, if not empty
	cause   error
}

func (u *unavailable) Error() string { return fmt.Sprintf("unavailable (%s): %v", u.outcome, u.cause) }
func (u *unavailable) Unwrap() error { return u.cause }

func (u *unavailable) answer() *wire.Error {
	e := wire.SystemUnavailable(u.outcome, retryAfter)
	switch {
	case u.message != "":
		e.Message = u.message
	case errors.Is(u.cause, raftstore.ErrSpent) && u.outcome == wire.OutcomeNotDone:
		e.Message = noRoomLeft
	case errors.Is(u.cause, raftstore.ErrNoSpace) && u.outcome == wire.OutcomeNotDone:
		e.Message = noRoom
	}
	return e
}

// noRoom is why a change is refused that a nearly full disk has no room for. Which disk, and how full, operators ask the cluster.
const noRoom = "the disk of the node that leads is nearly full, so only what takes rights away is done (revoke, remove, disable, hold, delete), and nothing was changed: the operator has to make room there"

// noRoomLeft is why even a revoke is refused.
const noRoomLeft = "the disk of the node that leads is full: there is no room left even to take rights away, or your org has used up its share of it, and nothing was changed: the operator has to make room there"

// notProposed is what a failed Propose means.
func notProposed(err error) *unavailable {
	outcome := wire.OutcomeNotDone
	if raftstore.Unknown(err) {
		outcome = wire.OutcomeUnknown
	}
	return &unavailable{outcome: outcome, cause: err}
}

// expected tells errors that belong to elections, load and shutting down, of which metrics tell enough.
func expected(err error) bool {
	for _, e := range []error{
		raftstore.ErrNotLeader, raftstore.ErrRefused, raftstore.ErrNoLeader, raftstore.ErrOverloaded, raftstore.ErrNoSpace, raftstore.ErrClosed, raftstore.ErrOutcomeUnknown,
		hub.ErrPending, hub.ErrNotLeading, errNoCluster, context.DeadlineExceeded,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// refusal is a command that the state refused. It is an answer, and takes the way of errors because most calls treat all
// refusals alike.
type refusal struct {
	out    state.Outcome
	index  uint64
	device string // that the call was about, if it was about one
	// seen says that it was seen and not applied: all of the org that it could tell of is in force at every edge.
	seen bool
}

func (f *refusal) Error() string { return f.answer().Error() }

func (f *refusal) answer() *wire.Error {
	switch f.out.Refusal {
	case state.OrgNotFound:
		return wire.OrgNotFound()
	case state.DeviceNotFound:
		return wire.DeviceNotFound()
	case state.DeviceRevoked:
		return wire.DeviceRevoked()
	case state.LimitReached:
		e := wire.DeviceLimitReached()
		if f.device != "" {
			e = e.With("deviceId", f.device)
		}
		e.Extra = append(e.Extra, planOf(f.out.Plan).fields()...)
		return e
	case state.PlanFrozen:
		return wire.PlanFrozen()
	case state.EntitlementExpired:
		return wire.EntitlementExpired()
	case state.IdempotencyMismatch:
		return wire.IdempotencyMismatch()
	case state.InsufficientScope:
		return wire.InsufficientScope()
	case state.KeyNotFound:
		return wire.KeyNotFound()
	case state.KeyLimit:
		return wire.KeyLimitReached()
	case state.LastAdminKey:
		return wire.LastAdminKey()
	case state.TierUnknown:
		return wire.MissingParams("planTier", "planTier names no plan: GET operator/plans lists those there are")
	case state.TierMissing:
		return wire.Refused("the plans must name each plan that there is, once, and the plan free: orgs are in them")
	case state.TokenUnknown:
		return wire.InvalidToken()
	case state.TokenMoved:
		return wire.InvalidOperatorToken()
	case state.OrgLimit:
		return wire.SignupFull()
	case state.Granted, state.KeyTaken, state.BillingMoved, state.CustomerTaken, state.NoCustomer:
	}
	// A refusal that this code does not know changed nothing all the same.
	return wire.SystemUnavailable(wire.OutcomeNotDone, retryAfter)
}
