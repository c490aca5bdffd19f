// Package state is the domain: orgs, keys, devices, plans, audit. Commands come
// in, changes to one Pebble batch go out (DESIGN.md of the project, State and commands).
//
// It guarantees that Apply is deterministic, and that a command on anything a
// decision depends on emits what it concerns, also when it changes nothing: all
// writes to such records go through three methods of tx, and these emit. The
// DESIGN.md beside this file has the invariants, S1 to S18.
package state

import (
	"fmt"

	"github.com/google/uuid"

	"machineid/authority/state/statepb"
	"machineid/shared/decision"
)

// OrgID names a holder of seats.
type OrgID = uuid.UUID

// idOf reads an id from a command or record. One of another length is no id that
// we ever made: it becomes the zero id, which no org has.
func idOf(b []byte) OrgID {
	id, err := uuid.FromBytes(b)
	if err != nil {
		return OrgID{}
	}
	return id
}

// Kind says what a Concern is about.
type Kind uint8

// The kinds of records that an edge may hold.
const (
	ConcernKey Kind = iota + 1
	ConcernHolder
	ConcernOccupant
)

// Concern names one record that a command was about: whoever holds it must be
// told before the command's caller is answered (I2).
type Concern struct {
	Kind Kind
	// Key is the hash of an org key, for ConcernKey.
	Key [32]byte
	// Org is the holder, or the key's org.
	Org OrgID
	// Occupant is the device's id, for ConcernOccupant.
	Occupant string
}

// Refusal says why a command changed nothing. It is an outcome, not an error.
type Refusal uint8

// The refusals. States hold their numbers: add at the end, and take none away.
const (
	Granted Refusal = iota
	OrgNotFound
	DeviceNotFound
	DeviceRevoked
	LimitReached
	PlanFrozen
	EntitlementExpired
	// IdempotencyMismatch: the name of the request is that of another.
	IdempotencyMismatch
	// InsufficientScope: the caller's key does not reach so far.
	InsufficientScope
	// KeyNotFound: the org has no such key, or it is not in force where it must be.
	KeyNotFound
	// KeyLimit: the org has as many live keys as it may.
	KeyLimit
	// LastAdminKey: nobody could govern the org any more.
	LastAdminKey
	// KeyTaken: there is such a key already, which chance does not bring about.
	KeyTaken
	// TierUnknown: there is no plan of this name.
	TierUnknown
	// TierMissing: the new plans lack one that there is, or are none.
	TierMissing
	// BillingMoved: the state of the org's billing is not the one that was read before Stripe
	// was asked. Read it again, and ask again.
	BillingMoved
	// CustomerTaken: Stripe's customer belongs to another org, or the org to another customer.
	CustomerTaken
	// NoCustomer: the org has never paid.
	NoCustomer
	// TokenUnknown: no recovery is under way by this token.
	TokenUnknown
	// TokenMoved: the operator's token is another already.
	TokenMoved
	// OrgLimit: there are as many orgs as may be signed up.
	OrgLimit
)

// Outcome is what Apply hands to the proposer of a command.
type Outcome struct {
	Refusal Refusal
	// Changed says that the state differs from before.
	Changed bool
	// Existed says that a register found the device already active.
	Existed bool
	// Replayed says that this is the outcome of an earlier command, which asked for
	// the same under the same name.
	Replayed bool
	// Action and Target are those of the first audit entry that the command came to, "" if it came to none.
	Action, Target string
	// Restored says that a register found the device revoked, and restored it.
	Restored bool
	// Batch is what a batch came to, zero for other commands.
	Batch Batch
	// Key is the key that a command made or revoked, Replaced the one that a rotation
	// ends. Of a replay Key has no more than its id, Replaced is nil.
	Key, Replaced *statepb.Key
	// Org, Device and Plan are as the command left them. Org is nil if there is none,
	// Device if there is none or it has expired; of Seed and SetLink all are zero.
	Org    *statepb.Org
	Device *statepb.Occupant
	Plan   Plan
}

// Plan is what an org may use and uses, at one moment.
type Plan struct {
	Tier        string
	State       PlanState
	AccessUntil decision.Millis
	Limit, Used uint32
}

// Remaining is how many more devices the plan allows.
func (p Plan) Remaining() uint32 { return p.Limit - min(p.Limit, p.Used) }

// OverLimit reports whether more devices are in use than the plan allows.
func (p Plan) OverLimit() bool { return p.Used > p.Limit }

// PlanState is how an org's plan stands.
type PlanState uint8

// The plan states. States hold their numbers.
const (
	PlanActive PlanState = iota
	PlanGrace
	PlanIsFrozen
)

// String returns the state as the API names it.
func (s PlanState) String() string {
	switch s {
	case PlanActive:
		return "active"
	case PlanGrace:
		return "grace"
	case PlanIsFrozen:
		return "frozen"
	}
	return fmt.Sprintf("plan state %d", uint8(s))
}

// KeyOf returns what a decision reads of a key; nil is an unknown key.
func KeyOf(k *statepb.Key) decision.Key {
	if k == nil {
		return decision.Key{}
	}
	return decision.Key{Known: k.RevokedAtMs == 0, ExpiresAt: k.ExpiresAtMs}
}

// HolderOf returns what a decision reads of an org; nil is an unknown org.
func HolderOf(o *statepb.Org) decision.Holder {
	if o == nil {
		return decision.Holder{}
	}
	return decision.Holder{
		Known: true, Disabled: o.ExecutionDisabled, Frozen: o.Held || o.Unpaid,
		GraceUntil: o.GraceUntilMs, AccessUntil: o.AccessUntilMs,
	}
}

// OccupantOf returns what a decision reads of a device; nil is an unknown one.
func OccupantOf(d *statepb.Occupant) decision.Occupant {
	if d == nil {
		return decision.Occupant{}
	}
	return decision.Occupant{Known: true, Revoked: d.RevokedAtMs != 0, ExpiresAt: d.ExpiresAtMs}
}

// Stands reports whether an occupant is there at now. An active one ends by
// itself; a revoked one stays until it is removed, though its end has passed: an
// agent that chooses its own end could otherwise outwait its revocation and
// register anew.
func Stands(o *statepb.Occupant, now decision.Millis) bool {
	d := OccupantOf(o)
	return d.Known && (d.Revoked || d.Present(now))
}

// planOf tells how a plan stands at now.
func planOf(o *statepb.Org, plans *statepb.Plans, used uint32, now decision.Millis) Plan {
	p := Plan{Tier: tierOf(o, now), AccessUntil: o.GetAccessUntilMs(), Used: used}
	if o.Limit != nil {
		p.Limit = o.GetLimit()
	} else {
		for _, tier := range plans.GetPlans() {
			if tier.GetTier() == p.Tier {
				p.Limit = tier.GetLimit()
				break
			}
		}
	}
	h := HolderOf(o)
	switch {
	case h.PlanFrozen(now):
		p.State = PlanIsFrozen
	case h.GraceUntil != 0:
		p.State = PlanGrace
	}
	return p
}
