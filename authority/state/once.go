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
	rememberMax = 10_000                  // outcomes of an org that older versions remembered
	forgetMax   = 4                       // outcomes that make room for one
)

// ShareMax is how many outcomes of each key's changes are remembered.
const ShareMax = 1000

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
	hash, org := [32]byte(c.GetKeyHash()), subject(t.cmd)
	key := t.key(hash)
	t.scope = key.GetScope()
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
func subject(cmd *statepb.Command) OrgID {
	switch c := cmd.GetChange().(type) {
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
	if !t.onceNamed() {
		return run()
	}
	org, id := subject(t.cmd), [onceSize]byte(t.cmd.GetOnce().GetId())
	before, err := t.r.remembered(org, id)
	t.must(err)
	switch {
	case !t.stillKnown(before):
		out := run()
		if out.Refusal != OrgNotFound { // there is nothing to remember it with, and nobody who would forget it
			t.remember(org, id, out)
		}
		return out
	case !t.sameRequest(before):
		return Outcome{Refusal: IdempotencyMismatch}
	}
	t.echo(before)
	return t.recall(org, before)
}

// onceNamed tells whether the command is to be done once under its name. A deletion is not: with an org goes all that is remembered of it.
func (t *tx) onceNamed() bool {
	return len(t.cmd.GetOnce().GetId()) == onceSize && subject(t.cmd) != (OrgID{}) && t.cmd.GetDeleteOrg() == nil
}

func (t *tx) stillKnown(m *statepb.Remembered) bool {
	return m != nil && m.GetAtMs() > t.now-rememberFor
}

func (t *tx) sameRequest(m *statepb.Remembered) bool {
	return bytes.Equal(m.GetRequest(), t.cmd.GetOnce().GetRequest())
}

// echo concerns what the command is about and changes nothing: who asks again
// must wait like the one whose outcome it is given (S1).
func (t *tx) echo(before *statepb.Remembered) {
	nothing := func(d *statepb.Occupant) (*statepb.Occupant, Refusal) { return d, DeviceNotFound }
	switch c := t.cmd.GetChange().(type) {
	case *statepb.Command_SetExecution, *statepb.Command_UpdateOrg, *statepb.Command_SetBilling:
		t.changeOrg(subject(t.cmd), func(*statepb.Org) *statepb.Org { return nil })
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

// remember keeps an outcome, and forgets what is too old or too many of the same key: more than
// is kept, so a backlog shrinks without ever being swept. What one key asks for pushes out nothing of another's.
func (t *tx) remember(org OrgID, id [onceSize]byte, out Outcome) {
	q := onceQueue{org: org}
	if t.shared() {
		t.forget(q) // what older versions left, by its age
		q = shareOf(org, t.cmd.GetCaller().GetKeyHash())
	}
	first, next := t.forget(q)
	t.put(onceKey(org, id), t.remembered(out, next))
	t.set(onceAgeKey(q, next), id[:])
	t.setRange(q, first, next+1)
}

// shared tells whether what is remembered takes the share of its caller: of a key, or of the operator.
func (t *tx) shared() bool {
	c := t.cmd.GetCaller()
	return t.cmd.GetOnce().GetShared() && (c == nil || len(c.GetKeyHash()) == len([32]byte{}))
}

// forget makes room for one, and returns the first number that is left and the next.
func (t *tx) forget(q onceQueue) (first, next uint64) {
	first, next, err := t.r.rememberedRange(q)
	t.must(err)
	begun := first
	for range forgetMax {
		if first == next {
			break
		}
		old, err := t.r.rememberedAt(q, first)
		t.must(err)
		rec, err := t.r.remembered(q.org, old)
		t.must(err)
		if rec.GetNumber() == first && rec != nil { // else it was asked for anew since
			if next-first < q.most() && rec.GetAtMs() > t.now-rememberFor {
				break
			}
			t.del(onceKey(q.org, old))
		}
		t.del(onceAgeKey(q, first))
		first++
	}
	if first != begun {
		t.setRange(q, first, next)
	}
	return first, next
}

func (t *tx) setRange(q onceQueue, first, next uint64) {
	b := binary.BigEndian.AppendUint64(make([]byte, 0, 16), first)
	t.set(onceRangeKey(q), binary.BigEndian.AppendUint64(b, next))
}

// forgetShare takes away what is remembered of a key that is none any more: no more than that key once paid for.
func (t *tx) forgetShare(org OrgID, k *statepb.Key) {
	q := shareOf(org, k.GetHash())
	first, next, err := t.r.rememberedRange(q)
	t.must(err)
	var ids [][]byte
	var numbers []uint64
	t.must(t.r.scan(onceAgeKey(q, first), onceAgeKey(q, next), func(k, id []byte) (bool, error) {
		ids, numbers = append(ids, slices.Clone(id)), append(numbers, binary.BigEndian.Uint64(k[len(k)-8:]))
		return true, nil
	}))
	for i, id := range ids {
		t.del(onceKey(org, [onceSize]byte(id)))
		t.del(onceAgeKey(q, numbers[i]))
	}
	if next > 0 {
		t.del(onceRangeKey(q))
	}
}

// remembered is the record of an outcome. It holds nothing that the command says which asks again: that is the same. Of a refusal it is the refusal, and how the plan stood.
func (t *tx) remembered(out Outcome, number uint64) *statepb.Remembered {
	rec := &statepb.Remembered{
		AtMs: t.now, Request: t.cmd.GetOnce().GetRequest(), Number: number,
		Refusal: uint32(out.Refusal), Changed: out.Changed, Existed: out.Existed, Device: out.Device,
		ExecutionDisabled: out.Org.GetExecutionDisabled(),
		PlanTier:          out.Plan.Tier, PlanState: uint32(out.Plan.State), AccessUntilMs: out.Plan.AccessUntil, Limit: out.Plan.Limit, Used: out.Plan.Used,
		Restored: out.Restored, Version: out.Org.GetVersion(),
		KeyId: out.Key.GetKeyId(),
	}
	out.Batch.remember(rec)
	if !t.shared() {
		return rec
	}
	rec.Device = nil
	if d := out.Device; d != nil && out.Refusal == Granted {
		rec.Device = &statepb.Occupant{Name: d.GetName(), CreatedAtMs: d.GetCreatedAtMs(), RevokedAtMs: d.GetRevokedAtMs(), ExpiresAtMs: d.GetExpiresAtMs()}
	}
	if len(rec.GetItems()) > 0 {
		rec.Sample = nil
	}
	return rec
}

// recall is the outcome of which remember kept a record. Its Org has no more than
// answers need.
func (t *tx) recall(org OrgID, m *statepb.Remembered) Outcome {
	return Outcome{
		Refusal: Refusal(m.GetRefusal()), Changed: m.GetChanged(), Existed: m.GetExisted(), Replayed: true,
		Org:    &statepb.Org{Id: org[:], ExecutionDisabled: m.GetExecutionDisabled(), Version: m.GetVersion()},
		Key:    keyNamed(m.GetKeyId()),
		Device: t.recallDevice(org, m.GetDevice()), Restored: m.GetRestored(), Batch: recallBatch(m, t.cmd),
		Plan: Plan{
			Tier: m.GetPlanTier(), State: PlanState(m.GetPlanState()), AccessUntil: m.GetAccessUntilMs(),
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

// recallDevice is a device as it was left, with what the record does not hold: the command that asks again names it, and brings its metadata if it gave any. What it did not give is as
// it stands now.
func (t *tx) recallDevice(org OrgID, was *statepb.Occupant) *statepb.Occupant {
	if was == nil || was.GetId() != "" {
		return was
	}
	d := clone(was)
	switch c := t.cmd.GetChange().(type) {
	case *statepb.Command_Register:
		d.Id, d.Metadata = c.Register.GetDeviceId(), c.Register.GetMetadata()
		if now := t.occupant(org, d.GetId()); c.Register.Metadata == nil && Stands(now, t.now) {
			d.Metadata = now.GetMetadata()
		}
	case *statepb.Command_Revoke:
		d.Id = c.Revoke.GetDeviceId()
	case *statepb.Command_Unrevoke:
		d.Id = c.Unrevoke.GetDeviceId()
	case *statepb.Command_Remove:
		d.Id = c.Remove.GetDeviceId()
	}
	return d
}
