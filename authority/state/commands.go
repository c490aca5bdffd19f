package state

import (
	"fmt"
	"math"
	"net/netip"

	"google.golang.org/protobuf/proto"

	"machineid/authority/state/statepb"
	"machineid/shared/budget"
)

// Stops reports whether a command takes rights away, or keeps the link's record or the time that
// edges are told, or is the first one, without which there is nothing that could.
// Such a command is let through on a full disk for as long as it can be: an off
// switch that needs room is none.
func Stops(cmd *statepb.Command) bool {
	switch c := cmd.GetChange().(type) {
	case *statepb.Command_Revoke, *statepb.Command_RevokeBatch, *statepb.Command_Remove, *statepb.Command_RevokeKey,
		*statepb.Command_DeleteOrg, *statepb.Command_SetLink, *statepb.Command_ReserveTime, *statepb.Command_Seed:
		return true
	case *statepb.Command_SetExecution:
		return !c.SetExecution.GetEnabled()
	case *statepb.Command_UpdateOrg:
		u := c.UpdateOrg
		return u.GetHeld() && u.PlanTier == nil && u.AccessUntilMs == nil && u.Limit == nil && !u.GetNoLimit() && u.Version == nil
	}
	return false
}

// Leads reports whether a command is one on which leases rest: the link's record, or the time that
// edges are told. Such a command is never behind those of callers, nor refused for them: whoever keeps
// the queue full would else take every edge's lease.
func Leads(cmd *statepb.Command) bool {
	switch cmd.GetChange().(type) {
	case *statepb.Command_SetLink, *statepb.Command_ReserveTime:
		return true
	}
	return false
}

// largeIDs is from how many devices on a command is a large one.
const largeIDs = 32

// Large reports whether a command changes so many records that others should not wait for two of its kind (raftstore.ProposeOptions).
func Large(cmd *statepb.Command) bool {
	many := func(c batchCommand) bool { return c.GetAll() != nil || len(c.GetDeviceIds()) >= largeIDs }
	switch c := cmd.GetChange().(type) {
	case *statepb.Command_RevokeBatch:
		return many(c.RevokeBatch)
	case *statepb.Command_UnrevokeBatch:
		return many(c.UnrevokeBatch)
	case *statepb.Command_DeleteOrg, *statepb.Command_ExpireSignups:
		return true
	}
	return false
}

// For is whom a command is proposed for, among whom those that propose take turns (raftstore.ProposeOptions): the operator who asked for it, the org that it
// is about, else who is at the address that it came from, of IPv6 at its site. An operator has a turn and a share of their own, or an org that floods could not be stopped. Zero is the authority itself.
func For(cmd *statepb.Command) [16]byte {
	if token := cmd.GetOperatorHash(); len(token) >= len(OrgID{}) {
		return [16]byte(token[:len(OrgID{})])
	}
	if org := subject(cmd); org != (OrgID{}) {
		return org
	}
	addr, err := netip.ParseAddr(cmd.GetAddress())
	if err != nil {
		return [16]byte{}
	}
	return budget.Network(addr.Unmap().WithZone(""), budget.SiteBits).As16()
}

// apply runs the command, if its caller still may, and if it has not been run
// before under the name that the caller gave it.
func (t *tx) apply() Outcome {
	if t.m.tidied != t.at.Index { // once an entry: its commands share the cost
		t.m.tidied = t.at.Index
		t.tidy(tidyMax)
	}
	if refusal := t.authorize(); refusal != Granted {
		return Outcome{Refusal: refusal}
	}
	out := t.once(t.run)
	out.Action, out.Target = t.action, t.target
	return out
}

func (t *tx) run() Outcome {
	switch c := t.cmd.GetChange().(type) {
	case *statepb.Command_Seed:
		return t.seed(c.Seed)
	case *statepb.Command_SetLink:
		return t.setLink(c.SetLink)
	case *statepb.Command_ReserveTime:
		return t.reserveTime(c.ReserveTime)
	case *statepb.Command_CreateOrg:
		return t.createOrg(c.CreateOrg)
	case *statepb.Command_SetExecution:
		return t.setExecution(c.SetExecution)
	case *statepb.Command_UpdateOrg:
		return t.updateOrg(c.UpdateOrg)
	case *statepb.Command_DeleteOrg:
		return t.deleteOrg(c.DeleteOrg)
	case *statepb.Command_SetPlans:
		return t.setPlans(c.SetPlans)
	case *statepb.Command_ExpireSignups:
		return t.expireSignups(c.ExpireSignups)
	case *statepb.Command_RotateToken:
		return t.rotateToken(c.RotateToken)
	case *statepb.Command_SetBilling:
		return t.setBilling(c.SetBilling)
	case *statepb.Command_BeginRecovery:
		return t.beginRecovery(c.BeginRecovery)
	case *statepb.Command_Recover:
		return t.recover(c.Recover)
	case *statepb.Command_AddKey:
		return t.addKey(c.AddKey)
	case *statepb.Command_RotateKey:
		return t.rotateKey(c.RotateKey)
	case *statepb.Command_RevokeKey:
		return t.revokeKey(c.RevokeKey)
	case *statepb.Command_Register:
		return t.register(c.Register)
	case *statepb.Command_Revoke:
		return t.revoke(c.Revoke)
	case *statepb.Command_Unrevoke:
		return t.unrevoke(c.Unrevoke)
	case *statepb.Command_Remove:
		return t.remove(c.Remove)
	case *statepb.Command_RevokeBatch:
		return t.batch(c.RevokeBatch, revokeBatch)
	case *statepb.Command_UnrevokeBatch:
		return t.batch(c.UnrevokeBatch, unrevokeBatch)
	case *statepb.Command_SetSeen:
		return t.setSeen(c.SetSeen)
	case *statepb.Command_Note:
		return t.note(c.Note)
	case *statepb.Command_SetMembers:
		return t.setMembers(c.SetMembers)
	}
	panic(fmt.Errorf("the command at index %d, a %T, has no code in this version", t.at.Index, t.cmd.GetChange()))
}

func (t *tx) seed(c *statepb.Seed) Outcome {
	if t.m.Cluster() != nil || c.GetCluster() == nil {
		return Outcome{}
	}
	t.putCluster(c.GetCluster())
	t.putPlans(c.GetPlans())
	if t.detailed() {
		t.audit(OrgID{}, "cluster.begun", c.GetCluster().GetClusterId(),
			append(planSettings(nil, c.GetPlans()), Setting("operatorToken", nil, Text(TokenID(c.GetCluster().GetOperatorTokenHash()))))...)
	}
	return Outcome{Changed: true}
}

func (t *tx) setLink(c *statepb.SetLink) Outcome {
	old := t.m.Cluster()
	// A record from a deposed leader says nothing about this term's leases.
	if old == nil || c.GetTerm() != t.at.Term || proto.Equal(old.GetLink(), c.GetRecord()) {
		return Outcome{}
	}
	next := clone(old) // others read the old one
	next.Link = c.GetRecord()
	t.putCluster(next)
	if set := differing(linkSettings(old.GetLink(), c.GetRecord())); t.detailed() && len(set) > 0 {
		t.audit(OrgID{}, "cluster.link_changed", next.GetClusterId(), set...)
	}
	return Outcome{Changed: true}
}

// reserveTime lets leaders tell times up to the one it names: the next leader begins there (S15).
func (t *tx) reserveTime(c *statepb.ReserveTime) Outcome {
	old := t.m.Cluster()
	if old == nil || c.GetUntilMs() <= old.GetReservedMs() {
		return Outcome{}
	}
	next := clone(old)
	next.ReservedMs = c.GetUntilMs()
	t.putCluster(next)
	return Outcome{Changed: true}
}

// note tells the audit of what was changed elsewhere.
func (t *tx) note(c *statepb.Note) Outcome {
	t.audit(OrgID{}, c.GetAction(), c.GetTarget(), c.GetSettings()...)
	return Outcome{Changed: true}
}

func (t *tx) putCluster(c *statepb.Cluster) {
	t.put(clusterKey, c)
	t.m.cluster.Store(c)
}

// register takes a seat, or finds that the device has one. It restores a revoked
// device only in orgs of the first generation, for those who may restore.
func (t *tx) register(c *statepb.Register) Outcome {
	h := t.holder(c.GetOrgId())
	t.sweep(h)
	action, existed, restored := "device.registered", false, false
	var before *statepb.Occupant
	out := t.changeOccupant(h, c.GetDeviceId(), func(d *statepb.Occupant) (*statepb.Occupant, Refusal) {
		before = clone(d)
		if d.GetRevokedAtMs() != 0 {
			if !c.GetMayRestore() || h.org.GetVersion() != 1 {
				return d, DeviceRevoked
			}
			t.describe(d, c)
			if !OccupantOf(d).Present(t.now) {
				return d, DeviceRevoked // there is nothing left to restore
			}
			action, restored = "device.restored", true
			return switchOn(t, h, d)
		}
		if d != nil {
			action, existed = "device.updated", true
			t.describe(d, c)
			return d, Granted
		}
		d = &statepb.Occupant{Id: c.GetDeviceId(), CreatedAtMs: t.now}
		t.describe(d, c)
		return d, t.closed(h)
	})
	out.Existed, out.Restored = existed, restored && out.Refusal == Granted
	switch set := deviceSettings(before, out.Device); {
	case !out.Changed:
	case !existed:
		t.audit(h.id, action, c.GetDeviceId(), set...)
	case before.GetExpiresAtMs() != out.Device.GetExpiresAtMs():
		t.auditSome(endKind(before, out.Device), h.id, action, c.GetDeviceId(), set...)
	default:
		t.auditSome(describes, h.id, action, c.GetDeviceId(), set...)
	}
	return out
}

// describe replaces what the caller gave and leaves the rest.
func (t *tx) describe(d *statepb.Occupant, c *statepb.Register) {
	if c.Name != nil {
		d.Name = c.GetName()
	}
	if c.Metadata != nil {
		d.Metadata = c.GetMetadata()
	}
	if c.TtlSeconds != nil {
		d.ExpiresAtMs = endOf(t.now, c.GetTtlSeconds())
	}
}

// endOf is when a time to live that begins now ends. The API has checked it; no
// value may lead to a time that the keys cannot hold.
func endOf(now, ttlSeconds int64) int64 {
	return now + 1000*min(max(ttlSeconds, 0), (math.MaxInt64-now)/1000)
}

func (t *tx) revoke(c *statepb.Revoke) Outcome {
	return t.onDevice(t.holder(c.GetOrgId()), c.GetDeviceId(), "device.revoked", switchOff)
}

func (t *tx) unrevoke(c *statepb.Unrevoke) Outcome {
	h := t.holder(c.GetOrgId())
	t.sweep(h)
	return t.onDevice(h, c.GetDeviceId(), "device.restored", switchOn)
}

// switchOff revokes a device that is there.
func switchOff(t *tx, _ *holder, d *statepb.Occupant) (*statepb.Occupant, Refusal) {
	if d.GetRevokedAtMs() == 0 {
		d.RevokedAtMs = t.now
	}
	return d, Granted
}

// switchOn restores a device that is there, if its org gives it a seat.
func switchOn(t *tx, h *holder, d *statepb.Occupant) (*statepb.Occupant, Refusal) {
	if d.GetRevokedAtMs() == 0 {
		return d, Granted
	}
	if !OccupantOf(d).Present(t.now) {
		return d, DeviceNotFound // there is nothing left to restore
	}
	d.RevokedAtMs = 0
	return d, t.closed(h)
}

func (t *tx) remove(c *statepb.Remove) Outcome {
	return t.onDevice(t.holder(c.GetOrgId()), c.GetDeviceId(), "device.removed", func(*tx, *holder, *statepb.Occupant) (*statepb.Occupant, Refusal) {
		return nil, Granted
	})
}

// onDevice changes a device that must be there.
func (t *tx) onDevice(h *holder, id, action string, change deviceChange) Outcome {
	out := t.changeDevice(h, id, change)
	if out.Changed {
		t.audit(h.id, action, id)
	}
	return out
}

// deviceChange edits a device that is there, as for changeOccupant.
type deviceChange func(*tx, *holder, *statepb.Occupant) (*statepb.Occupant, Refusal)

func (t *tx) changeDevice(h *holder, id string, change deviceChange) Outcome {
	return t.changeOccupant(h, id, func(d *statepb.Occupant) (*statepb.Occupant, Refusal) {
		if d == nil {
			return nil, DeviceNotFound
		}
		return change(t, h, d)
	})
}

// closed says why an org gives away no further seat, Granted if it does.
func (t *tx) closed(h *holder) Refusal {
	org := HolderOf(h.org)
	switch plan := t.plan(h); {
	case org.PlanFrozen(t.now):
		return PlanFrozen
	case org.Expired(t.now):
		return EntitlementExpired
	case plan.Used >= plan.Limit:
		return LimitReached
	}
	return Granted
}
