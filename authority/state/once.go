package state

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"machineid/authority/state/statepb"
)

const (
	rememberFor = int64(24 * 3600 * 1000) // milliseconds
	rememberMax = 10_000                  // outcomes of an org
	forgetMax   = 4                       // outcomes that make room for one
)

// authorize judges the caller's key again: it may have been revoked, or have
// expired, since the request was admitted, and what was revoked must do nothing
// once its revocation returned.
func (t *tx) authorize() Refusal {
	// A rotation judges the token by itself: sent again by whoever has made it, it changes nothing and is not refused.
	if shown := t.cmd.GetOperatorHash(); len(shown) > 0 && t.cmd.GetRotateToken() == nil && !bytes.Equal(shown, t.m.Cluster().GetOperatorTokenHash()) {
		return TokenMoved
	}
	c := t.cmd.GetCaller()
	if c == nil {
		return Granted
	}
	if len(c.GetKeyHash()) != len([32]byte{}) {
		return OrgNotFound // there can be no such key
	}
	hash, org := [32]byte(c.GetKeyHash()), t.subject()
	key := t.key(hash)
	switch {
	case !KeyOf(key).Alive(t.now) || idOf(key.GetOrgId()) != org:
		// Who is told that the key is none must wait for what made it so (S1).
		t.changeKey(org, hash, func(*statepb.Key) *statepb.Key { return nil })
		return OrgNotFound
	case !slices.Contains(c.GetScopes(), key.GetScope()):
		return InsufficientScope
	}
	return Granted
}

// subject is the org that the command is about, zero if it is about none.
func (t *tx) subject() OrgID {
	switch c := t.cmd.GetChange().(type) {
	case *statepb.Command_SetExecution:
		return idOf(c.SetExecution.GetOrgId())
	case *statepb.Command_UpdateOrg:
		return idOf(c.UpdateOrg.GetOrgId())
	case *statepb.Command_DeleteOrg:
		return idOf(c.DeleteOrg.GetOrgId())
	case *statepb.Command_AddKey:
		return idOf(c.AddKey.GetOrgId())
	case *statepb.Command_RotateKey:
		return idOf(c.RotateKey.GetOrgId())
	case *statepb.Command_RevokeKey:
		return idOf(c.RevokeKey.GetOrgId())
	case *statepb.Command_SetBilling:
		return idOf(c.SetBilling.GetOrgId())
	case *statepb.Command_BeginRecovery:
		return idOf(c.BeginRecovery.GetOrgId())
	case *statepb.Command_Recover:
		return idOf(c.Recover.GetOrgId())
	case *statepb.Command_Register:
		return idOf(c.Register.GetOrgId())
	case *statepb.Command_Revoke:
		return idOf(c.Revoke.GetOrgId())
	case *statepb.Command_Unrevoke:
		return idOf(c.Unrevoke.GetOrgId())
	case *statepb.Command_Remove:
		return idOf(c.Remove.GetOrgId())
	case *statepb.Command_RevokeBatch:
		return idOf(c.RevokeBatch.GetOrgId())
	case *statepb.Command_UnrevokeBatch:
		return idOf(c.UnrevokeBatch.GetOrgId())
	}
	return OrgID{}
}

// once runs a command, or gives the outcome of the one that asked for the same
// before.
func (t *tx) once(run func() Outcome) Outcome {
	c, org := t.cmd.GetOnce(), t.subject()
	if len(c.GetId()) != onceSize || org == (OrgID{}) || t.cmd.GetDeleteOrg() != nil {
		return run() // with an org goes all that is remembered of it
	}
	id := [onceSize]byte(c.GetId())
	before, err := t.r.remembered(org, id)
	t.must(err)
	switch {
	case before == nil || before.GetAtMs() <= t.now-rememberFor:
		out := run()
		if out.Refusal != OrgNotFound { // there is nothing to remember it with, and nobody who would forget it
			t.remember(org, id, out)
		}
		return out
	case !bytes.Equal(before.GetRequest(), c.GetRequest()):
		return Outcome{Refusal: IdempotencyMismatch}
	}
	t.echo(before)
	return t.recall(org, before)
}

// echo concerns what the command is about and changes nothing: who asks again
// must wait like the one whose outcome it is given (S1).
func (t *tx) echo(before *statepb.Remembered) {
	nothing := func(d *statepb.Occupant) (*statepb.Occupant, Refusal) { return d, DeviceNotFound }
	switch c := t.cmd.GetChange().(type) {
	case *statepb.Command_SetExecution, *statepb.Command_UpdateOrg, *statepb.Command_SetBilling:
		t.changeOrg(t.subject(), func(*statepb.Org) *statepb.Org { return nil })
	case *statepb.Command_AddKey:
		t.echoKeys(before.GetKeyId(), c.AddKey.GetKey().GetKeyId())
	case *statepb.Command_RotateKey:
		t.echoKeys(before.GetKeyId(), c.RotateKey.GetKeyId())
	case *statepb.Command_RevokeKey:
		t.echoKeys(c.RevokeKey.GetKeyId())
	case *statepb.Command_BeginRecovery: // no edge holds a recovery
	case *statepb.Command_Recover:
		t.echoKeys(before.GetKeyId(), c.Recover.GetKey().GetKeyId())
	case *statepb.Command_Register:
		t.changeOccupant(t.holder(c.Register.GetOrgId()), c.Register.GetDeviceId(), nothing)
	case *statepb.Command_Revoke:
		t.changeOccupant(t.holder(c.Revoke.GetOrgId()), c.Revoke.GetDeviceId(), nothing)
	case *statepb.Command_Unrevoke:
		t.changeOccupant(t.holder(c.Unrevoke.GetOrgId()), c.Unrevoke.GetDeviceId(), nothing)
	case *statepb.Command_Remove:
		t.changeOccupant(t.holder(c.Remove.GetOrgId()), c.Remove.GetDeviceId(), nothing)
	case *statepb.Command_RevokeBatch:
		t.echoBatch(c.RevokeBatch)
	case *statepb.Command_UnrevokeBatch:
		t.echoBatch(c.UnrevokeBatch)
	default:
		panic(fmt.Errorf("a %T was remembered", c))
	}
}

// remember keeps an outcome, and forgets what is too old or too many: more than
// is kept, so a backlog shrinks without ever being swept.
func (t *tx) remember(org OrgID, id [onceSize]byte, out Outcome) {
	first, next, err := t.r.rememberedRange(org)
	t.must(err)
	for range forgetMax {
		if first == next {
			break
		}
		old, err := t.r.rememberedAt(org, first)
		t.must(err)
		rec, err := t.r.remembered(org, old)
		t.must(err)
		if rec.GetNumber() == first && rec != nil { // else it was asked for anew since
			if next-first < rememberMax && rec.GetAtMs() > t.now-rememberFor {
				break
			}
			t.del(onceKey(org, old))
		}
		t.del(onceAgeKey(org, first))
		first++
	}
	rec := &statepb.Remembered{
		AtMs: t.now, Request: t.cmd.GetOnce().GetRequest(), Number: next,
		Refusal: uint32(out.Refusal), Changed: out.Changed, Existed: out.Existed, Device: out.Device,
		ExecutionDisabled: out.Org.GetExecutionDisabled(),
		PlanTier:          out.Plan.Tier, PlanState: uint32(out.Plan.State), AccessUntilMs: out.Plan.AccessUntil, Limit: out.Plan.Limit, Used: out.Plan.Used,
		Restored: out.Restored, Version: out.Org.GetVersion(),
		KeyId: out.Key.GetKeyId(),
	}
	out.Batch.remember(rec)
	t.put(onceKey(org, id), rec)
	t.set(onceAgeKey(org, next), id[:])
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 16), first)
	t.set(onceRangeKey(org), binary.BigEndian.AppendUint64(b, next+1))
}

// recall is the outcome of which remember kept a record. Its Org has no more than
// answers need.
func (t *tx) recall(org OrgID, m *statepb.Remembered) Outcome {
	return Outcome{
		Refusal: Refusal(m.GetRefusal()), Changed: m.GetChanged(), Existed: m.GetExisted(), Replayed: true, //nolint:gosec // was a Refusal
		Org:    &statepb.Org{Id: org[:], ExecutionDisabled: m.GetExecutionDisabled(), Version: m.GetVersion()},
		Key:    keyNamed(m.GetKeyId()),
		Device: m.GetDevice(), Restored: m.GetRestored(), Batch: recallBatch(m, t.cmd),
		Plan: Plan{
			Tier: m.GetPlanTier(), State: PlanState(m.GetPlanState()), AccessUntil: m.GetAccessUntilMs(), //nolint:gosec // was a PlanState
			Limit: m.GetLimit(), Used: m.GetUsed(),
		},
	}
}

// keyNamed is what is remembered of a key: its id, which is no secret.
func keyNamed(id string) *statepb.Key {
	if id == "" {
		return nil
	}
	return &statepb.Key{KeyId: id}
}
